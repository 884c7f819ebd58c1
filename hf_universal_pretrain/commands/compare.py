"""Does it help? Arms of an experiment, seed by seed, from one YAML file.

    python recipes/compare.py --config recipes/configs/compare_cpu.yaml
    python recipes/compare.py --config recipes/configs/compare_cpu.yaml --only scratch up --seeds 0
    python recipes/compare.py --config recipes/configs/compare_cpu.yaml --dry_run

An arm is a way to come by a model before real-text training, which is the same for all: the same architecture, rows
and order (by seed), and number of steps. In the YAML, `arms` maps names to:

    scratch: {}                                      # random weights
    up: {pretrain: {FLAG: VALUE, ...}}               # recipes/pretrain.py with these flags on top of the common ones
    text: {text: true}                               # as many tokens, steps and rows of other real text instead
    shuffled: {weights_of: up, shuffle_weights: true}  # the weights of another arm, shuffled within each tensor
    found: {model: DIR_OR_HUB_ID}                    # a model that is there already
    partly: {weights_of: up, finetune: {transfer: attention}}  # flags of recipes/finetune.py on top

For each arm the learning rate of the real-text stage is swept on a stream of its own: the rows of `sweep_seed`, judged
on a text that is used for nothing else. Then each seed is run at that rate and judged on the held-out text. The
training file is dealt out in blocks: to the real-text stage, to arm `text`, to the sweep's judgement, and (without
`eval_file`) to the held-out text.

Each run is a process of its own (`pretrain.py`, `finetune.py`) in a folder of its own under `output_dir`; one that is
finished is skipped, one that was cut off goes on from its last checkpoint. A run that fails is told and kept in the
results, and tried again next time. Arms that `--only` leaves out keep the runs that they have. `comparison.json`,
`.md` and `.png` in `output_dir` are written anew after each arm.
"""

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import TrainingArguments

from hf_universal_pretrain.commands.arguments import parse_args
from hf_universal_pretrain.commands.endings import environment, hub_errors, usage_errors
from hf_universal_pretrain.models.build import build_config, build_model, load_model
from hf_universal_pretrain.models.tokenizers import build_tokenizer
from hf_universal_pretrain.models.transfer import shuffle_weights
from hf_universal_pretrain.runs.comparison import (
    Run,
    compare,
    markdown,
    plot_comparison,
    read_curve,
    read_run,
    verdict,
)
from hf_universal_pretrain.text import deal_out, read_text


METRIC = "eval_held_out_bits_per_byte"
ARM_KEYS = {"pretrain", "text", "weights_of", "shuffle_weights", "model", "finetune"}


@dataclass
class ScriptArguments:
    output_dir: str
    """Folder of all runs and of the results."""
    train_file: str
    """Real text (UTF-8, .gz too)."""
    arms: str
    """The arms by name (a mapping; see above)."""
    eval_file: str | None = None
    """Held-out text. Without one, a fiftieth of the training file."""
    model: str = "gpt2"
    """Architecture of all arms, as for pretrain.py."""
    config_overrides: str | None = None
    """Changes to it, as in n_layer=4,n_embd=128."""
    tokenizer: str = "byte"
    """'byte', a folder or a Hub id."""
    context_length: int = 256
    """Tokens in a row, in both stages."""
    pretrain: str = "{}"
    """Flags of pretrain.py that all arms share (a mapping)."""
    finetune: str = "{}"
    """Flags of finetune.py that all arms share (a mapping)."""
    reference: str = "scratch"
    """The arm that the others are compared with."""
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    """Of weights, streams and rows."""
    learning_rates: list[float] = field(default_factory=lambda: [5e-4, 1e-3, 2e-3])
    """Of the real-text stage, swept for each arm."""
    sweep_steps: int = 300
    """Steps of a run of the sweep."""
    sweep_seed: int = 1000
    """Seed of the sweep's rows; not one of the seeds."""
    targets: list[float] = field(default_factory=lambda: [0.25, 0.5, 0.75, 1.0])
    """Targets: the bits that the reference has reached by these shares of its tokens."""
    only: list[str] = field(default_factory=list)
    """Run these arms (and what they need) alone."""
    jobs: int = 1
    """Arms that run side by side."""
    threads: int = 1
    """Threads of each run on a CPU."""
    dry_run: bool = False
    """Print what would be run, write nothing, and stop."""

    def __post_init__(self) -> None:
        for name in ("arms", "pretrain", "finetune"):
            try:
                value = json.loads(getattr(self, name))
            except json.JSONDecodeError as error:
                raise ValueError(f"--{name} must be a mapping (in YAML or JSON): {error}") from error
            if not isinstance(value, dict):
                raise ValueError(f"--{name} must be a mapping, not {value!r}")
            setattr(self, name, value)
        for arm, spec in self.arms.items():
            if not isinstance(spec, dict) or not spec.keys() <= ARM_KEYS:
                raise ValueError(f"--arms: {arm} must be a mapping with keys among {', '.join(sorted(ARM_KEYS))}")
            if spec.get("weights_of", arm) not in self.arms or spec.get("weights_of") == arm:
                raise ValueError(f"--arms: {arm} takes the weights of {spec['weights_of']!r}, which is no other arm")
        for arm in (self.reference, *self.only):
            if arm not in self.arms:
                raise ValueError(f"--only and --reference take arms, and {arm!r} is none of {', '.join(self.arms)}")
        if self.sweep_seed in self.seeds:
            raise ValueError(f"--sweep_seed: {self.sweep_seed} is one of --seeds; the sweep needs rows of its own")


