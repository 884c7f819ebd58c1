"""`StreamedTextTrainer`: a trainer on text that is read as it goes."""

import logging
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from hf_universal_pretrain.packed import StreamedBlocks
from hf_universal_pretrain.training.bits_trainer import BitsTrainer


logger = logging.getLogger(__name__)


class StreamedTextTrainer(BitsTrainer):
    """A [`BitsTrainer`] on [`StreamedBlocks`], whose place in the text is in each checkpoint, of every process.

    Its arguments must have `ignore_data_skip`, since the place is restored and not read up to, and `max_steps`.
    """

    train_dataset: StreamedBlocks

    def get_train_dataloader(self) -> DataLoader[dict[str, torch.Tensor]]:
        """A plain loader, which reads no batch ahead, and draws no seed of its own when a run goes on."""
        return DataLoader(
            self.train_dataset,
            batch_size=self._train_batch_size,
            collate_fn=self.data_collator,
            generator=torch.Generator(),
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As that of [`BitsTrainer`]; of the epoch, which has no length, the share of the steps is told."""
        self.state.epoch = self.state.global_step / self.args.max_steps
        super().log(logs, start_time)

    def _place_file(self, checkpoint: str) -> Path:
        return Path(checkpoint) / f"text_place_{self.args.process_index}.pt"

    # The place is saved and restored where the random states are: on every rank, right before the first batch.
    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        torch.save(self.train_dataset.state_dict(), self._place_file(output_dir))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        if checkpoint is None:
            return
        try:
            self.train_dataset.load_state_dict(torch.load(self._place_file(checkpoint), weights_only=True))
        except (OSError, ValueError):  # the checkpoint is that of another number of processes
            if self.args.process_index == 0:
                logger.warning(f"{checkpoint} has no place in the text for each process: all begin it again.")
