"""Writes the generated parts of the documentation from the code that they tell of.

    python recipes/measure/pages.py          # writes them anew
    python recipes/measure/pages.py --check  # status 1 and the files' names if some are not as they would be written

A generated part stands in a Markdown file between `<!-- generated: NAME -->` and `<!-- end -->`; NAME is a function of
this file, with its arguments behind it. What stands around it is written by hand.
"""

import ast
import contextlib
import dataclasses
import importlib
import inspect
import json
import re
import shlex
import sys
from argparse import Action
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from transformers import TrainingArguments

from hf_universal_pretrain import SyntheticUPConfig, UPConfig
from hf_universal_pretrain.cli import COMMANDS
from hf_universal_pretrain.commands import arguments
from hf_universal_pretrain.commands.help import GROUPS, field_docs, stock_docs
from hf_universal_pretrain.machines import FAMILIES
from hf_universal_pretrain.runs.comparison import told_bits
from hf_universal_pretrain.stream.families import REACHES, build_family
from hf_universal_pretrain.stream.presets import taken_of
from hf_universal_pretrain.stream.published import ONCE, PUBLISHED


ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "hf_universal_pretrain"
PAGES = [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PART = re.compile(r"(<!-- generated: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
# the rooms, highest first
ROOMS = ("commands", "training", "runs", "stream", "evaluation", "models", "machines")


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def results(name: str) -> Any:
    """A file of `recipes/results`."""
    return json.loads((ROOT / "recipes" / "results" / f"{name}.json").read_text(encoding="utf-8"))


def first_paragraph(docstring: str | None) -> str:
    return " ".join((docstring or "").split("\n\n")[0].split())


# ---- The tour of CONTRIBUTING.md ----


def tour() -> str:
    """Every file of the package with the first paragraph of its docstring, room by room."""
    rows = []
    for room in ("", *ROOMS):
        files = sorted((PACKAGE / room).glob("*.py")) + sorted((PACKAGE / room / "zoo").glob("*.py"))
        for path in files if room else [PACKAGE / name for name in ("cli.py", "hub.py", "text.py", "errors.py")]:
            told = first_paragraph(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))))
            name = path.relative_to(PACKAGE).as_posix()
            if path.name == "__init__.py":
                name = f"**{name.removesuffix('__init__.py')}**"
                rows.insert(len(rows) - sum(f"`{room}/" in row[0] for row in rows), [name, told])
            else:
                rows.append([f"`{name}`", told])
    return table(["", ""], rows)


# ---- Machine families ----


