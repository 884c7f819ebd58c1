"""Reading what others wrote: files that are files, YAML and JSON that stay as small as they look."""

import json
import stat
from pathlib import Path
from typing import Any

import yaml


MOST_NODES = 100_000  # values in a file of settings, those that it repeats by reference counted each time


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a key stands once in a mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} is given twice", None)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def check_is_file(path: str | Path) -> None:
    """Refuses what reading may never come to the end of: pipes, devices, sockets.

    Raises:
        OSError: if there is no such file.
        ValueError: if it is something else than a file.
    """
    mode = Path(path).stat().st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "a device or a socket"
        raise ValueError(f"it is {kind}")


def load_yaml(text: str) -> Any:
    """What a YAML text says, without code.

    Raises:
        ValueError: if it is no YAML, has a key twice in a mapping, is nested too deep, or too large when written out.
    """
    try:
        # yaml's own safe_load, with another class for its loader
        content = yaml.load(text, Loader=_Loader)
        if _nodes(content, MOST_NODES) > MOST_NODES:
            raise ValueError(f"it has more than {MOST_NODES:,} values when what it refers to is written out")
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    return content


def load_json(text: str) -> Any:
    """What a JSON text says.

    Raises:
        ValueError: if it is no JSON, or nested too deep.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def _nodes(content: Any, most: int) -> int:
    """How many values there are in lists and mappings, counted up to `most` and a few."""
    if isinstance(content, dict):
        content = [*content, *content.values()]
    count = 1
    for value in content if isinstance(content, (list, tuple, set)) else ():
        count += _nodes(value, most - count)
        if count > most:
            break
    return count
