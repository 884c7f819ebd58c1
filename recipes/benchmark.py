"""Measures speed and memory, each figure beside what a user would otherwise run, in the same run.

    python recipes/benchmark.py --json out/benchmark.json
    python recipes/benchmark.py --json out/benchmark.json --parts families training

Parts: `families` (symbols a second of every machine family), `lstm` (LSTMs beside a token-by-token loop over
`torch.nn.LSTM` and, if x-transformers is installed (`pip install hf_universal_pretrain[bench]`), beside its
generator), `training` (`UPTrainer` with and without enrichment beside a stock `Trainer` and a plain loop on ready
tensors), `memory`, and `scaling` (time of a round against rows, length, machines, alphabet and width; drawn beside
the JSON).

Contestants take turns; a figure is the median of `--repeats` turns. Run it on an idle machine.
"""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from measure.training import DEVICE, ON_GPU, memory, training
from torch import Tensor
from tqdm import tqdm

from hf_universal_pretrain import SyntheticUPConfig
from hf_universal_pretrain.commands.arguments import parse_args
from hf_universal_pretrain.machines import FAMILIES
from hf_universal_pretrain.machines.pool import Pool
from hf_universal_pretrain.machines.recurrent import RecurrentFamily, RecurrentMachines
from hf_universal_pretrain.stream.families import build_family


PARTS = ("families", "lstm", "training", "memory", "scaling")
PAPER = RecurrentFamily(num_layers=4, hidden_size=128, machines_per_round=1)


@dataclass
class ScriptArguments:
    json: str
    """File for the figures; parts that are not measured now stay in it."""
    parts: list[str] = field(default_factory=lambda: list(PARTS), metadata={"choices": list(PARTS)})
    """What to measure."""
    context_length: int = 512
    """Symbols in a generated row."""
    repeats: int = 3
    """Turns of each contestant."""


# ---- Time ----


def seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    if ON_GPU:
        torch.cuda.synchronize()
    return time.perf_counter() - began


def take_turns(contestants: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each. Each has one turn before, which is not counted."""
    for work in contestants.values():
        seconds(work)
    turns = [{name: seconds(work) for name, work in contestants.items()} for _ in range(repeats)]
    return {name: statistics.median(turn[name] for turn in turns) for name in contestants}


# ---- Generation ----


def inputs(rows: int, length: int, alphabet: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Seeds and conditions of a round."""
    conditions = torch.randint(alphabet, (rows, length), generator=generator, device=DEVICE)
    return conditions.flip(0)[:, :8].contiguous(), conditions


def plain_loops(machines: RecurrentMachines, seeds: Tensor, conditions: Tensor) -> Callable[[], Tensor]:
    """What one would write without this package: for each machine a loop over `torch.nn.LSTM`, a token at a time."""
    family = machines.family
    networks = []
    for m in range(len(machines.gain)):
        network = torch.nn.LSTM(family.input_size, family.hidden_size, family.num_layers, batch_first=True).to(DEVICE)
        for layer, weights in enumerate(machines.layers):
            for name, weight in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), weights, strict=True):
                getattr(network, f"{name}_l{layer}").data.copy_(weight[m])
        networks.append(network)
    shares = conditions.shape[0] // len(networks)

    @torch.no_grad()
    def run() -> Tensor:
        outputs = []
        for m, network in enumerate(networks):
            embedding = machines.embedding[m]
            mine = slice(m * shares, (m + 1) * shares)
            output, condition, state = conditions[mine].clone(), embedding[conditions[mine]], None
            output[:, :8] = seeds[mine]
            for t in range(output.shape[1] - 1):
                read = torch.cat([embedding[output[:, t]], condition[:, t]], dim=-1).unsqueeze(1)
                hidden, state = network(read, state)
                if t + 1 >= 8:
                    logits = torch.nn.functional.linear(hidden[:, 0], machines.head_weight[m], machines.head_bias[m])
                    output[:, t + 1] = logits.argmax(-1)
            outputs.append(output)
        return torch.cat(outputs)

    return run


