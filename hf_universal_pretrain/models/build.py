"""A model and a tokenizer from names, with the checks that keep a pretraining run honest."""

import contextlib
import difflib
import logging
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME
from transformers.utils import logging as transformers_logging

from hf_universal_pretrain.errors import first_line
from hf_universal_pretrain.hub import find_file
from hf_universal_pretrain.limits import TooLarge
from hf_universal_pretrain.models.overrides import override, text_part
from hf_universal_pretrain.models.restore import indexed_files
from hf_universal_pretrain.models.sizes import check_counts, check_size
from hf_universal_pretrain.models.tokenizers import needs_its_code


def read_config(name: str, trust_remote_code: bool = False) -> PreTrainedConfig:
    """The configuration of an architecture, as it is.

    Args:
        name: an architecture known to transformers (`gpt2`: its default configuration, nothing is downloaded), a local
            folder, or a Hub id.

    Raises:
        ValueError: if there is no such causal language model.
    """
    if name in CONFIG_MAPPING and not Path(name).is_dir():
        if name not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
            raise ValueError(f"--model: {name!r} is not a causal language model")
        try:
            return CONFIG_MAPPING[name]()
        except Exception as error:  # an architecture whose default does not stand up to its own checks
            raise ValueError(
                f"--model: {name!r} has no usable default configuration ({first_line(error)}); give a folder or a "
                "Hub id with a config.json"
            ) from error
    try:
        check_counts(PreTrainedConfig.get_config_dict(name)[0], "--model")
        return AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
    except TooLarge:
        raise
    except Exception as error:  # whatever a file that is no configuration leads to
        near = difflib.get_close_matches(name, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, 1)
        hint = f"did you mean {near[0]!r}?" if near else "give an architecture such as 'gpt2', a folder or a Hub id"
        raise ValueError(
            needs_its_code(error, "--model", name) or f"--model: no model at {name!r} ({first_line(error)}); {hint}"
        ) from error


def build_config(
    name: str,
    tokenizer: PreTrainedTokenizerBase,
    overrides: str | None = None,
    pad_vocab_multiple_of: int = 1,
    trust_remote_code: bool = False,
) -> PreTrainedConfig:
    """The configuration of an architecture, made to fit the tokenizer.

    Args:
        name: see `read_config`.
        tokenizer: gives the vocabulary's size and the special tokens.
        overrides: changes such as `"n_layer=2,n_embd=128"` (see `overrides.override`).
        pad_vocab_multiple_of: the vocabulary is rounded up to a multiple of it.
        trust_remote_code: lets code run that comes with the configuration.

    Raises:
        ValueError: if there is no such model or an override does not fit.
    """
    config = read_config(name, trust_remote_code)
    if overrides:
        config = override(config, overrides)
    return fit_config(config, tokenizer, pad_vocab_multiple_of)


def fit_config(
    config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, pad_vocab_multiple_of: int = 1
) -> PreTrainedConfig:
    """Makes a configuration that of a causal language model which reads the tokenizer's tokens, in place.

    - Of a model that also sees or hears, the language model is taken where that is an architecture of its own.
    - An encoder that can be a decoder becomes one (`is_decoder`, `causal`): as an encoder it would see what it is to
      predict.
    - Vocabulary size (rounded up to `pad_vocab_multiple_of`) and special tokens are the tokenizer's.
    - What is left open gets the value that all models take it for: as many key as query heads, each as wide as the
      width divided by the heads.

    Returns:
        The configuration to build from: `config` or its part for text.
    """
    text = text_part(config)
    if type(text) in MODEL_FOR_CAUSAL_LM_MAPPING:
        config = text
    if pad_vocab_multiple_of < 1:
        raise ValueError(f"--pad_vocab_multiple_of must be at least 1, not {pad_vocab_multiple_of}")
    text.vocab_size = math.ceil(len(tokenizer) / pad_vocab_multiple_of) * pad_vocab_multiple_of
    if "decoder_vocab_size" in vars(text):
        text.decoder_vocab_size = text.vocab_size
    for special in ("bos_token_id", "eos_token_id", "pad_token_id"):
        token = getattr(tokenizer, special)
        try:
            setattr(text, special, token)
        except StrictDataclassError:  # some refuse None; a text's beginning is then its predecessor's end
            setattr(text, special, tokenizer.eos_token_id)
    if text.is_encoder_decoder:
        text.is_encoder_decoder = False
    for setting in ("is_decoder", "causal"):
        if getattr(text, setting, None) is False:
            setattr(text, setting, True)
    if vars(text).get("num_key_value_heads", 0) is None:
        text.num_key_value_heads = text.num_attention_heads
    if vars(text).get("head_dim", 0) is None:
        text.head_dim = text.hidden_size // text.num_attention_heads
    return config


