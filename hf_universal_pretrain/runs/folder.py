"""The output folder of a run: going on with what is there, and never writing over another run.

`_run.json` says whose folder it is: the run's settings, and once it is finished, the step that it ended at. (The
underscore keeps it from being pushed to the Hub.)
"""

import json
import logging
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from hf_universal_pretrain.errors import RunFinished
from hf_universal_pretrain.runs.checkpoints import (
    MARKER,
    checkpoints,
    fault,
    newest_complete,
    read_marker,
    was_cut_off,
    write_json,
)
from hf_universal_pretrain.runs.history import read_state
from hf_universal_pretrain.runs.settings import LENGTH, changes, run_length


logger = logging.getLogger(__name__)

RUN_FILE = "_run.json"
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_OF_A_MODEL = ("trainer_state.json", "config.json", "tokenizer.json")  # which a run writes over


def write_run_file(folder: str | Path, settings: dict[str, Any], finished_at: int | None = None) -> None:
    """Claims an output folder for a run, or says that the run in it is finished."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    write_json(Path(folder) / RUN_FILE, {"settings": settings, "finished_at": finished_at})


def read_run_file(folder: Path) -> dict[str, Any]:
    """`settings` of the run in an output folder, and `finished_at`, the step that it ended at (None: not yet)."""
    return json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))


def checkpoint_to_resume(args: TrainingArguments, settings: dict[str, Any]) -> str | None:
    """The checkpoint to go on from, as `--resume_from_checkpoint` says: a folder, or `auto` (and None) for the newest
    complete one of the run in `--output_dir`, if that has the same settings.

    What has changed but may change is told, checkpoints whose writing was cut off are removed, and those that are
    damaged are left as they are: each with a warning.

    Args:
        args: of the training.
        settings: see `settings.run_settings`.

    Returns:
        The checkpoint's folder, or None to start afresh.

    Raises:
        ValueError: if the output folder cannot be written or read or holds another run, if the settings do not allow
            to go on, or if the given folder is not a complete checkpoint.
        RunFinished: if there is nothing left to do.
    """
    folder, asked = Path(str(args.output_dir)), args.resume_from_checkpoint
    check_can_be_written(folder, "--output_dir")
    auto = asked in (None, "auto")
    where = f"--output_dir: {folder}" if auto else f"--resume_from_checkpoint: {asked}"
    try:
        checkpoint = _newest_of_this_run(folder, settings) if auto else _named_checkpoint(Path(str(asked)), folder)
    except OSError as error:  # not known to be incomplete: neither left out nor removed
        raise ValueError(
            f"{where}: cannot read {error.filename or 'a checkpoint'} ({error.strerror}): mend that, or give another "
            "--output_dir"
        ) from error
    if checkpoint is not None:
        marker = read_marker(checkpoint)
        told = _refuse_changes(where, marker["settings"], settings)
        _check_state(where, checkpoint, marker)
        if marker["step"] > settings["max_steps"] > 0:
            raise ValueError(
                f"--max_steps: {checkpoint} is at step {marker['step']} already: give at least as many steps, or "
                "another --output_dir to start a new run"
            )
        if args.process_index == 0:
            _tell(checkpoint, told)
    if args.process_index == 0:
        _remove_incomplete(folder, checkpoint)
    return None if checkpoint is None else str(checkpoint)


def check_can_be_written(folder: Path, flag: str) -> None:
    """Raises a ValueError that names `flag` where a folder, or the one that it would be made in, cannot be written."""
    nearest = next(path for path in (folder, *folder.parents) if path.exists() or path.is_symlink())
    try:
        what = "" if stat.S_ISDIR(nearest.stat().st_mode) else "a file"
    except FileNotFoundError:
        if not nearest.is_symlink():  # another process has just removed it
            return check_can_be_written(folder, flag)
        what = "a link to nothing"
    if what:
        raise ValueError(f"{flag}: {nearest} is {what}: give another folder")
    try:
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError as error:
        if not nearest.exists():  # another process has just removed it
            return check_can_be_written(folder, flag)
        raise ValueError(f"{flag}: cannot write to {nearest} ({error.strerror}): give another folder") from error


def _named_checkpoint(checkpoint: Path, folder: Path) -> Path:
    reason = fault(checkpoint)
    if reason is not None:
        raise ValueError(
            f"--resume_from_checkpoint: {checkpoint} is not a complete checkpoint ({reason}): give one such as "
            f"{folder}/checkpoint-500, or 'auto' for the newest"
        )
    if checkpoint.resolve().parent != folder.resolve():
        _refuse_another_run(folder)
    elif newest_complete(folder) != folder / checkpoint.name:
        raise ValueError(
            f"--resume_from_checkpoint: {folder} holds newer checkpoints than {checkpoint}: give another --output_dir "
            "to go on from it, or 'auto' for the newest"
        )
    return checkpoint


def _newest_of_this_run(folder: Path, settings: dict[str, Any]) -> Path | None:
    try:
        run = read_run_file(folder)
        was, finished_at = run["settings"], run["finished_at"]
    except FileNotFoundError:
        _refuse_another_run(folder)
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"--output_dir: cannot read {folder / RUN_FILE}, which says what the folder holds: choose another folder"
        ) from error
    checkpoint = newest_complete(folder)
    if checkpoint is not None or _weights_in(folder):
        _refuse_changes(f"--output_dir: {folder}", was, settings)
    if finished_at is not None and run_length(was) >= run_length(settings):
        raise RunFinished(
            f"The run in {folder} is finished (at step {finished_at:,}): nothing to do. For another run give another "
            "--output_dir; to train this one longer, more --max_steps."
        )
    if finished_at is not None and checkpoint is None:
        raise ValueError(
            f"--max_steps: the run in {folder} is finished and has kept no checkpoint to go on from: start a new one "
            "from its weights, in another --output_dir"
        )
    return checkpoint


def _check_state(where: str, checkpoint: Path, marker: dict[str, Any]) -> None:
    """Refuses a state that the Trainer could not go on from: it reads it after much else."""
    if "trainer_state.json" not in marker["files"]:
        return
    try:
        state = read_state(checkpoint / "trainer_state.json")
        if state["global_step"] != marker["step"]:
            raise ValueError(f"{checkpoint} is at step {state['global_step']}, and its marker says {marker['step']}")
        if state.get("train_batch_size") is None:  # of a state, the only entry that the Trainer cannot do without
            raise ValueError(f"{checkpoint / 'trainer_state.json'} has no train_batch_size")
    except ValueError as error:
        raise ValueError(f"{where}: {error}: give another checkpoint, or another --output_dir") from error


def _refuse_another_run(folder: Path) -> None:
    if _weights_in(folder) or any((folder / name).exists() for name in _OF_A_MODEL) or checkpoints(folder):
        raise ValueError(f"--output_dir: {folder} holds another run: choose another folder, or delete this one")


def _weights_in(folder: Path) -> bool:
    return any((folder / name).exists() for name in _WEIGHTS)


def _refuse_changes(where: str, was: dict[str, Any], now: dict[str, Any]) -> list[str]:
    refused, told = changes(was, now)
    if refused:
        raise ValueError(
            f"{where} is of a run with other settings: {', '.join(refused)}. Give the same settings to go on, or "
            "another --output_dir to start a new run"
        )
    return told


def _tell(checkpoint: Path, told: list[str]) -> None:
    logger.warning(f"Going on from {checkpoint}.")
    for words in told:
        logger.warning(f"Changed since then: {words}.")
    if any(words.startswith(LENGTH) for words in told):
        logger.warning("A run of another length has another schedule of the learning rate, unless that is constant.")


def _remove_incomplete(folder: Path, chosen: Path | None) -> None:
    """Removes checkpoints whose writing was cut off, and nothing else: one that is damaged, or that cannot be read
    now, may be mended. Only in a folder that is this run's: `_newest_of_this_run` has refused all others."""
    if (folder / RUN_FILE).exists():
        for checkpoint in checkpoints(folder):
            if was_cut_off(checkpoint):
                logger.warning(f"Removing {checkpoint}: it is incomplete (no {MARKER}).")
                if checkpoint.is_symlink():
                    checkpoint.unlink()  # what it leads to is not this run's
                else:
                    shutil.rmtree(checkpoint)
            elif chosen is None or _step(checkpoint) > _step(chosen):
                logger.warning(f"{checkpoint} is damaged ({fault(checkpoint)}): it is not used, and left as it is.")


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])
