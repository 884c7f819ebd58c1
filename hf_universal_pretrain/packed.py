"""Rows of tokens, cut out of real text of any size: from disk in any order, or made as the text is read."""

import hashlib
import logging
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch
from datasets.distributed import split_dataset_by_node
from datasets.fingerprint import Hasher
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from hf_universal_pretrain.corpus import Corpus, cached, from_memory, room
from hf_universal_pretrain.models.encoding import encode_pieces


logger = logging.getLogger(__name__)

LONG = 50_000_000  # bytes of a text from which on a bar shows how far it is read
WINDOW = 1024  # rows of a stream that are shuffled among each other


class TokenBlocks(Dataset[dict[str, Tensor]]):
    """A text as rows `{"input_ids", "labels"}` of `length` tokens, `(length,)` int64, cut one after the other.

    The tokens lie on disk (memory-mapped, two or four bytes each), where `datasets` keeps its files; a text that was
    cut before with the same tokenizer and length is not read again.

    Args:
        corpus: the text; or, where it is in memory, its UTF-8 bytes.
        tokenizer: any.
        length: tokens in a row.
        end: bytes of the text that are taken; None: all.
        show_progress: whether a long text shows a bar.

    Raises:
        ValueError: if the text cannot be read or has fewer tokens than one row.
    """

    def __init__(
        self,
        corpus: Corpus | bytes,
        tokenizer: PreTrainedTokenizerBase,
        length: int,
        end: int | None = None,
        show_progress: bool = True,
    ) -> None:
        corpus = from_memory(corpus) if isinstance(corpus, bytes) else corpus
        corpus.nulls = 0
        whose = (corpus.identity, _identity(tokenizer))
        dtype = "uint16" if len(tokenizer) <= 2**16 else "int32"
        features = {"input_ids": datasets.List(datasets.Value(dtype), length=length)}
        bar = show_progress and (end or corpus.size or 0) >= LONG
        self.length, self.rows = length, cached(
            _blocks, features, *whose, corpus=corpus, tokenizer=tokenizer, length=length, end=end, quiet=not bar,
        )  # fmt: skip
        if corpus.nulls:
            logger.warning(f"{corpus.nulls:,} rows of the text hold none (null) and are left out.")
        of = {"digest": datasets.Value("string")}
        files = tuple(file["filename"] for file in self.rows.cache_files)
        self.digest = cached(_digest, of, *whose, end, length, files=files)[0]["digest"]
        self.rows.set_format("torch")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        row = self.rows[index]["input_ids"].long()
        return {"input_ids": row, "labels": row.clone()}

    def run_settings(self) -> dict[str, Any]:
        """What decides the rows: a hash of the text in tokens, and the tokens in a row."""
        return {"train_text": self.digest, "context_length": self.length}


