"""How far back a model looks: its bits when all but the last k tokens are another row's.

A model that predicts from the last token alone loses nothing when everything before it is exchanged. Such a model has
not left the bigram plateau, and starting from it does not help.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from hf_universal_pretrain.evaluation.windows import mean_and_interval


@dataclass(frozen=True)
class Reach:
    """The bits of a token by how much of its own row stands before it.

    Args:
        bits: for each k, the mean bits of a token when only the k before it are its own row's.
        full: the mean bits when all are.
        gain: what the model gains from tokens further back than the last one: `bits[1] - full`.
        ci95: half-width of the 95 % confidence interval of `gain`, over rows.
    """

    bits: dict[int, float]
    full: float
    gain: float
    ci95: float


@torch.no_grad()
def measure_reach(
    model: nn.Module,
    rows: Tensor,
    distances: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64),
    batch_size: int = 16,
    progress: str | None = None,
) -> Reach:
    """Measures on the last token of each row, and on the one in the middle of its second half.

    Args:
        model: any causal language model.
        rows: `(count, length)` int64 tokens, of different origin: what is exchanged comes from the next row.
        distances: the k's; 1 is always measured, those that a row is too short for are left out.
        batch_size: rows in a forward pass.
        progress: title of a progress bar; None shows none.
    """
    count, length = rows.shape
    kept = [k for k in dict.fromkeys((1, *distances)) if k < length // 2]
    others = rows.roll(1, 0)
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    bits = torch.zeros(len(kept) + 1, 2, count, dtype=torch.float64)
    jobs = [(n, e, start) for n in range(len(kept) + 1) for e in range(2) for start in range(0, count, batch_size)]
    for number, end, start in tqdm(jobs, progress, disable=progress is None, leave=False, delay=2):
        upto = length if end == 0 else length - length // 4  # the token that is judged is the last before it
        mine, other = rows[start : start + batch_size, :upto], others[start : start + batch_size, :upto]
        if number < len(kept):
            mine = torch.cat([other[:, : upto - 1 - kept[number]], mine[:, upto - 1 - kept[number] :]], 1)
        logits = model(input_ids=mine[:, :-1].to(device), use_cache=False).logits[:, -1].float()
        nats = nn.functional.cross_entropy(logits, mine[:, -1].to(device), reduction="none")
        bits[number, end, start : start + batch_size] = nats.double().cpu() / math.log(2)
    model.train(was_training)
    by_row = bits.mean(1)
    gain, ci95 = mean_and_interval(by_row[0] - by_row[-1])
    known = {k: by_row[number].mean().item() for number, k in enumerate(kept)}
    return Reach(bits=known, full=by_row[-1].mean().item(), gain=gain, ci95=ci95)
