"""`kill_and_resume.py` with few kills; with 100: see the script."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("model, processes", [("gpt2", 1), ("qwen3_moe", 1), ("qwen3_moe", 2)])
def test_a_killed_run_ends_with_equal_weights(model: str, processes: int, tmp_path: Path) -> None:
    script = str(Path(__file__).parent / "kill_and_resume.py")
    command = [sys.executable, script, "--kills", "5", "--model", model, "--json", "told.json"]
    command += ["--processes", str(processes)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["kills"] == 5 and told["equal"] == told["runs"] >= 1
