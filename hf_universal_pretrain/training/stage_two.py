"""How training on real text begins: with Adam's moments of the pretraining, or with the vocabulary alone."""

import pickle
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_universal_pretrain.errors import first_line
from hf_universal_pretrain.models.transfer import vocabulary_weights
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
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": self.moments(optimizer), "param_groups": groups})

    def moments(self, optimizer: torch.optim.Optimizer) -> dict[int, dict[str, torch.Tensor]]:
        """What was kept, if it fits an optimizer.

        Raises:
            ValueError: if one of the two is not Adam, or the sizes differ.
        """
        try:
            kept = torch.load(self.path, map_location="cpu", weights_only=True)["state"]
        except (OSError, RuntimeError, KeyError, pickle.UnpicklingError) as error:
            raise ValueError(f"--keep_optimizer: {self.path} cannot be read ({first_line(error)})") from error
        of_adam = {"exp_avg", "exp_avg_sq"}
        if not kept or not all(isinstance(state, dict) and of_adam <= state.keys() for state in kept.values()):
            raise ValueError(f"--keep_optimizer: {self.path} is not of Adam or AdamW: leave the flag out")
        shapes = [weight.shape for group in optimizer.param_groups for weight in group["params"]]
        if [kept[i]["exp_avg"].shape for i in sorted(kept)] != shapes:
            raise ValueError(f"--keep_optimizer: {self.path} belongs to a model of other sizes: leave the flag out")
        bare = getattr(optimizer, "optimizer", optimizer)  # as accelerate wraps it
        if not isinstance(bare, (torch.optim.Adam, torch.optim.AdamW)):
            raise ValueError(f"--keep_optimizer goes with --optim adamw_torch, not with {type(bare).__name__}")
        return kept


class VocabularyFirstCallback(TrainerCallback):
    """Trains the rows of the vocabulary alone in the first steps, in and out; then all weights.

    The other weights have no gradient there, so that optimizers pass them over: no decay, and moments that begin when
    they do. Gradients are clipped, and their norm is logged, with all weights. It keeps no state: the step decides.

    Args:
        steps: optimizer steps in which all but the vocabulary stays as it is.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.others: list[torch.nn.Parameter] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        vocabulary = {id(weight) for weight in vocabulary_weights(kwargs["model"])}
        self.others = [weight for weight in kwargs["model"].parameters() if id(weight) not in vocabulary]

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step < self.steps:
            for weight in self.others:
                weight.grad = None
