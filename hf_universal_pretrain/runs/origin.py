"""What the files beside a model's weights, in a folder or on the Hub, tell of its training."""

from collections.abc import Sequence
from typing import Any

from hf_universal_pretrain.hub import find_file
from hf_universal_pretrain.reading import load_json
from hf_universal_pretrain.runs.checkpoints import MARKER
from hf_universal_pretrain.runs.history import synthetic_tokens
from hf_universal_pretrain.runs.tables import RESULTS_FILE
from hf_universal_pretrain.stream.config import DATA_CONFIG_NAME


def trained_length(model: str) -> int | None:
    """Tokens in a row of a model's last training; None if nothing tells."""
    places: tuple[tuple[str, Sequence[str]], ...] = (
        (RESULTS_FILE, ["context_length"]),
        (MARKER, ["settings", "context_length"]),
        (DATA_CONFIG_NAME, ["context_length"]),
    )
    lengths = (_read(model, *place) for place in places)
    return next((length for length in lengths if isinstance(length, int) and length > 0), None)


def trained_tokens(model: str) -> int:
    """The synthetic tokens that a model or checkpoint was trained on; 0 if nothing tells."""
    state = _read(model, "trainer_state.json", [])
    try:
        return synthetic_tokens(state) if state else 0
    except (KeyError, TypeError, AttributeError, ZeroDivisionError):  # not the state of a run
        return 0


def told_printable(model: str) -> bool:
    """Whether a model has been trained on rows of printable tokens and on nothing else since."""
    return _read(model, DATA_CONFIG_NAME, ["tokens"]) == "printable"


def recipe_of(model: str) -> str | None:
    """The preset that a model was pretrained with; None if nothing tells."""
    return _read(model, DATA_CONFIG_NAME, ["recipe"]) or None


def _read(model: str, filename: str, path: Sequence[str]) -> Any:
    """A value in a JSON file; None if there is no such model, file or value."""
    try:
        file = find_file(model, filename)
        value: Any = load_json(file.read_text(encoding="utf-8")) if file else None
        for key in path:
            value = value[key]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return value