def build_model(
    config: PreTrainedConfig, seed: int, empty: bool = False, trust_remote_code: bool = False
) -> PreTrainedModel:
    """A model with random weights, float32 whatever the configuration says (train in bf16 with `--bf16`).

    The global random state is left as it was.

    Args:
        config: see `build_config`.
        seed: of the weights.
        empty: makes the model without memory for its weights (on torch's "meta" device), to be counted only.
        trust_remote_code: lets code run that comes with the configuration.

    Raises:
        ValueError: if the configuration does not fit itself (say, a width that the heads do not divide), or is of a
            model that does not fit into memory.
    """
    if not empty:
        check_counts(config.to_dict(), "--model")
        check_size(build_model(config, seed, empty=True, trust_remote_code=trust_remote_code), "--model")
    with torch.random.fork_rng(), torch.device("meta") if empty else contextlib.nullcontext():
        torch.manual_seed(seed)
        try:
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=trust_remote_code)
        except Exception as error:  # whatever an architecture says of settings that do not go together
            raise ValueError(
                f"--model: this configuration of {config.model_type!r} makes no model ({first_line(error)}); change "
                "it with --config_overrides, or give a folder with a complete config.json"
            ) from error
    if type(model.config) not in MODEL_FOR_CAUSAL_LM_MAPPING and not trust_remote_code:
        raise ValueError(
            f"--model: {config.model_type!r} saves a configuration of type {model.config.model_type!r}, from which "
            "AutoModelForCausalLM cannot load it again; choose another architecture"
        )
    return honest_loss(model)


def override_settings(config: PreTrainedConfig, overrides: str, trust_remote_code: bool = False) -> PreTrainedConfig:
    """A trained model's configuration with other settings, such as dropout.

    Raises:
        ValueError: if an override does not fit, or a weight would have another shape.
    """
    changed = override(config, overrides)
    before, after = (
        {name: weight.shape for name, weight in build_model(made, 0, True, trust_remote_code).state_dict().items()}
        for made in (config, changed)
    )
    other = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if other:
        raise ValueError(
            f"--config_overrides {overrides!r} would give {other[0]} another shape: give settings that leave the "
            "model's weights as they are"
        )
    return changed


