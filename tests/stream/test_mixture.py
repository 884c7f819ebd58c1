"""Which machines make the rows of a round, and what their state restores."""

import dataclasses
from pathlib import Path

import pytest
import torch

from hf_universal_pretrain import SyntheticUPConfig, SyntheticUPDataset
from hf_universal_pretrain.machines.pool import Pool
from hf_universal_pretrain.stream.mixture import GAIN_RATE, MAX_REDRAWS
from hf_universal_pretrain.stream.shares import family_of, parse_mixture, pool_of, rows_of_shares


BAND = {"machines": "lstm=0.5,rnn=0.5", "complexity": "0.3:0.9", "redraw_every": 1, "context_length": 64}


def run(data: SyntheticUPConfig, rounds: int) -> SyntheticUPDataset:
    dataset = SyntheticUPDataset(data)
    for dataset.step in range(rounds):
        dataset.enrich()
    return dataset


def test_rows_of_shares_add_up() -> None:
    assert rows_of_shares({"a": 0.5, "b": 0.25, "c": 0.25}, 8) == {"a": 4, "b": 2, "c": 2}
    thirds = dict.fromkeys("abc", 1 / 3)
    assert [sum(rows_of_shares(thirds, rows).values()) for rows in range(20)] == list(range(20))


def test_restored_gains_are_the_ones_in_use_to_the_last_bit(small_data: SyntheticUPConfig) -> None:
    """They are a product of many factors: another order of multiplying would end in other bits."""
    dataset = run(dataclasses.replace(small_data, **BAND), 60)
    assert dataset.mixture.gains, "the band has moved no gain: this test tests nothing"
    other = SyntheticUPDataset(dataset.config)
    other.load_state_dict(dataset.state_dict())
    assert other.mixture.families == dataset.mixture.families
    for name, gains in dataset.mixture.gains.items():
        assert other.mixture.families[name].gains == gains


def test_gains_stay_when_a_stage_begins(small_data: SyntheticUPConfig) -> None:
    data = dataclasses.replace(small_data, **BAND, curriculum=[{"at": 30, "machines": "rnn"}])
    before, after = run(data, 30), run(data, 31)
    first, then = before.mixture.gains["rnn"], after.mixture.gains["rnn"]
    assert first[0] != 0.9 and abs(then[0] / first[0] - 1) <= GAIN_RATE * 1.1
    assert list(after.mixture.families) == ["rnn"]


def test_a_state_of_version_3_loads(small_data: SyntheticUPConfig) -> None:
    """It had factors of gains, and what is the mixture's now beside the rest."""
    dataset = run(dataclasses.replace(small_data, **BAND), 20)
    state = dataset.state_dict()
    mixture = state.pop("mixture")
    factors = {name: gains[0] / {"lstm": 3.0, "rnn": 0.9}[name] for name, gains in mixture.pop("gains").items()}
    other = SyntheticUPDataset(dataset.config)
    other.load_state_dict({**state, **mixture, "version": 3, "gain_factors": factors})
    assert other.mixture.gains.keys() == dataset.mixture.gains.keys()
    for name, gains in dataset.mixture.gains.items():
        assert other.mixture.families[name].gains == pytest.approx(gains, rel=1e-9)
    assert torch.equal(other.draw(50)[0], dataset.draw(50)[0])
    with pytest.raises(ValueError, match="version 2"):
        other.load_state_dict({**state, **mixture, "version": 2, "gain_factors": factors})


def test_rows_outside_the_band_are_tried_a_bounded_number_of_times(small_data: SyntheticUPConfig) -> None:
    """No row fits this band: nothing is kept, the buffer stays as it is but for resets."""
    data = dataclasses.replace(small_data, machines="uniform", complexity="0.1:0.11", redraw_every=1, num_resets=0)
    dataset = SyntheticUPDataset(data)
    before = dataset.buffer.rows.clone()
    dataset.enrich()
    assert torch.equal(before, dataset.buffer.rows)
    assert (dataset.kept, dataset.tried) == (0, 8 * (1 + MAX_REDRAWS))


