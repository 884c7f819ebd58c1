"""Random hidden Markov models: what is seen depends on a state that is not."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hf_universal_pretrain.machines.base import MachineFamily
from hf_universal_pretrain.machines.draws import (
    dirichlet,
    inverse_cdf,
    log_uniform,
    log_uniform_int,
    random_injections,
)


@dataclass(frozen=True)
class HiddenMarkovFamily(MachineFamily):
    """Hidden Markov models, a new one for every row (Rabiner 1989 for the model; its prior here is ours).

    Each draws its number of states and of symbols (and which symbols), and two concentrations; the successors of each
    state and the symbols of each state are then Dirichlet over the states and symbols in use.

    Args:
        states_range: number of states, log-uniform.
        symbols_range: number of symbols, log-uniform; cut to the alphabet.
        transition_concentration_range: log-uniform: small values make states follow each other in fixed ways.
        emission_concentration_range: log-uniform: small values give each state few symbols of its own.
    """

    states_range: tuple[int, int] = (2, 16)
    symbols_range: tuple[int, int] = (2, 64)
    transition_concentration_range: tuple[float, float] = (0.05, 1.0)
    emission_concentration_range: tuple[float, float] = (0.02, 1.0)

    reads_condition: ClassVar[bool] = False
    flops_per_symbol: ClassVar[int] = 0

    def draw(self, num_rows: int, generator: torch.Generator) -> "HiddenMarkovModels":
        most_states, most_symbols = self.states_range[1], min(self.symbols_range[1], self.alphabet_size)
        states = log_uniform_int(self.states_range[0], most_states, (num_rows,), generator)
        symbols = log_uniform_int(min(self.symbols_range[0], most_symbols), most_symbols, (num_rows,), generator)
        alpha_t = log_uniform(*self.transition_concentration_range, (num_rows, 1, 1), generator)
        alpha_e = log_uniform(*self.emission_concentration_range, (num_rows, 1, 1), generator)
        return HiddenMarkovModels(
            transition=dirichlet(alpha_t.expand(-1, most_states, most_states), states.view(-1, 1, 1), generator),
            emission=dirichlet(alpha_e.expand(-1, most_states, most_symbols), symbols.view(-1, 1, 1), generator),
            states=states,
            symbols=random_injections(num_rows, most_symbols, self.alphabet_size, generator),
        )


@dataclass
class HiddenMarkovModels:
    """One model a row.

    Args:
        transition: `(rows, S, S)` float64, the probabilities of the next state.
        emission: `(rows, S, K)` float64, the probabilities of what a state shows.
        states: `(rows,)`, how many of the S states a row uses; the first is drawn uniformly.
        symbols: `(rows, K)`, the symbol that each of the K outcomes stands for.
    """

    transition: Tensor
    emission: Tensor
    states: Tensor
    symbols: Tensor

    @torch.no_grad()
    def generate(self, seeds: Tensor, conditions: Tensor, generator: torch.Generator) -> Tensor:
        """Makes rows; seeds and conditions give the shape only."""
        rows, length = conditions.shape
        uniform = torch.rand(2, length + 1, rows, 1, generator=generator, device=seeds.device, dtype=torch.float64)
        state = (uniform[0, length, :, 0] * self.states).long()
        each = torch.arange(rows, device=seeds.device)
        next_state, shown = self.transition.cumsum(-1), self.emission.cumsum(-1)
        outcomes = torch.empty(length, rows, dtype=torch.int64, device=seeds.device)
        for t in range(length):
            outcomes[t] = inverse_cdf(shown[each, state], uniform[0, t])
            state = inverse_cdf(next_state[each, state], uniform[1, t])
        return self.symbols.gather(1, outcomes.T)
