import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainerCallback

from hf_universal_pretrain import BufferEnrichmentCallback, SyntheticUPConfig, SyntheticUPDataset
from hf_universal_pretrain.evaluation import bits_per_byte, probe_entry, probe_figures


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in trainer.model.state_dict().items()}


@pytest.mark.parametrize("stop", [1, 3, 4])
def test_resume_is_exact(stop: int, make_trainer, tmp_path: Path) -> None:
    """Dropout, accumulation and evaluation on: a stop at any step changes no weight, row or random state."""
    settings = {
        "save_strategy": "steps", "save_steps": 1, "save_total_limit": None, "gradient_accumulation_steps": 2,
        "eval_strategy": "steps", "eval_steps": 2,
    }  # fmt: skip
    whole = make_trainer(tmp_path / "whole", **settings)
    whole.train()

    resumed = make_trainer(tmp_path / "resumed", **settings)
    checkpoint = tmp_path / "whole" / f"checkpoint-{stop}"
    torch.manual_seed(999)  # what a new process has instead of the old random state
    resumed.train(resume_from_checkpoint=str(checkpoint))

    for name, weight in weights(whole).items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name
    one, other = whole.train_dataset, resumed.train_dataset
    assert torch.equal(one.buffer.rows, other.buffer.rows) and torch.equal(one.buffer.passes, other.buffer.passes)
    assert torch.equal(one.random.get_state(), other.random.get_state())
    assert (one.rounds, one.rows_served) == (other.rounds, other.rows_served) == (2 + 6, 48)
    losses = [[e["loss"] for e in t.state.log_history if "loss" in e] for t in (whole, resumed)]
    assert losses[0] == losses[1]


def test_resume_without_a_stream_state_warns_and_goes_on(make_trainer, tmp_path: Path, caplog) -> None:
    make_trainer(tmp_path / "a", save_strategy="steps", save_steps=3).train()
    (tmp_path / "a" / "checkpoint-3" / "synthetic_stream_0.pt").unlink()
    resumed = make_trainer(tmp_path / "b")
    resumed.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-3"))
    assert "fresh stream" in caplog.text
    assert resumed.state.global_step == 6 and resumed.train_dataset.rounds >= 2


def test_untrained_gpt2_logs_ln_v(make_trainer, make_model, small_data, tokenizer, tmp_path: Path) -> None:
    """Rate 0: the logged loss is the mean over all predictions, about ln V; not (T - 1) / T of it, 1/8 less here."""
    data = dataclasses.replace(small_data, context_length=8, seed_length=2)
    calm = "n_layer=2,n_embd=32,n_head=2,n_positions=64,resid_pdrop=0,embd_pdrop=0,attn_pdrop=0"
    for accumulation in (1, 2):
        trainer = make_trainer(
            tmp_path, data, make_model(overrides=calm), learning_rate=0.0, max_steps=4, logging_steps=4,
            gradient_accumulation_steps=accumulation,
        )  # fmt: skip
        trainer.train()
        stream = iter(SyntheticUPDataset(data, tokenizer))
        rows = torch.stack([next(stream)["input_ids"] for _ in range(4 * 4 * accumulation)])
        with torch.no_grad():
            logits = trainer.model(rows).logits[:, :-1]
        expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()).item()
        logged = trainer.state.log_history[0]
        assert logged["loss"] == pytest.approx(expected, rel=1e-4)
        assert abs(logged["loss"] / math.log(259) - 1) < 0.05
        assert logged["bits_per_token"] == pytest.approx(logged["loss"] / math.log(2))


def test_enrichment_happens_in_the_callback_and_draws_what_is_needed(make_trainer, tmp_path: Path) -> None:
    seen = []

    class Spy(TrainerCallback):
        def on_step_begin(self, args, state, control, train_dataloader, **kwargs):
            dataset = train_dataloader.dataset
            seen.append((dataset.rows_served, dataset.rounds, dataset.enriches_itself))

    trainer = make_trainer(tmp_path, callbacks=[Spy()])
    assert sum(isinstance(c, BufferEnrichmentCallback) for c in trainer.callback_handler.callbacks) == 1
    trainer.train()
    # 4 rows a step, none fetched ahead; burn-in of 2 rounds, then a round after every 8 rows
    assert seen == [(4, 2, False), (8, 2, False), (12, 3, False), (16, 3, False), (20, 4, False), (24, 4, False)]
    assert trainer.train_dataset.enriches_itself


