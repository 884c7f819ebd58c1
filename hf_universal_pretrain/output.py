"""The output folder of a run: which checkpoint to go on from, and never writing over another run."""

from pathlib import Path

from transformers import TrainingArguments
from transformers.trainer_utils import get_last_checkpoint


# what a run leaves; a folder with any of these belongs to one
_RUN_FILES = ("model.safetensors", "model.safetensors.index.json", "trainer_state.json")


def checkpoint_to_resume(args: TrainingArguments) -> str | None:
    """The checkpoint that `--resume_from_checkpoint` names: a folder, or `auto` for the newest in `--output_dir`.

    Returns:
        The folder, or None to start afresh.

    Raises:
        ValueError: if the folder is not a checkpoint.
    """
    wanted = args.resume_from_checkpoint
    if wanted is None:
        return None
    if wanted == "auto":
        return get_last_checkpoint(args.output_dir) if Path(args.output_dir).is_dir() else None
    if not (Path(wanted) / "trainer_state.json").is_file():
        raise ValueError(
            f"--resume_from_checkpoint: {wanted} is not a checkpoint (no trainer_state.json in it): give one such "
            f"as {args.output_dir}/checkpoint-500, or 'auto' for the newest"
        )
    return wanted


def claim_output_folder(args: TrainingArguments, resume: str | None) -> None:
    """Refuses a folder that holds another run.

    Raises:
        ValueError: if it does, or if it is a file.
    """
    folder = Path(args.output_dir)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--output_dir: {folder} is a file")
    holds_run = any((folder / name).exists() for name in _RUN_FILES) or any(folder.glob("checkpoint-*"))
    if resume is None and holds_run:
        raise ValueError(
            f"--output_dir: {folder} holds another run: choose another folder, delete this one, or go on with "
            "--resume_from_checkpoint auto"
        )
