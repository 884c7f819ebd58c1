"""Which settings reach which family."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from hf_universal_pretrain import SyntheticUPConfig, SyntheticUPDataset
from hf_universal_pretrain.commands.arguments import parse_args
from hf_universal_pretrain.machines import FAMILIES
from hf_universal_pretrain.stream.families import REACHES, build_family


def differing(name: str, config: SyntheticUPConfig) -> dict[str, Any]:
    """The fields in which a family of a stream is not that of a stream without settings."""
    plain, changed = build_family(name, SyntheticUPConfig()), build_family(name, config)
    values = {f.name: getattr(changed, f.name) for f in dataclasses.fields(changed)}
    return {key: value for key, value in values.items() if value != getattr(plain, key)}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_setting_of_the_stream_reaches_every_family_that_has_one_of_this_name(name: str) -> None:
    """None is left out of the table, and none stands there in vain: a family would go on with a default of its own."""
    of_stream = {f.name for f in dataclasses.fields(SyntheticUPConfig)}
    same_name = {f.name for f in dataclasses.fields(FAMILIES[name]())} & of_stream
    assert {setting for setting, names in REACHES.items() if name in names} == same_name


def test_settings_of_the_stream_reach_the_families_of_the_table() -> None:
    config = SyntheticUPConfig(hidden_size=20, gain_range=[1.0, 2.0], machines_per_round=3, alphabet_size=50)
    assert differing("lstm", config) == {
        "hidden_size": 20, "gain_range": (1.0, 2.0), "machines_per_round": 3, "alphabet_size": 50,
    }  # fmt: skip
    assert differing("markov", config) == {"machines_per_round": 3, "alphabet_size": 50}
    assert differing("repeat", config) == {"alphabet_size": 50}


def test_a_familys_own_settings_stand_first_and_reach_no_other() -> None:
    config = SyntheticUPConfig(
        hidden_size=20,
        family=[
            "lstm.hidden_size=12", " lstm.gain_range = 1, 4.5", "gru.conditioning=prefix", "language.words=30",
            "reservoir.linear_share=0.5", "nca.sides=4,8,8", "procedural.tasks=sort,set",
        ],
    )  # fmt: skip
    assert differing("lstm", config) == {"hidden_size": 12, "gain_range": (1.0, 4.5)}
    assert differing("gru", config) == {"hidden_size": 20, "conditioning": "prefix"}
    assert differing("language", config) == {"words": 30}
    assert differing("reservoir", config) == {"linear_share": 0.5} and differing("rnn", config) == {}
    assert differing("nca", config) == {"sides": (4, 8, 8)}
    assert differing("procedural", config) == {"tasks": ("sort", "set")}
    assert build_family("reservoir", config).units == FAMILIES["reservoir"]().units


@pytest.mark.parametrize(
    "given",
    [
        {"lstm.hidden_size": 12, "lstm.gain_range": [1, 4]}, [{"lstm.hidden_size": 12, "lstm.gain_range": [1, 4]}],
        ['{"lstm.hidden_size": 12, "lstm.gain_range": [1, 4]}'], ["lstm.hidden_size=12", {"lstm.gain_range": "1,4"}],
    ],
)  # fmt: skip
def test_a_mapping_says_the_same_as_a_list(given: Any, tmp_path: Path) -> None:
    config = SyntheticUPConfig(family=given)
    assert config.family == ["lstm.hidden_size=12", "lstm.gain_range=1,4"]
    config.save_pretrained(tmp_path)
    again = SyntheticUPConfig.from_pretrained(tmp_path)
    assert again == config and again.family_settings == {"lstm": {"hidden_size": 12, "gain_range": (1.0, 4.0)}}
    assert dataclasses.replace(again, machines="gru").family == config.family


@pytest.mark.parametrize(
    "text, told",
    [
        ("lstmm.hidden_size=3", "unknown machine family 'lstmm'; did you mean 'lstm'"),
        ("xyz.words=3", "unknown machine family 'xyz'; there are lstm, gru"),
        ("lstm.hiden_size=3", "lstm has no setting 'hiden_size'; did you mean 'hidden_size'"),
        ("lstm.words=3", "lstm has no setting 'words'; there are num_layers"),
        ("lstm.alphabet_size=3", "alphabet_size is the same for all families"),
        ("lstm.cell=gru", "lstm has no setting 'cell'"), ("uniform.kind=constant", "uniform has no setting 'kind'"),
        ("hidden_size=3", "FAMILY.SETTING=VALUE, as in lstm.hidden_size=64, not 'hidden_size=3'"),
        ("lstm.hidden_size", "not 'lstm.hidden_size'"), ("lstm.hidden_size=", "a whole number from 0 on, not ''"),
        ("lstm.hidden_size=2.5", "lstm.hidden_size must be a whole number"), ("lstm.hidden_size=-1", "from 0 on"),
        ("lstm.embedding_scale=big", "lstm.embedding_scale must be a number"), ("lstm.embedding_scale=inf", "number"),
        ("lstm.gain_range=4,1", "lstm.gain_range must be 2 numbers, the lower first, as in 1,4, not '4,1'"),
        ("lstm.gain_range=4", "must be 2 numbers"), ("lstm.gain_range=1,2,3", "must be 2 numbers"),
        ("lstm.gain_range=1,x", "must be a number"), ("gru.conditioning=both", "must be one of aligned, prefix, none"),
        ("lstm.hidden_size=0", "the settings of lstm make no rows"), ("nca.sides=x", "nca.sides must be a whole"),
        ("procedural.tasks=juggle", "the settings of procedural make no rows .*juggle"),
        ("transformer.heads=7", "the settings of transformer make no rows"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=f"^family: .*{told}") as refused:
        SyntheticUPConfig(family=[text])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "yaml", ["{lstm.hidden_size: 12, lstm.gain_range: [1, 4]}", "[lstm.hidden_size=12, 'lstm.gain_range=1,4']",
             "[{lstm.hidden_size: 12}, {lstm.gain_range: [1, 4]}]"],
)  # fmt: skip
def test_on_a_command_line_and_in_a_file(yaml: str, tmp_path: Path) -> None:
    def parsed(*words: str) -> list[str]:
        return parse_args((SyntheticUPConfig,), "", lambda asked: {}, list(words))[0].family

    expected = ["lstm.hidden_size=12", "lstm.gain_range=1,4"]
    assert parsed("--family", *expected) == expected
    file = tmp_path / "settings.yaml"
    file.write_text(f"family: {yaml}\n")
    assert parsed("--config", str(file)) == expected
    assert parsed("--config", str(file), "--family", "gru.hidden_size=3") == ["gru.hidden_size=3"]


def test_a_setting_is_given_once() -> None:
    with pytest.raises(ValueError, match="lstm.hidden_size is set twice"):
        SyntheticUPConfig(family=["lstm.hidden_size=12", "lstm.hidden_size=13"])


def test_a_stream_uses_them_in_every_stage_and_in_pools(small_data: SyntheticUPConfig) -> None:
    data = dataclasses.replace(
        small_data,
        machines="language@2",
        family={"language.pool_words": 9, "gru.hidden_size": 7},
        curriculum=[{"at": 1, "machines": "gru=0.5,lstm=0.5"}],
    )
    dataset = SyntheticUPDataset(data)
    dataset.enrich()
    assert dataset.mixture.pools["language"].first(1).class_of.shape == (1, 9)
    dataset.step = 1
    dataset.enrich()
    widths = {name: machines.embedding.shape[2] for name, machines in dataset.mixture.machines.items()}
    assert widths == {"gru": 7, "lstm": 16}


def test_a_state_of_other_settings_of_a_family_is_refused_and_one_from_before_them_is_not(
    small_data: SyntheticUPConfig, tmp_path: Path
) -> None:
    state = SyntheticUPDataset(small_data).state_dict()
    with pytest.raises(ValueError, match=r"family \(was \[\], now \['lstm.hidden_size=7'\]\)"):
        SyntheticUPDataset(dataclasses.replace(small_data, family=["lstm.hidden_size=7"])).load_state_dict(state)
    del state["config"]["family"]
    SyntheticUPDataset(small_data).load_state_dict(state)
    path = small_data.save_pretrained(tmp_path)
    settings = json.loads(path.read_text())
    del settings["family"]
    path.write_text(json.dumps(settings))
    assert SyntheticUPConfig.from_pretrained(tmp_path) == small_data


def test_a_single_setting_changes_the_rows_of_its_family_alone(small_data: SyntheticUPConfig) -> None:
    """In the first round; later on machines read what others wrote."""
    data = dataclasses.replace(small_data, machines="repeat=0.5,lstm=0.5", reset_every=100)
    rows = []
    for family in ([], ["lstm.gain_range=0.1,0.2"]):
        dataset = SyntheticUPDataset(dataclasses.replace(data, family=family))
        dataset.enrich()
        rows.append(dataset.buffer.rows)
    changed = (rows[0] != rows[1]).any(1).sum()
    assert 0 < changed <= 4