def lstm_beside_loops(script: ScriptArguments) -> list[dict[str, Any]]:
    table = []
    sizes = [(layers, rows, count) for layers in (4, 1) for count in (1, 8, 64) for rows in (64, 256, 1024)]
    sizes += [(layers, 8192, count) for layers in (4, 1) for count in (1, 8, 64)] if ON_GPU else []
    for layers, rows, count in tqdm(sizes, "LSTMs", unit="size"):
        generator = torch.Generator(DEVICE).manual_seed(0)
        # a gain at which rounding does not part the two: what they write must be equal
        family = replace(PAPER, num_layers=layers, machines_per_round=count, gain_range=(3.0, 3.0))
        machines = family.draw(rows, generator)
        seeds, conditions = inputs(rows, script.context_length, 256, generator)
        contestants: dict[str, Callable[[], Tensor]] = {
            "ours": lambda m=machines, s=seeds, c=conditions, g=generator: m.generate(s, c, g)
        }
        if rows // count >= 32:  # many loops of a few rows each would take minutes
            contestants["plain_loop"] = plain_loops(machines, seeds, conditions)
        row: dict[str, Any] = {"layers": layers, "hidden": 128, "rows": rows, "machines": count}
        if "plain_loop" in contestants:
            row["equal_symbols"] = (contestants["ours"]() == contestants["plain_loop"]()).float().mean().item()
        took = take_turns(contestants, script.repeats)
        row |= {f"{name}_symbols_per_second": rows * script.context_length / took[name] for name in took}
        if "plain_loop" in took:
            row["ratio"] = took["plain_loop"] / took["ours"]
        table.append(row)
    return table


def lstm_beside_x_transformers(script: ScriptArguments) -> dict[str, Any]:
    """One machine of 1 x 128 on 256 rows. Its `torch.compile` is left out: it would unroll the loop over the row."""
    try:
        from x_transformers.up_wrapper import SyntheticDataGenerator
    except ImportError:
        return {"skipped": "x-transformers is not installed: pip install hf_universal_pretrain[bench]"}
    generator = torch.Generator(DEVICE).manual_seed(0)
    machines = replace(PAPER, num_layers=1).draw(256, generator)
    seeds, conditions = inputs(256, script.context_length, 256, generator)
    theirs = SyntheticDataGenerator(dim=128, num_tokens=256, max_seq_len=script.context_length).to(DEVICE)
    torch.compiler.set_stance("force_eager")
    took = take_turns(
        {
            "ours": lambda: machines.generate(seeds, conditions, generator),
            "x_transformers": lambda: theirs.generate(script.context_length - 8, seed=seeds),
        },
        script.repeats,
    )
    torch.compiler.set_stance("default")
    symbols = 256 * script.context_length
    return {f"{name}_symbols_per_second": symbols / took[name] for name in took} | {
        "ratio": took["x_transformers"] / took["ours"], "version": version("x-transformers"),
    }  # fmt: skip


def one_round(name: str, settings: SyntheticUPConfig, rows: int, pool: int = 0) -> Callable[[], Tensor]:
    """Draws machines of a family, or takes some of a pool that is there, and generates with them."""
    generator = torch.Generator(DEVICE).manual_seed(0)
    family = build_family(name, settings)
    seeds, conditions = inputs(rows, settings.context_length, settings.alphabet_size, generator)
    if not pool:
        return lambda: family.draw(rows, generator).generate(seeds, conditions, generator)
    machines = Pool(name, family, 0, DEVICE)
    return lambda: machines.deal(pool, rows, generator).generate(seeds, conditions, generator)


def families(script: ScriptArguments) -> dict[str, float]:
    """Symbols a second of each family as the package sets it, drawing included, in rounds of 256 rows; of some also as
    pools of 16, and with a set entropy."""
    settings = SyntheticUPConfig(context_length=script.context_length)
    works = {name: one_round(name, settings, 256) for name in FAMILIES}
    works |= {f"{name}@16": one_round(name, settings, 256, pool=16) for name in ("two_clocks", "language", "lstm")}
    entropy = SyntheticUPConfig(context_length=script.context_length, entropy_range=[0.9, 2.1])
    for name in ("lstm", "gru", "rnn", "reservoir"):
        works[f"{name}, set entropy"] = one_round(name, entropy, 256)
    took = {name: take_turns({name: work}, script.repeats)[name] for name, work in tqdm(works.items(), "Families")}
    return {name: 256 * script.context_length / took[name] for name in took}


# ---- Growth ----

GRIDS = {
    "rows": (64, 128, 256, 512, 1024, 2048), "context_length": (64, 128, 256, 512, 1024, 2048),
    "machines": (1, 2, 4, 8, 16, 32, 64), "alphabet": (16, 64, 256, 1024, 4096), "width": (16, 32, 64, 128, 256),
}  # fmt: skip


