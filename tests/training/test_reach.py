"""What a run says of how far back its model looks."""

import json
from pathlib import Path

import torch

from hf_universal_pretrain import SyntheticUPConfig, SyntheticUPDataset
from hf_universal_pretrain.runs.tables import ENOUGH, reach_line


SMALL = {"context_length": 32, "source_batch": 32, "rows_per_round": 32, "buffer_size": 64, "burn_in_rounds": 2}


def test_held_out_rows_are_the_same_again_and_never_trained_on(tokenizer) -> None:
    dataset = SyntheticUPDataset(SyntheticUPConfig(machines="language", **SMALL), tokenizer)
    held_out = dataset.held_out_rows(16)
    served = torch.cat([row["input_ids"][None] for row, _ in zip(dataset, range(200), strict=False)])
    assert held_out.shape == (16, 32) and torch.equal(held_out, dataset.held_out_rows(16))
    assert not (served[:, None] == held_out[None]).all(-1).any()


def test_a_run_logs_it_keeps_it_and_warns(make_trainer, tmp_path: Path, capsys) -> None:
    """Noise has nothing to look back for."""
    data = SyntheticUPConfig(machines="uniform", **SMALL)
    trainer = make_trainer(tmp_path, data, max_steps=2, eval_strategy="steps", eval_steps=1)
    trainer.train()
    trainer.finish()
    logged = [entry["eval_reach_bits"] for entry in trainer.state.log_history if "eval_reach_bits" in entry]
    assert len(logged) == 2 and all(abs(bits) < ENOUGH for bits in logged)
    reach = json.loads((tmp_path / "eval_results.json").read_text())["reach"]
    assert reach["gain"] == logged[-1] and reach["bits"].keys() == {"1", "2", "4"}
    assert (
        "Warning: on new rows" in capsys.readouterr().out
        and "Warning: on new rows" in (tmp_path / "README.md").read_text()
    )


def test_a_gain_beyond_doubt_is_no_warning() -> None:
    assert reach_line({"gain": 1.0, "ci95": 0.2}).startswith(
        "On new rows of its own stream the model gains 1.00 ± 0.20"
    )
    assert reach_line({"gain": 1.0, "ci95": 0.97}).startswith("Warning")
