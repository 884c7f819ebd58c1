"""What a machine family is: a distribution over machines, and a way to run the machines that were drawn from it.

This folder is the only place that knows how structure is made, and it knows nothing of Hugging Face. A *symbol* is an
integer in `[0, alphabet_size)`; a row is `context_length` symbols.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor


class Machines(Protocol):
    """Machines drawn from one family, ready to run."""

    def generate(self, seeds: Tensor, conditions: Tensor, generator: torch.Generator) -> Tensor:
        """Runs the machines.

        Args:
            seeds: `(rows, seed_length)` int64, the first symbols of each row.
            conditions: `(rows, context_length)` int64, the buffer rows that the machines may read.
            generator: the only source of randomness.

        Returns:
            `(rows, context_length)` int64 symbols.
        """
        ...


@dataclass(frozen=True)
class MachineFamily(ABC):
    """A distribution over machines. The fields of a family are the settings of that distribution.

    Fields that have the name of a field of `SyntheticUPConfig` are filled from it (see `build_family`).
    """

    alphabet_size: int = 256

    reads_condition: ClassVar[bool]
    """Whether a row depends on its seed and condition, and so deepens what is in the buffer."""

    @abstractmethod
    def draw(self, num_rows: int, generator: torch.Generator) -> Machines:
        """Draws the machines of a round that will generate `num_rows` rows, on the device of `generator`."""

    @property
    @abstractmethod
    def flops_per_symbol(self) -> int:
        """Floating-point operations that one generated symbol costs, matrix products only."""


def log_uniform(low: float, high: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draws float32 values between `low` and `high` (both positive) whose logarithm is uniform."""
    uniform = torch.rand(shape, generator=generator, device=generator.device)
    return low * (high / low) ** uniform
