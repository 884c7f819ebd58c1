"""Reading the log of a run: its history, wall time, and the synthetic tokens it has seen."""

import math
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

from transformers import TrainerState

from hf_universal_pretrain.errors import first_line
from hf_universal_pretrain.limits import fits_64_bits
from hf_universal_pretrain.reading import load_json


# what is calculated with, in the lines of a log: what is counted, and what may be infinite where a run diverged
_COUNTED = {
    "step", "epoch", "num_input_tokens_seen", "total_flos", "seconds", "synthetic_tokens", "rounds", "threads",
    "generation_share", "train_runtime",
}  # fmt: skip
_MEASURED = ("loss", "bits_per_token", "_bits_per_byte", "_bits_per_symbol", "_bits")


def read_state(path: Path) -> dict[str, Any]:
    """What `trainer_state.json` says: at least `global_step`, a whole number, and `log_history`, mappings that each
    have a `step`.

    Raises:
        ValueError: if the file is not that.
    """
    try:
        state = load_json(path.read_text(encoding="utf-8"))
        step, history = state["global_step"], state["log_history"]
        if not isinstance(step, int) or step < 0 or not all(isinstance(entry["step"], int) for entry in history):
            raise ValueError("its steps are no whole numbers")
        if not isinstance(history, list):
            raise ValueError("its log is no list")
        _check_types(state)
        for entry in history:
            _check_numbers(entry)
        TrainerState.load_from_json(str(path))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not the state of a run ({first_line(error)})") from error
    return dict(state)


def _check_types(state: dict[str, Any]) -> None:
    """Refuses a word, a list or a mapping where a state has none, by what `TrainerState` declares."""
    for name, hint in get_type_hints(TrainerState).items():
        kinds = {*get_args(hint)} or {hint}
        if name in state and kinds <= {int, float, bool, str, NoneType}:
            kinds |= {int, float} if kinds & {int, float} else set()
            if type(state[name]) not in kinds or not fits_64_bits(state[name]):
                raise ValueError(f"its {name} is {str(state[name])[:40]!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and fits_64_bits(value)


def _check_numbers(entry: dict[str, Any]) -> None:
    """Refuses what is calculated with and is no number, in a line of a log."""
    for name, value in entry.items():
        wrong = not _is_number(value) or (name in _COUNTED and not math.isfinite(value))
        if wrong and (name in _COUNTED or name.endswith(_MEASURED)):
            raise ValueError(f"its {name} is {str(value)[:40]!r}")
    _check_figures(entry.get("figures", {}))


def _check_figures(figures: dict[str, Any]) -> None:
    """Refuses figures of an evaluation that tables and cards could not show."""
    texts, probes, reach = (figures.get(kind) or {} for kind in ("texts", "probes", "reach"))
    for part in (part for text in texts.values() for part in text.values()):
        _check_values(part, or_none=("bits_per_byte", "ci95"))
    for probe in probes.values():
        _check_values({"bits_saved": None, **probe}, ("accuracy",), ("bits_per_symbol", "ci95", "bits_saved"))
    if reach:
        _check_values(reach, ("full", "gain", "ci95"))
        _check_values(reach["bits"], tuple(reach["bits"]))


def _check_values(figures: dict[str, Any], numbers: tuple[str, ...] = (), or_none: tuple[str, ...] = ()) -> None:
    """Refuses what is no number, or none where there may be none: a single window has no interval."""
    for name in (*numbers, *or_none):
        value = figures[name]
        if not _is_number(value) and not (value is None and name in or_none):
            raise ValueError(f"the {name} of its figures is {str(value)[:40]!r}")


def read_history(run: str | Path) -> list[dict[str, Any]]:
    """The log history of a run's folder.

    Raises:
        ValueError: if the folder holds no run that has ended or saved its state, or that state is broken.
    """
    path = Path(run) / "trainer_state.json"
    if not path.is_file():
        raise ValueError(f"--compare_with: {run} is not the folder of a run (no trainer_state.json in it)")
    try:
        history: list[dict[str, Any]] = read_state(path)["log_history"]
    except ValueError as error:
        raise ValueError(f"--compare_with: {error}") from error
    return history


def wall_seconds(history: list[dict[str, Any]]) -> float:
    """Wall time of a run's training up to its last log line, in seconds, all resumed parts included."""
    return next((entry["seconds"] for entry in reversed(history) if "seconds" in entry), 0.0)


def synthetic_tokens(state: dict[str, Any]) -> int:
    """How many tokens of a synthetic stream a model has been trained on, from its `trainer_state.json`; 0 if on none.

    Worked out from the last log line that tells, which may be some steps back.
    """
    logged = [entry for entry in state["log_history"] if entry.get("synthetic_tokens") and entry["step"]]
    return int(logged[-1]["synthetic_tokens"] // logged[-1]["step"] * state["global_step"]) if logged else 0
