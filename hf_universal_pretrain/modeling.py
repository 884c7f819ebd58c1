"""A model and a tokenizer from names, with the checks that keep a pretraining run honest."""

import contextlib
import difflib
from pathlib import Path

import torch
import yaml
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    ByT5Tokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


def build_tokenizer(name: str, flag: str = "--tokenizer") -> PreTrainedTokenizerBase:
    """The byte tokenizer for `"byte"` (ByT5's without extra ids: 256 bytes and 3 special tokens), else the tokenizer
    of a local folder or a Hub repository.

    Raises:
        ValueError: if there is no such tokenizer; the message names `flag`.
    """
    if name == "byte":
        return ByT5Tokenizer(extra_ids=0)
    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{flag}: no tokenizer at {name!r} ({_first_line(error)}); give 'byte', a folder or a Hub id"
        ) from error


def read_config(name: str) -> PreTrainedConfig:
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
        return CONFIG_MAPPING[name]()
    try:
        return AutoConfig.from_pretrained(name)
    except (OSError, ValueError, KeyError) as error:
        near = difflib.get_close_matches(name, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, 1)
        hint = f"did you mean {near[0]!r}?" if near else "give an architecture such as 'gpt2', a folder or a Hub id"
        raise ValueError(f"--model: no model at {name!r} ({_first_line(error)}); {hint}") from error


def build_config(name: str, tokenizer: PreTrainedTokenizerBase, overrides: str | None = None) -> PreTrainedConfig:
    """The configuration of an architecture, made to fit the tokenizer.

    Args:
        name: see `read_config`.
        tokenizer: gives the vocabulary's size and the special tokens.
        overrides: changes such as `"n_layer=2,n_embd=128"`.

    Raises:
        ValueError: if there is no such model or an override does not fit.
    """
    config = read_config(name)
    if overrides:
        try:
            for override in overrides.split(","):
                key, _, value = override.partition("=")
                if value and getattr(config, key, "") is None:  # the library leaves these alone: it knows no type
                    setattr(config, key, yaml.safe_load(value))
                else:
                    config.update_from_string(override)
        except (ValueError, TypeError, yaml.YAMLError) as error:
            raise ValueError(
                f"--config_overrides {overrides!r}: {_first_line(error)}; the form is n_layer=2,n_embd=128"
            ) from error
    text = config.get_text_config()
    text.vocab_size = len(tokenizer)
    for special in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(text, special, getattr(tokenizer, special))
    return config


def build_model(config: PreTrainedConfig, seed: int, empty: bool = False) -> PreTrainedModel:
    """A model with random weights, float32 whatever the configuration says (train in bf16 with `--bf16`).

    The global random state is left as it was.

    Args:
        config: see `build_config`.
        seed: of the weights.
        empty: makes the model without memory for its weights (on torch's "meta" device), to be counted only.

    Raises:
        ValueError: if the configuration does not fit itself (say, a width that the heads do not divide).
    """
    with torch.random.fork_rng(), torch.device("meta") if empty else contextlib.nullcontext():
        torch.manual_seed(seed)
        try:
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        except (ValueError, AssertionError, RuntimeError) as error:
            raise ValueError(f"--model: this configuration makes no model: {_first_line(error)}") from error
    return honest_loss(model)


def load_model(directory: str, flag: str = "--model") -> PreTrainedModel:
    """The trained weights of a local folder or a Hub repository, in float32.

    Raises:
        ValueError: if there is no model; the message names `flag`.
    """
    try:
        model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{flag}: no model at {directory!r} ({_first_line(error)})") from error
    return honest_loss(model)


def honest_loss(model: PreTrainedModel) -> PreTrainedModel:
    """Makes the Trainer divide the loss by the number of predictions.

    transformers finds the loss type in the name of the class; "GPT2LMHeadModel" has none, and the Trainer then divides
    the sum over T - 1 predictions by T, so that an untrained model logs less than ln(vocabulary).
    """
    if model.loss_type is None:
        model.loss_type = "ForCausalLM"
    return model


def check_fits(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, context_length: int) -> None:
    """Refuses what would end in an index error deep inside the model.

    Raises:
        ValueError: if the tokenizer has more tokens than the model embeddings, or a row more tokens than positions.
    """
    embeddings = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > embeddings:
        raise ValueError(
            f"--tokenizer: it has {len(tokenizer)} tokens, but the model has only {embeddings} embeddings: give the "
            "tokenizer that the model was made with"
        )
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)  # absent: no limit
    if positions is not None and context_length > positions:
        raise ValueError(
            f"--context_length: {context_length} is more than the {positions} positions of the model: lower it, or "
            "raise the model's with --config_overrides"
        )


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
