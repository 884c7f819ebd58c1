"""Random networks of one matrix: the linear or tanh RNN of arXiv 2605.10129, and echo-state reservoirs.

    h(t+1) = f(W h(t) + A[symbol t] + B[condition t]),    logits = C h

The state matrix W is scaled by the circular law: n x n with `connections` independent N(0, 1) entries in each line,
divided by sqrt(connections), has its eigenvalues in the unit disc, so W times r has spectral radius r for large n.
Below 1 the network forgets; well above 1, with tanh, it is chaotic.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_universal_pretrain.machines.base import MachineFamily, equal_shares
from hf_universal_pretrain.machines.draws import inverse_cdf, log_uniform, uniform_between


@dataclass(frozen=True)
class RandomNetworkFamily(MachineFamily):
    """Random one-matrix networks; the defaults are those of arXiv 2605.10129 (`rnn`).

    Two departures from it. Its logits shrink with the vocabulary, to near-uniform output for small ones; here they
    have a standard deviation of `sharpness`, drawn for each machine. And the machine reads a condition beside its own
    symbol, so that it can take part in enriching a buffer.

    Args:
        units: size of the state.
        connections: entries in each line of W that are not 0; at most `units`.
        radius_range: spectral radius of W, uniform.
        linear_share: share of the machines without tanh (a linear network with radius above 1 would explode, so tanh
            is used there).
        sharpness_range: standard deviation of the logits, log-uniform; with `(0, 0)` the most likely symbol is taken.
        machines_per_round: machines drawn in a round; each serves an equal share of the rows.
    """

    units: int = 64
    connections: int = 64
    radius_range: tuple[float, float] = (0.9, 0.9)
    linear_share: float = 0.5
    sharpness_range: tuple[float, float] = (1.0, 8.0)
    machines_per_round: int = 8

    reads_condition: ClassVar[bool] = True
    gain_field: ClassVar[str] = "radius_range"

    @property
    def flops_per_symbol(self) -> int:
        return 2 * self.units * (self.units + self.alphabet_size)

    def machines_for(self, num_rows: int) -> int:
        return min(self.machines_per_round, num_rows)

    def draw(self, num_rows: int, generator: torch.Generator) -> "RandomNetworks":
        machines, units = self.machines_for(num_rows), self.units

        def normal(*shape: int) -> Tensor:
            return torch.randn(machines, *shape, generator=generator, device=generator.device)

        weight = normal(units, units)
        if self.connections < units:
            scores = torch.rand(weight.shape, generator=generator, device=generator.device)
            weight *= scores >= scores.topk(self.connections, dim=-1).values[..., -1:]
        radius = uniform_between(*self.radius_range, (machines, 1, 1), generator)
        linear = torch.rand(machines, 1, 1, generator=generator, device=generator.device) < self.linear_share
        cold, hot = self.sharpness_range
        return RandomNetworks(
            weight=weight * radius / math.sqrt(self.connections),
            own_table=normal(self.alphabet_size, units),
            condition_table=normal(self.alphabet_size, units),
            head=normal(units, self.alphabet_size) / math.sqrt(units),
            linear=linear & (radius < 1),
            sharpness=log_uniform(cold, hot, (machines, 1, 1), generator) if cold > 0 else None,
        )


@dataclass
class RandomNetworks:
    """M machines.

    Args:
        weight: `(M, units, units)`.
        own_table: `(M, alphabet_size, units)`, what a symbol adds to the state.
        condition_table: the same for the condition's symbol.
        head: `(M, units, alphabet_size)`.
        linear: `(M, 1, 1)` bool, machines without tanh.
        sharpness: `(M, 1, 1)`, or None to take the most likely symbol.
    """

    weight: Tensor
    own_table: Tensor
    condition_table: Tensor
    head: Tensor
    linear: Tensor
    sharpness: Tensor | None

    @torch.no_grad()
    def generate(self, seeds: Tensor, conditions: Tensor, generator: torch.Generator) -> Tensor:
        rows, length = conditions.shape
        machines, alphabet, units = self.own_table.shape
        share = equal_shares(rows, machines, seeds.device)
        each = share.shape[1]
        offset = (torch.arange(machines, device=seeds.device) * alphabet).view(-1, 1)
        own_table, condition_table = self.own_table.flatten(0, 1), self.condition_table.flatten(0, 1)
        output = torch.empty(length, machines, each, dtype=torch.int64, device=seeds.device)
        output[: seeds.shape[1]] = seeds[share].permute(2, 0, 1)
        condition = conditions[share].permute(2, 0, 1).contiguous()
        uniform = torch.rand(length, machines, each, 1, generator=generator, device=seeds.device)
        state = self.head.new_zeros(machines, each, units)
        transposed = self.weight.transpose(1, 2).contiguous()
        for t in range(length - 1):
            drive = F.embedding(output[t] + offset, own_table) + F.embedding(condition[t] + offset, condition_table)
            drive = torch.baddbmm(drive, state, transposed)
            state = torch.where(self.linear, drive, drive.tanh())
            if t + 1 < seeds.shape[1]:
                continue
            logits = torch.bmm(state, self.head)
            if self.sharpness is None:
                output[t + 1] = logits.argmax(-1)
            else:
                # a linear state is larger than a tanh one: the sharpness is that of the logits as they are
                logits *= self.sharpness / logits.std(-1, keepdim=True)
                output[t + 1] = inverse_cdf(logits.softmax(-1).cumsum(-1), uniform[t])
        return output.permute(1, 2, 0).reshape(-1, length)[:rows]
