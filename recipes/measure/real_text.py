"""Memory and time of `hf-up finetune` on texts of 10 MB, 200 MB and 2 GB, with a BPE tokenizer.

    python recipes/measure/real_text.py --text english.txt.gz --json recipes/results/real_text.json

Each text is the given one again and again, its lines in another order each time. It is trained on twice, four steps in
a process of its own on one thread: the first time its tokens are made and kept on disk, the second they are there.
Peaks are those of the resident set, beside the peak of the same run on 1 MB; times are those of the whole process, its
start included: what the processor spent on it, and what a clock showed. Everything is written to a temporary folder
and deleted.
"""

import argparse
import gzip
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from hf_universal_pretrain.models.build import build_config, build_model


ROOT = Path(__file__).parent.parent.parent
FLAGS = [
    "--max_steps", "4", "--eval_windows", "8", "--context_length", "256", "--save_strategy", "no", "--use_cpu",
    "--disable_tqdm", "true", "--eval_strategy", "no", "--eval_on_start", "false",
]  # fmt: skip


def make_model(folder: Path, lines: list[str]) -> None:
    """A GPT-2 of 4 layers of width 256 and a byte-level BPE of 16,000 tokens, made from the text."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=16_000, show_progress=False, initial_alphabet=alphabet, special_tokens=["<eos>"]
    )
    core.train_from_iterator(lines, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>", pad_token="<eos>")
    model = build_model(build_config("gpt2", tokenizer, "n_layer=4,n_embd=256,n_head=4,n_positions=256"), 0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_text(path: Path, lines: list[str], megabytes: int) -> None:
    order, size = random.Random(0), 0
    with path.open("w", encoding="utf-8") as file:
        while True:
            order.shuffle(lines)
            for line in lines:
                if size >= megabytes * 1_000_000:
                    return
                size += len(line.encode("utf-8"))
                file.write(line)


def run(folder: Path) -> dict[str, float]:
    """Seconds and peak MB of a training on `text.txt`."""
    command = [sys.executable, str(ROOT / "recipes" / "finetune.py"), "--model", "model", "--train_file", "text.txt"]
    env = {**os.environ, "HF_DATASETS_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
    output = folder / f"out-{time.monotonic_ns()}"
    began = time.perf_counter()
    with (folder / "log").open("w") as log:
        child = subprocess.Popen(
            [*command, *FLAGS, "--output_dir", str(output)], cwd=folder, env=env, stdout=log, stderr=log
        )
        _, status, used = os.wait4(child.pid, 0)
    if status:
        raise RuntimeError((folder / "log").read_text()[-2000:])
    return {
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "seconds": round(time.perf_counter() - began, 1),
        "mb": round(used.ru_maxrss * 1024 / 1e6),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", required=True)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[10, 200, 2000])
    parser.add_argument("--json")
    args = parser.parse_args()
    opened = gzip.open if args.text.endswith(".gz") else open
    with opened(args.text, "rt", encoding="utf-8") as file:
        lines = file.readlines()
    cpu = f"{os.cpu_count()} cores {platform.machine()}"
    results: dict[str, Any] = {"command": " ".join(sys.orig_argv[1:]), "cpu": cpu, "runs": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_model(folder / "model", lines)
        least = 0.0
        for megabytes in [1, *args.megabytes]:
            write_text(folder / "text.txt", lines, megabytes)
            first, again = run(folder), run(folder)
            least = least or first["mb"]
            kept = sum(path.stat().st_size for path in (folder / "cache").rglob("*.arrow"))
            above = max(first["mb"], again["mb"]) - least
            row = {"megabytes": megabytes, "first": first, "cached": again, "above_mb": above, "kept_mb": kept / 1e6}
            print(row, flush=True)
            results["runs"].append(row)
            subprocess.run(["rm", "-rf", str(folder / "cache")], check=True)
            if args.json:
                Path(args.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
