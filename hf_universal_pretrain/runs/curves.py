"""The picture of a run: its loss and its bits on each text, against steps or tokens."""

from pathlib import Path
from typing import Any


SUFFIX = "_bits_per_byte"


def plot_runs(
    histories: dict[str, list[dict[str, Any]]],
    baselines: dict[str, dict[str, float]],
    path: str | Path,
    tokens_per_step: int | None = None,
) -> None:
    """Draws the training loss (where there is one), the bits per byte of each text with its baselines as dashed lines,
    and the bits of probes, against training steps or synthetic tokens.

    Args:
        histories: for each run, by the name it has in the legend, its log history.
        baselines: for each text, its baselines by name, in bits per byte.
        path: the PNG to write.
        tokens_per_step: synthetic tokens in a step; None to draw against steps.
    """
    from matplotlib.figure import Figure  # not before something is drawn
    from matplotlib.ticker import EngFormatter

    keys = {key: None for history in histories.values() for entry in history for key in entry}
    panels: dict[str, dict[str, str]] = {"Training loss": {"": "bits_per_token"}} if "bits_per_token" in keys else {}
    panels |= {key[len("eval_") : -len(SUFFIX)]: {"": key} for key in sorted(keys) if key.endswith(SUFFIX)}
    probes = [key for key in keys if key.startswith("eval_probe_") and key.endswith("_bits_per_symbol")]
    if probes:
        panels["probes"] = {key[len("eval_probe_") : -len("_bits_per_symbol")]: key for key in probes}
    if "eval_reach_bits" in keys:
        panels["gain from further back"] = {"": "eval_reach_bits"}
    figure = Figure(figsize=(4.2 * max(1, len(panels)), 3.6), layout="constrained")
    axes = figure.subplots(1, max(1, len(panels)), squeeze=False)
    for (title, curves), axis in zip(panels.items(), axes[0], strict=False):
        for run, history in histories.items():
            for curve, key in curves.items():
                points = [(entry["step"] * (tokens_per_step or 1), entry[key]) for entry in history if key in entry]
                label = " ".join(filter(None, (run if len(histories) > 1 else "", curve)))
                style = {"linewidth": 1} if key == "bits_per_token" else {"marker": "."}
                axis.plot(*zip(*points, strict=True) if points else ((), ()), label=label, **style)
        for (name, bits), color in zip(baselines.get(title, {}).items(), ("0.75", "0.55", "0.35"), strict=False):
            axis.axhline(bits, color=color, linestyle="--", linewidth=1)
            side = "top" if name == "best" else "bottom"  # it lies close under the one before
            axis.annotate(name, (0.99, bits), xycoords=("axes fraction", "data"), ha="right", va=side, color=color)
        unit = {
            "Training loss": "bits per token",
            "probes": "bits per symbol",
            "gain from further back": "bits per token",
        }.get(title, "bits per byte")
        axis.set(title=title, xlabel="synthetic tokens" if tokens_per_step else "step", ylabel=unit)
        if tokens_per_step:
            axis.xaxis.set_major_formatter(EngFormatter())
        axis.margins(y=0.1)
        axis.grid(alpha=0.3)
        if len(histories) > 1 or len(curves) > 1:
            axis.legend(fontsize="small")
    figure.savefig(path, dpi=120)
