"""Comparing arms of an experiment with a reference arm: how many tokens to the same loss, and the gap at the end.

A run of real-text training is a curve of bits per byte against tokens. Runs of the same seed see the same rows in the
same order, so arms are compared seed by seed, and intervals are over those paired differences.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from hf_universal_pretrain.models.build import build_model, read_config
from hf_universal_pretrain.models.cost import training_flops_per_token
from hf_universal_pretrain.runs.folder import read_run_file
from hf_universal_pretrain.runs.history import synthetic_tokens, wall_seconds
from hf_universal_pretrain.runs.settings import BATCH
from hf_universal_pretrain.stream.config import SyntheticUPConfig
from hf_universal_pretrain.stream.mixture import generation_flops_per_symbol


# 97.5% quantiles of Student's t for 1, 2, ... degrees of freedom; beyond, the normal one is near enough
T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)

Curve = list[tuple[float, float]]


@dataclass
class Run:
    """One run of an arm: the curve of its real-text training, and what came before."""

    curve: Curve  # (real tokens, bits per byte on the held-out text), from step 0 on
    flops_per_token: float  # of training
    earlier_tokens: int = 0  # tokens of the stage before, synthetic or not
    earlier_flops: float = 0.0  # of training on them and of generating them
    generation_flops: float = 0.0  # of these, those of generating
    earlier_seconds: float = 0.0  # wall time of the stage before
    generation_seconds: float = 0.0  # of that, spent on generating: many families make no matrix products

    @property
    def final(self) -> float:
        return self.curve[-1][1]


def read_curve(folder: Path, key: str, tokens_per_step: int) -> Curve:
    """The curve of a finished run's folder, from its `trainer_state.json`; `key` is the metric's name."""
    history = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    points = {entry["step"] * tokens_per_step: entry[key] for entry in history if key in entry}
    return sorted(points.items())


def read_run(folder: Path, before: Path, key: str, context_length: int) -> Run:
    """A finished run of real-text training.

    Args:
        folder: of the run.
        before: of the run whose model it started from; one without `trainer_state.json` cost nothing.
        key: name of the metric.
        context_length: tokens in a row.
    """
    flops = training_flops_per_token(build_model(read_config(str(folder)), seed=0, empty=True), context_length)
    run = Run(read_curve(folder, key, _rows_a_step(folder) * context_length), flops)
    if (before / "trainer_state.json").is_file():
        state = json.loads((before / "trainer_state.json").read_text(encoding="utf-8"))
        run.earlier_seconds = wall_seconds(state["log_history"])
        run.earlier_tokens = synthetic_tokens(state)
        if run.earlier_tokens:  # generated; without the rows that a band has had drawn again
            data = SyntheticUPConfig.from_pretrained(before)
            rounds = max(entry.get("rounds", 0) for entry in state["log_history"])
            symbols = rounds * data.source_batch * data.context_length
            run.generation_flops = symbols * generation_flops_per_symbol(data)
            shares = [entry["generation_share"] for entry in state["log_history"] if "generation_share" in entry]
            run.generation_seconds = shares[-1] * run.earlier_seconds
        else:
            run.earlier_tokens = state["global_step"] * _rows_a_step(before) * context_length
        run.earlier_flops = run.earlier_tokens * flops + run.generation_flops
    return run


def _rows_a_step(folder: Path) -> int:
    """Rows in an optimizer step of a finished run."""
    settings = read_run_file(folder)["settings"]
    return math.prod(settings[name] for name in (*BATCH, "world_size"))


def tokens_to_reach(curve: Curve, target: float) -> float | None:
    """The tokens at which a curve is first at or below a target, linear between its points; None if it never is."""
    before = None
    for tokens, bits in curve:
        if bits <= target:
            if before is None or before[1] == bits:
                return tokens
            share = (before[1] - target) / (before[1] - bits)
            return before[0] + share * (tokens - before[0])
        before = (tokens, bits)
    return None


def targets_of(reference: Run, shares: list[float]) -> dict[float, float]:
    """The lowest bits that the reference has had by each share of its tokens: early targets, and its best of all."""
    end = reference.curve[-1][0]
    return {share: min(bits for tokens, bits in reference.curve if tokens <= share * end + 1e-9) for share in shares}


def ratios(run: Run, reference: Run, target: float) -> dict[str, float] | None:
    """What a run needs to reach a target, divided by what the reference needs; None if the run never reaches it.

    Returns:
        `real_tokens`: of real text alone. `all_tokens`: with those of the stage before. `flops`: training and
        generation, both stages.
    """
    needed, reference_needed = tokens_to_reach(run.curve, target), tokens_to_reach(reference.curve, target)
    if needed is None or not reference_needed:
        return None
    return {
        "real_tokens": needed / reference_needed,
        "all_tokens": (needed + run.earlier_tokens) / (reference_needed + reference.earlier_tokens),
        "flops": (needed * run.flops_per_token + run.earlier_flops)
        / (reference_needed * reference.flops_per_token + reference.earlier_flops),
    }


def mean_with_interval(values: list[float]) -> tuple[float, float | None]:
    """The mean and the half-width of its 95% confidence interval by Student's t; None for a single value."""
    if len(values) < 2:
        return mean(values), None
    freedom = len(values) - 1
    quantile = T_QUANTILES[freedom - 1] if freedom <= len(T_QUANTILES) else 1.96
    return mean(values), quantile * stdev(values) / math.sqrt(len(values))


