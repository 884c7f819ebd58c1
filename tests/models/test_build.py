import math
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, PreTrainedTokenizerFast

from hf_universal_pretrain.models.build import build_config, build_model, check_fits, has_rotary_positions, load_model
from hf_universal_pretrain.models.tokenizers import build_tokenizer


SMALL = "num_hidden_layers=2,hidden_size=32"
TINY = {
    "gpt2": "n_layer=2,n_embd=32,n_head=2,n_positions=64",
    "llama": f"{SMALL},num_attention_heads=2,num_key_value_heads=1,intermediate_size=64",
    "gpt_neox": f"{SMALL},num_attention_heads=2,intermediate_size=64",
    "mamba": f"{SMALL},state_size=8",
    "qwen3": f"{SMALL},num_attention_heads=2,num_key_value_heads=1,intermediate_size=64,head_dim=16",
}


def test_rotary_positions_are_told_from_learned_ones_and_none(tokenizer: PreTrainedTokenizerFast) -> None:
    rotary = {name for name, changes in TINY.items() if has_rotary_positions(build_config(name, tokenizer, changes))}
    assert rotary == {"llama", "gpt_neox", "qwen3"}, "gpt2 learns its positions, mamba has none"


@pytest.mark.parametrize("name", TINY)
def test_architectures_start_random_with_a_uniform_prediction(name: str, tokenizer: PreTrainedTokenizerFast) -> None:
    model = build_model(build_config(name, tokenizer, TINY[name]), seed=0).eval()
    assert model.config.vocab_size == len(tokenizer) == model.get_input_embeddings().num_embeddings
    assert (model.config.eos_token_id, model.config.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)
    rows = torch.randint(3, 259, (4, 48), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        loss = model(input_ids=rows, labels=rows).loss.item()
    assert loss == pytest.approx(math.log(259), rel=0.05)
    assert model.loss_type == "ForCausalLM"


def test_the_name_of_an_architecture_gives_its_full_default(tokenizer: PreTrainedTokenizerFast) -> None:
    config = build_config("gpt2", tokenizer)
    assert (config.n_layer, config.n_embd, config.n_positions) == (12, 768, 1024)
    model = build_model(config, seed=0, empty=True)
    # 12 layers of 12 d^2 + 13 d, the last norm 2 d, positions 1024 d, tokens 259 d
    assert model.num_parameters() == 12 * (12 * 768**2 + 13 * 768) + (2 + 1024 + 259) * 768
    assert next(model.parameters()).device.type == "meta"


def test_overrides_of_every_type(tokenizer: PreTrainedTokenizerFast) -> None:
    """Also of settings that are None by default, which the library's own parser refuses."""
    config = build_config(
        "gpt2", tokenizer, "n_inner=128,resid_pdrop=0,initializer_range=8e-2,scale_attn_weights=false"
    )
    assert (config.n_inner, config.resid_pdrop, config.initializer_range, config.scale_attn_weights) == (
        128,
        0.0,
        0.08,
        False,
    )


def test_same_seed_same_weights_and_no_trace_in_the_global_state(tokenizer: PreTrainedTokenizerFast) -> None:
    config = build_config("gpt2", tokenizer, TINY["gpt2"])
    before = torch.random.get_rng_state()
    first, second, third = build_model(config, 1), build_model(config, 1), build_model(config, 2)
    assert torch.equal(before, torch.random.get_rng_state())
    pairs = list(zip(first.parameters(), second.parameters(), third.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs) and not all(torch.equal(a, c) for a, _, c in pairs)


def test_master_weights_are_float32_whatever_the_configuration_says(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    LlamaConfig(
        num_hidden_layers=1, hidden_size=32, num_attention_heads=2, intermediate_size=64, dtype="bfloat16"
    ).save_pretrained(tmp_path)
    config = build_config(str(tmp_path), tokenizer)
    assert config.dtype == torch.bfloat16
    model = build_model(config, seed=0)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    model.to(torch.bfloat16).save_pretrained(tmp_path / "model")
    assert {weight.dtype for weight in load_model(str(tmp_path / "model")).parameters()} == {torch.float32}


@pytest.mark.parametrize(
    "name, overrides, message",
    [
        ("gtp2", None, "--model: no model at 'gtp2'.*did you mean 'gpt2'"),
        ("t5", None, "--model: 't5' is not a causal language model"),
        ("no/such/folder", None, "--model: no model at"),
        ("gpt2", "n_layr=2", "--config_overrides.*n_layr"),
        ("gpt2", "n_layer=two", "--config_overrides.*two"),
        ("gpt2", "n_layer", "--config_overrides"),
    ],
)
def test_refusals_name_the_flag(
    name: str, overrides: str | None, message: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(ValueError, match=message):
        build_config(name, tokenizer, overrides)


def test_a_width_that_heads_do_not_divide_is_told(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ValueError, match="--model.*makes no model"):
        build_model(build_config("gpt2", tokenizer, "n_embd=50,n_head=3,n_layer=1"), 0)


def test_sizes_are_checked_before_anything_runs(tokenizer: PreTrainedTokenizerFast) -> None:
    config = build_config("gpt2", tokenizer, TINY["gpt2"])
    model = build_model(config, 0)
    check_fits(model, tokenizer, 64)
    with pytest.raises(ValueError, match="--context_length: 65 is more than the 64 positions"):
        check_fits(model, tokenizer, 65)
    config.vocab_size = 100
    with pytest.raises(ValueError, match="--tokenizer: it has 259 tokens.*100 embeddings"):
        check_fits(build_model(config, 0), tokenizer, 64)


def test_tokenizers(tmp_path: Path) -> None:
    byte = build_tokenizer("byte")
    assert len(byte) == 259 and byte("é", add_special_tokens=False).input_ids == [0xC3 + 3, 0xA9 + 3]
    byte.save_pretrained(tmp_path)
    assert len(build_tokenizer(str(tmp_path))) == 259
    with pytest.raises(ValueError, match="--tokenizer: no tokenizer at 'no-such-thing'"):
        build_tokenizer("no-such-thing")
    with pytest.raises(ValueError, match="--model: no tokenizer"):
        build_tokenizer(str(tmp_path / "empty"), flag="--model")
