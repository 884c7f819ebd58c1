import pytest
import torch

from hf_universal_pretrain import SyntheticUPConfig, SyntheticUPDataset
from hf_universal_pretrain.stream.presets import PRESETS, settings_of


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("max_steps", [1, 3, 7, 1000])
def test_presets_fit_runs_of_any_length(name: str, max_steps: int) -> None:
    config = SyntheticUPConfig.preset(name, max_steps, batch_size=8, context_length=64)
    assert config.stage_starts[-1] < max_steps and config.context_length == 64


def test_pools_grow_a_third_each_and_all_machines_stay() -> None:
    config = SyntheticUPConfig.preset("warm_start", 300, batch_size=8)
    assert config.stage_starts == [0, 100, 200]
    assert [stage.mixture for stage in config.stages] == [{f"two_clocks@{size}": 1} for size in (1, 4, 16)]
    assert SyntheticUPConfig.preset("warm_start", 2, batch_size=8).machines == "two_clocks@16"


def test_the_rows_for_rotary_positions_are_of_one_grammar_and_never_come_twice() -> None:
    config = SyntheticUPConfig.preset("warm_start_rotary", 300, batch_size=8, context_length=64)
    dataset = SyntheticUPDataset(config)
    served = []
    for _ in range(150):  # 1,200 rows: more than two rounds
        for _ in range(dataset.rounds_due()):
            dataset.enrich()
        served.append(dataset.draw(8)[0])
    rows = torch.cat(served)
    assert len(rows.unique(dim=0)) == len(rows)
    # of one grammar, words have tags and tags have words: which word follows a full stop is much the same all along
    starts = [half[:, 1:][half[:, :-1] == config.alphabet_size - 1].bincount(minlength=256) for half in rows.chunk(2)]
    overlap = torch.minimum(*[count / count.sum() for count in starts]).sum()
    assert overlap > 0.8


def test_what_is_given_wins() -> None:
    assert settings_of("paper", {"machines"}, 100, 8) == {}, "machines alone: no preset"
    assert "curriculum" not in settings_of("warm_start", {"machines", "preset"}, 100, 8)
    assert settings_of("warm_start", {"preset"}, 100, 8) == settings_of("warm_start", set(), 100, 8)


def test_an_unknown_preset_is_named() -> None:
    known = "warm_start, warm_start_rotary, zero_shot, paper"
    with pytest.raises(ValueError, match=f"no preset 'cold_start'; known: {known}"):
        SyntheticUPConfig.preset("cold_start", 10, 8)
