"""A configuration of a few thousand weights for any architecture, derived from its default one.

Sizes are found by their names in the configuration, in nested ones too. Layers are chosen so that each kind that the
default configuration lists (attention, state space, dense, sparse, sliding, ...) stays. For tests, and to try out an
architecture in seconds.
"""

import re
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedTokenizerBase

from hf_universal_pretrain.models.build import fit_config, read_config
from hf_universal_pretrain.models.overrides import override


# Settings by pattern; the first that fits counts, and only ever makes a value smaller. They go together for one width:
# 64, in 4 heads of 16.
_SIZES: list[tuple[str, int]] = [
    (r"((num_|n_)?(expert_)?groups?|topk_group|o_groups|mamba_n_?groups)", 1),
    (r"((num_|n_)shared_experts|.*nextn_predict_layers|num_kv_shared_layers|first_k_dense_replace)", 1),
    (r"(.*experts_per_tok(en)?|top_k_experts|moe_(k|top_?k))", 2),
    (r"((num_|n_|moe_num_)?(local_|routed_)?experts|zero_expert_num)", 4),
    (r"(.*qk_(rope|nope)_head_dim|.*_rope_head_dim|rotary_dim)", 8),
    (r"(.*mamba_(n_|num_)?heads)", 8),
    (r"(.*head_dim|.*headdim|mamba_d_head|kv_channels|d_kv|d_head|dim_head|attention_head_size)", 16),
    (r"(.*(key_value_heads|kv_heads|kv_n_heads))", 2),
    (r"(.*(attention_heads|num_heads|attn_heads|n_heads|_key_heads|_value_heads|n_head|num_query_groups))", 4),
    (r"(.*(d_state|state_size))", 8),
    (r"mamba_d_ssm", 128),
    (r"(.*(dt_rank|lora_rank|low_?rank|adapter_rank|norm_rank))", 16),
    (r"(.*(sliding_window(_size)?|window_size|window_len|attention_chunk_size|local_attention|index_topk))", 16),
    (r"(.*(intermediate|ffn?|inner|feed_forward|mlp|expert_ffn).*(size|dim)|dff|d_inner|dim_ff|n_inner)", 64),
    (r"(.*vocab_size.*|.*_vocab)", 512),
    (
        r"(.*(hidden_size(_global)?|hidden_dim|d_model|n_embd|embedding_size|embed_dim|emb_dim|proj_dim|embedding_dim))",
        64,
    ),
    (r"(lru_width|rel_extent)", 64),
]
_LAYERS = re.compile(r"(num_|n_)?(hidden_|decoder_|encoder_)?(layers?|blocks)(_per_stack)?")

# What the rules above cannot know: relations between sizes.
_BY_HAND: dict[str, dict[str, Any]] = {
    "mamba2": {"num_heads": 8},  # hidden_size * expand / head_dim
    "minicpm3": {"dim_model_base": 6},  # the width / 10
    "bamba": {"attn_layer_indices": [1]},
    "recurrent_gemma": {"num_hidden_layers": 3},  # recurrent, recurrent, attention
    "xlstm": {"hidden_size": 128, "embedding_dim": 128},  # its head widths are multiples of 64 in all
    "hrm_text": {"num_layers_per_stack": 2, "num_hidden_layers": 16},  # 2 cycles of 3 + 1 passes through the stack
    "reformer": {"axial_pos_embds_dim": [16, 48]},  # add up to the width
    "zamba2": {"attention_head_dim": 32, "attention_hidden_size": 128},  # twice the width
    "zamba": {
        "attention_head_dim": 32,
        "attention_hidden_size": 128,
        "num_hidden_layers": 6,
        "layer_types": ["linear_attention", "linear_attention", "hybrid"] * 2,
    },
}


def tiny_config(name: str, tokenizer: PreTrainedTokenizerBase, overrides: str | None = None) -> PreTrainedConfig:
    """A small configuration of an architecture known to transformers, such as `"qwen3_moe"`, for the tokenizer.

    Args:
        name: of the architecture.
        tokenizer: see `fit_config`.
        overrides: as for `build_config`, of the small configuration.

    Raises:
        ValueError: if none of the attempts (fewer layers and narrower; narrower only) makes a model.
    """
    default = fit_config(read_config(name), tokenizer)
    settings = default.to_dict()
    reasons = []
    for fewer_layers in (True, False):
        try:
            config = type(default)(**_shrink(settings, fewer_layers) | _BY_HAND.get(name, {}))
            if overrides:
                config = override(config, overrides)
            config = fit_config(config, tokenizer)
            with torch.device("meta"):
                AutoModelForCausalLM.from_config(config)
            return config
        except Exception as error:  # whatever an architecture says of sizes that do not go together
            reasons.append(f"{type(error).__name__}: {error}")
    raise ValueError(f"--model: no small configuration of {name!r} makes a model: {reasons[0]}")


def _shrink(settings: dict[str, Any], fewer_layers: bool) -> dict[str, Any]:
    """The settings that change, to construct a small configuration with."""
    changed: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict) and "config" in key:
            changed[key] = _shrink(value, fewer_layers)
        elif not _LAYERS.fullmatch(key):
            small = next((size for pattern, size in _SIZES if re.fullmatch(pattern, key)), None)
            if small is None:
                continue
            if type(value) is int and small < value:
                changed[key] = small
            elif isinstance(value, list):  # one size a layer
                changed[key] = [min(small, size) if type(size) is int else size for size in value]
    if settings.get("head_dim", 0) == settings.get("qk_rope_head_dim"):
        changed["head_dim"] = 8
    for key in changed:
        heads = key.replace("key_value", "attention")  # as many key as query heads stay as many
        if heads != key and settings.get(heads) == settings[key]:
            changed[key] = 4
    return changed | _choose_layers(settings | changed) if fewer_layers else changed


def _choose_layers(settings: dict[str, Any]) -> dict[str, Any]:
    """Two layers or more: the first of each kind that the lists of one entry a layer tell apart."""
    counts = {key: value for key, value in settings.items() if _LAYERS.fullmatch(key) and isinstance(value, int)}
    if not counts:
        return {}
    layers = max(counts.values())
    lists = {key: value for key, value in settings.items() if isinstance(value, list) and len(value) == layers}
    kinds = list(zip(*lists.values(), strict=True)) if lists else []
    numbered = {key for key, value in lists.items() if value == list(range(layers))}  # numbers of layers, not kinds
    kinds = [tuple(str(v) for k, v in zip(lists, kind, strict=True) if k not in numbered) for kind in kinds]
    offsets = [
        value for key, value in settings.items() if key.endswith("layer_offset")
    ]  # the first of a periodic kind
    wanted = max(2, *(offset + 1 for offset in offsets), 0)
    kept = {kinds.index(kind) for kind in kinds}
    kept = sorted([*kept, *(i for i in range(layers) if i not in kept)][: max(wanted, len(kept))])
    changed: dict[str, Any] = {key: min(value, len(kept)) for key, value in counts.items()}
    for key, value in lists.items():
        changed[key] = list(range(len(kept))) if key in numbered else [value[i] for i in kept]
    return changed
