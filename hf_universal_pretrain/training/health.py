"""Numbers that go wrong: a loss or weights that are not finite end a run, a buffer without life is told."""

import logging
import math
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_universal_pretrain.errors import TrainingDiverged
from hf_universal_pretrain.models.build import not_finite
from hf_universal_pretrain.stream.dataset import SyntheticUPDataset


logger = logging.getLogger(__name__)

DEAD = 0.95  # a row is dead if at least this share of its symbols repeat the one before
COLLAPSED = 0.9  # a buffer has collapsed if more than this share of its rows is dead


class HealthCallback(TrainerCallback):
    """Looks at each log line: ends the run if the loss is NaN or infinite, and warns, once until it recovers, if more
    than 90 % of the buffer's rows are dead.

    Raises:
        TrainingDiverged: before anything of the step is saved.
    """

    def __init__(self) -> None:
        self.warned = False

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        loss, dataset = kwargs["logs"].get("loss"), getattr(kwargs.get("train_dataloader"), "dataset", None)
        if loss is None:
            return
        if not math.isfinite(loss):
            raise TrainingDiverged(_diverged(f"the loss is {loss}", state.global_step))
        if isinstance(dataset, SyntheticUPDataset):
            with dataset.side.access():
                dead = dead_share(dataset.buffer.rows)
            if dead > COLLAPSED and not self.warned:
                logger.warning(
                    f"Step {state.global_step}: the buffer has collapsed: {dead:.0%} of its rows are constant or "
                    "nearly so, and teach nothing. Give --machines that make structure of their own (context_tree), "
                    "keep machines to a band (--complexity 0.3:0.9), or raise --gain_range."
                )
            self.warned = dead > COLLAPSED


def dead_share(rows: Tensor) -> float:
    """The share of dead rows among `(rows, length)` symbols; of large buffers, about 1,000 rows are looked at."""
    rows = rows[:: max(1, len(rows) // 1000)]
    repeats = (rows[:, 1:] == rows[:, :-1]).float().mean(1)
    return (repeats >= DEAD).float().mean().item()


def check_weights(model: PreTrainedModel, step: int) -> None:
    """Keeps weights that are not finite out of a checkpoint, since older ones are deleted for it.

    Raises:
        TrainingDiverged: if there are such weights (with FSDP: among those of this process).
    """
    name = not_finite(model)
    if name is not None:
        raise TrainingDiverged(_diverged(f"weights are not finite ({name})", step))


def _diverged(what: str, step: int) -> str:
    return (
        f"training has diverged: {what} at step {step}. Lower --learning_rate, raise --warmup_steps or lower "
        "--max_grad_norm, and give another --output_dir; checkpoints from before are intact"
    )
