from pathlib import Path

import pytest
from transformers import PrinterCallback, ProgressCallback

from hf_universal_pretrain.training.printing import evaluation_lines


LOGS = {
    "eval_english_bits_per_byte": 7.8951, "eval_english_ci95": 0.0123, "eval_english_whole_bits": 7.9,
    "eval_english_whole_ci95": 0.01, "eval_python_bits_per_byte": 7.5, "eval_probe_sort_bits_per_symbol": 8.01,
    "eval_probe_sort_ci95": 0.1, "eval_runtime": 1.5, "epoch": 0.5,
}  # fmt: skip


def test_an_evaluation_is_a_line_of_texts_and_a_line_of_probes() -> None:
    assert evaluation_lines(LOGS, 40) == (
        "step 40, bits per byte: english 7.895 \u00b1 0.012, python 7.500\nstep 40, bits per symbol: sort 8.010"
    )
    assert evaluation_lines({"loss": 5.0, "bits_per_token": 7.2}, 40) is None


@pytest.mark.parametrize("bar", [True, False])
def test_a_trainer_prints_evaluations_in_lines_and_losses_as_before(bar: bool, make_trainer, tmp_path, capfd) -> None:
    trainer = make_trainer(Path(tmp_path), eval_strategy="steps", eval_steps=3, disable_tqdm=not bar)
    wanted = ProgressCallback if bar else PrinterCallback
    printers = [c for c in trainer.callback_handler.callbacks if isinstance(c, ProgressCallback | PrinterCallback)]
    assert len(printers) == 1 and isinstance(printers[0], wanted)
    trainer.train()
    shown = "".join(capfd.readouterr())
    assert "step 3, bits per byte: english" in shown and "eval_english_bits_per_byte" not in shown
    assert "'loss'" in shown