def load_model(
    directory: str, flag: str = "--model", trust_remote_code: bool = False, config: PreTrainedConfig | None = None
) -> PreTrainedModel:
    """The trained weights of a local folder or a Hub repository, in float32; only from safetensors files.

    Args:
        directory: a folder or a Hub id.
        flag: that named it, for errors.
        trust_remote_code: lets code run that comes with the model.
        config: in place of the model's own.

    Raises:
        ValueError: if there is no model, or its weights hold NaN or infinite values; the message names `flag`.
    """
    try:
        check_counts(PreTrainedConfig.get_config_dict(directory)[0], flag)
        index = find_file(directory, SAFE_WEIGHTS_INDEX_NAME)
        if index is not None:
            indexed_files(index)  # or an index may name a pickle, which would be loaded
        with _without_reports():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                directory, dtype=torch.float32, use_safetensors=True, trust_remote_code=trust_remote_code,
                output_loading_info=True, config=config,
            )  # fmt: skip
    except TooLarge:
        raise
    except Exception as error:  # a broken file is reported by a library in Rust, with errors of its own
        raise ValueError(
            needs_its_code(error, flag, directory) or f"{flag}: no model at {directory!r} ({first_line(error)})"
        ) from error
    model: PreTrainedModel = loaded[0]
    missing = sorted(loaded[1]["missing_keys"])
    if missing:
        raise ValueError(
            f"{flag}: {directory!r} has no values for {len(missing)} weights of the model "
            f"({missing[0]}): give the folder of a whole model"
        )
    name = not_finite(model)
    if name is not None:
        raise ValueError(
            f"{flag}: the weights of {directory!r} hold NaN or infinite values ({name}): give a model from before its "
            "training diverged"
        )
    return honest_loss(model)


def weights_checksum(model: PreTrainedModel) -> str:
    """A checksum (CRC-32, in hex) of a model's weights and buffers, which takes about a second for a gigabyte."""
    checksum = 0
    for name, weight in sorted(model.state_dict().items()):
        values = weight.detach().cpu().contiguous().view(-1).view(torch.uint8)
        checksum = zlib.crc32(values.numpy(), zlib.crc32(name.encode(), checksum))
    return f"{checksum:08x}"


@contextlib.contextmanager
def _without_reports() -> Iterator[None]:
    """What the library says of weights that do not fit, in many lines, is told in one."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)


@torch.no_grad()
def not_finite(model: PreTrainedModel) -> str | None:
    """The name of a weight that holds NaN or infinite values, if there is one; with FSDP, among this process's."""
    mine = [(name, w.to_local() if isinstance(w, DTensor) else w) for name, w in model.named_parameters()]
    mine = [(name, weight) for name, weight in mine if not weight.is_meta]
    finite = [weight.isfinite().all() for _, weight in mine]
    if not finite or torch.stack(finite).all():
        return None
    return next(name for (name, _), fine in zip(mine, finite, strict=True) if not fine)


def honest_loss(model: PreTrainedModel) -> PreTrainedModel:
    """Makes the Trainer divide the loss by the number of predictions.

    transformers finds the loss type in the name of the class; "GPT2LMHeadModel" has none, and the Trainer then divides
    the sum over T - 1 predictions by T, so that an untrained model logs less than ln(vocabulary).
    """
    if model.loss_type is None:
        model.loss_type = "ForCausalLM"
    return model


def embedding_count(model: PreTrainedModel) -> int:
    """Rows of the input embedding: the tokens that the model can read."""
    return cast(nn.Embedding, model.get_input_embeddings()).weight.shape[0]


def positions_of(config: PreTrainedConfig) -> int | None:
    """How many tokens a model can read at once; None for no limit."""
    positions = getattr(text_part(config), "max_position_embeddings", None)
    return positions if isinstance(positions, int) and positions > 0 else None


def has_rotary_positions(config: PreTrainedConfig) -> bool:
    """Whether attention is told the positions by rotation, so that a model need not learn them."""
    return getattr(text_part(config), "rope_parameters", None) is not None


def check_fits(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, context_length: int) -> None:
    """Refuses what would end in an index error deep inside the model.

    Raises:
        ValueError: if the tokenizer has more tokens than the model embeddings, or a row more tokens than positions.
    """
    embeddings = embedding_count(model)
    if len(tokenizer) > embeddings:
        raise ValueError(
            f"--tokenizer: it has {len(tokenizer)} tokens, but the model has only {embeddings} embeddings: give the "
            "tokenizer that the model was made with"
        )
    positions = positions_of(model.config)
    if positions is not None and positions < context_length:
        raise ValueError(
            f"--context_length: {context_length} is more than the {positions} positions of the model: lower it, or "
            "raise the model's with --config_overrides"
        )
