"""Going on from a checkpoint, and taking the best one: with the weights that were saved, whatever files call them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from measure.tiny import tiny_config
from safetensors.torch import load_file, save_file
from transformers import ByT5Tokenizer, PreTrainedModel, TrainerCallback

from hf_universal_pretrain import UPConfig
from hf_universal_pretrain.errors import NotRestored
from hf_universal_pretrain.models.build import build_model
from hf_universal_pretrain.training.exact import ExactTrainer


@pytest.fixture
def tiny(tokenizer: ByT5Tokenizer) -> Callable[..., PreTrainedModel]:
    return lambda name, seed: build_model(tiny_config(name, tokenizer), seed)


def assert_same(one: torch.nn.Module, other: torch.nn.Module) -> None:
    theirs = other.state_dict()
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, theirs[name]), name


@pytest.mark.parametrize("name", ["qwen3_moe", "gpt_neox"])
def test_a_run_of_a_model_whose_files_have_other_names_goes_on_exactly(
    name: str, make_trainer, tiny, tmp_path: Path
) -> None:
    whole = make_trainer(tmp_path / "whole", model=tiny(name, 0), save_strategy="steps", save_steps=3)
    whole.train()
    resumed = make_trainer(tmp_path / "resumed", model=tiny(name, 1))
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    losses = [[e["loss"] for e in t.state.log_history if "loss" in e] for t in (whole, resumed)]
    assert losses[0] == losses[1]
    assert_same(whole.model, resumed.model)


@pytest.mark.parametrize("name", ["qwen3_moe", "gpt_neox"])
def test_the_best_model_is_the_best_one(name: str, make_trainer, tiny, tmp_path: Path) -> None:
    """The first of two checkpoints is named the best; after training the model is the one saved there."""

    class Keep(TrainerCallback):
        def on_save(self, args, state, control, model, **kwargs):
            kept[state.global_step] = {name: weight.clone() for name, weight in model.state_dict().items()}
            state.best_model_checkpoint = str(tmp_path / "checkpoint-3")

    kept: dict[int, dict[str, torch.Tensor]] = {}
    trainer = make_trainer(
        tmp_path, model=tiny(name, 0), callbacks=[Keep()], save_strategy="steps", save_steps=3, eval_strategy="steps",
        eval_steps=3, load_best_model_at_end=True, metric_for_best_model="eval_english_bits_per_byte",
    )  # fmt: skip
    trainer.train()
    now = trainer.model.state_dict()
    assert all(torch.equal(weight, now[name]) for name, weight in kept[3].items())
    assert not all(torch.equal(weight, now[name]) for name, weight in kept[6].items())


def test_a_compiled_model_goes_on(make_trainer, tiny, tmp_path: Path) -> None:
    """torch.compile wraps the model, whose files do not have the wrapper's names."""
    whole = make_trainer(tmp_path / "whole", model=tiny("gpt_neox", 0), save_strategy="steps", save_steps=3)
    whole.train()
    compiled = torch.compile(tiny("gpt_neox", 1), backend="eager")
    resumed = make_trainer(tmp_path / "resumed", model=compiled)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert_same(whole.model, compiled._orig_mod)


def test_a_checkpoint_that_lacks_a_weight_is_refused(make_trainer, make_model, tmp_path: Path) -> None:
    make_trainer(tmp_path, save_strategy="steps", save_steps=3).train()
    file = tmp_path / "checkpoint-3" / "model.safetensors"
    weights = load_file(file)
    del weights["transformer.h.1.mlp.c_fc.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(NotRestored, match=r"1 weights of the model \(transformer.h.1.mlp.c_fc.weight\)"):
        make_trainer(tmp_path / "other", model=make_model(1)).train(resume_from_checkpoint=str(file.parent))


def test_adapters_are_refused_at_the_start(make_trainer, make_model, tmp_path: Path) -> None:
    """Their checkpoints hold a part of the weights only."""
    model = make_model()
    model._hf_peft_config_loaded = True  # what `add_adapter` sets
    with pytest.raises(ValueError, match="model.*adapters"):
        make_trainer(tmp_path, model=model)
    with pytest.raises(ValueError, match="model.*must be a PreTrainedModel"):
        ExactTrainer(model=torch.nn.Linear(2, 2), args=UPConfig(str(tmp_path)), context_length=32)


def test_a_refused_run_is_one_line_and_status_2(make_trainer, make_model, tmp_path: Path, capsys) -> None:
    from hf_universal_pretrain.commands.endings import train_and_finish

    make_trainer(tmp_path / "a", save_strategy="steps", save_steps=3).train()
    checkpoint = tmp_path / "a" / "checkpoint-3"
    (checkpoint / "model.safetensors").write_text("no weights")
    before = json.loads((tmp_path / "a" / "_run.json").read_text())
    capsys.readouterr()
    with pytest.raises(SystemExit) as exited:
        train_and_finish(make_trainer(tmp_path / "a", model=make_model(1)), str(checkpoint))
    line = capsys.readouterr().err.strip()
    assert exited.value.code == 2 and len(line.splitlines()) == 1 and "checkpoint-3" in line
    assert json.loads((tmp_path / "a" / "_run.json").read_text()) == before


def test_tensors_are_loaded_onto_the_cpu_of_a_process(tmp_path: Path) -> None:
    """Which accelerate calls `cpu:0` where there are several; transformers 5.17 passes that on to torch."""
    torch.save({"moments": torch.ones(2)}, tmp_path / "optimizer.pt")
    loaded = torch.load(tmp_path / "optimizer.pt", map_location=torch.device("cpu:0"), weights_only=True)
    assert torch.equal(loaded["moments"], torch.ones(2))
