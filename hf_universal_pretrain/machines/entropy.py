"""Machines whose next symbol has a set entropy: never dead, never noise.

A random network at a fixed temperature is dead, or noise, more often than not. Its read-out times a large factor
takes the most likely symbol, times a small one writes noise; in between lies a factor at which the next symbol has any
entropy that is asked for. It is found while the machine writes a trial run, by stochastic approximation (Robbins and
Monro 1951): the factor goes up when the choice is more random than it should be, and down when it is less, by steps
that become smaller. (Bisection over such runs took five times as long.)

The factor goes on following, slowly, in each row that is written. Without that, whichever way the factor was found,
about one machine in ten is off by more than .15 bits, and rows fall into traps, a symbol that excites itself or a
fixed point, and teach nothing from there on.

Shape suffixes: M machines, R rows of one machine, T time, K outputs.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hf_universal_pretrain.machines.cuda_graph import replayed
from hf_universal_pretrain.machines.draws import inverse_cdf, log_uniform_int, random_injections, uniform_between


TRIAL_ROWS = 16
TRIAL_STEPS = 192
# Rates are octaves of the factor for each bit that a choice is off; an octave makes some 1.5 bits.
FIRST_RATE = 0.5
FULL_RATE_STEPS = 16  # then the rate falls as 1 / t
LASTING_RATE = 1 / 32  # in the rows that are kept: a factor forgets where it was in some 20 symbols
MOST_OF_ALL = 0.8  # a target is cut to this share of the entropy of independent symbols


@dataclass
class OwnSymbols:
    """The symbols that machines write, each machine its own, and how random their choice is to be.

    Args:
        symbols: `(M, K)` int64, the symbol that an output stands for; outputs that a machine does not use stand for
            one that it does.
        bias: `(M, K)`, what is added to the outputs: the logarithm of a symbol's frequency, were it not for what the
            machine has read; minus infinity where an output is not used.
        target: `(M,)`, the entropy of the next symbol, in bits.
    """

    symbols: Tensor
    bias: Tensor
    target: Tensor


def draw_own_symbols(
    machines: int,
    alphabet_size: int,
    symbols_range: tuple[float, float],
    entropy_range: tuple[float, float],
    exponent_range: tuple[float, float],
    generator: torch.Generator,
) -> OwnSymbols:
    """Draws how many symbols each machine has (log-uniform, cut to the alphabet), which, their frequencies
    (rank + 2)^-s (s uniform), and the machine's entropy (uniform)."""
    least, most = (min(int(count), alphabet_size) for count in symbols_range)
    used = log_uniform_int(least, most, (machines, 1), generator)
    place = torch.arange(most, device=used.device)
    symbols = random_injections(machines, most, alphabet_size, generator).gather(1, place % used)
    target = uniform_between(*entropy_range, (machines,), generator)
    exponent = uniform_between(*exponent_range, (machines, 1), generator)
    weight = torch.where(place < used, (place + 3.0) ** -exponent, 0.0)
    frequency = weight / weight.sum(1, keepdim=True)
    most_bits = torch.special.entr(frequency).sum(1) / math.log(2)
    return OwnSymbols(symbols, bias=frequency.log(), target=torch.minimum(target, MOST_OF_ALL * most_bits))


class Choice:
    """Chooses symbols from outputs, at factors that follow the entropy of the choice.

    Args:
        own: of the machines.
        rows: rows that a machine writes.

    Attributes:
        octaves: `(M, R, 1)` float32, log2 of the factor of each row.
    """

    def __init__(self, own: OwnSymbols, rows: int) -> None:
        self.symbols, self.bias, self.target = own.symbols, own.bias.unsqueeze(1), own.target.view(-1, 1, 1)
        self.octaves = self.bias.new_zeros(len(own.target), rows, 1)

    def __call__(self, outputs: Tensor, uniform: Tensor, rate: float | Tensor = LASTING_RATE) -> Tensor:
        """Chooses for outputs `(M, R, K)`, by uniform values `(M, R, 1)`; returns symbols `(M, R)`.

        The factors follow the choice at `rate`, in octaves for each bit.
        """
        probabilities = (outputs * torch.exp2(self.octaves) + self.bias).softmax(-1)
        bits = torch.special.entr(probabilities).sum(-1, keepdim=True) / math.log(2)
        self.octaves.add_((bits - self.target) * rate)
        return self.symbols.gather(1, inverse_cdf(probabilities.cumsum(-1), uniform))

    def forget(self) -> None:
        """Back to a factor of 1."""
        self.octaves.zero_()


def find_scale(
    own: OwnSymbols,
    alphabet_size: int,
    step: Callable[[Tensor, Tensor], Tensor],
    forget: Callable[[], object],
    generator: torch.Generator,
) -> Tensor:
    """Finds for each machine the factor on its outputs at which its next symbol has the target's entropy.

    In the trial run, rows start from a symbol of the alphabet, and read noise (half of the rows) or one symbol over
    and over (the other half) as their conditions, as a buffer holds them at first.

    Args:
        own: of the machines.
        alphabet_size: number of symbols.
        step: takes the symbols `(M, TRIAL_ROWS)` that the machines wrote last and those of their conditions; goes to
            the next step and returns the outputs `(M, TRIAL_ROWS, K)`.
        forget: brings the machines back to the state before the first symbol.
        generator: the only source of randomness.

    Returns:
        `(M,)` float32.
    """
    device = own.target.device
    shape = (TRIAL_STEPS, len(own.target), TRIAL_ROWS)
    uniform = torch.rand(*shape, 1, generator=generator, device=device)
    conditions = torch.randint(alphabet_size, shape, generator=generator, device=device)
    conditions[:, :, TRIAL_ROWS // 2 :] = conditions[:1, :, TRIAL_ROWS // 2 :]
    symbols = torch.randint(alphabet_size, shape[1:], generator=generator, device=device)
    rates = (FIRST_RATE * FULL_RATE_STEPS / torch.arange(1.0, TRIAL_STEPS + 1, device=device)).clamp_(max=FIRST_RATE)
    choice = Choice(own, TRIAL_ROWS)

    def one_step(symbols: Tensor, condition: Tensor, uniform: Tensor, rate: Tensor) -> Tensor:
        chosen = choice(step(symbols, condition), uniform, rate)
        choice.octaves.copy_(choice.octaves.mean(1, keepdim=True))  # one factor for the machine
        return chosen

    one_step = replayed(one_step, symbols, conditions[0], uniform[0], rates[0])
    forget()
    choice.forget()
    total = torch.zeros_like(choice.octaves)
    for t in range(TRIAL_STEPS):
        symbols = one_step(symbols, conditions[t], uniform[t], rates[t])
        if t >= TRIAL_STEPS // 2:
            total += choice.octaves
    return torch.exp2(total[:, 0, 0] / (TRIAL_STEPS - TRIAL_STEPS // 2))
