"""Measures models: bits per byte on texts and bits on probes, beside what simple predictors reach on the same windows.

    python recipes/evaluate.py --model out/quickstart --text english=english-valid.txt --json out/evaluation.json
    python recipes/evaluate.py --model gpt2 --dataset ORG/NAME --text_column text --probes none
    python recipes/evaluate.py --model out/quickstart/checkpoint-* --text english=english-valid.txt --probes none \\
        --windows 1000 --json out/curve.json

Any causal language model, with its own tokenizer. A text's `bits_per_byte` is over the second half of each window;
`last` and `whole` (the last byte, all but the first) stand beside it, each with the half-width of a 95% confidence
interval over windows (`ci95`). Baselines, which a useful model is below: `uniform`, a guess among bytes, or among the
symbols that the model was told of (`--tokens printable`); `uniform_tokens`, a guess among tokens, where these have
several bytes; `kt` and `counts_05` count the bytes of the window so far (smoothing 1/2 and .05); `markov_1` to
`markov_5` count what followed each context in the window so far; `best` is the lowest. With several models the JSON
holds `{"models": {MODEL: ...}}`, and where they are checkpoints of pretraining, a picture beside it draws bits against
synthetic tokens.
"""

import json
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from hf_universal_pretrain.commands.arguments import parse_args, relative_paths, told_command
from hf_universal_pretrain.commands.endings import alone_in, stoppable, usage_errors, warn
from hf_universal_pretrain.corpus import open_dataset, open_named
from hf_universal_pretrain.evaluation import (
    TextSetting,
    check_tokens,
    choose_probes,
    cut_each,
    measure,
    probe_entry,
    text_baselines,
    text_entry,
    text_setting,
)
from hf_universal_pretrain.evaluation.reach import measure_reach
from hf_universal_pretrain.models.build import build_model, check_fits, load_model, positions_of, read_config
from hf_universal_pretrain.models.encoding import encode
from hf_universal_pretrain.models.tokenizers import build_tokenizer
from hf_universal_pretrain.runs.curves import plot_runs
from hf_universal_pretrain.runs.origin import told_printable, trained_length, trained_tokens
from hf_universal_pretrain.runs.settings import at_least
from hf_universal_pretrain.runs.tables import BASELINES, JUDGED, PICTURED, probes_table, reach_table, texts_table
from hf_universal_pretrain.text import interpreter_texts


LEAST_LENGTH, LEAST_WITH_PROBES = 8, 32


@dataclass
class ScriptArguments:
    model: list[str]
    """Folders or Hub ids of causal language models with their tokenizers."""
    text: list[str] = field(default_factory=list)
    """Texts as NAME=PATH: UTF-8 text, or a table of texts (.jsonl, .csv, .parquet); .gz and .zst of these too. Without
    any, and without --dataset: the prose of Python's language reference and a module of its standard library."""
    dataset: str | None = None
    """Hub id or folder of a data set, a split of which is a text too."""
    dataset_name: str | None = None
    """Configuration of --dataset, where it has several."""
    dataset_split: str = "train"
    """Split of --dataset."""
    text_column: str = "text"
    """Column of tables and data sets that holds the text."""
    context_length: int | None = None
    """Bytes in a window (symbols, for probes). By default as many as rows of the models' training had tokens; where
    nothing tells, 512, or what the models have less."""
    windows: int = 200
    """Windows of each text."""
    probes: list[str] = field(default_factory=lambda: ["all"])
    """'all', 'none', or some of champ, dyck, ndfa, toy, toy2, bits, bitsrep, bitsflip, aut, rep-1, rep-3, rep-10,
    induction, repeat, copy, sort, reverse, needle."""
    probe_windows: int = 100
    """Windows of each probe."""
    reach: bool = False
    """Measure too how far back each model looks in each text: its bits where all but the last k tokens are exchanged
    for those of another window, for k from 1 to 64."""
    batch_size: int = 16
    """Windows in one forward pass."""
    json: str | None = None
    """File to write the figures to, as JSON."""


