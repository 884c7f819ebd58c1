"""Does on a GPU, in at most ten minutes, what is to hold and to be fast there, and leaves one JSON.

    python recipes/measure/gpu_check.py --json out/gpu_check.json
    python recipes/measure/gpu_check.py --json out/gpu_check.json --parts graphs resume
    python recipes/measure/gpu_check.py --json out/gpu_check.json --tiny     # the same in small, on a CPU

Parts: `graphs` (rows from CUDA graphs are those of single kernels), `beside` (rows do not depend on what the GPU does
beside), `resume` (a run that goes on ends with the weights of one that was never stopped), `generation` (symbols a
second of LSTMs on 256 to 65,536 rows beside a loop over `torch.nn.LSTM` and, if it is installed, x-transformers),
`training` (`UPTrainer` beside a stock `Trainer`), `memory`, `gpt2` (gpt2.yaml for two minutes), `compare` (a start
against random weights at 25M weights, cut short). What fails is told in its part; the others go on.
"""

import argparse
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch


sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmark import inputs, plain_loops, take_turns

from hf_universal_pretrain import SyntheticUPConfig, SyntheticUPDataset, UPConfig, UPTrainer
from hf_universal_pretrain.errors import first_line
from hf_universal_pretrain.machines.recurrent import RecurrentFamily
from hf_universal_pretrain.models.build import build_config, build_model
from hf_universal_pretrain.models.tokenizers import build_tokenizer
from measure.training import DEVICE, NO_DROPOUT, ON_GPU, memory, step_seconds, training


RECIPES = Path(__file__).parent.parent
SMALL = f"n_layer=2,n_embd=64,n_head=2,n_positions=64,{NO_DROPOUT}"


def graphs(tiny: bool) -> dict[str, Any]:
    """Rows of the same machines, with and without CUDA graphs."""
    shares = {}
    for cell in ("lstm", "gru"):
        family = RecurrentFamily(cell=cell, num_layers=2, hidden_size=32, machines_per_round=4)
        rows, length = (8, 32) if tiny else (1024, 512)
        drawn = family.draw(rows, torch.Generator(DEVICE).manual_seed(0))
        seeds, conditions = inputs(rows, length, 256, torch.Generator(DEVICE).manual_seed(1))
        made = [drawn.generate(seeds, conditions, torch.Generator(DEVICE).manual_seed(2))]
        with patch("hf_universal_pretrain.machines.recurrent.replayed", lambda step, *example: step):
            made.append(drawn.generate(seeds, conditions, torch.Generator(DEVICE).manual_seed(2)))
        shares[cell] = (made[0] == made[1]).all(1).float().mean().item()
    return {"equal_rows": shares}


def beside(tiny: bool) -> dict[str, Any]:
    """Buffers after some rounds, alone and with matrix products on the main stream."""
    buffers, size = [], 64 if tiny else 4096
    for busy in (False, True):
        stream = SyntheticUPDataset(SyntheticUPConfig(machines="lstm", context_length=64), device=DEVICE)
        work = torch.randn(size, size, device=DEVICE)
        for _ in range(3):
            stream.enrich()
            for _ in range(20 if busy else 0):
                work = (work @ work).tanh()
            stream.draw(8)
        buffers.append(stream.state_dict()["buffer"])
    return {"equal": all(torch.equal(value, buffers[1][name]) for name, value in buffers[0].items())}


def resume(tiny: bool) -> dict[str, Any]:
    """Six steps, and the last three again from the checkpoint in the middle."""
    tokenizer = build_tokenizer("byte")

    def train(folder: Path, checkpoint: Path | None) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        data = SyntheticUPConfig(machines="lstm=0.5,context_tree=0.5", context_length=64, burn_in_rounds=2)
        stream = SyntheticUPDataset(data, tokenizer)
        args = UPConfig(
            str(folder), max_steps=6, save_steps=3, per_device_train_batch_size=4, disable_tqdm=True, bf16=ON_GPU,
            use_cpu=not ON_GPU, report_to="none",
        )  # fmt: skip
        model = build_model(build_config("gpt2", tokenizer, SMALL), 0)
        trainer = UPTrainer(model=model, args=args, train_dataset=stream, processing_class=tokenizer)
        trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
        return model.state_dict(), stream.buffer.rows.clone()

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        whole, rows = train(Path(folder) / "a", None)
        again, rows_again = train(Path(folder) / "b", Path(folder) / "a" / "checkpoint-3")
    return {
        "equal_stream": torch.equal(rows, rows_again),
        "equal_weights": all(torch.equal(value, again[name]) for name, value in whole.items()),
        "largest_difference": max((value - again[name]).abs().max().item() for name, value in whole.items()),
    }


def generation(tiny: bool) -> dict[str, Any]:
    """LSTMs of 1 and 4 layers of 128, one machine a round."""
    table, length = [], 16 if tiny else 512
    for layers in (1, 4):
        for rows in (32,) if tiny else (256, 1024, 4096, 16_384, 65_536):
            generator = torch.Generator(DEVICE).manual_seed(0)
            family = RecurrentFamily(num_layers=layers, hidden_size=128, machines_per_round=1, gain_range=(3.0, 3.0))
            drawn = family.draw(rows, generator)
            seeds, conditions = inputs(rows, length, 256, generator)
            contestants: dict[str, Callable[[], Any]] = {
                "ours": lambda d=drawn, s=seeds, c=conditions, g=generator: d.generate(s, c, g),
                "nn_lstm": plain_loops(drawn, seeds, conditions),
            }
            with contextlib.suppress(ImportError):
                from x_transformers.up_wrapper import SyntheticDataGenerator

                torch.compiler.set_stance("force_eager")  # its compilation would unroll the loop over the row
                theirs = SyntheticDataGenerator(dim=128, num_tokens=256, max_seq_len=length).to(DEVICE)
                if layers == 1:
                    contestants["x_transformers"] = lambda t=theirs, s=seeds: t.generate(length - 8, seed=s)
            took = take_turns(contestants, 1)
            torch.compiler.set_stance("default")
            table.append({"layers": layers, "rows": rows} | {n: rows * length / took[n] for n in took})
    return {"symbols_per_second": table}


