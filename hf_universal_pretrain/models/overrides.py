"""Changes to a configuration, as in `num_hidden_layers=2,rope_parameters.rope_theta=1e6`.

A configuration is made anew *with* the changes, not changed afterwards: what its class works out from other settings
(one entry of `layer_types` a layer, the width of a head) follows them, and what does not go together is refused.
"""

import copy
import dataclasses
import difflib
import inspect
import json
import re
import sys
import types
import typing
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from hf_universal_pretrain.limits import TooLarge
from hf_universal_pretrain.models.sizes import check_counts


FORM = 'the form is n_layer=2,n_embd=128 (lists as JSON: layer_types=["full_attention","conv"])'
_BOOLEANS = {"true": True, "yes": True, "y": True, "1": True, "false": False, "no": False, "n": False, "0": False}


def override(config: PreTrainedConfig, overrides: str) -> PreTrainedConfig:
    """The configuration that `config` would be, had it been made with some settings.

    Args:
        config: of any architecture; not changed.
        overrides: `NAME=VALUE`, separated by commas. Values have the type that the class declares; lists and mappings
            are JSON. Of a model that also sees or hears, names are those of the language model. A dot leads into a
            part (`text_config.hidden_size`) or a mapping (`rope_parameters.rope_theta`).

    Raises:
        ValueError: if there is no such setting, the value is of another type, or settings do not go together.
    """
    try:
        changes: dict[str, Any] = {}
        for name, text in _split(overrides):
            _put(changes, config, _path(config, name), text)
        check_counts(changes, "--config_overrides")
        return remake(config, changes)
    except TooLarge:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, ZeroDivisionError, StrictDataclassError) as error:
        said = " ".join(str(error).split())[:300]
        raise ValueError(f"--config_overrides {overrides!r}: {said}; {FORM}") from error


def remake(config: PreTrainedConfig, changes: dict[str, Any]) -> PreTrainedConfig:
    """A configuration made anew with other settings.

    Args:
        config: not changed.
        changes: settings by name; for a part that is a configuration of its own, a mapping of its settings.

    Raises:
        ValueError: if a number or a word that was asked for is not what the configuration then has.
    """
    given = explicit_settings(config)
    for name, value in changes.items():
        part = getattr(config, name, None)
        if isinstance(part, PreTrainedConfig):
            given[name] = remake(part, value).to_dict()
        else:
            for other in _names(config, name):
                given.pop(other, None)
            given[name] = value
    made = type(config)(**copy.deepcopy(given))
    for name, value in changes.items():
        if isinstance(value, (bool, int, float, str)) and getattr(made, name, None) != value:
            raise ValueError(f"{name} would be {getattr(made, name, None)!r} because of other settings, not {value!r}")
    return made


def explicit_settings(config: PreTrainedConfig) -> dict[str, Any]:
    """The fewest settings that make a configuration: all that its class would not work out from the others by itself,
    or have by default."""
    cls, whole = type(config), config.to_dict()
    given = whole
    for names in (list(whole), *([name] for name in whole)):
        fewer = {name: value for name, value in given.items() if name not in names}
        try:
            if cls(**copy.deepcopy(fewer)).to_dict() == whole:
                given = fewer
        except Exception:  # whatever a class says of what is missing: then it is needed
            continue
    return copy.deepcopy(given)


def text_part(config: PreTrainedConfig) -> PreTrainedConfig:
    """The configuration of the language model in that of a model which also sees or hears; else `config` itself."""
    name = _text_name(config)
    part: PreTrainedConfig = getattr(config, name) if name else config
    return part


def _text_name(config: PreTrainedConfig) -> str | None:
    names = ("text_config", "decoder")
    return next((name for name in names if isinstance(getattr(config, name, None), PreTrainedConfig)), None)


def _split(overrides: str) -> list[tuple[str, str]]:
    """Names and values; commas inside brackets and quotes do not separate."""
    words, depth, quoted = [""], 0, False
    for character in overrides:
        quoted ^= character == '"' and depth > 0
        if not quoted:
            depth += (character in "[{") - (character in "]}")
        if character == "," and depth == 0:
            words.append("")
        else:
            words[-1] += character
    pairs = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.strip():
            raise ValueError(f"{word!r} is not NAME=VALUE")
        pairs.append((name.strip(), value.strip()))
    return pairs


