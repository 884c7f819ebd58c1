"""The recipe under `torchrun` and `accelerate launch`, as a user starts, stops and loses it."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from accelerate.commands.config.config_args import load_config_from_file

from hf_universal_pretrain.runs.checkpoints import checkpoints, fault, newest_complete
from tests.commands.test_recipes import TINY
from tests.conftest import ROOT, once


pytestmark = pytest.mark.distributed
ENDLESS = ["--max_steps", "1000000", "--save_steps", "50", "--logging_steps", "10", "--eval_strategy", "no"]
RECIPE = [str(ROOT / "recipes" / "pretrain.py"), *TINY, "--output_dir", "out", "--disable_tqdm", "true"]


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def torchrun(*flags: str, cwd: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", free_port()]
    command += [RECIPE[0], *once([*RECIPE[1:], *flags])]
    return subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "01"},
    )  # fmt: skip


def wait_until_it_trains(run: subprocess.Popen) -> list[psutil.Process]:
    """Its processes, in the order of ranks."""
    while "'loss'" not in (line := run.stdout.readline()):
        assert line, run.communicate()[1][-3000:]
    children = psutil.Process(run.pid).children(recursive=True)
    return sorted(
        (c for c in children if "LOCAL_RANK" in c.environ()), key=lambda child: child.environ()["LOCAL_RANK"]
    )


def test_pretrain_under_torchrun(tmp_path: Path) -> None:
    """One plan, one table, one folder, whatever the number of processes."""
    run = torchrun("--max_steps", "4", cwd=tmp_path)
    shown, told = run.communicate(timeout=250)
    assert run.returncode == 0, told[-3000:]
    assert shown.count("Plan:") == shown.count("Bits per byte") == 1
    assert "2 x cpu" in shown and "4 steps x 8 rows" in shown
    checkpoint = {path.name for path in (tmp_path / "out" / "checkpoint-4").iterdir()}
    assert {"synthetic_stream_0.pt", "synthetic_stream_1.pt", "rng_state_0.pth", "rng_state_1.pth"} <= checkpoint


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_one_killed_process_ends_all(rank: int, tmp_path: Path) -> None:
    """No hang, no traceback, and a line that says what happened and how to go on."""
    run = torchrun(*ENDLESS, cwd=tmp_path)
    processes = wait_until_it_trains(run)
    processes[rank].send_signal(signal.SIGKILL)
    _, told = run.communicate(timeout=60)
    assert run.returncode == 1
    assert "pretrain.py: error: lost another process of this run, which has died" in told
    assert "Signal 9 (SIGKILL)" in told, "the launcher says which"
    assert "--nproc_per_node 2" in told.split("lost another process")[1], "the command is the launcher's"
    assert not any(process.is_running() for process in processes)
    newest = newest_complete(tmp_path / "out")
    assert newest is None or f"{newest.relative_to(tmp_path)} is complete" in told


@pytest.mark.slow
def test_sigterm_to_the_launcher_saves_and_another_launcher_goes_on(tmp_path: Path) -> None:
    run = torchrun(*ENDLESS, cwd=tmp_path)
    wait_until_it_trains(run)
    run.send_signal(signal.SIGTERM)
    _, told = run.communicate(timeout=100)
    assert "pretrain.py: stopped by SIGTERM after step" in told
    assert all(fault(path) is None for path in checkpoints(tmp_path / "out"))
    reached = int(newest_complete(tmp_path / "out").name.split("-")[1])
    again = ["accelerate", "launch", "--config_file", str(ROOT / "recipes" / "accelerate_configs" / "ddp.yaml")]
    again += ["--num_processes", "2", "--mixed_precision", "no", "--main_process_port", free_port(), RECIPE[0]]
    again += once([*RECIPE[1:], *ENDLESS, "--max_steps", str(reached + 2)])
    done = subprocess.run(again, cwd=tmp_path, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"Going on from out/checkpoint-{reached}" in done.stderr and "fresh stream" not in done.stderr
    assert f"max_steps (was 1000000, now {reached + 2})" in done.stderr


@pytest.mark.slow
def test_the_first_process_holds_the_folder_for_all(tmp_path: Path) -> None:
    """A second launch ends soon, with one line of the recipe; the first goes on."""
    run = torchrun(*ENDLESS, cwd=tmp_path)
    processes = wait_until_it_trains(run)
    began = time.monotonic()
    second = torchrun(*ENDLESS, cwd=tmp_path)
    shown, told = second.communicate(timeout=100)
    assert second.returncode == 1 and "Plan" not in shown and time.monotonic() - began < 60
    lines = [line for line in told.splitlines() if line.startswith("pretrain.py")]
    holder = f"--output_dir: another process ({processes[0].pid} on "
    assert len(lines) == 1 and holder in lines[0], told
    assert run.poll() is None
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=100)
    assert newest_complete(tmp_path / "out") is not None and not (tmp_path / "out" / "_lock").exists()


def test_accelerate_takes_our_configurations() -> None:
    """All of their keys are known to it, and the launcher's own parser accepts them."""
    files = sorted((ROOT / "recipes" / "accelerate_configs").glob("*.yaml"))
    assert [path.name for path in files] == ["ddp.yaml", "fsdp2.yaml", "multi_node.yaml"]
    for path in files:
        config = load_config_from_file(str(path))
        assert config.num_processes == 8 * config.num_machines and config.mixed_precision == "bf16"


def test_the_slurm_script_is_a_script() -> None:
    script = ROOT / "recipes" / "slurm" / "pretrain.slurm"
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert (ROOT / "recipes" / "accelerate_configs" / "multi_node.yaml").name in script.read_text()
