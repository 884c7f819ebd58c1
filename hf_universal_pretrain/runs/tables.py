"""What a run or a model has reached: tables for the screen, `eval_results.json` for programs."""

import json
from pathlib import Path
from typing import Any


ENOUGH = 0.05  # bits a token gained from further back than the last token: less is a plateau that was not left
JUDGED = "second half of each window"
# the floors that are shown where there is no room for all
FLOORS = {"uniform": "uniform", "kt": "KT", "best": "best"}


def write_results(
    results: dict[str, dict[str, Any]],
    probes: dict[str, dict[str, Any]],
    folder: str | Path,
    reach: dict[str, Any] | None = None,
) -> None:
    """Writes `eval_results.json`, in the form of `evaluate.py --json`."""
    content = {"judged": JUDGED, "texts": results, "probes": probes} | ({"reach": reach} if reach else {})
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
            floors = " ".join(f"{bits:8.3f}" for bits in part["floors"].values())
            lines.append(f"  {name:<14} {where:<12} {_with_interval(part, 'bits_per_byte'):>16} {floors}")
    return "\n".join(lines)


def probes_table(probes: dict[str, dict[str, Any]]) -> str:
    """Bits a symbol of each probe beside the best floor; see `evaluation.probe_figures` for the columns."""
    lines = [f"  {'probe':<12} {'bits a symbol':>18} {'KT':>8} {'best':>8} {'accuracy':>9} {'saved':>8}"]
    for name, probe in probes.items():
        bits = _with_interval(probe, "bits_per_symbol")
        saved = f"{probe['bits_saved']:8.3f}" if probe.get("bits_saved") is not None else ""
        floors = " ".join(f"{probe['floors'][floor]:8.3f}" for floor in ("kt", "best"))
        lines.append(f"  {name:<12} {bits:>18} {floors} {probe['accuracy']:9.1%} {saved}".rstrip())
    return "\n".join(lines)


def reach_line(reach: dict[str, Any]) -> str:
    """What a model gains from looking further back than the last token, and whether that is enough to start from.

    Args:
        reach: the fields of `evaluation.reach.Reach`.
    """
    gain = f"{reach['gain']:.2f} \u00b1 {reach['ci95']:.2f} bits a token"
    if reach["gain"] - reach["ci95"] > ENOUGH:
        return f"On new rows of its own stream the model gains {gain} from what stands before the last token."
    return (
        f"Warning: on new rows of its own stream the model gains only {gain} from what stands before the last token. "
        "A start from it will not help: train longer or at a higher rate, or on rows that are easier to learn "
        "(--preset warm_start)."
    )


def reach_table(reach: dict[str, Any]) -> str:
    """Bits of a token by how many tokens before it are its own row's, the others being another row's."""
    known = {**{f"last {k}": bits for k, bits in reach["bits"].items()}, "all": reach["full"]}
    return "\n".join(
        ["  " + " ".join(f"{name:>8}" for name in known), "  " + " ".join(f"{bits:8.3f}" for bits in known.values())]
    )


def _with_interval(figures: dict[str, Any], unit: str) -> str:
    if figures[unit] is None:
        return "-"
    return f"{figures[unit]:.3f}" + ("" if figures["ci95"] is None else f" \u00b1 {figures['ci95']:.3f}")
