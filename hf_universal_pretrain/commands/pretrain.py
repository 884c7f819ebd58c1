"""Pretrains a causal language model on synthetic data, before any real text.

    accelerate launch recipes/pretrain.py --config recipes/configs/quickstart.yaml
    accelerate launch recipes/pretrain.py --model gpt2
    accelerate launch recipes/pretrain.py --model gpt2 --machines lstm --preset paper --eval_text wiki=wiki.txt
    accelerate launch recipes/pretrain.py --model gpt2 --push_to_hub --hub_model_id ORG/NAME
    accelerate launch recipes/pretrain.py --warm_start ORG/NAME

Flags are those of `ScriptArguments` (below), `SyntheticUPConfig` (the data) and `UPConfig` (the training: every flag
of `transformers.TrainingArguments`). `--config FILE.yaml` sets any of them; the command line wins. A run that was
stopped, in whatever way, goes on when the same command is given again.
"""

import os
from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import IntervalStrategy, PreTrainedModel, PreTrainedTokenizerBase

from hf_universal_pretrain import SyntheticUPConfig, SyntheticUPDataset, UPConfig, UPTrainer
from hf_universal_pretrain.commands.arguments import parse_args
from hf_universal_pretrain.commands.endings import (
    alone_in,
    push_model,
    stoppable,
    train_and_finish,
    usage_errors,
    warn,
    where_to_go_on,
)
from hf_universal_pretrain.corpus import open_named
from hf_universal_pretrain.evaluation import MOST_LOST, check_tokens, choose_probes, cut_each, text_tokens
from hf_universal_pretrain.hub import find_file
from hf_universal_pretrain.models.build import (
    build_config,
    build_model,
    check_fits,
    has_rotary_positions,
    load_model,
    positions_of,
    weights_checksum,
)
from hf_universal_pretrain.models.checks import check_causal
from hf_universal_pretrain.models.tokenizers import build_tokenizer
from hf_universal_pretrain.runs.folder import read_run_file
from hf_universal_pretrain.runs.settings import at_least, check_arguments, run_settings, told_windows
from hf_universal_pretrain.stream.config import DATA_CONFIG_NAME
from hf_universal_pretrain.stream.presets import PRESETS, settings_of
from hf_universal_pretrain.text import interpreter_texts
from hf_universal_pretrain.training.plan import plan_table


@dataclass
class ScriptArguments:
    model: str | None = None
    """Architecture: a name known to transformers such as 'gpt2' (its default configuration, nothing is downloaded), or
    a Hub id or folder whose configuration is taken. The weights are random in any case."""
    warm_start: str | None = None
    """Instead of --model: folder or Hub id of a model to go on from. Its weights, its tokenizer and, if this recipe
    made it, its data's settings are taken, with the next stream_seed (new rows)."""
    config_overrides: str | None = None
    """Changes to the model's configuration, as in n_layer=4,n_embd=128; lists and mappings as JSON, parts by dots
    (rope_parameters.rope_theta=1e6). What follows from what is changed is worked out anew."""
    tokenizer: str = "byte"
    """'byte' (256 bytes and 3 special tokens), a folder or a Hub id."""
    pad_vocab_multiple_of: int = 1
    """Rows of the embeddings, rounded up to a multiple: 64 is faster on a GPU. No token uses them."""
    preset: str = field(default="warm_start", metadata={"choices": list(PRESETS)})
    """Settings that go together. 'warm_start': a start for training on real text (machines that write words, ever
    more of them); 'warm_start_rotary': the same for a model with rotary positions such as llama (one grammar);
    'zero_shot': a model that predicts text it has never seen (new machines for every row); 'paper': the recipe of
    arXiv 2506.20057; the others are published recipes (docs/published.md). What is given beside it wins; with
    --machines and no --preset there is none."""
    eval_text: list[str] = field(default_factory=list)
    """Texts to measure bits per byte on, as NAME=PATH: UTF-8 text, or a table of texts (.jsonl, .csv, .parquet); .gz
    and .zst of these too. Without any: the prose of Python's language reference and a module of its standard
    library."""
    text_column: str = "text"
    """Column of tables that holds the text."""
    eval_windows: int = 50
    """Windows of each text, of context_length bytes."""
    eval_probes: list[str] = field(default_factory=list)
    """Probes to measure too, at each evaluation (they take time): 'all', or some of champ, dyck, ndfa, toy, toy2,
    bits, bitsrep, bitsflip, aut, rep-1, rep-3, rep-10, induction, repeat, copy, sort, reverse, needle."""
    trust_remote_code: bool = False
    """Run the Python code that comes with the model or the tokenizer."""
    license: str | None = None
    """Licence of the model, for its card, as the Hub names it: mit, apache-2.0, ... None by default."""
    dry_run: bool = False
    """Print the plan, write nothing, and stop."""


def defaults(asked: Namespace) -> dict[str, Any]:
    """Where this command differs from its dataclasses: it measures while it trains, and starts from a preset.

    Raises:
        ValueError: if epochs are asked for.
    """
    if "num_train_epochs" in asked.given:
        raise ValueError("--num_train_epochs: the stream has no end, so it has no epochs; set --max_steps")
    changed: dict[str, Any] = {
        "output_dir": f"out/{Path(os.path.abspath(asked.warm_start or asked.model or 'up')).name}",
        "eval_strategy": "steps", "eval_steps": 0.1, "eval_on_start": True, "resume_from_checkpoint": "auto",
    }  # fmt: skip
    rows = asked.per_device_train_batch_size * asked.gradient_accumulation_steps
    changed |= settings_of(asked.preset, asked.given, asked.max_steps, rows)
    folder = asked.output_dir if "output_dir" in asked.given else changed["output_dir"]
    if changed.get("curriculum"):
        changed["curriculum"] = curriculum_of(folder, changed["machines"]) or changed["curriculum"]
    if asked.warm_start:
        changed |= {"tokenizer": asked.warm_start, "output_dir": changed["output_dir"] + "-more"}
        changed |= settings_to_go_on_with(asked.warm_start)
    return changed


