"""What was measured of a run, read from its log."""

from typing import TYPE_CHECKING, Any

from hf_universal_pretrain.evaluation import probe_entry, text_entry, text_floors


if TYPE_CHECKING:
    from hf_universal_pretrain.training.bits_trainer import BitsTrainer


_PROBE_FIGURES = ("bits_per_symbol", "ci95", "accuracy", "bits_saved")


def text_metrics(prefix: str, figures: dict[str, dict[str, float]]) -> dict[str, float]:
    """The figures of a text (`evaluation.text_figures`) as the trainer logs them: `{prefix}_bits_per_byte` and
    `{prefix}_ci95` of the second half, `{prefix}_whole_bits`, `{prefix}_whole_ci95`, and the same for `last`."""
    metrics = {}
    for where, values in figures.items():
        stem, bits = (prefix, "bits_per_byte") if where == "second_half" else (f"{prefix}_{where}", "bits")
        metrics |= {f"{stem}_{bits}": values["bits_per_byte"], f"{stem}_ci95": values["ci95"]}
    return metrics


def _text_figures(prefix: str, entry: dict[str, float]) -> dict[str, dict[str, float]]:
    """The way back from a log line."""
    stems = {"second_half": (prefix, "bits_per_byte")}
    stems |= {where: (f"{prefix}_{where}", "bits") for where in ("whole", "last")}
    return {
        where: {"bits_per_byte": entry[f"{stem}_{bits}"], "ci95": entry[f"{stem}_ci95"]}
        for where, (stem, bits) in stems.items()
        if f"{stem}_ci95" in entry
    }


def bits_results(trainer: "BitsTrainer") -> dict[str, dict[str, Any]]:
    """For each text of the trainer its entry (`evaluation.text_entry`), as last measured, and `bits_per_byte_before`
    if measured at step 0."""
    results = {}
    for name, windows in trainer.eval_windows.items():
        key = f"eval_{name}_bits_per_byte"
        measured = [entry for entry in trainer.state.log_history if key in entry]
        result = text_entry(
            _text_figures(f"eval_{name}", measured[-1]) if measured else {}, text_floors(windows), windows
        )
        if measured:
            result = {"bits_per_byte": measured[-1][key], **result}
            if measured[0]["step"] == 0:
                result["bits_per_byte_before"] = measured[0][key]
        results[name] = result
    return results


def probe_results(trainer: "BitsTrainer") -> dict[str, dict[str, Any]]:
    """For each probe of the trainer its entry (`evaluation.probe_entry`), as last measured."""
    results = {}
    for name in trainer.eval_probes:
        stem = f"eval_probe_{name}_"
        measured = [entry for entry in trainer.state.log_history if f"{stem}bits_per_symbol" in entry]
        if measured:
            figures = {key: measured[-1][stem + key] for key in _PROBE_FIGURES if stem + key in measured[-1]}
            results[name] = probe_entry(figures, name, trainer.context_length, trainer.probe_windows)
    return results
