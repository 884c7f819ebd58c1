"""What is measured of a model on a text or a probe, as plain dictionaries: the table's rows, the JSON's entries."""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from hf_universal_pretrain.evaluation.baselines import counting_baselines, with_best
from hf_universal_pretrain.evaluation.bits import symbol_bits, text_bits
from hf_universal_pretrain.evaluation.probes import PIECES, probe_windows
from hf_universal_pretrain.evaluation.tasks import TASKS
from hf_universal_pretrain.evaluation.tokenized import TextTokens, text_tokens, uniform_bits
from hf_universal_pretrain.evaluation.windows import mean_and_interval, position_masks, window_means
from hf_universal_pretrain.models.tokenizers import PRINTABLE, tokens_of_bytes, usable_tokens


SYMBOLS = 256
REPETITIONS = ("rep-1", "rep-3", "rep-10")
PROBES = (*PIECES, *REPETITIONS, *TASKS)

Figures = dict[str, float | None]


def text_figures(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    windows: Tensor,
    batch_size: int = 16,
    progress: str | None = None,
) -> dict[str, Figures]:
    """`bits_per_byte` and `ci95` (half-width, over windows; None for a single one) for each of `position_masks`;
    arguments as for `text_bits`."""
    bits = text_bits(model, tokenizer, windows, batch_size, progress)
    figures = {}
    for name, mask in position_masks(windows.shape[1]).items():
        mean, interval = mean_and_interval(window_means(bits, mask))
        figures[name] = _without_nan({"bits_per_byte": mean, "ci95": interval})
    return figures


@dataclass
class TextSetting:
    """All that a text's figures are told with, whatever the model."""

    baselines: dict[str, dict[str, float]]
    """Bits per byte for each of `position_masks`; see `text_setting`."""
    windows: int
    context_length: int
    """Bytes in a window."""
    tokens: TextTokens


def text_setting(
    windows: Tensor,
    tokenizer: PreTrainedTokenizerBase,
    told: Literal["all", "printable"] = "all",
    counted: dict[str, dict[str, float]] | None = None,
) -> TextSetting:
    """The baselines of a text, and what the tokenizer makes of it.

    `uniform` is over the 256 bytes, or over those that the model was told of; with tokens of several bytes,
    `uniform_tokens` is over tokens: an untrained model is there, which may be far below `uniform`. For the others see
    `counting_baselines`.

    Args:
        windows: `(count, length)` uint8.
        tokenizer: of the model.
        told: the tokens that the model was pretrained on (`SyntheticUPConfig.tokens`).
        counted: what `text_baselines` has of these windows, to spare the time.
    """
    tokens = text_tokens(windows, tokenizer)
    usable = len(usable_tokens(tokenizer, told))
    first = {"uniform": math.log2(len(PRINTABLE) if told == "printable" else SYMBOLS)}
    baselines = {}
    for name, values in (counted or text_baselines(windows)).items():
        if not tokens_of_bytes(tokenizer) and not math.isnan(tokens.per_byte[name]):
            first["uniform_tokens"] = uniform_bits(usable, tokens.per_byte[name])
        baselines[name] = with_best({**first, **{key: bits for key, bits in values.items() if key != "uniform"}})
    count, length = windows.shape
    return TextSetting(baselines, count, length, tokens)


def text_baselines(windows: Tensor) -> dict[str, dict[str, float]]:
    """`counting_baselines` of windows of bytes for each of `position_masks`, in bits per byte."""
    return counting_baselines(windows, position_masks(windows.shape[1]))


def text_entry(figures: dict[str, Figures], setting: TextSetting) -> dict[str, Any]:
    """One text's entry in the JSON: `bits_per_byte`, `ci95` and `baselines` of the second half of each window, the
    same under `whole` and `last`, `windows` (their number) and `context_length` (their bytes).

    Where the tokenizer does not tell a text back, `lost` is the share of its bytes; where its tokens cannot be aligned
    with bytes, `halves` is `"tokens"`.

    Args:
        figures: from `text_figures`; what is missing stays missing.
        setting: from `text_setting`.
    """
    entry: dict[str, Any] = {
        name: {**figures.get(name, {}), "baselines": found} for name, found in setting.baselines.items()
    }
    entry = {**entry.pop("second_half"), **entry}
    entry |= {"windows": setting.windows, "context_length": setting.context_length}
    if setting.tokens.lost:
        entry["lost"] = setting.tokens.lost
    if setting.tokens.by_count:
        entry["halves"] = "tokens"
    return entry


