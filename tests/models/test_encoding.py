"""Which bytes of a text each token covers, whatever the tokenizer does to the text."""

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from hf_universal_pretrain.models.encoding import encode, encode_windows
from tests.conftest import byte_level_bpe
from tests.odd_tokenizers import ODD, slow


STRANGE = {
    "plain": "the cat and the hat, and", "BOM": "\ufeffthe cat and",
    "emoji": "\U0001f600\U0001f600 the \U0001f600 cat",
    "compatibility": "\ufb01 \ufdfa \u00bd \u2026 the cat \u00e9 e\u0301 \u2460", "blanks": "  the   cat \n\n and  ",
    "capitals": "The CAT and the Hat", "han": "\u6f22\u5b57 the", "nothing but blanks": "   \n  ",
    "control characters": "\x00\x01the\r\n", "one character": "t",
}  # fmt: skip


@pytest.mark.parametrize("text", STRANGE)
@pytest.mark.parametrize("kind", ODD)
def test_tokens_stand_side_by_side_from_the_start_of_the_text_to_its_end(kind: str, text: str) -> None:
    """Also of a text that is cut within its first and its last character."""
    tokenizer = ODD[kind]()
    whole = STRANGE[text].encode()
    for window in (whole, whole[1:], whole[:-1], whole[2:-2]):
        [encoded] = encode_windows([window], tokenizer)
        assert torch.equal(encoded.ids, encode(window, tokenizer))
        inside = window.decode("utf-8", errors="ignore").encode()
        if len(encoded.ids):
            assert encoded.ends[-1] - encoded.start == len(inside)
            assert window[encoded.start :].startswith(inside)
        assert (encoded.ends.diff(prepend=torch.tensor([encoded.start])) >= 0).all()
        assert 0 <= encoded.lost <= len(inside)


def test_tokens_that_spell_the_text_cover_what_they_spell(tokenizer: PreTrainedTokenizerFast) -> None:
    """A character of several tokens is divided among them; the blank that is put before the text covers nothing."""
    [of_bytes] = encode_windows(["\u00e9a".encode()], tokenizer)
    assert of_bytes.ends.tolist() == [1, 2, 3] and of_bytes.aligned_by == "spelling"
    [bpe] = encode_windows(["hello \u2014".encode()], byte_level_bpe())
    assert bpe.aligned_by == "spelling" and bpe.ends.tolist()[-3:] == [7, 8, 9] and bpe.lost == 0
    [pieces] = encode_windows(["\U0001f600t".encode()], ODD["sentencepiece with bytes"]())
    assert pieces.aligned_by == "spelling" and pieces.ends.tolist() == [0, 1, 2, 3, 4, 5]


def test_what_is_normalised_is_aligned_by_characters() -> None:
    """One character of three bytes becomes 18, in as many or fewer tokens: they share its bytes."""
    [encoded] = encode_windows("a\ufdfab".encode().split(b"|"), ODD["bytes that normalise"]())
    assert encoded.aligned_by == "offsets" and encoded.ends[0] == 1
    assert encoded.ends[1:-1].unique().tolist() == [4] and encoded.ends[-1] == 5
    assert encoded.lost == 3


def test_a_tokenizer_that_does_not_tell_gives_all_tokens_as_many_bytes(tmp_path: Path) -> None:
    tokenizer = slow(tmp_path)
    assert not tokenizer.is_fast
    text = b"the tin the tin "
    [encoded] = encode_windows([text], tokenizer)
    assert (
        encoded.ids.tolist() == tokenizer(text.decode(), add_special_tokens=False).input_ids and len(encoded.ids) == 8
    )
    assert encoded.aligned_by == "count" and encoded.ends.tolist() == [2, 4, 6, 8, 10, 12, 14, 16]


@pytest.mark.parametrize(
    "kind, text, lost",
    [
        ("words", "the Cat", 1), ("words", "the \u00fc \u044e cat", 2 + 2 + 1), ("words", "the  cat\n", 2),
        ("words", "the cat", 0),
        ("sentencepiece that normalises", "the  cat", 1), ("sentencepiece that normalises", "the \u6f22 cat", 3),
        ("sentencepiece with bytes", "  The\n \u6f22 \ufb01", 0), ("bytes that normalise", "the \ufb01", 3),
    ],
)  # fmt: skip
def test_bytes_that_cannot_be_told_back_are_counted(kind: str, text: str, lost: int) -> None:
    assert encode_windows([text.encode()], ODD[kind]())[0].lost == lost
