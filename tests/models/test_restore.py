"""Weights out of a saved folder: all that `from_pretrained` finds, on the model as it is, or a refusal."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from measure.tiny import tiny_config
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, ByT5Tokenizer, PreTrainedModel

from hf_universal_pretrain.errors import NotRestored
from hf_universal_pretrain.models.build import build_model
from hf_universal_pretrain.models.restore import restore_weights


def tiny(name: str, tokenizer: ByT5Tokenizer, seed: int) -> PreTrainedModel:
    return build_model(tiny_config(name, tokenizer), seed)


def change(folder: Path, file: str = "model.safetensors", **changed: torch.Tensor | None) -> None:
    """Adds, replaces or (None) removes tensors of a file."""
    weights = load_file(folder / file) | changed
    weights = {name: weight for name, weight in weights.items() if weight is not None}
    save_file(weights, folder / file, metadata={"format": "pt"})


def assert_same(one: PreTrainedModel, other: PreTrainedModel) -> None:
    theirs = other.state_dict()
    assert all(torch.equal(weight, theirs[name]) for name, weight in one.state_dict().items())


# tied embeddings; renamed; split experts; fused ones of other layouts; state-space mixers; buffers that are saved
@pytest.mark.parametrize(
    "name", ["gpt2", "gpt_neox", "mixtral", "qwen3_moe", "deepseek_v3", "gpt_oss", "jamba", "granitemoe", "nemotron_h"]
)
def test_all_weights_come_back_into_the_same_objects(name: str, tokenizer: ByT5Tokenizer, tmp_path: Path) -> None:
    saved, model = tiny(name, tokenizer, 0), tiny(name, tokenizer, 1)
    saved.save_pretrained(tmp_path, max_shard_size="50KB")
    places = {name: weight.data_ptr() for name, weight in model.state_dict().items()}
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    restore_weights(model, tmp_path)
    assert_same(saved, model)
    assert_same(model, AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32))
    assert places == {name: weight.data_ptr() for name, weight in model.state_dict().items()}
    now = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    assert torch.equal(states[0], now[0]) and states[1:] == now[1:]


def test_a_model_from_from_pretrained_gives_back_what_it_saved(tokenizer: ByT5Tokenizer, tmp_path: Path) -> None:
    """It saves under the names that it was loaded from."""
    tiny("qwen3_moe", tokenizer, 0).save_pretrained(tmp_path / "first")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "first", dtype=torch.float32)
    loaded.save_pretrained(tmp_path / "second")
    model = tiny("qwen3_moe", tokenizer, 1)
    restore_weights(model, tmp_path / "second")
    assert_same(loaded, model)


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"model.layers.1.mlp.experts.2.up_proj.weight": None}, "model.layers.1.mlp.experts"),
        ({"model.norm.weight": None}, r"has no values for 1 weights of the model \(model.norm.weight\)"),
        ({"model.bias": torch.zeros(3)}, r"holds 1 other weights \(model.bias\)"),
        ({"model.norm.weight": torch.zeros(3)}, "model.norm.weight"),
    ],
)
def test_whatever_is_not_restored_is_refused(
    changed: dict[str, torch.Tensor | None], message: str, tokenizer: ByT5Tokenizer, tmp_path: Path
) -> None:
    tiny("qwen3_moe", tokenizer, 0).save_pretrained(tmp_path)
    change(tmp_path, **changed)
    model = tiny("qwen3_moe", tokenizer, 1)
    with pytest.raises(NotRestored, match=message):
        restore_weights(model, tmp_path)
    assert_same(model, tiny("qwen3_moe", tokenizer, 1))


@pytest.mark.parametrize("index", ['{"weight_map": {"a": "weights.bin"}}', '{"weight_map": {"a": "../b.safetensors"}}',
                                   '{"weight_map": 3}', "[]", "{"])  # fmt: skip
def test_an_index_names_safetensors_files_beside_it_or_is_refused(
    index: str, tokenizer: ByT5Tokenizer, tmp_path: Path
) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    torch.save({"a": torch.zeros(1)}, tmp_path / "weights.bin")
    with pytest.raises(NotRestored, match=r"model.safetensors.index.json (names|is no index)"):
        restore_weights(tiny("gpt2", tokenizer, 0), tmp_path)


def test_files_that_are_missing_or_cut_are_refused(tokenizer: ByT5Tokenizer, tmp_path: Path) -> None:
    model = tiny("gpt2", tokenizer, 0)
    with pytest.raises(NotRestored, match="cannot be read .no model.safetensors"):
        restore_weights(model, tmp_path)
    model.save_pretrained(tmp_path, max_shard_size="50KB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    shard = tmp_path / sorted(set(index["weight_map"].values()))[0]
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(NotRestored, match="cannot be read"):
        restore_weights(model, tmp_path)
    shard.unlink()
    with pytest.raises(NotRestored, match="cannot be read"):
        restore_weights(model, tmp_path)
