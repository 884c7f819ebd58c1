"""The runs whose checkpoint, weights, losses and cards are pinned."""

import json
import os
import platform
import re
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file
from transformers import ByT5Tokenizer, GPT2Config, GPT2LMHeadModel

from hf_universal_pretrain import SyntheticUPConfig, SyntheticUPDataset, UPConfig, UPTrainer
from tests.invariant.streams import MIXTURE, SMALL


ROOT = Path(__file__).parent.parent.parent
PINNED = Path(__file__).parent / "pinned"
MIDWAY = "checkpoint-3"
SHAPE = {"n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 32}
COMMON = ["--use_cpu", "--disable_tqdm", "true", "--report_to", "none", "--eval_windows", "4"]
DATA = [
    "--machines", MIXTURE, "--context_length", "32", "--hidden_size", "16", "--source_batch", "16", "--buffer_size",
    "32", "--rows_per_round", "4", "--burn_in_rounds", "2", "--machines_per_round", "2", "--redraw_every", "3",
    "--reset_every", "2",
]  # fmt: skip
PRETRAIN = [
    "pretrain.py", "--model", "gpt2", "--config_overrides", ",".join(f"{k}={v}" for k, v in SHAPE.items()), *DATA,
    *COMMON, "--per_device_train_batch_size", "4", "--eval_text", "tale=tale.txt", "--max_steps", "6", "--save_steps",
    "3", "--logging_steps", "1", "--learning_rate", "1e-2", "--warmup_steps", "2", "--output_dir", "run",
]  # fmt: skip
FINETUNE = [
    "finetune.py", "--model", "run", "--train_file", "tale.txt", "--context_length", "32", *COMMON, "--max_steps", "4",
    "--warmup_steps", "2", "--per_device_train_batch_size", "4", "--save_strategy", "no", "--output_dir", "tuned",
]  # fmt: skip
EXPORT = ["export_dataset.py", *DATA, "--rows", "40", "--rows_per_shard", "24", "--num_proc", "1", "--output", "rows"]
# what makes a card, in which folder, and its name here; the second takes the model of the first
CARDS = ((PRETRAIN, "run", "pretrained"), (FINETUNE, "tuned", "finetuned"), (EXPORT, "rows", "exported"))


def run_recipe(command: list[str], folder: Path) -> str:
    """Runs a recipe on one thread in `folder`, where there is a text to measure on. Returns what it says on stderr."""
    (folder / "tale.txt").write_text("".join(f"{n} times {n} is {n * n}. " for n in range(400)))
    env = {
        **os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
        "LOCAL_WORLD_SIZE": str(os.cpu_count()),  # or the recipes take all cores where there is one thread
    }  # fmt: skip
    words = [sys.executable, str(ROOT / "recipes" / command[0]), *command[1:]]
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    return done.stderr


# ---- What is compared ----


def made_on() -> dict[str, str]:
    """What sums of floating-point numbers, and so their last bits, depend on."""
    return {
        "torch": torch.__version__, "machine": platform.machine(), "cpu": torch.backends.cpu.get_cpu_capability(),
        "model": _cpu_model(),
    }  # fmt: skip


def _cpu_model() -> str:
    """Vendor, family and model of the CPU, by which libraries choose how to multiply; "" where Linux does not tell."""
    info = Path("/proc/cpuinfo")
    lines = dict(re.findall(r"^([\w ]+?)\s*: (.*)$", info.read_text(), re.MULTILINE)) if info.is_file() else {}
    return " ".join(lines.get(name, "") for name in ("vendor_id", "cpu family", "model")).strip()


def weights(folder: Path) -> dict[str, Any]:
    """Of the model in a folder a CRC-32 of all weights, and the norm of each."""
    tensors = sorted(load_file(folder / "model.safetensors").items())
    crc = 0
    for name, tensor in tensors:
        crc = zlib.crc32(tensor.numpy().tobytes(), zlib.crc32(name.encode(), crc))
    return {"crc32": crc, "norms": {name: tensor.double().norm().item() for name, tensor in tensors}}


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def exported(folder: Path) -> dict[str, Any]:
    """Of each shard of an exported data set its rows, and its columns with their checksums."""
    figures = {}
    for path in sorted((folder / "data").glob("*.parquet")):
        table = pq.read_table(path)
        columns = {name: zlib.crc32(json.dumps(table[name].to_pylist()).encode()) for name in table.column_names}
        figures[path.name] = {"rows": table.num_rows, "columns": columns}
    return figures


def losses(folder: Path) -> list[float]:
    """Of ten steps of `UPTrainer`, the model as large as in the runs and the stream a mixture."""
    torch.manual_seed(0)
    tokenizer = ByT5Tokenizer(extra_ids=0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **SHAPE))
    data = SyntheticUPConfig(**{**SMALL, "machines": MIXTURE, "context_length": 32, "redraw_every": 3})
    args = UPConfig(
        str(folder), max_steps=10, per_device_train_batch_size=8, learning_rate=1e-2, warmup_steps=2, logging_steps=1,
        use_cpu=True, save_strategy="no", disable_tqdm=True, report_to="none",
    )  # fmt: skip
    trainer = UPTrainer(
        model=model, args=args, train_dataset=SyntheticUPDataset(data, tokenizer), processing_class=tokenizer
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


VARYING = {
    r"(hf_universal_pretrain: begin) \w+": r"\1 DIGEST",
    r"Versions: .*": "Versions: VERSIONS.",
    r"version = \{.*\}": "version = {VERSION}",
    r"download_size: \d+": "download_size: BYTES",
    r"\d+ CPU cores \(.*?\)": "HARDWARE",
    r"\b\d+ seconds\b": "TIME",
}


def card(folder: Path) -> str:
    """The card in a folder, without what differs from run to run and from machine to machine."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    for pattern, word in VARYING.items():
        text = re.sub(pattern, word, text)
    return text
