"""The flags of the recipes, as their parsers have them when they come to read the command line."""

import json
import runpy
import sys
from argparse import Action
from typing import Any
from unittest.mock import patch

from transformers import HfArgumentParser, TrainingArguments

from tests.invariant.runs import MIDWAY, PINNED, ROOT


MODEL = str(PINNED / "run" / MIDWAY)
COMMANDS = {
    "pretrain.py": "--model gpt2",
    "pretrain.py, paper": "--model gpt2 --preset paper --per_device_train_batch_size 4",
    "pretrain.py, warm start": "--warm_start MODEL",
    "finetune.py": "--model MODEL",
    "finetune.py, from scratch": "--model MODEL --from_scratch",
    "finetune.py, attention": "--model MODEL --transfer attention",
    "evaluate.py": "--model MODEL",
    "inspect_data.py": "--output_dir DIR",
    "inspect_data.py, paper": "--output_dir DIR --preset paper",
    "export_dataset.py": "",
    "export_dataset.py, push": "--push_to_hub ORG/NAME",
    "compare.py": "--output_dir DIR --train_file FILE --arms {}",
}


class _Seen(BaseException):
    """The parser of a recipe, at the moment when it would read the command line; no recipe catches it."""


def _stop(parser: HfArgumentParser, *args: Any, **kwargs: Any) -> None:
    raise _Seen(parser)


def parser_of(recipe: str, words: list[str]) -> HfArgumentParser:
    """The parser of a recipe with the defaults that it has for a command line."""
    folder = str(ROOT / "recipes")
    with (
        patch.object(HfArgumentParser, "parse_args_into_dataclasses", _stop),
        patch("sys.argv", [recipe, *words]),
        patch("sys.path", [folder, *sys.path]),
    ):
        try:
            runpy.run_path(f"{folder}/{recipe}", run_name="__main__")
        except _Seen as seen:
            return seen.args[0]
    raise AssertionError(f"{recipe} does not use transformers' parser")


def flags(parser: HfArgumentParser) -> dict[str, Action]:
    return {action.option_strings[0]: action for action in parser._actions if action.dest != "help"}


def effective(name: str) -> dict[str, Any]:
    """Of a command its flags with their values where they are not given: `{"default"}`, or `{"required"}`, and
    `choices` where there are some.

    Where all flags of `transformers.TrainingArguments` are taken, which is then told, those that are as transformers
    has them are left out, since they change with its version.
    """
    words = COMMANDS[name].replace("MODEL", MODEL).split()
    mine, stock = flags(parser_of(name.split(",")[0], words)), flags(HfArgumentParser(TrainingArguments))
    trains = {action.dest for action in stock.values()} <= {action.dest for action in mine.values()}
    told: dict[str, Any] = {"(flags of TrainingArguments)": trains}
    for flag, action in mine.items():
        of_stock = trains and flag in stock
        if of_stock and action.default == stock[flag].default:
            continue
        told[flag] = {"required": True} if action.required else {"default": action.default}
        if flag == "--num_proc":  # one a core
            told[flag] = {}
        if action.choices and not of_stock:
            told[flag]["choices"] = list(action.choices)
    return json.loads(json.dumps(told, default=str).replace(MODEL, "MODEL"))


def all_flags() -> dict[str, Any]:
    return {name: effective(name) for name in COMMANDS}
