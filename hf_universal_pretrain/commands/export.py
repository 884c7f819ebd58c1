"""Writes the synthetic stream as a data set (parquet, with a card) that any trainer can read.

    python recipes/export_dataset.py --rows 1000000 --context_length 512 --output out/up-1m
    python recipes/export_dataset.py --rows 100000 --machines lstm --push_to_hub ORG/NAME

Flags are those of `ScriptArguments` (below) and of `SyntheticUPConfig` (the data); `--config FILE.yaml` sets any of
them, and the command line wins. A run that was stopped goes on where it was, shard by shard, when it is called again;
so does one that is called with more `--rows`.
"""

import os
from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from hf_universal_pretrain import SyntheticUPConfig
from hf_universal_pretrain.commands.arguments import parse_args
from hf_universal_pretrain.commands.endings import disk_errors, usage_errors
from hf_universal_pretrain.hub import NOT_PUSHED, claim_repository, published_readme, push_or_explain
from hf_universal_pretrain.models.tokenizers import build_tokenizer
from hf_universal_pretrain.runs.data_card import write_data_card
from hf_universal_pretrain.stream.export import Export


@dataclass
class ScriptArguments:
    output: str | None = None
    """Folder of the data set. By default out/NAME of --push_to_hub ORG/NAME."""
    push_to_hub: str | None = None
    """Hub id of the data set to create or add to."""
    license: str | None = None
    """Licence of the data set, for its card, as the Hub names it: cc0-1.0, mit, apache-2.0, ... None by default."""
    private: bool = False
    """Create the data set on the Hub as a private one."""
    rows: int = 100_000
    """Rows to write, of context_length tokens each."""
    rows_per_shard: int = 65_536
    """Rows in a file. Each file is a stream of its own, with a burn-in of its own."""
    tokenizer: str = "byte"
    """'byte' (256 bytes and 3 special tokens), a folder or a Hub id."""
    num_proc: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Files written at the same time, each by a process with one thread. By default one a core."""


def defaults(asked: Namespace) -> dict[str, Any]:
    return {"output": f"out/{asked.push_to_hub.split('/')[-1]}"} if asked.push_to_hub else {}


def main() -> None:
    script, data = parse_args((ScriptArguments, SyntheticUPConfig), __doc__, defaults)

    # ---- Everything that can be wrong is found here, before anything is written ----
    with usage_errors():
        if script.output is None:
            raise ValueError("--output: give the folder to write, or --push_to_hub ORG/NAME")
        if script.num_proc < 1:
            raise ValueError(f"--num_proc must be at least 1, not {script.num_proc}")
        if Path(script.output).exists() and not Path(script.output).is_dir():
            raise ValueError(f"--output: {script.output} is a file")
        tokenizer = build_tokenizer(script.tokenizer)
        export = Export(data, tokenizer, Path(script.output), script.rows, script.rows_per_shard)
        missing = export.missing_shards()
        if script.push_to_hub:
            script.push_to_hub = claim_repository(
                script.push_to_hub, "dataset", script.private or None, "--push_to_hub", "HF_TOKEN"
            )

    shards, tokens = len(export.shards), script.rows * data.context_length
    print(f"{script.rows:,} rows x {data.context_length:,} = {tokens:,} tokens in {shards:,} shards", flush=True)
    if len(missing) < shards:
        print(f"{shards - len(missing):,} shards are there already and are kept", flush=True)

    # ---- Writing ----
    try:
        with disk_errors(script.output):
            done = export.write(script.num_proc)
            write_data_card(export, script.tokenizer, script.push_to_hub, done, script.license)
    except KeyboardInterrupt:
        print("Stopped. Finished shards are kept: the same command goes on with the others.")
        raise SystemExit(1) from None
    pace = done["rows"] / done["seconds"]
    print(
        f"{done['rows']:,} rows written in {done['seconds']:.1f} s by {done['processes']} processes: {pace:,.0f} "
        f"rows/s, peak memory {done['process_mb']:,.0f} MB a process; {done['bytes'] / 1e6:,.1f} MB on disk"
    )
    print(f"The data set is in {script.output}")

    # ---- To the Hub ----
    if script.push_to_hub:
        write_data_card(
            export,
            script.tokenizer,
            script.push_to_hub,
            done,
            script.license,
            published_readme(script.push_to_hub, "dataset"),
        )

        def push() -> None:
            HfApi().upload_folder(
                repo_id=script.push_to_hub,
                repo_type="dataset",
                folder_path=script.output,
                commit_message=f"{script.rows:,} rows of synthetic data",
                ignore_patterns=list(NOT_PUSHED),
            )

        with usage_errors():
            address = push_or_explain(push, script.output, script.push_to_hub, "dataset")
        print(f"The data set is on the Hub: {address}")
