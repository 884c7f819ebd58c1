"""Checkpoints that are complete or do not count.

A checkpoint is a folder of many files, written by many processes. It counts once `complete.json` is in it, which is
written last, atomically, when all else is on the disk: with the step, the settings of the run, and the size and the
CRC-32 of each file (which takes about a quarter of a second for a gigabyte, beside the time of reading it).
"""

import json
import os
import re
import zlib
from pathlib import Path
from typing import Any

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR


MARKER = "complete.json"
_PIECE = 1 << 20  # bytes read at a time for a checksum


def write_json(path: Path, content: dict[str, Any] | list[Any]) -> None:
    """Writes a JSON file that is there whole or not at all, whenever the process or the machine dies."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    # "x": never through a link that someone has put there
    with open(new, "x", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
    _sync(path.parent)


def mark_complete(folder: Path, step: int, settings: dict[str, Any]) -> None:
    """Makes a checkpoint count: all of its files are forced onto the disk, then the marker is written."""
    files = _files(folder)
    for path in files:
        _sync(path)
    described = {str(path.relative_to(folder)): _describe(path) for path in files}
    write_json(folder / MARKER, {"step": step, "settings": settings, "files": described})


def unmark(folder: Path) -> None:
    """Makes a checkpoint count no longer, before it is written again."""
    (folder / MARKER).unlink(missing_ok=True)


def read_marker(folder: Path) -> dict[str, Any]:
    """Step, settings and files of a complete checkpoint."""
    return json.loads((folder / MARKER).read_text(encoding="utf-8"))


def was_cut_off(folder: Path) -> bool:
    """Whether a checkpoint's writing did not come to its end. What is damaged, or cannot be read now, did."""
    return not os.path.lexists(folder / MARKER)


def fault(folder: Path) -> str | None:
    """Why a folder is no complete checkpoint, in words; None if it is one.

    Raises:
        OSError: if something in it cannot be read, so that this is not known.
    """
    try:
        marker = read_marker(folder)
        step, _, files = marker["step"], marker["settings"], marker["files"].items()
        step + sum(size for _, (size, *_) in files)
    except (FileNotFoundError, NotADirectoryError):
        return f"no {MARKER}"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"unreadable {MARKER}"
    for name, description in files:
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != description[0]:
            return f"{name} has {path.stat().st_size:,} bytes instead of {description[0]:,}"
        # markers of earlier versions have no checksum of large files
        if len(description) > 1 and _describe(path) != description:
            return f"{name} is not what was written"
    return None


def checkpoints(folder: str | Path) -> list[Path]:
    """The folders `checkpoint-N` in a run's folder, complete or not, the newest first."""
    numbered = {
        int(path.name.rpartition("-")[2]): path
        for path in Path(folder).glob(f"{PREFIX_CHECKPOINT_DIR}-*")
        if re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-\d+", path.name) and path.is_dir()
    }
    return [numbered[step] for step in sorted(numbered, reverse=True)]


def newest_complete(folder: str | Path) -> Path | None:
    """The newest complete checkpoint in a run's folder, if there is one.

    Raises:
        OSError: if a newer one cannot be read.
    """
    return next((path for path in checkpoints(folder) if fault(path) is None), None)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(MARKER))


def _describe(path: Path) -> list[int]:
    checksum = 0
    with open(path, "rb") as file:
        while piece := file.read(_PIECE):
            checksum = zlib.crc32(piece, checksum)
    return [path.stat().st_size, checksum]


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
