import torch

from hf_universal_pretrain.machines.zoo.transformer import RandomTransformerFamily


def setup(alphabet: int = 30, rows: int = 16, length: int = 40):
    generator = torch.Generator().manual_seed(0)
    conditions = torch.randint(alphabet, (rows, length), generator=generator)
    return RandomTransformerFamily(alphabet_size=alphabet, machines_per_round=4).draw(rows, generator), conditions


def test_is_causal() -> None:
    """What is written up to t depends on the row up to t only."""
    machines, conditions = setup()
    generator = torch.Generator()
    rows = machines.generate(conditions, conditions, generator)
    changed = conditions.clone()
    changed[:, 25:] = (changed[:, 25:] + 1) % 30
    again = machines.generate(changed, changed, generator)
    assert torch.equal(rows[:, :25], again[:, :25])
    assert not torch.equal(rows[:, 25:], again[:, 25:])


def test_the_mask_keeps_part_of_the_row_and_the_rest_depends_on_the_past() -> None:
    machines, conditions = setup(rows=64)
    rows = machines.generate(conditions, conditions, torch.Generator())
    assert 0.1 < (rows == conditions).float().mean() < 0.9
    earlier = conditions.clone()
    earlier[:, 0] = (earlier[:, 0] + 1) % 30
    again = machines.generate(earlier, earlier, torch.Generator())
    assert (again[:, 1:] != rows[:, 1:]).any(1).float().mean() > 0.5, "one changed symbol should be felt later"


def test_machines_differ() -> None:
    """Four machines on the same row write four different rows."""
    machines, conditions = setup(rows=4)
    same = conditions[:1].expand(4, -1)
    assert len(machines.generate(same, same, torch.Generator()).unique(dim=0)) == 4
