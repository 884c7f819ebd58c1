"""`BitsTrainer` judges a model in bits per byte of real text; `UPTrainer` trains it on a synthetic stream."""

import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import TrainerCallback, default_data_collator
from transformers.trainer_utils import HubStrategy

from hf_universal_pretrain.callbacks import BufferEnrichmentCallback
from hf_universal_pretrain.dataset import SyntheticUPDataset
from hf_universal_pretrain.evaluation import probe_figures, text_figures
from hf_universal_pretrain.exact import ExactTrainer
from hf_universal_pretrain.hub import claim_model_repository, hide_token, published_readme, reason
from hf_universal_pretrain.model_card import write_model_card
from hf_universal_pretrain.output import write_run_file
from hf_universal_pretrain.probe import causal_loss, has_causal_loss
from hf_universal_pretrain.report import (
    bits_results,
    probe_results,
    probes_table,
    results_table,
    text_metrics,
    wall_seconds,
    write_results,
)


logger = logging.getLogger(__name__)


class BitsTrainer(ExactTrainer):
    """An [`ExactTrainer`] whose evaluation is bits per byte on windows of real text.

    Args:
        eval_windows: for each text, `(count, length)` uint8 windows (see `evaluation.cut_windows`). Metrics are
            `eval_NAME_bits_per_byte`, over the second half of each window, and kin (see `report.text_metrics`). Every
            process evaluates all windows.
        eval_probes: names of `evaluation.PROBES` to measure too, as `eval_probe_NAME_bits_per_symbol` and kin.
        probe_windows: windows of each probe, of `context_length` symbols.
        started_from: name of the model whose weights training starts from, for the card; None for random weights.
        compare_with: log histories of other runs, by name, to be drawn beside this one's.
        kwargs: as for [`ExactTrainer`].
    """

    def __init__(
        self,
        *,
        eval_windows: dict[str, Tensor] | None = None,
        eval_probes: Sequence[str] = (),
        probe_windows: int = 50,
        started_from: str | None = None,
        compare_with: dict[str, list[dict[str, float]]] | None = None,
        **kwargs: Any,
    ) -> None:
        self.eval_windows = eval_windows or {}
        self.eval_probes = eval_probes
        self.probe_windows = probe_windows
        self.started_from = started_from
        self.compare_with = compare_with or {}
        hide_token(kwargs["args"])
        kwargs.setdefault("data_collator", default_data_collator)
        if not has_causal_loss(kwargs["model"]):
            kwargs.setdefault("compute_loss_func", causal_loss)
        # the stock Trainer wants to see a dataset before it lets eval_strategy be anything but "no"
        super().__init__(eval_dataset=self.eval_windows or None, **kwargs)

    def evaluate(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> dict[str, float]:
        """Bits per byte on each text of `eval_windows`, as `{prefix}_{name}_bits_per_byte` and kin, and probes."""
        began, metrics = time.perf_counter(), {}
        batch, shown = (
            self.args.per_device_eval_batch_size,
            self.is_local_process_zero() and not self.args.disable_tqdm,
        )
        for name, windows in self.eval_windows.items():
            progress = f"Measuring {name}" if shown else None
            figures = text_figures(self.model, self.processing_class, windows, batch, progress)
            metrics |= text_metrics(f"{metric_key_prefix}_{name}", figures)
        for name in self.eval_probes:
            progress = f"Measuring {name}" if shown else None
            figures = probe_figures(
                self.model, self.processing_class, name, self.context_length, self.probe_windows, batch, progress
            )
            metrics |= {f"{metric_key_prefix}_probe_{name}_{key}": value for key, value in figures.items()}
        metrics[f"{metric_key_prefix}_runtime"] = round(time.perf_counter() - began, 2)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def train(self, *args: Any, **kwargs: Any) -> Any:
        self.train_began, self.seconds_before = time.perf_counter(), None
        return super().train(*args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the training loss in bits, and the wall time of training so far (before a resume included)."""
        if "loss" in logs:
            logs["bits_per_token"] = logs["loss"] / math.log(2)
        if "loss" in logs or "train_runtime" in logs:
            if self.seconds_before is None:  # the log of the run that this one resumes, if any, is there by now
                self.seconds_before = wall_seconds(self.state.log_history)
            logs["seconds"] = round(self.seconds_before + time.perf_counter() - self.train_began, 2)
        super().log(logs, start_time)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As the stock one, but with `use_cache` on in what is saved: training turns it off, generating needs it."""
        self.model.config.use_cache = True
        super().save_model(output_dir, _internal_call)
        self.model.config.use_cache = self.args.use_cache

    def tokens_at(self, step: int) -> int:
        """Tokens that the model has been trained on after `step` steps, in all processes."""
        rows = self._train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return step * rows * self.context_length

    def finish(self) -> None:
        """Leaves a complete output folder: model, tokenizer, state, results, card and curves; prints the table.

        The texts are measured once more if the last evaluation was before the last step, or was of another model than
        the best one, which is what `load_best_model_at_end` leaves.
        """
        log = self.state.log_history
        measured = any("eval_runtime" in e and e["step"] == self.state.global_step for e in log)
        if self.eval_windows and (not measured or self.args.load_best_model_at_end):
            self.evaluate()
        with self.saving(self.args.output_dir):
            self.save_model(_internal_call=True)
            self.save_state()
            if self.is_world_process_zero():
                results, probes = bits_results(self), probe_results(self)
                write_results(results, probes, self.args.output_dir)
                write_model_card(self)
                write_run_file(self.args.output_dir, self.settings, finished_at=self.state.global_step)
        if self.is_world_process_zero():
            if results:
                print(results_table(results))
            if probes:
                print(probes_table(probes))
            print(f"The model is in {self.args.output_dir}")

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Creates the repository, unless the recipe has, and makes sure that it may be written to."""
        self.args.hub_token = token or self.args.hub_token
        self.args.hub_private_repo = self.args.hub_private_repo if private is None else private
        claim_model_repository(self.args)
        self.hub_model_id, self.push_in_progress = self.args.hub_model_id, None

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Writes this package's card instead of the stock one, as `push_to_hub` asks before it uploads.

        What a person has written into the card, here or on the Hub, is kept.
        """
        if self.is_world_process_zero():
            write_model_card(self, published_readme(self.hub_model_id))

    # The stock method pushes the output folder with a fixed list of files copied into it from the checkpoint, leaves
    # out a push while another runs, and never looks at how a push ended.
    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END:
            return
        running = self.push_in_progress is not None and not self.push_in_progress.is_done()
        if not running:
            self._warn_of_failed_pushes()
        if not running or self.args.hub_always_push:
            self.save_state()
            self.create_model_card()
        super()._push_from_checkpoint(checkpoint_folder)

    def _finish_current_push(self) -> None:
        super()._finish_current_push()
        self._warn_of_failed_pushes()

    def _warn_of_failed_pushes(self) -> None:
        if not self.args.push_to_hub or not self.is_world_process_zero() or self.push_in_progress is None:
            return
        for error in filter(None, (job.exception() for job in self.push_in_progress.jobs)):
            logger.warning(f"A push during training failed ({reason(error)}). The next one carries everything.")
        self.push_in_progress = None


class UPTrainer(BitsTrainer):
    """Universal pretraining: a [`~transformers.Trainer`] on a [`SyntheticUPDataset`].

    Each process draws from a stream of its own, which starts from (`stream_seed`, rank), lives on the GPU if there is
    one, and is saved in each checkpoint, so that a resumed run sees the rows it would have seen. With
    `args.global_stream` all processes run the same stream, and each takes its share of the rows.

    Args:
        train_dataset: the synthetic stream. It is restarted if it was made for another rank, world size or device.
        callbacks: added to [`BufferEnrichmentCallback`].
        kwargs: as for [`BitsTrainer`]; `args` should be a [`UPConfig`].

    Example:

    ```python
    dataset = SyntheticUPDataset(SyntheticUPConfig(machines="lstm", context_length=512), tokenizer=tokenizer)
    trainer = UPTrainer(model=model, args=UPConfig("out"), train_dataset=dataset, processing_class=tokenizer)
    trainer.train()
    ```
    """

    def __init__(
        self, *, train_dataset: SyntheticUPDataset, callbacks: list[TrainerCallback] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(
            train_dataset=train_dataset,
            context_length=train_dataset.config.context_length,
            callbacks=[BufferEnrichmentCallback(), *(callbacks or [])],
            **kwargs,
        )
        device = self.args.device if self.args.device.type == "cuda" else torch.device("cpu")
        rank, world_size = self.args.process_index, self.args.world_size
        if self.args.global_stream:
            rank, world_size = 0, 1
        wanted = (device.type, rank, world_size)
        if (train_dataset.random.device.type, train_dataset.rank, train_dataset.world_size) != wanted:
            train_dataset.start(device, rank, world_size)

    def get_train_dataloader(self) -> DataLoader:
        """A plain loader, which accelerate does not touch: no shard is dropped, no batch is fetched ahead.

        Its generator keeps the loader from drawing a seed from the global random state after that was restored, which
        would change dropout on resuming.
        """
        args = self.args
        share = (args.process_index, args.world_size, self._train_batch_size) if args.global_stream else None
        self.train_dataset.share = share
        return DataLoader(
            self.train_dataset,
            batch_size=self._train_batch_size,
            collate_fn=self.data_collator,
            generator=torch.Generator(),
        )

    def train(self, *args: Any, **kwargs: Any) -> Any:
        self.generation_before = self.train_dataset.generation_seconds
        return super().train(*args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds `synthetic_tokens` (all processes), `rounds`, and `generation_share`: of the wall time since `train`
        was called, the share that this process spent on generating; with a band also `acceptance`: of the rows
        generated so far, the share that went into the buffer."""
        if "loss" in logs or "train_runtime" in logs:
            spent = self.train_dataset.generation_seconds - self.generation_before
            logs["synthetic_tokens"] = self.tokens_at(self.state.global_step)
            logs["rounds"] = self.train_dataset.rounds
            logs["generation_share"] = round(spent / (time.perf_counter() - self.train_began), 4)
            if self.train_dataset.stage.band is not None:
                logs["acceptance"] = round(self.train_dataset.kept / self.train_dataset.tried, 4)
        self.state.epoch = self.state.global_step / self.args.max_steps  # restarts at 0 when resumed, otherwise
        super().log(logs, start_time)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Saves `synthetic_up_config.json` beside the model."""
        super().save_model(output_dir, _internal_call)
        if self.args.should_save:
            self.train_dataset.config.save_pretrained(output_dir or self.args.output_dir)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self.is_world_process_zero():
            self.train_dataset.config.save_pretrained(self.args.output_dir)
        super()._push_from_checkpoint(checkpoint_folder)

    # The stream is saved and restored where the random states are: on every rank, inside the checkpoint before it is
    # pushed or rotated, and (with ignore_data_skip) right before the first batch.
    def _stream_file(self, checkpoint: str) -> Path:
        return Path(checkpoint) / f"synthetic_stream_{self.train_dataset.rank}.pt"

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        if self.args.should_save or not self.args.global_stream:
            torch.save(self.train_dataset.state_dict(), self._stream_file(output_dir))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        if checkpoint is None:
            return
        path, dataset = self._stream_file(checkpoint), self.train_dataset
        state = torch.load(path, map_location="cpu", weights_only=True) if path.is_file() else {}
        mine = {"world_size": dataset.world_size, "device": dataset.random.device.type}
        if all(state.get(name) == value for name, value in mine.items()):
            dataset.load_state_dict(state)
            return
        if self.is_world_process_zero():
            logger.warning(
                f"{checkpoint} has no state for {mine['world_size']} stream(s) on {mine['device']}: each process goes "
                "on with a fresh stream. From here on the rows are not those of a run that was never stopped."
            )
        dataset.start(dataset.random.device, dataset.rank, dataset.world_size, from_step=self.state.global_step)
        BufferEnrichmentCallback.enrich(dataset)
