"""The streams whose rows are pinned."""

import itertools
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import ByT5Tokenizer

from hf_universal_pretrain import SyntheticUPConfig, SyntheticUPDataset


ROWS, HALF = 160, 80
STEP_ROWS = 16  # rows of a training step, for the curriculum
FAMILIES = (
    "lstm", "gru", "rnn", "reservoir", "transformer", "markov", "hmm", "context_tree", "repeat", "nca", "eca", "dyck",
    "shuffle_dyck", "procedural", "program", "uniform", "constant",
)  # fmt: skip
SMALL: dict[str, Any] = {
    "context_length": 48, "hidden_size": 16, "source_batch": 16, "buffer_size": 32, "rows_per_round": 16,
    "burn_in_rounds": 2, "machines_per_round": 2, "stream_seed": 7,
}  # fmt: skip
MIXTURE = "lstm=0.5,context_tree=0.25,procedural=0.25"


def small(**changed: Any) -> Callable[[], SyntheticUPConfig]:
    return lambda: SyntheticUPConfig(**{**SMALL, **changed})


STREAMS: dict[str, Callable[[], SyntheticUPConfig]] = {
    **{name: small(machines=name) for name in FAMILIES},
    "default machines": small(),
    # between two draws at row 80: then the machines in use decide what comes
    "mixture": small(machines=MIXTURE, redraw_every=3, reset_every=2, burn_in_rounds=3),
    "never redrawn": small(machines=MIXTURE, redraw_every=0),
    "band": small(machines="lstm=0.5,nca=0.5", complexity="0.3:0.9", context_length=64),
    "curriculum": small(
        machines="markov",
        redraw_every=3,
        burn_in_rounds=3,
        curriculum=['{at: 3, machines: "lstm=0.5,repeat=0.5"}', "{at: 7, machines: nca}"],
    ),
    "curriculum with a band": small(
        machines="markov", curriculum=['{at: 3, machines: "lstm=0.5,repeat=0.5"}', "{at: 7, complexity: 0.3:0.9}"]
    ),
    "no iteration": small(machines="lstm", ablation="no_iteration"),
    "shuffled positions": small(machines=MIXTURE, ablation="shuffled_positions"),
    "permuted": small(machines=MIXTURE, alphabet="permuted"),
    "printable": small(machines=MIXTURE, tokens="printable", alphabet_size=97, alphabet="permuted"),
    "prefix and temperature": small(machines="lstm=0.5,gru=0.5", conditioning="prefix", temperature_range=[0.5, 2.0]),
    "paper": lambda: SyntheticUPConfig.paper(
        8, **{"context_length": 32, "hidden_size": 16, "num_layers": 2, "stream_seed": 7}
    ),
}


def fresh(name: str) -> SyntheticUPDataset:
    return SyntheticUPDataset(STREAMS[name](), ByT5Tokenizer(extra_ids=0))


def serve(dataset: SyntheticUPDataset, first: int, last: int) -> list[dict[str, Tensor]]:
    """Rows `first` to `last` of a stream that has served `first` rows; its training step goes with the rows."""
    stream, rows = iter(dataset), []
    for number in range(first, last):
        dataset.step = number // STEP_ROWS
        rows.append(next(stream))
    return rows


def checksums(rows: list[dict[str, Tensor]]) -> dict[str, int]:
    """CRC-32 of each column."""
    return {key: zlib.crc32(torch.stack([row[key] for row in rows]).numpy().tobytes()) for key in rows[0]}


def resumed(name: str) -> list[dict[str, Tensor]]:
    """The rows of a stream whose state is saved half-way and goes on in another data set."""
    dataset = fresh(name)
    rows = serve(dataset, 0, HALF)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(dataset.state_dict(), Path(folder) / "state.pt")
        state = torch.load(Path(folder) / "state.pt", weights_only=True)
    other = fresh(name)
    other.load_state_dict(state)
    return rows + serve(other, HALF, ROWS)


def of_two_shards() -> list[dict[str, Tensor]]:
    """Rows of the mixture as an iterable of `datasets`, from two streams in turns."""
    rows = itertools.islice(fresh("mixture").to_hf(2), ROWS)
    return [{key: torch.tensor(value) for key, value in row.items()} for row in rows]


def all_checksums() -> dict[str, dict[str, int]]:
    served = {name: checksums(serve(fresh(name), 0, ROWS)) for name in STREAMS}
    return {**served, "mixture, two shards": checksums(of_two_shards())}
