"""Bits of a causal model at each byte of a text, or at each symbol of a probe."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from hf_universal_pretrain.models.tokenizers import usable_tokens
from hf_universal_pretrain.text import encode


@torch.no_grad()
def _judge(model: nn.Module, ids: Tensor) -> tuple[Tensor, Tensor]:
    """The bits of each token of `(rows, tokens)`, float64, and whether it was the most likely one; both on the CPU.
    The first, which nothing precedes, is NaN and False."""
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
    tokenizers, and the floors, are judged on the same bytes. (Of tokens that share a character, all but the first
    cover no byte of their own: their bits are added to those of the first.)

    Args:
        model: a causal language model; it is put in evaluation mode and back.
        tokenizer: whose tokens it reads.
        windows: `(count, length)` uint8.
        batch_size: windows in one forward pass.
        progress: title of a progress bar, shown where this takes more than two seconds; None for no bar.

    Returns:
        `(count, length)` float64 on the CPU; NaN at bytes of the first token, which nothing precedes, and, but for the
        byte tokenizer, of a character that a window's edge cuts.
    """
    was_training = model.training
    model.eval()
    rows = []
    for batch in tqdm(windows.split(batch_size), progress, delay=2, leave=False, disable=progress is None):
        encoded = [encode(window.numpy().tobytes(), tokenizer) for window in batch]
        bits, _ = _judge(model, nn.utils.rnn.pad_sequence([ids for ids, _ in encoded], batch_first=True))
        rows += [_spread(b, covered, window) for b, (_, covered), window in zip(bits, encoded, batch, strict=True)]
    model.train(was_training)
    return torch.stack(rows)


def _spread(token_bits: Tensor, covered: Tensor, window: Tensor) -> Tensor:
    """Bits of tokens, each of which covers the next `covered` bytes of a window, as bits of those bytes."""
    start = 0
    if covered.sum() < len(window):  # a character was cut: at the front, its continuation bytes are left out
        start = int((window[:4] & 0xC0 == 0x80).int().cumprod(0).sum())
    ends = start + covered.cumsum(0)
    totals = torch.zeros(len(window), dtype=torch.float64)
    totals.index_add_(0, (ends - 1).clamp(min=0), token_bits[: len(covered)])
    sizes, last = covered[covered > 0], ends[covered > 0] - 1
    bits = torch.full((len(window),), math.nan, dtype=torch.float64)
    bits[start : start + sizes.sum()] = (totals[last] / sizes).repeat_interleave(sizes)
    return bits


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
