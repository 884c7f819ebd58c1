"""The examples as they stand, with two steps each."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


EXAMPLES = ROOT / "examples"
SCRIPTS = {
    "stock_trainer": ("transformers", []), "accelerate_loop": ("accelerate", []), "trl_sft": ("trl", []),
    "lightning_trainer": ("lightning", []), "hf_job": ("transformers", ["--use_cpu", "--dry_run"]),
}  # fmt: skip
NOTEBOOK = EXAMPLES / "ten_minutes.ipynb"

pytestmark = pytest.mark.slow


def needs(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs `pip install {package}`")


def test_each_example_is_tried() -> None:
    assert {path.stem for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")} == {*SCRIPTS, NOTEBOOK.stem}


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name: str, as_a_user: dict[str, str], tmp_path: Path) -> None:
    package, flags = SCRIPTS[name]
    needs(package)
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *flags]
    done = subprocess.run(command, cwd=tmp_path, env={**as_a_user, "STEPS": "2"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(1200)
def test_notebook(as_a_user: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut short: 4 steps a stage, few windows."""
    needs("nbclient")
    import nbclient
    import nbformat

    for name in ("PATH", "PYTHONPATH"):
        monkeypatch.setenv(name, as_a_user[name])
    monkeypatch.setenv("MORE_FLAGS", "--max_steps 4 --eval_windows 4 --use_cpu --save_strategy no")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "it is committed without outputs"
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = [output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("Bits per byte" in text for text in printed) == 3, printed
    assert all(text.count("\n") <= 25 for text in printed)
    pictures = [o for cell in notebook.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    assert len(pictures) == 1
