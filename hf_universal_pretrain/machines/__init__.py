"""The machine families by name."""

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any

from hf_universal_pretrain.machines.base import MachineFamily, Machines
from hf_universal_pretrain.machines.context_tree import ContextTreeFamily
from hf_universal_pretrain.machines.markov import MarkovFamily
from hf_universal_pretrain.machines.recurrent import RecurrentFamily


FAMILIES: dict[str, Callable[..., MachineFamily]] = {
    "lstm": partial(RecurrentFamily, cell="lstm"),
    "gru": partial(RecurrentFamily, cell="gru"),
    "markov": MarkovFamily,
    "context_tree": ContextTreeFamily,
}


def build_family(name: str, settings: Any) -> MachineFamily:
    """Makes the family `name`, its fields filled from the attributes of `settings` that have the same name."""
    make = FAMILIES[name]
    known = {field.name for field in fields(make().__class__)}
    return make(**{key: value for key, value in vars(settings).items() if key in known})


__all__ = ["FAMILIES", "MachineFamily", "Machines", "build_family"]
