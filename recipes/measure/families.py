"""Measures every machine family: speed, complexity, and what a small model learns from it.

    python recipes/measure/families.py --json recipes/results/families.json
    python recipes/measure/families.py --json out.json --arms context_tree lstm=0.5,nca=0.5 --seeds 0

An arm is a family, a mixture, either with a band of complexity (`lstm@0.3:0.9`), or `paper` (the published recipe).
For each arm: rows a second and the shares of dead, in band and incompressible rows, without and with the band filter;
and for each seed the bits per byte that a GPT-2 of 265k weights reaches on each text after `--steps` steps
(`recipes/pretrain.py` in a process of its own). What the JSON already holds is not measured again, so an interrupted
run goes on when it is started again. A picture of the table is written beside the JSON.
"""

import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from tqdm import tqdm

from hf_universal_pretrain import SyntheticUPConfig
from hf_universal_pretrain.commands.arguments import parse_args
from hf_universal_pretrain.commands.endings import environment, usage_errors
from hf_universal_pretrain.machines import FAMILIES, Band
from hf_universal_pretrain.masking import mask_command
from hf_universal_pretrain.stream.figures import stream_figures


MODEL = (
    "n_layer=2,n_embd=128,n_head=4,n_inner=128,n_positions=256,initializer_range=0.08,resid_pdrop=0,embd_pdrop=0,"
    "attn_pdrop=0"
)
RECIPES = Path(__file__).resolve().parents[1]


@dataclass
class ScriptArguments:
    json: str
    """Where the results are kept (and looked for)."""
    arms: list[str] = field(default_factory=lambda: ["paper", *FAMILIES])
    """Families, mixtures such as lstm=0.5,nca=0.5, or 'paper'."""
    seeds: list[int] = field(default_factory=lambda: [0, 1])
    """Seeds of the stream and the weights."""
    steps: int = 1000
    """Training steps of 8 rows of 256 tokens: 1,000 are 2M tokens."""
    band: str = "0.3:0.9"
    """The band of compressibility that is told about."""
    text: list[str] = field(default_factory=list)
    """Texts as NAME=PATH; by default those of the interpreter."""
    jobs: int = 2
    """Runs side by side, of one thread each."""


def train(arm: str, seed: int, script: ScriptArguments) -> dict[str, float]:
    """Pretrains a small GPT-2 and returns its bits per byte on each text."""
    with tempfile.TemporaryDirectory() as folder:
        data = data_settings(arm)
        flags = [f"--preset={'paper' if arm == 'paper' else 'zero_shot'}"]
        flags += [f"--config_overrides={MODEL}", "--context_length=256"]
        flags += [f"--machines={data.machines}", f"--complexity={data.complexity}"]
        flags += [f"--max_steps={script.steps}", f"--seed={seed}", f"--stream_seed={seed}", f"--output_dir={folder}"]
        flags += ["--lr_scheduler_kwargs", json.dumps({"num_decay_steps": int(0.3 * script.steps)})]
        flags += ["--save_strategy=no", "--eval_strategy=no", "--eval_on_start=false", "--disable_tqdm=true"]
        flags += ["--eval_text", *script.text] if script.text else []
        command = [
            sys.executable,
            RECIPES / "pretrain.py",
            "--config",
            RECIPES / "configs" / "zero_shot.yaml",
            *flags,
        ]
        done = subprocess.run(command, capture_output=True, text=True, env=environment(1))
        if done.returncode:
            raise RuntimeError(f"{arm}, seed {seed}: pretrain.py failed:\n{done.stderr[-2000:]}")
        texts = json.loads((Path(folder) / "eval_results.json").read_text())["texts"]
        return {name: round(result["bits_per_byte"], 4) for name, result in texts.items()}


def data_settings(arm: str, **changes: Any) -> SyntheticUPConfig:
    if arm == "paper":
        return SyntheticUPConfig.paper(batch_size=8, context_length=256, **changes)
    machines, _, band = arm.partition("@")
    return SyntheticUPConfig(machines=machines, context_length=256, **{"complexity": band, **changes})


def table(results: dict[str, Any]) -> str:
    """The results as Markdown, best English first."""
    texts = list(next(iter(next(iter(results["arms"].values()))["bits"].values())))
    head = [
        "arm",
        *[f"{text} (seeds)" for text in texts],
        "rows/s",
        "dead / in band / incompressible",
        "with the band",
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    arms = results["arms"].items()
    for arm, result in sorted(arms, key=lambda item: mean(bits[texts[0]] for bits in item[1]["bits"].values())):
        cells = [f"`{arm}`"]
        for text in texts:
            values = [bits[text] for bits in result["bits"].values()]
            cells.append(f"{mean(values):.2f} ({', '.join(f'{v:.2f}' for v in values)})")
        free, banded = result["data"], result["data_in_band"]
        cells.append(f"{free['rows_per_second']:.0f}")
        for shares in (free, banded):
            cells.append(" / ".join(f"{shares[key]:.0%}" for key in ("dead", "in_band", "incompressible")))
        cells[-1] += f" (accepts {banded['acceptance']:.0%})"
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    (script,) = parse_args((ScriptArguments,), __doc__, lambda asked: {})
    with usage_errors():
        band = Band.parse(script.band)
        for arm in script.arms:
            data_settings(arm)
    path = Path(script.json)
    results = json.loads(path.read_text()) if path.is_file() else {"arms": {}}
    results |= {
        "command": mask_command(["recipes/measure/families.py", *sys.argv[1:]]),
        "model": f"gpt2, {MODEL}", "tokens": script.steps * 8 * 256, "band": script.band,
        "versions": {name: version(name) for name in ("torch", "transformers", "hf_universal_pretrain")},
    }  # fmt: skip

    def save() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=2) + "\n")

    torch.set_num_threads(1)
    for arm in tqdm(script.arms, "Rows", unit="arm"):
        entry = results["arms"].setdefault(arm, {"bits": {}})
        for key, changes in (("data", {}), ("data_in_band", {"complexity": script.band})):
            if key not in entry:
                entry[key] = stream_figures(data_settings(arm, **changes), rounds=30, band=band)
                save()

    todo = [(a, s) for s in script.seeds for a in script.arms if str(s) not in results["arms"][a]["bits"]]
    with ThreadPoolExecutor(script.jobs) as pool, tqdm(total=len(todo), desc="Training", unit="run") as bar:
        runs = pool.map(lambda job: (*job, train(*job, script)), todo)
        for arm, seed, bits in runs:
            results["arms"][arm]["bits"][str(seed)] = bits
            save()
            bar.update()
            bar.write(f"{arm}, seed {seed}: {bits}")
    plot_arms({arm: result["bits"] for arm, result in results["arms"].items()}, path.with_suffix(".png"))
    print(table(results))


def plot_arms(bits: dict[str, dict[str, dict[str, float]]], path: str | Path) -> None:
    """Draws the bits per byte of several arms side by side, each seed as a dot and the mean as a bar, a text a panel.

    Args:
        bits: for each arm and each seed, the bits per byte by text.
        path: the PNG to write.
    """
    from matplotlib.figure import Figure  # not before something is drawn

    texts = list(next(iter(next(iter(bits.values())).values())))
    figure = Figure(figsize=(4.5 * len(texts), 1 + 0.27 * len(bits)), layout="constrained")
    axes = figure.subplots(1, len(texts), squeeze=False)
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


if __name__ == "__main__":
    main()
