"""Draws all pictures of the documentation anew, into `docs/images/`.

    python recipes/measure/pictures.py               # all of them, about two minutes on one core
    python recipes/measure/pictures.py rows compare  # some

Rows come from streams that are made here; curves from the files in `recipes/results/`.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from torch import Tensor

from hf_universal_pretrain import SyntheticUPConfig, SyntheticUPDataset
from hf_universal_pretrain.machines import FAMILIES
from hf_universal_pretrain.stream.figures import LETTERS, SHADES, letter, ranks, shades


ROOT = Path(__file__).resolve().parents[2]
RESULTS, IMAGES = ROOT / "recipes" / "results", ROOT / "docs" / "images"
INK, FAINT = "#22303c", "#8b98a5"
# one colour an arm, in all pictures (Okabe and Ito's, which the colour-blind can tell apart)
ARMS = {
    "scratch": "#6b7680", "all": "#0072b2", "up": "#0072b2", "text": "#009e73", "one_chain": "#d55e00",
    "markov_fixed": "#e69f00", "shuffled_weights": "#cc79a7", "warm": "#0072b2", "long": "#56b4e9",
    "shuffled": "#cc79a7", "attention, vocabulary drawn anew": "#e69f00", "grammar": "#d55e00",
    "grammar_at_once": "#e69f00",
}  # fmt: skip


def figure(width: float, height: float, **settings: Any) -> Figure:
    return Figure(figsize=(width, height), layout="constrained", **settings)


def plain(axis: Axes, names: bool = False) -> None:
    """No frame but what is read off: a faint grid, and the axes' own lines; across rows that have names, no lines."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(FAINT)
    axis.tick_params(colors=INK, length=3)
    axis.grid(color=FAINT, alpha=0.25, linewidth=0.7)
    axis.set_axisbelow(True)
    if names:
        axis.grid(axis="y", visible=False)
        axis.tick_params(axis="y", length=0)


def save(drawn: Figure, name: str) -> None:
    path = IMAGES / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(path, dpi=150, metadata={"Software": None})


# ---- Rows ----


def rows_of(machines: str, rounds: int = 6, **settings: Any) -> Tensor:
    """Rows of a stream's buffer after some rounds, `(rows, length)`; those that are still noise are left out."""
    sizes = {"source_batch": 64, "buffer_size": 64, "rows_per_round": 64, "num_resets": 0, "context_length": 256}
    stream = SyntheticUPDataset(SyntheticUPConfig(machines=machines, **{**sizes, **settings}))
    for _ in range(rounds):
        stream.enrich()
    made = (stream.buffer.passes > 0).nonzero().flatten()
    return stream.buffer.read(made)


def draw_rows(axis: Axes, ranked: Tensor, title: str = "") -> None:
    axis.imshow(
        ranked.clamp(max=SHADES - 1),
        cmap=ListedColormap(shades()),
        vmin=0,
        vmax=SHADES - 1,
        aspect="auto",
        interpolation="none",
    )
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    if title:
        axis.set_title(title, loc="left", color=INK, fontsize=10)


