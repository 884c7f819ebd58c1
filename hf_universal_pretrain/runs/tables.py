"""What a run or a model has reached: tables for the screen, `eval_results.json` for programs."""

import json
from pathlib import Path
from typing import Any


RESULTS_FILE = "eval_results.json"
ENOUGH = 0.05  # bits a token gained from further back than the last token: less is a plateau that was not left
JUDGED = "second half of each window"
# the baselines that are shown where there is no room for all, and those in pictures
BASELINES = {
    "uniform": "uniform", "uniform_tokens": "of tokens", "kt": "KT", "counts_05": "counts .05", "best": "best",
}  # fmt: skip
PICTURED = ("uniform", "kt", "best")


def write_results(
    results: dict[str, dict[str, Any]],
    probes: dict[str, dict[str, Any]],
    folder: str | Path,
    context_length: int,
    reach: dict[str, Any] | None = None,
) -> None:
    """Writes `eval_results.json`, in the form of `evaluate.py --json`, with the tokens in a row of training."""
    content: dict[str, Any] = {"judged": JUDGED, "context_length": context_length, "texts": results, "probes": probes}
    content |= {"reach": reach} if reach else {}
    (Path(folder) / RESULTS_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def results_table(results: dict[str, dict[str, Any]]) -> str:
    """The table that a training recipe ends with. Of the baselines, `best` is the lowest, Markov models included."""
    length = next((result["context_length"] for result in results.values()), 0)
    shown = shown_baselines(results)
    lines = [f"Bits per byte, second half of windows of {length} bytes:"]
    lines.append(_line("text", ["before", "after", *shown.values()]))
    for name, result in results.items():
        cells = [result.get("bits_per_byte_before"), result.get("bits_per_byte")]
        cells += [result["baselines"].get(baseline) for baseline in shown]
        lines.append(_line(name, [_bits(cell) for cell in cells]))
    return "\n".join([*lines, *(f"  {note}" for note in text_notes(results))])


def texts_table(texts: dict[str, dict[str, Any]]) -> str:
    """The table of `evaluate.py`: a line for each text. All positions and baselines are in its JSON."""
    first, shown = next(iter(texts.values())), shown_baselines(texts)
    lines = [f"Bits per byte, second half of {first['windows']} windows of {first['context_length']} bytes:"]
    lines.append(_line("text", [f"{'model':>15}", *shown.values()]))
    for name, text in texts.items():
        cells = [_bits(text["baselines"].get(baseline)) for baseline in shown]
        lines.append(_line(name, [f"{_with_interval(text, 'bits_per_byte'):>15}", *cells]))
    return "\n".join([*lines, *(f"  {note}" for note in text_notes(texts))])


def probes_table(probes: dict[str, dict[str, Any]]) -> str:
    """Bits a symbol of each probe beside the baselines; see `evaluation.probe_figures` for the columns."""
    lines = ["Bits per symbol of probes:"]
    lines.append(_line("probe", [f"{'model':>15}", "KT", "counts .05", "best", "right", "saved"]))
    for name, probe in probes.items():
        cells = [_bits(probe["baselines"][baseline]) for baseline in ("kt", "counts_05", "best")]
        saved = [_bits(probe["bits_saved"])] if probe.get("bits_saved") is not None else []
        right = f"{probe['accuracy']:.1%}"
        lines.append(_line(name, [f"{_with_interval(probe, 'bits_per_symbol'):>15}", *cells, right, *saved]))
    return "\n".join(lines)


def shown_baselines(texts: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The names in words of those `BASELINES` that the entries of texts have."""
    found = {name for text in texts.values() for name in text["baselines"]}
    return {name: words for name, words in BASELINES.items() if name in found}


def text_notes(texts: dict[str, dict[str, Any]]) -> list[str]:
    """What there is to say of a tokenizer beside the figures of texts, in lines; nothing of most."""
    notes = [f"{name}: {text['lost']:.2%} of its bytes cannot be told back from the tokens"
             for name, text in texts.items() if "lost" in text]  # fmt: skip
    if any("halves" in text for text in texts.values()):
        notes.append(
            "The tokenizer does not tell which bytes its tokens cover: a window's second half is that of its tokens."
        )
    return notes


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


def _line(name: str, cells: list[str]) -> str:
    return f"  {name:<14} " + " ".join(f"{cell:>10}" for cell in cells)


def _bits(bits: float | None) -> str:
    return "-" if bits is None else f"{bits:.3f}"


def _with_interval(figures: dict[str, Any], unit: str) -> str:
    if figures[unit] is None:
        return "-"
    return f"{figures[unit]:.3f}" + ("" if figures["ci95"] is None else f" \u00b1 {figures['ci95']:.3f}")
