"""Disks of every size: a save that does not fit leaves nothing half-written, and one line."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hf_universal_pretrain.commands import compare
from hf_universal_pretrain.errors import SaveFailed
from hf_universal_pretrain.runs.checkpoints import checkpoints, fault


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Gives the folder of an empty file system of so many kilobytes."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def sized(kilobytes: int) -> Path:
        subprocess.run(["umount", str(folder)], capture_output=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
        if subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("mounting a small file system takes root")
        return folder

    yield sized
    subprocess.run(["umount", str(folder)], capture_output=True)


def test_a_checkpoint_fits_or_is_not_there(disk, make_trainer) -> None:
    """A checkpoint of this model has 500 kB: the disk is full in each of its files in turn."""
    ends = set()
    for kilobytes in range(8, 700, 60):
        folder = disk(kilobytes)
        try:
            make_trainer(folder / "out", max_steps=1, save_strategy="steps", save_steps=1).train()
            ends.add("saved")
        except SaveFailed as error:
            assert "cannot save to" in str(error)
            ends.add("refused")
        assert [fault(path) for path in checkpoints(folder / "out")] == [None] * len(checkpoints(folder / "out"))
    assert ends == {"saved", "refused"}


@pytest.mark.parametrize("kilobytes", [8, 40])
def test_an_export_ends_with_one_line(kilobytes: int, disk, run_recipe) -> None:
    folder = disk(kilobytes)
    flags = ["--rows", "2000", "--context_length", "64", "--machines", "uniform", "--num_proc", "1"]
    done = run_recipe("export_dataset.py", *flags, "--output", str(folder / "rows"), cwd=folder)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "error: cannot write to" in done.stderr and "No space left on device" in done.stderr
    assert not list(folder.rglob("*.unfinished")) and not list(folder.rglob("*.parquet"))


def test_an_experiment_ends_with_one_line(disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    folder = disk(64)
    (tmp_path / "train.txt").write_text("It was the best of times.\n" * 20_000)
    flags = ["--output_dir", str(folder), "--train_file", str(tmp_path / "train.txt"), "--context_length", "32"]
    monkeypatch.setattr("sys.argv", ["compare.py", *flags, "--arms", json.dumps({"scratch": {}})])
    with pytest.raises(SystemExit) as exited:
        compare.main()
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert exited.value.code == 1 and "cannot write to" in told and "No space left on device" in told