class Failed(RuntimeError):
    """A run that did not end well; the message is the end of what it said."""


class NotRun(RuntimeError):
    """A run of an arm that is not to be run now."""


class Experiment:
    """The runs of all arms, each made when it is first asked for."""

    def __init__(self, script: ScriptArguments, bar: tqdm) -> None:
        self.script, self.bar = script, bar
        self.root = Path(script.output_dir)
        self.starts_runs = True
        self.under_way: set[subprocess.Popen[bytes]] = set()
        self.locks: dict[Path, threading.Lock] = defaultdict(threading.Lock)

    # ---- What all arms share ----

    def prepare(self) -> None:
        """Writes the architecture (a configuration and a tokenizer, no weights) and the texts."""
        script, texts = self.script, self.root / "texts"
        tokenizer = build_tokenizer(script.tokenizer)
        config = build_config(script.model, tokenizer, script.config_overrides)
        build_model(config, seed=0, empty=True)
        whole = read_text(script.train_file, "--train_file")
        # of each 50 blocks one for the sweep, one held out, and 24 for each stage
        dealt = deal_out(whole, ["sweep", "held_out", *["train", "other"] * 24])
        if script.eval_file:
            dealt["held_out"] = read_text(script.eval_file, "--eval_file")
        if not all(dealt.values()):
            raise ValueError("--train_file: it is too short to be dealt out: give at least a hundred kilobytes")
        texts.mkdir(parents=True, exist_ok=True)
        for name, text in dealt.items():
            (texts / f"{name}.txt").write_bytes(text)
        config.save_pretrained(self.root / "architecture")
        tokenizer.save_pretrained(self.root / "architecture")

    # ---- Runs ----

    def run(self, folder: Path, command: str, settings: dict[str, Any]) -> Path:
        """Runs a command in a folder, unless it has ended there before."""
        name, flags = folder.relative_to(self.root), words(settings)
        with self.locks[folder]:
            told = json.loads((folder / "flags.json").read_text()) if (folder / "flags.json").is_file() else flags
            if told != flags:
                other = " ".join(word for word in told if word not in flags)
                raise Failed(f"{name} was begun with other flags ({other}): delete the folder to run it anew")
            if (folder / "eval_results.json").is_file():
                return folder
            if not self.starts_runs:
                raise NotRun(name)
            if not list(folder.glob("checkpoint-*")):
                shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "flags.json").write_text(json.dumps(flags, indent=1) + "\n")
            called = [sys.executable, "-m", "hf_universal_pretrain", command, "--output_dir", str(folder), *flags]
            called += ["--resume_from_checkpoint", "auto", "--disable_tqdm", "true"]
            began = time.perf_counter()
            with open(folder / "run.log", "a", encoding="utf-8") as log:
                log.write(" ".join(called) + "\n")
                log.flush()
                process = subprocess.Popen(
                    called, stdout=log, stderr=subprocess.STDOUT, env=environment(self.script.threads)
                )
                self.under_way.add(process)
                status = process.wait()
                self.under_way.remove(process)
            if not self.starts_runs:
                raise NotRun(name)
            if status:
                raise Failed(f"{name}: {command} ended with status {status}: {last_words(folder)}")
            self.bar.write(f"{name}: {time.perf_counter() - began:.0f} s")
            return folder

    def stop(self) -> None:
        """Ends the runs that are under way, and starts no others."""
        self.starts_runs = False
        for process in list(self.under_way):
            process.terminate()

    def stage_one(self, arm: str, seed: int) -> Path:
        """The folder of the model that an arm's real-text stage starts from."""
        script, spec = self.script, self.script.arms[arm]
        folder = self.root / arm / f"seed-{seed}" / "before"
        if "model" in spec:
            return Path(spec["model"])
        if "weights_of" in spec:
            source = self.stage_one(spec["weights_of"], seed)
            return self.shuffled(source, folder, seed) if spec.get("shuffle_weights") else source
        common = {**script.pretrain, **spec.get("pretrain", {})}
        common = {"save_strategy": "steps", "save_steps": 0.5, "save_total_limit": 1, "eval_strategy": "no"} | common
        common |= {"context_length": script.context_length, "seed": seed, "model": self.root / "architecture"}
        if spec.get("text"):
            known = {f.name for f in fields(TrainingArguments)} | {"context_length", "model"}
            flags = {key: value for key, value in common.items() if key in known}
            texts = {"train_file": self.root / "texts/other.txt", "eval_file": self.root / "texts/sweep.txt"}
            return self.run(folder, "finetune", {**flags, **texts, "from_scratch": True, "eval_on_start": False})
        if "pretrain" in spec:
            flags = {"tokenizer": self.root / "architecture", "stream_seed": seed, "eval_on_start": False, **common}
            return self.run(folder, "pretrain", flags)
        return self.root / "architecture"

    def shuffled(self, source: Path, folder: Path, seed: int) -> Path:
        """The folder of a model with the weights of another, shuffled."""
        with self.locks[folder]:
            if not (folder / "config.json").is_file():
                model = load_model(str(source))
                shuffle_weights(model, seed)
                build_tokenizer(str(source)).save_pretrained(folder)
                model.save_pretrained(folder)
            return folder

    def stage_two(self, arm: str, seed: int, rate: float, sweep: bool) -> Path:
        """The folder of a run of real-text training."""
        script, spec = self.script, self.script.arms[arm]
        before = self.stage_one(arm, script.seeds[0] if sweep else seed)
        name = f"sweep/rate-{rate:g}" if sweep else f"seed-{seed}/rate-{rate:g}"
        flags = {"eval_strategy": "steps", "eval_steps": 0.05, "eval_windows": 100, "save_total_limit": 1}
        flags |= {"save_strategy": "steps", "save_steps": 0.5, **script.finetune, **spec.get("finetune", {})}
        flags |= {"model": before, "train_file": self.root / "texts/train.txt", "seed": seed, "learning_rate": rate}
        flags |= {"eval_file": self.root / f"texts/{'sweep' if sweep else 'held_out'}.txt"}
        flags |= {"context_length": script.context_length, "from_scratch": before == self.root / "architecture"}
        if sweep:
            flags |= {"max_steps": script.sweep_steps, "eval_steps": 0.5, "save_strategy": "no"}
        folder = self.run(self.root / arm / name, "finetune", flags)
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
        return folder

    # ---- Results ----

    def measure(self, arm: str) -> dict[str, Any]:
        """All runs of an arm: `learning_rate`, `sweep` (bits by rate), and by seed a `Run` or why there is none."""
        script, runs, failed, sweep = self.script, {}, {}, {}
        for rate in script.learning_rates if len(script.learning_rates) > 1 else ():
            try:
                folder = self.stage_two(arm, script.sweep_seed, rate, sweep=True)
                sweep[rate] = read_curve(folder, METRIC, 1)[-1][1]
            except Failed as error:
                failed[f"sweep, rate {rate:g}"] = str(error)
            except NotRun:
                continue
            self.bar.update(self.starts_runs)
        rate = min(sweep, key=sweep.__getitem__, default=script.learning_rates[0])
        for seed in script.seeds:
            try:
                runs[seed] = self.read(arm, seed, self.stage_two(arm, seed, rate, sweep=False))
            except Failed as error:
                failed[f"seed {seed}"] = str(error)
            except NotRun:
                continue
            self.bar.update(self.starts_runs)
        for what, why in failed.items():
            self.bar.write(f"FAILED: {arm}, {what}: {why}")
        edge = len(script.learning_rates) > 1 and rate in (min(script.learning_rates), max(script.learning_rates))
        return {"learning_rate": rate, "rate_at_edge": edge, "sweep": sweep, "failed": failed, "runs": runs}

    def read(self, arm: str, seed: int, folder: Path) -> Run:
        """The figures of a finished run, with the cost of what it started from."""
        spec = self.script.arms[arm]
        before = self.stage_one(spec["weights_of"] if "weights_of" in spec else arm, seed)
        return read_run(folder, before, METRIC, self.script.context_length)


