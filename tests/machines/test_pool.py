"""Machines that stay, of every family that has any."""

import time
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
import torch

from hf_universal_pretrain.machines import FAMILIES
from hf_universal_pretrain.machines.pool import Pool, stack, take
from tests.machines.test_families import make, noise_and_constants


KEEPING = [name for name in FAMILIES if FAMILIES[name]().machines_for(1)]
CPU = torch.device("cpu")


def same(one: Any, other: Any) -> bool:
    """Whether two machines, or what they hold, are equal to the last bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if is_dataclass(one):
        return type(one) is type(other) and all(
            same(getattr(one, f.name), getattr(other, f.name)) for f in fields(one)
        )
    return one == other


def pool_of(name: str, alphabet: int = 40, seed: int = 3) -> Pool:
    return Pool(name, make(name, alphabet), seed, CPU)


def test_noise_alone_has_nothing_to_keep() -> None:
    assert set(FAMILIES) - set(KEEPING) == {"uniform", "constant"}


@pytest.mark.parametrize("name", KEEPING)
def test_pools_are_nested_and_follow_the_seed_and_the_name(name: str) -> None:
    """Machine i is the same whether the pool was asked for one, four or all at once."""
    grown, at_once = pool_of(name), pool_of(name)
    small = grown.first(1), grown.first(3)
    for number in range(3):
        alone = pool_of(name)._draw(number)
        index = torch.tensor([number])
        assert same(alone, take(at_once.first(5), index))
        assert same(alone, take(small[1], index))
    assert same(small[0], take(small[1], torch.tensor([0])))
    assert not same(take(small[1], torch.tensor([0])), take(small[1], torch.tensor([1])))
    assert not same(small[0], pool_of(name, seed=4).first(1))


@pytest.mark.parametrize("name", KEEPING)
def test_what_is_stacked_can_be_taken_apart(name: str) -> None:
    family = make(name, 40).pooled()
    one, two = (family.draw(1, torch.Generator().manual_seed(seed)) for seed in (1, 2))
    both = stack([one, two])
    assert same(take(both, torch.tensor([1])), two)
    assert same(take(both, torch.tensor([1, 0, 1])), stack([two, one, two]))


@pytest.mark.parametrize("name", KEEPING)
@pytest.mark.parametrize("alphabet, rows", [(2, 3), (40, 24), (256, 7)])
def test_dealt_machines_make_valid_rows(name: str, alphabet: int, rows: int) -> None:
    """As many as there are machines, more, or fewer; twice, since dealing must not change the pool."""
    pool, generator = pool_of(name, alphabet), torch.Generator().manual_seed(0)
    conditions = noise_and_constants(rows, 33, alphabet, generator)
    before = pool.first(5)
    for size in (1, 5, 3):
        machines = pool.deal(size, rows, generator)
        made = machines.generate(conditions[:, :4], conditions, generator)
        symbols = torch.where(made < 0, ~made, made)
        assert made.shape == (rows, 33) and made.dtype == torch.int64
        assert symbols.min() >= 0 and symbols.max() < alphabet
    assert same(before, pool.first(5))


@pytest.mark.parametrize("name", ["lstm", "gru", "transformer"])
def test_a_machine_of_the_pool_writes_what_it_would_alone(name: str) -> None:
    """Families without chance in what they write: each row is that of its machine, whoever stands beside it."""
    pool, generator = pool_of(name), torch.Generator().manual_seed(1)
    conditions = noise_and_constants(4, 30, 40, generator)
    seeds = conditions[:, :4]
    together = pool.first(4).generate(seeds, conditions, generator)
    for number in range(4):
        row = slice(number, number + 1)
        alone = take(pool.first(4), torch.tensor([number])).generate(seeds[row], conditions[row], generator)
        assert torch.equal(together[row], alone)
    assert len(together.unique(dim=0)) > 1


def test_one_machine_a_row_is_dealt_evenly_and_shares_to_different_machines() -> None:
    """Repeats: every machine serves as many rows as any other, but one. Chains: as many as a round has, none twice."""
    generator = torch.Generator().manual_seed(2)
    repeats = pool_of("repeat")
    of_row = repeats.deal(5, 13, generator).mutation
    index = (of_row == repeats.first(5).mutation.T).int().argmax(1)
    counts = index.bincount(minlength=5)
    assert counts.sum() == 13 and counts.min() == 2 and counts.max() == 3
    chains = pool_of("markov")
    served = chains.deal(30, 64, generator).tables
    assert len(served) == 8 and sum(same(a, b) for a in served for b in served) == 8
    assert len(chains.deal(3, 64, generator).tables) == 3
    again = chains.deal(30, 64, generator).tables
    assert not same(served, again)


def test_a_language_that_stays_has_more_words() -> None:
    assert make("language", 256).pooled().words > make("language", 256).words
    assert pool_of("language").first(1).class_of.shape[1] == make("language", 40).pooled().words


@pytest.mark.parametrize("name", ["context_tree", "language", "repeat", "copies", "eca", "hmm", "dyck", "program"])
def test_a_pool_of_256_is_drawn_in_seconds(name: str) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    began = time.process_time()
    Pool(name, FAMILIES[name](), 0, CPU).first(256)
    took = time.process_time() - began
    torch.set_num_threads(threads)
    assert took < 2  # .01 to .3 on one core
