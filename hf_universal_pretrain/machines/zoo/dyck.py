"""Brackets: nested (`dyck`) and shuffled (`shuffle_dyck`, arXiv 2502.19249)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hf_universal_pretrain.machines.base import MachineFamily
from hf_universal_pretrain.machines.draws import inverse_cdf, log_uniform_int, random_injections, uniform_between


@dataclass(frozen=True)
class DyckFamily(MachineFamily):
    """Balanced words over k kinds of brackets; every row draws k, its depth, its rate of opening and its symbols.

    A row is one balanced word (of even length; in a row of odd length one more bracket opens at the end). In a nested
    word a bracket closes the one opened last; in a shuffled word it closes any open one, so that each kind by itself
    is balanced and the kinds interleave freely. Shuffled words transferred best in Hu et al. (k = 64, depth to 16).

    Args:
        shuffled: whether kinds interleave.
        max_kinds: k is log-uniform from `min_kinds` to this number, or to half the alphabet.
        min_kinds: fewest kinds; with `max_kinds` alike, k is that number.
        depth_range: most brackets open at once, log-uniform.
        open_range: chance to open where both are possible, uniform.
    """

    shuffled: bool = False
    max_kinds: int = 64
    min_kinds: int = 1
    depth_range: tuple[int, int] = (4, 32)
    open_range: tuple[float, float] = (0.4, 0.6)

    reads_condition: ClassVar[bool] = False
    flops_per_symbol: ClassVar[int] = 0

    def draw(self, num_rows: int, generator: torch.Generator) -> "DyckSources":
        most = min(self.max_kinds, self.alphabet_size // 2)
        return DyckSources(
            family=self,
            kinds=log_uniform_int(min(self.min_kinds, most), most, (num_rows,), generator),
            depth=log_uniform_int(*self.depth_range, (num_rows,), generator),
            open_chance=uniform_between(*self.open_range, (num_rows,), generator),
            symbols=random_injections(num_rows, 2 * most, self.alphabet_size, generator),
        )


@dataclass
class DyckSources:
    """One source a row.

    Args:
        kinds: `(rows,)`, how many kinds of brackets.
        depth: `(rows,)`, most brackets open at once.
        open_chance: `(rows,)`.
        symbols: `(rows, 2 * K)`: kind i opens with symbol i and closes with symbol K + i.
    """

    family: DyckFamily
    kinds: Tensor
    depth: Tensor
    open_chance: Tensor
    symbols: Tensor

    @torch.no_grad()
    def generate(self, seeds: Tensor, conditions: Tensor, generator: torch.Generator) -> Tensor:
        """Makes rows; seeds and conditions give the shape only."""
        rows, length = conditions.shape
        device, most = conditions.device, self.symbols.shape[1] // 2
        uniform = torch.rand(3, length, rows, generator=generator, device=device)
        kind = (uniform[0] * self.kinds).long().clamp_(max=most - 1)
        each = torch.arange(rows, device=device)
        # what is open: a stack of kinds, or how many of each kind
        stack = torch.zeros(rows, int(self.depth.max()) + 1, dtype=torch.int64, device=device)
        count = torch.zeros(rows, most, dtype=torch.int64, device=device)
        level = torch.zeros(rows, dtype=torch.int64, device=device)
        values = torch.empty(length, rows, dtype=torch.int64, device=device)
        even = length - length % 2
        for t in range(length):
            opens = (uniform[1, t] < self.open_chance) & (level < self.depth) & (level < even - t) | (level == 0)
            if self.family.shuffled:
                open_before = count.cumsum(-1)
                closing = inverse_cdf(open_before, (uniform[2, t] * level).floor().unsqueeze(-1))
                acts_on = torch.where(opens, kind[t], closing)
                count[each, acts_on] += torch.where(opens, 1, -1)
            else:
                acts_on = torch.where(opens, kind[t], stack[each, (level - 1).clamp(min=0)])
                stack[each, level] = torch.where(opens, kind[t], stack[each, level])
            level += torch.where(opens, 1, -1)
            values[t] = torch.where(opens, acts_on, most + acts_on)
        return self.symbols.gather(1, values.T)
