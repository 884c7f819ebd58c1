"""Measures what a warm start brings, by the parts that are taken: arms x texts x seeds, with a rate for each arm.

    python recipes/transfers.py --model out/quickstart --text english=train.txt,tune.txt,valid.txt \
        --runs out/transfers --json recipes/results/transfer.json

An arm is a value of `finetune.py --transfer`, or `scratch`. Each run is `finetune.py` in a process of its own. The
learning rate of an arm is the one of `--rates` that is best on the tuning text after `--sweep_steps` steps (seed 100);
the figures are those of the validation text. Runs that `--runs` already holds are not run again, so an interrupted
measurement goes on when it is started again. A picture of the curves is written beside the JSON.
"""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from typing import Any

from tqdm import tqdm

from hf_universal_pretrain.cli import environment, parse_args, usage_errors
from hf_universal_pretrain.comparison import read_curve
from hf_universal_pretrain.plotting import plot_curves
from hf_universal_pretrain.transfer import TAKES


SWEEP_SEED = 100


@dataclass
class ScriptArguments:
    model: str = field(metadata={"help": "Folder or Hub id of the pretrained model."})
    text: list[str] = field(metadata={"help": "Texts as NAME=TRAIN,TUNE,VALID: three files each."})
    json: str = field(metadata={"help": "File for the figures."})
    runs: str = field(default="out/transfers", metadata={"help": "Folder of the runs."})
    arms: list[str] = field(
        default_factory=lambda: ["scratch", "all", "attention"],
        metadata={"help": "Parts that are taken, or 'scratch'.", "choices": ["scratch", *TAKES]},
    )
    seeds: list[int] = field(default_factory=lambda: [0, 1], metadata={"help": "Seeds of the weights and the rows."})
    rates: list[float] = field(
        default_factory=lambda: [1e-3, 3e-3, 1e-2, 3e-2], metadata={"help": "Learning rates to choose from."}
    )
    steps: int = field(default=400, metadata={"help": "Steps of a run, of 8 rows of 256 bytes."})
    sweep_steps: int = field(default=150, metadata={"help": "Steps of a run that serves to choose a rate."})


def finetune(
    script: ScriptArguments, text: str, arm: str, rate: float, seed: int, steps: int, files: tuple[str, str]
) -> list[tuple[int, float]]:
    """Runs finetune.py, unless that was done. Returns (step, bits per byte) of its evaluations."""
    folder = Path(script.runs) / f"{text}-{arm}-{rate}-{seed}-{steps}"
    if not (folder / "eval_results.json").is_file():
        flags = ["--model", script.model, "--train_file", files[0], "--eval_file", files[1], "--output_dir", folder]
        flags += ["--from_scratch"] if arm == "scratch" else ["--transfer", arm]
        flags += ["--learning_rate", rate, "--seed", seed, "--max_steps", steps, "--per_device_train_batch_size", 8]
        flags += ["--eval_steps", 0.1, "--eval_windows", 100, "--save_strategy", "no", "--disable_tqdm", "true"]
        command = [sys.executable, str(Path(__file__).parent / "finetune.py"), *map(str, flags)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment(1))
        if done.returncode:
            raise RuntimeError(f"{folder.name}: finetune.py failed:\n{done.stderr[-2000:]}")
    curve = read_curve(folder, "eval_held_out_bits_per_byte", tokens_per_step=1)
    return [(step, round(bits, 4)) for step, bits in curve]


def table(results: dict[str, Any]) -> str:
    """Markdown: for each text and arm, the rate and the bits at the beginning and the end."""
    lines = ["| text | weights taken | rate | at step 0 | at the end (seeds) |", "|---|---|---|---|---|"]
    for text, arms in results["texts"].items():
        for arm, found in arms.items():
            curves = list(found["curves"].values())
            ends = [curve[-1][1] for curve in curves]
            seeds = ", ".join(f"{end:.2f}" for end in ends)
            start = mean(curve[0][1] for curve in curves)
            lines.append(f"| {text} | {arm} | {found['rate']} | {start:.2f} | {mean(ends):.2f} ({seeds}) |")
    return "\n".join(lines)


def main() -> None:
    (script,) = parse_args((ScriptArguments,), __doc__, lambda asked: {})
    texts = {}
    with usage_errors():
        for words in script.text:
            name, _, files = words.partition("=")
            texts[name] = files.split(",")
            if len(texts[name]) != 3 or not all(Path(file).is_file() for file in texts[name]):
                raise ValueError(f"--text takes NAME=TRAIN,TUNE,VALID, three files, not {words!r}")
    results: dict[str, Any] = {
        "command": "python recipes/transfers.py " + " ".join(sys.argv[1:]),
        "versions": {name: version(name) for name in ("torch", "transformers", "hf_universal_pretrain")},
        "judged": "second half of 100 windows of 256 bytes",
        "texts": {name: {} for name in texts},
    }
    jobs = [(text, arm) for text in texts for arm in script.arms]
    for text, arm in tqdm(jobs, "Arms", unit="arm"):
        train, tune, valid = texts[text]
        swept = {
            rate: finetune(script, text, arm, rate, SWEEP_SEED, script.sweep_steps, (train, tune))[-1][1]
            for rate in script.rates
        }
        rate = min(swept, key=swept.get)
        curves = {seed: finetune(script, text, arm, rate, seed, script.steps, (train, valid)) for seed in script.seeds}
        results["texts"][text][arm] = {"rate": rate, "bits_by_rate_on_the_tuning_text": swept, "curves": curves}
    path = Path(script.json)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    panels = {
        text: {f"{arm}, seed {seed}": curve for arm, found in arms.items() for seed, curve in found["curves"].items()}
        for text, arms in results["texts"].items()
    }
    plot_curves(panels, path.with_suffix(".png"))
    print(table(results))


if __name__ == "__main__":
    main()
