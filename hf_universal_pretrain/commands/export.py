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
from hf_universal_pretrain.commands.endings import (
    alone_in,
    disk_errors,
    exit_with_usage_error,
    stoppable,
    usage_errors,
)
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
    """Where this command differs from its dataclasses: a row is written once, for it is paid for each time, and rounds
    are larger, which is twice as fast. A round comes when as many rows were taken as it writes."""
    output = {"output": f"out/{asked.push_to_hub.split('/')[-1]}"} if asked.push_to_hub else {}
    large = {"source_batch": 1024, "rows_per_round": 1024, "burn_in_rounds": 6, "num_resets": 16}
    given = asked.given & {*large, "buffer_size"}
    rounds = {"rows_per_round": asked.source_batch} if given else large
    return {"sampling": "without_replacement", **rounds, **output}


def main() -> None:
    script, data = parse_args((ScriptArguments, SyntheticUPConfig), __doc__, defaults)
    if script.output is None:
        exit_with_usage_error("--output: give the folder to write, or --push_to_hub ORG/NAME")
    with (
        stoppable("; finished shards are kept"),
        alone_in(script.output, "--output"),
    ):
        export_rows(script, data, Path(script.output))


def export_rows(script: ScriptArguments, data: SyntheticUPConfig, folder: Path) -> None:
    """The command, with its flags read and its folder locked."""

    # ---- Everything that can be wrong is found here, before anything is written ----
    with usage_errors():
        if script.num_proc < 1:
            raise ValueError(f"--num_proc must be at least 1, not {script.num_proc}")
        tokenizer = build_tokenizer(script.tokenizer)
        export = Export(data, tokenizer, folder, script.rows, script.rows_per_shard)
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
    with disk_errors(folder):
        done = export.write(script.num_proc)
        write_data_card(export, script.tokenizer, script.push_to_hub, done, script.license)
    pace = done["rows"] / done["seconds"]
    print(
        f"{done['rows']:,} rows written in {done['seconds']:.1f} s by {done['processes']} processes: {pace:,.0f} "
        f"rows/s, peak memory {done['process_mb']:,.0f} MB a process; {done['bytes'] / 1e6:,.1f} MB on disk"
    )
    print(f"The data set is in {folder}")

    # ---- To the Hub ----
    if script.push_to_hub:
        repository = script.push_to_hub
        published = published_readme(repository, "dataset")
        write_data_card(export, script.tokenizer, repository, done, script.license, published)

        def push() -> None:
            HfApi().upload_folder(
                repo_id=repository,
                repo_type="dataset",
                folder_path=folder,
                commit_message=f"{script.rows:,} rows of synthetic data",
                ignore_patterns=list(NOT_PUSHED),
            )

        with usage_errors():
            address = push_or_explain(push, folder, repository, "dataset")
        print(f"The data set is on the Hub: {address}")
