"""Tasks on random strings: what has to be looked up, copied or rearranged within the window.

Each makes `(count, length)` int64 rows of symbols below 256, and says on which of them a model is judged (bool, same
shape): those that follow from what stands before them. The others are random. Where there are questions and answers,
they follow each other to the end of the row, so that the rule itself can be learned from the row.
"""

from collections.abc import Callable

import torch
from torch import Tensor


ALPHABET = 256


def _distinct(count: int, size: int, generator: torch.Generator) -> Tensor:
    """`(count, size)` symbols, different ones within a row."""
    return torch.rand(count, ALPHABET, generator=generator).argsort(1)[:, :size]


def induction(count: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random string of half the window, then the same again, judged on the second copy.

    The bits of the first copy less those of the second, `bits_saved`, are the induction score: 0 for a model that does
    not look back, up to 8 for one that copies without fault.
    """
    first = torch.randint(ALPHABET, (count, length // 2), generator=generator)
    rows = torch.cat([first, first, first[:, : length % 2]], 1)
    return rows, torch.arange(length).expand_as(rows) > length // 2  # the copy's first symbol cannot be known


def repeat(count: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random string of 16 symbols again and again, judged from its second copy on."""
    first = torch.randint(ALPHABET, (count, 16), generator=generator)
    rows = first.repeat(1, -(-length // 16))[:, :length]
    return rows, torch.arange(length).expand_as(rows) > 16


def copy_at_distance(count: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Four symbols that stood a quarter of the window before, four new ones, and so on; of those that come back, all
    but the first of four are judged."""
    rows = torch.randint(ALPHABET, (count, length), generator=generator)
    judged = torch.zeros(count, length, dtype=torch.bool)
    distance = length // 4
    for start in range(distance, length - 3, 8):  # eight by eight: four that are copied, four that are new
        rows[:, start : start + 4] = rows[:, start - distance : start - distance + 4]
        judged[:, start + 1 : start + 4] = True
    return rows, judged


def _answers(
    count: int, length: int, size: int, rule: Callable[[Tensor], Tensor], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Questions of `size` different symbols, a mark, the answer, another mark, again and again."""
    marks = _distinct(count, 2, generator)
    pieces, judged = [], []
    for _ in range(-(-length // (2 * size + 2))):
        question = _distinct(count, size, generator)
        pieces += [question, marks[:, :1], rule(question), marks[:, 1:]]
        judged += [False] * (size + 1) + [True] * size + [False]
    return torch.cat(pieces, 1)[:, :length], torch.tensor(judged)[:length].expand(count, length)


def sort(count: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Ten different symbols, a mark, the ten in ascending order, a mark."""
    return _answers(count, length, 10, lambda question: question.sort(1).values, generator)


def reverse(count: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Ten different symbols, a mark, the ten from last to first, a mark."""
    return _answers(count, length, 10, lambda question: question.flip(1), generator)


def needle(count: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A key and its value somewhere in a haystack of other symbols; the row ends with the key, and is judged on the
    value alone. The key stands nowhere else; the haystack repeats itself no more than chance has it."""
    drawn = _distinct(count, ALPHABET, generator)
    key, value, hay = drawn[:, :1], drawn[:, 1:2], drawn[:, 2:]
    rows = hay.gather(1, torch.randint(hay.shape[1], (count, length), generator=generator))
    place = torch.randint(length - 4, (count, 1), generator=generator)
    rows.scatter_(1, place, key).scatter_(1, place + 1, value)
    rows[:, -2:] = torch.cat([key, value], 1)
    return rows, (torch.arange(length) == length - 1).expand_as(rows)


TASKS: dict[str, Callable[[int, int, torch.Generator], tuple[Tensor, Tensor]]] = {
    "induction": induction, "repeat": repeat, "copy": copy_at_distance, "sort": sort, "reverse": reverse,
    "needle": needle,
}  # fmt: skip
