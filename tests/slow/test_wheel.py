import os
import subprocess
import sys
import sysconfig

import pytest

from tests.conftest import ROOT


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_wheel_works_where_no_checkout_lies() -> None:
    """With the dependencies of this environment; called by itself, `.ci/wheel` installs them."""
    here = {"PYTHON": sys.executable, "SITE_PACKAGES": sysconfig.get_path("purelib")}
    done = subprocess.run([ROOT / ".ci" / "wheel"], env={**os.environ, **here}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("The wheel works\n")
