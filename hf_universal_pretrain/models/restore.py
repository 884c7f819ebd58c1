"""A model's weights out of a saved folder, all of them or none.

What `save_pretrained` writes is not always what `state_dict` holds: experts are split, fused projections divided and
names changed, so that files fit those of the original model. `from_pretrained` converts them back. `Trainer`, when it
goes on from a checkpoint or takes the best model, does not: what it does not find keeps the values that it has, with a
warning. Here a checkpoint is read as `from_pretrained` reads it, and counts only if each weight was in it.
"""

import copy
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import convert_and_load_state_dict_in_model
from transformers.modeling_utils import LoadStateDictConfig
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME
from transformers.utils.logging import set_tqdm_hook

from hf_universal_pretrain.errors import NotRestored, first_line


SHOWN = 3  # names of weights in a message
MEND = "give another --resume_from_checkpoint, or another --output_dir to start anew"


@torch.no_grad()
def restore_weights(model: PreTrainedModel, folder: str | Path) -> None:
    """Gives a model the weights that `save_pretrained` wrote into a folder, in place: parameters and buffers stay the
    objects that they are, on their devices and in their types. The global random state is left as it was.

    Takes as much memory on the CPU as the weights, for the time of loading.

    Args:
        model: whole (not sharded), of the class and with the configuration that were saved.
        folder: with `model.safetensors`, or an index and its files.

    Raises:
        NotRestored: if a weight of the model is not in the files, or they hold others than the model has; the model is
            then as it was before.
    """
    try:
        read, strange = _read(model, weight_files(Path(folder)))
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise NotRestored(f"{folder}: its weights cannot be read ({first_line(error)}); {MEND}") from error
    missing = [name for name in model.state_dict() if name not in read]
    for names, what in ((missing, "has no values for {} weights of the model"), (strange, "holds {} other weights")):
        if names:
            shown = ", ".join(sorted(names)[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
            raise NotRestored(
                f"{folder} {what.format(len(names))} ({shown}): it was saved by another model or another version of "
                f"transformers; {MEND}"
            )
    model.load_state_dict(read, strict=False)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that hold a model's weights, in the folder itself.

    Raises:
        OSError: if there is none.
        ValueError: if the index is none, or names anything but safetensors files beside it.
    """
    if (folder / SAFE_WEIGHTS_NAME).is_file():
        return [folder / SAFE_WEIGHTS_NAME]
    index = folder / SAFE_WEIGHTS_INDEX_NAME
    if not index.is_file():
        raise FileNotFoundError(f"no {SAFE_WEIGHTS_NAME}")
    return [folder / name for name in indexed_files(index)]


def indexed_files(index: Path) -> list[str]:
    """The names of the safetensors files that an index of weights names.

    Raises:
        ValueError: if it is no such index, or names anything but safetensors files beside it.
    """
    try:
        names = {str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{index.name} is no index of weights") from error
    for name in sorted(names):
        if not name.endswith(".safetensors") or Path(name).name != name:
            raise ValueError(f"{index.name} names {name!r}; only safetensors files beside it are read")
    return sorted(names)


def _read(model: PreTrainedModel, files: list[Path]) -> tuple[dict[str, torch.Tensor], list[str]]:
    """What files hold for a model, by the model's names; and the names of what it has no place for."""
    with torch.random.fork_rng(), torch.device("meta"):
        empty: PreTrainedModel = type(model)._from_config(copy.deepcopy(model.config), dtype=model.dtype)
    with ExitStack() as opened, _without_progress_bars():
        pointers = [opened.enter_context(safe_open(file, framework="pt")) for file in files]
        found = {name: pointer.get_slice(name) for pointer in pointers for name in pointer.keys()}
        conversions: list[Any] = list(get_model_conversion_mapping(empty))
        info, _ = convert_and_load_state_dict_in_model(empty, found, LoadStateDictConfig(weight_mapping=conversions))
    empty.tie_weights(missing_keys=info.missing_keys, recompute_mapping=False)
    read = {name: weight for name, weight in empty.state_dict().items() if not weight.is_meta}
    strange = [*info.unexpected_keys, *(name for name, *_ in info.mismatched_keys), *info.conversion_errors]
    return read, strange


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    before = set_tqdm_hook(lambda make, args, kwargs: make(*args, **{**kwargs, "disable": True}))
    try:
        yield
    finally:
        set_tqdm_hook(before)
