"""The runs of an experiment: what is asked for, and each run made when it is first asked for."""

import json
import re
import shutil
import subprocess
import threading
import time
import zlib
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig, PreTrainedTokenizerBase, TrainingArguments

from hf_universal_pretrain.commands.child import differences, last_words, start, told, told_before
from hf_universal_pretrain.errors import InUse
from hf_universal_pretrain.masking import mask
from hf_universal_pretrain.models.build import build_config, build_model, load_model
from hf_universal_pretrain.models.tokenizers import build_tokenizer
from hf_universal_pretrain.models.transfer import shuffle_weights
from hf_universal_pretrain.reading import load_json, load_yaml
from hf_universal_pretrain.runs.comparison import (
    Run,
    read_curve,
    read_run,
)
from hf_universal_pretrain.runs.lock import LOCK_FILE, hold
from hf_universal_pretrain.text import deal_out, read_text


METRIC = "eval_held_out_bits_per_byte"
ARM_NAME = re.compile(r"\w[\w.-]*")
LAST_STEP = 60.0  # seconds that a run is given for its last step and checkpoint
GO_ON = {"resume_from_checkpoint": "auto", "disable_tqdm": True}
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
    override: list[str] = field(default_factory=list)
    """Changes to the three mappings, as in finetune.max_steps=150 or arms.warm.pretrain.max_steps=225: what stands
    beside them in a configuration stays. A run with other flags needs another --output_dir."""
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
    """Runs side by side."""
    threads: int = 1
    """Threads of each run on a CPU."""
    dry_run: bool = False
    """Print what would be run, write nothing, and stop."""

    # the three mappings, read
    specs: dict[str, dict[str, Any]] = field(init=False)
    pretrain_flags: dict[str, Any] = field(init=False)
    finetune_flags: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        mappings: dict[str, dict[str, Any]] = {}
        for name in ("arms", "pretrain", "finetune"):
            try:
                value = load_json(getattr(self, name))
            except ValueError as error:
                raise ValueError(
                    f"--{name} must be a mapping (YAML in a configuration, JSON on a command line): {error}"
                ) from error
            if not isinstance(value, dict):
                raise ValueError(f"--{name} must be a mapping, not {value!r}")
            mappings[name] = value
        for change in self.override:
            _override(mappings, change)
        self.specs, self.pretrain_flags, self.finetune_flags = mappings.values()
        for arm, spec in self.specs.items():
            if not ARM_NAME.fullmatch(arm) or arm.startswith(("architecture", "texts")):
                raise ValueError(f"--arms: {arm!r} is no name for a folder: use letters, digits, '_', '-' and '.'")
            if not isinstance(spec, dict) or not spec.keys() <= ARM_KEYS:
                raise ValueError(f"--arms: {arm} must be a mapping with keys among {', '.join(sorted(ARM_KEYS))}")
            starts = [key for key in ("model", "weights_of", "pretrain", "text") if key in spec]
            if len(starts) > 1 and starts != ["pretrain", "text"]:
                raise ValueError(f"--arms: {arm} has {' and '.join(starts)}: it starts from one of them, so give one")
            if spec.get("shuffle_weights") and not spec.keys() & {"model", "weights_of"}:
                raise ValueError(f"--arms: {arm} has shuffle_weights: give model or weights_of beside it")
            if spec.get("weights_of", arm) not in self.specs or spec.get("weights_of") == arm:
                raise ValueError(f"--arms: {arm} takes the weights of {spec['weights_of']!r}, which is no other arm")
        for arm in (self.reference, *self.only):
            if arm not in self.specs:
                raise ValueError(f"--only and --reference take arms, and {arm!r} is none of {', '.join(self.specs)}")
        if self.sweep_seed in self.seeds:
            raise ValueError(f"--sweep_seed: {self.sweep_seed} is one of --seeds; the sweep needs rows of its own")


def _override(mappings: dict[str, dict[str, Any]], change: str) -> None:
    """Sets one value in nested mappings, in place; `change` is `PATH=VALUE`, with dots in the path and YAML as value.

    Raises:
        ValueError: names the flag.
    """
    path, equals, value = change.partition("=")
    first, *keys = path.split(".")
    if not equals or first not in mappings or not all(keys) or not keys:
        raise ValueError(f"--override {change}: write arms.KEY=VALUE, pretrain.KEY=VALUE or finetune.KEY=VALUE")
    place: Any = mappings[first]
    for key in keys[:-1]:
        place = place.setdefault(key, {})
        if not isinstance(place, dict):
            raise ValueError(f"--override {change}: {key} holds a value, and no mapping")
    try:
        place[keys[-1]] = load_yaml(value)
    except ValueError as error:
        raise ValueError(f"--override {change}: {value!r} cannot be read as YAML ({error})") from error


