"""Measures speed and memory, each figure beside what a user would otherwise run, in the same run.

    python recipes/benchmark.py --json out/benchmark.json
    python recipes/benchmark.py --json out/benchmark.json --parts generation training

Parts: `generation` (symbols a second of every machine family; LSTMs beside a token-by-token loop over
`torch.nn.LSTM` and, if x-transformers is installed (`pip install hf_universal_pretrain[bench]`), beside its
generator), `training` (`UPTrainer` with and without enrichment beside a stock `Trainer` on ready-made tensors),
`memory`, and `scaling` (time of a round against rows, length, machines and alphabet; drawn beside the JSON).

Contestants take turns; a figure is the median of `--repeats` turns. Run it on an idle machine.
"""

import contextlib
import io
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import Trainer, TrainerCallback, TrainingArguments, default_data_collator

from hf_universal_pretrain import SyntheticUPConfig, SyntheticUPDataset, UPConfig, UPTrainer
from hf_universal_pretrain.cli import parse_args
from hf_universal_pretrain.machines import FAMILIES, build_family
from hf_universal_pretrain.machines.recurrent import RecurrentFamily, RecurrentMachines
from hf_universal_pretrain.modeling import build_config, build_model, build_tokenizer
from hf_universal_pretrain.plotting import plot_scaling


PARTS = ("generation", "training", "memory", "scaling")
ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
PAPER = RecurrentFamily(num_layers=4, hidden_size=128, machines_per_round=1)
NO_DROPOUT = "resid_pdrop=0,embd_pdrop=0,attn_pdrop=0"


@dataclass
class ScriptArguments:
    json: str = field(metadata={"help": "File for the figures; parts that are not measured now stay in it."})
    parts: list[str] = field(
        default_factory=lambda: list(PARTS), metadata={"help": "What to measure.", "choices": list(PARTS)}
    )
    context_length: int = field(default=512, metadata={"help": "Symbols in a generated row."})
    repeats: int = field(default=3, metadata={"help": "Turns of each contestant."})


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


def one_round(name: str, settings: SyntheticUPConfig, rows: int) -> Callable[[], Tensor]:
    """Draws machines of a family and generates with them."""
    generator = torch.Generator(DEVICE).manual_seed(0)
    family = build_family(name, settings)
    seeds, conditions = inputs(rows, settings.context_length, settings.alphabet_size, generator)
    return lambda: family.draw(rows, generator).generate(seeds, conditions, generator)


def families(script: ScriptArguments) -> dict[str, float]:
    """Symbols a second of each family as the package sets it, drawing included, in rounds of 256 rows."""
    settings = SyntheticUPConfig(context_length=script.context_length)
    works = {name: one_round(name, settings, 256) for name in FAMILIES}
    took = {name: take_turns({name: work}, script.repeats)[name] for name, work in tqdm(works.items(), "Families")}
    return {name: 256 * script.context_length / took[name] for name in took}


# ---- Training ----


class StepTimer(TrainerCallback):
    """Seconds of the steps after the first two."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 2:
            if ON_GPU:
                torch.cuda.synchronize()
            self.began = time.perf_counter()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if ON_GPU:
            torch.cuda.synchronize()
        self.step_seconds = (time.perf_counter() - self.began) / (state.global_step - 2)


KINDS = ("enriched", "frozen", "stock_trainer")


def step_seconds(kind: str, overrides: str, length: int, batch: int, steps: int) -> float:
    """Trains a GPT-2 for some steps: `enriched` and `frozen` (no round after the burn-in) with `UPTrainer`."""
    tokenizer, timer = build_tokenizer("byte"), StepTimer()
    data = SyntheticUPConfig(context_length=length, **({"rows_per_round": 10**9} if kind == "frozen" else {}))
    stream = SyntheticUPDataset(data, tokenizer)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        settings = {
            "output_dir": folder, "max_steps": steps, "per_device_train_batch_size": batch, "save_strategy": "no",
            "logging_steps": 50, "disable_tqdm": True, "report_to": "none", "bf16": ON_GPU, "torch_compile": ON_GPU,
            "use_cpu": not ON_GPU,
        }  # fmt: skip
        common = {"model": build_model(build_config("gpt2", tokenizer, overrides), 0), "callbacks": [timer]}
        if kind == "stock_trainer":
            ready = [{"input_ids": row, "labels": row} for row in stream.draw(batch * steps)[0]]
            args = TrainingArguments(**settings)
            trainer = Trainer(args=args, train_dataset=ready, data_collator=default_data_collator, **common)
        else:
            args = UPConfig(**settings)
            trainer = UPTrainer(args=args, train_dataset=stream, processing_class=tokenizer, **common)
        trainer.train()
    return timer.step_seconds


def training(script: ScriptArguments) -> dict[str, Any]:
    """Milliseconds a step of each trainer: the quickstart's model and one of 10M weights; on a GPU, GPT-2 small."""
    small = f"n_layer=2,n_embd=128,n_head=4,n_inner=128,n_positions=256,{NO_DROPOUT}"
    models = {
        "quickstart": (small, 256, 8, 66),  # two rounds and the two steps that are not timed
        "gpt2_10m": (f"n_layer=6,n_embd=384,n_head=6,n_positions=256,{NO_DROPOUT}", 256, 8, 34),
    }
    if ON_GPU:
        models = {"gpt2_small": (f"n_positions=1024,{NO_DROPOUT}", 1024, 32, 66)}
    results = {}
    for name, (overrides, length, batch, steps) in models.items():
        turns = [
            {kind: step_seconds(kind, overrides, length, batch, steps) for kind in KINDS}
            for _ in tqdm(range(script.repeats), f"Training {name}", unit="turn")
        ]

        def median(of: Callable[[dict[str, float]], float], turns: list[dict[str, float]] = turns) -> float:
            return statistics.median(of(turn) for turn in turns)

        results[name] = {
            "model": f"gpt2 {overrides}", "context_length": length, "batch": batch, "steps": steps,
            "ms_per_step": {kind: 1000 * median(lambda turn, k=kind: turn[k]) for kind in KINDS},
            "enriched_to_stock": median(lambda turn: turn["stock_trainer"] / turn["enriched"]),
            "frozen_to_stock": median(lambda turn: turn["stock_trainer"] / turn["frozen"]),
            "generation_share": median(lambda turn: 1 - turn["frozen"] / turn["enriched"]),
        }  # fmt: skip
    return results


