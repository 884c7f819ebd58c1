import torch
from torch import Tensor

from hf_universal_pretrain.machines.copies import CopyFamily, CopySources


FLAT = {"symbols_range": (200, 200), "exponent_range": (0.0, 0.0), "alphabet_size": 200}  # chance agreement: 1 in 200


def rows_of(rows: int = 200, length: int = 200, **settings) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    zeros = torch.zeros(rows, length, dtype=torch.int64)
    return CopyFamily(**settings).draw(rows, generator).generate(zeros[:, :1], zeros, generator)


def plain(sources: CopySources, length: int, generator: torch.Generator) -> list[list[int]]:
    """The definition, a symbol at a time, with the same random numbers."""
    rows = len(sources.base)
    fresh = torch.multinomial(sources.base, length, replacement=True, generator=generator)
    begins, copies, where, slips = torch.rand(4, rows, length, generator=generator)
    made = []
    for r in range(rows):
        row: list[int] = []
        reads = None
        for t in range(length):
            if begins[r, t] * sources.piece[r, 0] < 1 or t == 0:
                is_copy = t > 0 and copies[r, t] < sources.copy[r, 0]
                reads = int(where[r, t] * t) if is_copy else None
            row.append(fresh[r, t].item() if reads is None or slips[r, t] < sources.mistake[r, 0] else row[reads])
            reads = None if reads is None else reads + 1
        made.append(row)
    return made


def test_against_a_plain_loop() -> None:
    for length in (1, 2, 33, 150):
        sources = CopyFamily().draw(30, torch.Generator().manual_seed(0))
        zeros = torch.zeros(30, length, dtype=torch.int64)
        rows = sources.generate(zeros, zeros, torch.Generator().manual_seed(length))
        assert rows.tolist() == plain(sources, length, torch.Generator().manual_seed(length))


def longest_match(row: list[int], t: int) -> int:
    """Most symbols from t on that also stand somewhere before."""
    n = 0
    while t + n < len(row) and any(row[s : s + n + 1] == row[t : t + n + 1] for s in range(t)):
        n += 1
    return n


def test_matches_are_as_long_as_pieces() -> None:
    """From anywhere in a copied piece of mean p (geometric, so without memory) about p symbols are to come."""
    for piece, copy in ((16.0, 0.6), (4.0, 0.6), (16.0, 0.0)):
        rows = rows_of(rows=60, piece_range=(piece, piece), copy_range=(copy, copy), clean_share=1.0, **FLAT)
        matches = [longest_match(row, t) for row in rows.tolist() for t in range(60, 140, 20)]
        seen = sum(matches) / len(matches)
        assert abs(seen - copy * piece) < (0.25 * piece if copy else 0.6), "by chance, new symbols match .4"


def test_mistakes_come_at_their_rate() -> None:
    """When every piece is a copy, all symbols but the first piece's and the mistakes have stood before."""
    rows = rows_of(rows=400, piece_range=(8.0, 8.0), copy_range=(1.0, 1.0), clean_share=0.0,
                   mistake_range=(0.1, 0.1), **FLAT)  # fmt: skip
    new = torch.tensor([row[t] not in row[:t] for row in rows.tolist() for t in range(60, 70)]).double().mean()
    expected = 0.1 * (1 - 14 / 200)  # some 14 symbols stand before by then, and a new one may be one of them
    assert abs(new - expected) < 0.015


def test_settings_are_drawn_as_said() -> None:
    sources = CopyFamily().draw(4000, torch.Generator().manual_seed(0))
    assert abs((sources.mistake == 0).double().mean() - 0.5) < 0.04
    assert sources.mistake.max() <= 0.1 and abs(sources.mistake[sources.mistake > 0].mean() - 0.05) < 0.005
    assert abs(sources.copy.mean() - 0.725) < 0.01 and sources.copy.min() >= 0.5 and sources.copy.max() <= 0.95
    assert abs(sources.piece.log().mean() - torch.tensor([3.0, 24.0]).log().mean()) < 0.05
    symbols = (sources.base > 0).sum(1).double()
    assert symbols.min() == 4 and symbols.max() == 256 and abs(symbols.log2().mean() - 5) < 0.15
