"""Rows that copy pieces of themselves, as a text does to which Lempel and Ziv's rule (LZ77) is applied backwards.

A row is a string of pieces. A piece is a copy of what stands anywhere before it in the row, or new. A model that
predicts such rows well has learned to find where the last symbols stood before, and to go on from there.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hf_universal_pretrain.machines.base import MachineFamily
from hf_universal_pretrain.machines.draws import log_uniform, uniform_between, zipf_base


@dataclass(frozen=True)
class CopyFamily(MachineFamily):
    """Sources of copied pieces, a new one for every row.

    Args:
        symbols_range: how many symbols a row uses, log-uniform; cut to the alphabet.
        exponent_range: new symbols follow Zipf's law, rank^-s, with s uniform in this range and ranks in random order.
        piece_range: mean length of a piece, log-uniform; lengths are geometric.
        copy_range: chance that a piece is a copy, uniform. It starts anywhere before, each place as likely, and may
            run on into itself.
        clean_share: share of the rows that copy without mistakes.
        mistake_range: chance that a copied symbol is new instead, in the other rows, uniform.
    """

    symbols_range: tuple[float, float] = (4, 256)
    exponent_range: tuple[float, float] = (0.0, 1.3)
    piece_range: tuple[float, float] = (3.0, 24.0)
    copy_range: tuple[float, float] = (0.5, 0.95)
    clean_share: float = 0.5
    mistake_range: tuple[float, float] = (0.0, 0.1)

    reads_condition: ClassVar[bool] = False
    flops_per_symbol: ClassVar[int] = 0

    def draw(self, num_rows: int, generator: torch.Generator) -> "CopySources":
        """Draws `num_rows` sources."""
        each = (num_rows, 1)
        clean = torch.rand(each, generator=generator, device=generator.device) < self.clean_share
        mistake = uniform_between(*self.mistake_range, each, generator)
        return CopySources(
            base=zipf_base(num_rows, self.alphabet_size, self.symbols_range, self.exponent_range, generator),
            piece=log_uniform(*self.piece_range, each, generator),
            copy=uniform_between(*self.copy_range, each, generator),
            mistake=torch.where(clean, 0.0, mistake),
        )


@dataclass
class CopySources:
    """One source a row.

    Args:
        base: `(rows, alphabet_size)`, the distribution of new symbols.
        piece: `(rows, 1)`, mean length of a piece.
        copy: `(rows, 1)`, chance that a piece is a copy.
        mistake: `(rows, 1)`, chance that a copied symbol is new.
    """

    base: Tensor
    piece: Tensor
    copy: Tensor
    mistake: Tensor

    @torch.no_grad()
    def generate(self, seeds: Tensor, conditions: Tensor, generator: torch.Generator) -> Tensor:
        """Makes rows; seeds and conditions give the shape only."""
        (rows, length), device = conditions.shape, conditions.device
        fresh = torch.multinomial(self.base, length, replacement=True, generator=generator)
        begins, copies, where, slips = torch.rand(4, rows, length, generator=generator, device=device)
        place = torch.arange(length, device=device)
        # what holds for a place was drawn where its piece begins; place 0 begins one, which can only be new
        start = torch.where(begins * self.piece < 1, place, 0).cummax(1).values
        distance = start - (where.gather(1, start) * start).long()
        copied = (copies.gather(1, start) < self.copy) & (start > 0) & (slips >= self.mistake)
        # A copy of a copy comes from further back. Going two, four, eight ... steps at a time finds where each symbol
        # was new, in log2(length) steps.
        source = torch.where(copied, place - distance, place)
        for _ in range((length - 1).bit_length()):
            source = source.gather(1, source)
        return fresh.gather(1, source)
