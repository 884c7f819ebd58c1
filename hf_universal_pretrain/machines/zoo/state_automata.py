"""One-dimensional cellular automata of many states, with a rule for each neighbourhood."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hf_universal_pretrain.machines.base import MachineFamily
from hf_universal_pretrain.machines.draws import random_injections, uniform_between


@dataclass(frozen=True)
class StateAutomatonFamily(MachineFamily):
    """Random automata on rings of cells with 16 states, from random first lines, line after line; a new rule, ring and
    injection into the symbols for every row.

    A rule is a table: what a cell becomes, for each state of its left neighbour, itself and its right neighbour
    (4,096 entries for 16 states). Each entry is a random state other than 0 with chance lambda, and else 0: Langton's
    parameter (1990), the knob between order and chaos.

    Args:
        states: states of a cell; cut to the alphabet.
        active_range: lambda, uniform.
        max_width: rings have 8, 16, ... up to this many cells, uniform.
    """

    states: int = 16
    active_range: tuple[float, float] = (0.2, 0.9)
    max_width: int = 64

    gain_field: ClassVar[str] = "active_range"
    reads_condition: ClassVar[bool] = False
    flops_per_symbol: ClassVar[int] = 0

    def draw(self, num_rows: int, generator: torch.Generator) -> "StateAutomata":
        device, states = generator.device, min(self.states, self.alphabet_size)
        active = uniform_between(*self.active_range, (num_rows, 1), generator)
        shape = (num_rows, states**3)
        table = torch.randint(1, states, shape, generator=generator, device=device)
        table *= torch.rand(shape, generator=generator, device=device) < active
        widths = torch.randint(1, self.max_width // 8 + 1, (num_rows, 1), generator=generator, device=device)
        return StateAutomata(
            family=self,
            table=table.short(),
            widths=8 * widths,
            symbols=random_injections(num_rows, states, self.alphabet_size, generator),
        )


@dataclass
class StateAutomata:
    """One automaton a row.

    Args:
        table: `(rows, states ** 3)` int16; the entry of left, own and right state l, c, r is the one at
            `(l * states + c) * states + r`.
        widths: `(rows, 1)` cells of the ring, a multiple of 8.
        symbols: `(rows, states)`, the symbol of each state.
    """

    family: StateAutomatonFamily
    table: Tensor
    widths: Tensor
    symbols: Tensor

    @torch.no_grad()
    def generate(self, seeds: Tensor, conditions: Tensor, generator: torch.Generator) -> Tensor:
        """Makes rows; seeds and conditions give the shape only."""
        rows, length = conditions.shape
        device, states = conditions.device, self.symbols.shape[1]
        most = int(self.widths.max())
        cells = torch.randint(states, (rows, most), generator=generator, device=device)
        place = torch.arange(most, device=device)
        left, right = (place - 1) % self.widths, (place + 1) % self.widths
        lines = [cells]
        for _ in range(-(-length // int(self.widths.min())) - 1):
            neighbourhood = (cells.gather(1, left) * states + cells) * states + cells.gather(1, right)
            cells = self.table.gather(1, neighbourhood).long()
            lines.append(cells)
        number = torch.arange(length, device=device)
        index = number // self.widths * most + number % self.widths
        return self.symbols.gather(1, torch.cat(lines, dim=1).gather(1, index))
