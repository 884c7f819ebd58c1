"""What a run has reached: a table for the screen and `eval_results.json` for programs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_universal_pretrain.evaluation import text_floors


if TYPE_CHECKING:
    from hf_universal_pretrain.trainer import BitsTrainer


def bits_results(trainer: "BitsTrainer") -> dict[str, dict[str, Any]]:
    """For each text of the trainer: `bits_per_byte` as last measured, `bits_per_byte_before` if measured at step 0,
    `floors`, `windows` (their number) and `context_length` (their bytes)."""
    results = {}
    for name, windows in trainer.eval_windows.items():
        key = f"eval_{name}_bits_per_byte"
        measured = [(entry["step"], entry[key]) for entry in trainer.state.log_history if key in entry]
        result: dict[str, Any] = {"floors": text_floors(windows)}
        result["windows"], result["context_length"] = windows.shape
        if measured:
            result["bits_per_byte"] = measured[-1][1]
            if measured[0][0] == 0:
                result["bits_per_byte_before"] = measured[0][1]
        results[name] = result
    return results


def wall_seconds(history: list[dict[str, float]]) -> float:
    """Wall time of a run's training up to its last log line, in seconds, all resumed parts included."""
    return next((entry["seconds"] for entry in reversed(history) if "seconds" in entry), 0.0)


def write_results(results: dict[str, dict[str, Any]], folder: str | Path) -> None:
    """Writes `eval_results.json`, in the form of `evaluate.py --json`."""
    content = {"judged": "second half of each window", "texts": results, "probes": {}}
    (Path(folder) / "eval_results.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def results_table(results: dict[str, dict[str, Any]]) -> str:
    """The table that a recipe ends with."""
    length = next((result["context_length"] for result in results.values()), 0)
    lines = [f"Bits per byte, second half of windows of {length} bytes:"]
    lines.append(f"  {'text':<16} {'before':>8} {'after':>8} {'uniform':>8} {'KT':>8}")
    for name, result in results.items():
        cells = [result.get("bits_per_byte_before"), result.get("bits_per_byte"), *result["floors"].values()]
        lines.append(f"  {name:<16} " + " ".join("       -" if bits is None else f"{bits:8.3f}" for bits in cells))
    return "\n".join(lines)
