"""Curves of one or several runs from their `trainer_state.json`."""

import json
from pathlib import Path

import matplotlib


matplotlib.use("Agg")  # no screen needed
import matplotlib.pyplot as plt  # noqa: E402


SUFFIX = "_bits_per_byte"


def read_history(run: str | Path) -> list[dict[str, float]]:
    """The log history of a run's folder.

    Raises:
        ValueError: if the folder holds no run that has ended or saved its state.
    """
    path = Path(run) / "trainer_state.json"
    if not path.is_file():
        raise ValueError(f"--compare_with: {run} is not the folder of a run (no trainer_state.json in it)")
    return json.loads(path.read_text(encoding="utf-8"))["log_history"]


def plot_runs(
    histories: dict[str, list[dict[str, float]]], floors: dict[str, dict[str, float]], path: str | Path
) -> None:
    """Draws the training loss, and the bits per byte of each text, against training steps; the floors as dashed lines.

    Args:
        histories: for each run, by the name it has in the legend, its log history.
        floors: for each text, its floors by name, in bits per byte.
        path: the PNG to write.
    """
    texts = sorted(
        {key[len("eval_") : -len(SUFFIX)] for h in histories.values() for e in h for key in e if key.endswith(SUFFIX)}
    )
    figure, axes = plt.subplots(
        1, 1 + len(texts), figsize=(4.2 * (1 + len(texts)), 3.6), squeeze=False, layout="constrained"
    )
    loss, *panels = axes[0]
    for run, history in histories.items():
        points = [(entry["step"], entry["bits_per_token"]) for entry in history if "bits_per_token" in entry]
        loss.plot(*zip(*points, strict=True) if points else ((), ()), label=run, linewidth=1)
    loss.set(title="Training loss", xlabel="step", ylabel="bits per token")
    for text, panel in zip(texts, panels, strict=True):
        key = f"eval_{text}{SUFFIX}"
        for run, history in histories.items():
            points = [(entry["step"], entry[key]) for entry in history if key in entry]
            panel.plot(*zip(*points, strict=True) if points else ((), ()), label=run, marker=".")
        for (name, bits), color in zip(floors.get(text, {}).items(), ("0.7", "0.4"), strict=False):
            panel.axhline(bits, color=color, linestyle="--", linewidth=1)
            panel.annotate(
                name, (0.99, bits), xycoords=("axes fraction", "data"), ha="right", va="bottom", color=color
            )
        panel.margins(y=0.1)
        panel.set(title=text, xlabel="step", ylabel="bits per byte")
    for axis in axes[0]:
        axis.grid(alpha=0.3)
        if len(histories) > 1:
            axis.legend()
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
