import torch

from hf_universal_pretrain.machines.zoo.repeat import RepeatFamily


def rows_of(rows: int = 200, length: int = 200, **settings) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    zeros = torch.zeros(rows, length, dtype=torch.int64)
    return RepeatFamily(alphabet_size=200, **settings).draw(rows, generator).generate(zeros[:, :1], zeros, generator)


FLAT = {"base_symbols_range": (200, 200), "base_exponent_range": (0.0, 0.0)}  # chance agreement is 1 in 200


def test_without_mutation_and_change_a_strand_is_periodic() -> None:
    rows = rows_of(max_strands=1, distance_range=(7, 7), mutation_range=(0.0, 0.0), change_range=(1e-9, 1e-9), **FLAT)
    assert torch.equal(rows[:, 7:], rows[:, :-7])
    assert (rows[:, 6:] == rows[:, :-6]).float().mean() < 0.1


def test_mutations_come_at_their_rate() -> None:
    """A copy agrees with its source with probability 1 - m + m / 200."""
    rows = rows_of(max_strands=1, distance_range=(9, 9), mutation_range=(0.2, 0.2), change_range=(1e-9, 1e-9), **FLAT)
    agreement = (rows[:, 9:] == rows[:, :-9]).float().mean().item()
    assert abs(agreement - (0.8 + 0.2 / 200)) < 0.01


def test_strands_are_interleaved_periodic_strings() -> None:
    """Two strands of period 5, found by taking the row apart: some division into two periodic strands exists."""
    rows = rows_of(
        rows=40, length=60, max_strands=2, distance_range=(5, 5), mutation_range=(0, 0), change_range=(1e-9, 1e-9),
        **FLAT,
    )  # fmt: skip

    def divides(row: list[int]) -> bool:
        states = {((), ())}  # what each strand has shown last, up to 5 symbols
        for symbol in row:
            reached = set()
            for strands in states:
                for k in range(2):
                    past = strands[k]
                    if len(past) < 5 or past[0] == symbol:
                        moved = ((*past, symbol))[-5:]
                        reached.add((moved, strands[1]) if k == 0 else (strands[0], moved))
            states = reached
        return bool(states)

    periodic = (rows[:, 5:] == rows[:, :-5]).all(1)
    assert 10 < periodic.sum() < 30, "half the rows have one strand"
    assert all(divides(row) for row in rows.tolist())
    noise = torch.randint(200, (60,), generator=torch.Generator().manual_seed(1)).tolist()
    assert not divides(noise)


def test_strands_are_log_uniform() -> None:
    """As documented: 1, 2 and 3 in log(2), log(3/2) and log(4/3) of log(4)."""
    strands = RepeatFamily(alphabet_size=200).draw(20_000, torch.Generator().manual_seed(0)).strands
    shares = torch.bincount(strands.flatten(), minlength=4)[1:] / 20_000
    assert (shares - torch.tensor([0.5, 0.2925, 0.2075])).abs().max() < 0.02


def test_distances_change() -> None:
    """With a change every 20 symbols a row follows several periods in turn."""
    rows = rows_of(
        rows=50, max_strands=1, distance_range=(2, 60), mutation_range=(0, 0), change_range=(0.05, 0.05), **FLAT
    )
    for row in rows:
        assert all((row[d:] != row[:-d]).any() for d in range(2, 61))
    copies = [any(row[t] == row[t - d] for d in range(2, 61)) for row in rows.tolist() for t in range(100, 200)]
    assert sum(copies) / len(copies) > 0.99
