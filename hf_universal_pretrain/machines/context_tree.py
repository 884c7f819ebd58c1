"""Random variable-order sources: each row is one draw from a hierarchical Pitman-Yor-like prior over context trees.

The source that a row comes from is never written down. As in the Chinese restaurant process (the predictive rule of
Dirichlet and Pitman-Yor processes; Teh 2006, and Wood et al. 2009 for the unbounded-depth "sequence memoizer"), the
next symbol copies the successor of an earlier occurrence of the current context, or backs off to a shorter context:

    for d = depth, ..., 1, 0:
        n = how often the last d symbols occurred before in this row
        k = how many different symbols followed them
        with probability (n - discount * k) / (n + theta_d): copy the successor of one of these occurrences, at random
            (the first of each symbol weighs 1 - discount, any other 1); stop
    otherwise: a fresh symbol of the row's base distribution

A model that predicts these rows well has learned to count in context, at several orders, and to mix the counts: what
PPM and context-tree weighting do. At depth 0 without discount this is exactly a Dirichlet(theta_0 * base) source.

Simplification against Pitman-Yor proper: a copy made at depth d counts at all shorter contexts as well, and there is
one table for each symbol of a context (as in interpolated Kneser-Ney).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_universal_pretrain.machines.base import MachineFamily, log_uniform, uniform_between, zipf_base


@dataclass(frozen=True)
class ContextTreeFamily(MachineFamily):
    """Variable-order sources, a new one for every row.

    Args:
        max_depth: longest context; each row draws its own depth, uniform over 0 to max_depth.
        base_symbols_range: how many symbols a row's base distribution gives weight to, log-uniform; cut to the
            alphabet.
        base_exponent_range: the base distribution is Zipf's, rank^-s, with s uniform in this range and ranks in
            random order.
        root_strength_range: theta_0, log-uniform: small values repeat few symbols, large ones follow the base.
        strength_range: theta_d of every d > 0, log-uniform: small values copy whole passages.
        discount_range: a row's discount, uniform: large values keep new symbols coming, in a power law. None by
            default: with 0 to .5 a small model learned no more (recipes/README.md).
    """

    max_depth: int = 4
    base_symbols_range: tuple[float, float] = (8, 256)
    base_exponent_range: tuple[float, float] = (0.0, 1.5)
    root_strength_range: tuple[float, float] = (5.0, 500.0)
    strength_range: tuple[float, float] = (2.0, 200.0)
    discount_range: tuple[float, float] = (0.0, 0.0)

    reads_condition: ClassVar[bool] = False
    flops_per_symbol: ClassVar[int] = 0

    def draw(self, num_rows: int, generator: torch.Generator) -> "ContextTrees":
        base = zipf_base(num_rows, self.alphabet_size, self.base_symbols_range, self.base_exponent_range, generator)
        theta = log_uniform(*self.strength_range, (num_rows, self.max_depth + 1), generator)
        theta[:, 0] = log_uniform(*self.root_strength_range, (num_rows,), generator)
        depth = torch.randint(self.max_depth + 1, (num_rows, 1), generator=generator, device=generator.device)
        return ContextTrees(base, theta, depth, uniform_between(*self.discount_range, (num_rows, 1), generator))


@dataclass
class ContextTrees:
    """One source a row.

    Args:
        base: `(rows, alphabet_size)`, the distribution of fresh symbols.
        theta: `(rows, max_depth + 1)`, the strength of each depth.
        depth: `(rows, 1)`, the longest context that a row uses.
        discount: `(rows, 1)`.
    """

    base: Tensor
    theta: Tensor
    depth: Tensor
    discount: Tensor

    @torch.no_grad()
    def generate(self, seeds: Tensor, conditions: Tensor, generator: torch.Generator) -> Tensor:
        """Makes rows; seeds and conditions give the shape only."""
        rows, length = conditions.shape
        device = conditions.device
        max_depth = self.theta.shape[1] - 1
        depths = torch.arange(max_depth + 1, device=device)
        theta = torch.where(depths <= self.depth, self.theta, torch.inf)  # a context that is too long is never copied
        chance = torch.rand(length, rows, max_depth + 1, generator=generator, device=device)
        output = torch.multinomial(self.base, length, replacement=True, generator=generator)
        # agree[r, j]: how many symbols before position j equal those before the position that is being written
        agree = torch.zeros(rows, 1, dtype=torch.int8, device=device)
        discounted = bool(self.discount.any())
        # known[r, j]: the longest context in which the symbol at j had been written before; -1: it was new to the row
        known = torch.full((rows, length), -1, dtype=torch.int8, device=device)
        for t in range(1, length):
            longer = (agree[:, : t - 1] + 1).clamp_(max=max_depth)
            longer *= output[:, : t - 1] == output[:, t - 1 : t]
            agree = F.pad(longer, (1, 0))
            count = at_least(agree, max_depth)
            weight = count
            if discounted:
                different = count - at_least(torch.minimum(agree, known[:, :t]), max_depth)  # new in their context
                weight = count - self.discount * different
            copies = chance[t] * (count + theta) < weight
            deepest = (copies * (depths + 1)).amax(1, keepdim=True) - 1  # -1: nowhere, the symbol stays fresh
            score = torch.rand(rows, t, generator=generator, device=device)
            if discounted:
                # the largest log(u) / weight is a choice in proportion to the weights (Efraimidis and Spirakis 2006)
                score = score.log_() * torch.where(known[:, :t] < deepest, 1 / (1 - self.discount), 1.0)
            choice = torch.where(agree >= deepest, score, -torch.inf).argmax(-1, keepdim=True)
            written = torch.where(deepest >= 0, output.gather(1, choice), output[:, t : t + 1])
            output[:, t : t + 1] = written
            if discounted:
                known[:, t] = torch.where(output[:, :t] == written, agree, -1).amax(1)
        return output


def at_least(values: Tensor, top: int) -> Tensor:
    """How many of the `(rows, n)` values, from -1 to top, are at least 0, 1, ..., top: `(rows, top + 1)` float32."""
    counts = torch.zeros(len(values), top + 2, device=values.device)
    counts.scatter_add_(1, (values + 1).long(), torch.ones_like(values, dtype=torch.float32))
    return counts.flip(1).cumsum(1).flip(1)[:, 1:]
