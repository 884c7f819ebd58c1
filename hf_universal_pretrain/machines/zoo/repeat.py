"""Random strings that come back: what makes induction heads appear (Olsson et al. 2022)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hf_universal_pretrain.machines.base import MachineFamily
from hf_universal_pretrain.machines.draws import inverse_cdf, log_uniform, log_uniform_int, uniform_between, zipf_base


@dataclass(frozen=True)
class RepeatFamily(MachineFamily):
    """Rows that copy themselves from a distance, with mutations; a new source for every row.

    Fresh symbols come from a Zipf distribution over a random subset of the alphabet. In each strand of a row every
    symbol is, but for mutations, the one `distance` places before it; now and then the distance is drawn anew, so that
    a strand changes over to another string of its own past. One to `max_strands` strands are interleaved at random.

    Args:
        max_strands: strands of a row, log-uniform from 1 on (one in half of the rows, with the default of 3).
        distance_range: log-uniform, in symbols of the strand; cut to half the row.
        mutation_range: chance that a symbol is fresh instead of copied, uniform.
        change_range: chance at each symbol that the distance is drawn anew, log-uniform.
        base_symbols_range: see `ContextTreeFamily`.
        base_exponent_range: see `ContextTreeFamily`.
    """

    max_strands: int = 3
    distance_range: tuple[int, int] = (1, 256)
    mutation_range: tuple[float, float] = (0.0, 0.2)
    change_range: tuple[float, float] = (0.001, 0.05)
    base_symbols_range: tuple[float, float] = (8, 256)
    base_exponent_range: tuple[float, float] = (0.0, 1.5)

    reads_condition: ClassVar[bool] = False
    flops_per_symbol: ClassVar[int] = 0

    def draw(self, num_rows: int, generator: torch.Generator) -> "Repeats":
        base = zipf_base(num_rows, self.alphabet_size, self.base_symbols_range, self.base_exponent_range, generator)
        return Repeats(
            family=self,
            base=base,
            mutation=uniform_between(*self.mutation_range, (num_rows, 1), generator),
            change=log_uniform(*self.change_range, (num_rows, 1), generator),
            strands=log_uniform_int(1, self.max_strands, (num_rows, 1), generator),
        )


@dataclass
class Repeats:
    """One source a row.

    Args:
        base: `(rows, alphabet_size)`, the distribution of fresh symbols.
        mutation: `(rows, 1)`, the chance of a fresh symbol.
        change: `(rows, 1)`, the chance of a new distance.
        strands: `(rows, 1)`, how many strands are interleaved.
    """

    family: RepeatFamily
    base: Tensor
    mutation: Tensor
    change: Tensor
    strands: Tensor

    @torch.no_grad()
    def generate(self, seeds: Tensor, conditions: Tensor, generator: torch.Generator) -> Tensor:
        """Makes rows; seeds and conditions give the shape only."""
        rows, length = conditions.shape
        device, most = conditions.device, int(self.family.max_strands)
        shortest, longest = self.family.distance_range
        shape = (rows * most, length)
        # every strand is as long as the row; of most of them only the beginning is used
        strand = torch.multinomial(self.base, length * most, replacement=True, generator=generator).view(shape)
        longest = max(1, min(longest, length // 2))
        distance = log_uniform_int(min(shortest, longest), longest, shape, generator)
        per_strand = (rows, most, length)
        chance = torch.rand(2, *per_strand, generator=generator, device=device)
        redrawn = (chance[0] < self.change.unsqueeze(1)).view(shape)
        redrawn[:, 0] = True
        # the distance in force is the one drawn at the last change
        last_change = torch.where(redrawn, torch.arange(length, device=device), 0).cummax(1).values
        source = torch.arange(length, device=device) - distance.gather(1, last_change)
        fresh = (chance[1] < self.mutation.unsqueeze(1)).view(shape) | (source < 0)
        source.clamp_(min=0)
        for t in range(1, length):
            copied = strand.gather(1, source[:, t : t + 1])
            strand[:, t : t + 1] = torch.where(fresh[:, t : t + 1], strand[:, t : t + 1], copied)
        # which strand shows at each place, and how far that strand has come
        shows = inverse_cdf(
            (torch.arange(most, device=device) < self.strands).double().cumsum(-1).unsqueeze(1)
            / self.strands.unsqueeze(1),
            torch.rand(rows, length, 1, generator=generator, device=device, dtype=torch.float64),
        )
        picked = torch.nn.functional.one_hot(shows, most)
        progress = (picked.cumsum(1) * picked).sum(-1) - 1
        return strand.view(per_strand).flatten(1).gather(1, shows * length + progress)