# ---- Memory ----


def memory(script: ScriptArguments) -> dict[str, float]:
    """Megabytes at the peak, above what was there before: of the stream over some rounds, of a training step."""
    tokenizer = build_tokenizer("byte")

    def stream() -> None:
        dataset = SyntheticUPDataset(SyntheticUPConfig(context_length=script.context_length), tokenizer, DEVICE)
        for _ in range(3):
            dataset.enrich()

    def paper_stream() -> None:
        dataset = SyntheticUPDataset(SyntheticUPConfig.paper(8, context_length=script.context_length), device=DEVICE)
        for _ in range(3):
            dataset.enrich()

    def step(overrides: str) -> Callable[[], None]:
        def run() -> None:
            model = build_model(build_config("gpt2", tokenizer, overrides), 0).to(DEVICE)
            optimizer = torch.optim.AdamW(model.parameters())
            tokens = torch.randint(3, 259, (8, script.context_length), device=DEVICE)
            model(input_ids=tokens, labels=tokens).loss.backward()
            optimizer.step()

        return run

    ten = f"n_layer=6,n_embd=384,n_head=6,n_positions={script.context_length},{NO_DROPOUT}"
    subjects = {
        "stream": stream, "stream_of_the_paper": paper_stream,
        "step_of_gpt2_10m_batch_8": step(ten),
        "step_of_gpt2_small_batch_8": step(f"n_positions={max(1024, script.context_length)},{NO_DROPOUT}"),
    }  # fmt: skip
    return {name: peak_megabytes(work) for name, work in subjects.items()}


def peak_megabytes(work: Callable[[], None]) -> float:
    """On a CPU in a forked process, whose peak is its own."""
    if ON_GPU:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    import resource

    read, write = os.pipe()
    if os.fork() == 0:
        torch.set_num_threads(1)  # more would not survive the fork
        before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
        work()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        os.write(write, str((peak - before) / 1e6).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        return float(answer.read())


# ---- Growth ----

GRIDS = {
    "rows": (64, 128, 256, 512, 1024, 2048), "context_length": (64, 128, 256, 512, 1024, 2048),
    "machines": (1, 2, 4, 8, 16, 32, 64), "alphabet": (16, 64, 256, 1024, 4096),
}  # fmt: skip


def scaling(script: ScriptArguments) -> dict[str, dict[str, dict[int, float]]]:
    """Seconds of a round as one of its sizes grows, the others at rows 256, length 256, machines 8, alphabet 256."""
    # each row of a context tree is a machine of its own
    todo = [(n, size) for n in ("lstm", "context_tree") for size in GRIDS if (n, size) != ("context_tree", "machines")]
    result: dict[str, dict[str, dict[int, float]]] = {}
    for name, size in tqdm(todo, "Growth", unit="size"):
        for value in GRIDS[size]:
            now = {"rows": 256, "context_length": 256, "machines": 8, "alphabet": 256} | {size: value}
            settings = SyntheticUPConfig(
                context_length=now["context_length"], machines_per_round=now["machines"], alphabet_size=now["alphabet"]
            )
            work = one_round(name, settings, now["rows"])
            result.setdefault(name, {}).setdefault(size, {})[value] = take_turns({"": work}, script.repeats)[""]
    return result


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
        "generation": lambda: {
            "lstm": lstm_beside_loops(script), "x_transformers": lstm_beside_x_transformers(script),
            "families_symbols_per_second": families(script),
        },
        "training": lambda: training(script),
        "memory": lambda: memory(script),
        "scaling": lambda: scaling(script),
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    for part in sorted(script.parts, key=["memory", *PARTS].index):  # memory first: it forks
        results[part] = work[part]()
        path.write_text(json.dumps(results, indent=1) + "\n")
    if "scaling" in script.parts:
        plot_scaling(results["scaling"], path.with_suffix(".png"))
    print(json.dumps({part: results[part] for part in script.parts if part != "scaling"}, indent=1))


if __name__ == "__main__":
    main()