@dataclass
class Subject:
    """A model that is measured, before its weights are loaded."""

    config: PreTrainedConfig
    tokenizer: PreTrainedTokenizerBase
    trained_length: int | None
    """Tokens in a row of its training, if anything tells."""
    synthetic_tokens: int
    """That it was trained on; 0 if nothing tells."""
    settings: dict[str, TextSetting] = field(default_factory=dict)
    """What the figures of each text are told with."""


def subject(name: str) -> Subject:
    """What there is to know of a model, a folder or a Hub id."""
    return Subject(read_config(name), build_tokenizer(name, "--model"), trained_length(name), trained_tokens(name))


def default_length(subjects: list[Subject]) -> int:
    """The least of the models' own lengths; 512 for one of which nothing is told, or the positions that it has."""
    lengths = [one.trained_length or 512 for one in subjects]
    return min([*lengths, *(p for p in (positions_of(one.config) for one in subjects) if p)])


def check_arguments(script: ScriptArguments) -> None:
    """Refuses numbers that are too small, and a file that is none.

    Raises:
        ValueError: names the flag.
    """
    for flag in ("windows", "probe_windows", "batch_size"):
        at_least(1, flag, getattr(script, flag))
    if script.json:
        if Path(script.json).is_dir():
            raise ValueError(f"--json: {script.json} is a folder: give a file")
        if Path(script.json).exists() and not Path(script.json).is_file():
            raise ValueError(f"--json: {script.json} is a pipe or a device: give a file")


def check_length(length: int, with_probes: bool) -> None:
    """Refuses windows in which there is nothing to judge.

    Raises:
        ValueError: names the flag.
    """
    at_least(LEAST_LENGTH, "context_length", length)
    if with_probes and length < LEAST_WITH_PROBES:
        raise ValueError(
            f"--context_length: probes need at least {LEAST_WITH_PROBES} symbols, not {length}: give more, or "
            "--probes none"
        )


def warn_of_length(name: str, one: Subject, longest: int) -> None:
    """Says in a line that a model is judged where it was never trained."""
    if one.trained_length and longest > one.trained_length:
        warn(
            f"--context_length: windows of up to {longest} tokens, but {name} was trained on rows of "
            f"{one.trained_length}: its positions after these were never trained"
        )


def measured(script: ScriptArguments, name: str, one: Subject, windows: dict[str, Tensor], probes: list[str],
             length: int, device: str) -> dict[str, Any]:  # fmt: skip
    """A model's part of the JSON."""
    with usage_errors():
        model = load_model(name)
        model.to(torch.device(device))  # type: ignore[arg-type]  # of a decorated method
    count = script.probe_windows
    figures = measure(model, one.tokenizer, windows, probes, length, count, script.batch_size)
    result: dict[str, Any] = {
        "judged": JUDGED,
        "texts": {text: text_entry(figures["texts"][text], setting) for text, setting in one.settings.items()},
        "probes": {probe: probe_entry(found, probe, length, count) for probe, found in figures["probes"].items()},
    }
    for text, cut in windows.items() if script.reach else ():
        progress = f"Reach in {text}"
        found = measure_reach(model, token_rows(cut, one.tokenizer), batch_size=script.batch_size, progress=progress)
        result["texts"][text]["reach"] = asdict(found)
    return result | ({"synthetic_tokens": one.synthetic_tokens} if one.synthetic_tokens else {})


def tables(name: str, result: dict[str, Any]) -> str:
    """A model's part of what is printed."""
    tokens = result.get("synthetic_tokens")
    lines = [name + (f" after {tokens:,} synthetic tokens" if tokens else ""), texts_table(result["texts"])]
    for text, entry in result["texts"].items():
        if "reach" in entry:
            lines.append(f"Reach in {text}, bits a token by how many before it are its own:")
            lines.append(reach_table(entry["reach"]))
    return "\n".join(lines + ([probes_table(result["probes"])] if result["probes"] else []))


