"""Tokens that the stream never produces: special ones, and rows that only pad the vocabulary."""

import math
from pathlib import Path

import pytest
import torch
from measure.tiny import tiny_config
from transformers import PreTrainedTokenizerFast

from hf_universal_pretrain import SyntheticUPConfig, SyntheticUPDataset, UPConfig, UPTrainer
from hf_universal_pretrain.models.build import build_model, check_fits
from hf_universal_pretrain.models.tokenizers import build_tokenizer
from tests.conftest import byte_level_bpe


@pytest.fixture
def train(small_data: SyntheticUPConfig, tokenizer: PreTrainedTokenizerFast, tmp_path: Path):
    """Trains a model of untied embeddings, 320 rows for 259 tokens, 4 steps at rate 1e-2; gives both ends."""

    def run(**settings):
        config = tiny_config("llama", tokenizer)
        config.vocab_size, config.tie_word_embeddings = 320, False
        model = build_model(config, 0)
        check_fits(model, tokenizer, 32)
        before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        args = UPConfig(
            str(tmp_path), max_steps=4, per_device_train_batch_size=4, use_cpu=True, warmup_steps=0, logging_steps=1,
            save_strategy="no", disable_tqdm=True, learning_rate=1e-2, lr_scheduler_type="constant", **settings,
        )  # fmt: skip
        dataset = SyntheticUPDataset(small_data, tokenizer)
        trainer = UPTrainer(model=model, args=args, train_dataset=dataset, processing_class=tokenizer)
        trainer.train()
        return before, dict(model.named_parameters()), trainer

    return run


UNUSED = [0, 1, 2, *range(259, 320)]


def test_input_rows_of_unused_tokens_are_left_alone(train) -> None:
    before, after, trainer = train()
    name = "model.embed_tokens.weight"
    assert torch.equal(after[name][UNUSED], before[name][UNUSED])
    assert (after[name][3:259] != before[name][3:259]).any(-1).float().mean() > 0.3  # those that the rows had
    # in the output layer every row is pushed down by each prediction that is not its own
    assert (after["lm_head.weight"][UNUSED] != before["lm_head.weight"][UNUSED]).all()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(math.log(320), rel=0.05)


def test_weight_decay_shrinks_them_and_nothing_else_does(train) -> None:
    before, after, _ = train(weight_decay=0.5)
    name = "model.embed_tokens.weight"
    expected = before[name][UNUSED] * (1 - 1e-2 * 0.5) ** 4
    assert torch.allclose(after[name][UNUSED], expected, rtol=1e-5, atol=0)


def bpe(folder: Path) -> PreTrainedTokenizerFast:
    byte_level_bpe().save_pretrained(folder)
    return build_tokenizer(str(folder))


@pytest.mark.parametrize("alphabet", ["identity", "permuted"])
def test_special_tokens_without_a_role_are_not_produced(alphabet: str, tmp_path: Path, small_data) -> None:
    tokenizer = bpe(tmp_path)
    marked = tokenizer.convert_tokens_to_ids(["<s>", "</s>", "<pad>", "<|im_start|>"])
    data = SyntheticUPConfig(**{**small_data.to_dict(), "alphabet": alphabet})
    tokens = SyntheticUPDataset(data, tokenizer).draw(200)[0]
    assert set(tokens.unique().tolist()).isdisjoint(marked)
    assert len(tokenizer) == len(PreTrainedTokenizerFast.from_pretrained(tmp_path))


def test_ids_are_the_tokenizers_in_both_configurations(tmp_path: Path, small_data) -> None:
    tokenizer = bpe(tmp_path / "tokenizer")
    model = build_model(tiny_config("llama", tokenizer), 0)
    args = UPConfig(str(tmp_path / "out"), max_steps=1, use_cpu=True, save_strategy="no", disable_tqdm=True)
    dataset = SyntheticUPDataset(small_data, tokenizer)
    trainer = UPTrainer(model=model, args=args, train_dataset=dataset, processing_class=tokenizer)
    trainer.train()
    trainer.finish()
    loaded = type(model).from_pretrained(tmp_path / "out")
    for special in ("bos_token_id", "eos_token_id", "pad_token_id"):
        assert getattr(loaded.config, special) == getattr(tokenizer, special)
        told = getattr(loaded.generation_config, special)  # a list in transformers 5.17
        assert (told[0] if isinstance(told, list) else told) == getattr(tokenizer, special)


def test_a_broken_tokenizer_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{not json")
    with pytest.raises(ValueError, match="--tokenizer: no tokenizer at"):
        build_tokenizer(str(tmp_path))