def test_log_lines_count_tokens_and_generation(make_trainer, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    trainer.train()
    lines = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [line["synthetic_tokens"] for line in lines] == [4 * 32 * step for step in range(1, 7)]
    assert all(0 < line["generation_share"] < 1 for line in lines)
    assert [round(line["epoch"] * 6) for line in lines] == list(range(1, 7))


def test_training_learns_what_the_machines_make(make_trainer, make_model, tmp_path: Path) -> None:
    """On rows that repeat one of 4 symbols, the loss falls well below that of an untrained model."""
    data = SyntheticUPConfig(
        machines="context_tree", alphabet_size=4, context_length=32, seed_length=2, source_batch=16, buffer_size=64
    )
    trainer = make_trainer(tmp_path, data, max_steps=60, per_device_train_batch_size=8, logging_steps=5)
    trainer.train()
    losses = [entry["bits_per_token"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[0] > 6 and losses[-1] < 2.5


def test_evaluation_is_bits_per_byte(make_trainer, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    metrics = trainer.evaluate()
    expected = bits_per_byte(trainer.model, trainer.processing_class, trainer.eval_windows["english"]).mean().item()
    assert metrics["eval_english_bits_per_byte"] == pytest.approx(expected)
    assert trainer.state.log_history[-1]["eval_english_bits_per_byte"] == pytest.approx(expected)


def test_output_folder_is_complete_and_loads_without_this_package(make_trainer, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, eval_on_start=True, save_strategy="steps", save_steps=3)
    trainer.train()
    trainer.finish()
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {
        "README.md", "_run.json", "checkpoint-3", "checkpoint-6", "config.json", "curves.png", "eval_results.json",
        "generation_config.json", "model.safetensors", "synthetic_up_config.json", "tokenizer.json",
        "tokenizer_config.json",
        "trainer_state.json", "training_args.bin",
    }  # fmt: skip
    checkpoint = {path.name for path in (tmp_path / "checkpoint-6").iterdir()}
    assert checkpoint >= {
        "model.safetensors", "synthetic_up_config.json", "synthetic_stream_0.pt", "rng_state.pth", "complete.json",
    }  # fmt: skip

    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer("abc").input_ids == trainer.processing_class("abc").input_ids
    for name, weight in weights(trainer).items():
        assert torch.equal(weight, model.state_dict()[name])
    assert json.loads((tmp_path / "config.json").read_text())["use_cache"] is True
    assert SyntheticUPConfig.from_pretrained(tmp_path) == trainer.train_dataset.config
    texts = json.loads((tmp_path / "eval_results.json").read_text())["texts"]
    assert texts["english"].keys() == {
        "bits_per_byte", "bits_per_byte_before", "ci95", "baselines", "whole", "last", "windows", "context_length",
    }  # fmt: skip
    assert texts["english"]["baselines"]["uniform"] == 8.0


def test_probes_are_measured_with_the_texts(make_trainer, tmp_path: Path, capsys) -> None:
    trainer = make_trainer(tmp_path, max_steps=1)
    trainer.eval_probes, trainer.probe_windows = ["rep-1", "needle"], 5
    trainer.train()
    trainer.finish()
    probes, shown = json.loads((tmp_path / "eval_results.json").read_text())["probes"], capsys.readouterr().out
    assert probes.keys() == {"rep-1", "needle"}
    for name, result in probes.items():
        figures = probe_figures(trainer.model, trainer.processing_class, name, 32, 5)
        assert result == {**probe_entry(figures, name, 32, 5), **figures}
        assert f"| {name} | **{result['bits_per_symbol']:.3f}** |" in (tmp_path / "README.md").read_text()
        assert f"{result['bits_per_symbol']:.3f} \u00b1" in shown


def test_finish_measures_the_last_step_once(make_trainer, tmp_path: Path) -> None:
    for eval_steps, expected in ((3, [3, 6]), (4, [4, 6])):
        trainer = make_trainer(tmp_path / str(eval_steps), eval_strategy="steps", eval_steps=eval_steps)
        trainer.train()
        trainer.finish()
        assert [e["step"] for e in trainer.state.log_history if "eval_runtime" in e] == expected
