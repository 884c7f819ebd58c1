"""Over the space of configurations: what is accepted works, what is not is refused by the name of its field."""

import dataclasses
import math
from typing import Any

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_universal_pretrain import SyntheticUPConfig, SyntheticUPDataset
from hf_universal_pretrain.machines import FAMILIES
from hf_universal_pretrain.models.tokenizers import build_tokenizer


FIELDS = [field.name for field in dataclasses.fields(SyntheticUPConfig)]
PARTS = st.sampled_from([*sorted(FAMILIES), *(f"{name}@{size}" for size in (1, 3) for name in sorted(FAMILIES))])
SHARES = st.dictionaries(PARTS, st.sampled_from(["0.2", "1", "3"]), min_size=1, max_size=3)
MACHINES = SHARES.map(lambda shares: ",".join(f"{name}={share}" for name, share in shares.items()))
RANGE = st.tuples(st.floats(0.01, 20), st.floats(0.01, 20)).map(lambda ends: sorted(ends))
BAND = st.sampled_from(["", "", "0.2:0.9", "0:1.5", "0.8:0.81"])
STAGE = st.fixed_dictionaries({"machines": MACHINES}, optional={"complexity": BAND})
STAGES = st.lists(STAGE, max_size=2).map(lambda stages: [{"at": 2 * i + 1, **stage} for i, stage in enumerate(stages)])
# Ranges reach over the edges of what is allowed, and sizes need not fit each other; still, about half are accepted.
SETTINGS = st.fixed_dictionaries(
    {
        "context_length": st.integers(2, 40),
        "seed_length": st.integers(1, 4),
        "source_batch": st.integers(4, 24),
        "buffer_size": st.integers(12, 30).map(lambda half: 2 * half),
    },
    optional={
        "machines": MACHINES,
        "complexity": BAND,
        "target_acceptance": st.floats(0, 1),
        "curriculum": STAGES,
        "alphabet_size": st.integers(1, 300),
        "alphabet": st.sampled_from(["identity", "permuted"]),
        "tokens": st.sampled_from(["all", "printable"]),
        "num_layers": st.integers(1, 2),
        "hidden_size": st.integers(1, 12),
        "embedding_scale": st.floats(0, 10),
        "gain_range": RANGE,
        "gain_law": st.sampled_from(["log_uniform", "fourth_power"]),
        "temperature_range": RANGE,
        "entropy_range": RANGE,
        "own_symbols_range": st.tuples(st.integers(1, 40), st.integers(1, 60)).map(sorted),
        "conditioning": st.sampled_from(["aligned", "prefix", "none"]),
        "machines_per_round": st.integers(1, 5),
        "redraw_every": st.sampled_from([1, 1, 1, 2, 0]),
        "rows_per_round": st.integers(1, 9),
        "reset_every": st.integers(1, 2),
        "num_resets": st.sampled_from([0, 2, 4, 8, 3]),
        "burn_in_rounds": st.integers(0, 2),
        "stream_seed": st.integers(0, 2**70),
    },
)
WRONG = st.sampled_from(
    [None, True, -1, 0, 1, 3, -0.5, math.nan, math.inf, "", "x", "lstm", "3", [], [1.0], [3.0, 1.0], [math.nan, 1.0],
     ["x", "y"], [None, 2.0], {}, {"at": 1}, ["{at: 1}"], ["{"], [3], b"lstm", 2.5]
)  # fmt: skip
SAME_EACH_TIME = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def accepted(values: dict[str, Any]) -> SyntheticUPConfig | None:
    """The configuration; None if it is refused as it should be."""
    try:
        return SyntheticUPConfig(**values)
    except ValueError as error:
        assert any(name in str(error) for name in FIELDS), error
        return None


def assert_works(config: SyntheticUPConfig) -> None:
    tokenizer = build_tokenizer("byte")
    try:
        dataset = SyntheticUPDataset(config, tokenizer)
    except ValueError as error:
        assert "alphabet_size" in str(error) and config.alphabet_size > {"all": 256, "printable": 97}[config.tokens]
        dataset, tokenizer = SyntheticUPDataset(config), None
    dataset.step = 3
    for _ in range(3):
        dataset.enrich()
    tokens, labels = dataset.draw(5)
    assert tokens.shape == labels.shape == (5, config.context_length) and tokens.dtype == labels.dtype == torch.int64
    assert torch.equal(labels[labels != -100], tokens[labels != -100])
    low, high = (0, config.alphabet_size) if tokenizer is None else (3, len(tokenizer))
    assert tokens.min() >= low and tokens.max() < high
    again = SyntheticUPDataset(config, tokenizer)
    again.load_state_dict(dataset.state_dict())
    assert torch.equal(again.draw(3)[0], dataset.draw(3)[0])


@settings(SAME_EACH_TIME, max_examples=150)
@given(SETTINGS)
def test_what_is_accepted_makes_three_rounds_and_a_valid_batch(values: dict[str, Any]) -> None:
    config = accepted(values)
    if config is not None:
        assert_works(config)


@settings(SAME_EACH_TIME, max_examples=600)
@given(st.sampled_from(FIELDS), WRONG)
def test_one_wrong_value_is_refused_by_name_or_works(name: str, value: object) -> None:
    small = {"context_length": 16, "source_batch": 8, "buffer_size": 16, "hidden_size": 4, "machines": "lstm,markov"}
    try:
        config = SyntheticUPConfig(**{**small, name: value})
    except ValueError as error:
        assert name in str(error)
        return
    assert_works(config)
