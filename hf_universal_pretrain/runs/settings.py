"""What a run is made with, and what of it may change when the run goes on from a checkpoint."""

import hashlib
import json
import math
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments

from hf_universal_pretrain.limits import check_memory
from hf_universal_pretrain.models.tokenizers import token_bytes, tokens_of_bytes
from hf_universal_pretrain.stream.config import SyntheticUPConfig


# training arguments that decide what is learned
DECISIVE = (
    "learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "optim", "optim_args", "weight_decay",
    "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "label_smoothing_factor", "neftune_noise_alpha",
    "bf16", "fp16", "seed", "data_seed", "train_sampling_strategy", "load_best_model_at_end", "metric_for_best_model",
    "greater_is_better",
)  # fmt: skip
# training arguments that may change, and are told
HARMLESS = (
    "logging_steps", "save_steps", "save_strategy", "save_total_limit", "eval_steps", "eval_strategy",
    "per_device_eval_batch_size", "report_to", "push_to_hub", "torch_compile", "gradient_checkpointing",
)  # fmt: skip
# names of what training starts from: the weights decide
NAMES = ("pretrained", "warm_start")
# settings that runs of earlier versions have not told
UNTOLD = (
    "threads", "starting_weights", "eval_text", "early_stopping_patience", "train_sampling_strategy",
    "load_best_model_at_end", "metric_for_best_model", "greater_is_better",
)  # fmt: skip
# how long a run is; see `run_length`
LENGTH = ("max_steps", "num_train_epochs")
# how many rows a step has; these may change together with the number of processes
BATCH = ("per_device_train_batch_size", "gradient_accumulation_steps")
# numbers that transformers takes as they are, NaN too
NOT_NEGATIVE = (
    "learning_rate", "warmup_steps", "weight_decay", "adam_epsilon", "neftune_noise_alpha", "max_grad_norm",
    "num_train_epochs", "logging_steps", "eval_steps", "save_steps", "eval_delay",
)  # fmt: skip
BELOW_ONE = ("adam_beta1", "adam_beta2", "label_smoothing_factor")
# of a model's configuration: where it came from, and what the Trainer changes
_BYTES_OF_A_ROW = 1_000  # at the least: a dictionary of tensors, before rows are stacked
_NOT_OF_THE_MODEL = {"_name_or_path", "transformers_version", "use_cache", "dtype", "torch_dtype", "architectures"}


@runtime_checkable
class TellsSettings(Protocol):
    """A dataset that knows what it is made with."""

    def run_settings(self) -> dict[str, Any]:
        """What decides its rows, as JSON has it; a text is told by a hash."""


def at_least(least: int, flag: str, value: int) -> None:
    """Refuses a number that is too small.

    Raises:
        ValueError: names the flag.
    """
    if value < least:
        raise ValueError(f"--{flag} must be at least {least}, not {value}")


def check_arguments(args: TrainingArguments) -> None:
    """Refuses training arguments that transformers accepts and fails on later.

    Raises:
        ValueError: names the flag and the mend.
    """
    for name in (*BATCH, "per_device_eval_batch_size"):
        at_least(1, name, getattr(args, name))
    rows = args.per_device_train_batch_size * args.gradient_accumulation_steps
    what = "--per_device_train_batch_size x --gradient_accumulation_steps: the rows of a step"
    check_memory(rows * _BYTES_OF_A_ROW, what, "make them smaller")
    for name in (*NOT_NEGATIVE, *BELOW_ONE):
        value, most = getattr(args, name), 1.0 if name in BELOW_ONE else math.inf
        if value is not None and not 0 <= value < most:
            up_to = "on" if most == math.inf else "to below 1"
            raise ValueError(f"--{name} must be a number from 0 {up_to}, not {value}")
    if args.fp16 and args.device.type == "cpu":
        raise ValueError("--fp16 needs a GPU: leave it out, or give --bf16")
    if args.enable_jit_checkpoint:
        raise ValueError("--enable_jit_checkpoint: leave it out: SIGTERM saves a checkpoint without it")
    if args.save_only_model:
        raise ValueError("--save_only_model: leave it out: a run cannot go on from such checkpoints")


def run_settings(
    args: TrainingArguments,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    dataset: object,
    **others: Any,
) -> dict[str, Any]:
    """The settings of a run, flat and as JSON has them, by the names of their flags; `model.NAME` is the model's.

    Paths, tokens and texts are not among them: texts and vocabularies are told by a hash.

    Args:
        args: of the training.
        model: as built, before a Trainer has had it.
        tokenizer: of the model.
        dataset: whose settings are told too if it `TellsSettings`.
        others: what else decides the run, such as the model that its weights come from.
    """
    training = args.to_dict()
    settings: dict[str, Any] = {name: training[name] for name in (*LENGTH, *BATCH, *DECISIVE, *HARMLESS)}
    settings |= {"world_size": args.world_size, "device": args.device.type}
    # on a CPU, the order of sums
    settings |= {"threads": torch.get_num_threads() if args.device.type == "cpu" else None}
    if isinstance(dataset, TellsSettings):
        settings |= dataset.run_settings()
    if tokenizer is not None:
        vocabulary = repr(sorted(_vocabulary(tokenizer).items()))
        settings["tokenizer"] = hashlib.sha256(vocabulary.encode()).hexdigest()[:12]
    config = model.config.to_dict()
    settings |= {f"model.{name}": value for name, value in config.items() if name not in _NOT_OF_THE_MODEL}
    return json.loads(json.dumps(settings | others, default=str))


def told_windows(windows: dict[str, Tensor]) -> str:
    """The texts that a run is measured on, for its settings: each by its name and a hash of its windows."""
    digests = {name: hashlib.sha256(cut.numpy().tobytes()).hexdigest()[:12] for name, cut in windows.items()}
    return ", ".join(f"{name} {digest}" for name, digest in sorted(digests.items()))


def changes(was: dict[str, Any], now: dict[str, Any]) -> tuple[list[str], list[str]]:
    """What differs between the settings of a checkpoint and those of a run that is to go on from it.

    Another number of processes or threads, another device or another length are harmless in that the run goes on,
    although what it learns from there on is not what it would have learned. With another number of processes, the
    batch may change too.

    Returns:
        What the run cannot go on with, and what it can, in words such as `"seed_length (was 8, now 4)"`.
    """
    # a run from before a setting of the data was there had that setting's default; one of a single stream that all
    # processes ran, which there was, cannot go on
    was = {name: value for name, value in was.items() if (name, value) != ("global_stream", False)}
    was = {name: value for name, value in SyntheticUPConfig().to_dict().items() if name in now} | was
    harmless = {*HARMLESS, *LENGTH, *NAMES, "world_size", "device", "threads"}
    if was.get("world_size") != now.get("world_size"):
        harmless |= set(BATCH)
    refused: list[str] = []
    told: list[str] = []
    untold = {name for name in UNTOLD if name not in was}
    for name in dict.fromkeys([*now, *was]):
        if name not in untold and was.get(name) != now.get(name):
            words = f"{name} (was {was.get(name)}, now {now.get(name)})"
            (told if name in harmless else refused).append(words)
    return refused, told


def run_length(settings: dict[str, Any]) -> float:
    """Steps of a run, or its epochs where these decide."""
    return settings["max_steps"] if settings["max_steps"] > 0 else settings["num_train_epochs"]


def _vocabulary(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """As the tokenizer has it; bytes by their number, for tokenizers name them in different ways."""
    if not tokens_of_bytes(tokenizer):
        return tokenizer.get_vocab()
    return {text.decode("latin-1"): token for token, text in enumerate(token_bytes(tokenizer))}
