"""Command lines: flags from dataclasses, defaults from YAML, one line and status 2 for wrong use."""

import difflib
import json
import math
import os
import sys
from argparse import Action, ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, cast

from transformers import HfArgumentParser, TrainingArguments

from hf_universal_pretrain.commands.endings import exit_with_usage_error, usage_errors
from hf_universal_pretrain.commands.help import help_text
from hf_universal_pretrain.limits import fits_64_bits
from hf_universal_pretrain.machines import load_family
from hf_universal_pretrain.masking import mask_command
from hf_universal_pretrain.reading import check_is_file, load_json, load_yaml


class _Parser(HfArgumentParser):
    def error(self, message: str) -> NoReturn:
        exit_with_usage_error(message)


def parse_args(
    dataclasses: Sequence[type],
    description: str,
    defaults: Callable[[Namespace], dict[str, Any]],
    argv: list[str] | None = None,
) -> tuple[Any, ...]:
    """Fills dataclasses from `--config FILE.yaml` and the command line; the command line wins.

    `-h` prints the flags in groups with the defaults that this command really has, and ends with status 0.

    Args:
        dataclasses: whose fields become flags.
        description: for `-h`.
        defaults: gives the defaults of this command where they differ from those of the dataclasses. Since some
            depend on others, it is shown what has been asked for: all flags with their values, and under `given` the
            set of those that are not left to their defaults.
        argv: the command line, without the program; `sys.argv[1:]` by default.
    """
    parser = _Parser(cast(Any, dataclasses), allow_abbrev=False, add_help=False)
    parser.add_argument("--config")
    parser.add_argument("-h", "--help", nargs="?", const="some", choices=["some", "all"])
    argv = sys.argv[1:] if argv is None else argv
    with usage_errors():
        # two looks before the real one: at --config and -h, and at what the defaults depend on
        first = ArgumentParser(add_help=False, allow_abbrev=False)
        first.add_argument("--config")
        first.add_argument("-h", "--help", nargs="?", const="some")
        looked_at = first.parse_known_args(argv)[0]
        flags, emptied = _flags_from_yaml(config_file(looked_at.config), parser) if looked_at.config else ([], {})
        _check_given_once(argv)
        words = _with_own_families([*flags, *argv])
        required = _waive_required(parser) if looked_at.help else []
        asked = parser.parse_known_args(words)[0]
        _check_json(asked)
        _check_64_bits(asked)
        asked.given = {word[2:].partition("=")[0].replace("-", "_") for word in words if word.startswith("--")}
        parser.set_defaults(**defaults(asked) | emptied)
        if looked_at.help:
            _print_help(help_text(parser, dataclasses, description, required, everything=looked_at.help == "all"))
            raise SystemExit(0)
        try:
            *parsed, _ = parser.parse_args_into_dataclasses(words, look_for_args_file=False)
        except OverflowError as error:
            endless = [name for name, value in vars(asked).items() if isinstance(value, float) and math.isinf(value)]
            raise ValueError(f"--{', --'.join(endless)} must be finite ({error})") from error
        except OSError as error:  # flags of transformers that take JSON, or the name of a file that holds it
            named = [name for name, value in vars(asked).items() if value == error.filename]
            raise ValueError(f"--{', --'.join(named)}: cannot read {error.filename} ({error.strerror})") from error
    return tuple(parsed)


