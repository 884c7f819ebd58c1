import math

import pytest
import torch

from hf_universal_pretrain.machines.context_tree import (
    ContextTreeFamily,
    ContextTrees,
    _Places,
    copy_in_arrays,
    copy_in_tensors,
)
from hf_universal_pretrain.machines.draws import zipf_base


def plain_successor_counts(row: list[int], t: int, depth: int) -> list[int]:
    """The definition: successors, before position t, of the last `depth` symbols before t."""
    context = row[t - depth : t] if depth else []
    return [row[j] for j in range(depth, t) if row[j - depth : j] == context]


def test_strong_copying_follows_the_longest_context() -> None:
    """With theta_d = 0 for d > 0, each symbol is the successor of an earlier occurrence of the longest context."""
    generator = torch.Generator().manual_seed(0)
    rows, length, depth = 16, 80, 3
    base = zipf_base(rows, 8, (8, 8), (0, 0), generator)
    theta = torch.full((rows, depth + 1), 1e-9)
    theta[:, 0] = 20.0  # fresh symbols now and then, or every row would be constant
    trees = ContextTrees(base, theta, torch.full((rows, 1), depth), torch.zeros(rows, 1))
    zeros = torch.zeros(rows, length, dtype=torch.int64)
    output = trees.generate(zeros[:, :1], zeros, generator).tolist()
    checked = 0
    for row in output:
        for t in range(1, length):
            for d in range(depth, 0, -1):
                successors = plain_successor_counts(row, t, d) if t >= d else []
                if successors:
                    assert row[t] in successors, (t, d)
                    checked += 1
                    break
    assert checked > rows * length / 2


def test_depth_0_is_a_dirichlet_source() -> None:
    """Depth 0 is Polya's urn: two symbols agree with probability (1 + theta sum p^2) / (1 + theta), however far."""
    generator = torch.Generator().manual_seed(0)
    rows, theta = 40_000, 3.0
    base = torch.full((rows, 4), 0.25)
    trees = ContextTrees(
        base, torch.full((rows, 1), theta), torch.zeros(rows, 1, dtype=torch.int64), torch.zeros(rows, 1)
    )
    zeros = torch.zeros(rows, 6, dtype=torch.int64)
    output = trees.generate(zeros[:, :1], zeros, generator)
    expected = (1 + theta * 0.25) / (1 + theta)
    for i, j in ((0, 1), (0, 5), (3, 4)):
        agree = (output[:, i] == output[:, j]).float().mean().item()
        assert abs(agree - expected) < 4 * 0.5 / rows**0.5


def test_order_1_counts_against_the_predictive_rule() -> None:
    """P(copy at depth 1) = n / (n + theta_1): checked against frequencies, binned by n, on depth-1 rows."""
    generator = torch.Generator().manual_seed(2)
    rows, length, theta = 4000, 60, 4.0
    base = torch.full((rows, 200), 1 / 200)  # fresh symbols almost never agree with an old one by chance
    theta_d = torch.tensor([1e9, theta]).expand(rows, 2)
    trees = ContextTrees(base, theta_d, torch.ones(rows, 1, dtype=torch.int64), torch.zeros(rows, 1))
    zeros = torch.zeros(rows, length, dtype=torch.int64)
    output = trees.generate(zeros[:, :1], zeros, generator).tolist()
    hits, total = {1: 0, 2: 0, 3: 0}, {1: 0, 2: 0, 3: 0}
    for row in output:
        for t in range(2, length):
            successors = plain_successor_counts(row, t, 1)
            if len(successors) in hits:
                total[len(successors)] += 1
                hits[len(successors)] += row[t] in successors
    for n in hits:
        expected = n / (n + theta)
        expected += (1 - expected) * n / 200  # a fresh symbol that happens to agree
        assert abs(hits[n] / total[n] - expected) < 4 * (0.25 / total[n]) ** 0.5 + 0.01, n


def test_zipf_base_is_zipf_over_a_subset() -> None:
    generator = torch.Generator().manual_seed(0)
    base = zipf_base(50, 30, (10, 10), (1.0, 1.0), generator)
    assert torch.allclose(base.sum(-1), torch.ones(50))
    for row in base:
        used = row[row > 0].sort(descending=True).values
        assert len(used) in (10, 11)
        assert torch.allclose(used / used[0], 1 / torch.arange(1.0, len(used) + 1))
    assert len({tuple(row.nonzero().flatten().tolist()) for row in base}) == 50, "all rows use the same symbols"


