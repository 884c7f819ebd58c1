"""Random variable-order sources: each row is one draw from a hierarchical Pitman-Yor-like prior over context trees.

The source that a row comes from is never written down. As in the Chinese restaurant process (the predictive rule of
Dirichlet and Pitman-Yor processes; Teh 2006, and Wood et al. 2009 for the unbounded-depth "sequence memoizer"), the
next symbol copies the successor of an earlier occurrence of the current context, or backs off to a shorter context:

    for d = depth, ..., 1, 0:
        n = how often the last d symbols occurred before in this row
        k = how many different symbols followed them
        with probability (n - discount * k) / (n + theta_d): copy the successor of one of these occurrences, at random
            (the first of each symbol weighs 1 - discount, any other 1: one that is chosen counts only with that
            probability); stop
    otherwise: a fresh symbol of the row's base distribution

A model that predicts these rows well has learned to count in context, at several orders, and to mix the counts: what
PPM and context-tree weighting do. At depth 0 without discount this is exactly a Dirichlet(theta_0 * base) source.

Simplification against Pitman-Yor proper: a copy made at depth d counts at all shorter contexts as well, and there is
one table for each symbol of a context (as in interpolated Kneser-Ney).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from hf_universal_pretrain.machines.base import MachineFamily
from hf_universal_pretrain.machines.draws import log_uniform, uniform_between, zipf_base


# odd numbers of 64 bits without pattern, for hashing
_ODD = (0x1B873593CC9E2D51, 0x5851F42D4C957F2D, 0x2545F4914F6CDD1D, 0x369DEA0F31A53F85)


@dataclass(frozen=True)
class ContextTreeFamily(MachineFamily):
    """Variable-order sources, a new one for every row.

    Args:
        max_depth: longest context; each row draws its own depth, uniform over 0 to max_depth.
        base_symbols_range: how many symbols a row's base distribution gives weight to, log-uniform; cut to the
            alphabet.
        base_exponent_range: the base distribution is Zipf's, rank^-s, with s uniform in this range and ranks in
            random order.
        root_strength_range: theta_0, log-uniform: small values repeat few symbols, large ones follow the base.
        strength_range: theta_d of every d > 0, log-uniform: small values copy whole passages.
        discount_range: a row's discount, uniform: large values keep new symbols coming, in a power law. None by
            default: with 0 to .5 a small model learned no more (recipes/README.md).
    """

    max_depth: int = 4
    base_symbols_range: tuple[float, float] = (8, 256)
    base_exponent_range: tuple[float, float] = (0.0, 1.5)
    root_strength_range: tuple[float, float] = (5.0, 500.0)
    strength_range: tuple[float, float] = (2.0, 200.0)
    discount_range: tuple[float, float] = (0.0, 0.0)

    reads_condition: ClassVar[bool] = False
    flops_per_symbol: ClassVar[int] = 0

    def draw(self, num_rows: int, generator: torch.Generator) -> "ContextTrees":
        base = zipf_base(num_rows, self.alphabet_size, self.base_symbols_range, self.base_exponent_range, generator)
        theta = log_uniform(*self.strength_range, (num_rows, self.max_depth + 1), generator)
        theta[:, 0] = log_uniform(*self.root_strength_range, (num_rows,), generator)
        depth = torch.randint(self.max_depth + 1, (num_rows, 1), generator=generator, device=generator.device)
        return ContextTrees(base, theta, depth, uniform_between(*self.discount_range, (num_rows, 1), generator))


@dataclass
class ContextTrees:
    """One source a row.

    Args:
        base: `(rows, alphabet_size)`, the distribution of fresh symbols.
        theta: `(rows, max_depth + 1)`, the strength of each depth.
        depth: `(rows, 1)`, the longest context that a row uses.
        discount: `(rows, 1)`.
    """

    base: Tensor
    theta: Tensor
    depth: Tensor
    discount: Tensor

    @torch.no_grad()
    def generate(self, seeds: Tensor, conditions: Tensor, generator: torch.Generator) -> Tensor:
        """Makes rows; seeds and conditions give the shape only."""
        (rows, length), device = conditions.shape, conditions.device
        max_depth = self.theta.shape[1] - 1
        depths = torch.arange(max_depth + 1, device=device)
        theta = torch.where(depths <= self.depth, self.theta, torch.inf)  # a context that is too long is never copied
        chance = torch.rand(length, 2, rows, max_depth + 1, generator=generator, device=device)
        output = torch.multinomial(self.base, length, replacement=True, generator=generator)
        keep_new = None
        if self.discount.any():
            keep_new = torch.rand(length, rows, max_depth + 1, generator=generator, device=device) >= self.discount
        if device.type == "cpu":
            kept = None if keep_new is None else keep_new.numpy()
            copy_in_arrays(output.numpy(), theta.numpy(), chance.numpy(), kept)
        else:
            copy_in_tensors(output, theta, chance, keep_new)
        return output


def copy_in_tensors(output: Tensor, theta: Tensor, chance: Tensor, keep_new: Tensor | None) -> None:
    """Puts copies in the place of fresh symbols, one position of all rows after the other.

    Args:
        output: `(rows, length)` int64, fresh symbols; changed in place.
        theta: `(rows, depths)`, infinite where a row does not use a depth.
        chance: `(length, 2, rows, depths)`, uniform in [0, 1): whether a depth copies, and which occurrence.
        keep_new: `(length, rows, depths)` bool, whether the first successor of a symbol may be copied; None: always.
    """
    (rows, length), depths, device = output.shape, theta.shape[1], output.device
    order = torch.arange(1, depths + 1, device=device)
    places = _Places(rows, length, depths + (keep_new is not None), device)
    for t in range(length):
        places.advance(output[:, t - 1 : t] if t else None)
        count, (copy, which) = places.count[:, :depths], chance[t]
        copies = copy * (count + theta) < count
        place = places.find((which * count).long())
        if keep_new is not None:
            copies &= keep_new[t] | ~places.was_new(place)
        deepest = (copies * order).amax(1, keepdim=True)  # 0: nowhere, the symbol stays fresh
        copied = output.gather(1, place.gather(1, (deepest - 1).clamp_(min=0)))
        output[:, t : t + 1] = torch.where(deepest > 0, copied, output[:, t : t + 1])


@np.errstate(invalid="ignore")  # a chance of 0 times infinity is no number, hence not below any count: no copy
def copy_in_arrays(output: np.ndarray, theta: np.ndarray, chance: np.ndarray, keep_new: np.ndarray | None) -> None:
    """`copy_in_tensors` on a CPU, bit for bit: there, an operation on a thousand numbers costs numpy a fraction of
    what it costs torch, and a position has some forty. `_Places` explains what is done."""
    (rows, length), depths = output.shape, theta.shape[1]
    contexts = depths + (keep_new is not None)
    bits = (_Places.SPARE * length - 1).bit_length()
    table = np.zeros(rows << bits, dtype=np.int16 if length < 2**15 else np.int32)
    cells = np.arange(rows * contexts).reshape(rows, contexts)  # contexts of a position, numbered through all rows
    begins = cells // contexts << bits  # the first slot of each one's row
    counts = np.zeros((length + 1, rows, contexts), dtype=np.int64)
    entered_for = np.zeros_like(counts)
    key = np.tile(np.arange(1, contexts + 1), (rows, 1))
    row, order = np.arange(rows), np.arange(1, depths + 1)

    def slot(key: np.ndarray, begins: np.ndarray) -> np.ndarray:
        return ((key * _ODD[3]).view(np.uint64) >> np.uint64(64 - bits)).view(np.int64) + begins

    def find(cells: np.ndarray, number: np.ndarray) -> np.ndarray:
        wanted = key.take(cells) + (number + 1) * _ODD[2]
        entry = table.take(slot(wanted, begins.take(cells))).astype(np.int64)
        right = entered_for.take(entry * key.size + cells) == wanted
        return np.maximum(np.where(right, entry, latest.take(cells)) - 1, 0)

    for t in range(length):
        if t:
            key[:, 1:] = (key[:, :-1] * _ODD[0] + output[:, t - 1 : t] + 1) * _ODD[1]
        newest = slot(key, begins)
        latest = table.take(newest).astype(np.int64)
        at = latest * key.size + cells
        count = counts.take(at)
        count *= entered_for.take(at) == key + count * _ODD[2]
        counts[t + 1] = count + 1
        entered_for[t + 1] = key + counts[t + 1] * _ODD[2]
        table[newest] = t + 1
        table[slot(entered_for[t + 1], begins)] = t + 1

        times, (copy, which) = count[:, :depths].astype(np.float32), chance[t]
        copies, number = copy * (times + theta) < times, which * times
        if keep_new is not None:
            after = (find(cells[:, :depths], number.astype(np.int64)) + 2) * key.size + cells[:, 1:]
            copies &= keep_new[t] | (counts.take(after, mode="clip") != 1)
        deepest = (copies * order).max(1)  # 0: nowhere, the symbol stays fresh
        depth = np.maximum(deepest - 1, 0)
        place = find(row * contexts + depth, number[row, depth].astype(np.int64))
        output[:, t] = np.where(deepest > 0, output[row, place], output[:, t])


class _Places:
    """Where the contexts of each row occurred, at a cost that does not grow with the row: a hash table of (context,
    number of the occurrence) -> position.

    An entry may be overwritten by another. That is noticed, since every position knows what it was entered for: a
    context whose latest occurrence is lost counts as new, and the latest stands in for an earlier one that is lost.
    With `SPARE` slots for each symbol of a row this befalls one look-up in forty.

    Args:
        rows: that are written at the same time.
        length: of a row.
        contexts: how many contexts of a position are kept: its last 0, 1, ..., contexts - 1 symbols.
        device: of the tables.

    Attributes:
        count: `(rows, contexts)` int64, how often the contexts of the current position occurred before.
    """

    SPARE = 64

    def __init__(self, rows: int, length: int, contexts: int, device: torch.device) -> None:
        self.bits = (self.SPARE * length - 1).bit_length()
        self.table = torch.zeros(rows, 1 << self.bits, dtype=torch.int32, device=device)
        self.key = torch.arange(1, contexts + 1, device=device).repeat(rows, 1)  # before the row's beginning
        # entry p + 1 belongs to position p, entry 0 to none
        self.counts = torch.zeros(length + 1, rows, contexts, dtype=torch.int64, device=device)
        self.entered_for = torch.zeros_like(self.counts)
        self.now = 0

    def advance(self, symbols: Tensor | None) -> None:
        """Goes to the next position; `(rows, 1)` symbols were written at the one before."""
        if symbols is not None:
            self.key[:, 1:] = (self.key[:, :-1] * _ODD[0] + symbols + 1) * _ODD[1]
        self.now += 1
        newest = self._slot(self.key)  # where number 0 stands for the latest
        self.latest = self._entry(newest)
        count = _of(self.counts, self.latest)
        self.count = count * (_of(self.entered_for, self.latest) == self._numbered(self.key, count))
        mine = self._numbered(self.key, self.count + 1)
        self.counts[self.now], self.entered_for[self.now] = self.count + 1, mine
        now = self.table.new_full((1, 1), self.now).expand_as(newest)
        self.table.scatter_(1, newest, now).scatter_(1, self._slot(mine), now)

    def find(self, number: Tensor) -> Tensor:
        """The positions `(rows, n)` of earlier occurrences of the first n contexts; `number` counts them from 0."""
        contexts = number.shape[1]
        wanted = self._numbered(self.key[:, :contexts], number + 1)
        entry = self._entry(self._slot(wanted))
        right = _of(self.entered_for, entry) == wanted
        return torch.where(right, entry, self.latest[:, :contexts]).sub_(1).clamp_(min=0)

    def was_new(self, place: Tensor) -> Tensor:
        """Whether the symbol at a position had not followed its context before: `(rows, n)` bool, n < contexts. Of the
        current position, where a new context seems to be, whatever."""
        return self.counts[:, :, 1:].gather(0, (place[None] + 2).clamp(max=len(self.counts) - 1))[0] == 1

    def _numbered(self, key: Tensor, number: Tensor) -> Tensor:
        return key + number * _ODD[2]

    def _slot(self, key: Tensor) -> Tensor:
        return (key * _ODD[3] >> (64 - self.bits)) & ((1 << self.bits) - 1)

    def _entry(self, slot: Tensor) -> Tensor:
        return self.table.gather(1, slot).long()


def _of(history: Tensor, entry: Tensor) -> Tensor:
    """What `(length + 1, rows, contexts)` holds for `(rows, n)` entries of the first n contexts."""
    return history.gather(0, entry[None])[0]
