"""Real text: reading it, rows of its tokens, and what there is to measure on when no file is given."""

import argparse
import codecs
import gzip
import hashlib
import pydoc_data.topics
import re
import sysconfig
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from hf_universal_pretrain.errors import first_line
from hf_universal_pretrain.limits import GB, memory
from hf_universal_pretrain.models.encoding import encode
from hf_universal_pretrain.reading import check_is_file


_COPIES = 12  # bytes of memory that a byte of text takes while it is read and made tokens, and some to spare
_NAME = re.compile(r"[\w.+-]+")


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


def read_named_texts(texts: list[str], flag: str) -> dict[str, bytes]:
    """Reads texts given as `NAME=PATH`.

    Raises:
        ValueError: if one is not of that form, names the same text twice, or cannot be read.
    """
    named: dict[str, bytes] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not (name and equals and path) or name in named:
            raise ValueError(f"{flag} takes NAME=PATH, each name once, not {text!r}")
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{flag}: the name {name!r}: letters, digits, '.', '_', '-' and '+' only, for it stands in cards"
            )
        named[name] = read_text(path, flag)
    return named


def read_dataset(name: str, column: str) -> bytes:
    """The texts of the split `train` of a data set on the Hub or in a folder, joined by blank lines.

    Raises:
        ValueError: if there is no such data set, split or column.
    """
    try:
        return "\n\n".join(datasets.load_dataset(name, split="train")[column]).encode("utf-8")
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"--dataset: cannot read column {column!r} of split 'train' of {name!r} ({first_line(error)})"
        ) from error


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


class TokenBlocks(Dataset[dict[str, Tensor]]):
    """A text as rows `{"input_ids", "labels"}` of `length` tokens, `(length,)` int64, cut one after the other.

    Raises:
        ValueError: if the text has fewer tokens than one row.
    """

    def __init__(self, text: bytes, tokenizer: PreTrainedTokenizerBase, length: int) -> None:
        # a text of some GB is kept in as little memory as its tokens need
        tokens = encode(text, tokenizer, torch.int16 if len(tokenizer) <= 2**15 else torch.int32)
        if len(tokens) < length:
            raise ValueError(
                f"--train_file: {len(tokens)} tokens are less than one row of {length}: give a longer text"
            )
        self.blocks = tokens[: len(tokens) // length * length].view(-1, length)

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        row = self.blocks[index].long()
        return {"input_ids": row, "labels": row.clone()}

    def run_settings(self) -> dict[str, Any]:
        """What decides the rows: a hash of the text in tokens, and the tokens in a row."""
        digest = hashlib.sha256()
        for rows in self.blocks.split(4096):
            digest.update(rows.long().numpy().tobytes())
        return {"train_text": digest.hexdigest()[:12], "context_length": self.blocks.shape[1]}
