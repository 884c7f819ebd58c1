"""Bits per byte whatever a tokenizer does, and what is refused."""

import math
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from hf_universal_pretrain.evaluation import (
    bits_per_byte,
    check_tokens,
    cut_windows,
    text_entry,
    text_figures,
    text_setting,
    text_tokens,
)
from hf_universal_pretrain.evaluation.bits import spread, text_bits
from hf_universal_pretrain.models.encoding import encode, encode_windows
from tests.conftest import byte_level_bpe
from tests.evaluation.test_bits import Fixed
from tests.models.test_encoding import STRANGE
from tests.odd_tokenizers import ODD, slow


def uniform(size: int) -> Fixed:
    return Fixed(torch.full((size,), 1 / size))


@pytest.mark.parametrize("text", STRANGE)
@pytest.mark.parametrize("kind", ODD)
def test_the_bits_of_all_tokens_but_the_first_are_in_the_bytes(kind: str, text: str) -> None:
    tokenizer = ODD[kind]()
    window = torch.frombuffer(bytearray(STRANGE[text].encode()), dtype=torch.uint8).unsqueeze(0)
    bits = text_bits(uniform(len(tokenizer)), tokenizer, window)[0]
    tokens = len(encode(STRANGE[text].encode(), tokenizer))
    assert bits.nansum().item() == pytest.approx(math.log2(len(tokenizer)) * max(0, tokens - 1), rel=1e-5)


def test_bits_of_different_tokens_go_to_their_own_bytes() -> None:
    """A blank before the text is the first token, so that the bytes of the second are judged; of the tokens of one
    character that is the first, all but the first are."""
    pieces = ODD["sentencepiece with bytes"]()
    [encoded] = encode_windows(["\U0001f600t".encode()], pieces)
    bits = torch.tensor([math.nan, 1, 2, 3, 4, 5], dtype=torch.float64)
    assert spread(bits, encoded, 5).tolist() == [1, 2, 3, 4, 5]
    [encoded] = encode_windows(["\u6f22t".encode()], ODD["bytes that normalise"]())
    found = spread(torch.tensor([math.nan, 1, 2, 4], dtype=torch.float64), encoded, 4)
    assert found[0].isnan() and found[1:].tolist() == [1, 2, 4]
    [encoded] = encode_windows(["\ufb01t".encode()], ODD["bytes that normalise"]())  # f and i, of three bytes
    found = spread(torch.tensor([math.nan, 6, 4], dtype=torch.float64), encoded, 4)
    assert found.tolist() == [2, 2, 2, 4]


def test_the_second_half_is_that_of_the_tokens_where_bytes_do_not_tell(tmp_path: Path) -> None:
    """64 bytes in 32 tokens of log2(10) bits: half of the tokens over half of the bytes."""
    tokenizer = slow(tmp_path)
    windows = cut_windows(b"the tin " * 20, 64, 1)
    model = uniform(len(tokenizer))
    assert bits_per_byte(model, tokenizer, windows).item() == pytest.approx(16 * math.log2(10) / 32, rel=1e-5)
    setting = text_setting(windows, tokenizer)
    assert text_entry(text_figures(model, tokenizer, windows), setting)["halves"] == "tokens"
    assert "halves" not in text_entry({}, text_setting(windows, byte_level_bpe()))


def test_a_uniform_model_is_at_the_baseline_of_tokens() -> None:
    """Which is far below 8 bits a byte: so it is among the baselines, and the best of them may be it."""
    tokenizer = byte_level_bpe()
    windows = cut_windows(b"hello world, the text of a small tokenizer " * 10, 64, 6)
    setting = text_setting(windows, tokenizer)
    figures = text_figures(uniform(len(tokenizer)), tokenizer, windows)
    usable = len(tokenizer) - len(tokenizer.all_special_ids)
    for where, measured in figures.items():
        found = setting.baselines[where]
        more = math.log2(len(tokenizer)) / math.log2(usable)
        assert measured["bits_per_byte"] == pytest.approx(found["uniform_tokens"] * more, rel=1e-5)
        assert found["uniform_tokens"] < found["uniform"] == 8
        assert found["best"] == min(found.values()) <= found["uniform_tokens"]
    assert setting.baselines["second_half"]["uniform_tokens"] < 4


def test_the_uniform_baseline_is_of_the_symbols_that_the_model_was_told(tokenizer: PreTrainedTokenizerFast) -> None:
    windows = cut_windows(b"hello world, the text of a small tokenizer " * 10, 64, 6)
    assert text_setting(windows, tokenizer, "printable").baselines["last"]["uniform"] == math.log2(97)
    told, all_of_them = (text_setting(windows, tokenizer, which).baselines["whole"] for which in ("printable", "all"))
    assert all_of_them["uniform"] == 8 and "uniform_tokens" not in told
    assert {k: v for k, v in told.items() if k != "uniform"} == {
        k: v for k, v in all_of_them.items() if k != "uniform"
    }


def test_a_tokenizer_that_loses_the_text_is_refused_and_a_small_loss_is_told() -> None:
    """An untrained model of `[UNK]`s has very few bits a byte on a text that its tokenizer does not know."""
    tokenizer = ODD["words"]()
    windows = cut_windows("\u0442\u0438\u0445\u0430\u044f \u043d\u043e\u0447\u044c ".encode() * 20, 64, 5)
    assert bits_per_byte(uniform(len(tokenizer)), tokenizer, windows).mean() < 2
    tokens = {"poem": text_tokens(windows, tokenizer)}
    assert tokens["poem"].lost > 0.2
    with pytest.raises(ValueError, match=r"--model: the tokens of M lose \d+\.\d% of the bytes of poem") as refused:
        check_tokens(tokens, 64, None, "--model", "M")
    assert "\n" not in str(refused.value)
    windows = cut_windows(b"the cat and the hat, and the bat! " * 9 + b"X" + b"the cat" * 9, 300, 5)
    setting = text_setting(windows, tokenizer)
    check_tokens({"rhyme": setting.tokens}, 300, None, "--model")
    assert 0 < text_entry({}, setting)["lost"] < 0.01


def test_more_tokens_than_positions_are_refused() -> None:
    windows = cut_windows("\u6f22\u5b57".encode() * 40, 60, 3)
    tokens = {"han": text_tokens(windows, ODD["sentencepiece with bytes"]())}
    assert tokens["han"].longest == 61  # a blank stands before the text
    check_tokens(tokens, 60, 61, "--model")
    with pytest.raises(ValueError, match="--context_length: a window of 60 bytes of han has up to 61 tokens"):
        check_tokens(tokens, 60, 60, "--model")
