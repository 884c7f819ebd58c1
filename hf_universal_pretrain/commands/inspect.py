"""Shows what a buffer holds: one self-contained HTML page, its pictures as PNGs, and the figures as JSON.

    python recipes/inspect_data.py --output_dir out/data
    python recipes/inspect_data.py --machines lstm --complexity 0.3:0.9 --output_dir out/lstm

The page has the buffer as a picture after each of `--rounds` rounds, sample rows as text, histograms of
compressibility, entropy, distinct symbols and passes, rows a second, and the same for each family of the mixture by
itself. All flags of `SyntheticUPConfig` apply; nothing is trained.
"""

import base64
import dataclasses
import json
from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import torch
from tqdm import tqdm

from hf_universal_pretrain import SyntheticUPConfig, SyntheticUPDataset
from hf_universal_pretrain.commands.arguments import parse_args
from hf_universal_pretrain.commands.endings import usage_errors
from hf_universal_pretrain.machines import Band
from hf_universal_pretrain.runs.readme import TEMPLATES
from hf_universal_pretrain.stream.figures import (
    RowFigures,
    buffer_figures,
    letter,
    plot_histogram,
    plot_rows,
    ranks,
    shades,
    summary,
)
from hf_universal_pretrain.stream.presets import PRESETS, settings_of
from hf_universal_pretrain.stream.sizes import check_stream


@dataclass
class ScriptArguments:
    output_dir: str
    """Folder of the page, the pictures and the figures."""
    rounds: list[int] = field(default_factory=lambda: [0, 1, 10, 100])
    """Rounds after which the buffer is shown."""
    band: str = "0.3:0.9"
    """Band of compressibility that shares are told of."""
    sample_rows: int = 12
    """Rows that are shown as text."""
    seconds: float = 300
    """No further rounds are begun after so many seconds."""
    preset: str = field(default="warm_start", metadata={"choices": list(PRESETS)})
    """Where the data's settings start from, as for `hf-up pretrain` (here for 1,000 steps of 8 rows)."""


def defaults(asked: Namespace) -> dict[str, Any]:
    known = {f.name for f in dataclasses.fields(SyntheticUPConfig)}
    return {key: value for key, value in settings_of(asked.preset, asked.given, 1000, 8).items() if key in known}


# what the table tells of each stream: by key its name, its form, and what it means
COLUMNS = {
    "rows_per_second": ("rows a second", "{:,.0f}", "how fast its machines write on this computer"),
    "acceptance": ("accepted", "{:.0%}", "rows that went into the buffer; without a band of complexity, all of them"),
    "dead": ("too simple", "{:.0%}", "rows below the band: constant or nearly so, which teach nothing"),
    "in_band": ("in the band", "{:.0%}", "rows with something to be learned"),
    "incompressible": ("noise", "{:.0%}", "rows above the band, which zlib cannot make smaller"),
    "mean_compressibility": (
        "compressed size", "{:.0%}", "of a row packed by zlib, against noise of the same symbols; mean over rows",
    ),
    "mean_passes": ("passes", "{:.1f}", "machines that have acted on a row, one after the other; mean over rows"),
    "mean_entropy_bits": ("entropy, bits", "{:.2f}", "of the frequencies of a row's own symbols; mean over rows"),
    "mean_distinct_symbols": ("symbols", "{:.0f}", "different ones in a row; mean over rows"),
    "distinct_rows": ("different rows", "{:,}", "in the buffer"),
}  # fmt: skip
HISTOGRAMS = {
    "compressibility": "compressed size (1: noise)", "entropy": "entropy, bits a symbol",
    "distinct": "different symbols in a row", "passes": "passes",
}  # fmt: skip
SHOWN = 128, 80  # rows and symbols of a buffer's picture


@dataclass
class Snapshot:
    """The buffer of one stream at one moment."""

    title: str
    rounds: int
    symbols: torch.Tensor
    figures: RowFigures


