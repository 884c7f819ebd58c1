"""What counts as a complete checkpoint, and what a run makes of the folder it finds."""

import errno
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from transformers import TrainingArguments

from hf_universal_pretrain.errors import RunFinished
from hf_universal_pretrain.runs.checkpoints import checkpoints, fault, mark_complete, newest_complete, read_marker
from hf_universal_pretrain.runs.folder import checkpoint_to_resume, write_run_file
from hf_universal_pretrain.runs.settings import changes


SETTINGS = {"max_steps": 8, "seed": 1, "save_steps": 2, "world_size": 1, "per_device_train_batch_size": 4}


def save(folder: Path, step: int, complete: bool = True, **changed: object) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    (checkpoint / "shards").mkdir(parents=True)
    (checkpoint / "model.safetensors").write_bytes(bytes(range(200)))
    (checkpoint / "shards" / "0.bin").write_bytes(b"\x01" * 300)
    if complete:
        mark_complete(checkpoint, step, {**SETTINGS, **changed})
    return checkpoint


def arguments(folder: Path, resume: str | None = "auto") -> TrainingArguments:
    return TrainingArguments(str(folder), use_cpu=True, resume_from_checkpoint=resume)


def test_any_change_to_any_file_makes_a_checkpoint_incomplete(tmp_path: Path) -> None:
    """Every file in turn is removed, cut at every length, lengthened, and has every byte changed."""
    checkpoint = save(tmp_path, 2)
    assert fault(checkpoint) is None and read_marker(checkpoint)["step"] == 2
    for name in ("model.safetensors", "shards/0.bin"):
        path = checkpoint / name
        whole = path.read_bytes()
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            assert name in fault(checkpoint)
            path.write_bytes(whole[:length] + bytes([whole[length] ^ 255]) + whole[length + 1 :])
            assert name in fault(checkpoint)
        path.write_bytes(whole + b"\0")
        assert name in fault(checkpoint)
        path.unlink()
        assert fault(checkpoint) == f"{name} is missing"
        path.write_bytes(whole)
        assert fault(checkpoint) is None


def test_a_marker_cut_anywhere_is_no_marker(tmp_path: Path) -> None:
    checkpoint = save(tmp_path, 2)
    marker = checkpoint / "complete.json"
    whole = marker.read_text()
    for length in range(len(whole) - 1):
        marker.write_text(whole[:length])
        assert fault(checkpoint) == "unreadable complete.json"
    for content in ("[]", "{}", '{"step": 1, "settings": {}, "files": []}', "null"):
        marker.write_text(content)
        assert fault(checkpoint) == "unreadable complete.json"
    marker.unlink()
    assert fault(checkpoint) == "no complete.json"


def test_a_checkpoint_that_cannot_be_read_is_neither_passed_over_nor_removed(tmp_path: Path, monkeypatch) -> None:
    """A disk or a network file system that fails for a moment: the marker, or one of the files."""
    write_run_file(tmp_path, SETTINGS)
    save(tmp_path, 2)
    newest = save(tmp_path, 4)
    read, opened = Path.read_text, open
    for failing in ("complete.json", "model.safetensors"):

        def fail(path: Path, failing: str = failing) -> None:
            if Path(path) == newest / failing:
                raise OSError(errno.EIO, "Input/output error", str(path))

        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_text", lambda self, *args, **kwargs: fail(self) or read(self, *args, **kwargs))
            patch.setattr("builtins.open", lambda path, *args, **kwargs: fail(path) or opened(path, *args, **kwargs))
            with pytest.raises(ValueError, match=f"--output_dir: .* cannot read .*{failing} .Input/output error"):
                checkpoint_to_resume(arguments(tmp_path), SETTINGS)
        assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-4", "checkpoint-2"]
    assert checkpoint_to_resume(arguments(tmp_path), SETTINGS) == str(newest)


def test_a_damaged_checkpoint_is_told_and_left(tmp_path: Path, caplog) -> None:
    """Its writing came to its end: it may be mended, and other tools may read it."""
    write_run_file(tmp_path, SETTINGS)
    older, newer, newest = (save(tmp_path, step) for step in (2, 4, 6))
    (newer / "model.safetensors").write_bytes(b"other")
    (newest / "complete.json").write_text("{")
    assert checkpoint_to_resume(arguments(tmp_path), SETTINGS) == str(older)
    assert "checkpoint-4 is damaged (model.safetensors has 5 bytes instead of 200): it is not used" in caplog.text
    assert "checkpoint-6 is damaged (unreadable complete.json)" in caplog.text
    assert len(checkpoints(tmp_path)) == 3


