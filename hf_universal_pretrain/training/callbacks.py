"""The callback that enriches the buffer while the model trains."""

from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_universal_pretrain.stream.dataset import SyntheticUPDataset


class BufferEnrichmentCallback(TrainerCallback):
    """Runs the rounds that are due after each optimizer step, and the burn-in before the first.

    It keeps no state: what decides the stream's future is in the dataset, found through the train dataloader (which
    must not fetch ahead: [`UPTrainer`]'s does not).
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        dataset = kwargs["train_dataloader"].dataset
        dataset.enriches_itself = False
        if state.global_step == 0:  # a resumed stream is restored just before the first batch
            self.enrich(dataset, show_progress=state.is_local_process_zero and not args.disable_tqdm)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        dataset = kwargs["train_dataloader"].dataset
        dataset.step = state.global_step
        self.enrich(dataset)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        kwargs["train_dataloader"].dataset.enriches_itself = True

    @staticmethod
    def enrich(dataset: SyntheticUPDataset, show_progress: bool = False) -> None:
        """Runs the rounds that are due."""
        due = range(dataset.rounds_due())
        for _ in tqdm(due, "Filling the buffer", unit="round", disable=not (show_progress and due), leave=False):
            dataset.enrich()