def watch(config: SyntheticUPConfig, script: ScriptArguments, name: str) -> tuple[list[Snapshot], dict[str, Any]]:
    """Runs a stream and keeps its buffer at each of `--rounds`."""
    dataset = SyntheticUPDataset(config)
    snapshots: list[Snapshot] = []
    with tqdm(total=max(script.rounds), desc=f"Rounds of {name}", unit="round") as bar:
        for rounds in sorted(set(script.rounds)):
            while dataset.rounds < rounds and dataset.generation_seconds < script.seconds:
                dataset.enrich()
                bar.update()
            if snapshots and snapshots[-1].rounds == dataset.rounds:
                break
            title = f"after {dataset.rounds} round{'s' if dataset.rounds != 1 else ''}"
            symbols = dataset.buffer.read(torch.arange(config.buffer_size))
            snapshots.append(Snapshot(title, dataset.rounds, symbols, buffer_figures(dataset)))
    last = snapshots[-1]
    return snapshots, {
        "rounds": dataset.rounds,
        **summary(dataset, last.figures, Band.parse(script.band)),
        "mean_entropy_bits": round(last.figures.entropy.mean().item(), 3),
        "mean_distinct_symbols": round(last.figures.distinct.float().mean().item(), 1),
        "distinct_rows": len(last.symbols.unique(dim=0)),
    }


def image(path: Path) -> str:
    """A picture as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def section(name: str, snapshots: list[Snapshot], folder: Path, number: int, count: int) -> dict[str, Any]:
    """What the page shows of a stream; writes its pictures."""
    buffers, last = [], snapshots[-1]
    for place, snapshot in enumerate(snapshots):
        path = folder / f"buffer_{number}_{place}.png"
        # half of them from each end, where a fresh buffer has noise and constants
        rows = torch.cat([snapshot.symbols[: SHOWN[0] // 2], snapshot.symbols[SHOWN[0] // 2 :][-SHOWN[0] // 2 :]])
        plot_rows(ranks(rows)[:, : SHOWN[1]], path)
        buffers.append((snapshot.title, image(path)))
    histograms = []
    for figure, label in HISTOGRAMS.items():
        path = folder / f"{figure}_{number}.png"
        plot_histogram({s.title: getattr(s.figures, figure).float() for s in snapshots}, label, path)
        histograms.append((label, image(path)))
    chosen = torch.randperm(len(last.symbols), generator=torch.Generator().manual_seed(0))[:count]
    lines = [
        (f"{last.figures.compressibility[i]:.0%}", int(last.figures.passes[i]), "".join(map(letter, row)))
        for i, row in zip(chosen.tolist(), ranks(last.symbols[chosen]).tolist(), strict=True)
    ]
    return {"name": name, "buffers": buffers, "histograms": histograms, "when": last.title, "lines": lines}


def streams_of(data: SyntheticUPConfig) -> dict[str, SyntheticUPConfig]:
    """The mixture of each stage of the curriculum, and each part of the last one by itself."""
    stages = {stage.machines: dataclasses.replace(stage, curriculum=[]) for stage in data.stages}
    last = data.stages[-1]
    return stages | {part: dataclasses.replace(last, machines=part, curriculum=[]) for part in last.mixture}


def page_of(script: ScriptArguments, data: SyntheticUPConfig, summaries: dict[str, Any], sections: list[Any]) -> str:
    """The page as HTML."""
    template = jinja2.Environment(autoescape=True).from_string((TEMPLATES / "inspect.html").read_text("utf-8"))
    rows = [
        (name, [(told[key], form.format(told[key])) for key, (_, form, _) in COLUMNS.items()])
        for name, told in summaries.items()
    ]
    return template.render(
        band=script.band, columns=list(COLUMNS.values()), rows=rows, sections=sections,
        key=[(shade, letter(rank)) for rank, shade in enumerate(shades())],
        settings=json.dumps(data.to_dict(), indent=1),
    )  # fmt: skip


def main() -> None:
    script, data = parse_args((ScriptArguments, SyntheticUPConfig), __doc__, defaults)
    with usage_errors():
        Band.parse(script.band)
        if not script.rounds or min(script.rounds) < 0:
            raise ValueError(f"--rounds must be numbers from 0 on, not {script.rounds}")
        folder = Path(script.output_dir)
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"--output_dir: {folder} is a file")
        check_stream(data)
    folder.mkdir(parents=True, exist_ok=True)

    sections, summaries = [], {}
    for number, (name, config) in enumerate(streams_of(data).items()):
        snapshots, summaries[name] = watch(config, script, name)
        sections.append(section(name, snapshots, folder, number, script.sample_rows))
    (folder / "index.html").write_text(page_of(script, data, summaries, sections), encoding="utf-8")
    (folder / "figures.json").write_text(json.dumps(summaries, indent=2) + "\n", encoding="utf-8")
    for name, told in summaries.items():
        shares = ", ".join(f"{told[key]:.0%} {key.replace('_', ' ')}" for key in ("dead", "in_band", "incompressible"))
        print(f"{name}: {told['rows_per_second']:,} rows/s, {shares}, {told['mean_passes']} passes")
    print(f"The page is {folder / 'index.html'}")
