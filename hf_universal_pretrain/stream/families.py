"""From settings to families: which settings of the stream reach which families, and the settings of a single family.

The settings of a single family are texts such as `lstm.hidden_size=64`, and stand before those of the stream.
"""

import difflib
import math
from collections.abc import Collection, Mapping
from dataclasses import fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, cast, get_args, get_origin, get_type_hints

import torch

from hf_universal_pretrain.errors import first_line
from hf_universal_pretrain.machines import FAMILIES, MachineFamily, family_maker, is_own
from hf_universal_pretrain.machines.base import symbols_of
from hf_universal_pretrain.reading import load_yaml


if TYPE_CHECKING:
    from hf_universal_pretrain.stream.config import SyntheticUPConfig


_RECURRENT = ("lstm", "gru")
_ONE_MATRIX = ("rnn", "reservoir")
# Each setting of the stream that families take, and the families that take it.
REACHES: dict[str, Collection[str]] = {
    "alphabet_size": FAMILIES,
    "machines_per_round": (*_RECURRENT, *_ONE_MATRIX, "transformer", "two_clocks", "markov", "nca", "pcfg"),
    "num_layers": _RECURRENT,
    "hidden_size": _RECURRENT,
    "embedding_scale": _RECURRENT,
    "gain_range": _RECURRENT,
    "gain_law": _RECURRENT,
    "temperature_range": _RECURRENT,
    "entropy_range": (*_RECURRENT, *_ONE_MATRIX),
    "own_symbols_range": (*_RECURRENT, *_ONE_MATRIX),
    "conditioning": (*_RECURRENT, *_ONE_MATRIX),
}
# Fields that are no settings: a family's name decides them, or all families must have them alike.
_NO_SETTINGS = ("alphabet_size", "cell", "kind", "shuffled")


def build_family(name: str, config: "SyntheticUPConfig") -> MachineFamily:
    """Makes the family `name` with the settings of a stream that reach it, and with its own.

    Raises:
        ValueError: for a family of a file that was not loaded (see `machines.own`).
    """
    reached = {setting: getattr(config, setting) for setting in _reaching(name)}
    settings = {key: tuple(value) if isinstance(value, list) else value for key, value in reached.items()}
    return family_maker(name)(**settings | config.family_settings.get(name, {}))


def _reaching(name: str) -> list[str]:
    """The settings of the stream that reach a family; one from a file is reached by those that it has a field for."""
    if is_own(name):
        known = {field.name for field in fields(cast(Any, family_maker(name)))}
        return [setting for setting in REACHES if setting in known]
    return [setting for setting, names in REACHES.items() if name in names]


def family_texts(given: Any) -> list[str]:
    """Settings of single families as texts: `["lstm.hidden_size=64", "lstm.gain_range=1,4"]`.

    Args:
        given: a list of such texts, a mapping such as `{"lstm.hidden_size": 64, "lstm.gain_range": [1, 4]}`, or a list
            of mappings (or of such as text, which is what a YAML file's become on their way).

    Raises:
        ValueError: for anything else.
    """
    texts: list[str] = []
    for item in [given] if isinstance(given, Mapping) else given if isinstance(given, (list, tuple)) else [None]:
        if isinstance(item, str) and item.strip().startswith("{"):
            try:
                item = load_yaml(item)
            except ValueError:
                item = None
        if isinstance(item, Mapping):
            for key, value in item.items():
                words = value if isinstance(value, (list, tuple)) else [value]
                texts.append(f"{key}={','.join(map(str, words))}")
        elif isinstance(item, str):
            texts.append(item.strip())
        else:
            raise ValueError(f"family: settings are FAMILY.SETTING=VALUE, as in lstm.hidden_size=64, not {given!r}")
    return texts


def read_family_settings(texts: list[str]) -> dict[str, dict[str, Any]]:
    """Reads `["lstm.hidden_size=64", "nca.sides=4,6"]` as `{"lstm": {"hidden_size": 64}, "nca": {"sides": (4, 6)}}`.

    Raises:
        ValueError: for a family or a setting that there is not, one that is set twice, and a value that does not fit.
    """
    settings: dict[str, dict[str, Any]] = {}
    for text in texts:
        key, equals, value = (piece.strip() for piece in text.partition("="))
        name, dot, setting = key.rpartition(".")
        if not equals or not dot:
            raise ValueError(f"family: settings are FAMILY.SETTING=VALUE, as in lstm.hidden_size=64, not {text!r}")
        if name not in FAMILIES and not is_own(name):
            raise ValueError(f"family: unknown machine family {name!r}{_near(name, FAMILIES)}")
        made = family_maker(name)()
        hints = get_type_hints(type(made))
        types = {f.name: hints[f.name] for f in fields(made) if f.name not in _NO_SETTINGS}
        if setting == "alphabet_size":
            raise ValueError("family: alphabet_size is the same for all families: set it without a family's name")
        if setting not in types:
            raise ValueError(f"family: {name} has no setting {setting!r}{_near(setting, types)}")
        if setting in settings.setdefault(name, {}):
            raise ValueError(f"family: {name}.{setting} is set twice: leave out one")
        settings[name][setting] = _value(value, types[setting], f"{name}.{setting}")
    return settings


def _near(word: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}"


def _value(text: str, kind: Any, name: str) -> Any:
    """A text as a value of the type of a family's field.

    Raises:
        ValueError: if it is none. Numbers must be finite and not negative, and of two the lower comes first.
    """
    if get_origin(kind) is tuple:
        kinds, words = get_args(kind), [word.strip() for word in text.split(",")]
        if kinds[-1] is Ellipsis:
            return tuple(_value(word, kinds[0], name) for word in words)
        values = tuple(_value(word, each, name) for word, each in zip(words, kinds, strict=False))
        if len(words) != len(kinds) or list(values) != sorted(values):
            raise ValueError(f"family: {name} must be {len(kinds)} numbers, the lower first, as in 1,4, not {text!r}")
        return values
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise ValueError(f"family: {name} must be one of {', '.join(get_args(kind))}, not {text!r}")
        return text
    if kind is str:
        return text
    try:
        value = kind(text)
    except ValueError:
        value = -1
    if not 0 <= value < math.inf:
        number = "a whole number" if kind is int else "a number"
        raise ValueError(f"family: {name} must be {number} from 0 on, not {text!r}")
    return value


@lru_cache(maxsize=256)
def check_runs(name: str, family: MachineFamily) -> None:
    """Draws two machines of a family and has them write short rows, since what may be set is for the family to say.

    Raises:
        ValueError: if that fails.
    """
    generator = torch.Generator().manual_seed(0)
    conditions = torch.randint(family.alphabet_size, (2, 16), generator=generator)
    try:
        rows = symbols_of(family.draw(2, generator).generate(conditions[:, :4], conditions, generator))
    except Exception as error:
        raise ValueError(f"family: the settings of {name} make no rows ({first_line(error)}): change them") from error
    if rows.min() < 0 or rows.max() >= family.alphabet_size:
        raise ValueError(f"family: the settings of {name} make rows that are not of its alphabet: change them")
