"""What pyproject.toml says of the package is so."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import hf_universal_pretrain
from tests.conftest import ROOT


PACKAGE = ROOT / "hf_universal_pretrain"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MODULES = {"yaml": "pyyaml", "huggingface_hub": "huggingface-hub"}  # whose distribution has another name
NOT_IMPORTED = {"accelerate", "zstandard"}  # what transformers' Trainer and datasets cannot do without


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """The top-level modules that a file imports, and whether at the top of the file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        yield from ((name.split(".")[0], node in tree.body) for name in names)


def distribution(requirement: str) -> str:
    return re.split(r"[<>=!~\[ ;]", requirement)[0]


def test_dependencies_are_what_is_imported() -> None:
    imported = {name for path in PACKAGE.rglob("*.py") for name, _ in imports(path)}
    others = imported - set(sys.stdlib_module_names) - {"hf_universal_pretrain"}
    declared = {distribution(requirement) for requirement in PROJECT["dependencies"]}
    assert {MODULES.get(name, name) for name in others} == declared - NOT_IMPORTED


@pytest.mark.parametrize("module", ["resource", "fcntl", "pwd", "grp", "termios"])
def test_nothing_that_windows_lacks_is_imported_at_the_top(module: str) -> None:
    assert not [path for path in PACKAGE.rglob("*.py") if (module, True) in imports(path)]


def test_the_oldest_versions_are_the_lower_bounds() -> None:
    lines = (ROOT / "constraints-oldest.txt").read_text(encoding="utf-8").splitlines()
    oldest = dict(line.split("==") for line in lines if not line.startswith("#"))
    for requirement in PROJECT["dependencies"]:
        name, bound = distribution(requirement), re.search(r">=([\d.]+)", requirement).group(1)
        assert (oldest[name] + ".").startswith(bound + "."), requirement


def test_constraints_are_within_the_bounds() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    tested = dict(line.split("==") for line in lines if not line.startswith("#"))
    for requirement in PROJECT["dependencies"]:
        lower, upper = (re.search(rf"{sign}([\d.]+)", requirement) for sign in (">=", "<"))
        version = [int(part) for part in tested[distribution(requirement)].split(".")]
        assert [int(part) for part in lower.group(1).split(".")] <= version
        assert upper is None or version < [int(part) for part in upper.group(1).split(".")]


def test_the_version_stands_in_one_place() -> None:
    version = hf_universal_pretrain.__version__
    files = ["pyproject.toml", "setup.py", "CITATION.cff", "README.md"]
    assert PROJECT["dynamic"] == ["version"] and not [f for f in files if version in (ROOT / f).read_text()]


def test_importing_draws_nothing() -> None:
    """Whoever imports the package keeps the backend of matplotlib that they have chosen."""
    code = "import hf_universal_pretrain, sys; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
