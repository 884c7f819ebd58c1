"""Windows of text, the positions in them that are judged, and means over windows with their uncertainty."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from hf_universal_pretrain.corpus import Corpus


def cut_windows(text: bytes, length: int, count: int, name: str = "text") -> Tensor:
    """Cuts `count` windows of `length` bytes, evenly spaced from the start of the text to its end.

    Returns:
        `(count, length)` uint8; fewer windows where the text has fewer starting points.

    Raises:
        ValueError: if the text is shorter than one window.
    """
    if len(text) < length:
        raise ValueError(f"{name} has {len(text)} bytes, less than one window of {length}: give a longer text")
    starts = torch.linspace(0, len(text) - length, min(count, len(text) - length + 1), dtype=torch.float64)
    windows = b"".join(text[start : start + length] for start in starts.long().tolist())  # no copy of the whole text
    return torch.frombuffer(bytearray(windows), dtype=torch.uint8).view(-1, length)


def cut_each(texts: Mapping[str, bytes | Corpus], length: int, count: int, flag: str) -> dict[str, Tensor]:
    """Windows of several texts, by name, as `cut_windows` cuts them; what is wrong is told of `flag`."""
    return {
        name: text.windows(length, count, f"{flag} {name}")
        if isinstance(text, Corpus)
        else cut_windows(text, length, count, f"{flag} {name}")
        for name, text in texts.items()
    }


def position_masks(length: int) -> dict[str, Tensor]:
    """The three sets of positions that texts are judged on, each `(length,)` bool.

    `second_half` is the one that is printed: there a predictor has read at least half a window. `whole` leaves out the
    first position, which nothing precedes. `last` is what the paper reports: it has the most to go by, and the
    widest confidence interval.
    """
    position = torch.arange(length)
    return {"second_half": position >= length // 2, "whole": position > 0, "last": position == length - 1}


def window_means(bits: Tensor, mask: Tensor) -> Tensor:
    """The mean of each window over the positions of `mask`, without those that are NaN (not judged).

    Args:
        bits: `(count, length)`.
        mask: bool, `(length,)` or `(count, length)`.

    Returns:
        `(count,)`; NaN where nothing is left.
    """
    return torch.where(mask, bits, math.nan).nanmean(1)


def mean_and_interval(values: Tensor) -> tuple[float, float]:
    """The mean over windows and the half-width of its 95% confidence interval (1.96 standard errors).

    The interval takes windows for independent; where they overlap, or stand in a few documents, it is too narrow.
    """
    values = values[~values.isnan()]
    return values.mean().item(), 1.96 * values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan
