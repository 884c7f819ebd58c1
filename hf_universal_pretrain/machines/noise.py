"""The two ends of complexity: rows that nothing can predict, and rows that anything can."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from hf_universal_pretrain.machines.base import MachineFamily


@dataclass(frozen=True)
class NoiseFamily(MachineFamily):
    """Rows of independent uniform symbols, or of one symbol each: what a buffer holds before its first round.

    `uniform=0.5,constant=0.5` is what the x-transformers wrapper trains on for ever, since its buffer never changes.

    Args:
        kind: `"uniform"` or `"constant"`.
    """

    kind: Literal["uniform", "constant"] = "uniform"

    reads_condition: ClassVar[bool] = False
    flops_per_symbol: ClassVar[int] = 0

    def machines_for(self, num_rows: int) -> int:
        return 0

    def draw(self, num_rows: int, generator: torch.Generator) -> "Noise":
        return Noise(self)


@dataclass
class Noise:
    family: NoiseFamily

    def generate(self, seeds: Tensor, conditions: Tensor, generator: torch.Generator) -> Tensor:
        """Makes rows; seeds and conditions give the shape only."""
        rows, length = conditions.shape
        drawn = length if self.family.kind == "uniform" else 1
        symbols = torch.randint(self.family.alphabet_size, (rows, drawn), generator=generator, device=seeds.device)
        return symbols.expand(rows, length).clone()