def described_arguments(docstring: str) -> dict[str, str]:
    """The entries of `Args:` in a docstring."""
    part = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", inspect.cleandoc(docstring), re.DOTALL | re.MULTILINE)
    found = re.findall(r"^ {4}(\w+): (.*?)(?=^ {4}\w|\Z)", part.group(1) if part else "", re.DOTALL | re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def sourced(text: str) -> str:
    """arXiv numbers as links."""
    return re.sub(r"arXiv (\d{4}\.\d{5})", r"[arXiv \1](https://arxiv.org/abs/\1)", text)


def of_class(cls: type) -> list[str]:
    """The paragraphs on a family in the docstrings of its file and its class, without what readers of code need."""
    of_file = (sys.modules[cls.__module__].__doc__ or "").strip().split("\n\n")
    of_family = (inspect.getdoc(cls) or "").split("\nArgs:")[0].strip().split("\n\n")
    told = [*(of_file if len(of_file) > 1 else []), *of_family]
    if len(of_file) > 1 and len(of_family) == 1:  # which says less than the file
        told = of_file
    skipped = ("Shape suffixes", "What makes it quick")
    return [
        part.strip("\n") if part.startswith(" ") else " ".join(part.split())
        for part in told
        if not part.startswith(skipped)
    ]


def shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join(shown(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def families() -> str:
    """Each class of families: what its docstrings say, pictures of rows, settings with their values."""
    parts = []
    made = {name: build_family(name, SyntheticUPConfig()) for name in FAMILIES}
    for cls in dict.fromkeys(type(family) for family in made.values()):
        same = {name: family for name, family in made.items() if type(family) is cls}
        parts += [f"### {', '.join(f'`{name}`' for name in same)}", ""]
        for paragraph in of_class(cls):
            parts += [paragraph if paragraph.startswith(" ") else sourced(paragraph), ""]
        if cls.reads_condition:
            parts += ["It reads its condition: a row of the buffer goes in, and a deeper one comes out.", ""]
        for name in same:
            parts += [f"![Rows of {name}](images/families/{name}.png)", ""]
        rows = []
        for argument, text in described_arguments(inspect.getdoc(cls) or "").items():
            values = dict.fromkeys(shown(getattr(family, argument)) for family in same.values())
            reached = set(same) <= set(REACHES.get(argument, ()))
            flag = f"`{argument}` (`--{argument}`)" if reached else f"`{argument}`"
            rows.append([flag, ", ".join(f"`{value}`" for value in values), sourced(text)])
        if rows:
            parts += [
                table(["setting", f"value ({', '.join(same)})" if len(same) > 1 else "value", "what it is"], rows),
                "",
            ]
    return "\n".join(parts).rstrip()


def family_names() -> str:
    """The families in a line."""
    return ", ".join(f"`{name}`" for name in FAMILIES)


# ---- Published recipes ----


def published() -> str:
    """Each recipe with what its docstring tells, the presets of it, and what these set."""
    by_recipe: dict[str, list[str]] = {}
    for name, recipe in PUBLISHED.items():
        by_recipe.setdefault(inspect.getdoc(getattr(recipe, "func", recipe)) or "", []).append(name)
    rows = []
    for told, names in by_recipe.items():
        paragraphs = [" ".join(part.split()) for part in told.split("\n\n")]
        parts = {head: text for head, _, text in (part.partition(": ") for part in paragraphs)}
        settings = PUBLISHED[names[0]](1000, 8)
        own = {key: value for key, value in settings.items() if key != "family" and ONCE.get(key) != value}
        sets = [*(f"{key}={shown(value)}" for key, value in own.items()), *settings.get("family", [])]
        take, embeddings = taken_of(names[0])
        sets.append(f"--transfer {take} --embeddings {embeddings}")
        rows.append(
            [
                ", ".join(f"`{name}`" for name in names),
                sourced(paragraphs[0]),
                sourced(parts["Source"]),
                sourced(parts["Known"]),
                "<br>".join(f"`{each}`" for each in sets),
                parts["Ours differs"],
            ]
        )
    return table(["preset", "what it is", "source", "what is known", "what it sets", "where ours differs"], rows)


def published_measured() -> str:
    """The arms of the comparisons of published recipes, those with the lowest bits on English first."""
    texts = [results(name)["arms"] for name in ("published", "published_python")]
    order = sorted(texts[0], key=lambda name: mean(texts[0][name]["final"].values()))
    rows = [[f"`{name}`", *(cell for arms in texts for cell in told_bits(arms[name]))] for name in order]
    less = "less scratch (95 %)"
    return table(["before the real text", "English, bits (seeds)", less, "Python, bits (seeds)", less], rows)


# ---- Settings ----

EXAMPLES = {  # a command line without which a command has no defaults to tell
    "pretrain": "--model gpt2", "finetune": "--model MODEL", "evaluate": "--model MODEL",
    "inspect": "--output_dir DIR", "export": "", "compare": "",
}  # fmt: skip


def flags_of(command: str) -> tuple[dict[str, Action], dict[str, str], set[str]]:
    """The flags of a command with the defaults that it has, what their docstrings say, and those that are required."""
    seen: dict[str, Any] = {}

    def look(parser: Any, dataclasses: Any, description: str, required: list[Action], everything: bool) -> str:
        seen.update(parser=parser, dataclasses=dataclasses, required={action.dest for action in required})
        return ""

    module = importlib.import_module(f"hf_universal_pretrain.commands.{command}")
    argv = ["hf-up", "-h", *shlex.split(EXAMPLES[command])]
    with TemporaryDirectory() as folder, contextlib.chdir(folder), contextlib.suppress(SystemExit):
        (Path(folder) / "MODEL").mkdir()  # where there is no such folder, the Hub is asked
        with patch.object(arguments, "help_text", look), patch("sys.argv", argv), patch("builtins.print"):
            module.main()
    docs: dict[str, str] = {}
    for cls in seen["dataclasses"]:
        docs |= field_docs(cls)
    actions = {action.dest: action for action in seen["parser"]._actions if action.dest not in ("help", "config")}
    return actions, docs, seen["required"]


def default_of(action: Action, required: bool) -> str:
    value = " ".join(map(str, action.default)) if isinstance(action.default, list) else action.default
    if action.dest == "num_proc":
        value = "one a core"
    return "*required*" if required else "" if value in (None, "") else f"`{value}`"


def settings() -> str:
    """All flags of this package and the training arguments that `-h` shows, in its groups."""
    commands = {command: flags_of(command) for command in COMMANDS}
    ours = {name for _, docs, _ in commands.values() for name in docs}
    stock = {field.name for field in dataclasses.fields(TrainingArguments)}
    from_stock = stock_docs() | field_docs(UPConfig)
    groups = {title: [name for name in names if name != "config"] for title, names in GROUPS.items()}
    placed = {name for names in groups.values() for name in names}
    for actions, docs, _ in commands.values():
        for name in actions:
            if name in docs and name not in placed | stock | set(groups["this command"]):
                groups["this command"].append(name)
    groups["one command alone"] = groups.pop("this command")
    parts = []
    for title, names in groups.items():
        rows = []
        for name in names:
            holders = {c: (a[name], d.get(name, ""), name in r) for c, (a, d, r) in commands.items() if name in a}
            by_text: dict[tuple[str, str], list[str]] = {}
            for command, (action, text, required) in holders.items():
                text = text or from_stock.get(name) or "?"
                choices = [str(choice) for choice in action.choices or ()]
                if name in ours and 1 < len(choices) <= 12 and not all(f"'{choice}'" in text for choice in choices):
                    text = f"{text} One of {', '.join(f'`{choice}`' for choice in choices)}."
                by_text.setdefault((default_of(action, required), text), []).append(command)
            for (default, text), those in by_text.items():
                rows.append([f"`--{name}`", default, text, ", ".join(those)])
        if rows:
            parts += [
                f"## {title[0].upper() + title[1:]}",
                "",
                table(["flag", "default", "what it does", "commands"], rows),
                "",
            ]
    return "\n".join(parts).rstrip()


# ---- Architectures ----


def architectures() -> str:
    """The table of recipes/results/architectures.json."""
    found = results("architectures")
    counts, entries = found["counts"], found["architectures"]
    inexact = [f"`{n}` ({e['resume']})" for n, e in entries.items() if e.get("resumes_exactly") is False]
    told = (
        f"Of the {len(entries)} names of transformers {found['transformers']}, **{counts['works']} work, "
        f"{counts['needs a flag']} need a flag, {counts['cannot']} cannot, {counts['fails']} break a promise.** "
        f"{counts['resumes exactly']} resume exactly{'; not ' if inexact else ''}{', '.join(inexact)}."
    )
    parts = [told, ""]
    flags = [[f"`{n}`", f"`{e['flag']}`"] for n, e in entries.items() if e["status"] == "needs a flag"]
    parts += ["## Need a flag", "", table(["architecture", "flag"], flags), ""]
    for status, title in (("cannot", "Cannot"), ("fails", "Break a promise")):
        rows = [[f"`{n}`", " ".join(e["reason"].split())[:300]] for n, e in entries.items() if e["status"] == status]
        parts += [f"## {title}", "", table(["architecture", "what it says"], rows), ""]
    works = [[f"`{n}`", e["class"], f"{e['default_parameters']:,}"] for n, e in entries.items() if "class" in e]
    head = ["architecture", "class", "weights of its default configuration, byte tokenizer"]
    return "\n".join([*parts, "## Work", "", table(head, works)])


# ---- README.md ----


def status() -> str:
    """The status box, which stands in README.md."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    part = re.search(r"<!-- part: status -->\n(.*?)\n<!-- end -->", text, re.DOTALL)
    return part[1].replace("](docs/", "](") if part else ""


# ---- The files ----

PARTS: dict[str, Callable[..., str]] = {
    "tour": tour, "families": families, "family_names": family_names, "settings": settings, "published": published,
    "published_measured": published_measured, "architectures": architectures, "status": status,
}  # fmt: skip


def written(text: str) -> str:
    """A page with its generated parts as they are now."""
    return PART.sub(lambda found: f"{found[1]}{PARTS[found[2]]()}\n{found[3]}", text)


def main() -> None:
    stale = []
    for path in PAGES:
        before = path.read_text(encoding="utf-8")
        after = written(before)
        if after != before:
            stale.append(path.relative_to(ROOT).as_posix())
            if "--check" not in sys.argv:
                path.write_text(after, encoding="utf-8")
    if "--check" in sys.argv and stale:
        sys.exit(f"not as they would be written (python recipes/measure/pages.py): {', '.join(stale)}")
    print(f"Written anew: {', '.join(stale) or 'nothing'}")


if __name__ == "__main__":
    main()
