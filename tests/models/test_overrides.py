"""`--config_overrides`: configurations made with the changes, so that what is worked out from them follows."""

from pathlib import Path

import pytest
from transformers import AutoConfig, ByT5Tokenizer
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from hf_universal_pretrain.models.build import build_config, build_model
from hf_universal_pretrain.models.overrides import explicit_settings, override, text_part


SMALL = "num_hidden_layers=2,hidden_size=64,num_attention_heads=4,num_key_value_heads=2,head_dim=16"


@pytest.mark.parametrize(
    "name", ["qwen3", "qwen3_moe", "gemma3", "gemma3_text", "olmo3", "smollm3", "gpt_oss", "lfm2"]
)
def test_the_number_of_layers_can_be_set_where_each_has_a_type(name: str, tokenizer: ByT5Tokenizer) -> None:
    text = text_part(build_config(name, tokenizer, "num_hidden_layers=2"))
    assert text.num_hidden_layers == 2 and len(getattr(text, "layer_types", None) or [0, 0]) == 2


@pytest.mark.parametrize(
    "name, overrides, expected",
    [
        ("lfm2", 'num_hidden_layers=2,layer_types=["conv","full_attention"]',
         {"layer_types": ["conv", "full_attention"]}),
        ("qwen3_moe", "head_dim=16,num_experts=4", {"head_dim": 16, "num_experts": 4, "num_local_experts": 4}),
        ("gpt2", "hidden_size=32,num_hidden_layers=1", {"n_embd": 32, "n_layer": 1}),  # other names of the same
        ("llama", "hidden_size=64,num_attention_heads=4", {"head_dim": 16, "num_key_value_heads": 4}),
        ("llama", "attention_bias=yes,hidden_act=gelu", {"attention_bias": True, "hidden_act": "gelu"}),
        ("llama", "num_key_value_heads=none", {"num_key_value_heads": 32}),
        ("gpt2", "resid_pdrop=0,initializer_range=8e-2", {"resid_pdrop": 0, "initializer_range": 0.08}),
        ("gemma3", "text_config.num_hidden_layers=3,sliding_window=8", {"num_hidden_layers": 3, "sliding_window": 8}),
        ("qwen3", "use_sliding_window=true,sliding_window=8,max_window_layers=1,num_hidden_layers=2",
         {"sliding_window": 8, "layer_types": ["full_attention", "sliding_attention"]}),
    ],
)  # fmt: skip
def test_values_and_what_follows_from_them(
    name: str, overrides: str, expected: dict, tokenizer: ByT5Tokenizer
) -> None:
    text = text_part(build_config(name, tokenizer, overrides))
    assert {key: getattr(text, key) for key in expected} == expected


def test_a_dot_leads_into_a_mapping_whose_other_entries_stay(tokenizer: ByT5Tokenizer) -> None:
    text = build_config("llama", tokenizer, "rope_parameters.rope_theta=1e6")
    assert text.rope_parameters == {"rope_theta": 1e6, "rope_type": "default"}
    whole = 'rope_parameters={"rope_type":"linear","factor":2.0,"rope_theta":500.0}'
    assert build_config("llama", tokenizer, whole).rope_parameters["factor"] == 2.0
    vision = build_config("gemma3", tokenizer, "num_hidden_layers=2")  # the part for text is taken out
    assert vision.model_type == "gemma3_text"


def test_a_folder_with_everything_written_out_is_remade_too(tokenizer: ByT5Tokenizer, tmp_path: Path) -> None:
    """`config.json` says all that the class would work out by itself; what was chosen by hand stays."""
    chosen = "rms_norm_eps=1e-4,hidden_size=512,num_attention_heads=8"
    override(CONFIG_MAPPING["qwen3"](), chosen).save_pretrained(tmp_path)
    config = build_config(str(tmp_path), tokenizer, "num_hidden_layers=3")
    assert config.layer_types == ["full_attention"] * 3
    assert (config.rms_norm_eps, config.hidden_size, config.num_attention_heads) == (1e-4, 512, 8)
    override(CONFIG_MAPPING["llama"](), "hidden_size=512,num_attention_heads=8").save_pretrained(tmp_path)
    assert build_config(str(tmp_path), tokenizer, "hidden_size=256").head_dim == 32


def test_the_fewest_settings_make_the_same_configuration() -> None:
    assert explicit_settings(CONFIG_MAPPING["qwen3"]()) == {}
    changed = CONFIG_MAPPING["qwen3"](num_hidden_layers=3, rms_norm_eps=1e-4)
    assert explicit_settings(changed) == {"num_hidden_layers": 3, "rms_norm_eps": 1e-4}
    before = changed.to_dict()
    override(changed, "num_hidden_layers=5")
    assert changed.to_dict() == before


@pytest.mark.parametrize("name", ["qwen3", "gemma3_text", "qwen3_moe", "olmoe"])
def test_small_models_by_the_command_line_alone(name: str, tokenizer: ByT5Tokenizer, tmp_path: Path) -> None:
    small = SMALL if name != "olmoe" else SMALL.replace(",head_dim=16", "")
    model = build_model(build_config(name, tokenizer, small), 0, empty=True)
    assert model.num_parameters() < 200_000_000
    model.config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert (again.num_hidden_layers, again.hidden_size) == (2, 64)


@pytest.mark.parametrize(
    "name, overrides, message",
    [
        ("gpt2", "layers=2", "'gpt2' has no setting 'layers'"),
        ("gpt2", "n_layr=2", "did you mean 'n_layer'"),
        ("gpt2", "n_layer=2.5", "n_layer takes int, not '2.5'"),
        ("gpt2", "n_layer=", "n_layer takes int, not ''"),
        ("gpt2", "n_layer=null", "n_layer takes int, not 'null'"),
        ("gpt2", "n_layer=2,n_layer=3", "n_layer is given twice"),
        ("gpt2", "n_layer=2,,n_embd=4", "'' is not NAME=VALUE"),
        ("gpt2", "scale_attn_weights=perhaps", "scale_attn_weights takes bool"),
        ("gpt2", "n_layer.x=2", "n_layer has no parts"),
        ("gpt2", "__class__=2", "has no setting '__class__'"),
        ("gpt2", "save_pretrained=2", "has no setting 'save_pretrained'"),
        ("qwen3", "layer_types=[1", "layer_types: .1 is no JSON"),
        ("qwen3", 'layer_types=["full_attention"]', "must be equal to the number of `layer_types`"),
        ("qwen3", "sliding_window=8", "sliding_window would be None because of other settings, not 8"),
    ],
)
def test_refusals_are_one_line(name: str, overrides: str, message: str, tokenizer: ByT5Tokenizer) -> None:
    with pytest.raises(ValueError, match=f"--config_overrides.*{message}") as refused:
        build_config(name, tokenizer, overrides)
    assert len(str(refused.value).splitlines()) == 1
