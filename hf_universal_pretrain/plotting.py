"""Pictures: curves of runs from their `trainer_state.json`, arms side by side, and what a buffer holds."""

import json
from pathlib import Path

import matplotlib
import torch
from torch import Tensor

from hf_universal_pretrain.comparison import Run
from hf_universal_pretrain.inspection import RowFigures


matplotlib.use("Agg")  # no screen needed
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import EngFormatter  # noqa: E402


SUFFIX = "_bits_per_byte"


def read_history(run: str | Path) -> list[dict[str, float]]:
    """The log history of a run's folder.

    Raises:
        ValueError: if the folder holds no run that has ended or saved its state, or that state is broken.
    """
    path = Path(run) / "trainer_state.json"
    if not path.is_file():
        raise ValueError(f"--compare_with: {run} is not the folder of a run (no trainer_state.json in it)")
    try:
        return json.loads(path.read_text(encoding="utf-8"))["log_history"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"--compare_with: {path} is not the state of a run ({type(error).__name__}: {error})"
        ) from error


def plot_runs(
    histories: dict[str, list[dict[str, float]]],
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
    keys = {key: None for history in histories.values() for entry in history for key in entry}
    panels: dict[str, dict[str, str]] = {"Training loss": {"": "bits_per_token"}} if "bits_per_token" in keys else {}
    panels |= {key[len("eval_") : -len(SUFFIX)]: {"": key} for key in sorted(keys) if key.endswith(SUFFIX)}
    probes = [key for key in keys if key.startswith("eval_probe_") and key.endswith("_bits_per_symbol")]
    if probes:
        panels["probes"] = {key[len("eval_probe_") : -len("_bits_per_symbol")]: key for key in probes}
    figure, axes = plt.subplots(
        1, max(1, len(panels)), figsize=(4.2 * max(1, len(panels)), 3.6), squeeze=False, layout="constrained"
    )
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
    plt.close(figure)


def plot_arms(bits: dict[str, dict[str, dict[str, float]]], path: str | Path) -> None:
    """Draws the bits per byte of several arms side by side, each seed as a dot and the mean as a bar, a text a panel.

    Args:
        bits: for each arm and each seed, the bits per byte by text.
        path: the PNG to write.
    """
    texts = list(next(iter(next(iter(bits.values())).values())))
    figure, axes = plt.subplots(
        1, len(texts), figsize=(4.5 * len(texts), 1 + 0.27 * len(bits)), squeeze=False, layout="constrained"
    )
    for text, axis in zip(texts, axes[0], strict=True):
        mean = {arm: sum(seed[text] for seed in seeds.values()) / len(seeds) for arm, seeds in bits.items()}
        order = sorted(mean, key=mean.get, reverse=True)
        axis.barh(order, [mean[arm] for arm in order], color="0.85")
        for place, arm in enumerate(order):
            dots = [seed[text] for seed in bits[arm].values()]
            axis.plot(dots, [place] * len(dots), ".", color="C0")
            axis.annotate(
                f"{mean[arm]:.2f}", (max(dots), place), xytext=(6, 0), textcoords="offset points", va="center"
            )
        axis.axvline(8, color="0.5", linestyle="--", linewidth=1)
        axis.set(
            title=text, xlabel="bits per byte", xlim=(min(mean.values()) - 0.5, max(8.5, max(mean.values()) + 0.6))
        )
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_curves(panels: dict[str, dict[str, list[tuple[int, float]]]], path: str | Path) -> None:
    """Draws bits per byte against training steps, a panel for each text, without the step before training.

    Args:
        panels: for each text, for each run named `"ARM, ..."`, (step, bits) pairs. Runs of an arm share a colour.
        path: the PNG to write.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(5 * len(panels), 3.6), squeeze=False, layout="constrained")
    for (text, curves), panel in zip(panels.items(), axes[0], strict=True):
        arms = list(dict.fromkeys(run.split(",")[0] for run in curves))
        for run, curve in curves.items():
            arm = run.split(",")[0]
            first = next(other for other in curves if other.split(",")[0] == arm) == run
            points = [(step, bits) for step, bits in curve if step]
            label = arm if first else None
            panel.plot(*zip(*points, strict=True), color=f"C{arms.index(arm)}", label=label, marker=".", linewidth=1)
        panel.set(title=text, xlabel="step", ylabel="bits per byte")
        panel.legend(fontsize="small")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def plot_scaling(growth: dict[str, dict[str, dict[int, float]]], path: str | Path) -> None:
    """Draws the time of a round against each size, on logarithmic axes, with dotted lines of linear growth.

    Args:
        growth: for each family, for each size (`"rows"`, ...), seconds by value.
        path: the PNG to write.
    """
    sizes = list(dict.fromkeys(size for by_size in growth.values() for size in by_size))
    figure, axes = plt.subplots(1, len(sizes), figsize=(3.4 * len(sizes), 3.4), squeeze=False, layout="constrained")
    for size, panel in zip(sizes, axes[0], strict=True):
        for number, (family, by_size) in enumerate(growth.items()):
            values = {int(value): took for value, took in by_size.get(size, {}).items()}
            if values:
                panel.loglog(list(values), list(values.values()), marker=".", color=f"C{number}", label=family)
                first, last = next(iter(values.items())), max(values)
                linear = [first[1], first[1] * last / first[0]]
                panel.loglog([first[0], last], linear, color=f"C{number}", linestyle=":", linewidth=1)
        panel.set(title=size.replace("_", " "), xlabel=size.replace("_", " "))
        panel.set_xscale("log", base=2)
    axes[0][0].set_ylabel("seconds a round")
    axes[0][0].legend(fontsize="small", title="dotted: linear")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def plot_comparison(runs: dict[str, dict[int, Run]], path: str | Path) -> None:
    """Draws the curves of arms against real tokens, all tokens and FLOPs; each seed a thin line of the arm's colour.

    Args:
        runs: for each arm, its runs by seed.
        path: the PNG to write.
    """
    figure, axes = plt.subplots(1, 3, figsize=(14, 4), layout="constrained", sharey=True)
    titles = {
        "real tokens": "Real text",
        "all tokens": "With the stage before",
        "FLOPs": "Compute, generation included",
    }
    for number, (arm, seeds) in enumerate(runs.items()):
        style = {"color": f"C{number % 10}", "linestyle": ("-", "--", ":")[number // 10 % 3], "linewidth": 1}
        for place, run in enumerate(seeds.values()):
            tokens, bits = (torch.tensor(values) for values in zip(*run.curve, strict=True))
            label = arm if place == 0 else None
            axes[0].plot(tokens, bits, label=label, **style)
            axes[1].plot(tokens + run.earlier_tokens, bits, **style)
            axes[2].plot(tokens * run.flops_per_token + run.earlier_flops, bits, **style)
    finals = [run.final for seeds in runs.values() for run in seeds.values()]
    for axis, (unit, title) in zip(axes, titles.items(), strict=True):
        axis.set(title=title, xlabel=unit)
        axis.xaxis.set_major_formatter(EngFormatter())
        axis.grid(alpha=0.3)
    if finals:
        axes[0].set(ylabel="bits per byte, held-out text", ylim=(min(finals) - 0.1, min(finals) + 2.5))
        axes[0].legend(fontsize="small", ncols=2)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_buffer(buffers: dict[str, Tensor], alphabet_size: int, path: str | Path, rows: int = 160) -> None:
    """Draws the first rows and 256 symbols of several buffers side by side, a row a line, a symbol a colour.

    Args:
        buffers: `(rows, length)` symbols by title.
        alphabet_size: number of symbols.
        path: the PNG to write.
        rows: rows that are shown; half of them from each end, where a fresh buffer has noise and constants.
    """
    figure, axes = plt.subplots(
        1, len(buffers), figsize=(3.4 * len(buffers), 3.4), squeeze=False, layout="constrained"
    )
    for axis, (title, symbols) in zip(axes[0], buffers.items(), strict=True):
        shown = torch.cat([symbols[: rows // 2], symbols[-(rows // 2) :]])[:, :256]
        axis.imshow(
            shown, cmap="nipy_spectral", vmin=0, vmax=alphabet_size - 1, aspect="auto", interpolation="nearest"
        )
        axis.set(title=title, xlabel="symbol", yticks=[])
    axes[0][0].set_ylabel("row")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def plot_row_figures(figures: dict[str, RowFigures], path: str | Path) -> None:
    """Draws histograms of the figures of rows, one line for each buffer.

    Args:
        figures: by title.
        path: the PNG to write.
    """
    panels = {
        "compressibility": "compressibility (1: noise)", "entropy": "entropy, bits a symbol",
        "distinct": "different symbols", "passes": "passes",
    }  # fmt: skip
    figure, axes = plt.subplots(1, len(panels), figsize=(3.4 * len(panels), 3), layout="constrained")
    for axis, (name, label) in zip(axes, panels.items(), strict=True):
        values = {title: getattr(rows, name).float() for title, rows in figures.items()}
        top = max(v.max().item() for v in values.values()) or 1.0
        for title, v in values.items():
            axis.hist(v, bins=30, range=(0, top), histtype="step", label=title, weights=torch.full_like(v, 1 / len(v)))
        axis.set(xlabel=label, yscale="log")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("share of the rows")
    axes[-1].legend(fontsize="small")
    figure.savefig(path, dpi=110)
    plt.close(figure)
