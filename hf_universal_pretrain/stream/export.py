"""The stream as parquet shards on disk, for any trainer that reads tokens.

A shard is a stream of its own: shard k is made by the generator of (stream_seed, rank k), on one thread, from its
burn-in on. So its rows depend on the settings and on k alone: not on how many processes write, on which shards were
there before, or on how many follow. A shard appears under its name only when it is complete.
"""

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from hf_universal_pretrain.errors import first_line
from hf_universal_pretrain.models.tokenizers import usable_tokens
from hf_universal_pretrain.stream.alphabet import Alphabet
from hf_universal_pretrain.stream.config import SyntheticUPConfig, differences
from hf_universal_pretrain.stream.dataset import SyntheticUPDataset, row_features
from hf_universal_pretrain.stream.sizes import check_stream


PART_ROWS = 256  # drawn at once: with a permuted alphabet each takes room for a number a token of the vocabulary
GROUP_BYTES = 8_000_000  # of a row group, uncompressed: what a writer holds in memory
_METADATA = b"hf_universal_pretrain"


@dataclass(frozen=True)
class Export:
    """What is to be written: `rows` rows, `rows_per_shard` in each shard but the last, into `folder`/data."""

    config: SyntheticUPConfig
    tokenizer: PreTrainedTokenizerBase
    folder: Path
    rows: int
    rows_per_shard: int

    def __post_init__(self) -> None:
        for name in ("rows", "rows_per_shard"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, not {getattr(self, name)}")
        check_stream(self.config)
        # refuses an alphabet that the tokenizer is too small for, before any process is started
        Alphabet(self.config.alphabet, self.config.alphabet_size, self._usable_tokens)

    @cached_property  # each shard tells it, and a large vocabulary takes a moment to read
    def _usable_tokens(self) -> list[int]:
        return usable_tokens(self.tokenizer, self.config.tokens)

    @property
    def shards(self) -> dict[int, int]:
        """Rows of each shard."""
        starts = range(0, self.rows, self.rows_per_shard)
        return {k: min(self.rows_per_shard, self.rows - start) for k, start in enumerate(starts)}

    def path(self, shard: int) -> Path:
        return self.folder / "data" / f"train-{shard:05d}.parquet"

    def settings(self) -> dict[str, Any]:
        """What decides a shard's rows, as it is kept in each file."""
        tokens = repr(self._usable_tokens)
        return {
            **self.config.decisive(),
            "rows_per_shard": self.rows_per_shard,
            "tokenizer": hashlib.sha256(tokens.encode()).hexdigest()[:8],
            "hf_universal_pretrain": version("hf_universal_pretrain"),
        }

    def missing_shards(self) -> dict[int, int]:
        """The shards that are yet to be written, and their rows. One with fewer rows than it should have (the last,
        when rows are added to a finished export) is written again.

        Raises:
            ValueError: if there are shards that were made with other settings, or more rows than wanted.
        """
        wanted, missing, mine = self.shards, dict(self.shards), json.loads(json.dumps(self.settings()))
        for path in sorted((self.folder / "data").glob("train-*.parquet")):
            try:
                there = pq.read_metadata(path)
                theirs = dict(json.loads((there.metadata or {}).get(_METADATA, b"{}")))
            except (OSError, ValueError, TypeError) as error:  # pyarrow's own errors are among these
                raise ValueError(
                    f"--output: {path} is no shard that can be read ({first_line(error)}): delete it, or give another "
                    "folder"
                ) from error
            # a shard from before a setting was there had that setting's default
            told = differences({**SyntheticUPConfig().decisive(), **theirs}, mine)
            if told:
                raise ValueError(
                    f"--output: {path} was made with other settings: {told}. Give another folder, or the same settings"
                )
            shard = int(path.stem.removeprefix("train-"))
            if there.num_rows > wanted.get(shard, 0):
                raise ValueError(
                    f"--rows: {self.folder} holds more than {self.rows:,} rows already: give another folder, or at "
                    "least as many rows as are there"
                )
            if there.num_rows == wanted[shard]:
                del missing[shard]
        return missing

    def write(self, num_proc: int, show_progress: bool = True) -> dict[str, float]:
        """Writes the missing shards, `num_proc` at a time, each in a process of its own with one thread.

        Returns:
            `rows` that were written, `seconds` that it took, `processes` that wrote, `bytes` of all shards, and
            `process_mb`, the largest memory (MB, peak resident set) that one process needed.
        """
        missing, began = self.missing_shards(), time.perf_counter()
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        self.config.save_pretrained(self.folder)
        context = get_context("spawn")  # torch does not survive a fork
        counter, peak = context.Value("q", 0), 0.0
        there = self.rows - sum(missing.values())
        bar = tqdm(total=self.rows, initial=there, unit="row", mininterval=1, disable=not show_progress)
        workers = ProcessPoolExecutor(num_proc, context, initializer=_start_worker, initargs=(self, counter))
        with bar, workers as pool:
            pending = {pool.submit(_write_shard, shard, rows) for shard, rows in missing.items()}
            try:
                while pending:
                    done, pending = wait(pending, timeout=0.5)
                    bar.update(there + counter.value - bar.n)
                    peak = max([peak, *(future.result() for future in done)])
            except BaseException:
                for future in pending:
                    future.cancel()
                for worker in active_children():  # who would first write their shards to the end
                    worker.terminate()
                raise  # and the pool is waited for: what it leaves to the interpreter's end may fail there
        return {
            "rows": sum(missing.values()),
            "seconds": time.perf_counter() - began,
            "processes": min(num_proc, len(missing)),
            "bytes": sum(self.path(shard).stat().st_size for shard in self.shards),
            "process_mb": peak,
        }


def draw_rows(stream: SyntheticUPDataset, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The next `count` rows of a stream, in parts of tokens and labels, `(rows, context_length)` int64 each: those
    between two rounds at once, which is faster than iterating (and draws other rows of the same buffer).

    Parts end where they would if more were asked for, since a row's tokens depend on how many are drawn with it; the
    stream has served the whole of the last part, of which only the first rows may be wanted.
    """
    period = stream.config.rows_per_round
    while count:
        for _ in range(stream.rounds_due()):
            stream.enrich()
        tokens, labels = stream.draw(min(PART_ROWS, period - stream.rows_served % period))
        tokens, labels = tokens[:count], labels[:count]
        count -= len(tokens)
        yield tokens, labels


# ---- In a process that writes shards ----

_export: Export
_counter: "Synchronized[int]"


def _start_worker(export: Export, counter: "Synchronized[int]") -> None:
    global _export, _counter
    _export, _counter = export, counter
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it at once, without a traceback of its own
    Thread(target=_end_with_the_parent, daemon=True).start()
    torch.set_num_threads(1)  # sums in another order could tip a machine's choice of a symbol


def _end_with_the_parent() -> None:
    """The pool's workers would wait for work for ever if the process that has it were killed."""
    parent = parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _write_shard(shard: int, rows: int) -> float:
    """Writes one shard, or nothing, and returns this process's peak memory in MB."""
    path = _export.path(shard)
    unfinished = path.with_suffix(".unfinished")
    try:
        _write_rows(shard, rows, unfinished)
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)  # where a disk is full, it takes room
        raise
    return _peak_mb()


def _write_rows(shard: int, rows: int, path: Path) -> None:
    config = _export.config
    stream = SyntheticUPDataset(config, _export.tokenizer, rank=shard)
    schema = row_features(config, _export.tokenizer).arrow_schema
    schema = schema.with_metadata({**schema.metadata, _METADATA: json.dumps(_export.settings()).encode()})
    item = schema.field("input_ids").type.value_type
    group = max(1, GROUP_BYTES // (config.context_length * item.bit_width // 8))
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        parts: list[list[np.ndarray]] = []  # of each part the tokens, and the labels if they are asked for
        for part in draw_rows(stream, rows):
            parts.append(
                [column.numpy().astype(item.to_pandas_dtype()) for column, _ in zip(part, schema, strict=False)]
            )
            made = len(part[0])
            rows -= made
            if rows == 0 or sum(len(columns[0]) for columns in parts) >= group:
                columns = [
                    pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(column).ravel()), config.context_length)
                    for column in zip(*parts, strict=True)
                ]
                writer.write_table(pa.Table.from_arrays(columns, schema=schema))
                parts.clear()
            with _counter.get_lock():
                _counter.value += made


def _peak_mb() -> float:
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset / 1e6
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e6 / 1024)  # bytes there, KiB on Linux
