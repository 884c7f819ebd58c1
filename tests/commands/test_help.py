import dataclasses
import os
import re
import subprocess
import sys

import pytest

from hf_universal_pretrain import SyntheticUPConfig, UPConfig
from hf_universal_pretrain.cli import COMMANDS, overview
from hf_universal_pretrain.commands import compare, evaluate, export, finetune, help, inspect, pretrain
from hf_universal_pretrain.evaluation import PROBES
from hf_universal_pretrain.machines import FAMILIES


MODULES = {
    "pretrain": pretrain, "finetune": finetune, "evaluate": evaluate, "inspect": inspect, "export": export,
    "compare": compare,
}  # fmt: skip


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """What a command prints with `-h`."""

    def show(command: str, *flags: str) -> str:
        monkeypatch.setattr("sys.argv", [f"hf-up {command}", *flags])
        with pytest.raises(SystemExit) as ended:
            MODULES[command].main()
        assert ended.value.code == 0
        return capsys.readouterr().out

    return show


def test_each_command_is_in_the_overview() -> None:
    assert COMMANDS.keys() == MODULES.keys()
    assert all(f"  {name} " in overview() for name in COMMANDS)


@pytest.mark.parametrize("command", MODULES)
def test_each_flag_of_ours_stands_once_with_a_help(command: str, shown) -> None:
    text = shown(command, "-h")
    types = [MODULES[command].ScriptArguments]
    types += [SyntheticUPConfig] if command in ("pretrain", "inspect", "export") else []
    for cls in types:
        docs = help.field_docs(cls)
        for field in (field for field in dataclasses.fields(cls) if field.init):
            assert len(docs.get(field.name, "")) > 15, field.name
            assert len(re.findall(rf"^  --{field.name} ", text, re.MULTILINE)) == 1, field.name


def test_a_reader_that_has_had_enough_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)  # as `head` leaves it
    command = [sys.executable, "-m", "hf_universal_pretrain", "inspect", "-h"]
    ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_defaults_are_those_of_the_command(shown) -> None:
    text = shown("finetune", "-h")
    assert "--learning_rate X  (default: 0.001)" in text and "--model TEXT  (required)" in text
    assert "--output_dir TEXT  (default: out/gpt2)" in shown("pretrain", "-h", "--model", "gpt2")


def test_stock_arguments_are_shown_when_asked_for(shown) -> None:
    few, all_of_them = shown("pretrain", "-h"), shown("pretrain", "-h", "all")
    assert "--neftune_noise_alpha" not in few and "--neftune_noise_alpha" in all_of_them
    for field in dataclasses.fields(UPConfig):
        assert not field.init or f"  --{field.name} " in all_of_them, field.name


@pytest.mark.parametrize("command", MODULES)
def test_lines_of_an_example_stay_lines(command: str, shown) -> None:
    """A command that goes on over lines does so in the help, with a backslash between them."""
    assert [line for line in shown(command, "-h").splitlines() if re.search(r"\S {3,}--", line)] == []


def test_the_help_of_stock_arguments_is_not_cut_off() -> None:
    """Sentences that go on over lines in the docstring end in the help, too."""
    docs = help.stock_docs()
    assert len(docs) > 100
    assert [name for name, text in docs.items() if not text.endswith(".")] == []


def test_help_texts_name_all_families_and_probes() -> None:
    machines = help.field_docs(SyntheticUPConfig)["machines"]
    assert set(FAMILIES) <= set(re.findall(r"\w+", machines.partition("Families:")[2]))
    for text in (
        help.field_docs(pretrain.ScriptArguments)["eval_probes"],
        help.field_docs(evaluate.ScriptArguments)["probes"],
    ):
        assert set(PROBES) <= set(re.findall(r"[\w-]+", text))