def test_large_files_are_checked_whole(tmp_path: Path, monkeypatch) -> None:
    """A bit that flips anywhere in a file of more than the 64 MB that used to be the limit."""
    checkpoint = save(tmp_path, 2, complete=False)
    large = checkpoint / "optimizer.pt"
    with open(large, "wb") as file:
        file.truncate(70_000_000)  # a hole: takes no room
    mark_complete(checkpoint, 2, SETTINGS)
    assert fault(checkpoint) is None
    with open(large, "r+b") as file:
        file.seek(65_000_000)
        file.write(b"\x01")
    assert fault(checkpoint) == "optimizer.pt is not what was written"


def test_markers_of_earlier_versions_have_no_checksum_of_large_files(tmp_path: Path) -> None:
    checkpoint = save(tmp_path, 2)
    marker = json.loads((checkpoint / "complete.json").read_text())
    marker["files"]["model.safetensors"] = [200]
    (checkpoint / "complete.json").write_text(json.dumps(marker))
    assert fault(checkpoint) is None


def test_a_linked_checkpoint_that_was_cut_off_is_unlinked(tmp_path: Path) -> None:
    write_run_file(tmp_path / "run", SETTINGS)
    elsewhere = save(tmp_path / "elsewhere", 6, complete=False)
    (tmp_path / "run" / "checkpoint-6").symlink_to(elsewhere)
    newest = save(tmp_path / "run", 4)
    assert checkpoint_to_resume(arguments(tmp_path / "run"), SETTINGS) == str(newest)
    assert checkpoints(tmp_path / "run") == [newest] and (elsewhere / "model.safetensors").is_file()


def test_nothing_is_written_through_a_planted_link(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "_run.json.new").symlink_to(tmp_path / "precious")
    write_run_file(tmp_path, SETTINGS)
    assert (tmp_path / "precious").read_text() == "mine"
    assert json.loads((tmp_path / "_run.json").read_text())["settings"] == SETTINGS


def test_newest_is_by_number_and_complete(tmp_path: Path) -> None:
    for step in (9, 10, 100):
        save(tmp_path, step, complete=step < 100)
    (tmp_path / "checkpoint-best").mkdir()
    (tmp_path / "checkpoint-200").write_text("a file")
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-100", "checkpoint-10", "checkpoint-9"]
    assert newest_complete(tmp_path) == tmp_path / "checkpoint-10"
    assert newest_complete(tmp_path / "nowhere") is None


def test_incomplete_checkpoints_are_skipped_told_and_removed(tmp_path: Path, caplog) -> None:
    write_run_file(tmp_path, SETTINGS)
    save(tmp_path, 2)
    newest = save(tmp_path, 4)
    for step in (6, 8):
        save(tmp_path, step, complete=False)
    assert checkpoint_to_resume(arguments(tmp_path), SETTINGS) == str(newest)
    assert "Removing" in caplog.text and "checkpoint-6: it is incomplete (no complete.json)" in caplog.text
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-4", "checkpoint-2"]


def test_only_incomplete_ones_start_the_run_anew_even_with_other_settings(tmp_path: Path) -> None:
    write_run_file(tmp_path, SETTINGS)
    save(tmp_path, 2, complete=False)
    assert checkpoint_to_resume(arguments(tmp_path), {**SETTINGS, "seed": 2}) is None
    assert checkpoints(tmp_path) == []


@pytest.mark.parametrize("complete", [True, False])
def test_checkpoints_that_are_no_ones_are_neither_used_nor_removed(complete: bool, tmp_path: Path) -> None:
    save(tmp_path, 2, complete)
    with pytest.raises(ValueError, match="holds another run"):
        checkpoint_to_resume(arguments(tmp_path), SETTINGS)
    assert len(checkpoints(tmp_path)) == 1


def test_nothing_there_starts_afresh(tmp_path: Path) -> None:
    assert checkpoint_to_resume(arguments(tmp_path / "new" / "er"), SETTINGS) is None
    assert checkpoint_to_resume(arguments(tmp_path, None), SETTINGS) is None
    assert list(tmp_path.iterdir()) == []


