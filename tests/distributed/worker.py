"""Trains in several processes, gloo between them; started as `python worker.py SPEC.json` by `run_workers`.

The imports take longer than all else, so this process does them once, and then forks the processes of one run after
the other, each with what a launcher sets. SPEC is a list of runs: their `name`, `world_size`, `batch`, `accumulation`,
`max_steps`, the checkpoint to `resume` from, a `signal` that one rank gets at the end of a step (`[rank, step]`),
whether it is `fsdp`, and the `model`; or the `text` that is trained on, as `blocks` from disk or as a `stream`. Each
process leaves NAME-RANK.pt: what it saw and what it ended with.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback, TrainingArguments, default_data_collator

from hf_universal_pretrain import SyntheticUPConfig, SyntheticUPDataset, UPConfig, UPTrainer
from hf_universal_pretrain.corpus import open_files
from hf_universal_pretrain.models.build import build_config, build_model
from hf_universal_pretrain.models.tokenizers import build_tokenizer
from hf_universal_pretrain.packed import StreamedBlocks, TokenBlocks
from hf_universal_pretrain.training.bits_trainer import BitsTrainer
from hf_universal_pretrain.training.interrupts import StopOnSignal
from hf_universal_pretrain.training.text_trainer import StreamedTextTrainer


TINY = "n_layer=2,n_embd=16,n_head=2,n_positions=32"
NEOX = "num_hidden_layers=2,hidden_size=16,num_attention_heads=2,intermediate_size=32,max_position_embeddings=32"
CALM = TINY + ",resid_pdrop=0,embd_pdrop=0,attn_pdrop=0"  # dropout differs between ranks


def run_workers(folder: Path, runs: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """What each process of each run left, by the name of the run and in the order of ranks."""
    (folder / "spec.json").write_text(json.dumps(runs))
    command = [sys.executable, "-m", "tests.distributed.worker", str(folder / "spec.json")]
    env = {**os.environ, "OMP_NUM_THREADS": "01"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=env, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr[-3000:]
    (folder / "stderr").write_text(done.stderr)
    return {
        run["name"]: [
            torch.load(folder / f"{run['name']}-{rank}.pt", weights_only=True) for rank in range(run["world_size"])
        ]
        for run in runs
    }


class SignalAt(TrainerCallback):
    def __init__(self, rank: int, step: int) -> None:
        self.rank, self.step = rank, step

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if (args.process_index, state.global_step) == (self.rank, self.step):
            os.kill(os.getpid(), signal.SIGTERM)


def train(folder: Path, run: dict[str, Any]) -> None:
    tokenizer = build_tokenizer("byte")
    data = SyntheticUPConfig(
        machines="lstm=0.5,context_tree=0.5", context_length=32, num_layers=1, hidden_size=16, source_batch=8,
        buffer_size=32, rows_per_round=8, machines_per_round=2, burn_in_rounds=2,
    )  # fmt: skip
    args = UPConfig(
        str(folder / run.get("output", run["name"])), max_steps=run.get("max_steps", 5),
        per_device_train_batch_size=run["batch"], gradient_accumulation_steps=run.get("accumulation", 1), use_cpu=True,
        warmup_steps=1, save_steps=2, save_total_limit=None, logging_steps=1, disable_tqdm=True, learning_rate=1e-2,
    )  # fmt: skip
    if run.get("fsdp"):
        _use_fsdp_without_gpus()
    dataset, rows = SyntheticUPDataset(data, tokenizer), []

    def collate(features: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        batch = default_data_collator(features)
        rows.append(batch["input_ids"])
        return batch

    stop = StopOnSignal()
    name = run.get("model", "gpt2")
    overrides = NEOX if name == "gpt_neox" else TINY
    trainer = UPTrainer(
        model=build_model(build_config(name, tokenizer, overrides), run.get("seed", 0)), args=args,
        train_dataset=dataset, processing_class=tokenizer, data_collator=collate,
        callbacks=[*([SignalAt(*run["signal"])] if "signal" in run else []), stop],
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=run.get("resume") and str(folder / run["resume"]))
    weights = {
        name: weight.full_tensor() if isinstance(weight, DTensor) else weight
        for name, weight in trainer.model.state_dict().items()
    }
    left = {
        "rank": args.process_index, "world_size": args.world_size, "rounds": dataset.rounds, "rows": torch.cat(rows),
        "weights": weights, "buffer": dataset.buffer.rows, "history": trainer.state.log_history,
        "step": trainer.state.global_step, "stopped_by": int(stop.received), "drawn": dataset.rows_served,
        "sharded": any(isinstance(weight, DTensor) for weight in trainer.model.parameters()),
    }  # fmt: skip
    torch.save(left, folder / f"{run['name']}-{args.process_index}.pt")


def train_on_text(folder: Path, run: dict[str, Any]) -> None:
    tokenizer, streams = build_tokenizer("byte"), run["text"] == "stream"
    args = TrainingArguments(
        str(folder / run["name"]), max_steps=run["max_steps"], per_device_train_batch_size=run["batch"], use_cpu=True,
        save_steps=2, save_total_limit=None, disable_tqdm=True, learning_rate=1e-2, ignore_data_skip=streams,
    )  # fmt: skip
    corpus, rows = open_files(str(folder / "text.jsonl"), "text", "--train_file"), []
    place = (args.process_index, args.world_size)
    blocks = StreamedBlocks(corpus, tokenizer, 32, 0, *place) if streams else TokenBlocks(corpus, tokenizer, 32)

    def collate(features: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        batch = default_data_collator(features)
        rows.append(batch["input_ids"])
        return batch

    trainer = (StreamedTextTrainer if streams else BitsTrainer)(
        model=build_model(build_config("gpt2", tokenizer, CALM), run.get("seed", 0)), args=args, context_length=32,
        train_dataset=blocks, processing_class=tokenizer, data_collator=collate,
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=run.get("resume") and str(folder / run["resume"]))
    left = {"rows": torch.cat(rows), "weights": dict(trainer.model.state_dict()), "step": trainer.state.global_step}
    torch.save(left, folder / f"{run['name']}-{args.process_index}.pt")


def _use_fsdp_without_gpus() -> None:
    """accelerate turns FSDP on only where it believes that there are accelerators; torch's own runs on CPUs too."""
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType

    os.environ |= {
        "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT", "FSDP_RESHARD_AFTER_FORWARD": "true",
        "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
    }  # fmt: skip
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU


def main() -> None:
    spec = Path(sys.argv[1])
    torch.set_num_threads(1)
    for run in json.loads(spec.read_text()):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        world = {"WORLD_SIZE": run["world_size"], "LOCAL_WORLD_SIZE": run["world_size"], "MASTER_PORT": port}
        children = []
        for rank in range(run["world_size"]):
            child = os.fork()
            if child == 0:
                if run["world_size"] > 1:
                    ranks = {"RANK": rank, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1"}
                    os.environ |= {name: str(value) for name, value in {**world, **ranks}.items()}
                status = 1
                try:
                    (train_on_text if "text" in run else train)(spec.parent, run)
                    status = 0
                except BaseException:
                    traceback.print_exc()
                sys.stderr.flush()
                os._exit(status)
            children.append(child)
        if any(os.waitpid(child, 0)[1] for child in children):
            raise SystemExit(f"run {run['name']} failed")


if __name__ == "__main__":
    main()
