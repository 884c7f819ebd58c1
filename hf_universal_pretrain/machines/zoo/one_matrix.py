"""Random networks of one matrix: the linear or tanh RNN of arXiv 2605.10129, and echo-state reservoirs.

    h(t+1) = f(W h(t) + A[symbol t] + B[condition t]),    logits = C h

The state matrix W is scaled by the circular law: n x n with `connections` independent N(0, 1) entries in each line,
divided by sqrt(connections), has its eigenvalues in the unit disc, so W times r has spectral radius r for large n.
Below 1 the network forgets; well above 1, with tanh, it is chaotic.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_universal_pretrain.machines.base import MachineFamily, equal_shares
from hf_universal_pretrain.machines.draws import inverse_cdf, log_uniform, uniform_between
from hf_universal_pretrain.machines.entropy import TRIAL_ROWS, Choice, OwnSymbols, draw_own_symbols, find_scale


@dataclass(frozen=True)
class RandomNetworkFamily(MachineFamily):
    """Random one-matrix networks; the defaults are those of arXiv 2605.10129 (`rnn`).

    Two departures from it. Its logits shrink with the vocabulary, to near-uniform output for small ones; here they
    have a standard deviation of `sharpness`, drawn for each machine. And the machine reads a condition beside its own
    symbol, so that it can take part in enriching a buffer.

    Args:
        units: size of the state.
        connections: entries in each line of W that are not 0; at most `units`.
        radius_range: spectral radius of W, uniform.
        linear_share: share of the machines without tanh (a linear network with radius above 1 would explode, so tanh
            is used there).
        sharpness_range: standard deviation of the logits, log-uniform; with `(0, 0)` the most likely symbol is taken.
        entropy_range: see `RecurrentFamily`; in place of a sharpness. `(0, 0)`: off.
        own_symbols_range: see `RecurrentFamily`.
        conditioning: `"none"`: machines read nothing but their own symbols; anything else: they also read the
            condition's symbol at each step.
        machines_per_round: machines drawn in a round; each serves an equal share of the rows.
    """

    units: int = 64
    connections: int = 64
    radius_range: tuple[float, float] = (0.9, 0.9)
    linear_share: float = 0.5
    sharpness_range: tuple[float, float] = (1.0, 8.0)
    entropy_range: tuple[float, float] = (0.0, 0.0)
    own_symbols_range: tuple[float, float] = (32, 48)
    conditioning: Literal["aligned", "prefix", "none"] = "aligned"
    machines_per_round: int = 8

    gain_field: ClassVar[str] = "radius_range"

    @property
    def reads_condition(self) -> bool:
        return self.conditioning != "none"

    @property
    def sets_entropy(self) -> bool:
        """Whether machines have an entropy of their own in place of a sharpness."""
        return self.entropy_range[1] > 0

    @property
    def flops_per_symbol(self) -> int:
        outputs = min(int(self.own_symbols_range[1]), self.alphabet_size) if self.sets_entropy else self.alphabet_size
        return 2 * self.units * (self.units + outputs)

    def machines_for(self, num_rows: int) -> int:
        return min(self.machines_per_round, num_rows)

    def draw(self, num_rows: int, generator: torch.Generator) -> "RandomNetworks":
        machines, units = self.machines_for(num_rows), self.units

        def normal(*shape: int) -> Tensor:
            return torch.randn(machines, *shape, generator=generator, device=generator.device)

        weight = normal(units, units)
        if self.connections < units:
            scores = torch.rand(weight.shape, generator=generator, device=generator.device)
            weight *= scores >= scores.topk(self.connections, dim=-1).values[..., -1:]
        radius = uniform_between(*self.radius_range, (machines, 1, 1), generator)
        linear = torch.rand(machines, 1, 1, generator=generator, device=generator.device) < self.linear_share
        cold, hot = self.sharpness_range
        drawn = RandomNetworks(
            weight=weight * radius / math.sqrt(self.connections),
            own_table=normal(self.alphabet_size, units),
            condition_table=normal(self.alphabet_size, units),
            head=normal(units, self.alphabet_size) / math.sqrt(units),
            linear=linear & (radius < 1),
            sharpness=log_uniform(cold, hot, (machines, 1, 1), generator) if cold > 0 else None,
        )
        if self.conditioning == "none":
            drawn.condition_table.zero_()
        return self._with_entropy(drawn, generator) if self.sets_entropy else drawn

    def _with_entropy(self, machines: "RandomNetworks", generator: torch.Generator) -> "RandomNetworks":
        """The machines with read-outs that give them the entropy they draw."""
        count = len(machines.weight)
        own = draw_own_symbols(
            count, self.alphabet_size, self.own_symbols_range, self.entropy_range, (0.0, 0.0), generator
        )
        shape = (count, self.units, own.symbols.shape[1])
        head = torch.randn(shape, generator=generator, device=generator.device)
        network = _Network(machines, TRIAL_ROWS)

        def step(symbols: Tensor, condition: Tensor) -> Tensor:
            return _unit(torch.bmm(network.step(symbols, condition), head))

        scale = find_scale(own, self.alphabet_size, step, network.forget, generator).view(-1, 1, 1)
        return replace(machines, head=head, sharpness=scale, symbols=own.symbols, bias=own.bias, entropy=own.target)


@dataclass
class RandomNetworks:
    """M machines.

    Args:
        weight: `(M, units, units)`.
        own_table: `(M, alphabet_size, units)`, what a symbol adds to the state.
        condition_table: the same for the condition's symbol.
        head: `(M, units, alphabet_size)`; with a set entropy `(M, units, K)`, K the most symbols that a machine
            writes.
        linear: `(M, 1, 1)` bool, machines without tanh.
        sharpness: `(M, 1, 1)`, or None to take the most likely symbol.
        symbols: see `OwnSymbols`; None without a set entropy: output s is symbol s.
        bias: see `OwnSymbols`; None without.
        entropy: see `OwnSymbols.target`; None without.
    """

    weight: Tensor
    own_table: Tensor
    condition_table: Tensor
    head: Tensor
    linear: Tensor
    sharpness: Tensor | None
    symbols: Tensor | None = None
    bias: Tensor | None = None
    entropy: Tensor | None = None

    @torch.no_grad()
    def generate(self, seeds: Tensor, conditions: Tensor, generator: torch.Generator) -> Tensor:
        rows, length = conditions.shape
        machines = len(self.weight)
        share = equal_shares(rows, machines, seeds.device)
        each = share.shape[1]
        output = torch.empty(length, machines, each, dtype=torch.int64, device=seeds.device)
        output[: seeds.shape[1]] = seeds[share].permute(2, 0, 1)
        condition = conditions[share].permute(2, 0, 1).contiguous()
        uniform = torch.rand(length, machines, each, 1, generator=generator, device=seeds.device)
        network = _Network(self, each)
        choice = None
        if self.symbols is not None and self.bias is not None and self.entropy is not None:
            choice = Choice(OwnSymbols(self.symbols, self.bias, self.entropy), each)
        for t in range(length - 1):
            state = network.step(output[t], condition[t])
            if t + 1 < seeds.shape[1]:
                continue
            logits = torch.bmm(state, self.head)
            if self.sharpness is None:
                output[t + 1] = logits.argmax(-1)
            elif choice is not None:
                output[t + 1] = choice(_unit(logits) * self.sharpness, uniform[t])
            else:
                # a linear state is larger than a tanh one: the sharpness is that of the logits as they are
                logits *= self.sharpness / logits.std(-1, keepdim=True)
                output[t + 1] = inverse_cdf(logits.softmax(-1).cumsum(-1), uniform[t])
        return output.permute(1, 2, 0).reshape(-1, length)[:rows]


def _unit(logits: Tensor) -> Tensor:
    """Logits of deviation 1, whatever the state's size: that of a linear network may grow without end."""
    return logits / logits.std(-1, keepdim=True).clamp(min=1e-9)


class _Network:
    """One step at a time of M machines on `rows` rows each."""

    def __init__(self, machines: RandomNetworks, rows: int) -> None:
        count, alphabet, units = machines.own_table.shape
        self.offset = (torch.arange(count, device=machines.weight.device) * alphabet).view(-1, 1)
        self.own_table = machines.own_table.flatten(0, 1)
        self.condition_table = machines.condition_table.flatten(0, 1)
        self.weight = machines.weight.transpose(1, 2).contiguous()
        self.linear = machines.linear
        self.state = machines.weight.new_zeros(count, rows, units)

    def step(self, symbols: Tensor, condition: Tensor) -> Tensor:
        """Reads symbols and those of the conditions, both `(M, rows)`; returns the state `(M, rows, units)`."""
        own, other = symbols + self.offset, condition + self.offset
        drive = F.embedding(own, self.own_table) + F.embedding(other, self.condition_table)
        drive = torch.baddbmm(drive, self.state, self.weight)
        return torch.where(self.linear, drive, drive.tanh(), out=self.state)

    def forget(self) -> None:
        """Back to the state before the first symbol."""
        self.state.zero_()
