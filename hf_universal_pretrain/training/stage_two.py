"""Keeping Adam's moments of pretraining for the training that follows, instead of starting them at zero."""

from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_universal_pretrain.runs.checkpoints import newest_complete


def pretraining_optimizer(run: str) -> Path:
    """The optimizer's state in the newest complete checkpoint of a run's folder.

    Raises:
        ValueError: if there is none.
    """
    try:
        checkpoint = newest_complete(run)
    except OSError as error:
        raise ValueError(f"--keep_optimizer: cannot read a checkpoint of {run} ({error})") from error
    if checkpoint is None or not (checkpoint / "optimizer.pt").is_file():
        raise ValueError(
            f"--keep_optimizer: {run} has no complete checkpoint-N/optimizer.pt; give the folder of a pretraining run "
            "with its checkpoints, or leave the flag out"
        )
    return checkpoint / "optimizer.pt"


class KeepOptimizerCallback(TrainerCallback):
    """Loads the moments and step counts of an earlier run before the first step; rates and decay are this run's.

    Args:
        path: the `optimizer.pt` of a run of the same architecture and optimizer.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step:  # resumed: the checkpoint has the optimizer
            return
        optimizer = kwargs["optimizer"]
        kept = torch.load(self.path, map_location="cpu", weights_only=True)["state"]
        mine = optimizer.state_dict()["param_groups"]
        shapes = [weight.shape for group in optimizer.param_groups for weight in group["params"]]
        if [kept[i]["exp_avg"].shape for i in range(len(kept))] != shapes:
            raise ValueError(f"--keep_optimizer: {self.path} belongs to a model of other sizes")
        optimizer.load_state_dict({"state": kept, "param_groups": mine})
