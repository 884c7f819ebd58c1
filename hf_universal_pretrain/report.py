"""What a run or a model has reached: tables for the screen, `eval_results.json` for programs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_universal_pretrain.evaluation import probe_entry, text_entry, text_floors


if TYPE_CHECKING:
    from hf_universal_pretrain.trainer import BitsTrainer

JUDGED = "second half of each window"
# the floors that are shown where there is no room for all
FLOORS = {"uniform": "uniform", "kt": "KT", "best": "best"}
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


def wall_seconds(history: list[dict[str, float]]) -> float:
    """Wall time of a run's training up to its last log line, in seconds, all resumed parts included."""
    return next((entry["seconds"] for entry in reversed(history) if "seconds" in entry), 0.0)


def synthetic_tokens(state: dict[str, Any]) -> int:
    """How many tokens of a synthetic stream a model has been trained on, from its `trainer_state.json`; 0 if on none.

    Worked out from the last log line that tells, which may be some steps back.
    """
    logged = [entry for entry in state["log_history"] if entry.get("synthetic_tokens")]
    return logged[-1]["synthetic_tokens"] // logged[-1]["step"] * state["global_step"] if logged else 0


def write_results(results: dict[str, dict[str, Any]], probes: dict[str, dict[str, Any]], folder: str | Path) -> None:
    """Writes `eval_results.json`, in the form of `evaluate.py --json`."""
    content = {"judged": JUDGED, "texts": results, "probes": probes}
    (Path(folder) / "eval_results.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def results_table(results: dict[str, dict[str, Any]]) -> str:
    """The table that a training recipe ends with. Of the floors, `best` is the lowest, Markov models included."""
    length = next((result["context_length"] for result in results.values()), 0)
    lines = [f"Bits per byte, second half of windows of {length} bytes:"]
    lines.append(f"  {'text':<16} {'before':>8} {'after':>8} " + " ".join(f"{name:>8}" for name in FLOORS.values()))
    for name, result in results.items():
        cells = [result.get("bits_per_byte_before"), result.get("bits_per_byte")]
        cells += [result["floors"][floor] for floor in FLOORS]
        lines.append(f"  {name:<16} " + " ".join("       -" if bits is None else f"{bits:8.3f}" for bits in cells))
    return "\n".join(lines)


def texts_table(texts: dict[str, dict[str, Any]]) -> str:
    """The table of `evaluate.py`: for each text three rows of positions, with all floors."""
    first = next(iter(texts.values()))
    lines = [
        f"Bits per byte, {first['windows']} windows of {first['context_length']} bytes (bits_per_byte: second half):"
    ]
    lines.append(
        f"  {'text':<14} {'position':<12} {'model':>16} " + " ".join(f"{name:>8}" for name in first["floors"])
    )
    for name, text in texts.items():
        for where in ("second half", "last", "whole"):
            part = text if where == "second half" else text[where]
            model = f"{part['bits_per_byte']:.3f} \u00b1 {part['ci95']:.3f}"
            floors = " ".join(f"{bits:8.3f}" for bits in part["floors"].values())
            lines.append(f"  {name:<14} {where:<12} {model:>16} {floors}")
    return "\n".join(lines)


def probes_table(probes: dict[str, dict[str, Any]]) -> str:
    """Bits a symbol of each probe beside the best floor; see `evaluation.probe_figures` for the columns."""
    lines = [f"  {'probe':<12} {'bits a symbol':>18} {'KT':>8} {'best':>8} {'accuracy':>9} {'saved':>8}"]
    for name, probe in probes.items():
        bits = f"{probe['bits_per_symbol']:.3f} \u00b1 {probe['ci95']:.3f}"
        saved = f"{probe['bits_saved']:8.3f}" if "bits_saved" in probe else ""
        floors = " ".join(f"{probe['floors'][floor]:8.3f}" for floor in ("kt", "best"))
        lines.append(f"  {name:<12} {bits:>18} {floors} {probe['accuracy']:9.1%} {saved}".rstrip())
    return "\n".join(lines)
