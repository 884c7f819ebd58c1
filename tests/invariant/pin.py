"""Writes what the code makes now into `pinned/`, over what was there: see the docstring of this package."""

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.invariant import flags, runs, streams
from tests.invariant.runs import MIDWAY, PINNED


def write(name: str, content: Any) -> None:
    (PINNED / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def pin_streams(folder: Path) -> None:
    write("streams", streams.all_checksums())


def pin_losses(folder: Path) -> None:
    write("losses", runs.losses(folder))


def pin_flags(folder: Path) -> None:
    write("flags", flags.all_flags())


def pin_run(folder: Path) -> None:
    """The run as it is at its checkpoint: what comes after that is left out of the folder."""
    runs.run_recipe(runs.PRETRAIN, folder)
    run, kept = folder / "run", PINNED / "run"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(run / MIDWAY, kept / MIDWAY)
    claim = json.loads((run / "_run.json").read_text())
    (kept / "_run.json").write_text(json.dumps(claim | {"finished_at": None}, indent=1))
    weights = runs.weights(run)
    write("run", {"files": runs.files(run), "weights": weights, "gone_on": weights})


def pin_cards(folder: Path) -> None:
    (PINNED / "cards").mkdir(exist_ok=True)
    for command, output, name in runs.CARDS:
        runs.run_recipe(command, folder)
        (PINNED / "cards" / f"{name}.md").write_text(runs.card(folder / output), encoding="utf-8")
    write("export", runs.exported(folder / "rows"))


PINS: dict[str, Callable[[Path], None]] = {
    "run": pin_run, "streams": pin_streams, "losses": pin_losses, "cards": pin_cards, "flags": pin_flags,
}  # fmt: skip


def main() -> None:
    chosen = [word for word in sys.argv[1:] if word != "--yes"] or list(PINS)
    if "--yes" not in sys.argv or not set(chosen) <= PINS.keys():
        sys.exit(f"python -m tests.invariant.pin --yes [{' | '.join(PINS)} ...]: writes all pins anew, or some")
    torch.set_num_threads(1)
    PINNED.mkdir(exist_ok=True)
    for name in chosen:
        with tempfile.TemporaryDirectory() as folder:
            PINS[name](Path(folder))
    if set(chosen) - {"flags", "cards"}:  # what holds sums of floating-point numbers
        write("made_on", runs.made_on())


if __name__ == "__main__":
    main()
