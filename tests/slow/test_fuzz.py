"""`fuzz.py` for a minute, or for as many seconds as the environment variable FUZZ_SECONDS says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


SECONDS = float(os.environ.get("FUZZ_SECONDS", "60"))


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 600)
def test_no_traceback_no_hang_no_more_than_2_gb(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).parent / "fuzz.py"), "--seconds", str(SECONDS)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
