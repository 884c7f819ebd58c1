"""Shows what a buffer holds: one self-contained HTML page, its pictures as PNGs, and the figures as JSON.

    python recipes/inspect_data.py --output_dir out/data
    python recipes/inspect_data.py --machines lstm --complexity 0.3:0.9 --output_dir out/lstm

The page has the buffer as a picture after each of `--rounds` rounds, sample rows as text, histograms of
compressibility, entropy, distinct symbols and passes, rows a second, and the same for each family of the mixture by
itself. All flags of `SyntheticUPConfig` apply; nothing is trained.
"""

import base64
import dataclasses
import html
import json
from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from hf_universal_pretrain import SyntheticUPConfig, SyntheticUPDataset
from hf_universal_pretrain.commands.arguments import parse_args
from hf_universal_pretrain.commands.endings import usage_errors
from hf_universal_pretrain.machines import Band
from hf_universal_pretrain.stream.figures import RowFigures, buffer_figures, plot_buffer, plot_row_figures, summary
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


def as_text(row: list[int]) -> str:
    """Symbols as characters: printable ASCII as it is, others from the Braille patterns on, one for each symbol."""
    return "".join(chr(s) if 33 <= s < 127 else chr(0x2800 + s) for s in row)


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
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{path.stem}" src="data:image/png;base64,{data}">'


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

    streams = {data.machines: data}
    if len(data.mixture) > 1:
        streams |= {name: dataclasses.replace(data, machines=name, curriculum=[]) for name in data.mixture}
    sections, summaries = [], {}
    for number, (name, config) in enumerate(streams.items()):
        snapshots, summaries[name] = watch(config, script, name)
        pictures = folder / f"buffer_{number}.png", folder / f"figures_{number}.png"
        plot_buffer({s.title: s.symbols for s in snapshots}, config.alphabet_size, pictures[0])
        plot_row_figures({s.title: s.figures for s in snapshots}, pictures[1])
        last = snapshots[-1]
        chosen = torch.randperm(len(last.symbols), generator=torch.Generator().manual_seed(0))[: script.sample_rows]
        lines = [
            f"{last.figures.compressibility[i]:4.2f} {int(last.figures.passes[i]):3d}  {as_text(row)}"
            for i, row in zip(chosen.tolist(), last.symbols[chosen].tolist(), strict=True)
        ]
        sections.append(
            f"<h2><code>{html.escape(name)}</code></h2>"
            f"<p>Part of the buffer, a row a line, a symbol a colour:</p>{image(pictures[0])}"
            f"<p>Its rows in figures:</p>{image(pictures[1])}"
            f"<p>Rows {html.escape(last.title)} as text, before each its compressibility and the passes behind it:</p>"
            f"<pre>{html.escape(chr(10).join(lines))}</pre>"
        )
    keys = list(next(iter(summaries.values())))
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th>{''.join(f'<td>{told[key]:,}</td>' for key in keys)}</tr>"
        for name, told in summaries.items()
    )
    head = "".join(f"<th>{key.replace('_', ' ')}</th>" for key in keys)
    recipe = html.escape(json.dumps(data.to_dict(), indent=1))
    page = PAGE.format(band=html.escape(script.band), head=head, rows=rows, sections="".join(sections), recipe=recipe)
    (folder / "index.html").write_text(page, encoding="utf-8")
    (folder / "figures.json").write_text(json.dumps(summaries, indent=2) + "\n", encoding="utf-8")
    for name, told in summaries.items():
        shares = ", ".join(f"{told[key]:.0%} {key.replace('_', ' ')}" for key in ("dead", "in_band", "incompressible"))
        print(f"{name}: {told['rows_per_second']:,} rows/s, {shares}, {told['mean_passes']} passes")
    print(f"The page is {folder / 'index.html'}")


PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>What the buffer holds</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #222 }}
img {{ max-width: 100% }} pre {{ overflow-x: auto; background: #f5f5f5; padding: 1em; font-size: 12px }}
table {{ border-collapse: collapse; font-size: 13px }} th, td {{ padding: .3em .7em; border-bottom: 1px solid #ddd }}
td {{ text-align: right }} th {{ text-align: left }}
</style></head><body>
<h1>What the buffer holds</h1>
<p>Shares are of rows whose compressibility (zlib's size against that of noise) is below, inside and above the band
{band}; acceptance is the share of generated rows that went into the buffer.</p>
<table><tr><th>machines</th>{head}</tr>{rows}</table>
{sections}
<details><summary>The data's settings</summary><pre>{recipe}</pre></details>
</body></html>
"""
