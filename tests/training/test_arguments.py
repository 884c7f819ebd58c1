"""What trainers take, and what they refuse before they begin."""

import math
import shutil
from pathlib import Path

import pytest
import torch
from transformers import TrainerCallback, TrainingArguments

from hf_universal_pretrain import SyntheticUPDataset, UPConfig, UPTrainer
from hf_universal_pretrain.errors import SaveFailed
from hf_universal_pretrain.runs.settings import check_arguments
from hf_universal_pretrain.training.bits_trainer import BitsTrainer
from hf_universal_pretrain.training.stage_two import KeepOptimizerCallback


def test_model_and_arguments_may_stand_first_as_in_a_stock_trainer(
    make_model, small_data, tokenizer, tmp_path: Path
) -> None:
    args = UPConfig(str(tmp_path), max_steps=1, use_cpu=True, disable_tqdm=True, save_strategy="no")
    trainer = UPTrainer(make_model(), args, train_dataset=SyntheticUPDataset(small_data, tokenizer))
    trainer.train()
    assert trainer.state.global_step == 1


def test_other_training_arguments_become_a_up_config(make_model, small_data, tokenizer, tmp_path: Path) -> None:
    """Each value is kept; what a stream needs is set, or refused in one line."""
    stock = {"max_steps": 2, "learning_rate": 5e-5, "use_cpu": True, "disable_tqdm": True, "save_strategy": "no"}
    args = TrainingArguments(str(tmp_path), **stock, weight_decay=0.1, hub_token="kept")
    data = SyntheticUPDataset(small_data, tokenizer)
    trainer = UPTrainer(make_model(), args, train_dataset=data, processing_class=tokenizer)
    assert isinstance(trainer.args, UPConfig) and trainer.args.ignore_data_skip
    assert (trainer.args.max_steps, trainer.args.learning_rate, trainer.args.weight_decay) == (2, 5e-5, 0.1)
    trainer.train()
    trainer.finish()
    assert (tmp_path / "README.md").is_file()
    for changes in ({"max_steps": -1}, {"dataloader_num_workers": 2}):
        args = TrainingArguments(str(tmp_path), **stock | changes)
        with pytest.raises(ValueError, match=next(iter(changes))):
            UPTrainer(make_model(), args, train_dataset=data)


def test_an_eval_dataset_is_refused_with_what_to_give_instead(make_model, make_trainer, tmp_path: Path) -> None:
    args = UPConfig(str(tmp_path), use_cpu=True)
    with pytest.raises(ValueError, match="eval_dataset: give texts to measure as eval_windows"):
        BitsTrainer(make_model(), args, context_length=32, eval_dataset=[1])


@pytest.mark.parametrize("stopped_by", [KeyboardInterrupt, RuntimeError])
def test_a_dataset_goes_on_after_a_training_that_was_interrupted(
    stopped_by: type[BaseException], make_trainer, tmp_path: Path
) -> None:
    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            raise stopped_by

    trainer = make_trainer(tmp_path, callbacks=[Stop()])
    with pytest.raises(stopped_by):
        trainer.train()
    rounds, rows = trainer.train_dataset.rounds, iter(trainer.train_dataset)
    for _ in range(64):
        next(rows)
    assert trainer.train_dataset.rounds > rounds


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"lr_scheduler_kwargs": {"min_lrr": 0.1}}, "--lr_scheduler_type, --lr_scheduler_kwargs.*min_lrr"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "--lr_scheduler_kwargs.*min_lr"),
        ({"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"lr_end": 1.0}}, "--lr_scheduler_kwargs"),
        ({"optim": "adamw_bnb_8bit"}, "--optim"),
        ({"optim": "rmsprop", "optim_args": "momentum=much"}, "--optim"),
        ({"optim_args": "nonsense"}, "--optim"),
        ({"adam_beta1": 1.5}, "--optim"),
        ({"eval_strategy": "steps", "eval_steps": 1, "metric_for_best_model": "loss"}, "there will be no eval_loss"),
        ({"eval_strategy": "steps", "eval_steps": 1, "lr_scheduler_type": "reduce_lr_on_plateau"}, "no eval_loss"),
    ],
)  # fmt: skip
def test_what_would_be_refused_late_is_refused_at_once(settings: dict, message: str, make_trainer, tmp_path) -> None:
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_the_schedule_follows_a_metric_that_is_measured(make_trainer, tmp_path: Path) -> None:
    metric = {"metric_for_best_model": "eval_english_bits_per_byte", "greater_is_better": False}
    plateau = {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "steps", "eval_steps": 2}
    make_trainer(tmp_path, **metric, **plateau).train()


