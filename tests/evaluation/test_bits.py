import math

import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from hf_universal_pretrain.evaluation import (
    PROBES,
    bits_per_byte,
    choose_probes,
    cut_windows,
    probe_figures,
    symbol_bits,
    text_bits,
)
from hf_universal_pretrain.models.build import build_config, build_model
from hf_universal_pretrain.models.encoding import encode_windows


class Fixed(torch.nn.Module):
    """Predicts the same distribution over the next token everywhere."""

    def __init__(self, probabilities: torch.Tensor) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(probabilities.log())

    def forward(self, input_ids: torch.Tensor, use_cache: bool):
        return type("Output", (), {"logits": self.logits.expand(*input_ids.shape, -1)})


def test_bits_of_a_known_distribution(tokenizer: PreTrainedTokenizerFast) -> None:
    """'a' has probability 1/2, 'b' 1/4: a window's bits per byte are counted by hand, over its second half only."""
    probabilities = torch.full((259,), 0.25 / 257)
    probabilities[ord("a") + 3], probabilities[ord("b") + 3] = 0.5, 0.25
    windows = torch.frombuffer(bytearray(b"zzzzaaab" + b"aaaabbbb"), dtype=torch.uint8).view(2, 8)
    bits = bits_per_byte(Fixed(probabilities), tokenizer, windows)
    assert bits.tolist() == pytest.approx([(3 * 1 + 2) / 4, 2.0])


def test_an_untrained_model_needs_log_v_bits_and_keeps_its_mode(tokenizer: PreTrainedTokenizerFast) -> None:
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


def test_bits_of_long_tokens_are_spread_over_their_bytes(word_tokenizer: PreTrainedTokenizerFast) -> None:
    """A uniform model over V tokens pays log2 V a token: a byte costs log2 V / (bytes of its token), and all bytes but
    those of the first token together cost log2 V for each other token."""
    text = b"the cat and the hat and the bat."
    window = torch.frombuffer(bytearray(text), dtype=torch.uint8).unsqueeze(0)
    vocabulary = len(word_tokenizer)
    [encoded] = encode_windows([text], word_tokenizer)
    ids, covered = encoded.ids, encoded.ends.diff(prepend=torch.tensor([0]))
    uniform = Fixed(torch.full((vocabulary,), 1 / vocabulary))
    bits = text_bits(uniform, word_tokenizer, window)[0]
    expected = (math.log2(vocabulary) / covered).repeat_interleave(covered)
    assert bits[: covered[0]].isnan().all() and covered.max() > 1
    assert torch.allclose(bits[covered[0] :], expected[covered[0] :].double(), rtol=1e-5)
    assert bits.nansum().item() == pytest.approx(math.log2(vocabulary) * (len(ids) - 1), rel=1e-5)
    half = bits_per_byte(uniform, word_tokenizer, window).item()
    assert half == pytest.approx(expected[16:].mean().item(), rel=1e-5)


def test_bytes_of_cut_and_shared_characters(word_tokenizer: PreTrainedTokenizerFast) -> None:
    """The window starts inside a dash and ends inside a u umlaut, both left out; the umlaut in the middle is two
    tokens, and its two bytes share the bits of both."""
    text = "\u2014 the \u00fc the \u00fc".encode()[1:-1]
    window = torch.frombuffer(bytearray(text), dtype=torch.uint8).unsqueeze(0)
    vocabulary = len(word_tokenizer)
    bits = text_bits(Fixed(torch.full((vocabulary,), 1 / vocabulary)), word_tokenizer, window)[0]
    assert bits[:2].isnan().all() and bits[-1].isnan()
    umlaut = text.index("\u00fc".encode())
    assert bits[umlaut : umlaut + 2].tolist() == pytest.approx([math.log2(vocabulary)] * 2, rel=1e-5)


def test_bits_of_symbols_are_those_of_the_model(tokenizer: PreTrainedTokenizerFast) -> None:
    """Against the plain cross-entropy of the byte s as token s + 3."""
    model = build_model(build_config("gpt2", tokenizer, "n_layer=1,n_embd=16,n_head=1,n_positions=32"), 0).eval()
    rows = torch.randint(256, (5, 20), generator=torch.Generator().manual_seed(0))
    bits, right = symbol_bits(model, tokenizer, rows, batch_size=2)
    with torch.no_grad():
        logits = model(input_ids=rows + 3).logits[:, :-1]
    nats = F.cross_entropy(logits.flatten(0, 1), (rows + 3)[:, 1:].flatten(), reduction="none").view(5, 19)
    assert bits[:, 0].isnan().all() and torch.allclose(bits[:, 1:], (nats / math.log(2)).double(), atol=1e-5)
    assert torch.equal(right[:, 1:], logits.argmax(-1) == (rows + 3)[:, 1:])


class Copier(torch.nn.Module):
    """Predicts, with probability 1/2, the token that stood `back` tokens before the one to come; else uniform."""

    def __init__(self, vocabulary: int, back: int) -> None:
        super().__init__()
        self.vocabulary, self.back = vocabulary, back
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, input_ids: torch.Tensor, use_cache: bool):
        likely = F.pad(input_ids, (self.back - 1, 0))[:, : input_ids.shape[1]]
        chances = torch.full((*input_ids.shape, self.vocabulary), 0.5 / (self.vocabulary - 1))
        return type("Output", (), {"logits": chances.scatter(-1, likely.unsqueeze(-1), 0.5).log()})


def test_a_model_that_copies_has_the_induction_score_it_should(tokenizer: PreTrainedTokenizerFast) -> None:
    """One bit a symbol on the copy, right each time; log2(2 * 258) bits on the 31 judged symbols of the first string,
    and one bit on the copy's first, which is not judged."""
    figures = probe_figures(Copier(259, 32), tokenizer, "induction", 64, 40)
    assert figures["bits_per_symbol"] == pytest.approx(1) and figures["accuracy"] == 1
    assert figures["bits_saved"] == pytest.approx((31 * math.log2(516) + 1) / 32 - 1, abs=0.1)


def test_probes_are_chosen_by_name(tokenizer: PreTrainedTokenizerFast) -> None:
    assert choose_probes(["sort", "all"], tokenizer, "--x") == ["sort", *(name for name in PROBES if name != "sort")]
    with pytest.raises(ValueError, match="--x: unknown probe 'nonsense'"):
        choose_probes(["nonsense"], tokenizer, "--x")
    few = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "b": 1})))
    with pytest.raises(ValueError, match="--x: probes need a tokenizer with at least 256 tokens"):
        choose_probes(["sort"], few, "--x")
    assert choose_probes([], few, "--x") == []
