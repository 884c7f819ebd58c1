"""`ExactTrainer`: runs that go on as if they had never been stopped, from checkpoints that are complete."""

import logging
import os
import shutil
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints

from hf_universal_pretrain.errors import SaveFailed, first_line
from hf_universal_pretrain.models.restore import restore_weights
from hf_universal_pretrain.runs.checkpoints import mark_complete, unmark
from hf_universal_pretrain.runs.folder import write_run_file
from hf_universal_pretrain.runs.settings import run_settings
from hf_universal_pretrain.training.health import HealthCallback, check_weights
from hf_universal_pretrain.training.refusals import check_optimizer


logger = logging.getLogger(__name__)


def _onto_the_cpu(storage: Any, location: str) -> Any:
    return storage if location.startswith("cpu:") else None


# transformers 5.17 has each of several processes load its optimizer onto `cpu:0`, a place that torch knows as `cpu`
torch.serialization.register_package(11, lambda storage: None, _onto_the_cpu)


class ExactTrainer(Trainer):
    """A `Trainer` whose checkpoints are complete or do not count (see `checkpoints`), and which goes on from one as if
    it had never been stopped; on a CPU, bit for bit.

    Args:
        model: to be trained, a transformers one without adapters (PEFT).
        args: of the training.
        context_length: tokens in a training row.
        settings: of the run (see `settings.run_settings`), kept in each checkpoint; worked out if not given.
        callbacks: added to [`HealthCallback`].
        kwargs: as for [`~transformers.Trainer`].
    """

    model: PreTrainedModel

    def __init__(
        self,
        model: PreTrainedModel,
        args: TrainingArguments,
        *,
        context_length: int,
        settings: dict[str, Any] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        **kwargs: Any,
    ) -> None:
        self.context_length = context_length
        _check_is_whole(model)
        tokenizer, dataset = kwargs.get("processing_class"), kwargs.get("train_dataset")
        self.settings = settings or run_settings(args, model, tokenizer, dataset)
        self._callbacks = [HealthCallback(), *(callbacks or [])]
        super().__init__(model=model, args=args, callbacks=self._callbacks, **kwargs)
        if os.environ.get("ACCELERATE_USE_FSDP") == "true" and not self.is_fsdp_enabled and args.process_index == 0:
            logger.warning("accelerate has FSDP on GPUs only: each process holds a whole copy of the model (DDP).")

    @property
    def folder(self) -> Path:
        """Where the run writes."""
        return Path(str(self.args.output_dir))

    # The stock constructor calls this before it claims a repository and makes the output folder.
    def _validate_args(self) -> None:
        super()._validate_args()
        check_optimizer(self, self._callbacks)

    # Once the stock method has made the optimizer and loaded the checkpoint, there is nothing left to be refused: only
    # now is the first file written.
    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        prepared = super()._prepare_for_training(*args, **kwargs)  # type: ignore[no-untyped-call]
        if self.args.should_save:
            with self.saving(self.folder):
                write_run_file(self.folder, self.settings)
        return prepared

    # The stock methods load what a checkpoint calls as the model does, and leave the rest as it was with a warning: of
    # many architectures, all of the experts. Weights that are sharded keep the stock way: they are saved and loaded
    # under the names that the model has.
    def _load_from_checkpoint(self, checkpoint: str, model: torch.nn.Module | None = None) -> None:
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._load_from_checkpoint(checkpoint, model)
        else:
            restore_weights(self._bare_model(), checkpoint)

    def _load_best_model(self) -> None:
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._load_best_model()
        elif self.state.best_model_checkpoint is not None:
            restore_weights(self._bare_model(), self.state.best_model_checkpoint)

    def _bare_model(self) -> PreTrainedModel:
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)

    # The stock method evaluates at the start of a run that goes on, too, which early stopping would count.
    def _evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        if kwargs.get("skip_scheduler") and self.state.global_step:
            return {}
        return super()._evaluate(*args, **kwargs)

    # The stock method takes intervals of logging, evaluation and saving from the checkpoint, whatever was asked for.
    def _init_training_state(self, max_steps: int, *args: Any, **kwargs: Any) -> tuple[int, int]:
        trained = super()._init_training_state(max_steps, *args, **kwargs)
        self.state.compute_steps(self.args, max_steps)
        self._first_step = self.state.global_step
        return trained

    # The stock method trains a step more than asked for when it starts at the last one.
    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        if self.state.global_step >= self.state.max_steps:
            self._load_rng_state(kwargs["resume_from_checkpoint"])
            self.control.should_training_stop = True
            return
        first = self.state.global_step == self._first_step
        if first and isinstance(kwargs["model"], DistributedDataParallel):
            self._settle_gradient_buckets(kwargs["model"])
        super()._run_epoch(*args, **kwargs)  # type: ignore[no-untyped-call]

    def _settle_gradient_buckets(self, model: DistributedDataParallel) -> None:
        """One backward pass that counts for nothing.

        After the first of a process, DDP puts the gradients that it sums into another order. With more than two
        processes that changes the last bits of the sums, so that a run which goes on would differ, in its first step,
        from one that was never stopped.
        """
        rows = torch.zeros(self._train_batch_size, self.context_length, dtype=torch.int64, device=self.args.device)
        with torch.random.fork_rng([] if self.args.device.type == "cpu" else [self.args.device]):
            self.accelerator.backward(self.compute_loss(model, {"input_ids": rows, "labels": rows}))
        model.zero_grad()

    # The stock method, between two marks: a checkpoint counts once the files of all processes are on the disk; it is
    # pushed, and an older one deleted for it, only then.
    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        check_weights(self.model, self.state.global_step)
        folder = self.folder / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        with self.saving(folder):
            if self.args.should_save:
                unmark(folder)
            with self._with_arguments(save_total_limit=None, push_to_hub=False):
                super()._save_checkpoint(*args, **kwargs)
            if self.args.should_save:
                torch.save(self.args, folder / TRAINING_ARGS_NAME)  # again, with these two as they are
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                mark_complete(folder, self.state.global_step, self.settings)
            self.accelerator.wait_for_everyone()  # or a process that stops here would end the one that marks
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(folder))
        if self.args.should_save:
            rotate_checkpoints(str(self.folder), self.args.save_total_limit, self.state.best_model_checkpoint)

    # The stock method deletes, where one checkpoint is to be kept, all but the best: also the newest, from which a run
    # that was stopped goes on.
    def _finalize_training(self, *args: Any, **kwargs: Any) -> Any:
        with self._with_arguments(save_total_limit=None):
            return super()._finalize_training(*args, **kwargs)  # type: ignore[no-untyped-call]

    @contextmanager
    def _with_arguments(self, **values: Any) -> Iterator[None]:
        """Other values of the training's arguments for a while."""
        before = {name: getattr(self.args, name) for name in values}
        try:
            for name, value in values.items():
                setattr(self.args, name, value)
            yield
        finally:
            for name, value in before.items():
                setattr(self.args, name, value)

    @contextmanager
    def saving(self, folder: str | Path) -> Iterator[None]:
        """Turns what goes wrong with writing into [`SaveFailed`], and removes a checkpoint that was begun."""
        try:
            yield
        except (OSError, SafetensorError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not _is_of_writing(error):
                raise
            if Path(folder).name.startswith(PREFIX_CHECKPOINT_DIR) and self.args.should_save:
                shutil.rmtree(folder, ignore_errors=True)
            raise SaveFailed(f"cannot save to {folder}: {first_line(error)}") from error


def _is_of_writing(error: RuntimeError) -> bool:
    """Whether it comes out of `torch.save`, which says in many ways that a disk is full."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals.get("__name__") == torch.serialization.__name__ for frame, _ in frames)


def _check_is_whole(model: PreTrainedModel) -> None:
    """Refuses what saves only a part of its weights, since a run could not go on from that.

    Raises:
        ValueError: if the model is not a transformers one, or has adapters (PEFT).
    """
    bare = getattr(model, "_orig_mod", model)  # as torch.compile wraps it
    if not isinstance(bare, PreTrainedModel):
        raise ValueError(f"model: it must be a PreTrainedModel of transformers, not a {type(bare).__name__}")
    if getattr(bare, "_hf_peft_config_loaded", False):
        raise ValueError("model: it has adapters (PEFT), whose checkpoints hold no whole model: merge them first")
