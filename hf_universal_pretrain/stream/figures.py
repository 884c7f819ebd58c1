"""What a buffer holds, in figures and pictures."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hf_universal_pretrain.machines.complexity import Band, compressibility
from hf_universal_pretrain.stream.config import SyntheticUPConfig
from hf_universal_pretrain.stream.dataset import SyntheticUPDataset


@dataclass
class RowFigures:
    """Figures of each row of a buffer, `(rows,)` each.

    Args:
        compressibility: zlib's size against that of noise; 1 is incompressible.
        entropy: of the row's own symbol frequencies, in bits a symbol.
        distinct: how many different symbols it has.
        passes: how many machines have acted on it.
    """

    compressibility: Tensor
    entropy: Tensor
    distinct: Tensor
    passes: Tensor


def row_figures(rows: Tensor, passes: Tensor, alphabet_size: int) -> RowFigures:
    """Figures of `(rows, length)` symbols."""
    counts = torch.zeros(len(rows), alphabet_size).scatter_add_(1, rows, torch.ones(rows.shape))
    frequency = counts / rows.shape[1]
    return RowFigures(
        compressibility=compressibility(rows, alphabet_size),
        entropy=-(frequency * frequency.clamp(min=1e-12).log2()).sum(1),
        distinct=(counts > 0).sum(1),
        passes=passes.clone(),
    )


def buffer_figures(dataset: SyntheticUPDataset) -> RowFigures:
    """Figures of all rows of a stream's buffer."""
    every_row = torch.arange(dataset.config.buffer_size)
    return row_figures(dataset.buffer.read(every_row), dataset.buffer.passes, dataset.config.alphabet_size)


def band_shares(figures: RowFigures, band: Band) -> dict[str, float]:
    """The shares of rows below, inside and above a band: `dead`, `in_band`, `incompressible`."""
    ratio = figures.compressibility
    dead, noise = (ratio < band.low).float().mean().item(), (ratio > band.high).float().mean().item()
    return {"dead": round(dead, 4), "in_band": round(1 - dead - noise, 4), "incompressible": round(noise, 4)}


def summary(dataset: SyntheticUPDataset, figures: RowFigures, band: Band) -> dict[str, float]:
    """Rows a second and acceptance of a stream since its start, and of its rows as they are the shares of a band."""
    return {
        "rows_per_second": round(dataset.tried / max(dataset.generation_seconds, 1e-9), 1),
        "acceptance": round(dataset.kept / max(1, dataset.tried), 4),
        **band_shares(figures, band),
        "mean_compressibility": round(figures.compressibility.mean().item(), 4),
        "mean_passes": round(figures.passes.float().mean().item(), 2),
    }


def stream_figures(config: SyntheticUPConfig, rounds: int, band: Band) -> dict[str, float]:
    """The summary of a stream after so many rounds, on the CPU."""
    dataset = SyntheticUPDataset(config)
    for _ in range(rounds):
        dataset.enrich()
    return summary(dataset, buffer_figures(dataset), band)


def plot_buffer(buffers: dict[str, Tensor], alphabet_size: int, path: str | Path, rows: int = 160) -> None:
    """Draws the first rows and 256 symbols of several buffers side by side, a row a line, a symbol a colour.

    Args:
        buffers: `(rows, length)` symbols by title.
        alphabet_size: number of symbols.
        path: the PNG to write.
        rows: rows that are shown; half of them from each end, where a fresh buffer has noise and constants.
    """
    from matplotlib.figure import Figure  # not before something is drawn

    figure = Figure(figsize=(3.4 * len(buffers), 3.4), layout="constrained")
    axes = figure.subplots(1, len(buffers), squeeze=False)
    for axis, (title, symbols) in zip(axes[0], buffers.items(), strict=True):
        shown = torch.cat([symbols[: rows // 2], symbols[-(rows // 2) :]])[:, :256]
        axis.imshow(
            shown, cmap="nipy_spectral", vmin=0, vmax=alphabet_size - 1, aspect="auto", interpolation="nearest"
        )
        axis.set(title=title, xlabel="symbol", yticks=[])
    axes[0][0].set_ylabel("row")
    figure.savefig(path, dpi=110)


def plot_row_figures(figures: dict[str, RowFigures], path: str | Path) -> None:
    """Draws histograms of the figures of rows, one line for each buffer.

    Args:
        figures: by title.
        path: the PNG to write.
    """
    from matplotlib.figure import Figure  # not before something is drawn

    panels = {
        "compressibility": "compressibility (1: noise)", "entropy": "entropy, bits a symbol",
        "distinct": "different symbols", "passes": "passes",
    }  # fmt: skip
    figure = Figure(figsize=(3.4 * len(panels), 3), layout="constrained")
    axes = figure.subplots(1, len(panels))
    for axis, (name, label) in zip(axes, panels.items(), strict=True):
        values = {title: getattr(rows, name).float() for title, rows in figures.items()}
        top = max(v.max().item() for v in values.values()) or 1.0
        for title, v in values.items():
            axis.hist(v, bins=30, range=(0, top), histtype="step", label=title, weights=torch.full_like(v, 1 / len(v)))
        axis.set(xlabel=label, yscale="log")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("share of the rows")
    axes[-1].legend(fontsize="small")
    figure.savefig(path, dpi=110)
