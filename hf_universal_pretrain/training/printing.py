"""How evaluations are printed while a model trains: a line of texts and a line of probes, not a dictionary."""

import re
from typing import Any

from transformers import (
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)


_TEXT = re.compile(r"eval_(.+)_bits_per_byte")
_PROBE = re.compile(r"eval_probe_(.+)_bits_per_symbol")


def evaluation_lines(logs: dict[str, Any], step: int) -> str | None:
    """What a log line says of texts and probes, for people; None if it is not of an evaluation."""
    texts = [_with_interval(logs, key, found.group(1)) for key in logs if (found := _TEXT.fullmatch(key))]
    probes = [f"{found.group(1)} {logs[key]:.3f}" for key in logs if (found := _PROBE.fullmatch(key))]
    lines = [f"step {step}, bits per byte: {', '.join(texts)}"] if texts else []
    lines += [f"step {step}, bits per symbol: {', '.join(probes)}"] if probes else []
    return "\n".join(lines) or None


def _with_interval(logs: dict[str, Any], key: str, name: str) -> str:
    interval = logs.get(f"eval_{name}_ci95")
    return f"{name} {logs[key]:.3f}" + ("" if interval is None else f" \u00b1 {interval:.3f}")


class EvaluationProgress(ProgressCallback):
    """The stock bar, with evaluations in lines."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        lines = evaluation_lines(logs or {}, state.global_step)
        if lines is None:
            super().on_log(args, state, control, logs=logs, **kwargs)  # type: ignore[no-untyped-call]
        elif self.training_bar is not None:
            self.training_bar.write(lines)


class EvaluationPrinter(PrinterCallback):
    """The stock printer where there is no bar, with evaluations in lines."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        lines = evaluation_lines(logs or {}, state.global_step)
        if lines is None:
            super().on_log(args, state, control, logs=logs, **kwargs)  # type: ignore[no-untyped-call]
        elif state.is_local_process_zero:
            print(lines)


def print_evaluations_in_lines(trainer: Trainer) -> None:
    """Puts these callbacks in the place of the stock ones, where a trainer has them."""
    for stock, ours in ((ProgressCallback, EvaluationProgress), (PrinterCallback, EvaluationPrinter)):
        if trainer.pop_callback(stock) is not None:
            trainer.add_callback(ours)