def write_json(path: Path, device: str, results: dict[str, dict[str, Any]]) -> None:
    """Writes the figures of all models, and how they were made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {
        "command": told_command("evaluate"),
        "device": device,
        "versions": {name: version(name) for name in ("torch", "transformers", "hf_universal_pretrain")},
    }
    content = next(iter(results.values())) if len(results) == 1 else {"models": relative_paths(results)}
    path.write_text(json.dumps({**told, **content}, indent=2) + "\n", encoding="utf-8")


def plot(path: Path, results: dict[str, dict[str, Any]]) -> None:
    """Draws the bits of checkpoints against their synthetic tokens."""
    ordered = sorted(results.values(), key=lambda result: result["synthetic_tokens"])
    history = [
        {"step": result["synthetic_tokens"]}
        | {f"eval_{text}_bits_per_byte": entry["bits_per_byte"] for text, entry in result["texts"].items()}
        for result in ordered
    ]
    baselines = {
        text: {BASELINES[key]: entry["baselines"][key] for key in PICTURED}
        for text, entry in ordered[-1]["texts"].items()
    }
    plot_runs({"": history}, baselines, path, tokens_per_step=1)


def token_rows(windows: Tensor, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """The tokens of windows, `(count, tokens)` int64, all as many as the window with the fewest has."""
    rows = [encode(window.numpy().tobytes(), tokenizer) for window in windows]
    return torch.stack([row[: min(map(len, rows))] for row in rows])


def main() -> None:
    (script,) = parse_args((ScriptArguments,), __doc__, lambda asked: {})
    with usage_errors():
        check_arguments(script)
    file = Path(script.json or "")  # locked is the file alone: a run may go on training in the folder
    with stoppable(), alone_in(file.parent, "--json", f"_{file.name}.lock", here=bool(script.json)):
        evaluate(script)


def evaluate(script: ScriptArguments) -> None:
    """The command, with its flags read and the file that it writes locked."""
    # ---- Everything that can be wrong is found here ----
    with usage_errors():
        texts = open_named(script.text, script.text_column, "--text")
        if script.dataset in texts:
            raise ValueError(f"--text: the name {script.dataset!r} is that of --dataset: give another")
        if script.dataset:
            split, column = script.dataset_split, script.text_column
            texts[script.dataset] = open_dataset(script.dataset, script.dataset_name, split, column)
        subjects = {name: subject(name) for name in script.model}
        length = default_length(list(subjects.values())) if script.context_length is None else script.context_length
        check_length(length, script.probes != ["none"])
        windows = cut_each(texts or interpreter_texts(), length, script.windows, "--text")
        counted = {text: text_baselines(cut) for text, cut in windows.items()}
        probes: list[str] = []
        for name, one in subjects.items():
            check_fits(build_model(one.config, seed=0, empty=True), one.tokenizer, length)
            told: Literal["all", "printable"] = "printable" if told_printable(name) else "all"
            one.settings = {text: text_setting(w, one.tokenizer, told, counted[text]) for text, w in windows.items()}
            tokens = {text: setting.tokens for text, setting in one.settings.items()}
            check_tokens(tokens, length, positions_of(one.config), "--model", name)
            if script.probes != ["none"]:
                probes = choose_probes(script.probes, one.tokenizer, "--probes")
            warn_of_length(name, one, max([length if probes else 0, *(found.longest for found in tokens.values())]))

    # ---- Measuring: windows and probes are the same for all models ----
    device = "cuda" if torch.cuda.is_available() else "cpu"
    results: dict[str, dict[str, Any]] = {}
    for name, one in subjects.items():
        results[name] = measured(script, name, one, windows, probes, length, device)
        print(tables(name, results[name]), flush=True)

    if script.json:
        write_json(Path(script.json), device, results)
        if len(results) > 1 and all(one.synthetic_tokens for one in subjects.values()):
            plot(Path(script.json).with_suffix(".png"), results)
