"""Bits per byte of a causal model on windows of text.

All figures are over the *second half* of each window: the model has read at least half a window before it is judged.
Windows are measured in bytes, so that models with different tokenizers (and the floors) are judged on the same text.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from hf_universal_pretrain.text import encode


def cut_windows(text: bytes, length: int, count: int, name: str = "text") -> Tensor:
    """Cuts `count` windows of `length` bytes, evenly spaced from the start of the text to its end.

    Returns:
        `(count, length)` uint8; fewer windows where the text has fewer starting points.

    Raises:
        ValueError: if the text is shorter than one window.
    """
    if len(text) < length:
        raise ValueError(f"{name} has {len(text)} bytes, less than one window of {length}: give a longer text")
    data = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    starts = torch.linspace(0, len(text) - length, min(count, len(text) - length + 1), dtype=torch.float64)
    return data[starts.long().unsqueeze(1) + torch.arange(length)]


@torch.no_grad()
def bits_per_byte(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    windows: Tensor,
    batch_size: int = 16,
    progress: str | None = None,
) -> Tensor:
    """Bits per byte of the model over the second half of each window, without any text before the window.

    Tokens of more than one byte are judged whole if they end in the second half; their bits are spread over all the
    bytes that they cover. Characters that a window's edge cuts are left out, but for the byte tokenizer.

    Args:
        model: a causal language model; it is put in evaluation mode and back.
        tokenizer: whose tokens it reads.
        windows: `(count, length)` uint8.
        batch_size: windows in one forward pass.
        progress: title of a progress bar, shown where this takes more than two seconds; None for no bar.

    Returns:
        `(count,)` float64 on the CPU.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    results = []
    for batch in tqdm(windows.split(batch_size), progress, delay=2, leave=False, disable=progress is None):
        encoded = [encode(window.numpy().tobytes(), tokenizer) for window in batch]
        ids = nn.utils.rnn.pad_sequence([ids for ids, _ in encoded], batch_first=True)
        covered = nn.utils.rnn.pad_sequence([covered for _, covered in encoded], batch_first=True)
        ends = covered.cumsum(-1)
        real = nn.utils.rnn.pad_sequence([torch.ones_like(ids) for ids, _ in encoded], batch_first=True)
        judged = (ends > windows.shape[1] // 2) & (real > 0)  # of no bytes too: the second token of one character
        judged[:, 0] = False  # nothing precedes the first token
        logits = model(input_ids=ids.to(device), use_cache=False).logits[:, :-1]
        nats = F.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten().to(device), reduction="none")
        bits = nats.view(len(ids), -1).double().cpu() / math.log(2)
        judged = judged[:, 1:]
        results.append((bits * judged).sum(-1) / (covered[:, 1:] * judged).sum(-1))
    model.train(was_training)
    return torch.cat(results)