def _path(config: PreTrainedConfig, name: str) -> list[str]:
    """The way to a setting: from the configuration itself if it starts there, else from the part for text."""
    path, text = name.split("."), _text_name(config)
    if text is None or (len(path) > 1 and isinstance(getattr(config, path[0], None), (PreTrainedConfig, dict))):
        return path
    part = getattr(config, text)
    return [text, *path] if _is_setting(part, path[0]) or not _is_setting(config, path[0]) else path


def _put(changes: dict[str, Any], config: PreTrainedConfig, path: list[str], text: str) -> None:
    name, *rest = path
    if not _is_setting(config, name):
        near = difflib.get_close_matches(name, [field.name for field in dataclasses.fields(config)], 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{config.model_type!r} has no setting {name!r}{hint}")
    value = getattr(config, name, None)
    if not rest:
        if name in changes:
            raise ValueError(f"{name} is given twice")
        changes[name] = _parse(name, text, _kinds(config, name))
    elif isinstance(value, PreTrainedConfig):
        _put(changes.setdefault(name, {}), value, rest, text)
    elif isinstance(value, dict):
        inner = changes.setdefault(name, copy.deepcopy(value))
        for key in rest[:-1]:
            inner = inner[key]
        old = inner.get(rest[-1])
        inner[rest[-1]] = _parse(".".join(path), text, set() if old is None else {type(old)})
    else:
        raise ValueError(f"{name} has no parts")


def _is_setting(config: PreTrainedConfig, name: str) -> bool:
    """Whether an architecture has a setting: declared, there by default, or read by the code of the model."""
    declared = {field.name for field in dataclasses.fields(config)} | vars(config).keys() | config.attribute_map.keys()
    if name in declared and not name.startswith("_"):
        return True
    model: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if model is None or not name.isidentifier():
        return False
    module = (model[0] if isinstance(model, tuple) else model).__module__
    read = rf'config\.{name}\b|getattr\(\s*(\w+\.)*config,\s*"{name}"'
    return re.search(read, inspect.getsource(sys.modules[module])) is not None


def _names(config: PreTrainedConfig, name: str) -> set[str]:
    """All names of a setting: some classes have one under several."""
    real = config.attribute_map.get(name, name)
    return {name, real, *(alias for alias, target in config.attribute_map.items() if target == real)}


def _kinds(config: PreTrainedConfig, name: str) -> set[Any]:
    """The types that a setting is declared with; that of its value where it is not; none where nothing is known."""
    declared = typing.get_type_hints(type(config), localns={"torch": torch})
    hint = next((declared[n] for n in (name, *sorted(_names(config, name))) if n in declared), None)
    value = getattr(config, name, None)
    return _flat(hint) if hint is not None else set() if value is None else {type(value)}


def _flat(hint: Any) -> set[Any]:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return set().union(*(_flat(part) for part in typing.get_args(hint)))
    if origin is typing.Literal:
        return {type(value) for value in typing.get_args(hint)}
    return {origin or hint}


def _parse(name: str, text: str, kinds: set[Any]) -> Any:
    """A value from its text, of the first type that it may have and fits."""
    unknown = not kinds or Any in kinds or kinds == {type(None)}
    if text.lower() in ("none", "null") and (unknown or type(None) in kinds):
        return None
    if text[:1] in ("[", "{") and (unknown or kinds - {bool, int, float, str, type(None)}):
        try:
            return json.loads(text)
        except ValueError as error:
            raise ValueError(f"{name}: {text} is no JSON ({error})") from error
    if bool in kinds or unknown and text.lower() in ("true", "false"):
        if text.lower() in _BOOLEANS:
            return _BOOLEANS[text.lower()]
    for kind in (int, float):
        if unknown or kind in kinds:
            try:
                return kind(text)
            except ValueError:
                continue
    if unknown or str in kinds or torch.dtype in kinds:
        return text
    wanted = " or ".join(sorted(getattr(kind, "__name__", str(kind)) for kind in kinds - {type(None)}))
    raise ValueError(f"{name} takes {wanted}, not {text!r}")
