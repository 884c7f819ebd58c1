from pathlib import Path

import pytest

from hf_universal_pretrain.plotting import read_history


def test_a_folder_that_holds_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"--compare_with: {tmp_path} is not the folder of a run"):
        read_history(tmp_path)