def compare(runs: dict[int, Run], reference: dict[int, Run], shares: list[float]) -> dict[str, Any]:
    """An arm against the reference, over the seeds that both have.

    Args:
        runs: of the arm, by seed.
        reference: of the reference arm, by seed.
        shares: of the reference's tokens, by which targets are set (see `targets_of`).

    Returns:
        `final` bits by seed; `gap` to the reference at the end, `mean`, `ci95` and by seed (negative: the arm is
        better); `targets`: for each share the number of seeds that reached it, and the geometric mean of `ratios` over
        those; what the stage before cost on average.
    """
    seeds = sorted(runs.keys() & reference.keys())
    entry: dict[str, Any] = {"final": {seed: run.final for seed, run in sorted(runs.items())}}
    if seeds:
        gaps = {seed: runs[seed].final - reference[seed].final for seed in seeds}
        gap, interval = mean_with_interval(list(gaps.values()))
        entry["gap"] = {"mean": gap, "ci95": interval, "seeds": gaps}
    entry["targets"] = {}
    for share in shares:
        reached = [ratios(runs[s], reference[s], targets_of(reference[s], [share])[share]) for s in seeds]
        found = [ratio for ratio in reached if ratio is not None]
        entry["targets"][share] = {"reached": len(found), "seeds": len(seeds)}
        for name in ("real_tokens", "all_tokens", "flops") if found else ():
            entry["targets"][share][name] = math.exp(mean(math.log(max(ratio[name], 1e-9)) for ratio in found))
    for name in ("earlier_tokens", "earlier_flops", "generation_flops", "earlier_seconds", "generation_seconds"):
        entry[name] = mean(getattr(run, name) for run in runs.values())
    return entry


def told_bits(result: dict[str, Any]) -> list[str]:
    """Two cells of a table: an arm's final bits with its seeds, and its gap to the reference with the interval."""
    finals, gap = list(result["final"].values()), result.get("gap")
    interval = f" ± {gap['ci95']:.3f}" if gap and gap["ci95"] is not None else ""
    told = f"{mean(finals):.3f} ({', '.join(f'{bits:.3f}' for bits in finals)})"
    return [told, f"{gap['mean']:+.3f}{interval}" if gap else "-"]


def markdown(results: dict[str, dict[str, Any]], shares: list[float]) -> str:
    """The table: an arm a row, the best final bits first, arms without a run last.

    Ratios are tokens (or FLOPs) to the target over those of the reference: below 1 the arm is faster; `-` where no
    seed reached it, `(2/3)` where not all did.
    """
    head = ["arm", "rate", "final bits (seeds)", "gap (95 %)"]
    head += [f"real tokens to {share:.0%}" for share in shares]
    head += [f"all tokens to {shares[-1]:.0%}", f"FLOPs to {shares[-1]:.0%}"]
    head += ["tokens before", "FLOPs before (generating)", "time before (generating)"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]

    def ratio(result: dict[str, Any], share: float, name: str) -> str:
        target = result["targets"][share]
        some = "" if target["reached"] == target["seeds"] else f" ({target['reached']}/{target['seeds']})"
        return f"{target[name]:.2f}{some}" if name in target else "-"

    ran = {arm: result for arm, result in results.items() if result.get("final")}
    for arm, result in sorted(ran.items(), key=lambda item: mean(item[1]["final"].values())):
        edge = " (edge)" if result.get("rate_at_edge") else ""
        cells = [arm, f"{result['learning_rate']:g}{edge}", *told_bits(result)]
        cells += [ratio(result, share, "real_tokens") for share in shares]
        cells += [ratio(result, shares[-1], "all_tokens"), ratio(result, shares[-1], "flops")]
        cells.append(f"{result['earlier_tokens']:,.0f}")
        for unit, form in (("flops", ".1e"), ("seconds", ",.0f")):
            spent, generating = result[f"earlier_{unit}"], result[f"generation_{unit}"]
            cells.append(f"{spent:{form}} ({generating / spent:.0%})" if spent else "0")
        lines.append("| " + " | ".join(cells) + " |")
    failed = [arm for arm, result in results.items() if result.get("failed")]
    return "\n".join(lines) + (f"\n\nFailed, in part or whole: {', '.join(failed)}." if failed else "")


