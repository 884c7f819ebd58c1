"""How compressible rows are, and keeping to a band of it."""

import zlib
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from hf_universal_pretrain.machines.base import symbols_of


@lru_cache
def _noise_size(length: int, alphabet_size: int) -> float:
    """Mean compressed size, in bytes, of a row of independent uniform symbols."""
    noise = torch.randint(alphabet_size, (64, length), generator=torch.Generator().manual_seed(0))
    return sum(_sizes(noise, alphabet_size)) / len(noise)


def _sizes(rows: Tensor, alphabet_size: int) -> list[int]:
    packed = rows.to(torch.uint8 if alphabet_size <= 256 else torch.int16).cpu().numpy()
    sizes = []
    for row in packed:
        squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)  # negative: without header and checksum
        sizes.append(len(squeeze.compress(row.tobytes())) + len(squeeze.flush()))
    return sizes


def compressibility(rows: Tensor, alphabet_size: int) -> Tensor:
    """Compressed size of each row against that of a row of independent uniform symbols of the same alphabet.

    1 is incompressible, whatever the alphabet; near 0 is constant. zlib at level 9 takes about 10 microseconds for a
    row of 256 symbols, a few percent of what generating it takes, so no cheaper measure stands in for it.

    Args:
        rows: `(rows, length)` symbols; complements (symbols that are not judged) count as the symbols.
        alphabet_size: number of symbols.

    Returns:
        `(rows,)` float32, on the CPU.
    """
    return torch.tensor(_sizes(symbols_of(rows), alphabet_size)) / _noise_size(rows.shape[1], alphabet_size)


@dataclass(frozen=True)
class Band:
    """A range of compressibility, such as "0.3:0.9".

    Args:
        low: rows below it are too simple.
        high: rows above it are too close to noise.
    """

    low: float
    high: float

    @classmethod
    def parse(cls, text: str) -> "Band":
        """Reads `"LOW:HIGH"`.

        Raises:
            ValueError: if these are not two numbers, 0 <= LOW < HIGH.
        """
        try:
            low, high = map(float, text.split(":"))
        except ValueError as error:
            raise ValueError(f"complexity must be LOW:HIGH such as 0.3:0.9, not {text!r}") from error
        if not 0 <= low < high:
            raise ValueError(f"complexity must be LOW:HIGH with 0 <= LOW < HIGH, not {text!r}")
        return cls(low, high)

    def place(self, rows: Tensor, alphabet_size: int) -> Tensor:
        """-1 for each row that is too simple, 0 inside the band, 1 too close to noise: `(rows,)` on the CPU."""
        ratio = compressibility(rows, alphabet_size)
        return (ratio > self.high).int() - (ratio < self.low).int()
