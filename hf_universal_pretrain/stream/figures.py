"""What a buffer holds, in figures and pictures."""

import string
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


# ---- Pictures ----

LETTERS = string.ascii_lowercase + string.ascii_uppercase + string.digits
SHADES = 40  # symbols of a row that have a colour of their own; rarer ones share the last


def ranks(rows: Tensor) -> Tensor:
    """Each symbol of `(rows, length)` as its place among the symbols of its row, the most frequent first: what a row
    is like, whichever symbols it is made of."""
    ranked = torch.empty_like(rows)
    for number, row in enumerate(rows):
        symbols, where, counts = row.unique(return_inverse=True, return_counts=True)
        places = torch.empty_like(symbols)
        places[counts.argsort(descending=True, stable=True)] = torch.arange(len(symbols))
        ranked[number] = places[where]
    return ranked


def letter(rank: int) -> str:
    """a for the most frequent symbol of a row, b for the next; a dot for those beyond the letters and digits."""
    return LETTERS[rank] if rank < len(LETTERS) else "\u00b7"


def shades() -> list[str]:
    """The colour of each rank as `#rrggbb`: dark for the most frequent symbol of a row, lighter for rarer ones."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps["viridis"]((place / (SHADES - 1)) ** 0.6)) for place in range(SHADES)]


def plot_rows(ranked: Tensor, path: str | Path, scale: int = 4) -> None:
    """Draws `(rows, length)` ranks, a row a line, a symbol a square of `scale` pixels."""
    from matplotlib.colors import to_rgb
    from matplotlib.image import imsave

    colors = torch.tensor([to_rgb(shade) for shade in shades()])
    pixels = colors[ranked.clamp(max=SHADES - 1)].repeat_interleave(scale, 0).repeat_interleave(scale, 1)
    imsave(path, pixels.numpy())


def plot_histogram(values: dict[str, Tensor], label: str, path: str | Path) -> None:
    """Draws histograms of a figure of rows, one line for each buffer.

    Args:
        values: `(rows,)` by title.
        label: what the figure is.
        path: the PNG to write.
    """
    from matplotlib.figure import Figure  # not before something is drawn

    figure = Figure(figsize=(3.6, 2.8), layout="constrained")
    axis = figure.subplots()
    top = max(v.max().item() for v in values.values()) or 1.0
    for number, (title, v) in enumerate(values.items()):
        color = f"{0.75 - 0.75 * number / max(1, len(values) - 1):.2f}" if number + 1 < len(values) else "#0072b2"
        weights = torch.full_like(v, 1 / len(v))
        axis.hist(
            v, bins=30, range=(0, top), histtype="step", label=title, weights=weights, color=color, linewidth=1.4
        )
    axis.set(xlabel=label, ylabel="share of the rows", yscale="log")
    axis.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25)
    axis.legend(fontsize="small", frameon=False)
    figure.savefig(path, dpi=110)
