"""What a model can reach whose logits are linear in what attention counts: why small ones stall where they do.

    python recipes/measure/readouts.py --text english-valid.txt

Attention averages: one head gives the share that each byte has had, others the share among what followed the same byte
(induction), or the same two. To turn a share into its logarithm, which is what counting needs, takes more: an MLP that
is wide enough, or a head that leaves out what it has met before. For each set of such features the script fits one
weight a feature on the text itself, so that no model that has these alone can do better, and prints bits per byte over
the second half of the windows.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from hf_universal_pretrain.commands.arguments import parse_args
from hf_universal_pretrain.commands.endings import usage_errors
from hf_universal_pretrain.evaluation.baselines import COUNTS
from hf_universal_pretrain.evaluation.windows import cut_windows
from hf_universal_pretrain.text import read_text


SHARE, SEEN, AFTER_ONE, AFTER_TWO, LOG = range(5)
SETS = {
    "shares": [SHARE],
    "shares, and which bytes there were": [SHARE, SEEN],
    "shares, and those after the same byte": [SHARE, AFTER_ONE],
    "shares, and those after the same byte and the same two": [SHARE, AFTER_ONE, AFTER_TWO],
    "all of these": [SHARE, SEEN, AFTER_ONE, AFTER_TWO],
    "logarithms of counts": [LOG],
    "logarithms of counts, shares after the same byte and the same two": [LOG, AFTER_ONE, AFTER_TWO],
}


@dataclass
class ScriptArguments:
    text: str
    """The text (UTF-8, .gz too)."""
    windows: int = 40
    """Windows of the text, evenly spaced."""
    context_length: int = 512
    """Bytes of a window."""


def features(past: Tensor) -> Tensor:
    """What attention can count in the bytes before one, `(length,)`: `(5, 256)`, a row a feature."""
    counts = torch.bincount(past, minlength=256).float()
    same = past[:-1] == past[-1]
    one = torch.bincount(past[1:][same], minlength=256).float()
    two = torch.bincount(past[2:][same[1:] & (past[:-2] == past[-2])], minlength=256).float()
    shares = [found / found.sum().clamp(min=1) for found in (counts, one, two)]
    return torch.stack([shares[0], (counts > 0).float(), shares[1], shares[2], (counts + COUNTS["counts_05"]).log()])


def best_bits(found: Tensor, bytes_after: Tensor) -> float:
    """Bits per byte with the best weight for each feature.

    Args:
        found: `(positions, features, 256)`.
        bytes_after: `(positions,)`, the byte that came.
    """
    weights = torch.zeros(found.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        nats = cross_entropy(torch.einsum("f,pfb->pb", weights, found), bytes_after)
        nats.backward()
        return nats

    optimizer.step(loss)
    return loss().item() / math.log(2)


def main() -> None:
    (script,) = parse_args((ScriptArguments,), __doc__, lambda asked: {})
    torch.set_num_threads(1)
    with usage_errors():
        length = script.context_length
        windows = cut_windows(read_text(script.text, "--text"), length, script.windows, "--text").long()
    places = [(window, place) for window in windows for place in range(length // 2, length, 2)]
    found = torch.stack([features(window[:place]) for window, place in places])
    after = torch.stack([window[place] for window, place in places])
    print("| logits linear in | bits |\n|---|---|")
    for name, chosen in SETS.items():
        print(f"| {name} | {best_bits(found[:, chosen], after):.2f} |", flush=True)


if __name__ == "__main__":
    main()
