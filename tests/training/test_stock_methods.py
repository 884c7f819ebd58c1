"""The methods of `Trainer` that are overridden although it calls them private: with another version of transformers
they may be gone, or be called in another way. What is written here is what the overrides were written for."""

import inspect

import pytest
from transformers import Trainer

from hf_universal_pretrain import UPTrainer


PRIVATE = {
    "_validate_args": [],
    "_evaluate": ["trial", "ignore_keys_for_eval", "skip_scheduler"],
    "_init_training_state": [
        "max_steps", "num_update_steps_per_epoch", "num_train_epochs", "resume_from_checkpoint", "trial",
    ],
    "_run_epoch": [
        "model", "epoch", "train_dataloader", "steps_in_epoch", "num_update_steps_per_epoch", "trial",
        "ignore_keys_for_eval", "start_time", "resume_from_checkpoint", "epochs_trained",
        "steps_trained_in_current_epoch",
    ],
    "_prepare_for_training": ["max_steps", "train_dataloader", "resume_from_checkpoint"],
    "_load_from_checkpoint": ["resume_from_checkpoint", "model"],
    "_load_best_model": [],
    "_save_checkpoint": ["model", "trial"],
    "_save_rng_state": ["output_dir"],
    "_load_rng_state": ["checkpoint"],
    "_push_from_checkpoint": ["checkpoint_folder"],
    "_finish_current_push": [],
    "_finalize_training": ["trial", "num_train_samples", "start_time"],
}  # fmt: skip


def overridden() -> set[str]:
    """Methods of the stock class that one of ours has too."""
    ours = UPTrainer.__mro__[: UPTrainer.__mro__.index(Trainer)]
    return {name for cls in ours for name in vars(cls) if name in vars(Trainer)}


def test_each_private_method_that_is_overridden_is_named() -> None:
    found = {name for name in overridden() if name.startswith("_") and not name.startswith("__")}
    assert found == PRIVATE.keys()


@pytest.mark.parametrize("name", PRIVATE)
def test_the_stock_method_is_called_as_expected(name: str) -> None:
    _, *parameters = inspect.signature(getattr(Trainer, name)).parameters
    assert parameters == PRIVATE[name]
