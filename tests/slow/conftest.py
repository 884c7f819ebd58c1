import os
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.fixture
def as_a_user(tmp_path: Path) -> dict[str, str]:
    """An environment in which `hf-up` and `python` are those of this checkout, whatever is installed."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, runs in (("hf-up", "-m hf_universal_pretrain "), ("python", "")):
        (folder / name).write_text(f'#!/bin/sh\nexec {sys.executable} {runs}"$@"\n')
        (folder / name).chmod(0o755)
    path = os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
