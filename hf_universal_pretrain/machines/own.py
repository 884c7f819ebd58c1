"""Families from a file of the user's own, named as `my_family.py:MyFamily`.

Such a file is a program. It is run only by `load_family`, which the commands call for what stands on their command
line or in the YAML file given there. Reading a configuration never runs it: that only names the file and, by a digest
of its content, the version of it: `my_family.py:MyFamily#0a1b2c3d4e5f`.
"""

import hashlib
import importlib.util
import json
import os
import re
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hf_universal_pretrain.machines.base import MachineFamily, symbols_of


_NAME = re.compile(r"""([^\s,=@#"'{}]+\.py):([A-Za-z_]\w*)(?:#([0-9a-f]{12}))?""")
# What this process, or the one that started it, was told to run: paths by name. A process that writes a shard of an
# export, or a DataLoader's worker, has only this to go by.
_TOLD = "HF_UP_FAMILY_FILES"
_loaded: dict[str, type[MachineFamily]] = {}


def is_own(family: str) -> bool:
    """Whether a family's name is that of a file."""
    return _NAME.fullmatch(family) is not None


def label(family: str) -> str:
    """What a pool of the family is called: its class, wherever the file lies; of a built-in family, its name."""
    found = _NAME.fullmatch(family)
    return found[2] if found else family


def load_family(machines: str) -> str:
    """Runs the files that a mixture names, and returns the mixture with a digest of each.

    Example:

    ```python
    config = SyntheticUPConfig(machines=load_family("my_family.py:MyFamily=0.5,language@16=0.5"))
    ```

    Args:
        machines: a mixture; a stage of a curriculum or the setting of a family do as well.

    Raises:
        ValueError: if there is no such file or class in it, if it has another digest than the one that is named, or if
            the class does not do what a family does.
    """
    return _NAME.sub(lambda found: _load(*found.groups()), machines)


def own_family(family: str) -> type[MachineFamily]:
    """The class of a family that was loaded, in this process or in the one that started it.

    Raises:
        ValueError: if it was not.
    """
    if family not in _loaded:
        told = json.loads(os.environ.get(_TOLD, "{}"))
        if family not in told:
            file = family.partition("#")[0]
            raise ValueError(
                f"machines: {family} is a family of a file, which is run only if you say so: give --machines {file}, "
                "or in Python machines=load_family(...) of hf_universal_pretrain.machines"
            )
        _load(told[family], *family.rpartition(".py:")[2].split("#"))
    return _loaded[family]


def _load(file: str, name: str, digest: str | None) -> str:
    path = Path(file).expanduser()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"machines: cannot read {file} ({error.strerror})") from error
    found = hashlib.sha256(content).hexdigest()[:12]
    if digest not in (None, found):
        raise ValueError(
            f"machines: {file} is not what it was: its digest is {found}, not {digest}. Take the version of then, or "
            f"name it without #{digest} to take this one"
        )
    # below the working folder a path says where the file lies; from elsewhere it would tell of this machine alone
    full = path.resolve()
    shown = full.relative_to(Path.cwd()).as_posix() if full.is_relative_to(Path.cwd()) else full.name
    family = f"{shown}:{name}#{found}"
    if family not in _loaded:
        _loaded[family] = _run(full, name, found)
    told = json.loads(os.environ.get(_TOLD, "{}")) | {family: str(full)}
    os.environ[_TOLD] = json.dumps(told)
    return family


def _run(path: Path, name: str, digest: str) -> type[MachineFamily]:
    module_name = f"hf_up_family_{digest}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None  # as for every .py file
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look themselves up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"machines: {path.name} cannot be run ({type(error).__name__}: {error})") from error
    cls = getattr(module, name, None)
    if cls is None:
        raise ValueError(f"machines: there is no {name} in {path.name}")
    if not (isinstance(cls, type) and issubclass(cls, MachineFamily) and is_dataclass(cls)):
        raise ValueError(f"machines: {name} of {path.name} must be a dataclass and a subclass of MachineFamily")
    check_family(cls)
    return cls


def check_family(cls: type[MachineFamily]) -> None:
    """Draws machines of a family and has them write short rows.

    Raises:
        ValueError: if they are not what `Machines` says: the message names what is wrong.
    """
    family, rows, length = cls(), 3, 16
    conditions = torch.randint(family.alphabet_size, (rows, length), generator=torch.Generator().manual_seed(0))

    def write() -> Tensor:
        generator = torch.Generator().manual_seed(1)
        return family.draw(rows, generator).generate(conditions[:, :4].clone(), conditions.clone(), generator)

    try:
        made, again = write(), write()
        machines: Any = family.draw(rows, torch.Generator())
        _ = family.reads_condition, family.flops_per_symbol
    except Exception as error:
        raise ValueError(f"machines: {cls.__name__} makes no rows ({type(error).__name__}: {error})") from error
    if made.shape != conditions.shape or made.dtype != torch.int64:
        told = f"{tuple(made.shape)} {str(made.dtype).removeprefix('torch.')}"
        raise ValueError(f"machines: {cls.__name__} must make {tuple(conditions.shape)} int64 symbols, not {told}")
    symbols = symbols_of(made)
    if symbols.min() < 0 or symbols.max() >= family.alphabet_size:
        raise ValueError(f"machines: {cls.__name__} makes symbols that are not from 0 to alphabet_size - 1")
    if not torch.equal(made, again):
        raise ValueError(f"machines: {cls.__name__} must draw all that is random from the generator that it is given")
    if family.machines_for(rows) and not is_dataclass(machines):
        raise ValueError(f"machines: what {cls.__name__} draws must be a dataclass, of which pools take some")
    count = family.machines_for(rows)
    for name in [field.name for field in fields(machines)] if is_dataclass(machines) else []:
        value = getattr(machines, name)
        if isinstance(value, Tensor) and len(value) != count:
            raise ValueError(
                f"machines: {cls.__name__} draws {name} of length {len(value)}; it must have one entry for each "
                f"of the {count} machines that machines_for({rows}) tells"
            )
