import math

import torch

from hf_universal_pretrain.machines import FAMILIES
from hf_universal_pretrain.machines.zoo.one_matrix import RandomNetworkFamily


def test_against_a_plain_loop() -> None:
    """Each machine on each row by itself, as the formula says."""
    family = RandomNetworkFamily(
        alphabet_size=12, units=16, connections=16, sharpness_range=(0.0, 0.0), machines_per_round=4
    )
    generator = torch.Generator().manual_seed(0)
    machines = family.draw(8, generator)
    assert 0 < machines.linear.sum() < 4, "the seed should give both kinds"
    conditions = torch.randint(12, (8, 30), generator=generator)
    seeds = torch.randint(12, (8, 5), generator=generator)
    rows = machines.generate(seeds, conditions, generator)
    for r in range(8):
        m = r // 2
        row, state = seeds[r].tolist(), torch.zeros(16)
        for t in range(29):
            state = machines.weight[m] @ state + machines.own_table[m, row[t]]
            state = state + machines.condition_table[m, conditions[r, t]]
            state = state if machines.linear[m] else state.tanh()
            if t + 1 >= 5:
                row.append(int((state @ machines.head[m]).argmax()))
        assert row == rows[r].tolist()


def test_radius_is_the_spectral_radius() -> None:
    """The circular law, for full and for sparse matrices."""
    generator = torch.Generator().manual_seed(0)
    for family in (
        RandomNetworkFamily(units=200, connections=200, radius_range=(0.9, 0.9)),
        RandomNetworkFamily(units=400, connections=16, radius_range=(1.5, 1.5)),
    ):
        weight = family.draw(8, generator).weight
        assert ((weight != 0).sum(-1) == family.connections).all()
        radius = torch.linalg.eigvals(weight).abs().amax(-1).mean().item()
        assert abs(radius / family.radius_range[0] - 1) < 0.1


def test_sharper_logits_leave_less_entropy() -> None:
    """Sharpness s gives normal logits of deviation s; at .1 the output is near uniform over the 64 symbols."""

    def entropy(sharpness: float) -> float:
        family = RandomNetworkFamily(alphabet_size=64, sharpness_range=(sharpness, sharpness), machines_per_round=1)
        generator = torch.Generator().manual_seed(0)
        zeros = torch.zeros(1, 4000, dtype=torch.int64)
        row = family.draw(1, generator).generate(zeros[:, :1], zeros, generator)[0]
        p = torch.bincount(row, minlength=64) / 4000
        return -(p * p.clamp(min=1e-9).log2()).sum().item()

    assert entropy(0.1) > 5.9 > entropy(2.0) > entropy(8.0)


def test_reservoirs_know_order_and_chaos() -> None:
    """Well inside the unit circle two states forget how they differed; well outside they part for good."""
    gap = {}
    for radius in (0.5, 2.0):
        family = FAMILIES["reservoir"](alphabet_size=64, machines_per_round=1, radius_range=(radius, radius))
        machines = family.draw(1, torch.Generator().manual_seed(0))
        one = torch.zeros(256)
        other = one + 1e-3 / math.sqrt(256)
        for _ in range(60):  # the same drive for both
            one, other = (((machines.weight[0] @ h) + 0.1 * machines.own_table[0, 0]).tanh() for h in (one, other))
        gap[radius] = (one - other).norm().item()
    assert gap[0.5] < 1e-6 and gap[2.0] > 1e-2
