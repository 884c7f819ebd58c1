"""Real text of any size, read piece by piece: text files, tables of texts (JSON lines, CSV, parquet), data sets.

A corpus is never in memory. What has to be known of it as a whole (its size, windows from all along it) is found by
reading it through, once: `datasets` keeps the result on disk.
"""

import glob
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch
from datasets.exceptions import DatasetGenerationError
from datasets.fingerprint import Hasher
from torch import Tensor

from hf_universal_pretrain.errors import first_line
from hf_universal_pretrain.limits import GB
from hf_universal_pretrain.models.encoding import PIECE, cut_point
from hf_universal_pretrain.reading import check_is_file
from hf_universal_pretrain.text import BUILT_IN


PACKED = {".gz": "gzip", ".zst": "zstd"}
_NAME = re.compile(r"[\w.+-]+")
TABLES = {".jsonl": "json", ".json": "json", ".ndjson": "json", ".csv": "csv", ".parquet": "parquet"}


@dataclass
class Corpus:
    """A text that is read as a stream.

    Args:
        name: the flag and what was given with it, for messages.
        rows: of which `column` is text, or None.
        column: of `rows`.
        joint: what stands after each row's text.
        identity: differs where the text does; known without reading it.
        size: bytes of the text, where they are known without reading it.

    Attributes:
        nulls: rows without a text, in the last reading.
    """

    name: str
    rows: datasets.IterableDataset
    column: str
    joint: bytes
    identity: str
    size: int | None = None
    nulls: int = field(default=0, init=False)

    def pieces(self, begin: int = 0, end: int | None = None, most: float = float("inf")) -> Iterator[bytes]:
        """The text from byte `begin` to byte `end`, in order, a row at a time (of a text file: some 64 kB).

        Raises:
            ValueError: if it cannot be read, is no text, or has more than `most` bytes; one line that names the flag.
        """
        self.nulls = place = 0
        for piece in self._read():
            place += len(piece)
            if place > most:
                raise ValueError(
                    f"{self.name}: more than {most / GB:.1f} GB of text, for which there is no room on disk"
                )
            first, last = (
                max(0, begin - place + len(piece)),
                len(piece) - max(0, place - (place if end is None else end)),
            )
            if first < last:
                yield piece[first:last]
            if end is not None and place >= end:
                return

    def _read(self) -> Iterator[bytes]:
        try:
            for row in self.rows:
                if self.column not in row:
                    raise ValueError(f"there is none; there are {', '.join(row)}")
                text = row[self.column]
                if text is None:
                    self.nulls += 1
                elif isinstance(text, str):
                    yield text.encode("utf-8") + self.joint
                else:
                    raise ValueError(f"it holds {type(text).__name__}, not text")
        except Exception as error:  # whatever one of the readers says: pyarrow, pandas, codecs, the network
            raise ValueError(f"{self.name} ({first_line(_root(error))})") from error

    def length(self) -> int:
        """Bytes of the text."""
        if self.size is None:
            row = cached(_measure, {"bytes": datasets.Value("int64")}, self.identity, corpus=self)[0]
            self.size = int(row["bytes"])
        return self.size

    def windows(self, length: int, count: int, flag: str, begin: int = 0) -> Tensor:
        """`count` windows of `length` bytes, evenly spaced from byte `begin` to the end, as `cut_windows` cuts them.

        Returns:
            `(count, length)` uint8.

        Raises:
            ValueError: if the text cannot be read, or is shorter than one window (told of `flag`).
        """
        size = self.length() - begin
        if size < length:
            raise ValueError(f"{flag} has {size} bytes, less than one window of {length}: give a longer text")
        starts = torch.linspace(begin, begin + size - length, min(count, size - length + 1), dtype=torch.float64)
        features = {"window": datasets.List(datasets.Value("uint8"), length=length)}
        rows = cached(_cut, features, self.identity, corpus=self, starts=tuple(starts.long().tolist()), length=length)
        return torch.from_numpy(np.array(rows.with_format("numpy")[:]["window"], dtype=np.uint8))


def open_files(given: str, column: str, flag: str) -> Corpus:
    """A text file or a table of texts, packed (.gz, .zst) or not; a pattern (`data/*.jsonl`) of such, read in the
    order of their names; or, where there is no such file, one of `BUILT_IN` by its name.

    Args:
        given: path, pattern or name.
        column: that holds the text, in tables.
        flag: for messages.

    Raises:
        ValueError: if there is nothing, or what is no file, or files of several kinds.
    """
    name = f"{flag}: cannot read {given} as a UTF-8 text file"
    if given in BUILT_IN and not Path(given).exists():
        return from_memory(BUILT_IN[given](), name)
    paths = [given] if Path(given).exists() else sorted(glob.glob(given, recursive=True)) or [given]
    try:
        for path in paths:
            check_is_file(path)
        stats = [os.stat(path) for path in paths]
        size = sum(stat.st_size for stat in stats)
        if size == 0:
            raise ValueError(f"{flag}: {given} is empty")
    except OSError as error:
        raise ValueError(f"{name} ({error})") from error
    except ValueError as error:
        raise error if "is empty" in str(error) else ValueError(f"{name} ({error})") from error
    kinds = {TABLES.get(Path(_unpacked(path)).suffix, "text") for path in paths}
    if len(kinds) > 1:
        raise ValueError(
            f"{flag}: {given} names files of several kinds ({', '.join(sorted(kinds))}): give one of them"
        )
    kind = kinds.pop()
    identity = Hasher.hash(
        [kind, column, *((os.path.realpath(p), s.st_size, s.st_mtime_ns) for p, s in zip(paths, stats, strict=True))]
    )
    if kind == "text":
        plain = all(_unpacked(path) == path for path in paths)
        rows = datasets.IterableDataset.from_generator(_text_files, gen_kwargs={"paths": paths})
        return Corpus(name, rows, "text", b"", identity, size if plain else None)
    name = f"{flag}: cannot read column {column!r} of {given}"
    return Corpus(name, _streamed(name, kind, None, "train", data_files=paths), column, b"\n\n", identity)