def _print_help(text: str) -> None:
    """Prints a long text; that its reader, `head` or a pager, has had enough of it is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python's last flush fails, and says so


def told_command(name: str) -> str:
    """The command line of this process as results tell it: no secrets, paths relative to where it ran."""
    return mask_command(relative_paths(["hf-up", name, *sys.argv[1:]]))


def relative_paths(value: Any) -> Any:
    """A value, as JSON has it, with each path of this machine (`NAME=PATH` too) relative to where the command runs."""
    if isinstance(value, dict):
        return {relative_paths(key): relative_paths(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [relative_paths(inner) for inner in value]
    start, equals, path = value.rpartition("=") if isinstance(value, str) else ("", "", "")
    return f"{start}{equals}{os.path.relpath(path)}" if os.path.isabs(path) and os.path.exists(path) else value


def _with_own_families(words: list[str]) -> list[str]:
    """A command line after the files that it names for machine families were run, with their digests. Only what stands
    here is: not what a model's folder or repository says of its data."""
    flag, loaded = "", []
    for word in words:
        start, equals, value = word.partition("=")
        flag = start if word.startswith("--") else flag
        if flag not in ("--machines", "--curriculum", "--family"):
            loaded.append(word)
        elif word.startswith("--"):
            loaded.append(f"{start}={load_family(value)}" if equals else word)
        else:
            loaded.append(load_family(word))
    return loaded


def config_file(name: str) -> Path:
    """The YAML file that `--config` names: a path, or the name of one that travels with the package (`quickstart`).

    Raises:
        ValueError: if there is neither.
    """
    if Path(name).exists() or Path(name).suffix:
        return Path(name)
    package = Path(__file__).parents[1]
    folders = [package / "configs", package.parent / "recipes" / "configs"]  # of a wheel, of a checkout
    known = sorted({file.stem: file for folder in folders for file in folder.glob("*.yaml")}.items())
    for stem, file in known:
        if stem == name:
            return file
    raise ValueError(f"--config: there is no file {name}, and none of that name among {', '.join(dict(known))}")


def _waive_required(parser: ArgumentParser) -> list[Action]:
    """Makes every flag optional, with its name in capitals for a value; returns those that were required."""
    required = [action for action in parser._actions if action.required]
    for action in required:
        action.required = False
        action.default = [action.dest.upper()] if action.nargs == "+" else action.dest.upper()
    return required


def _check_given_once(argv: Sequence[str]) -> None:
    """argparse takes the last value of a flag, and says nothing of the others."""
    names = [word.partition("=")[0].replace("-", "_") for word in argv if word.startswith("--")]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(
            f"--{twice[2:]} is given twice: leave out one (a flag that takes several values is given once)"
        )


def _check_json(asked: Namespace) -> None:
    """transformers reads these flags too, but does not say which of them is broken."""
    for name in TrainingArguments._VALID_DICT_FIELDS:
        value = getattr(asked, name, None)
        if isinstance(value, str) and value.startswith("{"):
            try:
                load_json(value)
            except ValueError as error:
                raise ValueError(f"--{name}: {value} is no JSON ({error})") from error


def _check_64_bits(asked: Namespace) -> None:
    """Before anything is worked out from them."""
    for name, value in vars(asked).items():
        if not fits_64_bits(value):
            raise ValueError(f"--{name}: a number of more than 64 bits: make it smaller")


def _flags_from_yaml(path: Path, parser: ArgumentParser) -> tuple[list[str], dict[str, list[Any]]]:
    """A YAML mapping as command-line words, so that a file's values are converted and checked as the flags are.

    Returns:
        The words; and the empty lists of flags that may be empty, for which a command line has no word.
    """
    known = {action.dest for action in parser._actions}
    try:
        check_is_file(path)
        settings = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"--config: cannot read {path} as YAML ({error})") from error
    if not isinstance(settings, dict):
        raise ValueError(f"--config: {path} must hold flags and their values, as in 'max_steps: 1000'")
    flags, emptied = [], {}
    for key, value in settings.items():
        if key not in known - {"config", "help"}:
            near = difflib.get_close_matches(str(key), known, 1)
            raise ValueError(
                f"--config: {path}: unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else "")
            )
        if value == [] and parser.get_default(key) == []:
            emptied[key] = value
        elif isinstance(value, list):
            flags += [f"--{key}", *(json.dumps(item) if isinstance(item, dict) else str(item) for item in value)]
        elif value is not None:
            flags.append(f"--{key}={json.dumps(value) if isinstance(value, dict) else value}")
    return flags, emptied
