"""Baselines: what simple adaptive predictors, which know nothing but the window so far, reach on the same windows.

All of them count. A Markov model of order o predicts symbol s after a context of o symbols with probability

    (times that s has followed the context so far + smoothing) / (times that anything has + smoothing * symbols)

Order 0 with smoothing 1/2 is the Krichevsky-Trofimov estimator, `kt`; .05 suits text better, `counts_05`. The counts
start anew in each window.
"""

import math

import torch
from torch import Tensor

from hf_universal_pretrain.evaluation.windows import window_means


COUNTS = {"kt": 0.5, "counts_05": 0.05}  # order 0, by smoothing
SMOOTHINGS = (1.0, 0.1, 0.01, 1e-4, 1e-6)  # the paper's choices
ORDERS = (1, 2, 3, 4, 5)


def earlier_occurrences(keys: Tensor) -> Tensor:
    """How often each entry has stood in its row before.

    Equal entries lie side by side, in order, when a row is sorted; an entry's place among its equals is the answer.

    Args:
        keys: `(count, length)` integers.

    Returns:
        `(count, length)` int64.
    """
    ordered, origin = keys.sort(dim=1, stable=True)
    place = torch.arange(keys.shape[1]).expand_as(keys)
    is_new = torch.ones_like(ordered, dtype=torch.bool)
    is_new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = torch.where(is_new, place, 0).cummax(1).values
    return torch.empty_like(place).scatter_(1, origin, place - first)


def markov_counts(windows: Tensor, order: int) -> tuple[Tensor, Tensor]:
    """For each symbol of each window: how often it has followed its context of `order` symbols before, and how often
    anything has; both `(count, length)` int64. The first `order` symbols have a context of their own each."""
    symbols = windows.long()
    context = torch.zeros_like(symbols)
    for back in range(order, 0, -1):  # a number for each context, in base 257: 0 stands before the window's start
        shifted = torch.zeros_like(symbols)
        shifted[:, back:] = symbols[:, :-back] + 1
        context = context * 257 + shifted
    return earlier_occurrences(context * 257 + symbols), earlier_occurrences(context)


def markov_bits(windows: Tensor, order: int, smoothing: float, alphabet_size: int = 256) -> Tensor:
    """Bits of each symbol under an in-context Markov model.

    Args:
        windows: `(count, length)` integers below 256.
        order: symbols of context, 0 to 5.
        smoothing: what is added to each count.
        alphabet_size: number of symbols that are possible.

    Returns:
        `(count, length)` float64.
    """
    return _bits(*markov_counts(windows, order), smoothing, alphabet_size)


def _bits(followed: Tensor, stood: Tensor, smoothing: float, alphabet_size: int) -> Tensor:
    return -((followed.double() + smoothing) / (stood.double() + smoothing * alphabet_size)).log2()


def counting_baselines(
    windows: Tensor, masks: dict[str, Tensor], alphabet_size: int = 256
) -> dict[str, dict[str, float]]:
    """The baselines of windows, in bits per symbol.

    Smoothing is chosen as in the paper (arXiv 2506.20057): for each order from 1 on the best of `SMOOTHINGS`. The
    paper chooses on training windows; here it is on the very windows and positions that are judged, which can only
    lower a baseline. The paper's models also know the alphabet (the distinct symbols of the data); here
    `alphabet_size` symbols are possible, which is what a language model has to reckon with.

    Args:
        windows: `(count, length)` integers below 256.
        masks: the positions that are judged, bool, `(length,)` or `(count, length)`, by name.
        alphabet_size: number of symbols that are possible.

    Returns:
        For each mask: `uniform`, `kt`, `counts_05`, `markov_1` to `markov_5`, and `best`, the lowest of them.
    """

    def mean(bits: Tensor, mask: Tensor) -> float:
        return window_means(bits, mask).nanmean().item()

    found = {name: {"uniform": math.log2(alphabet_size)} for name in masks}
    counts = markov_counts(windows, 0)
    for baseline, smoothing in COUNTS.items():
        bits = _bits(*counts, smoothing, alphabet_size)
        for name, mask in masks.items():
            found[name][baseline] = mean(bits, mask)
    for order in ORDERS:
        counts = markov_counts(windows, order)
        smoothed = [_bits(*counts, smoothing, alphabet_size) for smoothing in SMOOTHINGS]
        for name, mask in masks.items():
            found[name][f"markov_{order}"] = min(mean(bits, mask) for bits in smoothed)
    return {name: with_best(values) for name, values in found.items()}


def with_best(values: dict[str, float]) -> dict[str, float]:
    """Baselines with `best`, the lowest of them, at their end."""
    others = {name: bits for name, bits in values.items() if name != "best"}
    return {**others, "best": min(others.values())}
