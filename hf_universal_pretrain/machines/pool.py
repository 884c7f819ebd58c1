"""Machines that stay: a pool of N of them, of which every round runs some.

Machine i of a family's pool follows from (seed, name of the family, i) alone. So pools are nested (machine i of a pool
of 1 is machine i of a pool of 64), the same on every process and kind of device, and need no room in a checkpoint.
"""

import zlib
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hf_universal_pretrain.machines.base import MachineFamily, Machines


def stack(machines: list[Machines]) -> Machines:
    """Machines of one family, drawn one after the other, as if they had been drawn together (see `Machines`)."""
    first: Any = machines[0]
    values = {f.name: [getattr(each, f.name) for each in machines] for f in fields(first)}
    joined: Machines = replace(first, **{name: _joined(parts) for name, parts in values.items()})
    return joined


def take(machines: Machines, index: Tensor) -> Machines:
    """Some of the machines.

    Args:
        machines: as they were drawn or stacked.
        index: `(n,)` int64, the numbers of those to take, on their device; a number may come several times.
    """
    drawn: Any = machines
    taken: Machines = replace(drawn, **{f.name: _taken(getattr(drawn, f.name), index) for f in fields(drawn)})
    return taken


def moved(value: Any, device: torch.device) -> Any:
    """Machines, or whatever they hold, on another device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, (list, tuple)):
        return type(value)(moved(item, device) for item in value)
    if is_dataclass(value) and not isinstance(value, (type, MachineFamily)):
        return replace(value, **{f.name: moved(getattr(value, f.name), device) for f in fields(value)})
    return value


def _are_layers(value: Any) -> bool:
    """Whether a list is one of layers of tensors, and not one of machines."""
    return isinstance(value, list) and len(value) > 0 and isinstance(value[0], (list, tuple))


def _joined(parts: list[Any]) -> Any:
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(parts)
    if _are_layers(first):
        return [[torch.cat(weights) for weights in zip(*layer, strict=True)] for layer in zip(*parts, strict=True)]
    return [item for part in parts for item in part] if isinstance(first, list) else first


def _taken(value: Any, index: Tensor) -> Any:
    if isinstance(value, Tensor):
        return value[index]
    if _are_layers(value):
        return [[weights[index] for weights in layer] for layer in value]
    return [value[i] for i in index.tolist()] if isinstance(value, list) else value


class Pool:
    """The machines of one family that stay. They are drawn when they are first asked for, and kept.

    Args:
        name: of the family.
        family: the distribution; what is drawn from is `family.pooled()`.
        seed: at least 0.
        device: where the machines are to live. They are drawn on the CPU.

    Attributes:
        size: how many machines are drawn.
    """

    def __init__(self, name: str, family: MachineFamily, seed: int, device: torch.device) -> None:
        self.name, self.family, self.seed, self.device = name, family.pooled(), seed, device
        self.size = 0
        self._drawn: Machines | None = None

    def _draw(self, number: int) -> Machines:
        sequence = np.random.SeedSequence([self.seed, zlib.crc32(self.name.encode()), number])
        seed = sequence.generate_state(1, np.uint64)[0]
        return self.family.draw(1, torch.Generator().manual_seed(int(seed)))

    def first(self, size: int) -> Machines:
        """Machines 0 to `size` - 1."""
        return take(self._at_least(size), torch.arange(size, device=self.device))

    def _at_least(self, size: int) -> Machines:
        """All machines that are drawn, after those that are missing were."""
        if size > self.size:
            new = stack([self._draw(number) for number in range(self.size, size)])
            new = moved(new, self.device)
            self._drawn = new if self._drawn is None else stack([self._drawn, new])
            self.size = size
        assert self._drawn is not None, "a pool has at least one machine"
        return self._drawn

    def deal(self, size: int, rows: int, generator: torch.Generator) -> Machines:
        """Machines for `rows` rows of a round, from the first `size` of the pool.

        A family with one machine a row gets a random one for each row, every machine as often as any other, but for
        one time; of a family whose machines serve equal shares as many different ones are taken as it runs in a round.
        """
        machines = self._at_least(size)
        count = self.family.machines_for(rows)
        if count < rows:
            count = min(count, size)
        order = torch.randperm(size, generator=generator, device=self.device)
        return take(machines, order[torch.arange(count, device=self.device) % size])
