"""What is true of every family. What is true of one is in the file of its name."""

import pytest
import torch

from hf_universal_pretrain.machines import FAMILIES, MachineFamily


SMALL = {name: {"num_layers": 2, "hidden_size": 16} for name in ("lstm", "gru")}  # or most of the time goes to these


def make(name: str, alphabet: int) -> MachineFamily:
    return FAMILIES[name](alphabet_size=alphabet, **SMALL.get(name, {}))


def noise_and_constants(rows: int, length: int, alphabet: int, generator: torch.Generator) -> torch.Tensor:
    conditions = torch.randint(alphabet, (rows, length), generator=generator)
    conditions[rows // 2 :] = conditions[rows // 2 :, :1]
    return conditions


def generate(name: str, alphabet: int, seed: int, rows: int = 24, length: int = 48) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    conditions = noise_and_constants(rows, length, alphabet, torch.Generator().manual_seed(99))
    machines = make(name, alphabet).draw(rows, generator)
    return machines.generate(conditions[:, :4], conditions, generator)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("alphabet", [2, 7, 256, 1000])
def test_symbols_are_of_the_alphabet_and_follow_the_seed(name: str, alphabet: int) -> None:
    """Down to two symbols and up to more than bytes; same seed same rows, another seed other rows."""
    rows = generate(name, alphabet, seed=3)
    symbols = torch.where(rows < 0, ~rows, rows)
    assert rows.dtype == torch.int64 and rows.shape == (24, 48)
    assert symbols.min() >= 0 and symbols.max() < alphabet
    assert torch.equal(rows, generate(name, alphabet, seed=3))
    assert not torch.equal(rows, generate(name, alphabet, seed=4))


@pytest.mark.parametrize("name", FAMILIES)
def test_uses_no_randomness_but_its_generator(name: str) -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first = generate(name, 50, seed=1)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(1)
    assert torch.equal(first, generate(name, 50, seed=1))


@pytest.mark.parametrize("name", FAMILIES)
def test_reads_its_condition_if_and_only_if_it_says_so(name: str) -> None:
    """With the same machines and the same random numbers, another condition makes other rows, or the same ones."""
    family = make(name, 40)
    one = noise_and_constants(24, 48, 40, torch.Generator().manual_seed(1))
    other = noise_and_constants(24, 48, 40, torch.Generator().manual_seed(2))
    seeds = one[:, :4]
    rows = []
    for conditions in (one, other):
        generator = torch.Generator().manual_seed(7)
        rows.append(family.draw(24, generator).generate(seeds, conditions, generator))
    assert torch.equal(*rows) != family.reads_condition


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("rows, length", [(1, 48), (5, 17), (24, 9)])
def test_any_number_of_rows_of_any_length(name: str, rows: int, length: int) -> None:
    assert generate(name, 20, seed=0, rows=rows, length=length).shape == (rows, length)
