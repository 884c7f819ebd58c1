"""`gpu_check.py` in small, on a CPU: every part measures something, and what it measures of exactness holds there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


def check(folder: Path, *parts: str) -> dict[str, dict]:
    command = [sys.executable, str(ROOT / "recipes/measure/gpu_check.py"), "--tiny", "--json", "check.json"]
    done = subprocess.run([*command, "--parts", *parts], cwd=folder, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    results = json.loads((folder / "check.json").read_text())
    assert results["device"] == "cpu" and not [part for part in parts if "error" in results[part]], results
    return results


def test_what_is_to_be_equal_is(tmp_path: Path) -> None:
    results = check(tmp_path, "graphs", "beside", "resume", "generation", "training")
    assert results["graphs"]["equal_rows"] == {"lstm": 1.0, "gru": 1.0} and results["beside"]["equal"]
    assert results["resume"]["equal_stream"] and results["resume"]["equal_weights"]
    assert [row["rows"] for row in results["generation"]["symbols_per_second"]] == [32, 32]
    assert min(results["training"].values()) > 0


@pytest.mark.slow
def test_what_runs_commands(tmp_path: Path) -> None:
    results = check(tmp_path, "gpt2", "compare")
    assert [entry["step"] for entry in results["gpt2"]["log"]] == [1, 2, 3]
    assert set(results["compare"]) >= {"scratch", "up"}