def test_settings_that_changed_are_told_one_by_one(tmp_path: Path, caplog) -> None:
    write_run_file(tmp_path, SETTINGS)
    save(tmp_path, 2)
    save(tmp_path, 4, complete=False)
    now = {**SETTINGS, "seed": 2, "machines": "lstm"}
    machines = re.escape("machines (was context_tree=0.9,lstm=0.1, now lstm). Give the same")
    with pytest.raises(ValueError, match=rf"seed \(was 1, now 2\), {machines}"):
        checkpoint_to_resume(arguments(tmp_path), now)
    assert len(checkpoints(tmp_path)) == 2, "a refused run removes nothing"
    assert checkpoint_to_resume(arguments(tmp_path), {**SETTINGS, "save_steps": 3, "max_steps": 9}) is not None
    assert "save_steps (was 2, now 3)" in caplog.text and "max_steps (was 8, now 9)" in caplog.text
    assert "another schedule" in caplog.text


def test_a_run_from_before_a_setting_was_there_had_its_default() -> None:
    assert changes(SETTINGS, {**SETTINGS, "tokens": "all"}) == ([], [])
    assert changes(SETTINGS, {**SETTINGS, "tokens": "printable"}) == (["tokens (was all, now printable)"], [])


def test_a_run_from_before_its_starting_weights_were_told_goes_on() -> None:
    now = {**SETTINGS, "starting_weights": "1a2b", "pretrained": "b", "load_best_model_at_end": False}
    assert changes({**SETTINGS, "pretrained": "a"}, now) == ([], ["pretrained (was a, now b)"])
    assert changes({**now, "starting_weights": None}, now)[0] == ["starting_weights (was None, now 1a2b)"]


def test_another_number_of_threads_is_told(make_trainer, tmp_path: Path) -> None:
    """It changes the order of sums, and so the last bits."""
    now = make_trainer(tmp_path).settings
    assert now["threads"] == torch.get_num_threads()
    assert changes({**now, "threads": 99}, now) == ([], [f"threads (was 99, now {now['threads']})"])


@pytest.mark.parametrize(
    "name", ["load_best_model_at_end", "metric_for_best_model", "greater_is_better", "train_sampling_strategy"]
)
def test_what_decides_rows_and_the_best_model_stays(name: str, make_trainer, tmp_path: Path) -> None:
    now = make_trainer(tmp_path).settings
    assert changes({**now, name: "another"}, now) == ([f"{name} (was another, now {now[name]})"], [])


def test_the_batch_may_change_with_the_number_of_processes_only() -> None:
    smaller = {**SETTINGS, "per_device_train_batch_size": 2}
    assert changes(SETTINGS, smaller) == (["per_device_train_batch_size (was 4, now 2)"], [])
    assert changes(SETTINGS, {**smaller, "world_size": 2}) == (
        [], ["world_size (was 1, now 2)", "per_device_train_batch_size (was 4, now 2)"],
    )  # fmt: skip


def test_a_finished_run_is_finished_unless_it_is_to_be_longer(tmp_path: Path) -> None:
    write_run_file(tmp_path, SETTINGS, finished_at=8)
    (tmp_path / "model.safetensors").write_text("")
    with pytest.raises(RunFinished, match="finished .at step 8.: nothing to do"):
        checkpoint_to_resume(arguments(tmp_path), SETTINGS)
    longer = {**SETTINGS, "max_steps": 9}
    with pytest.raises(ValueError, match="has kept no checkpoint to go on from"):
        checkpoint_to_resume(arguments(tmp_path), longer)
    newest = save(tmp_path, 8)
    assert checkpoint_to_resume(arguments(tmp_path), longer) == str(newest)
    with pytest.raises(ValueError, match="seed"):
        checkpoint_to_resume(arguments(tmp_path), {**longer, "seed": 3})


def test_a_named_checkpoint_goes_on_elsewhere(tmp_path: Path) -> None:
    """Into a new folder; not into one that holds a run; not into its own, which holds newer ones."""
    write_run_file(tmp_path / "a", SETTINGS)
    older, newer = save(tmp_path / "a", 2), save(tmp_path / "a", 4)
    assert checkpoint_to_resume(arguments(tmp_path / "b", str(older)), SETTINGS) == str(older)
    assert checkpoint_to_resume(arguments(tmp_path / "a", str(newer)), SETTINGS) == str(newer)
    with pytest.raises(ValueError, match="holds newer checkpoints"):
        checkpoint_to_resume(arguments(tmp_path / "a", str(older)), SETTINGS)
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    with pytest.raises(ValueError, match="holds another run"):
        checkpoint_to_resume(arguments(tmp_path / "c", str(older)), SETTINGS)


def test_the_run_file_is_whole_or_not_there(tmp_path: Path) -> None:
    write_run_file(tmp_path, SETTINGS)
    assert json.loads((tmp_path / "_run.json").read_text()) == {"settings": SETTINGS, "finished_at": None}
    assert [path.name for path in tmp_path.iterdir()] == ["_run.json"], "no temporary file stays"
