import math

import pytest
import torch
from measure.tiny import tiny_config
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from hf_universal_pretrain import SyntheticUPConfig, SyntheticUPDataset, UPConfig, UPTrainer
from hf_universal_pretrain.models.build import build_model, read_config
from hf_universal_pretrain.models.checks import causal_loss, check_causal, has_causal_loss


@pytest.fixture
def tiny(tokenizer: PreTrainedTokenizerFast):
    return lambda name: build_model(tiny_config(name, tokenizer), 0)


@pytest.mark.parametrize("name", ["gpt2", "mamba", "bert", "bart", "xlm"])
def test_causal_models_pass_and_nothing_is_left_behind(name: str, tiny) -> None:
    model = tiny(name).train()
    state = torch.random.get_rng_state()
    check_causal(model, 16)
    assert model.training and torch.equal(state, torch.random.get_rng_state())


def test_a_model_that_looks_ahead_is_refused(tiny) -> None:
    with pytest.raises(ValueError, match="--model: 'xlnet' looks ahead"):
        check_causal(tiny("xlnet"), 16)
    encoder = tiny("bert")
    encoder.config.is_decoder = False
    with pytest.raises(ValueError, match="--model: 'bert' looks ahead"):
        check_causal(build_model(encoder.config, 0), 16)


def test_a_model_that_cannot_read_the_row_is_refused(tiny) -> None:
    with pytest.raises(ValueError, match="'reformer' cannot read a row of 64 tokens"):
        check_causal(tiny("reformer"), 64)


def test_an_encoder_becomes_a_decoder(tokenizer: PreTrainedTokenizerFast) -> None:
    assert read_config("bert").is_decoder is False and tiny_config("bert", tokenizer).is_decoder is True


@pytest.mark.parametrize("name, shifts", [("gpt2", True), ("llama", True), ("bart", False), ("trocr", False)])
def test_losses_that_do_not_shift_are_found(name: str, shifts: bool, tiny) -> None:
    assert has_causal_loss(tiny(name)) is shifts


def own_cross_entropy(model: PreTrainedModel, rows: torch.Tensor) -> float:
    """In float64 and token by token: -log p(token t + 1 | tokens up to t)."""
    with torch.no_grad():
        log_p = model.eval()(input_ids=rows).logits.double().log_softmax(-1)
    terms = [-log_p[i, t, rows[i, t + 1]] for i in range(len(rows)) for t in range(rows.shape[1] - 1)]
    return (sum(terms) / len(terms)).item()


def test_causal_loss_is_the_mean_over_predictions(tiny) -> None:
    model, rows = tiny("bart").eval(), torch.randint(3, 259, (3, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        outputs = model(input_ids=rows)
    expected = own_cross_entropy(model, rows)
    assert causal_loss(outputs, rows).item() == pytest.approx(expected, rel=1e-5)
    assert causal_loss(outputs, rows, torch.tensor(33)).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_trainer_uses_it_for_a_model_that_does_not_shift(
    accumulation, tiny, small_data, tokenizer, tmp_path
) -> None:
    """With its own loss BART would learn to copy what it reads."""
    model = tiny("bart")
    args = UPConfig(
        str(tmp_path), max_steps=2, learning_rate=0.0, per_device_train_batch_size=4, logging_steps=2, use_cpu=True,
        save_strategy="no", disable_tqdm=True, gradient_accumulation_steps=accumulation,
    )  # fmt: skip
    # noise: in rows that repeat symbols, an untrained BART, which leans towards what it has just read, is right
    noise = SyntheticUPConfig(**{**small_data.to_dict(), "machines": "uniform", "num_resets": 0, "burn_in_rounds": 30})
    dataset = SyntheticUPDataset(noise, tokenizer)
    trainer = UPTrainer(model=model, args=args, train_dataset=dataset, processing_class=tokenizer)
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(math.log(259), rel=0.05)
    rows = torch.randint(3, 259, (3, 12), generator=torch.Generator().manual_seed(0))
    expected = own_cross_entropy(model, rows)
    inputs = {"input_ids": rows, "labels": rows.clone()}
    logged = trainer.compute_loss(model, inputs, num_items_in_batch=torch.tensor(33)).item()
    assert logged == pytest.approx(expected, rel=1e-5)
    assert model(input_ids=rows, labels=rows).loss.item() < expected - 0.1  # its own
