"""Architectures by name: the fast test runs those that are named in the README, the slow one every one there is."""

import json

import pytest
from measure.tiny import tiny_config
from transformers import PreTrainedTokenizerFast
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from hf_universal_pretrain.models.build import build_model
from tests.conftest import ROOT


TABLE = json.loads((ROOT / "recipes" / "results" / "architectures.json").read_text())["architectures"]
NAMED = [
    "gpt2", "mamba", "mamba2", "jamba", "bamba", "qwen3_moe", "olmoe", "deepseek_v3", "gpt_oss", "gemma3_text",
    "smollm3", "olmo2", "olmo3", "granite", "falcon_h1", "rwkv", "bert", "bart",
]  # fmt: skip


@pytest.fixture
def examine(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(ROOT / "recipes")
    from measure import architectures

    return architectures


@pytest.mark.parametrize("name", NAMED)
def test_an_architecture_pretrains_saves_and_loads(name: str, examine, tmp_path) -> None:
    """Builds, trains 3 steps, saves, loads; logits equal and the first logged loss ln V, or it raises."""
    result, _ = examine.pretrain(examine.build_tiny(name, examine.NEEDS.get(name)), str(tmp_path))
    assert result["parameters"] < 1_000_000
    assert TABLE[name]["status"] == ("needs a flag" if name in examine.NEEDS else "works")
    assert TABLE[name]["class"] == result["class"]


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_every_architecture_does_what_the_table_says(examine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "build_default", lambda name, overrides: 0)  # minutes; and the sizes are in the table
    found = {name: examine.in_a_process(name)["status"] for name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES}
    assert found == {name: row["status"] for name, row in TABLE.items()}
    assert sum(status == "works" for status in found.values()) >= 150


@pytest.mark.parametrize(
    "name, kinds",
    [
        ("jamba", {"Attention", "MambaMixer", "MLP", "MoeBlock"}),
        ("falcon_h1", {"Attention", "Mixer", "MLP"}),
        ("deepseek_v3", {"Attention", "MLP", "MoE"}),
        ("gemma3_text", {"Attention", "MLP"}),
        ("qwen3_next", {"Attention", "GatedDeltaNet", "MoeBlock"}),
    ],
)
def test_a_tiny_model_has_every_kind_of_layer(name: str, kinds: set[str], tokenizer: PreTrainedTokenizerFast) -> None:
    model = build_model(tiny_config(name, tokenizer), 0, empty=True)
    classes = {type(module).__name__ for module in model.modules()}
    assert all(any(c.endswith(kind) for c in classes) for kind in kinds), classes
    assert model.num_parameters() < 1_000_000
