import string

import pytest
import torch

from hf_universal_pretrain.models.tokenizers import build_tokenizer, usable_tokens
from hf_universal_pretrain.stream.alphabet import Alphabet
from tests.conftest import byte_level_bpe


def test_identity_with_the_byte_tokenizer_is_the_byte() -> None:
    tokenizer = build_tokenizer("byte")
    usable = sorted(set(range(len(tokenizer))) - set(tokenizer.all_special_ids))
    tokens = Alphabet("identity", 256, usable).encode(torch.tensor([list(b"hello")]), torch.Generator())
    assert tokens.tolist() == [tokenizer("hello", add_special_tokens=False).input_ids]


def test_printable_tokens_of_bytes_are_those_of_ascii() -> None:
    tokenizer = build_tokenizer("byte")
    text = tokenizer.decode(usable_tokens(tokenizer, "printable"))
    assert sorted(text) == sorted(set(string.printable) - set("\r\x0b\x0c"))


def test_printable_tokens_of_pieces_are_those_whose_text_is() -> None:
    tokenizer = byte_level_bpe()
    printable = usable_tokens(tokenizer, "printable")
    assert set(printable) < set(usable_tokens(tokenizer)) and len(printable) > 97, "merged ones are among them"
    assert all(tokenizer.decode([token]).isascii() for token in printable)
    assert tokenizer.convert_tokens_to_ids("Ġ") in printable  # a blank
    assert tokenizer.convert_tokens_to_ids("Ã") not in printable  # the first half of a letter


def test_permuted_is_an_injection_for_each_row() -> None:
    usable = [3, 5, *range(10, 1000)]
    alphabet = Alphabet("permuted", 64, usable)
    symbols = torch.arange(64).expand(50, 64)
    tokens = alphabet.encode(symbols, torch.Generator().manual_seed(0))
    assert all(len(row.unique()) == 64 for row in tokens)
    assert set(tokens.flatten().tolist()) <= set(usable)
    assert len(torch.unique(tokens, dim=0)) == 50
    # equal symbols of a row become equal tokens
    repeated = alphabet.encode(torch.tensor([[1, 2, 1, 2, 2]]), torch.Generator().manual_seed(1))[0]
    assert repeated[0] == repeated[2] and repeated[1] == repeated[3] == repeated[4] != repeated[0]


def test_permuted_reaches_every_token_evenly() -> None:
    alphabet = Alphabet("permuted", 10, list(range(40)))
    tokens = alphabet.encode(torch.arange(10).expand(8000, 10), torch.Generator().manual_seed(0))
    seen = torch.bincount(tokens.flatten(), minlength=40) / 8000
    assert (seen - 0.25).abs().max() < 4 * (0.25 * 0.75 / 8000) ** 0.5


def test_refuses_a_vocabulary_that_is_too_small() -> None:
    with pytest.raises(ValueError, match="alphabet_size is 11.*at most 10"):
        Alphabet("identity", 11, list(range(10)))