def trainers(tiny: bool) -> dict[str, Any]:
    """Steps of both trainers; on a GPU of GPT-2 small in bf16, compiled."""
    if not tiny:
        return training(1)
    return {kind: step_seconds(kind, SMALL, 32, 2, 4) for kind in ("enriched", "stock_trainer")}


def peaks(tiny: bool) -> dict[str, Any]:
    """Megabytes of the stream and of training steps."""
    return {} if tiny else memory(512)


def gpt2(tiny: bool) -> dict[str, Any]:
    """What gpt2.yaml logs within two minutes."""
    flags = ["--max_steps", "1000000", "--eval_strategy", "no", "--eval_on_start", "false", "--logging_steps", "10"]
    if tiny:
        flags = ["--config_overrides", "n_layer=1,n_embd=32,n_head=2", "--context_length", "64", "--max_steps", "3"]
        flags += ["--per_device_train_batch_size", "2", "--source_batch", "64", "--buffer_size", "128", "--use_cpu"]
        flags += ["--rows_per_round", "64", "--machines_per_round", "2", "--torch_compile", "false", "--bf16", "false"]
        flags += ["--num_resets", "4", "--eval_windows", "2", "--logging_steps", "1"]
    with tempfile.TemporaryDirectory() as folder:
        command(["pretrain.py", "--config", str(RECIPES / "configs" / "gpt2.yaml"), *flags], Path(folder), 120)
        found = sorted(Path(folder).rglob("trainer_state.json"), key=lambda path: path.stat().st_mtime)
        log = [entry for entry in json.loads(found[-1].read_text())["log_history"] if "loss" in entry]
    return {"log": log[:: max(1, len(log) // 20)]}


def compare(tiny: bool) -> dict[str, Any]:
    """The comparison of compare_gpu.yaml, two arms and one seed of it, on the standard library."""
    size, length, sweep = [], "512", "50"
    pretrain: dict[str, Any] = {"max_steps": 150, "warmup_steps": 20, "bf16": ON_GPU}
    finetune = dict(pretrain)
    if tiny:
        size, length, sweep = ["--config_overrides", "n_layer=1,n_embd=32,n_head=2,n_positions=32"], "32", "1"
        finetune = {"max_steps": 2, "warmup_steps": 1, "per_device_train_batch_size": 2, "use_cpu": True}
        pretrain = finetune | {"source_batch": 32, "buffer_size": 64}
    flags = [
        "--config", str(RECIPES / "configs" / "compare_gpu.yaml"), "--train_file", "stdlib", "--seeds", "0", *size,
        "--context_length", length, "--arms", json.dumps({"scratch": {}, "up": {"pretrain": {}}}),
        "--learning_rates", "1e-3", "--sweep_steps", sweep, "--pretrain", json.dumps(pretrain),
        "--finetune", json.dumps(finetune),
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        command(["compare.py", *flags, "--output_dir", "compared"], Path(folder), 180)
        results: dict[str, Any] = json.loads((Path(folder) / "compared" / "comparison.json").read_text())["arms"]
    return {name: arm.get("curves") for name, arm in results.items()}


def command(words: list[str], folder: Path, most: float) -> None:
    """Runs a recipe in a folder; after `most` seconds it is asked to save and stop."""
    words = [sys.executable, str(RECIPES / words[0]), *words[1:]]
    if words[1].endswith("pretrain.py"):
        words += ["--output_dir", "out"]
    env = {**os.environ, "PYTHONPATH": str(RECIPES.parent)}
    with (folder / "log").open("w") as log:
        child = subprocess.Popen(words, cwd=folder, env=env, stdout=log, stderr=log)
        try:
            status = child.wait(most)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGTERM)
            status = 0 if child.wait(60) in (0, 143) else child.returncode
    if status:
        raise RuntimeError((folder / "log").read_text().strip().splitlines()[-1])


PARTS: dict[str, Callable[[bool], dict[str, Any]]] = {
    "graphs": graphs, "beside": beside, "resume": resume, "generation": generation, "training": trainers,
    "memory": peaks, "gpt2": gpt2, "compare": compare,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", required=True)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    if not ON_GPU and not args.tiny:
        parser.error("there is no GPU: give --tiny")
    device = torch.cuda.get_device_name() if ON_GPU else "cpu"
    results: dict[str, Any] = {"device": device, "torch": torch.__version__, "tiny": args.tiny}
    for name in args.parts:
        began = time.perf_counter()
        try:
            found = PARTS[name](args.tiny)
        except Exception as error:  # the other parts are to be measured all the same
            found = {"error": first_line(error)}
        results[name] = found | {"seconds": round(time.perf_counter() - began, 1)}
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
        Path(args.json).write_text(json.dumps(results, indent=1) + "\n")
        print(name, json.dumps(results[name])[:300], flush=True)


if __name__ == "__main__":
    main()
