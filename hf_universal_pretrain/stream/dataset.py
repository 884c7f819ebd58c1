"""The synthetic stream: machines enrich a buffer, rows are sampled from it. Algorithm 1 of arXiv 2506.20057."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info
from transformers import PreTrainedTokenizerBase

from hf_universal_pretrain.models.tokenizers import usable_tokens
from hf_universal_pretrain.stream.alphabet import Alphabet
from hf_universal_pretrain.stream.beside import SideStream
from hf_universal_pretrain.stream.buffer import SequenceBuffer
from hf_universal_pretrain.stream.config import SyntheticUPConfig, differences
from hf_universal_pretrain.stream.families import build_family
from hf_universal_pretrain.stream.mixture import Mixture, Read
from hf_universal_pretrain.stream.shares import family_of
from hf_universal_pretrain.stream.sizes import check_stream


STATE_VERSION = 4
READABLE_VERSIONS = (3, 4)  # 3 has the mixture's state beside the others, and factors of gains
HELD_OUT_RANK = 2**31 - 1  # of the stream that held-out rows come from: no process has this number
COUNTS = ("step", "rounds", "rows_served", "tried", "kept")


class SyntheticUPDataset(IterableDataset[dict[str, Tensor]]):
    """An endless stream of `{"input_ids", "labels"}`, each `(context_length,)` int64; labels are -100 where the model
    is not judged.

    A round is due after every `rows_per_round` rows. Iterated on its own (a stock `Trainer`, a `DataLoader`) the
    dataset runs it by itself; under [`UPTrainer`] the [`BufferEnrichmentCallback`] does. Each process has its own
    stream.

    Args:
        config: the settings of machines, buffer and alphabet.
        tokenizer: whose tokens the rows are made of; its special tokens are never produced. Without one, symbols are
            tokens, whatever `config.tokens` says.
        device: where machines run and the buffer lives. The same seed gives the same rows on the same kind of device.
        rank: number of this process. [`UPTrainer`] sets it.
        world_size: number of processes.

    Attributes:
        buffer: the rows as they are.
        mixture: the machines that enrich it.
        step: the training step, which the stages of a curriculum go by. [`UPTrainer`] sets it; set it yourself in a
            loop of your own.
        tried: rows generated so far, those outside the band included.
        kept: rows written into the buffer so far.

    Raises:
        ValueError: if the tokenizer has fewer usable tokens than the alphabet has symbols, or the settings need more
            memory or time than there is.
    """

    def __init__(
        self,
        config: SyntheticUPConfig,
        tokenizer: PreTrainedTokenizerBase | None = None,
        device: str | torch.device = "cpu",
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        check_stream(config, device)
        self.config = config
        self.tokenizer = tokenizer
        tokens = list(range(config.alphabet_size)) if tokenizer is None else usable_tokens(tokenizer, config.tokens)
        self.alphabet = Alphabet(config.alphabet, config.alphabet_size, tokens)
        self.enriches_itself = True
        self.start(device, rank, world_size)

    def start(self, device: str | torch.device, rank: int, world_size: int, from_step: int = 0) -> None:
        """(Re)starts the stream of process `rank` from its seed; at another training step than 0, from a seed of that
        step's own, so that rows do not come again."""
        self.rank, self.world_size = rank, world_size
        seed = np.random.SeedSequence([self.config.stream_seed, rank, from_step]).generate_state(1, np.uint64)[0]
        self.random = torch.Generator(device).manual_seed(int(seed))
        config = self.config
        self.buffer = SequenceBuffer(
            config.buffer_size, config.context_length, config.alphabet_size, self.random, config.sampling
        )
        self.rounds = self.rows_served = self.tried = self.kept = 0
        self.step = from_step
        self.mixture = Mixture(self.config, self.random, from_step)
        self.side = SideStream(self.random.device)  # last: its work comes after all that stands above

    def enrich(self) -> None:
        """One round of Algorithm 1; on a GPU it is launched, and runs beside whatever the GPU is doing."""
        with self.side.work():
            self._round()

    def _round(self) -> None:
        config, buffer = self.config, self.buffer
        self.mixture.prepare(self.step, self.rounds)
        where = buffer.choose(config.source_batch)
        made = self.mixture.generate(self._read(where), lambda count: self._read(buffer.choose(count)))
        buffer.write(where[made.kept], made.rows[made.kept], made.passes[made.kept])
        self.tried += made.tried
        self.kept += len(made.kept)
        self.rounds += 1
        if self.rounds % config.reset_every == 0:
            buffer.reset(config.num_resets)

    def _read(self, where: Tensor) -> Read:
        """What machines read to write rows `where` of the buffer: seeds, conditions, and the conditions' passes."""
        buffer, length = self.buffer, self.config.seed_length
        if self.config.ablation != "no_iteration":
            return buffer.crop(len(where), length), buffer.read(where), buffer.passes[where]
        order = torch.randperm(2 * len(where), generator=self.random, device=self.random.device)
        seeds, conditions = buffer.noise(2 * len(where))[order].chunk(2)
        return seeds[:, :length], conditions, torch.zeros_like(buffer.passes[where])

    def rounds_due(self) -> int:
        """How many rounds are due before the next row: the burn-in, then one for each `rows_per_round` rows served."""
        due = self.config.burn_in_rounds + self.rows_served // self.config.rows_per_round
        return max(0, due - self.rounds)

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Samples rows from the buffer as it is: tokens and labels, each `(count, context_length)` int64."""
        self.rows_served += count
        with self.side.access():
            symbols, judged = self.buffer.sample(count)
            if self.config.ablation == "shuffled_positions":
                order = torch.rand(symbols.shape, generator=self.random, device=symbols.device).argsort(1)
                symbols, judged = symbols.gather(1, order), judged.gather(1, order)
            tokens = self.alphabet.encode(symbols, self.random)
            return tokens, torch.where(judged, tokens, -100)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        if get_worker_info() is not None:
            raise ValueError(
                "SyntheticUPDataset cannot be read by DataLoader workers, which would all serve the same rows: "
                "set dataloader_num_workers (num_workers) to 0"
            )
        while True:
            if self.enriches_itself:
                for _ in range(self.rounds_due()):
                    self.enrich()
            tokens, labels = self.draw(1)
            yield {"input_ids": tokens[0], "labels": labels[0]}

    def to_hf(self, num_shards: int = 1) -> datasets.IterableDataset:
        """The stream as an endless `datasets.IterableDataset` of `{"input_ids"}` (and `{"labels"}` where the two
        differ, see `row_features`), made as it is read.

        It starts afresh from the seed and rank of this stream, whatever this one has served, and follows its settings
        and tokenizer. (Parquet files of it: recipes/export_dataset.py.)

        Args:
            num_shards: independent streams (of ranks `rank`, `rank + 1`, ...), served in turns; a `DataLoader` may
                have as many workers, and `datasets.distributed.split_dataset_by_node` as many nodes.
        """
        return datasets.IterableDataset.from_generator(
            _serve_in_turns,
            features=row_features(self.config, self.tokenizer),
            gen_kwargs={
                "ranks": list(range(self.rank, self.rank + num_shards)),
                "config": self.config,
                "tokenizer": self.tokenizer,
                "device": str(self.random.device),
            },
        )

    @property
    def generation_seconds(self) -> float:
        """How long the rounds took so far, those of before a (re)start not counted."""
        return self.side.seconds

    def held_out_rows(self, count: int) -> Tensor:
        """Draws `(count, context_length)` int64 tokens of the stage that the stream is in, from a stream that no
        process trains on: the same pools of machines, other rows. The same at each call in a stage."""
        settings = dataclasses.replace(self.mixture.stage, buffer_size=max(self.mixture.stage.buffer_size, 2 * count))
        stream = SyntheticUPDataset(settings, self.tokenizer, self.random.device, rank=HELD_OUT_RANK)
        stream.mixture.pools = self.mixture.pools  # or they would be drawn again
        for _ in range(max(1, settings.burn_in_rounds)):
            stream.enrich()
        return stream.draw(count)[0]

    def run_settings(self) -> dict[str, Any]:
        """What decides the rows, as it is kept with a run."""
        return self.config.decisive()

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides the stream's future; loads with `torch.load(weights_only=True)`."""
        with self.side.access():
            buffer = self.buffer.state_dict()
        return {
            "version": STATE_VERSION,
            "config": self.config.decisive(),
            "rank": self.rank,
            "world_size": self.world_size,
            "device": self.random.device.type,
            "counts": {name: getattr(self, name) for name in COUNTS},
            "mixture": self.mixture.state_dict(),
            "buffer": buffer,
            "generator": self.random.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues the stream of `state`.

        Raises:
            ValueError: if the state is of another version, rank, world size, kind of device or configuration.
        """
        if state.get("version") not in READABLE_VERSIONS:
            raise ValueError(f"the stream's state has version {state.get('version')}, not {READABLE_VERSIONS}")
        mine = {"rank": self.rank, "world_size": self.world_size, "device": self.random.device.type}
        for name, value in mine.items():
            if state.get(name) != value:
                raise ValueError(f"the stream's state has {name} {state.get(name)}, this run has {name} {value}")
        # a state from before a setting was there had that setting's default
        told = differences({**SyntheticUPConfig().decisive(), **state["config"]}, self.config.decisive())
        if told:
            raise ValueError(f"the stream's state was made with other settings: {told}")
        for name in COUNTS:
            setattr(self, name, state["counts"][name])
        self.mixture.load_state_dict(state.get("mixture", state))
        self.random.set_state(state["generator"])
        with self.side.access():
            self.buffer.load_state_dict(state["buffer"])


def row_features(config: SyntheticUPConfig, tokenizer: PreTrainedTokenizerBase | None) -> datasets.Features:
    """The columns of a data set of rows, `context_length` integers each, in 16 bits where tokens fit: `input_ids`,
    and `labels` (-100 where the model is not judged) if the mixture has a family that leaves symbols unjudged."""
    tokens = config.alphabet_size if tokenizer is None else len(tokenizer)
    dtype = "int16" if tokens <= 32_768 else "int32"
    names = {family_of(part) for stage in config.stages for part in stage.mixture}
    judges_all = all(build_family(name, config).judges_all for name in names)
    columns = ("input_ids",) if judges_all else ("input_ids", "labels")
    column = datasets.List(datasets.Value(dtype), length=config.context_length)
    return datasets.Features(dict.fromkeys(columns, column))


def _serve_in_turns(
    ranks: list[int], config: SyntheticUPConfig, tokenizer: PreTrainedTokenizerBase | None, device: str
) -> Iterator[dict[str, Any]]:
    streams = [SyntheticUPDataset(config, tokenizer, device, rank) for rank in ranks]
    columns = list(row_features(config, tokenizer))
    while True:
        for stream in streams:
            for _ in range(stream.rounds_due()):
                stream.enrich()
            row = dict(zip(("input_ids", "labels"), stream.draw(1), strict=True))
            yield {name: row[name][0].tolist() for name in columns}  # collators take lists of plain integers