class Failed(RuntimeError):
    """A run that did not end well; the message is the end of what it said."""


class NotRun(RuntimeError):
    """A run of an arm that is not to be run now."""


class Experiment:
    """The runs of all arms, each made when it is first asked for."""

    def __init__(self, script: ScriptArguments, bar: Any) -> None:
        self.script, self.bar = script, bar
        self.root = Path(script.output_dir)
        self.starts_runs = True
        self.under_way: dict[str, subprocess.Popen[bytes]] = {}
        self.locks: dict[Path, threading.Lock] = defaultdict(threading.Lock)
        self.texts: dict[str, Path] = {}
        self.architecture = self.root / "architecture"

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
            # another text has another name, so that the flags of runs with it differ
            self.texts[name] = texts / f"{name}-{zlib.crc32(text):08x}.txt"
            self.texts[name].write_bytes(text)
        self.architecture = _save_by_content(config, tokenizer, self.root)

    # ---- Runs ----

    def run(self, folder: Path, command: str, settings: dict[str, Any]) -> Path:
        """Runs a command in a folder, unless it has ended there before."""
        name, flags = folder.relative_to(self.root), told(settings)
        with self.locks[folder]:
            before = told_before(folder)
            other = [] if before is None else differences(before, flags)
            if other:
                raise Failed(
                    f"{name} was begun with other flags, {', '.join(other)}: delete the folder to run it anew"
                )
            if (folder / "eval_results.json").is_file():
                return folder
            if not self.starts_runs:
                raise NotRun(name)
            try:  # one whose parent was killed ends with the step that it is at
                with hold(folder / LOCK_FILE, str(name), LAST_STEP):
                    pass
            except (InUse, ValueError) as error:
                raise Failed(str(error)) from error
            if not list(folder.glob("checkpoint-*")):
                shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
            began = time.perf_counter()
            process = start(folder, command, settings, self.script.threads, GO_ON)
            status = self.wait_for(str(name), process)
            if not self.starts_runs:
                raise NotRun(name)
            if status:
                raise Failed(f"{name}: {command} ended with status {status}: {mask(last_words(folder))}")
            self.bar.write(f"{name}: {time.perf_counter() - began:.0f} s")
            return folder

    def wait_for(self, name: str, process: "subprocess.Popen[bytes]") -> int:
        """The exit status of a run; the progress bar names it as long as it is under way."""
        self.under_way[name] = process
        self.bar.set_postfix_str(", ".join(list(self.under_way)))
        status = process.wait()
        del self.under_way[name]
        self.bar.set_postfix_str(", ".join(list(self.under_way)))
        return status

    def stop(self) -> None:
        """Ends the runs that are under way, and starts no others."""
        self.starts_runs = False
        for process in list(self.under_way.values()):
            process.terminate()

    def stage_one(self, arm: str, seed: int) -> Path:
        """The folder of the model that an arm's real-text stage starts from."""
        source = self.trained(arm, seed)
        if not self.script.specs[arm].get("shuffle_weights"):
            return source
        return self.shuffled(source, self.root / arm / f"seed-{seed}" / "before", seed)

    def trained(self, arm: str, seed: int) -> Path:
        """The folder of the model that an arm takes, before its weights are shuffled."""
        script, spec = self.script, self.script.specs[arm]
        folder = self.root / arm / f"seed-{seed}" / "before"
        if "model" in spec:
            return Path(spec["model"].replace("{seed}", str(seed)))
        if "weights_of" in spec:
            return self.stage_one(spec["weights_of"], seed)
        common = {**script.pretrain_flags, **spec.get("pretrain", {})}
        common = {"save_strategy": "steps", "save_steps": 0.5, "save_total_limit": 1, "eval_strategy": "no"} | common
        common |= {"context_length": script.context_length, "seed": seed, "model": self.architecture}
        if spec.get("text"):
            known = {f.name for f in fields(TrainingArguments)} | {"context_length", "model"}
            flags = {key: value for key, value in common.items() if key in known}
            texts = {"train_file": self.texts["other"], "eval_file": self.texts["sweep"]}
            return self.run(folder, "finetune", {**flags, **texts, "from_scratch": True, "eval_on_start": False})
        if "pretrain" in spec:
            flags = {"tokenizer": self.architecture, "stream_seed": seed, "eval_on_start": False, **common}
            return self.run(folder, "pretrain", flags)
        return self.architecture

    def shuffled(self, source: Path, folder: Path, seed: int) -> Path:
        """The folder of a model with the weights of another, shuffled."""
        with self.locks[folder]:
            if not folder.is_dir():
                model = load_model(str(source))
                shuffle_weights(model, seed)
                new = folder.with_name(f"{folder.name}.new")  # what is half written is never taken for it
                build_tokenizer(str(source)).save_pretrained(new)
                model.save_pretrained(new)
                new.rename(folder)
            return folder

    def stage_two(self, arm: str, seed: int, rate: float, sweep: bool) -> Path:
        """The folder of a run of real-text training."""
        script, spec = self.script, self.script.specs[arm]
        before = self.stage_one(arm, script.seeds[0] if sweep else seed)
        name = f"sweep/rate-{rate:g}" if sweep else f"seed-{seed}/rate-{rate:g}"
        flags = {"eval_strategy": "steps", "eval_steps": 0.05, "eval_windows": 100, "save_total_limit": 1}
        flags |= {"save_strategy": "steps", "save_steps": 0.5, **script.finetune_flags, **spec.get("finetune", {})}
        flags |= {"model": before, "train_file": self.texts["train"], "seed": seed, "learning_rate": rate}
        flags |= {"eval_file": self.texts["sweep" if sweep else "held_out"]}
        flags |= {"context_length": script.context_length, "from_scratch": before == self.architecture}
        if sweep:
            flags |= {"max_steps": script.sweep_steps, "eval_steps": 0.5, "save_strategy": "no"}
        folder = self.run(self.root / arm / name, "finetune", flags)
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
        return folder

    # ---- Results ----

    def measure(self, arm: str, pool: Executor) -> dict[str, Any]:
        """All runs of an arm, `pool` of them at a time.

        Returns:
            `learning_rate`, `sweep` (bits by rate), `runs` (by seed), `failed` (why, by run).
        """
        script = self.script
        rates = script.learning_rates if len(script.learning_rates) > 1 else []
        swept = {rate: pool.submit(self.attempt, self.swept_bits, arm, rate) for rate in rates}
        sweep, failed = _parted({rate: future.result() for rate, future in swept.items()}, "sweep, rate {:g}")
        rate = min(sweep, key=sweep.__getitem__, default=script.learning_rates[0])
        begun = {seed: pool.submit(self.attempt, self.judged_run, arm, seed, rate) for seed in script.seeds}
        runs, failed_seeds = _parted({seed: future.result() for seed, future in begun.items()}, "seed {}")
        failed |= failed_seeds
        for what, why in failed.items():
            self.bar.write(f"FAILED: {arm}, {what}: {why}")
        edge = bool(rates) and rate in (min(rates), max(rates))
        return {"learning_rate": rate, "rate_at_edge": edge, "sweep": sweep, "failed": failed, "runs": runs}

    def attempt(self, make: Callable[..., Any], *args: Any) -> Any:
        """What `make` returns, or the `Failed` that it raises; None where its run is not to be run now."""
        try:
            found = make(*args)
        except Failed as error:
            found = error
        except NotRun:
            return None
        self.bar.update(self.starts_runs)
        return found

    def swept_bits(self, arm: str, rate: float) -> float:
        """Bits per byte at the end of a run of the sweep."""
        folder = self.stage_two(arm, self.script.sweep_seed, rate, sweep=True)
        return read_curve(folder, METRIC, 1)[-1][1]

    def judged_run(self, arm: str, seed: int, rate: float) -> Run:
        """The figures of a finished run, with the cost of what it started from."""
        folder = self.stage_two(arm, seed, rate, sweep=False)
        return read_run(folder, self.trained(arm, seed), METRIC, self.script.context_length)


def _parted(found: dict[Any, Any], name: str) -> tuple[dict[Any, Any], dict[str, str]]:
    """What was made, and what failed with why; what was not to be run is in neither."""
    made = {key: value for key, value in found.items() if value is not None and not isinstance(value, Failed)}
    return made, {name.format(key): str(value) for key, value in found.items() if isinstance(value, Failed)}


def _save_by_content(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, root: Path) -> Path:
    """Saves an architecture in a folder with a name of its own, so that the flags of runs with another one differ."""
    settings = {name: value for name, value in config.to_dict().items() if name != "transformers_version"}
    content = json.dumps([settings, sorted(tokenizer.get_vocab().items())], sort_keys=True, default=str)
    folder = root / f"architecture-{zlib.crc32(content.encode()):08x}"
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
