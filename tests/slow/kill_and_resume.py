"""Kills a run with SIGKILL at random moments, until it is done in spite of it, again and again; compares the weights.

    python tests/slow/kill_and_resume.py --kills 100 --json out/kills.json
    python tests/slow/kill_and_resume.py --kills 50 --model qwen3_moe --processes 2 --json out/kills_moe.json

The run is `recipes/pretrain.py` with a small GPT-2 (dropout on), or a mixture of experts: 60 steps, a checkpoint
every 3. With several processes, now all of them are killed and now one, whose loss ends the others.

It is first run once without a kill. Then a new folder is begun, killed at a moment drawn from a seed (1, 2, 3, ... one
a start) and begun again with the same command, until it ends by itself; its final weights, and the state of its
streams, must be equal to those of the run that was never killed, bit for bit. This goes on until there were as many
kills as asked for. The span that moments are drawn from follows the speed of the machine: it grows with a kill, and
shrinks when a run got through.

Each run is a process of its own, which knows nothing but what is on the disk. It is forked from this one, which has
imported what takes most of the time of a start but computed nothing.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from hf_universal_pretrain.runs.checkpoints import checkpoints, fault


ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "recipes"))
import pretrain  # noqa: E402


STEPS = 60
MODELS = {
    "gpt2": "n_layer=2,n_embd=32,n_head=2,n_positions=64",
    "qwen3_moe": "num_hidden_layers=2,hidden_size=32,num_attention_heads=2,num_key_value_heads=1,head_dim=16,"
    "intermediate_size=32,moe_intermediate_size=16,num_experts=4,num_experts_per_tok=2,max_position_embeddings=64,"
    "attention_dropout=0.1",
}
COMMAND = [
    "pretrain.py", "--use_cpu",
    "--context_length", "32", "--machines", "lstm=0.5,context_tree=0.5", "--source_batch", "16", "--buffer_size", "64",
    "--rows_per_round", "8", "--redraw_every", "2", "--hidden_size", "16", "--burn_in_rounds", "4",
    "--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "2", "--max_steps", str(STEPS),
    "--save_steps", "3", "--logging_steps", "2", "--eval_steps", "30", "--eval_windows", "4",
]  # fmt: skip


def start(folder: Path, model: str, processes: int) -> list[int]:
    """Starts the run in new processes, with their output in `FOLDER.log`, and returns their numbers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [_start_one(folder, model, rank, processes, port) for rank in range(processes)]


def _start_one(folder: Path, model: str, rank: int, processes: int, port: int) -> int:
    process = os.fork()
    if process:
        return process
    log = os.open(f"{folder}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if processes > 1:  # what torchrun tells the processes that it starts
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
        os.environ |= {"LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    sys.argv = [*COMMAND, "--model", model, "--config_overrides", MODELS[model], "--output_dir", str(folder)]
    status = 1
    try:
        pretrain.main()
        status = 0
    except SystemExit as ended:
        status = int(ended.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def killed(folder: Path, model: str, processes: int, after: float, only: int | None = None) -> bool:
    """Runs once more and kills the run after so many seconds, or one of its processes; False if it was done before."""
    running = start(folder, model, processes)
    victims = running if only is None else [running[only % processes]]
    end = time.monotonic() + after
    while time.monotonic() < end:
        for process in list(running):
            done, status = os.waitpid(process, os.WNOHANG)
            if done:
                running.remove(process)
                if status:
                    raise SystemExit(f"a run ended with status {status}; see {folder}.log")
        if not running:
            return False
        time.sleep(0.002)
    hit = [process for process in victims if process in running]
    for process in hit:
        os.kill(process, signal.SIGKILL)
    patience = time.monotonic() + 300
    while running:
        done, _ = os.waitpid(running[0], os.WNOHANG)
        if done:
            running.pop(0)
        elif time.monotonic() > patience:
            raise SystemExit(f"process {running[0]} has not noticed that another one is dead; see {folder}.log")
        time.sleep(0.01)
    return bool(hit)


def result(folder: Path) -> dict[str, torch.Tensor]:
    """The final weights of a run, and what its streams hold at the end."""
    found = load_file(folder / "model.safetensors")
    for path in (folder / f"checkpoint-{STEPS}").glob("synthetic_stream_*.pt"):
        stream = torch.load(path, weights_only=True)
        found |= {f"{path.stem}.rows": stream["buffer"]["rows"], f"{path.stem}.generator": stream["generator"]}
    return found


def kill_and_resume(kills: int, model: str, processes: int, work: Path) -> dict[str, float]:
    began = time.monotonic()
    killed(work / "whole", model, processes, after=600)
    seconds = time.monotonic() - began
    expected = result(work / "whole")
    print(f"A run that is not killed takes {seconds:.1f} s.", flush=True)
    told = {"kills": 0, "runs": 0, "equal": 0, "while_writing_a_checkpoint": 0, "before_the_first": 0}
    starts, span = 0, 0.6 * seconds
    while told["kills"] < kills:
        folder = work / f"run-{told['runs']}"
        while told["kills"] < kills:
            starts += 1
            draw = random.Random(starts)
            after, only = draw.uniform(0, span), draw.choice([None, 0, 1])
            if not killed(folder, model, processes, after, only):
                span *= 0.8
                break
            span *= 1.05
            told["kills"] += 1
            there = checkpoints(folder)
            faults = [reason for reason in map(fault, there) if reason]
            told["while_writing_a_checkpoint"] += bool(faults)
            told["before_the_first"] += len(there) == len(faults)
        else:
            killed(folder, model, processes, after=600)
        told["runs"] += 1
        ended = result(folder)
        equal = ended.keys() == expected.keys() and all(torch.equal(ended[name], expected[name]) for name in expected)
        told["equal"] += equal
        print(f"{told['kills']:>4} kills, {told['runs']} runs, {told['equal']} ended equal", flush=True)
        if equal:
            shutil.rmtree(folder)
    return {**told, "seconds_of_a_run": round(seconds, 2), "seconds": round(time.monotonic() - began, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--model", choices=MODELS, default="gpt2")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--json", metavar="OUT")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    work = tempfile.mkdtemp(prefix="kills-")
    told = kill_and_resume(asked.kills, asked.model, asked.processes, Path(work))
    print(
        f"{told['kills']} kills ({told['while_writing_a_checkpoint']} while a checkpoint was being written), "
        f"{told['runs']} runs, {told['equal']} of them ended equal to the one that was never killed"
    )
    if asked.json:
        Path(asked.json).parent.mkdir(parents=True, exist_ok=True)
        Path(asked.json).write_text(json.dumps(told, indent=2) + "\n")
    if told["equal"] != told["runs"]:
        raise SystemExit(f"the others are in {work}")
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