def open_named(texts: list[str], column: str, flag: str) -> dict[str, Corpus]:
    """Opens texts given as `NAME=PATH`, of any kind that `open_files` takes.

    Raises:
        ValueError: if one is not of that form, names the same text twice, or there is no such file.
    """
    named: dict[str, Corpus] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not (name and equals and path) or name in named:
            raise ValueError(f"{flag} takes NAME=PATH, each name once, not {text!r}")
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{flag}: the name {name!r}: letters, digits, '.', '_', '-' and '+' only, for it stands in cards"
            )
        named[name] = open_files(path, column, flag)
    return named


def open_dataset(path: str, name: str | None, split: str, column: str) -> Corpus:
    """A column of a data set on the Hub or in a folder; its texts are joined by blank lines.

    Raises:
        ValueError: if there is no such data set or split.
    """
    told = f"--dataset: cannot read column {column!r} of split {split!r} of {path!r}"
    try:
        builder = datasets.load_dataset_builder(path, name)
        identity = Hasher.hash([builder.cache_dir, split, column])
    except Exception as error:
        raise ValueError(f"{told} ({first_line(_root(error))})") from error
    return Corpus(told, _streamed(told, path, name, split), column, b"\n\n", identity)


def from_memory(text: bytes, name: str = "text") -> Corpus:
    """A text that is in memory, as a corpus.

    Raises:
        ValueError: if it is not UTF-8.
    """
    rows = datasets.IterableDataset.from_generator(_memory, gen_kwargs={"text": text.decode("utf-8")})
    return Corpus(name, rows, "text", b"", Hasher.hash(text), len(text))


def cached(
    generator: Callable[..., Iterator[Any]], features: dict[str, Any], *identity: Any, **given: Any
) -> datasets.Dataset:
    """What a generator makes, from disk (memory-mapped) where it was made before.

    Several processes may ask at once: one makes it, the others wait. It lies where `datasets` keeps its files
    (`HF_DATASETS_CACHE`).

    Raises:
        ValueError: what the generator raises.
    """
    decides = {name: value for name, value in given.items() if name not in ("corpus", "tokenizer", "quiet", "files")}
    bars = datasets.utils.logging.is_progress_bar_enabled()
    datasets.utils.logging.disable_progress_bar()  # it counts rows whose number is not known
    try:
        return datasets.Dataset.from_generator(
            generator, features=datasets.Features(features), gen_kwargs=given,
            fingerprint=Hasher.hash([generator.__name__, VERSION, identity, sorted(decides.items())]),
        )  # fmt: skip
    except DatasetGenerationError as error:
        if isinstance(_root(error), ValueError):
            raise _root(error) from error
        raise
    finally:
        if bars:
            datasets.utils.logging.enable_progress_bar()


VERSION = 1  # of what is kept on disk


def room() -> int:
    """Bytes that are free where `datasets` keeps its files."""
    folder = Path(datasets.config.HF_DATASETS_CACHE)
    return shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.is_dir())).free


# ---- What is read, row by row ----


def _streamed(told: str, path: str, name: str | None, split: str, **where: Any) -> datasets.IterableDataset:
    try:
        return datasets.load_dataset(path, name, split=split, streaming=True, **where)
    except Exception as error:  # whatever one of the readers says
        raise ValueError(f"{told} ({first_line(_root(error))})") from error


def _unpacked(path: str) -> str:
    return path.removesuffix(Path(path).suffix) if Path(path).suffix in PACKED else path


def _text_files(paths: list[str]) -> Iterator[dict[str, str]]:
    for path in paths:
        with pa.input_stream(path, compression=PACKED.get(Path(path).suffix), buffer_size=1 << 20) as file:
            rest = b""
            while more := file.read(PIECE):
                text = rest + more
                cut = cut_point(text)
                rest = text[cut:]
                yield {"text": text[:cut].decode("utf-8")}
            yield {"text": rest.decode("utf-8")}


def _memory(text: str) -> Iterator[dict[str, str]]:
    yield from ({"text": text[start : start + PIECE]} for start in range(0, len(text), PIECE))


def _measure(corpus: Corpus) -> Iterator[dict[str, int]]:
    yield {"bytes": sum(len(piece) for piece in corpus.pieces(most=room()))}


def _cut(corpus: Corpus, starts: tuple[int, ...], length: int) -> Iterator[dict[str, Any]]:
    kept, place, waiting = b"", starts[0], list(reversed(starts))  # `kept` begins at byte `place`
    for piece in corpus.pieces(starts[0], starts[-1] + length):
        kept += piece
        while waiting and waiting[-1] + length <= place + len(kept):
            start = waiting.pop() - place
            yield {"window": np.frombuffer(kept, dtype=np.uint8, count=length, offset=start)}
        needless = min(len(kept), waiting[-1] - place) if waiting else 0
        kept, place = kept[needless:], place + needless


def _root(error: BaseException) -> BaseException:
    """What an error of `datasets` that only says that there was one came from."""
    while isinstance(error, DatasetGenerationError) and error.__cause__ is not None:
        error = error.__cause__
    return error
