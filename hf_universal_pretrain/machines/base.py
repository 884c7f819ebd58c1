"""What a machine family is: a distribution over machines, and a way to run the machines that were drawn from it.

This folder is the only place that knows how structure is made, and it knows nothing of Hugging Face. A *symbol* is an
integer in `[0, alphabet_size)`; a row is `context_length` symbols.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor


class Machines(Protocol):
    """Machines drawn from one family, ready to run: a dataclass.

    Each tensor in it has one entry a machine along its first dimension. So has each list, unless its entries are lists
    or tuples of such tensors (layers). What is neither (the family) is common to all. `machines.pool` goes by this.
    """

    def generate(self, seeds: Tensor, conditions: Tensor, generator: torch.Generator) -> Tensor:
        """Runs the machines.

        Args:
            seeds: `(rows, seed_length)` int64, the first symbols of each row.
            conditions: `(rows, context_length)` int64, the buffer rows that the machines may read.
            generator: the only source of randomness.

        Returns:
            `(rows, context_length)` int64 symbols. A symbol s that a model is shown but not judged on (the question
            before an answer) is written as its complement ~s, which is negative.
        """
        ...


@dataclass(frozen=True)
class MachineFamily(ABC):
    """A distribution over machines. The fields of a family are the settings of that distribution, of which each can be
    set by name (see `stream.families`): numbers, texts, or tuples of such."""

    alphabet_size: int = 256

    judges_all: ClassVar[bool] = True
    """Whether a model is judged on every symbol (see `Machines.generate`)."""

    gain_field: ClassVar[str | None] = None
    """The field with the range of gains, the knob between order and chaos. Most families have no such knob."""

    @abstractmethod
    def draw(self, num_rows: int, generator: torch.Generator) -> Machines:
        """Draws the machines of a round that will generate `num_rows` rows, on the device of `generator`."""

    @property
    @abstractmethod
    def reads_condition(self) -> bool:
        """Whether a row depends on its condition, and so deepens what is in the buffer."""

    @property
    @abstractmethod
    def flops_per_symbol(self) -> int:
        """Floating-point operations that one generated symbol costs, matrix products only."""

    def machines_for(self, num_rows: int) -> int:
        """How many machines `draw(num_rows)` draws: one a row, unless the family says otherwise (each may serve an
        equal share of the rows); 0 if it draws nothing that could stay."""
        return num_rows

    def pooled(self) -> Self:
        """The family as it draws machines that stay (a pool)."""
        return self

    @property
    def gains(self) -> tuple[float, float] | None:
        """The lowest and the highest gain, where there is one."""
        if self.gain_field is None:
            return None
        low, high = getattr(self, self.gain_field)
        return low, high

    def with_gains(self, gains: tuple[float, float]) -> Self:
        """The family with another range of gains."""
        changed: dict[str, Any] = {self.gain_field: tuple(gains)} if self.gain_field else {}
        return replace(self, **changed)

    def with_gain(self, factor: float) -> Self:
        """The family with its gains turned by a factor; itself if it has none."""
        return self if self.gains is None else self.with_gains((factor * self.gains[0], factor * self.gains[1]))


def symbols_of(rows: Tensor) -> Tensor:
    """The symbols of rows that may hold complements (see `Machines.generate`)."""
    return torch.where(rows < 0, ~rows, rows)


def equal_shares(rows: int, machines: int, device: torch.device) -> Tensor:
    """Which rows each machine serves: `(machines, ceil(rows / machines))` row numbers, in order.

    Every machine gets the same number; the last row is generated again where that does not divide, and the surplus
    comes last.
    """
    each = -(-rows // machines)
    return torch.arange(machines * each, device=device).clamp_(max=rows - 1).view(machines, each)
