import torch

from hf_universal_pretrain.machines.markov import MarkovChains, MarkovFamily


def test_transition_counts_fit_the_drawn_chain() -> None:
    """Chi-square of the transitions of an order-2 chain over 3 symbols against the table that was drawn."""
    generator = torch.Generator().manual_seed(0)
    family = MarkovFamily(alphabet_size=3, concentration_range=(1.0, 1.0), machines_per_round=1)
    while True:
        chains = family.draw(200, generator)
        if chains.tables[0].shape == (9, 3):
            break
    zeros = torch.zeros(200, 400, dtype=torch.int64)
    rows = chains.generate(zeros[:, :1], zeros, generator)
    place = torch.empty(3, dtype=torch.int64)
    place[chains.symbols[0]] = torch.arange(3)
    digits = place[rows]
    context = digits[:, :-2] * 3 + digits[:, 1:-1]
    counts = torch.zeros(9, 3, dtype=torch.float64)
    ones = torch.ones(context.numel(), dtype=torch.float64)
    counts.index_put_((context.flatten(), digits[:, 2:].flatten()), ones, accumulate=True)
    expected = chains.tables[0] * counts.sum(-1, keepdim=True)
    chi_square = ((counts - expected) ** 2 / expected)[expected > 5].sum().item()
    assert chi_square < 45  # 18 degrees of freedom: P(> 45) < .001


def test_deterministic_cycle() -> None:
    """A chain that cannot but go round writes the cycle, over the symbols that it was given."""
    table = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    chains = MarkovChains([torch.tensor([7, 2, 5])], [table])
    zeros = torch.zeros(4, 9, dtype=torch.int64)
    rows = chains.generate(zeros[:, :1], zeros, torch.Generator().manual_seed(0))
    for row in rows.tolist():
        assert "".join(map(str, row)) in "725725725725"


def test_draws_stay_inside_their_bounds() -> None:
    generator = torch.Generator().manual_seed(0)
    chains = MarkovFamily(alphabet_size=256, machines_per_round=60).draw(60, generator)
    orders = set()
    for symbols, table in zip(chains.symbols, chains.tables, strict=True):
        contexts, size = table.shape
        orders.add(next(k for k in range(4) if size**k == contexts))
        assert len(symbols) == len(symbols.unique()) == size and contexts * size <= 1.2 * 65_536
        assert torch.allclose(table.sum(-1), torch.ones(contexts, dtype=torch.float64))
    assert orders == {0, 1, 2, 3}


def test_doubly_stochastic_chains_have_no_favourite_symbol() -> None:
    """Over the oldest symbol of the context, too, the chances of a symbol add up to 1; so all symbols are as frequent
    in the long run, and what comes next still depends on what came before."""
    settings = {"alphabet_size": 5, "min_order": 1, "max_order": 2, "concentration_range": (1.0, 1.0)}
    family = MarkovFamily(**settings, transitions="doubly_stochastic", machines_per_round=30)
    chains = family.draw(30, torch.Generator().manual_seed(0))
    assert {len(table) // table.shape[1] for table in chains.tables} > {1}, "both orders"
    for table in chains.tables:
        size = table.shape[1]
        assert torch.allclose(table.view(size, -1, size).sum(0), torch.ones(1).double(), atol=1e-4)
        assert torch.allclose(table.sum(-1), torch.ones(1).double())
        assert table.std(0).max() > 0.005, "not all alike"
    zeros = torch.zeros(30, 4000, dtype=torch.int64)
    rows = chains.generate(zeros[:, :1], zeros, torch.Generator().manual_seed(1))
    shares = torch.bincount(rows[0])[chains.symbols[0]] / 4000
    assert (shares - 1 / len(shares)).abs().max() < 0.04


def test_orders_are_those_that_are_asked_for() -> None:
    chains = MarkovFamily(alphabet_size=4, min_order=2, max_order=2).draw(8, torch.Generator().manual_seed(0))
    assert all(len(table) == table.shape[1] ** 2 for table in chains.tables)
