"""Many machines at once against plain `torch.nn` modules, and the paper's recipe against its known figures."""

import zlib

import pytest
import torch
from torch import Tensor, nn

from hf_universal_pretrain.machines.recurrent import RecurrentFamily, RecurrentMachines


def plain_loop(machines: RecurrentMachines, which: int, seeds: Tensor, conditions: Tensor) -> tuple[Tensor, Tensor]:
    """The definition: one machine as `torch.nn.LSTM` or `GRU`, a token at a time, argmax. Returns rows and logits."""
    family = machines.family
    module = {"lstm": nn.LSTM, "gru": nn.GRU}[family.cell]
    network = module(family.input_size, family.hidden_size, family.num_layers, batch_first=True)
    network = network.to(machines.embedding.dtype)
    with torch.no_grad():
        for layer, weights in enumerate(machines.layers):
            for name, weight in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), weights, strict=True):
                getattr(network, f"{name}_l{layer}").copy_(weight[which])
        state = None
        if family.conditioning == "prefix":
            _, state = network(machines.embedding[which][conditions])
        rows, all_logits = seeds.clone(), []
        for t in range(conditions.shape[1] - 1):
            read = machines.embedding[which][rows[:, t : t + 1]]
            if family.conditioning == "aligned":
                read = torch.cat([read, machines.embedding[which][conditions[:, t : t + 1]]], dim=-1)
            hidden, state = network(read, state)
            logits = hidden[:, 0] @ machines.head_weight[which].T + machines.head_bias[which]
            all_logits.append(logits)
            if t + 1 >= rows.shape[1]:
                rows = torch.cat([rows, logits.argmax(-1, keepdim=True)], dim=1)
    return rows, torch.stack(all_logits, dim=1)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("conditioning", ["aligned", "prefix"])
@pytest.mark.parametrize("num_layers", [1, 3])
def test_many_machines_equal_plain_loops(cell: str, conditioning: str, num_layers: int) -> None:
    """fp32: rows equal symbol for symbol at gains up to 8, over 40 steps; 23 rows do not divide by 5."""
    generator = torch.Generator().manual_seed(num_layers)
    family = RecurrentFamily(
        alphabet_size=50, cell=cell, num_layers=num_layers, hidden_size=24, gain_range=(2.0, 8.0),
        conditioning=conditioning, machines_per_round=5,
    )  # fmt: skip
    machines = family.draw(23, generator)
    seeds = torch.randint(50, (23, 4), generator=generator)
    conditions = torch.randint(50, (23, 40), generator=generator)
    rows = machines.generate(seeds, conditions, generator)
    for machine, share in enumerate(torch.arange(25).clamp(max=22).view(5, 5)):
        share = share.unique()
        expected, _ = plain_loop(machines, machine, seeds[share], conditions[share])
        assert torch.equal(rows[share], expected)
    assert len(torch.unique(rows[:, 4:])) > 10, "the machines say too little to be compared"


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_step_equals_torch_in_the_chaotic_regime(cell: str) -> None:
    """float64, gain 20: the same rows; with the rows given, fp32 gates stay within 1e-4 of torch's over 60 steps."""
    generator = torch.Generator().manual_seed(0)
    family = RecurrentFamily(alphabet_size=30, cell=cell, num_layers=2, hidden_size=16, gain_range=(20.0, 20.0))
    machines = family.draw(8, generator)
    machines.embedding, machines.head_weight = machines.embedding.double(), machines.head_weight.double()
    machines.head_bias = machines.head_bias.double()
    machines.layers = [[weight.double() for weight in layer] for layer in machines.layers]
    seeds = torch.randint(30, (8, 2), generator=generator)
    conditions = torch.randint(30, (8, 60), generator=generator)
    rows = machines.generate(seeds, conditions, generator)
    for machine in range(8):
        share = slice(machine, machine + 1)
        expected, _ = plain_loop(machines, machine, seeds[share], conditions[share])
        assert torch.equal(rows[share], expected)


def test_temperature_samples_the_softmax() -> None:
    """A machine whose output does not depend on its input writes symbols with the probabilities of its softmax."""
    generator = torch.Generator().manual_seed(3)
    family = RecurrentFamily(
        alphabet_size=6, num_layers=1, hidden_size=8, gain_range=(1.0, 1.0), temperature_range=(0.5, 0.5),
        machines_per_round=1,
    )  # fmt: skip
    machines = family.draw(40, generator)
    machines.head_weight.zero_()
    machines.head_bias.mul_(4)
    rows = machines.generate(torch.zeros(40, 1, dtype=torch.int64), torch.zeros(40, 501, dtype=torch.int64), generator)
    seen = torch.bincount(rows[:, 1:].flatten(), minlength=6) / 20_000
    expected = (machines.head_bias[0] / 0.5).softmax(-1)
    assert (seen - expected).abs().max() < 4 * (0.25 / 20_000) ** 0.5  # four standard errors
    assert expected.max() - expected.min() > 0.1


def test_gain_laws() -> None:
    """log-uniform gains have a uniform logarithm; fourth-power gains are m^4 with m uniform in [1, 3.5]."""
    generator = torch.Generator().manual_seed(0)
    for law, unit in (
        ("log_uniform", lambda gain: gain.log() / torch.tensor(3.5**4).log()),
        ("fourth_power", lambda gain: (gain**0.25 - 1) / 2.5),
    ):
        family = RecurrentFamily(
            hidden_size=1, num_layers=1, gain_range=(1.0, 3.5**4), gain_law=law, machines_per_round=4000
        )
        quantiles = unit(family.draw(4000, generator).gain).quantile(torch.tensor([0.1, 0.5, 0.9]))
        assert torch.allclose(quantiles, torch.tensor([0.1, 0.5, 0.9]), atol=0.04)


def zlib_ratio(rows: Tensor) -> float:
    return sum(len(zlib.compress(bytes(row.tolist()), 9)) for row in rows) / rows.numel()


@pytest.mark.parametrize("gain, low, high", [(3.0, 0.0, 0.12), (6.0, 0.4, 0.75), (16.0, 0.97, 1.05)])
def test_paper_machines_against_the_known_table(gain: float, low: float, high: float) -> None:
    """Gain 3 is dead (zlib ratio .05), 6 in between (.58), 16 incompressible (1.02): means over 24 machines.

    First generation, conditions half constant and half uniform, 4 x 128, 256 symbols, 512 steps, argmax.
    """
    generator = torch.Generator().manual_seed(1)
    family = RecurrentFamily(embedding_scale=1e-8, gain_range=(gain, gain), machines_per_round=24)
    machines = family.draw(48, generator)
    conditions = torch.randint(256, (48, 512), generator=generator)
    conditions[::2] = conditions[::2, :1]
    seeds = conditions.roll(7, 0)[:, :8]
    ratio = zlib_ratio(machines.generate(seeds, conditions, generator))
    assert low < ratio < high, ratio


def test_draws_and_runs_leave_the_global_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    generator = torch.Generator().manual_seed(0)
    family = RecurrentFamily(hidden_size=8, num_layers=1, temperature_range=(0.1, 1.0))
    zeros = torch.zeros(4, 8, dtype=torch.int64)
    family.draw(4, generator).generate(zeros[:, :2], zeros, generator)
    assert torch.equal(before, torch.random.get_rng_state())
