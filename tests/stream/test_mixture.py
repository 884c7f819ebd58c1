"""Which machines make the rows of a round, and what their state restores."""

import dataclasses

import pytest
import torch

from hf_universal_pretrain import SyntheticUPConfig, SyntheticUPDataset
from hf_universal_pretrain.stream.mixture import GAIN_RATE, MAX_REDRAWS
from hf_universal_pretrain.stream.shares import rows_of_shares


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
