from pathlib import Path

import pytest
import torch
from measure.tiny import tiny_config
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from hf_universal_pretrain.models.build import build_model
from hf_universal_pretrain.models.tokenizers import build_tokenizer
from hf_universal_pretrain.models.transfer import TAKES, parts_of, token_texts, transfer, transfer_table
from tests.conftest import byte_level_bpe


# For each architecture, weights whose part a person has looked up.
KNOWN = {
    "gpt2": {
        "transformer.wte.weight": "vocabulary", "transformer.wpe.weight": "positions",
        "transformer.h.0.attn.c_attn.weight": "attention", "transformer.h.0.attn.c_proj.bias": "attention",
        "transformer.h.0.mlp.c_fc.weight": "mlp", "transformer.h.1.ln_2.bias": "norms",
    },
    "llama": {
        "lm_head.weight": "vocabulary", "model.layers.0.self_attn.k_proj.weight": "attention",
        "model.layers.0.mlp.gate_proj.weight": "mlp", "model.layers.1.input_layernorm.weight": "norms",
    },
    "gpt_neox": {
        "gpt_neox.layers.0.attention.query_key_value.weight": "attention",
        "gpt_neox.layers.0.attention.dense.weight": "attention", "gpt_neox.layers.1.mlp.dense_h_to_4h.bias": "mlp",
    },
    "opt": {"model.decoder.layers.0.fc1.weight": "mlp", "model.decoder.embed_positions.weight": "positions"},
    "bert": {
        "bert.encoder.layer.0.attention.output.dense.weight": "attention",
        "bert.encoder.layer.0.output.dense.weight": "mlp", "bert.encoder.layer.0.intermediate.dense.weight": "mlp",
        "bert.embeddings.token_type_embeddings.weight": "positions", "cls.predictions.bias": "vocabulary",
    },
    "mamba2": {
        "backbone.layers.0.mixer.A_log": "attention", "backbone.layers.0.mixer.in_proj.weight": "attention",
        "backbone.layers.0.mixer.norm.weight": "norms", "backbone.layers.0.norm.weight": "norms",
    },
    "qwen3_moe": {
        "model.layers.0.mlp.experts.gate_up_proj": "mlp", "model.layers.0.mlp.gate.weight": "mlp",
        "model.layers.0.self_attn.q_norm.weight": "norms",
    },
    "gpt_oss": {"model.layers.0.self_attn.sinks": "attention", "model.layers.0.mlp.router.weight": "mlp"},
    "deepseek_v3": {
        "model.layers.0.self_attn.kv_a_proj_with_mqa.weight": "attention",
        "model.layers.0.self_attn.kv_a_layernorm.weight": "norms",
        "model.layers.1.mlp.shared_experts.up_proj.weight": "mlp",
    },
    "falcon_h1": {
        "model.layers.0.mamba.conv1d.weight": "attention", "model.layers.0.self_attn.o_proj.weight": "attention",
        "model.layers.0.feed_forward.down_proj.weight": "mlp",
    },
    "rwkv": {
        "rwkv.blocks.0.attention.time_decay": "attention", "rwkv.blocks.0.feed_forward.key.weight": "mlp",
    },
    "nemotron_h": {"model.layers.0.mixer.A_log": "attention"},
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_parts_are_found_by_the_kind_of_module(name: str, tokenizer: PreTrainedTokenizerFast) -> None:
    model = build_model(tiny_config(name, tokenizer), 0, empty=True)
    parts = parts_of(model)
    assert {weight: parts.get(weight) for weight in KNOWN[name]} == KNOWN[name]
    assert set(parts) >= {weight for weight, _ in model.named_parameters()}
    other = sum(weight.numel() for n, weight in model.named_parameters() if parts[n] == "other")
    assert other < 0.05 * model.num_parameters()


@pytest.fixture
def pair(tokenizer: PreTrainedTokenizerFast):
    """A source and a freshly drawn target of an architecture; every weight of the source is moved off its initial
    value, so that none is equal by chance (norms start at 1)."""

    def make(name: str, new_tokenizer: PreTrainedTokenizerBase | None = None):
        source = build_model(tiny_config(name, tokenizer), 1)
        with torch.no_grad():
            for weight in source.parameters():
                weight.add_(0.1 + 0.1 * torch.rand(weight.shape, generator=torch.Generator().manual_seed(3)))
        target = build_model(tiny_config(name, new_tokenizer or tokenizer), 2)
        before = {n: w.detach().clone() for n, w in target.named_parameters()}
        return source, target, before

    return make


@pytest.mark.parametrize("take", TAKES)
@pytest.mark.parametrize("name", ["gpt2", "llama", "mamba2", "qwen3_moe", "falcon_h1", "bert", "rwkv", "gpt_oss"])
def test_what_is_taken_is_the_sources_and_the_rest_is_as_it_was(name: str, take: str, pair, tokenizer) -> None:
    source, target, before = pair(name)
    table = transfer(source, target, take, "reinit", tokenizer, tokenizer, seed=0)
    old, parts = dict(source.named_parameters()), parts_of(target)
    for weight_name, weight in target.named_parameters():
        taken = parts[weight_name] in TAKES[take]
        assert torch.equal(weight, (old if taken else before)[weight_name]), weight_name
    assert {t.name: t.action for t in table if t.name in before} == {
        n: "taken" if parts[n] in TAKES[take] else "re-drawn" for n in before
    }
    assert "vocabulary   re-drawn" in transfer_table(table)


def test_everything_kept_gives_the_pretrained_model(pair, tokenizer) -> None:
    source, target, _ = pair("qwen3_moe")
    transfer(source, target, "all", "keep", tokenizer, tokenizer, seed=0)
    row = torch.randint(3, 259, (2, 20))
    with torch.no_grad():
        assert torch.equal(source.eval()(row).logits, target.eval()(row).logits)


def test_rescaled_matrices_have_the_norm_of_the_random_ones_and_the_direction_of_the_trained(pair, tokenizer) -> None:
    source, target, before = pair("llama")
    transfer(source, target, "all", "keep", tokenizer, tokenizer, seed=0, rescale_norms=True)
    old = dict(source.named_parameters())
    for name, weight in target.named_parameters():
        if weight.ndim > 1:
            assert weight.norm().item() == pytest.approx(before[name].norm().item(), rel=1e-4)
            assert torch.cosine_similarity(weight.flatten(), old[name].flatten(), dim=0).item() == pytest.approx(1)
        else:
            assert torch.equal(weight, old[name])


@pytest.fixture
def bpe() -> PreTrainedTokenizerFast:
    return byte_level_bpe()


def test_tokens_are_matched_by_their_text(
    pair, tokenizer: PreTrainedTokenizerFast, bpe: PreTrainedTokenizerFast
) -> None:
    source, target, _ = pair("llama", bpe)
    table = transfer(source, target, "all_but_embeddings", "match_by_text", tokenizer, bpe, seed=0)
    old, new = source.get_input_embeddings().weight, target.get_input_embeddings().weight
    assert len(new) == len(bpe) != len(old)
    for byte in (b"a", b" ", b"\n", b"\xc3", b"~"):
        [letter] = [i for i, text in enumerate(token_texts(bpe)) if text == byte]
        assert torch.equal(new[letter], old[byte[0] + 3])
    assert torch.equal(new[bpe.eos_token_id], old[1]) and torch.equal(new[bpe.pad_token_id], old[0])
    # 256 bytes, and the end and the padding
    assert [t.action for t in table if t.part == "vocabulary"] == [f"rows taken: 258 of {len(bpe)}"] * 2
    assert torch.equal(target.lm_head.weight[bpe.eos_token_id], source.lm_head.weight[1])


def test_rows_around_the_mean(pair, tokenizer: PreTrainedTokenizerFast, bpe: PreTrainedTokenizerFast) -> None:
    source, target, _ = pair("gpt2", bpe)
    transfer(source, target, "all", "mean", tokenizer, bpe, seed=0)
    old, new = source.get_input_embeddings().weight[3:], target.get_input_embeddings().weight
    error = old.std(0) / len(new) ** 0.5
    assert ((new.mean(0) - old.mean(0)).abs() < 5 * error).all()
    assert (new.std(0) / old.std(0) - 1).abs().max() < 0.3
    again = pair("gpt2", bpe)[1]
    transfer(source, again, "all", "mean", tokenizer, bpe, seed=0)
    assert torch.equal(new, again.get_input_embeddings().weight)


def test_keeping_rows_of_another_tokenizer_is_refused(pair, tokenizer, bpe) -> None:
    source, target, _ = pair("gpt2", bpe)
    with pytest.raises(ValueError, match="--embeddings keep: the pretrained tokenizer has 259 tokens"):
        transfer(source, target, "all", "keep", tokenizer, bpe, seed=0)


def test_texts_of_tokens(tokenizer: PreTrainedTokenizerFast, bpe: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    assert token_texts(tokenizer) == [None] * 3 + [bytes([b]) for b in range(256)]
    texts = token_texts(bpe)
    for text in ("hello world", "the text of\n", "\u00e9"):
        assert b"".join(texts[i] for i in bpe(text, add_special_tokens=False).input_ids) == text.encode()
    bpe.save_pretrained(tmp_path)
    assert token_texts(build_tokenizer(str(tmp_path)))[:4] == [None] * 4