def test_every_row_has_its_own_source() -> None:
    generator = torch.Generator().manual_seed(0)
    family = ContextTreeFamily(alphabet_size=40)
    zeros = torch.zeros(30, 64, dtype=torch.int64)
    output = family.draw(30, generator).generate(zeros[:, :1], zeros, generator)
    assert output.min() >= 0 and output.max() < 40
    assert len(torch.unique(output, dim=0)) == 30


def test_discount_keeps_new_symbols_coming() -> None:
    """Depth 0, theta 1: symbols number about theta ln n without discount, and grow as n^d with one (Pitman-Yor)."""
    distinct = {}
    for discount in (0.0, 0.5):
        generator = torch.Generator().manual_seed(0)
        base = torch.full((300, 2000), 1 / 2000)
        depth = torch.zeros(300, 1, dtype=torch.int64)
        trees = ContextTrees(base, torch.ones(300, 1), depth, torch.full((300, 1), discount))
        zeros = torch.zeros(300, 200, dtype=torch.int64)
        rows = trees.generate(zeros[:, :1], zeros, generator)
        distinct[discount] = sum(len(row.unique()) for row in rows) / 300
    # the expected number of tables: sum of theta / (theta + i), and Gamma ratios for d = .5
    assert abs(distinct[0.0] - sum(1 / (1 + i) for i in range(200))) < 0.5
    theta, d, n = 1.0, 0.5, 200
    ratio = math.exp(math.lgamma(theta + n + d) - math.lgamma(theta + n) + math.lgamma(theta) - math.lgamma(theta + d))
    assert abs(distinct[0.5] - theta / d * (ratio - 1)) < 1.5


def test_places_against_a_plain_dictionary() -> None:
    """What is found is what a dictionary of contexts holds, but for the few entries that were overwritten."""
    rows, length, contexts = 8, 128, 5
    generator = torch.Generator().manual_seed(0)
    symbols = torch.randint(6, (rows, length), generator=generator)
    places = _Places(rows, length, contexts, symbols.device)
    plain: list[dict[tuple, list[int]]] = [{} for _ in range(rows)]
    looked_up = lost = 0
    for t in range(length):
        places.advance(symbols[:, t - 1 : t] if t else None)
        number = (torch.rand(rows, contexts, generator=generator) * places.count).long()
        found = places.find(number)
        for row, text in enumerate(symbols.tolist()):
            for d in range(contexts):
                earlier = plain[row].setdefault((d, *text[max(0, t - d) : t]), [])
                if earlier:
                    looked_up += 1
                    if places.count[row, d] != len(earlier):
                        assert places.count[row, d] < len(earlier)  # forgotten, never invented
                        lost += 1
                    elif found[row, d] != earlier[number[row, d]]:
                        assert found[row, d] == earlier[-1]
                        lost += 1
                else:
                    assert places.count[row, d] == 0
                earlier.append(t)
    assert looked_up > rows * length * 2
    assert lost / looked_up < 0.04


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("discounts", [(0.0, 0.0), (0.0, 0.5)])
@pytest.mark.parametrize("rows, length, depth", [(1, 2, 0), (40, 200, 4), (7, 64, 9)])
def test_arrays_write_what_tensors_write(discounts: tuple[float, float], rows: int, length: int, depth: int) -> None:
    generator = torch.Generator().manual_seed(3)
    trees = ContextTreeFamily(alphabet_size=12, max_depth=depth, discount_range=discounts).draw(rows, generator)
    theta = torch.where(torch.arange(depth + 1) <= trees.depth, trees.theta, torch.inf)
    chance = torch.rand(length, 2, rows, depth + 1, generator=generator)
    chance[::5] = 0  # as it happens once in 2**24 draws; beside a strength that is infinite
    keep_new = torch.rand(length, rows, depth + 1, generator=generator) >= trees.discount if discounts[1] else None
    tensors = torch.multinomial(trees.base, length, replacement=True, generator=generator)
    arrays, fresh = tensors.clone(), tensors.clone()
    copy_in_tensors(tensors, theta, chance, keep_new)
    copy_in_arrays(arrays.numpy(), theta.numpy(), chance.numpy(), None if keep_new is None else keep_new.numpy())
    assert torch.equal(arrays, tensors)
    assert length < 10 or (arrays != fresh).float().mean() > 0.2


def test_a_discount_goes_with_contexts() -> None:
    generator = torch.Generator().manual_seed(0)
    trees = ContextTreeFamily(alphabet_size=30, discount_range=(0.5, 0.5)).draw(9, generator)
    rows = trees.generate(torch.zeros(9, 1, dtype=torch.int64), torch.zeros(9, 50, dtype=torch.int64), generator)
    assert rows.shape == (9, 50) and rows.max() < 30
