"""Reading the log of a run: its history, wall time, and the synthetic tokens it has seen."""

import json
from pathlib import Path
from typing import Any


def read_history(run: str | Path) -> list[dict[str, Any]]:
    """The log history of a run's folder.

    Raises:
        ValueError: if the folder holds no run that has ended or saved its state, or that state is broken.
    """
    path = Path(run) / "trainer_state.json"
    if not path.is_file():
        raise ValueError(f"--compare_with: {run} is not the folder of a run (no trainer_state.json in it)")
    try:
        return json.loads(path.read_text(encoding="utf-8"))["log_history"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"--compare_with: {path} is not the state of a run ({type(error).__name__}: {error})"
        ) from error


def wall_seconds(history: list[dict[str, Any]]) -> float:
    """Wall time of a run's training up to its last log line, in seconds, all resumed parts included."""
    return next((entry["seconds"] for entry in reversed(history) if "seconds" in entry), 0.0)


def synthetic_tokens(state: dict[str, Any]) -> int:
    """How many tokens of a synthetic stream a model has been trained on, from its `trainer_state.json`; 0 if on none.

    Worked out from the last log line that tells, which may be some steps back.
    """
    logged = [entry for entry in state["log_history"] if entry.get("synthetic_tokens")]
    return logged[-1]["synthetic_tokens"] // logged[-1]["step"] * state["global_step"] if logged else 0