def draw_decoded(axis: Axes, ranked: Tensor, size: float = 7.5, y: float = 0.5) -> None:
    """One row as letters, each below its place in the picture."""
    axis.set(xlim=(-0.5, len(ranked) - 0.5), ylim=(0, 1), xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    for place, rank in enumerate(ranked.tolist()):
        axis.text(place, y, letter(rank), family="monospace", fontsize=size, color=INK, ha="center", va="center")


def draw_key(axis: Axes) -> None:
    """What colours and letters mean."""
    axis.imshow(
        torch.arange(SHADES)[None],
        cmap=ListedColormap(shades()),
        vmin=0,
        vmax=SHADES - 1,
        aspect="auto",
        interpolation="none",
    )
    shown = [0, 1, 2, 3, 4, 9, 14, 19, 24, 29, 34, 39]
    axis.set_xticks(shown, [*(letter(rank) for rank in shown[:-1]), f"{letter(SHADES - 1)} and rarer"], fontsize=8)
    axis.set(yticks=[], xlabel="the most frequent symbol of a row is a, the next b, and so on")
    axis.xaxis.label.set(fontsize=8, color=INK)
    axis.tick_params(length=0, colors=INK)
    axis.spines[:].set_visible(False)


def picture_of_family(name: str) -> None:
    """Rows of one family; below them the first one in letters, and the key."""
    length, count = 96, 20
    ranked = ranks(rows_of(name))[:, :length]
    ranked = ranked[most_readable(ranked) :][:count]
    drawn = figure(9, 2.5)
    image, decoded, key = drawn.subplots(3, 1, height_ratios=[10, 1.1, 0.7])
    draw_rows(image, ranked)
    image.set_ylabel(f"{count} rows", color=INK, fontsize=8)
    draw_decoded(decoded, ranked[0])
    decoded.set_ylabel("row 1", rotation=0, ha="right", va="center", color=INK, fontsize=8)
    draw_key(key)
    save(drawn, f"families/{name}")


def families() -> None:
    """Rows of each machine family."""
    for name in FAMILIES:
        picture_of_family(name)


def rows() -> None:
    """What machines of different kinds write: a picture of rows, and one of them in letters."""
    shown = {
        "uniform": "noise, from which all starts", "markov": "a Markov chain", "context_tree": "a context tree",
        "language": "a random language", "copies": "copied pieces", "eca": "a cellular automaton",
        "dyck": "nested brackets", "program": "a random program",
    }  # fmt: skip
    length, count = 56, 12
    drawn = figure(9, 0.6 * len(shown) + 0.6)
    grid = drawn.subplots(len(shown) + 1, 2, width_ratios=[1, 2.1], height_ratios=[1] * len(shown) + [0.3])
    for (name, words), (image, decoded) in zip(shown.items(), grid, strict=False):
        ranked = ranks(rows_of(name))[:, :length]
        ranked = ranked[most_readable(ranked) :][:count]
        draw_rows(image, ranked)
        draw_decoded(decoded, ranked[0], size=8, y=0.22)
        decoded.text(-0.5, 0.78, name, weight="bold", fontsize=8.5, color=INK, va="center")
        decoded.text(9.5, 0.78, words, fontsize=8.5, color=INK, va="center")
    for axis in grid[-1]:
        axis.remove()
    draw_key(drawn.add_subplot(grid[-1][0].get_gridspec()[-1, :]))
    save(drawn, "rows")


def most_readable(ranked: Tensor) -> int:
    """The first row whose symbols nearly all are letters, but not all the same; 0 if there is none."""
    fits = ((ranked < len(LETTERS)).float().mean(1) > 0.9) & (ranked.max(1).values > 3)
    return int(fits.float().argmax()) if fits.any() else 0


def buffer() -> None:
    """A buffer before any round, and as rows pass through machine after machine."""
    config = SyntheticUPConfig(
        machines="lstm", entropy_range=[0.5, 1.5], context_length=128, source_batch=24, buffer_size=64, num_resets=2
    )
    stream, moments = SyntheticUPDataset(config), (0, 1, 4, 16)
    drawn = figure(9, 2.9)
    grid = drawn.subplots(2, len(moments), height_ratios=[10, 0.7])
    for axis, moment in zip(grid[0], moments, strict=True):
        while stream.rounds < moment:
            stream.enrich()
        ranked = ranks(stream.buffer.read(torch.arange(64)))
        draw_rows(
            axis, ranked[:, :64], "before any round" if not moment else f"after {moment} round{'s' * (moment > 1)}"
        )
    for axis in grid[1]:
        axis.remove()
    draw_key(drawn.add_subplot(grid[1][0].get_gridspec()[-1, :]))
    save(drawn, "buffer")


def inspect() -> None:
    """The page of `hf-up inspect`, as a browser shows it; needs Chromium."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print("left out: there is no Chromium to show the page")
        return
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "hf_universal_pretrain", "inspect", "--output_dir", folder, "--rounds", "0"]
        command += ["1", "10", "--machines", "language@16=0.4,lstm=0.3,copies=0.3", "--context_length", "256"]
        subprocess.run(command, check=True, capture_output=True)
        flags = (
            "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --hide-scrollbars"
        )
        shot = [browser, *flags.split(), f"--user-data-dir={folder}/profile", "--window-size=1180,1080"]
        shot += [f"--screenshot={IMAGES / 'inspect.png'}", f"file://{folder}/index.html"]
        subprocess.run(shot, check=True, capture_output=True)


# ---- Curves ----


def read(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def draw_arm(axis: Axes, seeds: list[list[list[float]]], name: str, color: str, words: str = "") -> None:
    """The curves of an arm: seeds thin, their mean thick, a band from the lowest to the highest."""
    for curve in seeds:
        axis.plot(*zip(*curve, strict=True), color=color, linewidth=0.6, alpha=0.6)
    places = [points[0][0] for points in zip(*seeds, strict=True)]
    bits = [[point[1] for point in points] for points in zip(*seeds, strict=True)]
    axis.plot(places, [mean(b) for b in bits], color=color, linewidth=2.2, label=words or name)
    axis.fill_between(places, [min(b) for b in bits], [max(b) for b in bits], color=color, alpha=0.15, linewidth=0)


def draw_baseline(axis: Axes, bits: float, words: str, side: str = "bottom") -> None:
    axis.axhline(bits, color=FAINT, linestyle=(0, (4, 3)), linewidth=1)
    axis.annotate(words, (1, bits), xycoords=("axes fraction", "data"), xytext=(-3, 2 if side == "bottom" else -2),
                  textcoords="offset points", ha="right", va=side, fontsize=8, color=FAINT)  # fmt: skip


def compare() -> None:
    """Arms of `compare`: bits on held-out text while real text is read."""
    words = {
        "text": "as much other English", "scratch": "from scratch", "one_chain": "one Markov chain",
        "markov_fixed": "eight chains that stay", "shuffled_weights": "one chain's weights, shuffled",
        "up": "new machines in each round",
    }  # fmt: skip
    drawn = figure(8, 4)
    axis = drawn.subplots()
    for arm, result in read("compare")["arms"].items():
        draw_arm(axis, list(result["curves"].values()), arm, ARMS[arm], words[arm])
    plain(axis)
    axis.set(xlabel="bytes of real text", ylabel="bits per byte of held-out text (axis from 2.4)", ylim=(2.4, 4.4))
    axis.xaxis.set_major_formatter(EngFormatter())
    axis.legend(frameon=False, fontsize=9, title="before the real text (3 seeds)")
    save(drawn, "compare")


def warm_starts() -> None:
    """The arms of each `warm_start_*` configuration, and scratch with narrow weights where it was run."""
    words = {
        "scratch": "from scratch", "shuffled": "after the start's weights, shuffled", "warm": "after the start",
        "long": "after a start of four times the rows", "grammar": "after a grammar",
        "text": "after as many bytes of other English", "grammar_at_once": "after a grammar, all weights at once",
    }  # fmt: skip
    ends = {"warm_start_english": (1.5, 4), "warm_start_python": (1.25, 4), "warm_start_bpe": (2, 3.5)}
    for path in sorted(RESULTS.glob("warm_start_*.json")):
        if path.stem.endswith("_narrow"):
            continue
        drawn = figure(8, 4)
        axis = drawn.subplots()
        title = "before the real text (seeds)"
        if path.with_stem(f"{path.stem}_narrow").exists():
            title = "initializer_range .08 where nothing is said (seeds)"
            narrow = list(read(f"{path.stem}_narrow")["arms"]["scratch"]["curves"].values())
            draw_arm(axis, narrow, "narrow", "#b4bcc4", f"from scratch, initializer_range .02 ({len(narrow)} seeds)")
        of_tokens = path.stem == "warm_start_bpe"
        for arm, result in read(path.stem)["arms"].items():
            seeds = list(result["curves"].values())
            first = ", vocabulary first" if of_tokens and arm == "grammar" else ""
            draw_arm(axis, seeds, arm, ARMS[arm], f"{words[arm]}{first} ({len(seeds)})")
        plain(axis)
        low, high = ends.get(path.stem, (1.75, 4))
        axis.set(
            ylabel=f"bits per byte of held-out text (axis from {low})", ylim=(low, high),
            xlabel=f"{'tokens' if of_tokens else 'bytes'} of real text",
        )  # fmt: skip
        axis.xaxis.set_major_formatter(EngFormatter())
        axis.legend(frameon=False, fontsize=9, title=title)
        save(drawn, path.stem)


def less_text() -> None:
    """Scratch and the preset of each architecture on a quarter of the text."""
    runs = [run for run in read("short_text")["runs"] if "end of the text" in run["text"]]
    by_model("less_text", runs, low=2.4, ticks=range(0, 600_001, 200_000))


def more_text() -> None:
    """Scratch and the preset of each architecture on four times the text."""
    by_model("more_text", read("long_text")["runs"], low=1.8, ticks=range(0, 10_000_001, 2_500_000))


def wider() -> None:
    """Scratch and the preset of each architecture, twice as wide."""
    by_model("wider", read("wider")["runs"], low=2.0, ticks=range(0, 2_500_001, 500_000))


def by_model(name: str, runs: list[dict[str, Any]], low: float, ticks: Sequence[int]) -> None:
    """Scratch and the preset, a panel for each architecture that was measured."""
    shown = {"gpt2": ("GPT-2", "warm_start"), "llama": ("Llama", "warm_start_rotary"),
             "qwen3": ("Qwen3", "warm_start_rotary")}  # fmt: skip
    shown = {model: words for model, words in shown.items() if any(run["model"] == model for run in runs)}
    drawn = figure(1 + 3 * len(shown), 3.4)
    bytes_a_step = 16 * 256
    for axis, (model, (title, preset)) in zip(drawn.subplots(1, len(shown), sharey=True), shown.items(), strict=True):
        for arm, before, words in (
            ("scratch", "random weights", "from scratch"), ("warm", f"--preset {preset}", f"after {preset}"),
        ):  # fmt: skip
            seeds = [
                [[step * bytes_a_step, bits] for step, bits in run["curve"]]
                for run in runs
                if run["model"] == model and run["before"] == before
            ]
            draw_arm(axis, seeds, arm, ARMS[arm], f"{words} ({len(seeds)})")
        plain(axis)
        axis.set_title(title, loc="left", color=INK)
        axis.set(xlabel="bytes of real text", ylim=(low, low + 2.6), xticks=ticks)
        axis.xaxis.set_major_formatter(EngFormatter())
        axis.legend(frameon=False, fontsize=8, title="before it (seeds)", title_fontsize=8)
        axis.label_outer()
    drawn.axes[0].set_ylabel(f"bits per byte of held-out text (axis from {low:g})", fontsize=9)
    save(drawn, name)


def published() -> None:
    """What each published recipe brings beside scratch on both texts: seeds as dots, means as strokes."""
    english = read("published")["arms"]
    order = sorted(english.keys() - {"scratch", "text"}, key=lambda arm: english[arm]["gap"]["mean"], reverse=True)
    drawn = figure(10, 0.24 * len(order) + 1)
    texts = {"English": english, "Python source": read("published_python")["arms"]}
    for axis, (text, arms) in zip(drawn.subplots(1, 2, sharey=True), texts.items(), strict=True):
        for place, arm in enumerate(order):
            gaps = list(arms[arm]["gap"]["seeds"].values())
            axis.plot(gaps, [place] * len(gaps), "o", color="#0072b2", alpha=0.45, markersize=4, markeredgewidth=0)
            axis.plot([mean(gaps)], [place], "|", color="#0072b2", markersize=11, markeredgewidth=2)
        axis.axvline(0, color=FAINT, linestyle=(0, (4, 3)), linewidth=1)
        axis.annotate("scratch", (0, len(order) - 0.2), ha="center", fontsize=8, color=FAINT, annotation_clip=False)
        plain(axis, names=True)
        axis.set_title(text, loc="left", color=INK)
        axis.set_yticks(range(len(order)), order, fontsize=8)
        axis.set(ylim=(-0.7, len(order) - 0.3), xlabel="bits per byte less those from scratch: left is better")
    save(drawn, "published")


def transfer() -> None:
    """What is taken of a pretrained model: bits while real text is read."""
    texts = read("transfer")["texts"]
    names = {"english": "English", "python": "Python source"}
    drawn = figure(9, 3.6)
    for axis, (text, arms) in zip(drawn.subplots(1, len(texts)), texts.items(), strict=True):
        for arm, color in zip(arms, ("#6b7680", "#0072b2", "#e69f00", "#009e73"), strict=False):
            draw_arm(
                axis, list(arms[arm]["curves"].values()), arm, color, "nothing (scratch)" if arm == "scratch" else arm
            )
        plain(axis)
        axis.set_title(names[text], loc="left", color=INK)
        axis.set(xlabel="steps on real text", ylabel="bits per byte (axis from 3)", ylim=(3, 6.5))
        axis.legend(frameon=False, fontsize=9, title="taken of the pretrained model")
    save(drawn, "transfer")


def zero_shot() -> None:
    """Bits on English that was never seen, against synthetic tokens."""
    drawn = figure(8, 3.8)
    axis = drawn.subplots()
    for name, words, color in (
        ("zero_shot", "all bytes", "#0072b2"), ("zero_shot_printable", "printable bytes alone", "#d55e00"),
    ):  # fmt: skip
        models = sorted(read(name)["models"].values(), key=lambda model: model["synthetic_tokens"])
        points = [(m["synthetic_tokens"], m["texts"]["english"]["bits_per_byte"]) for m in models]
        axis.plot(*zip(*points, strict=True), "o-", color=color)
        axis.annotate(f"rows made of {words}", points[0], xytext=(0, 8), textcoords="offset points", color=color)
        axis.annotate(
            f"{points[-1][1]:.2f}", points[-1], xytext=(6, 0), textcoords="offset points", color=color, va="center"
        )
    baselines = read("zero_shot")["models"].popitem()[1]["texts"]["english"]["baselines"]
    draw_baseline(axis, baselines["uniform"], "uniform over 256 bytes")
    draw_baseline(axis, baselines["counts_05"], "counting bytes")
    draw_baseline(axis, baselines["markov_1"], "counting pairs of bytes", "top")
    plain(axis)
    axis.set(xscale="log", xlabel="synthetic tokens", ylabel="bits per byte of English (axis from 4)", ylim=(4, 8.3))
    axis.xaxis.set_major_formatter(EngFormatter())
    save(drawn, "zero_shot")


def worth() -> None:
    """What a small model learns about text from each family alone."""
    arms, texts = read("families")["arms"], {"english": "English", "python": "Python source"}
    drawn = figure(9, 0.27 * len(arms) + 1)
    for axis, (text, title) in zip(drawn.subplots(1, 2), texts.items(), strict=True):
        values = {arm: [seed[text] for seed in result["bits"].values()] for arm, result in arms.items()}
        order = sorted(values, key=lambda arm: mean(values[arm]), reverse=True)
        axis.barh(order, [mean(values[arm]) for arm in order], color="#cfe3f1", height=0.7)
        for place, arm in enumerate(order):
            axis.plot(values[arm], [place] * len(values[arm]), "|", color="#0072b2", markersize=7)
            axis.annotate(f"{mean(values[arm]):.2f}", (0.1, place), va="center", fontsize=8, color=INK)
        axis.axvline(8, color=FAINT, linestyle=(0, (4, 3)), linewidth=1)
        axis.annotate("uniform", (8, len(order) - 0.4), ha="right", fontsize=8, color=FAINT, annotation_clip=False)
        plain(axis, names=True)
        axis.set_title(title, loc="left", color=INK)
        axis.tick_params(labelsize=8)
        axis.set(xlim=(0, 8.4), ylim=(-0.7, len(order)))
    drawn.supxlabel("bits per byte after 2M synthetic tokens; each stroke is a seed", fontsize=9, color=INK)
    save(drawn, "worth")


def growth() -> None:
    """Seconds of a round against each of its sizes."""
    scaling = read("benchmark")["scaling"]
    sizes = {
        "rows": "rows",
        "context_length": "symbols in a row",
        "machines": "machines",
        "alphabet": "symbols to choose from",
    }
    drawn = figure(9, 2.7)
    axes = drawn.subplots(1, len(sizes), sharey=True)
    for axis, (size, words) in zip(axes, sizes.items(), strict=True):
        for family, color in (("lstm", "#0072b2"), ("context_tree", "#d55e00")):
            points = [(int(value), took) for value, took in scaling[family].get(size, {}).items()]
            if points:
                axis.loglog(*zip(*points, strict=True), "o-", color=color, label=family, markersize=3)
                first, last = points[0], points[-1][0]
                axis.loglog([first[0], last], [first[1], first[1] * last / first[0]], ":", color=color, linewidth=1)
        plain(axis)
        axis.set_xscale("log", base=4)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axis.set_xlabel(words)
    axes[0].set_ylabel("seconds a round")
    axes[0].legend(frameon=False, fontsize=8, title="dotted: linear", title_fontsize=8)
    save(drawn, "growth")


PICTURES: dict[str, Callable[[], None]] = {
    "rows": rows, "buffer": buffer, "inspect": inspect, "families": families, "worth": worth, "compare": compare,
    "warm_starts": warm_starts, "less_text": less_text, "more_text": more_text, "wider": wider, "published": published,
    "transfer": transfer, "zero_shot": zero_shot, "growth": growth,
}  # fmt: skip


def main() -> None:
    asked = sys.argv[1:]
    if not set(asked) <= PICTURES.keys():
        sys.exit(f"pictures are {', '.join(PICTURES)}")
    for name in asked or PICTURES:
        PICTURES[name]()
        print(name, flush=True)


if __name__ == "__main__":
    main()
