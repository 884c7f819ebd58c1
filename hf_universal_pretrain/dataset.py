"""The synthetic stream: machines enrich a buffer, rows are sampled from it. Algorithm 1 of arXiv 2506.20057."""

import time
from collections.abc import Iterator
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info
from transformers import PreTrainedTokenizerBase

from hf_universal_pretrain.alphabet import Alphabet
from hf_universal_pretrain.buffer import SequenceBuffer
from hf_universal_pretrain.config import SyntheticUPConfig
from hf_universal_pretrain.machines import Machines, build_family


STATE_VERSION = 1


class SyntheticUPDataset(IterableDataset):
    """An endless stream of `{"input_ids", "labels"}`, each `(context_length,)` int64.

    A round is due after every `rows_per_round` rows. Iterated on its own (a stock `Trainer`, a `DataLoader`) the
    dataset runs it by itself; under [`UPTrainer`] the [`BufferEnrichmentCallback`] does. Each process has its own
    stream.

    Args:
        config: the settings of machines, buffer and alphabet.
        tokenizer: whose tokens the rows are made of; its special tokens are never produced. Without one, symbols are
            tokens.
        device: where machines run and the buffer lives. The same seed gives the same rows on the same kind of device.
        rank: number of this process. [`UPTrainer`] sets it.
        world_size: number of processes.

    Raises:
        ValueError: if the tokenizer has fewer usable tokens than the alphabet has symbols.
    """

    def __init__(
        self,
        config: SyntheticUPConfig,
        tokenizer: PreTrainedTokenizerBase | None = None,
        device: str | torch.device = "cpu",
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.config = config
        self.tokenizer = tokenizer
        if tokenizer is None:
            usable_tokens = list(range(config.alphabet_size))
        else:
            usable_tokens = sorted(set(range(len(tokenizer))) - set(tokenizer.all_special_ids))
        self.alphabet = Alphabet(config.alphabet, config.alphabet_size, usable_tokens)
        self.families = {name: build_family(name, config) for name in config.mixture}
        self.enriches_itself = True
        self.generation_seconds = 0.0
        self.start(device, rank, world_size)

    def start(self, device: str | torch.device, rank: int, world_size: int) -> None:
        """(Re)starts the stream of process `rank` from its seed."""
        self.rank, self.world_size = rank, world_size
        seed = np.random.SeedSequence([self.config.stream_seed, rank]).generate_state(1, np.uint64)[0]
        self.random = torch.Generator(device).manual_seed(int(seed))
        self.buffer = SequenceBuffer(
            self.config.buffer_size, self.config.context_length, self.config.alphabet_size, self.random
        )
        self.rounds = 0
        self.rows_served = 0
        self._draw_machines()

    def _draw_machines(self) -> None:
        """Draws the machines of the coming rounds and keeps the generator's state, from which they follow."""
        self._drawn_from = self.random.get_state()
        self.machines: list[Machines] = [
            self.families[name].draw(rows, self.random) for name, rows in self.config.rows_of_families().items()
        ]

    def enrich(self) -> None:
        """One round of Algorithm 1."""
        config, buffer, began = self.config, self.buffer, time.perf_counter()
        if self.rounds and self.rounds % config.redraw_every == 0:
            self._draw_machines()
        where = buffer.choose(config.source_batch)
        conditions = buffer.read(where)
        seeds = buffer.crop(config.source_batch, config.seed_length)
        shares = list(config.rows_of_families().values())
        generated, passes = [], []
        for machines, family, seed, condition, passed in zip(
            self.machines, self.families.values(), seeds.split(shares), conditions.split(shares),
            buffer.passes[where].split(shares), strict=True,
        ):  # fmt: skip
            generated.append(machines.generate(seed, condition, self.random))
            passes.append(passed + 1 if family.reads_condition else torch.ones_like(passed))
        buffer.write(where, torch.cat(generated), torch.cat(passes))
        self.rounds += 1
        if self.rounds % config.reset_every == 0:
            buffer.reset(config.num_resets)
        if self.random.device.type == "cuda":
            torch.cuda.synchronize(self.random.device)  # or the time below would be that of the launches alone
        self.generation_seconds += time.perf_counter() - began

    def rounds_due(self) -> int:
        """How many rounds are due before the next row: the burn-in, then one for each `rows_per_round` rows served."""
        due = self.config.burn_in_rounds + self.rows_served // self.config.rows_per_round
        return max(0, due - self.rounds)

    def draw(self, count: int) -> Tensor:
        """Samples `(count, context_length)` int64 rows of tokens from the buffer as it is."""
        self.rows_served += count
        return self.alphabet.encode(self.buffer.sample(count), self.random)

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
            row = self.draw(1)[0]
            yield {"input_ids": row, "labels": row.clone()}

    def to_hf(self, num_shards: int = 1) -> datasets.IterableDataset:
        """The stream as an endless `datasets.IterableDataset` of `{"input_ids"}`, made as it is read.

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
    def symbols_generated(self) -> int:
        """Symbols generated so far by this process."""
        return self.rounds * self.config.source_batch * self.config.context_length

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides the stream's future; loads with `torch.load(weights_only=True)`."""
        return {
            "version": STATE_VERSION,
            "config": self.config.to_dict(),
            "rank": self.rank,
            "world_size": self.world_size,
            "rounds": self.rounds,
            "rows_served": self.rows_served,
            "buffer": self.buffer.state_dict(),
            "generator": self.random.get_state(),
            "machines_drawn_from": self._drawn_from,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues the stream of `state`.

        Raises:
            ValueError: if the state is of another version, rank, world size or configuration.
        """
        mine = {"version": STATE_VERSION, "rank": self.rank, "world_size": self.world_size}
        for name, value in mine.items():
            if state[name] != value:
                raise ValueError(f"the stream's state has {name} {state[name]}, this run has {name} {value}")
        changed = {k: v for k, v in self.config.to_dict().items() if state["config"].get(k) != v}
        if changed:
            told = ", ".join(f"{k} (was {state['config'].get(k)}, now {v})" for k, v in changed.items())
            raise ValueError(f"the stream's state was made with other settings: {told}")
        self.random.set_state(state["machines_drawn_from"])
        self._draw_machines()
        self.random.set_state(state["generator"])
        self.buffer.load_state_dict(state["buffer"])
        self.rounds = state["rounds"]
        self.rows_served = state["rows_served"]


def row_features(config: SyntheticUPConfig, tokenizer: PreTrainedTokenizerBase | None) -> datasets.Features:
    """The column of a data set of rows: `input_ids`, `context_length` tokens, in 16 bits where they fit."""
    tokens = config.alphabet_size if tokenizer is None else len(tokenizer)
    dtype = "int16" if tokens <= 32_768 else "int32"
    return datasets.Features({"input_ids": datasets.List(datasets.Value(dtype), length=config.context_length)})


def _serve_in_turns(
    ranks: list[int], config: SyntheticUPConfig, tokenizer: PreTrainedTokenizerBase | None, device: str
) -> Iterator[dict[str, Any]]:
    streams = [SyntheticUPDataset(config, tokenizer, device, rank) for rank in ranks]
    while True:
        for stream in streams:
            for _ in range(stream.rounds_due()):
                stream.enrich()
            yield {"input_ids": stream.draw(1)[0].cpu().numpy()}