def test_every_row_a_round_has_read_was_read_before_any_was_written(small_data: SyntheticUPConfig) -> None:
    """The second family must not see what the first has made in the same round."""
    data = dataclasses.replace(small_data, machines="constant=0.5,lstm=0.5", source_batch=32, reset_every=100)
    dataset = SyntheticUPDataset(data)
    dataset.buffer.rows[:] = torch.arange(32)  # a mark that no noise has
    seen = []

    class Spy:
        def generate(self, seeds, conditions, generator):
            seen.append(conditions)
            return conditions

    dataset.mixture.machines["lstm"] = Spy()
    dataset.enrich()
    assert torch.equal(seen[0], torch.arange(32).expand(16, 32))


def test_settings_cannot_be_assigned_to(small_data: SyntheticUPConfig) -> None:
    """A stream would go on with the old ones and save the new."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        small_data.machines = "gru"
    changed = dataclasses.replace(small_data, machines="gru")
    assert list(changed.mixture) == list(changed.stages[0].mixture) == ["gru"]


# ---- Pools: machines that stay ----

POOLS = {"machines": "markov@4=0.5,lstm=0.25,language@3=0.25", "source_batch": 16, "alphabet_size": 40}


def tables(dataset: SyntheticUPDataset, size: int) -> list[torch.Tensor]:
    return dataset.mixture.pools["markov"].first(size).tables


def test_parts_of_a_mixture() -> None:
    """A family may stand several times, with pools of different sizes and without one; never twice the same way."""
    shares = parse_mixture("language@64=0.6, language=0.2, language@8, repeat=0.2")
    assert shares == {"language@64": 0.3, "language": 0.1, "language@8": 0.5, "repeat": 0.1}
    assert [(family_of(part), pool_of(part)) for part in shares] == [
        ("language", 64), ("language", None), ("language", 8), ("repeat", None),
    ]  # fmt: skip
    config = SyntheticUPConfig(machines="language@64=0.6,language=0.2,repeat=0.2", source_batch=20)
    assert config.rows_of_families() == {"language@64": 12, "language": 4, "repeat": 4}


@pytest.mark.parametrize(
    "machines, told",
    [
        ("lstm@0", "from 1 on, as in 'lstm@16', not 'lstm@0'"), ("lstm@x", "not 'lstm@x'"), ("lstm@", "not 'lstm@'"),
        ("lstm@-3", "not 'lstm@-3'"), ("lstm@1.5", "not 'lstm@1.5'"), ("lstn@4", "unknown machine family 'lstn'"),
        ("lstm@4,lstm@04", "'lstm@4' is named twice"), ("lstm@4=0", "the share of 'lstm@4'"),
        ("uniform@4", "'uniform' has no machines that could stay: leave out @4"),
    ],
)  # fmt: skip
def test_a_pool_that_is_none_is_refused(machines: str, told: str) -> None:
    with pytest.raises(ValueError, match=f"machines.*{told}"):
        SyntheticUPConfig(machines=machines)


def test_a_band_and_a_pool_do_not_go_together() -> None:
    with pytest.raises(ValueError, match="complexity needs new machines.*leave out @N"):
        SyntheticUPConfig(machines="lstm@4=0.5,lstm=0.5", complexity="0.3:0.9")
    stage = '{at: 5, machines: lstm@4, complexity: ""}'
    assert SyntheticUPConfig(machines="lstm", complexity="0.3:0.9", curriculum=[stage]).stages[1].band is None


def test_machines_of_a_pool_are_the_same_on_every_rank_and_rows_are_not(small_data: SyntheticUPConfig) -> None:
    data = dataclasses.replace(small_data, **POOLS)
    ranks = [SyntheticUPDataset(data, rank=rank, world_size=2) for rank in range(2)]
    rows = []
    for dataset in ranks:
        for _ in range(5):
            dataset.enrich()
        rows.append(dataset.draw(20)[0])
    for one, other in zip(tables(ranks[0], 4), tables(ranks[1], 4), strict=True):
        assert torch.equal(one, other)
    assert (rows[0] == rows[1]).all(1).float().mean() < 0.2
    other_seed = SyntheticUPDataset(dataclasses.replace(data, stream_seed=6))
    other_seed.enrich()
    assert not torch.equal(tables(other_seed, 1)[0], tables(ranks[0], 1)[0])


def test_machines_of_a_pool_stay_and_others_are_dealt_each_round(small_data: SyntheticUPConfig) -> None:
    """Of 6 chains 2 serve in a round, whatever `redraw_every` says; in the end all have."""
    data = dataclasses.replace(small_data, machines="markov@6", redraw_every=0)
    dataset = SyntheticUPDataset(data)
    served = []
    deal = Pool.deal
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pool, "deal", lambda *args: served.append(deal(*args)) or served[-1])
        for _ in range(20):
            dataset.enrich()
    of_round = [{table.numpy().tobytes() for table in machines.tables} for machines in served]
    assert all(len(chains) == 2 for chains in of_round) and len(set.union(*of_round)) == 6


@pytest.mark.parametrize("served", [0, 23])
def test_a_state_of_pools_restores_the_future(served: int, small_data: SyntheticUPConfig, tmp_path: Path) -> None:
    """Without the machines in it."""
    data = dataclasses.replace(
        small_data, **POOLS, curriculum=['{at: 3, machines: "markov@9=0.5,markov=0.25,copies@2=0.25"}']
    )
    dataset = SyntheticUPDataset(data)
    serve(dataset, served)
    torch.save(dataset.state_dict(), tmp_path / "state.pt")
    expected = serve(dataset, 40)
    other = SyntheticUPDataset(data)
    serve(other, 77)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(expected, serve(other, 40))
    assert torch.equal(dataset.buffer.rows, other.buffer.rows)
    grown = dataclasses.replace(data, machines="lstm@64=0.5,lstm=0.5", curriculum=[])
    lean = dataclasses.replace(grown, machines="lstm")
    sizes = []
    for config in (grown, lean):
        torch.save(run(config, 2).state_dict(), tmp_path / "state.pt")
        sizes.append((tmp_path / "state.pt").stat().st_size)
    assert abs(sizes[0] - sizes[1]) < 1000


def serve(dataset: SyntheticUPDataset, count: int) -> torch.Tensor:
    stream, rows = iter(dataset), [torch.zeros(dataset.config.context_length, dtype=torch.int64)]
    for _ in range(count):
        dataset.step = dataset.rows_served // 8
        rows.append(next(stream)["input_ids"])
    return torch.stack(rows)


def test_a_pool_that_grows_has_the_machines_it_had(small_data: SyntheticUPConfig) -> None:
    data = dataclasses.replace(small_data, machines="markov@1", curriculum=[{"at": 2, "machines": "markov@5"}])
    dataset = SyntheticUPDataset(data)
    sizes, first = [], []
    for dataset.step in range(4):
        dataset.enrich()
        sizes.append(dataset.mixture.pools["markov"].size)
        first.append(tables(dataset, 1)[0])
    assert sizes == [1, 1, 5, 5]
    assert all(torch.equal(first[0], table) for table in first)


def test_pools_and_new_machines_stand_side_by_side(small_data: SyntheticUPConfig) -> None:
    """New languages have fewer words, and only they are drawn."""
    data = dataclasses.replace(small_data, machines="language@1=0.5,language=0.5", redraw_every=1, num_resets=0)
    dataset = run(data, 30)
    pooled, fresh = dataset.mixture.pools["language"].family, dataset.mixture.families["language"]
    assert pooled.words == fresh.pool_words != fresh.words
    assert list(dataset.mixture.machines) == ["language"]


def test_a_mixture_with_pools_survives_a_folder(tmp_path: Path) -> None:
    config = SyntheticUPConfig(machines="lstm@16=0.7,lstm=0.3", curriculum=["{at: 5, machines: lstm@64}"])
    config.save_pretrained(tmp_path)
    again = SyntheticUPConfig.from_pretrained(tmp_path)
    assert again == config and again.stages[1].mixture == {"lstm@64": 1.0}