def curriculum_of(folder: str, machines: str) -> list[str] | None:
    """The curriculum of the run in a folder, if that began with these machines. A preset's fits the length of the run,
    and a run that is made longer keeps the one that it began with."""
    try:
        settings = read_run_file(Path(folder))["settings"]
        return settings["curriculum"] if settings["machines"] == machines else None
    except (OSError, ValueError, KeyError, TypeError):  # no run, or one that is refused later
        return None


def settings_to_go_on_with(model: str) -> dict[str, Any]:
    """The data's settings of a model that was pretrained on a synthetic stream, with the seed after its own."""
    try:
        path = find_file(model, DATA_CONFIG_NAME)
    except OSError:  # no such model: loading its weights will say so
        path = None
    if path is None:
        return {}
    data = SyntheticUPConfig.from_pretrained(model)
    return {**data.to_dict(), "stream_seed": data.stream_seed + 1}


def starting_model(script: ScriptArguments, seed: int) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model with random weights, or with those that it goes on from, and its tokenizer."""
    trust = script.trust_remote_code
    if script.warm_start:
        for flag in ("model", "config_overrides"):
            if getattr(script, flag) is not None:
                raise ValueError(f"--{flag}: leave it out: --warm_start takes a model as it is")
        model = load_model(script.warm_start, "--warm_start", trust)
        return model, build_tokenizer(script.tokenizer, trust_remote_code=trust)
    if script.model is None:
        raise ValueError("--model: give an architecture such as gpt2, or a model to go on from with --warm_start")
    tokenizer = build_tokenizer(script.tokenizer, trust_remote_code=trust)
    config = build_config(script.model, tokenizer, script.config_overrides, script.pad_vocab_multiple_of, trust)
    return build_model(config, seed, script.dry_run, trust), tokenizer


def windows_to_measure(
    script: ScriptArguments, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, length: int
) -> dict[str, Tensor]:
    """Windows of each text that was given; without any, of the interpreter's texts, but for those of which the
    tokenizer loses too much."""
    given = open_named(script.eval_text, script.text_column, "--eval_text")
    windows = cut_each(given or interpreter_texts(), length, script.eval_windows, "--eval_text")
    tokens = {name: text_tokens(cut, tokenizer) for name, cut in windows.items()}
    for name, found in list(tokens.items()):
        if not given and found.lost > MOST_LOST:
            warn(f"{name} is not measured: the tokens of --tokenizer lose {found.lost:.1%} of its bytes")
            del windows[name], tokens[name]
    check_tokens(tokens, length, positions_of(model.config), "--tokenizer")
    return windows


def main() -> None:
    script, data, args = parse_args((ScriptArguments, SyntheticUPConfig, UPConfig), __doc__, defaults)
    writes = args.process_index == 0 and not script.dry_run
    with stoppable(), alone_in(str(args.output_dir), "--output_dir", here=writes):
        pretrain(script, data, args)


def pretrain(script: ScriptArguments, data: SyntheticUPConfig, args: UPConfig) -> None:
    """The command, with its flags read and its folder locked."""
    # ---- Everything that can be wrong is found here, before anything is written ----
    with usage_errors():
        check_arguments(args)
        at_least(1, "eval_windows", script.eval_windows)
        model, tokenizer = starting_model(script, args.seed)
        check_fits(model, tokenizer, data.context_length)
        dataset = SyntheticUPDataset(data, tokenizer)
        probes = choose_probes(script.eval_probes, tokenizer, "--eval_probes")
        windows = windows_to_measure(script, model, tokenizer, data.context_length)
        if not windows:
            args.eval_strategy, args.eval_on_start = IntervalStrategy.NO, False
        check_causal(model, data.context_length)
        warm_start = script.warm_start and Path(script.warm_start).name
        weights = weights_checksum(model) if script.warm_start else None
        # the interpreter's texts differ between versions of Python
        texts = told_windows(windows) if script.eval_text else "the interpreter's"
        settings = run_settings(
            args, model, tokenizer, dataset, warm_start=warm_start, starting_weights=weights, eval_text=texts
        )
        resume, was_finished = None, False
        if not script.dry_run:
            resume, was_finished = where_to_go_on(args, settings)
            trainer = UPTrainer(
                model=model, args=args, train_dataset=dataset, processing_class=tokenizer, eval_windows=windows,
                eval_probes=probes, probe_windows=script.eval_windows, started_from=script.warm_start,
                license=script.license, settings=settings,
            )  # fmt: skip

    if args.process_index == 0 and not was_finished:
        print(f"Plan:\n{plan_table(model, args, data)}", flush=True)
        # where a model goes on, the data's settings are those of its stream, which a preset does not change
        if script.model and data.recipe == "warm_start" and has_rotary_positions(model.config):
            print("This model has rotary positions: --preset warm_start_rotary suits it better.", flush=True)
    if script.dry_run:
        return

    # ---- Training ----
    if not was_finished:
        train_and_finish(trainer, resume)
    push_model(trainer, was_finished)
