import json
from pathlib import Path

import pytest

from hf_universal_pretrain import SyntheticUPConfig, UPConfig
from hf_universal_pretrain.stream.shares import parse_mixture


def test_round_trip_through_a_folder(tmp_path: Path) -> None:
    config = SyntheticUPConfig(machines="lstm=0.7,markov=0.3", gain_range=[2.0, 5.0], stream_seed=3)
    path = config.save_pretrained(tmp_path)
    assert path.name == "synthetic_up_config.json"
    assert SyntheticUPConfig.from_pretrained(tmp_path) == config
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "warp": 9}))
    with pytest.raises(ValueError, match="warp"):
        SyntheticUPConfig.from_pretrained(tmp_path)


def test_mixture_shares() -> None:
    assert parse_mixture("lstm") == {"lstm": 1.0}
    assert parse_mixture("lstm=3, markov=1") == {"lstm": 0.75, "markov": 0.25}
    config = SyntheticUPConfig(machines="lstm=0.5,gru=0.3,markov=0.2", source_batch=13)
    rows = config.rows_of_families()
    assert sum(rows.values()) == 13
    assert all(abs(rows[name] - share * 13) <= 1 for name, share in config.mixture.items())


@pytest.mark.parametrize("machines", ["lstmm", "lstm=0", "lstm=-1", "lstm=x", "lstm=nan", "lstm,lstm", "", "lstm=inf"])
def test_bad_mixtures(machines: str) -> None:
    with pytest.raises(ValueError, match="machines"):
        SyntheticUPConfig(machines=machines)


@pytest.mark.parametrize(
    "field, value",
    [
        ("context_length", 1), ("alphabet_size", 1), ("alphabet_size", 40_000), ("alphabet", "latin"),
        ("num_layers", 0), ("hidden_size", 0), ("embedding_scale", -1.0), ("gain_range", [3.0]),
        ("gain_range", [4.0, 3.0]), ("gain_range", [0.0, 3.0]), ("gain_range", [1.0, float("inf")]),
        ("gain_law", "linear"), ("temperature_range", [-1.0, 0.0]), ("temperature_range", [0.0, 1.0]),
        ("entropy_range", [-1.0, 0.0]), ("entropy_range", [0.0, 1.0]), ("entropy_range", [2.0, 1.0]),
        ("own_symbols_range", [1, 40]), ("own_symbols_range", [40, 30]), ("conditioning", "both"),
        ("seed_length", 0), ("seed_length", 512), ("machines_per_round", 0),
        ("redraw_every", -1), ("source_batch", 0), ("source_batch", 2049), ("buffer_size", 2047), ("buffer_size", 0),
        ("rows_per_round", 0), ("reset_every", 0), ("num_resets", 3), ("num_resets", -2), ("num_resets", 4000),
        ("burn_in_rounds", -1), ("stream_seed", -1), ("source_batch", 1), ("complexity", "0.3"),
        ("complexity", "0.9:0.3"), ("target_acceptance", 1.5), ("curriculum", ["lstm"]), ("curriculum", ["{at: 0}"]),
        ("curriculum", ["{at: 5}"]), ("curriculum", ["{at: 5, gain_range: 3}"]), ("curriculum", ["{machines: lstm}"]),
        ("curriculum", ["{at: 5, machines: nothing}"]), ("curriculum", ["{at: 5, machines: }"]),
        ("curriculum", ["{at: 5, machines: lstm}", "{at: 5, machines: gru}"]),
        ("curriculum", ["{at: 5, complexity: 7}"]),
    ],
)  # fmt: skip
def test_every_bad_value_names_its_field(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        SyntheticUPConfig(**{field: value})


def test_entropy_and_temperature_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="entropy_range"):
        SyntheticUPConfig(entropy_range=[1.0, 2.0], temperature_range=[1.0, 1.0])


def test_paper_preset_is_the_paper() -> None:
    config = SyntheticUPConfig.paper(batch_size=16, context_length=512)
    assert config.mixture == {"lstm": 1.0}
    assert (config.num_layers, config.hidden_size, config.alphabet_size, config.seed_length) == (4, 128, 256, 8)
    assert (config.embedding_scale, config.gain_law, config.gain_range) == (1e-8, "fourth_power", [1.0, 150.0625])
    assert (config.source_batch, config.buffer_size, config.rows_per_round, config.num_resets) == (32, 640, 16, 100)
    assert (config.machines_per_round, config.redraw_every, config.temperature_range) == (1, 1, [0.0, 0.0])


@pytest.mark.parametrize(
    "field, value", [("max_steps", 0), ("max_steps", -1), ("dataloader_num_workers", 2), ("ignore_data_skip", False)]
)
def test_training_settings_that_would_break_the_stream(field: str, value: object, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=field):
        UPConfig(str(tmp_path), use_cpu=True, **{field: value})


def test_stages_of_a_curriculum_inherit_what_they_do_not_name() -> None:
    config = SyntheticUPConfig(
        machines="lstm", curriculum=["{at: 10, complexity: '0.2:0.8'}", {"at": 30, "machines": "markov=0.5,nca=0.5"}]
    )
    assert [config.stage_at(step) for step in (0, 9, 10, 29, 30, 1000)] == [0, 0, 1, 1, 2, 2]
    assert [(list(stage.mixture), stage.complexity) for stage in config.stages] == [
        (["lstm"], ""), (["lstm"], "0.2:0.8"), (["markov", "nca"], "0.2:0.8"),
    ]  # fmt: skip


def test_a_band_needs_new_machines_in_each_round() -> None:
    with pytest.raises(ValueError, match="set redraw_every to 1, not 3"):
        SyntheticUPConfig(complexity="0.3:0.9", redraw_every=3)
