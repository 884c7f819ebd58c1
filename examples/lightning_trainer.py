"""Lightning's Trainer on the synthetic stream.

pip install lightning
python examples/lightning_trainer.py
"""

import os

import lightning
import torch
from torch.utils.data import DataLoader

from hf_universal_pretrain import SyntheticUPConfig, SyntheticUPDataset
from hf_universal_pretrain.models.build import build_config, build_model
from hf_universal_pretrain.models.tokenizers import build_tokenizer


STEPS = int(os.environ.get("STEPS", 200))


class LanguageModel(lightning.LightningModule):
    """A small GPT-2. Lightning's checkpoints hold the stream's state too, so that a run goes on with the next rows."""

    def __init__(self) -> None:
        super().__init__()
        tokenizer = build_tokenizer("byte")
        data = SyntheticUPConfig(machines="language@16", context_length=128)
        self.stream = SyntheticUPDataset(data, tokenizer)
        self.model = build_model(build_config("gpt2", tokenizer, "n_layer=2,n_embd=128,n_head=4"), seed=0)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.stream, batch_size=8)

    def training_step(self, batch: dict[str, torch.Tensor], number: int) -> torch.Tensor:
        loss = self.model(**batch).loss
        self.log("bits_per_token", loss.detach() / 0.6931, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3, betas=(0.9, 0.95))

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["stream"] = self.stream.state_dict()

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        self.stream.load_state_dict(checkpoint["stream"])


trainer = lightning.Trainer(
    max_steps=STEPS, accelerator="cpu", devices=1, gradient_clip_val=1.0, logger=False,
    default_root_dir="out/lightning", log_every_n_steps=20,
)  # fmt: skip
trainer.fit(LanguageModel())
