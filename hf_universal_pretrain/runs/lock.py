"""One process a folder: a lock that goes with the process that holds it, however that ends.

It is one of the operating system's (`filelock`), on a file that says who holds it. What is left of the file when a
process was killed locks nothing.
"""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from hf_universal_pretrain.errors import InUse, first_line
from hf_universal_pretrain.runs.folder import check_can_be_written


LOCK_FILE = "_lock"  # in a folder; the underscore keeps it from being pushed to the Hub


@contextmanager
def hold(path: Path, flag: str, patience: float = 0) -> Iterator[None]:
    """Holds a lock file, and leaves nothing of it behind: neither the file nor folders that were made for it and are
    still empty.

    Args:
        path: of the file; `LOCK_FILE` in the folder that is to be written.
        flag: which named the folder.
        patience: seconds to wait for another process to let go of it.

    Raises:
        InUse: if another process holds it.
        ValueError: if the folder cannot be made or written.
    """
    check_can_be_written(path.parent, flag)
    made = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    lock = FileLock(path, timeout=patience)
    try:
        _take(lock, path, flag)
        yield
    finally:
        if lock.is_locked:
            with suppress(OSError):
                path.unlink()  # while it is held: no one takes a lock on a file that is gone
            lock.release()
        with suppress(OSError):  # there is something in it
            for folder in made:
                folder.rmdir()


def _take(lock: BaseFileLock, path: Path, flag: str) -> None:
    try:
        while not lock.is_locked:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                lock.acquire()
            except (FileNotFoundError, FileExistsError):  # who held it has just removed the folder, which it had made
                check_can_be_written(path.parent, flag)  # unless a file stands in its place
        if not isinstance(lock, SoftFileLock):  # where a file system has no locks, filelock writes its own words
            with suppress(OSError):  # the disk is full: the lock is held without them
                path.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}), encoding="utf-8")
    except Timeout as error:
        raise InUse(
            f"{flag}: {_holder(path)} is writing to {path.parent}: wait for its end, or give another folder"
        ) from error
    except OSError as error:
        raise ValueError(f"{flag}: cannot lock {path} ({first_line(error)}): give another folder") from error


def _holder(path: Path) -> str:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return f"another process ({int(told['pid'])} on {ascii(told['host'])[1:-1]})"
    except (OSError, ValueError, KeyError, TypeError):  # it has not said so yet
        return "another process"
