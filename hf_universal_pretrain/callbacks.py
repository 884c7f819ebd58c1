"""Callbacks: one enriches the buffer while the model trains, one tells how long the run will take."""

import time
from typing import Any

from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_universal_pretrain.dataset import SyntheticUPDataset


class BufferEnrichmentCallback(TrainerCallback):
    """Runs the rounds that are due after each optimizer step, and the burn-in before the first.

    It keeps no state: what decides the stream's future is in the dataset, found through the train dataloader (which
    must not fetch ahead: [`UPTrainer`]'s does not).
    """

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: DataLoader,
        **kwargs: Any,
    ) -> None:
        dataset: SyntheticUPDataset = train_dataloader.dataset
        dataset.enriches_itself = False
        if state.global_step == 0:  # a resumed stream is restored just before the first batch
            self.enrich(dataset, show_progress=state.is_local_process_zero and not args.disable_tqdm)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: DataLoader,
        **kwargs: Any,
    ) -> None:
        train_dataloader.dataset.step = state.global_step
        self.enrich(train_dataloader.dataset)

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: DataLoader,
        **kwargs: Any,
    ) -> None:
        train_dataloader.dataset.enriches_itself = True

    @staticmethod
    def enrich(dataset: SyntheticUPDataset, show_progress: bool = False) -> None:
        """Runs the rounds that are due."""
        due = dataset.rounds_due()
        for _ in tqdm(
            range(due), "Filling the buffer", unit="round", disable=not (show_progress and due), leave=False
        ):
            dataset.enrich()


class TimeEstimateCallback(TrainerCallback):
    """After the first steps, says how long the run will take at their pace. The very first is not timed (compilation).

    Args:
        steps: steps that are timed at most.
        seconds: time after which fewer steps will do.
    """

    def __init__(self, steps: int = 20, seconds: float = 10.0) -> None:
        self.steps, self.seconds = steps, seconds

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.first_step = state.global_step + 1
        self.told = not state.is_world_process_zero

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        now, timed = time.perf_counter(), state.global_step - self.first_step
        if timed == 0:
            self.began = now
        elif not self.told and (timed == self.steps or now - self.began > self.seconds):
            self.told = True
            pace = (now - self.began) / timed
            left = pace * (state.max_steps - state.global_step)
            shown = f"{pace:.2f} s" if pace > 0.1 else f"{1000 * pace:.1f} ms"
            tqdm.write(f"At {shown} a step on this device, the rest takes about {duration(left)}.")


def duration(seconds: float) -> str:
    """Seconds in words: `"40 seconds"`, `"12 minutes"`, `"3.5 hours"`."""
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    if seconds < 6000:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