def words(flags: dict[str, Any]) -> list[str]:
    """Flags as the words of a command line."""
    made = []
    for key, value in flags.items():
        values = value if isinstance(value, list) else [value]
        made += [f"--{key}", *(json.dumps(v) if isinstance(v, dict) else str(v) for v in values)]
    return made


def last_words(folder: Path) -> str:
    """The last line that a run has printed."""
    lines = (folder / "run.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][-500:] if lines else "nothing was said"


def write_results(root: Path, script: ScriptArguments, measured: dict[str, dict[str, Any]]) -> str:
    """Writes `comparison.json`, `.md` and `.png`; returns the table."""
    reference, results = measured.get(script.reference, {}).get("runs", {}), {}
    for arm, found in measured.items():
        told = {key: value for key, value in found.items() if key != "runs"}
        compared = compare(found["runs"], reference, script.targets) if found["runs"] else {}
        results[arm] = {**told, **compared, "curves": {seed: run.curve for seed, run in found["runs"].items()}}
    table = markdown(results, script.targets)
    content = {
        "command": "python recipes/compare.py " + " ".join(sys.argv[1:]), "judged": METRIC, "settings": vars(script),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {script.threads} thread(s)",
        "versions": {name: version(name) for name in ("torch", "transformers", "hf_universal_pretrain")},
        "arms": results,
    }  # fmt: skip
    (root / "comparison.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (root / "comparison.md").write_text(table + "\n", encoding="utf-8")
    drawn = {arm: found["runs"] for arm, found in measured.items() if found["runs"]}
    plot_comparison(drawn, root / "comparison.png", script.reference)
    return table


def verdicts(measured: dict[str, dict[str, Any]], reference: str) -> str:
    """A sentence for each arm beside the reference: how much real text it saves."""
    told = measured.get(reference, {}).get("runs", {})
    others = {arm: found["runs"] for arm, found in measured.items() if arm != reference and found["runs"]}
    return "\n".join(verdict(arm, runs, reference, told) for arm, runs in others.items())


def main() -> None:
    with usage_errors():
        (script,) = parse_args((ScriptArguments,), __doc__, lambda asked: {})
    chosen = [arm for arm in script.arms if not script.only or arm in script.only]
    runs_an_arm = len(script.seeds) + (len(script.learning_rates) if len(script.learning_rates) > 1 else 0)
    if script.dry_run:
        print(f"{len(chosen)} arms ({', '.join(chosen)}), {runs_an_arm} runs of real-text training each")
        return
    with tqdm(total=len(chosen) * runs_an_arm, desc="Real-text runs", unit="run") as bar:
        experiment = Experiment(script, bar)
        with usage_errors(), hub_errors():
            experiment.prepare()
        experiment.starts_runs = False
        measured = {arm: experiment.measure(arm) for arm in script.arms if arm not in chosen}
        measured = {arm: found for arm, found in measured.items() if found["runs"]}
        experiment.starts_runs = True
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        with ThreadPoolExecutor(script.jobs) as pool:
            try:
                for arm, found in zip(chosen, pool.map(experiment.measure, chosen), strict=True):
                    measured[arm] = found
                    table = write_results(experiment.root, script, measured)
            except BaseException:  # interrupted: without this, the pool would go on to the end
                experiment.stop()
                raise
    print(f"{table}\n\n{verdicts(measured, script.reference)}")
    print(f"The results are in {experiment.root}/comparison.json, .md and .png")
    if any(measured[arm]["failed"] for arm in chosen):
        raise SystemExit(1)