NUMBERS = [
    "learning_rate", "warmup_steps", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm",
    "label_smoothing_factor", "neftune_noise_alpha",
]  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_numbers(name: str, tmp_path: Path) -> None:
    args = UPConfig(str(tmp_path), use_cpu=True)
    check_arguments(args)
    for value in (math.nan, math.inf, -1.0):
        setattr(args, name, value)
        with pytest.raises(ValueError, match=f"--{name} must be a number from 0"):
            check_arguments(args)


@pytest.mark.parametrize("name", ["per_device_train_batch_size", "gradient_accumulation_steps"])
def test_more_rows_than_memory_holds_are_refused(name: str, tmp_path: Path) -> None:
    args = UPConfig(str(tmp_path), use_cpu=True)
    setattr(args, name, 10**12)
    with pytest.raises(ValueError, match=f"--.*{name}.*: the rows of a step takes .* GB of memory"):
        check_arguments(args)


@pytest.mark.parametrize("theirs, ours, message", [
    ("adafactor", "adamw_torch", "is not of Adam or AdamW"), ("sgd", "adamw_torch", "is not of Adam"),
    ("adamw_torch", "adafactor", "not with Adafactor"),
])  # fmt: skip
def test_moments_of_another_optimizer_are_refused(
    theirs: str, ours: str, message: str, make_trainer, tmp_path: Path
) -> None:
    make_trainer(tmp_path / "a", optim=theirs, save_strategy="steps", save_steps=6).train()
    kept = KeepOptimizerCallback(tmp_path / "a" / "checkpoint-6" / "optimizer.pt")
    with pytest.raises(ValueError, match=f"--keep_optimizer.*{message}"):
        make_trainer(tmp_path / "b", optim=ours, callbacks=[kept])


def test_moments_that_cannot_be_read_or_do_not_fit_are_refused(make_trainer, make_model, tmp_path: Path) -> None:
    make_trainer(tmp_path / "a", save_strategy="steps", save_steps=6).train()
    file = tmp_path / "a" / "checkpoint-6" / "optimizer.pt"
    other = make_model(overrides="n_layer=1,n_embd=32,n_head=2,n_positions=64")
    with pytest.raises(ValueError, match="belongs to a model of other sizes"):
        make_trainer(tmp_path / "b", model=other, callbacks=[KeepOptimizerCallback(file)])
    shutil.copy(file, tmp_path / "cut.pt")
    with open(tmp_path / "cut.pt", "r+b") as cut:
        cut.truncate(1000)
    with pytest.raises(ValueError, match="cut.pt cannot be read"):
        make_trainer(tmp_path / "b", callbacks=[KeepOptimizerCallback(tmp_path / "cut.pt")])
    torch.save({"state": {0: 3}}, tmp_path / "odd.pt")
    with pytest.raises(ValueError, match="--keep_optimizer"):
        make_trainer(tmp_path / "b", callbacks=[KeepOptimizerCallback(tmp_path / "odd.pt")])


@pytest.mark.parametrize("error", [
    "[enforce fail at inline_container.cc:664] . unexpected pos 704 vs 598",
    "PytorchStreamWriter failed writing file data/3: file write failed",
])  # fmt: skip
def test_whatever_torch_says_of_a_full_disk_leaves_no_half_checkpoint(
    error: str, make_trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(tmp_path, save_strategy="steps", save_steps=3)

    def fail(*args: object) -> None:
        raise RuntimeError(error)

    monkeypatch.setattr(torch.serialization, "_save", fail)
    with pytest.raises(SaveFailed, match="cannot save to"):
        trainer.train()
    assert [path.name for path in tmp_path.iterdir()] == ["_run.json"]


def test_other_errors_in_saving_keep_their_traceback(make_trainer, tmp_path: Path, monkeypatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("hf_universal_pretrain.training.exact.mark_complete", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        make_trainer(tmp_path, save_strategy="steps", save_steps=3).train()
