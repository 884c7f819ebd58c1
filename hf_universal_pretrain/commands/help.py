"""What `-h` prints: flags in groups, each with its docstring and the default that the command really has.

The help of a flag is the docstring under its field. Of `TrainingArguments` only the flags that a run is likely to need
are shown, unless all are asked for.
"""

import ast
import inspect
import re
import shutil
import textwrap
from argparse import Action, ArgumentParser
from collections.abc import Sequence
from dataclasses import fields

from transformers import TrainingArguments


# By group, the flags that it shows first. What is in none: of `TrainingArguments`, it is shown with `-h all`; of
# others, it stands under "this command".
GROUPS = {
    "this command": ("config", "preset", "recipe", "dry_run"),
    "model": (
        "model", "warm_start", "config_overrides", "tokenizer", "pad_vocab_multiple_of", "trust_remote_code",
        "from_scratch", "transfer", "embeddings", "rescale_norms", "vocabulary_first", "keep_optimizer",
    ),
    "machines": (
        "machines", "family", "complexity", "target_acceptance", "curriculum", "num_layers", "hidden_size",
        "embedding_scale", "gain_range", "gain_law", "temperature_range", "entropy_range", "own_symbols_range",
        "conditioning", "machines_per_round", "redraw_every",
    ),
    "data": (
        "train_file", "dataset", "text_column", "context_length", "alphabet_size", "alphabet", "tokens", "seed_length",
        "source_batch", "buffer_size", "rows_per_round", "reset_every", "num_resets", "burn_in_rounds", "sampling",
        "ablation", "stream_seed",
    ),
    "training": (
        "output_dir", "max_steps", "num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps",
        "learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "optim", "weight_decay",
        "adam_beta2", "max_grad_norm", "seed", "bf16", "torch_compile", "use_cpu", "logging_steps", "report_to",
        "save_strategy", "save_steps", "save_total_limit", "resume_from_checkpoint",
    ),
    "measuring": (
        "text", "eval_text", "eval_file", "windows", "eval_windows", "probes", "probe_windows", "eval_probes", "reach",
        "eval_strategy", "eval_steps", "eval_on_start", "batch_size", "per_device_eval_batch_size",
        "early_stopping_patience", "compare_with", "json",
    ),
    "Hub": ("push_to_hub", "hub_model_id", "hub_private_repo", "hub_strategy", "hub_token", "private", "license"),
}  # fmt: skip
MANY = 12  # choices that are still listed
_CONFIG = "YAML file of flags (without dashes), or the name of one that comes with the package; flags given here win."


def field_docs(cls: type) -> dict[str, str]:
    """The docstring under each field of a dataclass, its parents' included, in one line each."""
    docs: dict[str, str] = {}
    for owner in reversed(cls.__mro__[:-1]):
        (found,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        body = found.body if isinstance(found, ast.ClassDef) else []
        for field, below in zip(body, body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                docs[ast.unparse(field.target)] = " ".join(ast.literal_eval(below.value).split())
    return docs


def stock_docs() -> dict[str, str]:
    """The first sentence on each argument in the docstring of `TrainingArguments`."""
    argument = re.compile(r"^( +)(\w+) ?\(.*\):\n((?:\1 +\S.*\n?)+)", re.MULTILINE)  # its text is indented further
    found = argument.findall(inspect.getdoc(TrainingArguments) or "")
    return {name: re.split(r"(?<=[.])\s", " ".join(text.split()))[0] for _, name, text in found}


def help_text(
    parser: ArgumentParser, dataclasses: Sequence[type], description: str, required: list[Action], everything: bool
) -> str:
    """The text of `-h`.

    Args:
        parser: with a flag for each field, and the command's defaults set.
        dataclasses: whose fields the flags are.
        description: stands first, as it is.
        required: flags that have no default.
        everything: all flags of `TrainingArguments` too.
    """
    docs = {"config": _CONFIG, **stock_docs()}
    for cls in dataclasses:
        docs |= field_docs(cls)
    stock = {field.name for field in fields(TrainingArguments)}
    actions = {action.dest: action for action in reversed(parser._actions) if action.dest != "help"}
    groups = {title: [name for name in names if name in actions] for title, names in GROUPS.items()}
    placed = {name for names in groups.values() for name in names}
    groups["this command"] += [name for name in reversed(actions) if name not in placed | stock]
    if everything:
        groups["other training arguments"] = [name for name in reversed(actions) if name in stock - placed]
    lines = [description.strip(), ""]
    for title, names in groups.items():
        if names:
            lines += [f"{title}:", *(_flag(actions[n], docs.get(n, ""), actions[n] in required) for n in names), ""]
    more = [] if everything or not stock & actions.keys() else ["-h all shows all training arguments."]
    return "\n".join([*lines, *more]).rstrip()


def _flag(action: Action, text: str, required: bool) -> str:
    """A flag, its values and its default on a line, its help below."""
    choices = list(map(str, action.choices or ()))
    if 0 < len(choices) <= MANY:
        value = "{" + ",".join(choices) + "}"
    elif action.const is True:
        value = "[true|false]"
    else:
        value = "N" if action.type is int else "X" if action.type is float else "TEXT"
    default = " ".join(map(str, action.default)) if isinstance(action.default, list) else action.default
    told = "required" if required else "" if default in (None, "") else f"default: {default}"
    more = " ..." if action.nargs == "+" else ""
    head = f"  --{action.dest} {value}{more}" + (f"  ({told})" if told else "")
    width = min(100, shutil.get_terminal_size().columns)
    return "\n".join([head, *textwrap.wrap(text, width, initial_indent=" " * 6, subsequent_indent=" " * 6)])