def scaling(script: ScriptArguments) -> dict[str, dict[str, dict[int, float]]]:
    """Seconds of a round as one of its sizes grows, the others at rows 256, length 256, machines 8, alphabet 256,
    width 128."""
    # each row of a context tree is a machine of its own, and has no width
    todo = [("lstm", size) for size in GRIDS] + [("context_tree", s) for s in GRIDS if s not in ("machines", "width")]
    result: dict[str, dict[str, dict[int, float]]] = {}
    for name, size in tqdm(todo, "Growth", unit="size"):
        for value in GRIDS[size]:
            now = {"rows": 256, "context_length": 256, "machines": 8, "alphabet": 256, "width": 128} | {size: value}
            settings = SyntheticUPConfig(
                context_length=now["context_length"], machines_per_round=now["machines"],
                alphabet_size=now["alphabet"], hidden_size=now["width"],
            )  # fmt: skip
            work = one_round(name, settings, now["rows"])
            result.setdefault(name, {}).setdefault(size, {})[value] = take_turns({"": work}, script.repeats)[""]
    return result


def tables(results: dict[str, Any]) -> list[str]:
    """What was measured, as Markdown."""
    found = []
    if "lstm" in results:
        lines = ["| LSTMs | rows | machines | symbols/s | plain loop | ratio |", "|---|---|---|---|---|---|"]
        for row in results["lstm"]["beside_loops"]:
            size = f"{row['layers']} x {row['hidden']} | {row['rows']:,} | {row['machines']}"
            beside = f"{row['plain_loop_symbols_per_second']:,.0f} | {row['ratio']:.2f}" if "ratio" in row else "- | -"
            lines.append(f"| {size} | {row['ours_symbols_per_second']:,.0f} | {beside} |")
        theirs = results["lstm"]["beside_x_transformers"]
        if "ratio" in theirs:
            cells = [f"{theirs[name + '_symbols_per_second']:,.0f}" for name in ("ours", "x_transformers")]
            lines.append(f"| 1 x 128, x-transformers {theirs['version']} | 256 | 1 | {' | '.join(cells)} |")
            lines[-1] += f" {theirs['ratio']:.2f} |"
        found.append("\n".join(lines))
    if "families" in results:
        rates = results["families"]
        lines = ["| family | symbols/s |", "|---|---|", *(f"| {name} | {rate:,.0f} |" for name, rate in rates.items())]
        found.append("\n".join(lines))
    if "training" in results:
        lines = ["| model | ms a step: enriched | frozen | stock | plain | frozen beside stock | plain | generation |"]
        lines.append("|---|---|---|---|---|---|---|---|")
        for name, row in results["training"].items():
            cells = [f"{took:.1f}" for took in row["ms_per_step"].values()]
            cells += [f"{row[ratio]:.3f}" for ratio in ("frozen_to_stock", "frozen_to_plain", "generation_share")]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        found.append("\n".join(lines))
    if "memory" in results:
        lines = ["| memory at its peak | MB |", "|---|---|"]
        found.append("\n".join([*lines, *(f"| {name} | {mb:,.0f} |" for name, mb in results["memory"].items())]))
    return found


def device_name() -> str:
    if ON_GPU:
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} cores {model}"


def main() -> None:
    (script,) = parse_args((ScriptArguments,), __doc__, lambda asked: {})
    path = Path(script.json)
    results = json.loads(path.read_text()) if path.is_file() else {}
    versions = {}
    for package in ("torch", "transformers", "hf_universal_pretrain", "x-transformers"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    results |= {
        "command": "python recipes/benchmark.py " + " ".join(sys.argv[1:]),
        "device": device_name(), "threads": torch.get_num_threads(), "versions": versions,
    }  # fmt: skip
    work: dict[str, Callable[[], Any]] = {
        "families": lambda: families(script),
        "lstm": lambda: {
            "beside_loops": lstm_beside_loops(script), "beside_x_transformers": lstm_beside_x_transformers(script),
        },
        "training": lambda: training(script.repeats),
        "memory": lambda: memory(script.context_length),
        "scaling": lambda: scaling(script),
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    for part in sorted(script.parts, key=["memory", *PARTS].index):  # memory first: it forks
        results[part] = work[part]()
        path.write_text(json.dumps(results, indent=1) + "\n")
    if "scaling" in script.parts:
        plot_scaling(results["scaling"], path.with_suffix(".png"))
    print("\n\n".join(tables(results)))


def plot_scaling(growth: dict[str, dict[str, dict[int, float]]], path: str | Path) -> None:
    """Draws the time of a round against each size, on logarithmic axes, with dotted lines of linear growth.

    Args:
        growth: for each family, for each size (`"rows"`, ...), seconds by value.
        path: the PNG to write.
    """
    from matplotlib.figure import Figure  # not before something is drawn

    sizes = list(dict.fromkeys(size for by_size in growth.values() for size in by_size))
    figure = Figure(figsize=(3.4 * len(sizes), 3.4), layout="constrained")
    axes = figure.subplots(1, len(sizes), squeeze=False)
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


if __name__ == "__main__":
    main()
