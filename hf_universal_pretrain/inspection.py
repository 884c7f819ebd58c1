"""What a buffer holds, in figures."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hf_universal_pretrain.config import SyntheticUPConfig
from hf_universal_pretrain.dataset import SyntheticUPDataset
from hf_universal_pretrain.machines.complexity import Band, compressibility


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
