"""`UPTrainer`: a trainer on a synthetic stream."""

import logging
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, TrainerCallback, TrainingArguments

from hf_universal_pretrain.evaluation.reach import measure_reach
from hf_universal_pretrain.runs.record import RunRecord
from hf_universal_pretrain.stream.dataset import SyntheticUPDataset
from hf_universal_pretrain.training.bits_trainer import BitsTrainer
from hf_universal_pretrain.training.callbacks import BufferEnrichmentCallback
from hf_universal_pretrain.training.config import UPConfig, as_up_config


REACH_ROWS, REACH_DISTANCES = 48, (1, 2, 4, 16)
logger = logging.getLogger(__name__)


class UPTrainer(BitsTrainer):
    """Universal pretraining: a [`~transformers.Trainer`] on a [`SyntheticUPDataset`].

    Each process draws from a stream of its own, which starts from (`stream_seed`, rank), lives on the GPU if there is
    one, and is saved in each checkpoint, so that a resumed run sees the rows it would have seen.

    Args:
        model: as for [`BitsTrainer`].
        args: a [`UPConfig`]; other training arguments are made one (see `as_up_config`).
        train_dataset: the synthetic stream. It is restarted if it was made for another rank, world size or device.
        callbacks: added to [`BufferEnrichmentCallback`].
        kwargs: as for [`BitsTrainer`].

    Example:

    ```python
    dataset = SyntheticUPDataset(SyntheticUPConfig(machines="lstm", context_length=512), tokenizer=tokenizer)
    trainer = UPTrainer(model=model, args=UPConfig("out"), train_dataset=dataset, processing_class=tokenizer)
    trainer.train()
    ```
    """

    args: UPConfig
    train_dataset: SyntheticUPDataset

    def __init__(
        self,
        model: PreTrainedModel,
        args: TrainingArguments,
        *,
        train_dataset: SyntheticUPDataset,
        callbacks: list[TrainerCallback] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            model,
            as_up_config(args),
            train_dataset=train_dataset,
            context_length=train_dataset.config.context_length,
            callbacks=[BufferEnrichmentCallback(), *(callbacks or [])],
            **kwargs,
        )
        self.told = train_dataset.config.tokens
        self.held_out: dict[int, torch.Tensor] = {}  # rows that are not trained on, of the stage that is measured
        device = self.args.device if self.args.device.type == "cuda" else torch.device("cpu")
        rank, world_size = self.args.process_index, self.args.world_size
        wanted = (device.type, rank, world_size)
        if (train_dataset.random.device.type, train_dataset.rank, train_dataset.world_size) != wanted:
            train_dataset.start(device, rank, world_size)

    def get_train_dataloader(self) -> DataLoader[dict[str, torch.Tensor]]:
        """A plain loader, which accelerate does not touch: no shard is dropped, no batch is fetched ahead.

        Its generator keeps the loader from drawing a seed from the global random state after that was restored, which
        would change dropout on resuming.
        """
        return DataLoader(
            self.train_dataset,
            batch_size=self._train_batch_size,
            collate_fn=self.data_collator,
            generator=torch.Generator(),
        )

    def train(self, *args: Any, **kwargs: Any) -> Any:
        self.generation_before = self.train_dataset.generation_seconds
        try:
            return super().train(*args, **kwargs)
        finally:  # the callback's end of training does not come after an error or Ctrl-C
            self.train_dataset.enriches_itself = True

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds `synthetic_tokens` (all processes), `rounds`, and `generation_share`: of the wall time since `train`
        was called, the share that this process spent on generating; with a band also `acceptance`: of the rows
        generated so far, the share that went into the buffer."""
        if "loss" in logs or "train_runtime" in logs:
            spent = self.train_dataset.generation_seconds - self.generation_before
            logs["synthetic_tokens"] = self.tokens_at(self.state.global_step)
            logs["rounds"] = self.train_dataset.rounds
            logs["generation_share"] = round(spent / (time.perf_counter() - self.train_began), 4)
            if self.train_dataset.mixture.stage.band is not None:
                logs["acceptance"] = round(self.train_dataset.kept / self.train_dataset.tried, 4)
        self.state.epoch = self.state.global_step / self.args.max_steps  # restarts at 0 when resumed, otherwise
        super().log(logs, start_time)

    def metric_names(self) -> list[str]:
        return [*super().metric_names(), "eval_reach_bits"]

    def measure_more(self, prefix: str) -> tuple[dict[str, float], dict[str, Any] | None]:
        """How far back the model looks, on held-out rows of the stage that the stream is in (see `evaluation.reach`):
        the log has `{prefix}_reach_bits`, what it gains from further back than the last token."""
        stage = self.train_dataset.mixture.stage_number
        if stage not in self.held_out:
            self.held_out = {stage: self.train_dataset.held_out_rows(REACH_ROWS).cpu()}
        reach = measure_reach(
            self.model, self.held_out[stage], REACH_DISTANCES, self.args.per_device_eval_batch_size,
            "Measuring reach" if self.is_local_process_zero() and not self.args.disable_tqdm else None,
        )  # fmt: skip
        return {f"{prefix}_reach_bits": reach.gain}, asdict(reach)

    def record(self) -> RunRecord:
        logged = next((int(entry["rounds"]) for entry in reversed(self.state.log_history) if "rounds" in entry), 0)
        rounds = self.train_dataset.rounds or logged  # a trainer of a finished run has made none
        return replace(super().record(), data=self.train_dataset.config, rounds=rounds)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Saves `synthetic_up_config.json` beside the model."""
        super().save_model(output_dir, _internal_call)
        if self.args.should_save:
            self.train_dataset.config.save_pretrained(output_dir or self.folder)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self.is_world_process_zero():
            self.train_dataset.config.save_pretrained(self.folder)
        super()._push_from_checkpoint(checkpoint_folder)

    # The stream is saved and restored where the random states are: on every rank, inside the checkpoint before it is
    # pushed or rotated, and (with ignore_data_skip) right before the first batch.
    def _stream_file(self, checkpoint: str) -> Path:
        return Path(checkpoint) / f"synthetic_stream_{self.train_dataset.rank}.pt"

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
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
