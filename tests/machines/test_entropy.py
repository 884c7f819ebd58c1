"""Machines with a set entropy, of every recurrent family: fresh rows have it."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from hf_universal_pretrain.machines import FAMILIES, MachineFamily
from hf_universal_pretrain.machines.complexity import compressibility
from hf_universal_pretrain.machines.entropy import LASTING_RATE, Choice, draw_own_symbols
from hf_universal_pretrain.machines.recurrent import RecurrentMachines
from hf_universal_pretrain.machines.zoo.one_matrix import RandomNetworks


SMALL = {"num_layers": 1, "hidden_size": 64, "gain_range": (1.0, 4.0)}
CELLS = ("lstm", "gru", "rnn", "reservoir")


def make(name: str, **settings) -> MachineFamily:
    small = SMALL if name in ("lstm", "gru") else {"units": 64} if name == "reservoir" else {}
    return FAMILIES[name](**{**small, "entropy_range": (0.9, 2.1), "machines_per_round": 64, **settings})


def outputs(machines: RecurrentMachines | RandomNetworks, which: int, rows: Tensor, conditions: Tensor) -> Tensor:
    """The plain definition: what machine `which` makes of rows that are given, `(rows, length, K)`, without bias."""
    if isinstance(machines, RandomNetworks):
        state, found = torch.zeros(len(rows), machines.weight.shape[1]), []
        for t in range(rows.shape[1]):
            state = state @ machines.weight[which].T + machines.own_table[which][rows[:, t]]
            state = state + machines.condition_table[which][conditions[:, t]]
            state = state if machines.linear[which] else state.tanh()
            logits = state @ machines.head[which]
            found.append(logits / logits.std(-1, keepdim=True) * machines.sharpness[which])
        return torch.stack(found, 1)
    family = machines.family
    module = {"lstm": nn.LSTM, "gru": nn.GRU}[family.cell]
    network = module(family.input_size, family.hidden_size, family.num_layers, batch_first=True)
    for layer, weights in enumerate(machines.layers):
        for name, weight in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), weights, strict=True):
            getattr(network, f"{name}_l{layer}").data.copy_(weight[which])
    table, state = machines.embedding[which], None
    read = table[rows]
    if family.conditioning == "aligned":
        read = torch.cat([read, table[conditions]], -1)
    elif family.conditioning == "prefix":
        _, state = network(table[conditions])
    return network(read, state)[0] @ machines.head_weight[which].T


@torch.no_grad()
def bits_of_choices(machines, which: int, rows: Tensor, conditions: Tensor, seed_length: int) -> Tensor:
    """Entropy of each choice in rows that a machine has written, the factor following as it should: `(rows, choices)`.

    It does not follow in the seed for one-matrix networks, which do not choose there.
    """
    found = outputs(machines, which, rows, conditions)
    bias = machines.bias if isinstance(machines, RandomNetworks) else machines.head_bias
    octaves, bits = torch.zeros(len(rows)), []
    for t in range(rows.shape[1] - 1):
        logits = found[:, t] * 2 ** octaves[:, None] + bias[which]
        p = logits.softmax(-1)
        h = -(p * p.clamp(min=1e-30).log2()).sum(-1)
        if t + 1 >= seed_length:
            bits.append(h)
        if t + 1 >= seed_length or isinstance(machines, RecurrentMachines):
            octaves = octaves + LASTING_RATE * (h - machines.entropy[which])
    return torch.stack(bits, 1)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("conditioning", ["none", "aligned"])
def test_what_is_written_has_the_entropy(name: str, conditioning: str) -> None:
    """64 machines, 16 fresh rows each: the mean within .1 bits for every machine, most rows within .15, and none of
    the machines dead or noise."""
    machines = make(name, conditioning=conditioning).draw(1024, torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    conditions = torch.randint(256, (1024, 256), generator=generator)
    conditions[::2] = conditions[::2, :1]
    rows = machines.generate(conditions[:, :4].roll(5, 0), conditions, generator)
    assert machines.entropy.min() >= 0.9 and machines.entropy.max() <= 2.1
    assert machines.entropy.max() - machines.entropy.min() > 1
    off = []
    for which, mine in enumerate(torch.arange(1024).view(64, 16)):
        bits = bits_of_choices(machines, which, rows[mine], conditions[mine], 4)
        off.append(bits.mean(1) - machines.entropy[which])
    off = torch.stack(off)
    assert off.mean(1).abs().max() < 0.1
    assert (off.abs() < 0.15).float().mean() > 0.95
    squeezed = compressibility(rows, 256).view(64, 16)
    assert squeezed.mean(1).min() > 0.25 and squeezed.mean(1).max() < 0.95
    assert squeezed.min() > 0.1, "no row is dead"


@pytest.mark.parametrize("name", CELLS)
def test_symbols_are_sampled_from_the_choices(name: str) -> None:
    """The mean surprise of what is written is the mean entropy: it is a fair sample of what the definition gives."""
    machines = make(name, machines_per_round=2, conditioning="none").draw(200, torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(3)
    rows = machines.generate(torch.zeros(200, 1).long(), torch.zeros(200, 120).long(), generator)
    for which, mine in enumerate((rows[:100], rows[100:])):
        with torch.no_grad():
            found = outputs(machines, which, mine, mine)
        bias = machines.bias if isinstance(machines, RandomNetworks) else machines.head_bias
        octaves, surprise, bits = torch.zeros(100), [], []
        output_of = {symbol: k for k, symbol in reversed(list(enumerate(machines.symbols[which].tolist())))}
        for t in range(119):
            p = (found[:, t] * 2 ** octaves[:, None] + bias[which]).softmax(-1)
            h = -(p * p.clamp(min=1e-30).log2()).sum(-1)
            octaves = octaves + LASTING_RATE * (h - machines.entropy[which])
            written = torch.tensor([output_of[symbol] for symbol in mine[:, t + 1].tolist()])
            surprise.append(-p.gather(1, written[:, None])[:, 0].log2())
            bits.append(h)
        surprise, bits = torch.stack(surprise), torch.stack(bits)
        assert abs(surprise.mean() - bits.mean()) < 4 * surprise.std() / surprise.numel() ** 0.5


@pytest.mark.parametrize("name", CELLS)
def test_machines_have_symbols_of_their_own(name: str) -> None:
    machines = make(name, own_symbols_range=(5, 12), machines_per_round=20).draw(400, torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(3)
    conditions = torch.randint(256, (400, 100), generator=generator)
    rows = machines.generate(conditions[:, :1], conditions, generator)[:, 1:]
    used = [set(part.flatten().tolist()) for part in rows.view(20, 20, 99)]
    own = [set(symbols.tolist()) for symbols in machines.symbols]
    assert all(mine <= allowed for mine, allowed in zip(used, own, strict=True))
    counts = [len(allowed) for allowed in own]
    assert min(counts) < 7 and max(counts) > 10 and max(counts) <= 12 and min(counts) >= 5
    assert len(set(map(frozenset, own))) == 20


@pytest.mark.parametrize("name", CELLS)
def test_without_conditioning_the_condition_is_not_read(name: str) -> None:
    family = make(name, conditioning="none", machines_per_round=4)
    machines = family.draw(8, torch.Generator().manual_seed(1))
    rows = []
    for seed in (5, 6):
        conditions = torch.randint(256, (8, 40), generator=torch.Generator().manual_seed(seed))
        rows.append(machines.generate(torch.zeros(8, 1).long(), conditions, torch.Generator().manual_seed(0)))
    assert (
        torch.equal(*rows) and not family.reads_condition and replace(family, conditioning="aligned").reads_condition
    )


@pytest.mark.parametrize("name", CELLS)
def test_machines_drawn_one_by_one_can_be_stacked(name: str) -> None:
    """A pool: the machines that a draw of one gives, side by side, write what each writes alone."""
    family = make(name, machines_per_round=3)
    drawn = [family.draw(1, torch.Generator().manual_seed(seed)) for seed in (4, 5, 6)]

    def stack(values: list):
        if isinstance(values[0], Tensor):
            return torch.cat(values)
        if isinstance(values[0], list):
            return [stack(list(parts)) for parts in zip(*values, strict=True)]
        return values[0]

    pool = type(drawn[0])(**{key: stack([vars(one)[key] for one in drawn]) for key in vars(drawn[0])})
    conditions = torch.randint(256, (3, 50), generator=torch.Generator().manual_seed(0))
    rows = pool.generate(conditions[:, :2], conditions, torch.Generator().manual_seed(1))
    symbols = [set(one.symbols[0].tolist()) for one in drawn]
    assert all(set(row[2:]) <= mine for row, mine in zip(rows.tolist(), symbols, strict=True))
    again = family.draw(1, torch.Generator().manual_seed(5))
    assert torch.equal(again.entropy, drawn[1].entropy) and torch.equal(again.symbols, drawn[1].symbols)


def test_entropy_and_temperature_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="entropy_range of gru"):
        make("gru", temperature_range=(0.5, 1.0))


def test_few_symbols_are_not_asked_for_more_than_they_have() -> None:
    """Two symbols have one bit at most, and a choice between them is kept from being noise."""
    own = draw_own_symbols(10, 2, (32, 48), (0.9, 2.1), (0.0, 0.0), torch.Generator().manual_seed(0))
    assert own.symbols.shape == (10, 2) and torch.allclose(own.target, torch.tensor(0.8))
    own = draw_own_symbols(10, 256, (32, 48), (0.9, 2.1), (0.0, 0.0), torch.Generator().manual_seed(0))
    assert (own.bias == -math.inf).sum(1).max() <= 16 and own.target.max() <= 2.1


def test_a_choice_finds_its_factor() -> None:
    """On outputs that do not change, the factor settles where the entropy is the target's."""
    own = draw_own_symbols(6, 256, (32, 48), (0.9, 2.1), (0.5, 1.0), torch.Generator().manual_seed(0))
    choice = Choice(own, 2)
    outputs = torch.randn(6, 2, own.symbols.shape[1], generator=torch.Generator().manual_seed(1)) * 8
    for _ in range(300):
        choice(outputs, torch.rand(6, 2, 1))
    p = (outputs * 2**choice.octaves + own.bias[:, None]).softmax(-1)
    bits = torch.special.entr(p).sum(-1) / math.log(2)
    assert (bits - own.target[:, None]).abs().max() < 0.01
