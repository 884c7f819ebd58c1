"""Measures models: bits per byte on texts and bits on probes, beside what simple predictors reach on the same windows.

    python recipes/evaluate.py --model out/quickstart --text english=english-valid.txt --json out/evaluation.json
    python recipes/evaluate.py --model gpt2 --dataset ORG/NAME --text_column text --probes none
    python recipes/evaluate.py --model out/quickstart/checkpoint-* --text english=english-valid.txt --probes none \
        --windows 1000 --json out/curve.json

Any causal language model, with its own tokenizer. A text's `bits_per_byte` is over the second half of each window;
`last` and `whole` (the last byte, all but the first) stand beside it, each with the half-width of a 95% confidence
interval over windows (`ci95`). Floors: `uniform`; `kt` counts the bytes of the window so far; `markov_1` to `markov_5`
count what followed each context in the window so far; `best` is the lowest. With several models the JSON holds
`{"models": {MODEL: ...}}`, and where they are checkpoints of pretraining, a picture beside it draws bits against
synthetic tokens.
"""

import json
import sys
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from hf_universal_pretrain.commands.arguments import parse_args
from hf_universal_pretrain.commands.endings import hub_errors, usage_errors
from hf_universal_pretrain.evaluation import (
    choose_probes,
    cut_each,
    measure,
    probe_entry,
    text_entry,
    text_floors,
)
from hf_universal_pretrain.evaluation.reach import measure_reach
from hf_universal_pretrain.hub import find_file
from hf_universal_pretrain.masking import mask_command
from hf_universal_pretrain.models.build import build_model, check_fits, load_model, read_config
from hf_universal_pretrain.models.encoding import encode
from hf_universal_pretrain.models.overrides import text_part
from hf_universal_pretrain.models.tokenizers import build_tokenizer
from hf_universal_pretrain.reading import check_file_can_be_written
from hf_universal_pretrain.runs.curves import plot_runs
from hf_universal_pretrain.runs.history import read_state, synthetic_tokens
from hf_universal_pretrain.runs.settings import at_least
from hf_universal_pretrain.runs.tables import FLOORS, JUDGED, probes_table, reach_table, texts_table
from hf_universal_pretrain.text import interpreter_texts, read_dataset, read_named_texts


SHORTEST = 16  # bytes in a window: probes need some to say something


@dataclass
class ScriptArguments:
    model: list[str]
    """Folders or Hub ids of causal language models with their tokenizers."""
    text: list[str] = field(default_factory=list)
    """Texts as NAME=PATH (UTF-8, .gz too). Without any, and without --dataset: the prose of Python's language
    reference and a module of its standard library."""
    dataset: str | None = None
    """Hub id or folder of a data set, whose split 'train' is a text too."""
    text_column: str = "text"
    """Column of --dataset that holds the text."""
    context_length: int | None = None
    """Bytes in a window (symbols, for probes); by default 512, or what the models have less."""
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


def default_length(configs: list[PreTrainedConfig]) -> int:
    """512, or the fewest positions that one of the models has."""
    positions = [getattr(text_part(config), "max_position_embeddings", None) for config in configs]
    return min([512, *(p for p in positions if p and p > 0)])


def tokens_of(model: str) -> int:
    """The synthetic tokens that a model or checkpoint was trained on; 0 if nothing tells."""
    path = find_file(model, "trainer_state.json")
    return synthetic_tokens(read_state(path)) if path else 0


def token_rows(windows: Tensor, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """The tokens of windows, `(count, tokens)` int64, all as many as the window with the fewest has."""
    rows = [encode(window.numpy().tobytes(), tokenizer)[0] for window in windows]
    return torch.stack([row[: min(map(len, rows))] for row in rows])


def main() -> None:
    (script,) = parse_args((ScriptArguments,), __doc__, lambda asked: {})

    # ---- Everything that can be wrong is found here ----
    with usage_errors(), hub_errors():
        if min(script.windows, script.probe_windows, script.batch_size) < 1:
            raise ValueError("--windows, --probe_windows and --batch_size must be at least 1")
        if script.context_length is not None:
            at_least(SHORTEST, "context_length", script.context_length)
        if script.json:
            check_file_can_be_written(Path(script.json), "--json")
        texts = read_named_texts(script.text, "--text")
        if script.dataset:
            texts[script.dataset] = read_dataset(script.dataset, script.text_column)
        configs = {name: read_config(name) for name in script.model}
        tokenizers = {name: build_tokenizer(name, flag="--model") for name in script.model}
        length = script.context_length or default_length(list(configs.values()))
        probes: list[str] = []
        for name, config in configs.items():
            check_fits(build_model(config, seed=0, empty=True), tokenizers[name], length)
            if script.probes != ["none"]:
                probes = choose_probes(script.probes, tokenizers[name], "--probes")
        windows = cut_each(texts or interpreter_texts(), length, script.windows, "--text")
        tokens = {name: tokens_of(name) for name in configs}

    # ---- Measuring: windows, probes and floors are the same for all models ----
    floors = {name: text_floors(w) for name, w in windows.items()}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    results: dict[str, dict[str, Any]] = {}
    for name in configs:
        with usage_errors(), hub_errors():
            model = load_model(name)
            model.to(torch.device(device))  # type: ignore[arg-type]  # of a decorated method
        count = script.probe_windows
        figures = measure(model, tokenizers[name], windows, probes, length, count, script.batch_size)
        results[name] = {
            "judged": JUDGED,
            "texts": {text: text_entry(figures["texts"][text], floors[text], w) for text, w in windows.items()},
            "probes": {probe: probe_entry(found, probe, length, count) for probe, found in figures["probes"].items()},
        }
        if script.reach:
            for text, w in windows.items():
                rows = token_rows(w, tokenizers[name])
                reach = measure_reach(model, rows, batch_size=script.batch_size, progress=f"Reach in {text}")
                results[name]["texts"][text]["reach"] = asdict(reach)
        if tokens[name]:
            results[name]["synthetic_tokens"] = tokens[name]
        trained = f" after {tokens[name]:,} synthetic tokens" if tokens[name] else ""
        print(f"{name}{trained}\n{texts_table(results[name]['texts'])}")
        for text, entry in results[name]["texts"].items() if script.reach else ():
            print(f"Reach in {text}, bits a token by how many before it are its own:\n{reach_table(entry['reach'])}")
        if probes:
            print(probes_table(results[name]["probes"]))

    if script.json:
        path = Path(script.json)
        path.parent.mkdir(parents=True, exist_ok=True)
        told = {
            "command": mask_command(["hf-up", "evaluate", *sys.argv[1:]]),
            "device": device,
            "versions": {name: version(name) for name in ("torch", "transformers", "hf_universal_pretrain")},
        }
        content = next(iter(results.values())) if len(results) == 1 else {"models": results}
        path.write_text(json.dumps({**told, **content}, indent=2) + "\n", encoding="utf-8")
        if len(results) > 1 and all(tokens.values()):
            history = [
                {"step": result["synthetic_tokens"]}
                | {f"eval_{text}_bits_per_byte": entry["bits_per_byte"] for text, entry in result["texts"].items()}
                for result in sorted(results.values(), key=lambda result: result["synthetic_tokens"])
            ]
            shown = {text: {FLOORS[f]: floors[text]["second_half"][f] for f in FLOORS} for text in windows}
            plot_runs({"": history}, shown, path.with_suffix(".png"), tokens_per_step=1)
