"""Pictures of runs: the loss and bits of one against steps or tokens, and arms of an experiment side by side."""

from pathlib import Path
from typing import Any

from hf_universal_pretrain.runs.comparison import Run


SUFFIX = "_bits_per_byte"


def plot_runs(
    histories: dict[str, list[dict[str, Any]]],
    floors: dict[str, dict[str, float]],
    path: str | Path,
    tokens_per_step: int | None = None,
) -> None:
    """Draws the training loss (where there is one), the bits per byte of each text with its floors as dashed lines,
    and the bits of probes, against training steps or synthetic tokens.

    Args:
        histories: for each run, by the name it has in the legend, its log history.
        floors: for each text, its floors by name, in bits per byte.
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
    figure = Figure(figsize=(4.2 * max(1, len(panels)), 3.6), layout="constrained")
    axes = figure.subplots(1, max(1, len(panels)), squeeze=False)
    for (title, curves), axis in zip(panels.items(), axes[0], strict=False):
        for run, history in histories.items():
            for curve, key in curves.items():
                points = [(entry["step"] * (tokens_per_step or 1), entry[key]) for entry in history if key in entry]
                label = " ".join(filter(None, (run if len(histories) > 1 else "", curve)))
                style = {"linewidth": 1} if key == "bits_per_token" else {"marker": "."}
                axis.plot(*zip(*points, strict=True) if points else ((), ()), label=label, **style)
        for (name, bits), color in zip(floors.get(title, {}).items(), ("0.75", "0.55", "0.35"), strict=False):
            axis.axhline(bits, color=color, linestyle="--", linewidth=1)
            side = "top" if name == "best" else "bottom"  # it lies close under the one before
            axis.annotate(name, (0.99, bits), xycoords=("axes fraction", "data"), ha="right", va=side, color=color)
        unit = {"Training loss": "bits per token", "probes": "bits per symbol"}.get(title, "bits per byte")
        axis.set(title=title, xlabel="synthetic tokens" if tokens_per_step else "step", ylabel=unit)
        if tokens_per_step:
            axis.xaxis.set_major_formatter(EngFormatter())
        axis.margins(y=0.1)
        axis.grid(alpha=0.3)
        if len(histories) > 1 or len(curves) > 1:
            axis.legend(fontsize="small")
    figure.savefig(path, dpi=120)


def plot_comparison(runs: dict[str, dict[int, Run]], path: str | Path, reference: str = "scratch") -> None:
    """Draws arms against real tokens, all tokens and FLOPs: a colour an arm, seeds thin, their mean thick with a band
    from the lowest to the highest; a dashed line where the reference ends, and where each arm first crosses it.

    Args:
        runs: for each arm, its runs by seed.
        path: the PNG to write.
        reference: the arm that the others are compared with.
    """
    from matplotlib.figure import Figure  # not before something is drawn
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=(14, 4.2), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True, width_ratios=[1.5, 1, 1])
    titles = ("bytes or tokens of real text", "tokens of both stages", "FLOPs, generation included")
    ended = [run.final for run in runs.get(reference, {}).values()]
    end = sum(ended) / len(ended) if ended else None
    for number, (arm, seeds) in enumerate(runs.items()):
        color = "0.45" if arm == reference else f"C{number % 10}"
        for place, (axis, _) in enumerate(zip(axes, titles, strict=True)):
            curves = [[(_cost(run, tokens, place), bits) for tokens, bits in run.curve] for run in seeds.values()]
            for curve in curves:
                axis.plot(*zip(*curve, strict=True), color=color, linewidth=0.6, alpha=0.5)
            x = [sum(point[0] for point in points) / len(points) for points in zip(*curves, strict=False)]
            bits = [[point[1] for point in points] for points in zip(*curves, strict=False)]
            means = [sum(values) / len(values) for values in bits]
            axis.plot(x, means, color=color, linewidth=2, label=f"{arm} ({len(curves)})")
            axis.fill_between(x, [min(v) for v in bits], [max(v) for v in bits], color=color, alpha=0.15, linewidth=0)
            if place == 0 and end is not None and arm != reference:
                crossed = next((at for at, mean in zip(x, means, strict=True) if mean <= end), None)
                if crossed is not None:
                    axis.plot([crossed], [end], "o", color=color)
                    told = f"{crossed / x[-1]:.0%} of the text"
                    axis.annotate(told, (crossed, end), xytext=(6, 6), textcoords="offset points", color=color)
    for axis, title in zip(axes, titles, strict=True):
        if end is not None:
            axis.axhline(end, color="0.6", linestyle="--", linewidth=1)
        axis.set(xlabel=title)
        axis.xaxis.set_major_formatter(EngFormatter())
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    finals = [run.final for seeds in runs.values() for run in seeds.values()]
    if finals:  # a model that has seen no text is far above all that matters
        axes[0].set(ylabel="bits per byte of held-out text", ylim=(min(finals) - 0.1, max(finals) + 1.0))
        axes[0].legend(title="arm (seeds)", frameon=False)
    figure.savefig(path, dpi=120)


def _cost(run: Run, tokens: float, place: int) -> float:
    """Real tokens, tokens of both stages, or FLOPs of both, after so many real tokens of a run."""
    return (tokens, tokens + run.earlier_tokens, tokens * run.flops_per_token + run.earlier_flops)[place]
