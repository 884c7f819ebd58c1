"""What a run has reached, as its record, its files and its tables tell it."""

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from hf_universal_pretrain.evaluation import cut_windows, probe_entry, text_entry, text_figures, text_setting
from hf_universal_pretrain.runs.record import last_figures
from hf_universal_pretrain.runs.tables import probes_table, texts_table
from hf_universal_pretrain.text import interpreter_texts


def read_strictly(path: Path) -> Any:
    """Reads JSON, and not what Python takes for it."""

    def refuse(word: str) -> NoReturn:
        raise AssertionError(f"{path.name} holds {word}")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_a_text_that_is_named_as_a_part_of_another_keeps_its_figures(make_trainer, tmp_path: Path) -> None:
    """`eval_a_whole_ci95` is of the whole windows of `a` and of the second half of those of `a_whole`."""
    trainer = make_trainer(tmp_path, eval_on_start=True)
    texts = interpreter_texts()
    trainer.eval_windows = {"a": cut_windows(texts["english"], 32, 6), "a_whole": cut_windows(texts["python"], 32, 9)}
    trainer.train()
    trainer.finish()
    found = read_strictly(tmp_path / "eval_results.json")["texts"]
    for name, windows in trainer.eval_windows.items():
        figures = text_figures(trainer.model, trainer.processing_class, windows, batch_size=8)
        expected = text_entry(figures, text_setting(windows, trainer.processing_class))
        before = trainer.state.log_history[0][f"eval_{name}_bits_per_byte"]
        assert found[name] == {**expected, "bits_per_byte_before": before}


def test_a_run_that_goes_on_still_tells_what_was_measured_before(make_trainer, tmp_path: Path) -> None:
    settings = {"eval_on_start": True, "eval_strategy": "steps", "eval_steps": 3, "save_strategy": "steps"}
    first = make_trainer(tmp_path / "a", save_steps=3, **settings)
    first.train()
    again = make_trainer(tmp_path / "b", save_steps=3, **settings)
    again.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-6"))
    assert again.record().texts == first.record().texts
    assert again.record().texts["english"]["bits_per_byte_before"] > 7
    assert last_figures([], "texts") == {}


def test_a_single_window_has_no_interval(make_trainer, tmp_path: Path, capsys) -> None:
    trainer = make_trainer(tmp_path, max_steps=1, eval_on_start=True)
    trainer.eval_windows = {"english": cut_windows(interpreter_texts()["english"], 32, 1)}
    trainer.eval_probes, trainer.probe_windows = ["rep-1"], 1
    trainer.train()
    trainer.finish()
    results = read_strictly(tmp_path / "eval_results.json")
    text, probe = results["texts"]["english"], results["probes"]["rep-1"]
    assert text["ci95"] is text["whole"]["ci95"] is text["last"]["ci95"] is probe["ci95"] is None
    shown = capsys.readouterr().out.partition("new rows")[0]
    shown += texts_table({"english": text}) + probes_table({"rep-1": probe})
    assert "\u00b1" not in shown
    log = read_strictly(tmp_path / "trainer_state.json")["log_history"]
    assert "eval_english_bits_per_byte" in log[0] and not any(key.endswith("ci95") for entry in log for key in entry)
    assert "| english |" in (tmp_path / "README.md").read_text()


def test_what_was_not_judged_is_a_dash() -> None:
    baselines = dict.fromkeys(("kt", "counts_05", "best"), 8.0)
    nothing = {"bits_per_symbol": None, "ci95": None, "accuracy": 0.0, "bits_saved": None, "baselines": baselines}
    assert probes_table({"sort": nothing}).splitlines()[2].split() == ["sort", "-", *["8.000"] * 3, "0.0%"]
    assert not math.isnan(probe_entry({}, "sort", 32, 2)["baselines"]["best"])
