"""The headline recipe under torchrun: one plan, one table, one folder, whatever the number of processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.test_recipes import TINY


@pytest.mark.distributed
def test_pretrain_under_torchrun(tmp_path: Path) -> None:
    port = str(30_500 + os.getpid() % 1000)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", port]
    command += [str(ROOT / "recipes" / "pretrain.py"), *TINY, "--max_steps", "4", "--output_dir", "out"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Plan:") == done.stdout.count("Bits per byte") == 1
    assert "2 x cpu" in done.stdout and "4 steps x 8 rows" in done.stdout
    checkpoint = {path.name for path in (tmp_path / "out" / "checkpoint-4").iterdir()}
    assert {"synthetic_stream_0.pt", "synthetic_stream_1.pt", "rng_state_0.pth", "rng_state_1.pth"} <= checkpoint
