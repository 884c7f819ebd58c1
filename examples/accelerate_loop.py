"""A training loop of PyTorch and accelerate on the synthetic stream.

    python examples/accelerate_loop.py
    accelerate launch --num_processes 2 examples/accelerate_loop.py

Each process has a stream of its own, of its rank; so the loader is not given to accelerate, which would share one
stream out. State dictionaries of model, optimizer and stream are all that it takes to go on exactly.
"""

import os

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

from hf_universal_pretrain import SyntheticUPConfig, SyntheticUPDataset
from hf_universal_pretrain.models.build import build_config, build_model
from hf_universal_pretrain.models.tokenizers import build_tokenizer


STEPS = int(os.environ.get("STEPS", 200))

accelerator = Accelerator()
tokenizer = build_tokenizer("byte")
stream = SyntheticUPDataset(
    SyntheticUPConfig(machines="language@16=0.8,copies=0.2", context_length=128), tokenizer,
    rank=accelerator.process_index, world_size=accelerator.num_processes,
)  # fmt: skip
model = build_model(build_config("gpt2", tokenizer, "n_layer=2,n_embd=128,n_head=4"), seed=0)
model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95)))

for step, batch in enumerate(DataLoader(stream, batch_size=8)):
    if step == STEPS:
        break
    stream.step = step  # what a curriculum goes by
    loss = model(**{name: rows.to(accelerator.device) for name, rows in batch.items()}).loss
    accelerator.backward(loss)
    accelerator.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    if step % 20 == 0:
        accelerator.print(f"step {step}: {loss.item() / 0.6931:.3f} bits a token")

if accelerator.is_main_process:
    os.makedirs("out/accelerate_loop", exist_ok=True)
    accelerator.unwrap_model(model).save_pretrained("out/accelerate_loop")
    tokenizer.save_pretrained("out/accelerate_loop")
    torch.save({"stream": stream.state_dict(), "optimizer": optimizer.state_dict()}, "out/accelerate_loop/state.pt")
