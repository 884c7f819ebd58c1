"""Bits of a causal model at each byte of a text, or at each symbol of a probe."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from hf_universal_pretrain.evaluation.windows import position_masks, window_means
from hf_universal_pretrain.models.encoding import Encoded, encode_windows
from hf_universal_pretrain.models.tokenizers import usable_tokens


@torch.no_grad()
def _judge(model: nn.Module, ids: Tensor) -> tuple[Tensor, Tensor]:
    """The bits of each token of `(rows, tokens)`, float64, and whether it was the most likely one; both on the CPU.
    The first, which nothing precedes, is NaN and False."""
    if ids.shape[1] < 2:
        return torch.full(ids.shape, math.nan, dtype=torch.float64), torch.zeros_like(ids, dtype=torch.bool)
    logits = model(input_ids=ids.to(next(model.parameters()).device), use_cache=False).logits[:, :-1]
    nats = F.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten().to(logits.device), reduction="none")
    right = logits.argmax(-1).cpu() == ids[:, 1:]
    return F.pad(nats.view_as(right).double().cpu() / math.log(2), (1, 0), value=math.nan), F.pad(
        right, (1, 0), value=False
    )


def text_bits(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    windows: Tensor,
    batch_size: int = 16,
    progress: str | None = None,
) -> Tensor:
    """Bits at each byte of windows of text; the model sees nothing before a window.

    The bits of a token of several bytes are spread evenly over the bytes it covers, so that models with different
    tokenizers, and the baselines, are judged on the same bytes. All bits of a window's tokens but the first are
    counted.

    Args:
        model: a causal language model; it is put in evaluation mode and back.
        tokenizer: whose tokens it reads.
        windows: `(count, length)` uint8.
        batch_size: windows in one forward pass.
        progress: title of a progress bar, shown where this takes more than two seconds; None for no bar.

    Returns:
        `(count, length)` float64 on the CPU; NaN at bytes of the first token, which nothing precedes, and, but for a
        tokenizer of bytes, of a character that a window's edge cuts.
    """
    was_training = model.training
    model.eval()
    encoded = encode_windows([window.numpy().tobytes() for window in windows], tokenizer)
    rows: list[Tensor] = []
    starts = range(0, len(encoded), batch_size)
    for start in tqdm(starts, progress, delay=2, leave=False, disable=progress is None):
        batch = encoded[start : start + batch_size]
        bits, _ = _judge(model, nn.utils.rnn.pad_sequence([e.ids for e in batch], batch_first=True))
        rows += [spread(b[: len(e.ids)], e, windows.shape[1]) for b, e in zip(bits, batch, strict=True)]
    model.train(was_training)
    return torch.stack(rows)


def spread(token_bits: Tensor, encoded: Encoded, length: int) -> Tensor:
    """Bits of tokens as bits of the bytes that they cover, evenly; their sum stays what it is.

    Tokens that end at the same byte share the bytes of the first of them. One without any bytes at the very start
    shares those of the next.

    Args:
        token_bits: `(tokens,)` float64; NaN for the first, which nothing precedes.
        encoded: where the tokens stand.
        length: bytes of the text.

    Returns:
        `(length,)` float64; NaN at bytes of which no token was judged.
    """
    bits = torch.full((length,), math.nan, dtype=torch.float64)
    ends = encoded.ends[encoded.ends > encoded.start].unique()
    if len(ends) == 0:
        return bits
    group = torch.searchsorted(ends, encoded.ends)
    totals = torch.full(ends.shape, math.nan, dtype=torch.float64)
    totals[group[1:]] = 0
    totals.index_add_(0, group[1:], token_bits[1:])
    sizes = ends.diff(prepend=torch.tensor([encoded.start]))
    bits[encoded.start : ends[-1]] = (totals / sizes).repeat_interleave(sizes)
    return bits


def bits_per_byte(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    windows: Tensor,
    batch_size: int = 16,
    progress: str | None = None,
) -> Tensor:
    """Bits per byte of each window over its second half, `(count,)` float64; arguments as for `text_bits`."""
    bits = text_bits(model, tokenizer, windows, batch_size, progress)
    return window_means(bits, position_masks(windows.shape[1])["second_half"])


def symbol_bits(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rows: Tensor,
    batch_size: int = 16,
    progress: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Bits at each symbol of rows, and whether the model holds the right symbol for the most likely token.

    Symbol s is the s-th token that is not special, as in a synthetic stream of all tokens; for the byte tokenizer, the
    byte s.

    Args:
        rows: `(count, length)` integers.

    Returns:
        `(count, length)` float64 and bool; the first column is NaN and False.
    """
    tokens = torch.tensor(usable_tokens(tokenizer))
    was_training = model.training
    model.eval()
    batches = tqdm(rows.long().split(batch_size), progress, delay=2, leave=False, disable=progress is None)
    bits, right = zip(*[_judge(model, tokens[batch]) for batch in batches], strict=True)
    model.train(was_training)
    return torch.cat(bits), torch.cat(right)
