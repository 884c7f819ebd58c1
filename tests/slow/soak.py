"""Lets `recipes/pretrain.py` run for a long time and says whether its memory stays flat.

    python tests/slow/soak.py --minutes 30 --json out/soak.json

A small GPT-2 trains, evaluates, logs and saves as a long run does, all of it often. Its resident memory, that of
its child processes included, and its open files are read once a second. After the first fifth of the time, through
which caches fill, a line is fitted to the memory: flat means that it rises by less than 2 % of the mean from there to
the end. The run is then stopped as a user would, with SIGTERM, which must end it with status 143.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil


ROOT = Path(__file__).parents[2]
COMMAND = [
    sys.executable, str(ROOT / "recipes" / "pretrain.py"), "--model", "gpt2", "--config_overrides",
    "n_layer=2,n_embd=64,n_head=2,n_positions=128", "--use_cpu", "--context_length", "128", "--source_batch", "64",
    "--buffer_size", "512", "--rows_per_round", "64", "--hidden_size", "32", "--per_device_train_batch_size", "8",
    "--machines", "context_tree=0.6,lstm=0.2,nca=0.2", "--complexity", "0.2:0.95", "--max_steps",
    "100000000", "--logging_steps", "200", "--eval_steps", "1000", "--save_steps", "500", "--eval_windows", "10",
    "--disable_tqdm", "true", "--burn_in_rounds", "4",
]  # fmt: skip


def sample(process: psutil.Process) -> tuple[int, int]:
    """Resident bytes and open files of a process and its children."""
    family = [process, *process.children(recursive=True)]
    return sum(member.memory_info().rss for member in family), sum(member.num_fds() for member in family)


def soak(minutes: float, folder: Path) -> dict[str, object]:
    with open(folder / "log", "w") as log:
        run = subprocess.Popen([*COMMAND, "--output_dir", str(folder / "run")], stdout=log, stderr=log)
    began, samples = time.monotonic(), []
    while (seconds := time.monotonic() - began) < 60 * minutes:
        if run.poll() is not None:
            raise SystemExit(f"the run ended by itself, with status {run.returncode}; see {folder}/log")
        samples.append((seconds, *sample(psutil.Process(run.pid))))
        time.sleep(1)
    run.send_signal(signal.SIGTERM)
    status = run.wait(timeout=60)
    seconds, memory, files = np.array([s for s in samples if s[0] > 12 * minutes], dtype=float).T
    slope = np.polyfit(seconds, memory, 1)[0]
    rise = slope * (seconds[-1] - seconds[0]) / memory.mean()
    state = json.loads(next((folder / "run").glob("checkpoint-*/trainer_state.json")).read_text())
    return {
        "minutes": minutes,
        "steps": state["global_step"],
        "status": status,
        "mean_mb": round(memory.mean() / 1e6, 1),
        "highest_mb": round(memory.max() / 1e6, 1),
        "slope_mb_per_hour": round(slope * 3600 / 1e6, 3),
        "rise": round(rise, 5),
        "open_files": [int(files.min()), int(files.max())],
        "flat": bool(rise < 0.02 and files.max() <= files.min() + 20),
        "mb_every_30_s": [round(rss / 1e6, 1) for _, rss, _ in samples[::30]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--json", metavar="OUT")
    asked = parser.parse_args()
    told = soak(asked.minutes, Path(tempfile.mkdtemp(prefix="soak-")))
    if asked.json:
        Path(asked.json).parent.mkdir(parents=True, exist_ok=True)
        Path(asked.json).write_text(json.dumps(told, indent=1) + "\n")
    print(
        f"{told['steps']:,} steps in {told['minutes']} minutes: {told['mean_mb']} MB, "
        f"{told['slope_mb_per_hour']:+} MB an hour ({'flat' if told['flat'] else 'NOT flat'})"
    )
    if not told["flat"] or told["status"] != 128 + signal.SIGTERM:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
