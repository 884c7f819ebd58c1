import math

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from hf_universal_pretrain.evaluation import bits_per_byte, cut_windows
from hf_universal_pretrain.modeling import build_config, build_model
from hf_universal_pretrain.text import encode


def test_windows_are_evenly_spaced_from_start_to_end() -> None:
    text = bytes(range(100))
    windows = cut_windows(text, 10, 4)
    assert windows[:, 0].tolist() == [0, 30, 60, 90] and windows.shape == (4, 10)
    assert windows[2].tolist() == list(range(60, 70))
    assert cut_windows(b"abc", 3, 200).shape == (1, 3)
    with pytest.raises(ValueError, match="--eval_text x has 3 bytes, less than one window of 4"):
        cut_windows(b"abc", 4, 1, "--eval_text x")


class Fixed(torch.nn.Module):
    """Predicts the same distribution over the next token everywhere."""

    def __init__(self, probabilities: torch.Tensor) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(probabilities.log())

    def forward(self, input_ids: torch.Tensor, use_cache: bool):
        return type("Output", (), {"logits": self.logits.expand(*input_ids.shape, -1)})


def test_bits_of_a_known_distribution(tokenizer: ByT5Tokenizer) -> None:
    """'a' has probability 1/2, 'b' 1/4: a window's bits per byte are counted by hand, over its second half only."""
    probabilities = torch.full((259,), 0.25 / 257)
    probabilities[ord("a") + 3], probabilities[ord("b") + 3] = 0.5, 0.25
    windows = torch.frombuffer(bytearray(b"zzzzaaab" + b"aaaabbbb"), dtype=torch.uint8).view(2, 8)
    bits = bits_per_byte(Fixed(probabilities), tokenizer, windows)
    assert bits.tolist() == pytest.approx([(3 * 1 + 2) / 4, 2.0])


def test_an_untrained_model_needs_log_v_bits_and_keeps_its_mode(tokenizer: ByT5Tokenizer) -> None:
    config = build_config("gpt2", tokenizer, "n_layer=1,n_embd=16,n_head=1,n_positions=32")
    model = build_model(config, 0).train()
    windows = cut_windows(bytes(range(256)) * 4, 32, 20)
    bits = bits_per_byte(model, tokenizer, windows, batch_size=3)
    assert bits.mean().item() == pytest.approx(math.log2(259), rel=0.02)
    assert model.training
    assert torch.allclose(bits, bits_per_byte(model, tokenizer, windows, batch_size=20), atol=1e-5)


@pytest.fixture
def word_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with tokens of several bytes."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(["the cat and the hat and the bat"] * 50, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def test_tokens_cover_all_bytes_once(word_tokenizer: PreTrainedTokenizerFast) -> None:
    for text in ("the cat and the hat", "the é cat — ü", "  the\n\n cat "):
        ids, covered = encode(text.encode(), word_tokenizer)
        assert len(ids) == len(covered) and covered.sum() == len(text.encode())
    assert encode(b"the the", word_tokenizer)[1].max() > 1


def test_bits_of_long_tokens_are_spread_over_their_bytes(word_tokenizer: PreTrainedTokenizerFast) -> None:
    """A uniform model over V tokens pays log2 V a token: bits per byte = log2 V tokens / bytes of the second half."""
    text = b"the cat and the hat and the bat."
    window = torch.frombuffer(bytearray(text), dtype=torch.uint8).unsqueeze(0)
    vocabulary = len(word_tokenizer)
    ids, covered = encode(text, word_tokenizer)
    judged = covered.cumsum(0) > len(text) // 2
    expected = math.log2(vocabulary) * judged.sum() / covered[judged].sum()
    uniform = Fixed(torch.full((vocabulary,), 1 / vocabulary))
    assert bits_per_byte(uniform, word_tokenizer, window).item() == pytest.approx(expected.item(), rel=1e-5)
    assert judged.sum() < len(text) // 2
