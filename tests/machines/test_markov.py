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