def verdict(arm: str, runs: dict[int, Run], name: str, reference: dict[int, Run]) -> str:
    """One sentence: what an arm reaches, and with how much of the real text that the reference needs.

    Args:
        arm: its name.
        runs: of the arm, by seed.
        name: of the reference.
        reference: its runs, by seed.
    """
    seeds = sorted(runs.keys() & reference.keys())
    if not seeds:
        return f"{arm}: no seed has a run of {name} to be compared with."
    ends = mean(runs[seed].final for seed in seeds), mean(reference[seed].final for seed in seeds)
    told = f"{arm} ends at {ends[0]:.3f} bits, {name} at {ends[1]:.3f}."
    needed = [ratios(runs[seed], reference[seed], reference[seed].final) for seed in seeds]
    shares = [ratio["real_tokens"] for ratio in needed if ratio is not None]
    if len(shares) < len(seeds):
        return f"{told} In {len(seeds) - len(shares)} of {len(seeds)} seeds it does not reach the end of {name}."
    share = mean(shares)
    if share >= 1:
        return f"{told} It saves no real text."
    each = f" ({min(shares):.0%} to {max(shares):.0%} by seed)" if len(seeds) > 1 else ""
    return f"{told} It reaches the end of {name} with {share:.0%} of its real text{each}: it saves {1 - share:.0%}."


def plot_comparison(runs: dict[str, dict[int, Run]], path: str | Path, reference: str = "scratch") -> None:
    """Draws arms against real tokens, all tokens and FLOPs: a colour an arm, seeds thin, their mean thick with a band
    from the lowest to the highest; a dashed line where the reference ends, and where each arm first crosses it. Of
    more than ten arms, means alone, named beside the axes.

    Args:
        runs: for each arm, its runs by seed.
        path: the PNG to write.
        reference: the arm that the others are compared with.
    """
    from matplotlib.figure import Figure  # not before something is drawn
    from matplotlib.ticker import EngFormatter

    many = len(runs) > 10
    figure = Figure(figsize=(14, max(4.2, 0.19 * len(runs) + 0.6)), layout="constrained")  # a legend of many beside it
    axes = figure.subplots(1, 3, sharey=True, width_ratios=[1.5, 1, 1])
    titles = ("bytes or tokens of real text", "tokens of both stages", "FLOPs, generation included")
    ended = [run.final for run in runs.get(reference, {}).values()]
    end = sum(ended) / len(ended) if ended else None
    for number, (arm, seeds) in enumerate(runs.items()):
        color = "0.45" if arm == reference else f"C{number % 10}"
        style = ("-", "--", ":", "-.")[number // 10 % 4]  # there are ten colours
        for place, (axis, _) in enumerate(zip(axes, titles, strict=True)):
            curves = [[(_cost(run, tokens, place), bits) for tokens, bits in run.curve] for run in seeds.values()]
            x = [sum(point[0] for point in points) / len(points) for points in zip(*curves, strict=False)]
            bits = [[point[1] for point in points] for points in zip(*curves, strict=False)]
            means = [sum(values) / len(values) for values in bits]
            if not many:
                for curve in curves:
                    axis.plot(*zip(*curve, strict=True), color=color, linewidth=0.6, alpha=0.5)
                low, high = [min(values) for values in bits], [max(values) for values in bits]
                axis.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
            axis.plot(x, means, style, color=color, linewidth=1.2 if many else 2, label=f"{arm} ({len(curves)})")
            if place == 0 and end is not None and arm != reference and not many:
                crossed = tokens_to_reach(list(zip(x, means, strict=True)), end)
                if crossed is not None:
                    axis.plot([crossed], [end], "o", color=color)
                    told = f"{crossed / x[-1]:.0%} of the text"
                    # below the curve on its left, where no curve that falls can be; each arm on a line of its own
                    line = (-6, -6 - 14 * len(axis.texts))
                    below = {"xytext": line, "textcoords": "offset points", "ha": "right", "va": "top"}
                    axis.annotate(told, (crossed, end), color=color, **below)
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
        if many:
            named = axes[0].get_legend_handles_labels()
            figure.legend(*named, title="arm (seeds)", frameon=False, fontsize="small", loc="outside right upper")
        else:
            axes[0].legend(title="arm (seeds)", frameon=False)
    figure.savefig(path, dpi=120)


def _cost(run: Run, tokens: float, place: int) -> float:
    """Real tokens, tokens of both stages, or FLOPs of both, after so many real tokens of a run."""
    return (tokens, tokens + run.earlier_tokens, tokens * run.flops_per_token + run.earlier_flops)[place]
