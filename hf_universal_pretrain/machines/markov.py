"""Random Markov chains of order 0 to 3, with everything about them drawn."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from hf_universal_pretrain.machines.base import MachineFamily
from hf_universal_pretrain.machines.draws import dirichlet, inverse_cdf, log_uniform, log_uniform_int


ROUNDS = 100  # of balancing; the sums of near-deterministic chains are right to a few per cent, of others to 1e-5


@dataclass(frozen=True)
class MarkovFamily(MachineFamily):
    """Random chains. Each chain draws an order, how many symbols it uses (and which), and a concentration alpha; the
    successors of each context are then Dirichlet(alpha) over the chain's symbols.

    Args:
        max_order: orders are uniform over min_order to max_order.
        min_order: lowest order.
        transitions: `"dirichlet"`: as drawn; `"doubly_stochastic"`: balanced so that in the long run each symbol is as
            frequent as any other, and only what came before tells something (Edelman et al., arXiv 2402.11004).
        concentration_range: alpha, log-uniform: small values make near-deterministic chains.
        max_table: most entries of a chain's table; it bounds the symbols of a chain of order k by
            max_table^(1 / (k + 1)).
        machines_per_round: chains drawn in a round; each serves an equal share of the rows.
    """

    max_order: int = 3
    min_order: int = 0
    transitions: Literal["dirichlet", "doubly_stochastic"] = "dirichlet"
    concentration_range: tuple[float, float] = (0.02, 2.0)
    max_table: int = 65_536
    machines_per_round: int = 8

    reads_condition: ClassVar[bool] = False
    flops_per_symbol: ClassVar[int] = 0

    def machines_for(self, num_rows: int) -> int:
        return min(self.machines_per_round, num_rows)

    def draw(self, num_rows: int, generator: torch.Generator) -> "MarkovChains":
        device = generator.device
        symbols, tables = [], []
        for _ in range(self.machines_for(num_rows)):
            order = int(torch.randint(self.min_order, self.max_order + 1, (), generator=generator, device=device))
            most = min(self.alphabet_size, round(self.max_table ** (1 / (order + 1))))
            size = int(log_uniform_int(2, most, (), generator))
            chosen = torch.randperm(self.alphabet_size, generator=generator, device=device)[:size]
            alpha = log_uniform(*self.concentration_range, (), generator).expand(size**order, size)
            table = dirichlet(alpha, size, generator)
            symbols.append(chosen)
            tables.append(balanced(table) if self.transitions == "doubly_stochastic" else table)
        return MarkovChains(symbols, tables)


def balanced(table: Tensor) -> Tensor:
    """The transitions nearest in relative entropy to `table`, `(size ** order, size)`, under which all contexts are
    equally frequent: the chances of a symbol add up to 1 over the oldest symbol of the context too (Sinkhorn)."""
    contexts, size = table.shape
    if contexts == 1:
        return torch.full_like(table, 1 / size)
    square = table.view(size, contexts // size, size)
    for _ in range(ROUNDS):
        square = square / square.sum(0, keepdim=True)
        square = square / square.sum(-1, keepdim=True)
    return square.reshape(contexts, size)


@dataclass
class MarkovChains:
    """Chains, each with its own order and alphabet.

    Args:
        symbols: for each chain, the symbols it uses, `(size,)`.
        tables: for each chain, `(size ** order, size)` float64 transition probabilities; a context's index reads its
            symbols (as positions in `symbols`) as digits in base `size`, the oldest first.
    """

    symbols: list[Tensor]
    tables: list[Tensor]

    @torch.no_grad()
    def generate(self, seeds: Tensor, conditions: Tensor, generator: torch.Generator) -> Tensor:
        """Makes rows that start in a uniformly drawn context; seeds and conditions give the shape only."""
        rows, length = conditions.shape
        device = conditions.device
        output = torch.empty(rows, length, dtype=torch.int64, device=device)
        shares = torch.arange(rows, device=device).tensor_split(len(self.tables))
        for symbols, table, share in zip(self.symbols, self.tables, shares, strict=True):
            contexts, size = table.shape
            cumulative = table.cumsum(-1)
            context = torch.randint(contexts, (len(share),), generator=generator, device=device)
            uniform = torch.rand(length, len(share), 1, generator=generator, device=device, dtype=table.dtype)
            digits = torch.empty(length, len(share), dtype=torch.int64, device=device)
            for t in range(length):
                digits[t] = inverse_cdf(cumulative[context], uniform[t])
                context = (context * size + digits[t]) % contexts
            output[share] = symbols[digits].T
        return output
