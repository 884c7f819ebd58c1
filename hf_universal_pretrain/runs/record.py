"""What a run is and what it has reached, in plain values: all that cards, tables and pictures are made from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from hf_universal_pretrain.evaluation import TextSetting, probe_entry, text_entry
from hf_universal_pretrain.stream.config import SyntheticUPConfig


@dataclass
class RunRecord:
    """A run at one moment."""

    args: TrainingArguments
    architecture: str  # the model's class
    parameters: int
    flops_per_token: float  # of training
    context_length: int  # tokens in a training row
    tokens_per_step: int  # in all processes
    steps: int  # done so far
    history: list[dict[str, Any]]  # the log
    texts: dict[str, dict[str, Any]]  # by name, see `text_results`
    probes: dict[str, dict[str, Any]]  # by name, see `probe_results`
    reach: dict[str, Any]  # how far back it looks on rows of its own stream (`evaluation.reach`); empty: not measured
    started_from: str | None  # the model whose weights training started from; None for random weights
    compare_with: dict[str, list[dict[str, Any]]]  # logs of other runs, by name, to be drawn beside this one's
    license: str | None = None  # of the model, as the Hub names it; None: none is given
    data: SyntheticUPConfig | None = None  # of the synthetic stream; None where it trains on text
    rounds: int = 0  # of the stream so far

    @property
    def folder(self) -> Path:
        """Where the run writes."""
        return Path(str(self.args.output_dir))

    @property
    def name(self) -> str:
        """The Hub id, or the folder's name."""
        return self.args.hub_model_id or self.folder.resolve().name

    @property
    def tokens(self) -> int:
        """That the model has been trained on so far."""
        return self.steps * self.tokens_per_step


def last_figures(history: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The figures of `"texts"`, `"probes"` or `"reach"` of the last evaluation in a log; empty if there was none."""
    return next((entry["figures"].get(kind) or {} for entry in reversed(history) if "figures" in entry), {})


def text_results(history: list[dict[str, Any]], settings: dict[str, TextSetting]) -> dict[str, dict[str, Any]]:
    """For each text its entry (`evaluation.text_entry`), as last measured, and `bits_per_byte_before` if it was
    measured at step 0.

    Args:
        history: the log of a `BitsTrainer`.
        settings: of each text, from `evaluation.text_setting`.
    """
    figures, results = last_figures(history, "texts"), {}
    for name, setting in settings.items():
        results[name] = text_entry(figures.get(name, {}), setting)
        key = f"eval_{name}_bits_per_byte"
        before = next((entry[key] for entry in history if key in entry and entry["step"] == 0), None)
        if before is not None:
            results[name]["bits_per_byte_before"] = before
    return results


def probe_results(history: list[dict[str, Any]], length: int, count: int) -> dict[str, dict[str, Any]]:
    """For each probe that was measured its entry (`evaluation.probe_entry`), as last measured.

    Args:
        history: the log of a `BitsTrainer`.
        length: symbols in a window.
        count: windows of each probe.
    """
    return {
        name: probe_entry(figures, name, length, count) for name, figures in last_figures(history, "probes").items()
    }
