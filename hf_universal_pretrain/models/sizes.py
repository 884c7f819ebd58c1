"""Models that are too large, told from their configuration: to make one to see would take minutes, or all memory."""

import re
from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedModel

from hf_universal_pretrain.limits import GB, TooLarge, check_memory


# settings that say how many modules there are; making one takes about a tenth of a millisecond and a few kilobytes
_COUNTS = (
    (re.compile(r"(num_|n_)?(\w+_)?(layers?|blocks)(_per_stack)?"), 1_000),
    (re.compile(r"\w*(experts|heads|groups)"), 100_000),
)


def check_counts(settings: Mapping[str, Any], flag: str) -> None:
    """Refuses a configuration of more layers or experts than can be made, nested configurations included.

    Args:
        settings: of a model, as `config.json` has them.
        flag: where they come from.

    Raises:
        TooLarge: names the setting.
    """
    for name, value in settings.items():
        if isinstance(value, Mapping):
            check_counts(value, flag)
        elif isinstance(value, (int, float)):
            for pattern, most in _COUNTS:
                if pattern.fullmatch(str(name)) and value > most:
                    raise TooLarge(f"{flag}: {name} is {value:,}, more than {most:,}: make it smaller")


def check_size(empty: PreTrainedModel, flag: str) -> None:
    """Refuses a model whose weights do not fit into memory.

    Args:
        empty: the model on torch's "meta" device.
        flag: where its configuration comes from.

    Raises:
        TooLarge: with the number of weights and of bytes.
    """
    count = sum(weight.numel() for weight in empty.parameters())
    what = f"{flag}: a model of {count:,} weights ({4 * count / GB:,.1f} GB in float32, four times that to train)"
    check_memory(4 * count, what, "make it smaller with --config_overrides, or choose another")
