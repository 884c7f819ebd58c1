"""What optimizers, schedules and evaluations refuse in the middle of a run, found out before anything is written."""

from collections.abc import Iterable

import torch
from transformers import Trainer, TrainerCallback

from hf_universal_pretrain.errors import first_line
from hf_universal_pretrain.training.stage_two import KeepOptimizerCallback


def check_optimizer(trainer: Trainer, callbacks: Iterable[TrainerCallback] = ()) -> None:
    """Makes the optimizer and the schedule of a training, to see whether they can be made, and drops them.

    Args:
        trainer: with its model and arguments.
        callbacks: among them, perhaps, [`KeepOptimizerCallback`].

    Raises:
        ValueError: with what torch or transformers say of their settings; if there are moments to go on with, and
            they do not fit.
    """
    if trainer.optimizer is not None or trainer.is_deepspeed_enabled:  # made elsewhere
        return
    flags = "--optim, --optim_args, --learning_rate"
    try:
        optimizer: torch.optim.Optimizer = trainer.create_optimizer()
        flags = "--lr_scheduler_type, --lr_scheduler_kwargs, --warmup_steps"
        trainer.create_scheduler(max(1, trainer.args.max_steps), optimizer)
    except Exception as error:  # whatever one of some forty optimizers says
        raise ValueError(f"{flags}: these settings do not go together ({first_line(error)})") from error
    finally:
        trainer.optimizer = trainer.lr_scheduler = None
    for callback in callbacks:
        if isinstance(callback, KeepOptimizerCallback):
            callback.moments(optimizer)


def check_metric(trainer: Trainer, measured: Iterable[str]) -> None:
    """Refuses a metric that is to decide something and will not be there.

    Args:
        trainer: whose arguments say what is decided by `metric_for_best_model`.
        measured: names of what an evaluation measures.

    Raises:
        ValueError: names what there is.
    """
    args, name = trainer.args, trainer.args.metric_for_best_model
    if name is None:
        return
    if args.eval_strategy == "no":
        return
    name, known = name if name.startswith("eval_") else f"eval_{name}", sorted(measured)
    if name not in known:
        told = ", ".join(known) or "nothing: give a text to measure"
        raise ValueError(f"--metric_for_best_model: there will be no {name}; what is measured is {told}")
