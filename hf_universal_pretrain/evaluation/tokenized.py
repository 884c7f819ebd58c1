"""What a tokenizer makes of the windows of a text: how many tokens there are, and how much of the text they lose."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from hf_universal_pretrain.evaluation.bits import spread
from hf_universal_pretrain.evaluation.windows import position_masks, window_means
from hf_universal_pretrain.models.encoding import encode_windows


MOST_LOST = 0.01


@dataclass
class TextTokens:
    """The tokens of a text's windows."""

    per_byte: dict[str, float]
    """Tokens a byte over each of `position_masks`, counted as their bits are (see `spread`)."""
    longest: int
    """Tokens of the window that has most."""
    lost: float
    """The share of bytes that the decoded tokens do not give back; see `Encoded.lost`."""
    by_count: bool
    """Whether there are windows whose tokens cannot be aligned with bytes: their second half is that of the tokens."""


def text_tokens(windows: Tensor, tokenizer: PreTrainedTokenizerBase) -> TextTokens:
    """Encodes the windows of a text, `(count, length)` uint8."""
    shown = tqdm(windows, "Tokens of a text", unit="window", delay=2, leave=False, disable=None)
    encoded = encode_windows((window.numpy().tobytes() for window in shown), tokenizer)
    length = windows.shape[1]
    ones = [torch.ones(len(e.ids), dtype=torch.float64) for e in encoded]
    counts = torch.stack([spread(one, e, length) for one, e in zip(ones, encoded, strict=True)])
    return TextTokens(
        {name: window_means(counts, mask).nanmean().item() for name, mask in position_masks(length).items()},
        max(len(e.ids) for e in encoded),
        sum(e.lost for e in encoded) / windows.numel(),
        any(e.aligned_by == "count" for e in encoded),
    )


def check_tokens(
    tokens: dict[str, TextTokens], length: int, positions: int | None, flag: str, model: str = "the model"
) -> None:
    """Refuses what bits per byte would not be true of.

    Args:
        tokens: of each text, by its name.
        length: bytes in a window.
        positions: that the model has; None for no limit.
        flag: that the tokenizer was chosen with.
        model: whose tokenizer it is, in words.

    Raises:
        ValueError: if the tokenizer loses more than `MOST_LOST` of a text, which flatters the model, or makes more
            tokens of a window than the model has positions; names the flag.
    """
    for name, found in tokens.items():
        if found.lost > MOST_LOST:
            raise ValueError(
                f"{flag}: the tokens of {model} lose {found.lost:.1%} of the bytes of {name} (more than "
                f"{MOST_LOST:.0%}), so that bits per byte would flatter it: give a text that its tokenizer can tell "
                "back, or another tokenizer"
            )
        if positions is not None and found.longest > positions:
            raise ValueError(
                f"--context_length: a window of {length} bytes of {name} has up to {found.longest} tokens of {model}, "
                f"which has {positions} positions: lower it"
            )


def uniform_bits(choices: int, tokens_per_byte: float) -> float:
    """Bits per byte of a uniform guess among so many tokens."""
    return math.log2(choices) * tokens_per_byte
