"""Floors: what simple adaptive predictors, which know nothing but the window so far, reach on the same windows."""

import math

import torch
from torch import Tensor


def kt_bits(windows: Tensor, alpha: float = 0.05, alphabet_size: int = 256) -> Tensor:
    """Bits per symbol of the Krichevsky-Trofimov estimator (order 0) over the second half of each window.

    It predicts symbol s with probability (count of s so far + alpha) / (symbols so far + alpha * alphabet_size), where
    the counts start at the beginning of the window. The classical KT has alpha .5; .05 suits text better.

    Args:
        windows: `(count, length)` integers.
        alpha: what is added to each count.
        alphabet_size: number of symbols that are possible.

    Returns:
        `(count,)` float64.
    """
    symbols = windows.long()
    count, length = symbols.shape
    counts = torch.zeros(count, alphabet_size, dtype=torch.float64)
    half = length // 2
    bits = torch.zeros(count, dtype=torch.float64)
    for t in range(length):
        now = symbols[:, t : t + 1]
        if t >= half:
            bits -= ((counts.gather(1, now) + alpha) / (t + alpha * alphabet_size)).log2().squeeze(1)
        counts.scatter_add_(1, now, torch.ones(count, 1, dtype=torch.float64))
    return bits / (length - half)


def text_floors(windows: Tensor) -> dict[str, float]:
    """The floors of windows of bytes, in bits per byte over the second half: `uniform` and `kt` (alpha .05)."""
    return {"uniform": math.log2(256), "kt": kt_bits(windows).mean().item()}