class StreamedBlocks(IterableDataset[dict[str, Tensor]]):
    """A text as rows `{"input_ids", "labels"}` of `length` tokens, `(length,)` int64, made as it is read: again and
    again, without end, and nothing is kept on disk.

    Rows are shuffled within windows of `WINDOW`, in an order that follows from the seed and the window's number.
    Where several processes read, each has rows of the text (pieces of a text file) of its own.

    Args:
        corpus: the text.
        tokenizer: any.
        length: tokens in a row.
        seed: of the order.
        rank: number of this process.
        world_size: number of processes.

    Raises:
        ValueError: if the text cannot be read, or this process's share of it has fewer tokens than one row.
    """

    def __init__(
        self,
        corpus: Corpus,
        tokenizer: PreTrainedTokenizerBase,
        length: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.corpus, self.tokenizer, self.length, self.seed = corpus, tokenizer, length, seed
        self.rank, self.world_size = rank, world_size
        if world_size > 1:
            corpus.rows = split_dataset_by_node(corpus.rows, rank, world_size)
        self.start: dict[str, Any] = {"source": None, "rest": [], "window": 0}
        self.served = 0
        next(self._windows(most=1))  # what is wrong with the text is told now

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for rows, after in self._windows(WINDOW):
            seed = np.random.SeedSequence([self.seed, self.start["window"]]).generate_state(1, np.uint64)[0]
            order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(int(seed))).tolist()
            while self.served < len(rows):
                row = rows[order[self.served]].long()
                self.served += 1
                yield {"input_ids": row, "labels": row.clone()}
            self.start, self.served = after, 0

    def _windows(self, most: int) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        """Windows from `start` on, `(most or more, length)` int32, and what `start` is after each."""
        source, window = self.corpus.rows, self.start["window"]
        rest = torch.tensor(self.start["rest"], dtype=torch.int32)
        source.load_state_dict(self.start["source"])
        while True:
            first = window
            for tokens in encode_pieces(self.corpus.pieces(), self.tokenizer, torch.int32):
                rest = torch.cat([rest, tokens])
                if len(rest) >= most * self.length:
                    rows, rest = _cut_rows(rest, self.length)
                    window += 1
                    yield rows, {"source": deepcopy(source.state_dict()), "rest": rest.tolist(), "window": window}
            source.load_state_dict(None)
            if len(rest) >= self.length:
                rows, rest = _cut_rows(rest, self.length)
                window += 1
                yield rows, {"source": None, "rest": rest.tolist(), "window": window}
            if window == first and not self.start["window"]:
                raise ValueError(f"--train_file: {len(rest)} tokens are less than one row of {self.length}")

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides the rows to come; loads with `torch.load(weights_only=True)`."""
        return {"rank": self.rank, "world_size": self.world_size, "start": self.start, "served": self.served}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where `state` was.

        Raises:
            ValueError: if that is of another process, or of another number of them.
        """
        if (state["rank"], state["world_size"]) != (self.rank, self.world_size):
            raise ValueError(f"the text's place is that of process {state['rank']} of {state['world_size']}")
        self.start, self.served = state["start"], state["served"]

    def run_settings(self) -> dict[str, Any]:
        """What decides the rows: the text's identity, and the tokens in a row."""
        return {"train_text": self.corpus.identity, "context_length": self.length, "streaming": True}


def _cut_rows(tokens: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Rows `(n, length)`, and the tokens that are left."""
    whole = len(tokens) // length * length
    return tokens[:whole].view(-1, length), tokens[whole:]


def _identity(tokenizer: PreTrainedTokenizerBase) -> str:
    """Differs where tokens do."""
    if tokenizer.is_fast:
        return Hasher.hash([len(tokenizer), tokenizer.backend_tokenizer.to_str()])
    return Hasher.hash([type(tokenizer).__name__, sorted(tokenizer.get_vocab().items())])


# ---- What is kept on disk ----


def _blocks(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase, length: int, end: int | None, quiet: bool
) -> Iterator[dict[str, np.ndarray]]:
    rest, cut = torch.empty(0, dtype=torch.int32), False
    with tqdm(desc="Tokenizing", total=end or corpus.size, unit="B", unit_scale=True, disable=quiet) as bar:
        for tokens in encode_pieces(_told(corpus.pieces(0, end, room()), bar), tokenizer, torch.int32):
            rows, rest = _cut_rows(torch.cat([rest, tokens]), length)
            yield from ({"input_ids": row} for row in rows.numpy())
            cut = cut or len(rows) > 0
    if not cut:
        raise ValueError(f"--train_file: {len(rest)} tokens are less than one row of {length}: give a longer text")


def _told(pieces: Iterator[bytes], bar: Any) -> Iterator[bytes]:
    for piece in pieces:
        bar.update(len(piece))
        yield piece


def _digest(files: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Read as files, since what is looked at through a memory map counts as this process's memory."""
    digest = hashlib.sha256()
    for file in files:
        with pa.OSFile(file) as opened, pa.ipc.open_stream(opened) as batches:
            for batch in batches:
                digest.update(batch.column(0).flatten().to_numpy().astype(np.int64).tobytes())
    yield {"digest": digest.hexdigest()[:12]}
