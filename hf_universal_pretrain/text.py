"""Texts that fit into memory: reading them, and those that every interpreter has."""

import argparse
import codecs
import gzip
import pydoc_data.topics
import sysconfig
import zlib
from collections.abc import Callable
from pathlib import Path

from hf_universal_pretrain.limits import GB, memory
from hf_universal_pretrain.reading import check_is_file


_COPIES = 12  # bytes of memory that a byte of text takes while it is read and made tokens, and some to spare


def read_text(path: str, flag: str) -> bytes:
    """Reads a text file, unpacking `.gz`; or, where there is no such file, one of `BUILT_IN` by its name.

    Raises:
        ValueError: if it is missing, no file, unreadable, empty, not UTF-8 or too large for this machine's memory; the
            message names `flag`.
    """
    if path in BUILT_IN and not Path(path).exists():
        return BUILT_IN[path]()
    try:
        check_is_file(path)
        with gzip.open(path) if path.endswith(".gz") else open(path, "rb") as file:
            most = memory() // _COPIES
            data = file.read(most + 1)
        if len(data) > most:
            raise ValueError(f"it has more than {most / GB:.1f} GB, too much for this machine's memory: cut it")
        check_utf8(data)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise ValueError(f"{flag}: cannot read {path} as a UTF-8 text file ({error})") from error
    if not data:
        raise ValueError(f"{flag}: {path} is empty")
    return data


def interpreter_texts() -> dict[str, bytes]:
    """English prose and Python source that every interpreter carries: the language reference and a standard module."""
    prose = "\n\n".join(pydoc_data.topics.topics.values())
    return {"english": prose.encode("utf-8"), "python": Path(argparse.__file__).read_bytes()}


def standard_library() -> bytes:
    """The source of Python's standard library without its tests: some 10 MB, file by file, in an order that mixes its
    packages and is always the same."""
    root = Path(sysconfig.get_paths()["stdlib"])
    outside = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
    files = [path for path in root.rglob("*.py") if outside.isdisjoint(path.relative_to(root).parts)]
    files.sort(key=lambda path: zlib.crc32(path.relative_to(root).as_posix().encode()))
    return b"\n\n".join(data for path in files if (data := path.read_bytes()) and _is_utf8(data))


def check_utf8(data: bytes, piece: int = 1 << 20) -> None:
    """Raises a UnicodeDecodeError unless the bytes are UTF-8; some at a time, for a long text's string may not fit."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(data), piece):
        decoder.decode(data[start : start + piece])
    decoder.decode(b"", final=True)


def _is_utf8(data: bytes) -> bool:
    try:
        check_utf8(data)
    except UnicodeDecodeError:
        return False
    return True


# texts that every machine has, by the names that stand for them where a file is asked for
BUILT_IN: dict[str, Callable[[], bytes]] = {
    "stdlib": standard_library, "pydoc": lambda: interpreter_texts()["english"],
}  # fmt: skip


def deal_out(text: bytes, turns: list[str], block: int = 32_768) -> dict[str, bytes]:
    """Deals a text out in blocks, so that its parts are alike even where the text changes along its length.

    Args:
        text: whose lines stay whole.
        turns: who gets the first block, the second, and so on, again and again; a name may stand there several times.
        block: bytes of a block at least; its last line is what it is.

    Returns:
        The text of each name, in order; empty where there were not enough blocks.
    """
    dealt: dict[str, list[bytes]] = {name: [] for name in turns}
    blocks = size = 0
    for line in text.splitlines(keepends=True):
        dealt[turns[blocks % len(turns)]].append(line)
        size += len(line)
        if size >= block:
            blocks, size = blocks + 1, 0
    return {name: b"".join(lines) for name, lines in dealt.items()}
