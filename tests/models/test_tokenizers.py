"""The byte tokenizer, and tokenizers from names."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerFast, pipeline

from hf_universal_pretrain.evaluation import cut_windows, text_bits
from hf_universal_pretrain.models.build import build_config, build_model
from hf_universal_pretrain.models.encoding import encode
from hf_universal_pretrain.models.tokenizers import build_tokenizer, byte_tokenizer, token_bytes, usable_tokens


SPECIAL_LOOKING = "  a </s> b<pad>  <unk>\n\t</s>  \u00e9 "
BYTES = byte_tokenizer()


def test_ids_are_byt5s_and_usable_tokens_the_same(tokenizer: PreTrainedTokenizerFast) -> None:
    theirs = ByT5Tokenizer(extra_ids=0)
    assert len(tokenizer) == len(theirs) == 259
    for role in ("pad", "eos", "unk", "bos"):
        assert getattr(tokenizer, f"{role}_token_id") == getattr(theirs, f"{role}_token_id")
    for which in ("all", "printable"):
        assert usable_tokens(tokenizer, which) == usable_tokens(theirs, which)
    assert token_bytes(tokenizer) == token_bytes(theirs)


def test_a_text_becomes_its_bytes_and_nothing_else(tokenizer: PreTrainedTokenizerFast) -> None:
    """ByT5's own tokenizer fails at each of these: it adds an end, and reads `</s>` with its blanks as one token."""
    expected = [byte + 3 for byte in SPECIAL_LOOKING.encode()]
    assert tokenizer(SPECIAL_LOOKING)["input_ids"] == expected
    assert tokenizer.encode(SPECIAL_LOOKING) == expected
    assert tokenizer([SPECIAL_LOOKING, "x"], padding=True)["input_ids"][0] == expected
    assert tokenizer.decode(expected) == SPECIAL_LOOKING
    assert ByT5Tokenizer(extra_ids=0)(SPECIAL_LOOKING)["input_ids"] != expected


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_any_text_is_told_back(text: str) -> None:
    ids = BYTES(text)["input_ids"]
    assert ids == [byte + 3 for byte in text.encode()]
    assert BYTES.decode(ids) == text


@settings(max_examples=200, deadline=None)
@given(st.binary())
def test_any_bytes_are_encoded_and_decoded(data: bytes) -> None:
    ids = encode(data, BYTES).tolist()
    assert ids == [byte + 3 for byte in data]
    assert BYTES.decode(ids, skip_special_tokens=True).replace("\ufffd", "") in data.decode(
        "utf-8", "replace"
    ).replace("\ufffd", "")


def test_long_texts_are_cut_between_characters(tokenizer: PreTrainedTokenizerFast) -> None:
    text = ("x" * 65_535 + "\u20ac").encode() * 3 + b"</s>"
    assert encode(text, tokenizer).tolist() == [byte + 3 for byte in text]


@pytest.mark.parametrize(
    "architecture", [None, "gpt2", "llama", "qwen2", "mistral", "bert", "t5", "mamba", "gemma3_text"]
)
def test_a_saved_folder_needs_only_transformers(
    architecture: str | None, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """Whatever model stands beside it: transformers may take the tokenizer's class from the architecture."""
    if architecture:
        AutoConfig.for_model(architecture).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    told = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert "auto_map" not in told and told["tokenizer_class"] in ("TokenizersBackend", "PreTrainedTokenizerFast")
    for loaded in (AutoTokenizer.from_pretrained(tmp_path), build_tokenizer(str(tmp_path))):
        assert loaded(SPECIAL_LOOKING)["input_ids"] == [byte + 3 for byte in SPECIAL_LOOKING.encode()]
        assert set(loaded.all_special_ids) == {0, 1, 2}
    apart = "e\u0301"  # beside a qwen2, AutoTokenizer would make this one character
    assert build_tokenizer(str(tmp_path))(apart)["input_ids"] == [byte + 3 for byte in apart.encode()]


@pytest.mark.parametrize("extra", [0, 125])
def test_models_with_byt5s_tokenizer_get_the_same_ids(extra: int, tmp_path: Path) -> None:
    theirs = ByT5Tokenizer(extra_ids=extra)
    theirs.save_pretrained(tmp_path)
    loaded = build_tokenizer(str(tmp_path))
    assert loaded.is_fast and len(loaded) == len(theirs) == 259 + extra
    assert loaded.convert_ids_to_tokens(list(range(259, 259 + extra))) == theirs.convert_ids_to_tokens(
        list(range(259, 259 + extra))
    )
    assert usable_tokens(loaded) == usable_tokens(theirs)
    assert encode(SPECIAL_LOOKING.encode(), loaded).tolist() == [byte + 3 for byte in SPECIAL_LOOKING.encode()]


def test_a_folder_without_a_tokenizer_is_refused_in_one_line(tmp_path: Path) -> None:
    """transformers makes an empty tokenizer of the architecture's class for some, an error for others."""
    for architecture in ("gpt2", "bert", "t5", "llama"):
        AutoConfig.for_model(architecture).save_pretrained(tmp_path)
        with pytest.raises(ValueError, match=f"--model: no tokenizer at '{tmp_path}'.*give a folder") as refused:
            build_tokenizer(str(tmp_path), "--model")
        assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match="--tokenizer: .*give 'byte', or a folder"):
        build_tokenizer(str(tmp_path / "nowhere"))


def test_pipeline_generates_what_the_bits_say(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """Greedy text of the stock pipeline, judged as `evaluate.py` does: no other byte is likelier at any place."""
    config = build_config("gpt2", tokenizer, "n_layer=2,n_embd=64,n_head=2,n_positions=64")
    model = build_model(config, 3)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    prompt = "A </s> "
    generate = pipeline("text-generation", model=str(tmp_path), device="cpu")
    generated = generate(
        prompt, max_new_tokens=8, min_new_tokens=8, do_sample=False, return_tensors=True, bad_words_ids=[[0], [1], [2]]
    )[0]["generated_token_ids"]
    assert generated[: len(prompt)] == [byte + 3 for byte in prompt.encode()]
    text = bytes(token - 3 for token in generated)

    def bits(text: bytes) -> list[float]:
        return text_bits(model, tokenizer, cut_windows(text, len(text), 1))[0].tolist()

    for place in range(len(prompt), len(text)):
        others = [text[:place] + bytes([byte]) for byte in range(256)]
        assert bits(text[: place + 1])[-1] == min(bits(other)[-1] for other in others)