def choose_probes(names: list[str], tokenizer: PreTrainedTokenizerBase, flag: str) -> list[str]:
    """The probes that a flag names: `all` stands for each of `PROBES`.

    Raises:
        ValueError: for an unknown name, or a tokenizer with too few tokens for the symbols; the message names `flag`.
    """
    if names and len(usable_tokens(tokenizer)) < SYMBOLS:
        raise ValueError(f"{flag}: probes need a tokenizer with at least {SYMBOLS} tokens that are not special")
    names = [name for given in names for name in (PROBES if given == "all" else (given,))]
    for name in names:
        if name not in PROBES:
            raise ValueError(f"{flag}: unknown probe {name!r}; choose from all, {', '.join(PROBES)}")
    return list(dict.fromkeys(names))


def make_probe(name: str, length: int, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The windows of a probe and the positions that it is judged on: the last one for the paper's, the whole window
    for `rep-N`, the answers for tasks.

    Args:
        name: one of `PROBES`.
        length: symbols in a window.
        count: windows.
        seed: of the probe; the same seed gives the same windows, whatever other probes are made.

    Returns:
        `(count, length)` integers below 256, and bool of the same shape.
    """
    generator = torch.Generator().manual_seed(zlib.crc32(f"{name} {seed}".encode()))
    if name in TASKS:
        return TASKS[name](count, length, generator)
    rows = probe_windows(name, length, count, generator)
    mask = position_masks(length)["whole" if name in REPETITIONS else "last"]
    return rows, mask.expand(rows.shape)


def probe_figures(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    length: int,
    count: int,
    batch_size: int = 16,
    progress: str | None = None,
) -> Figures:
    """What a model reaches on a probe, over the positions that it is judged on.

    Returns:
        `bits_per_symbol`, `ci95` (None for a single window), `accuracy` (share of symbols for which the model holds
        the right one for the most likely token); for tasks also `bits_saved`: bits a symbol of what is not judged
        (random symbols) less those of what is. Of `induction` that is the induction score.
    """
    rows, mask = make_probe(name, length, count)
    bits, right = symbol_bits(model, tokenizer, rows, batch_size, progress)
    mean, interval = mean_and_interval(window_means(bits, mask))
    figures = {"bits_per_symbol": mean, "ci95": interval}
    figures["accuracy"] = window_means(right.double(), mask).nanmean().item()
    if name in TASKS:
        figures["bits_saved"] = window_means(bits, ~mask).nanmean().item() - mean
    return _without_nan(figures)


def probe_entry(figures: Figures, name: str, length: int, count: int) -> dict[str, Any]:
    """One probe's entry in the JSON: `figures` (from `probe_figures`), `baselines` at the same positions, `windows`,
    `context_length`."""
    rows, mask = make_probe(name, length, count)
    baselines = counting_baselines(rows, {"judged": mask})["judged"]
    return {**figures, "baselines": baselines, "windows": count, "context_length": length}


def measure(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    windows: dict[str, Tensor],
    probes: Sequence[str],
    length: int,
    count: int,
    batch_size: int = 16,
    show_progress: bool = True,
) -> dict[str, dict[str, Any]]:
    """What a model reaches on texts and probes.

    Args:
        model: a causal language model.
        tokenizer: whose tokens it reads.
        windows: of each text, `(count, length)` uint8.
        probes: names among `PROBES`.
        length: symbols in a window of a probe.
        count: windows of each probe.
        batch_size: windows in one forward pass.
        show_progress: shows a bar for what takes more than two seconds.

    Returns:
        Under `texts` the `text_figures` of each, under `probes` the `probe_figures`.
    """
    bars = {name: f"Measuring {name}" if show_progress else None for name in (*windows, *probes)}
    return {
        "texts": {name: text_figures(model, tokenizer, cut, batch_size, bars[name]) for name, cut in windows.items()},
        "probes": {
            name: probe_figures(model, tokenizer, name, length, count, batch_size, bars[name]) for name in probes
        },
    }


def _without_nan(figures: dict[str, float]) -> Figures:
    """As JSON has them: None where there is nothing to tell."""
    return {name: None if math.isnan(value) else value for name, value in figures.items()}
