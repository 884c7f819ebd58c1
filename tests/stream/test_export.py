"""Data sets on disk and on the Hub, by the recipe in a process of its own."""

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from datasets import load_dataset
from huggingface_hub import DatasetCard
from torch.utils.data import DataLoader
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast, Trainer, TrainingArguments

from hf_universal_pretrain import SyntheticUPConfig, SyntheticUPDataset
from hf_universal_pretrain.commands import export
from hf_universal_pretrain.commands.arguments import parse_args
from hf_universal_pretrain.models.tokenizers import build_tokenizer
from hf_universal_pretrain.runs.data_card import write_data_card
from hf_universal_pretrain.stream.export import Export, draw_rows
from tests.conftest import ROOT, once
from tests.hub_server import HubServer


DATA = [
    "--context_length", "32", "--source_batch", "8", "--rows_per_round", "8", "--buffer_size", "32", "--hidden_size",
    "16", "--burn_in_rounds", "2", "--machines", "lstm=0.5,context_tree=0.5", "--rows_per_shard", "100",
]  # fmt: skip


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "data").iterdir()}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """250 rows in 3 shards, by one process."""
    folder = tmp_path_factory.mktemp("export")
    command = [sys.executable, str(ROOT / "recipes" / "export_dataset.py"), *DATA, "--rows", "250"]
    command += ["--license", "cc0-1.0", "--output", folder]
    done = subprocess.run([*command, "--num_proc", "1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "250 rows x 32 = 8,000 tokens in 3 shards" in done.stdout
    assert "rows/s, peak memory" in done.stdout and f"The data set is in {folder}" in done.stdout
    return folder


def test_shards_are_streams_of_their_own(exported: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """Shard k holds the rows of the stream of rank k, as tokens of the tokenizer in 16 bits."""
    data = load_dataset(str(exported), split="train", cache_dir=str(tmp_path))
    assert data.num_rows == 250 and str(data.features["input_ids"]) == "List(Value('int16'), length=32)"
    config = SyntheticUPConfig.from_pretrained(exported)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        expected = [
            torch.cat([tokens for tokens, _ in draw_rows(SyntheticUPDataset(config, tokenizer, rank=shard), rows)])
            for shard, rows in ((0, 100), (1, 100), (2, 50))
        ]
    assert torch.equal(data.with_format("torch")["input_ids"][:], torch.cat(expected))
    assert torch.cat(expected).min() >= 3  # special tokens are 0, 1 and 2


def test_other_number_of_processes_and_more_rows_later_make_the_same_files(exported, run_recipe, tmp_path) -> None:
    """150 rows by two processes, then 250: the finished shard is kept, the cut one is made whole."""
    flags = [*DATA, "--num_proc", "2", "--output", "more"]
    assert run_recipe("export_dataset.py", *flags, "--rows", "150", cwd=tmp_path).returncode == 0
    first = tmp_path / "more/data/train-00000.parquet"
    written = first.stat().st_mtime_ns
    assert pq.read_metadata(tmp_path / "more/data/train-00001.parquet").num_rows == 50
    done = run_recipe("export_dataset.py", *flags, "--rows", "250", cwd=tmp_path)
    assert done.returncode == 0 and "1 shards are there already and are kept" in done.stdout, done.stderr
    assert first.stat().st_mtime_ns == written
    assert shards(tmp_path / "more") == shards(exported)
    assert DatasetCard.load(tmp_path / "more/README.md").data.dataset_info["splits"][0]["num_examples"] == 250


@pytest.mark.parametrize("changed", [{}, {"alphabet": "permuted"}, {"ablation": "shuffled_positions"},
                                     {"sampling": "without_replacement"}])  # fmt: skip
@pytest.mark.parametrize("period", [8, 300])
def test_the_same_rows_and_more(
    changed: dict[str, str], period: int, small_data: SyntheticUPConfig, tokenizer: PreTrainedTokenizerFast
) -> None:
    """The first rows do not depend on how many follow: between two rounds, and where a part ends."""
    config = dataclasses.replace(small_data, machines="markov", rows_per_round=period, **changed)

    def rows(count: int) -> torch.Tensor:
        return torch.cat([torch.stack(part) for part in draw_rows(SyntheticUPDataset(config, tokenizer), count)], 1)

    many = rows(620)
    assert many.shape == (2, 620, 32)
    for count in (1, 5, 43, 299, 301):
        assert torch.equal(rows(count), many[:, :count])


@pytest.mark.slow
def test_a_killed_export_goes_on(run_recipe, tmp_path: Path) -> None:
    """Killed after the first of 20 shards; the same command then ends with the files of a run that was not killed."""
    flags = [*DATA, "--rows", "4000", "--rows_per_shard", "200", "--num_proc", "1"]
    command = [sys.executable, str(ROOT / "recipes" / "export_dataset.py"), *flags, "--output", "killed"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    while not (tmp_path / "killed/data/train-00000.parquet").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.communicate(timeout=60)  # the pipe closes when the last process that holds it has ended: the writer too
    left = {path.name for path in (tmp_path / "killed/data").glob("*.parquet")}
    assert 1 <= len(left) < 20
    again = run_recipe("export_dataset.py", *flags, "--output", "killed", cwd=tmp_path)
    assert again.returncode == 0 and f"{len(left)} shards are there already" in again.stdout, again.stderr
    whole = run_recipe("export_dataset.py", *flags, "--output", "whole", cwd=tmp_path)
    assert whole.returncode == 0
    assert shards(tmp_path / "killed") == shards(tmp_path / "whole")


def export_of(
    folder: Path, tokenizer: PreTrainedTokenizerFast, rows: int = 250, rows_per_shard: int = 100, **changes
) -> Export:
    config = dataclasses.replace(SyntheticUPConfig.from_pretrained(folder), **changes)
    return Export(config, tokenizer, folder, rows, rows_per_shard)


def test_shards_of_other_settings_are_refused(exported: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    assert export_of(exported, tokenizer).missing_shards() == {}
    assert export_of(exported, tokenizer, rows=320).missing_shards() == {2: 100, 3: 20}
    with pytest.raises(ValueError, match=r"--output: .*train-00000.parquet.*stream_seed \(was 0, now 1\)"):
        export_of(exported, tokenizer, stream_seed=1).missing_shards()
    with pytest.raises(ValueError, match=r"rows_per_shard \(was 100, now 50\)"):
        export_of(exported, tokenizer, rows_per_shard=50).missing_shards()
    with pytest.raises(ValueError, match=r"tokenizer \(was"):
        other = build_tokenizer("byte")
        other.add_tokens(["abc"])
        export_of(exported, other).missing_shards()
    for fewer in (240, 120):
        with pytest.raises(ValueError, match="--rows: .* holds more than"):
            export_of(exported, tokenizer, rows=fewer).missing_shards()


@pytest.mark.parametrize(
    "flags, message",
    [
        ([], "--output: give the folder"),
        (["--output", "x", "--rows", "0"], "--rows must be at least 1"),
        (["--output", "x", "--num_proc", "0"], "--num_proc must be at least 1"),
        (["--output", "x", "--alphabet_size", "257"], "alphabet_size is 257"),
        (["--output", "file"], "--output: file is a file"),
        (["--push_to_hub", "org/x"], "--push_to_hub: the environment variable HF_HUB_OFFLINE forbids it"),
    ],
)
def test_wrong_use_gets_one_line_and_status_2(flags: list[str], message: str, tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_some")
    monkeypatch.setattr("sys.argv", ["export_dataset.py", *flags])
    with pytest.raises(SystemExit) as exited:
        export.main()
    shown = capsys.readouterr().err
    assert exited.value.code == 2 and message in shown and len(shown.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_stock_trainer_learns_from_the_files(exported: Path, make_model, tokenizer, tmp_path: Path) -> None:
    """As the card says. Rows have structure: the loss falls below that of the best order-0 guess, ln 256."""
    data = load_dataset(str(exported), split="train", cache_dir=str(tmp_path / "cache"))
    args = TrainingArguments(
        str(tmp_path / "out"), max_steps=60, learning_rate=1e-2, per_device_train_batch_size=16, use_cpu=True,
        logging_steps=10, save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(
        model=make_model(),
        args=args,
        train_dataset=data,
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[0] > losses[-1] and losses[-1] < 5.2


@pytest.mark.slow
def test_the_cards_tokenizer_is_the_one_of_the_rows(exported: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """The card's code, with nothing of this package, up to the model that it goes on to make."""
    code = DatasetCard.load(exported / "README.md").text.split("```python\n")[2].split("config = ")[0]
    assert "hf_universal_pretrain" not in code
    made: dict = {}
    exec(code, made)
    assert made["tokenizer"].backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    assert made["tokenizer"]("a </s>")["input_ids"] == [byte + 3 for byte in b"a </s>"]


def test_card_tells_how_to_make_the_rows_again(exported: Path, run_recipe, tmp_path: Path) -> None:
    card = DatasetCard.load(exported / "README.md")
    assert card.data.license == "cc0-1.0" and card.data.size_categories == "n<1K"
    assert {"universal-pretraining", "synthetic-data"} <= set(card.data.tags)
    (tmp_path / "recipe.yaml").write_text(card.text.split("```yaml\n")[1].split("```")[0])
    command = card.text.split("python recipes/export_dataset.py")[1].split("```")[0]
    flags = command.replace("\\\n", "").split()
    done = run_recipe("export_dataset.py", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert shards(tmp_path / "DIR") == shards(exported)


@pytest.mark.parametrize("workers", [0, 2])
def test_to_hf_streams_the_same_rows(
    workers: int, small_data: SyntheticUPConfig, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Afresh from the seed; with workers, each serves a stream of its own rank."""
    stream = SyntheticUPDataset(small_data, tokenizer)
    next(iter(stream))
    served = stream.to_hf(num_shards=max(1, workers)).with_format("torch")
    ranks = range(max(1, workers))
    expected = {
        tuple(row["input_ids"].tolist())
        for rank in ranks
        for row in islice(SyntheticUPDataset(small_data, tokenizer, rank=rank), 40)
    }
    loader = DataLoader(served, batch_size=4, num_workers=workers)
    rows = torch.cat([batch["input_ids"] for batch in islice(loader, 10 * len(ranks))])
    assert rows.dtype == torch.int64 and rows.shape == (40 * len(ranks), 32)
    assert {tuple(row.tolist()) for row in rows} == expected


@pytest.fixture
def hub() -> Iterator[HubServer]:
    server = HubServer()
    yield server
    server.close()


@pytest.mark.slow
def test_push_to_the_hub_and_load_from_there(run_recipe, hub: HubServer, tmp_path: Path) -> None:
    """The first push fails in the middle; the printed command finishes it; another process loads the data."""
    env = hub.environment(tmp_path / "home")
    hub.fails("POST .*/commit/main", status=409)
    flags = [*DATA, "--rows", "250", "--push_to_hub", "org/rows"]
    done = run_recipe("export_dataset.py", *flags, cwd=tmp_path, **env)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    command = done.stderr.strip().splitlines()[-1].strip()
    assert command == "hf upload org/rows out/rows . --repo-type dataset --exclude '_*' --exclude 'checkpoint-*'"
    hub.heal()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    assert subprocess.run(command, shell=True, cwd=tmp_path, env={**os.environ, **env, "PATH": path}).returncode == 0
    folder = tmp_path / "out/rows"
    local = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert hub.repositories["datasets/org/rows"].files == local

    again = run_recipe("export_dataset.py", *flags, cwd=tmp_path, **env)
    assert again.returncode == 0 and f"The data set is on the Hub: {hub.url}/datasets/org/rows" in again.stdout
    load = "from datasets import load_dataset; print(load_dataset('org/rows', split='train'))"
    loaded = subprocess.run(
        [sys.executable, "-c", load], cwd=tmp_path, env={**os.environ, **env}, capture_output=True, text=True
    )
    assert loaded.returncode == 0 and "num_rows: 250" in loaded.stdout, loaded.stderr


def test_questions_that_are_not_judged_have_labels_of_their_own(run_recipe, tokenizer, tmp_path: Path) -> None:
    """With a procedural share the files (and `to_hf`) have a column `labels`, -100 on questions."""
    flags = [*DATA, "--machines", "procedural=0.5,context_tree=0.5", "--rows", "60", "--num_proc", "1"]
    done = run_recipe("export_dataset.py", *flags, "--output", "data", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    data = load_dataset(str(tmp_path / "data"), split="train", cache_dir=str(tmp_path / "c")).with_format("torch")
    tokens, labels = data["input_ids"][:], data["labels"][:]
    judged = labels != -100
    assert torch.equal(tokens[judged], labels[judged]) and 0.4 < judged.float().mean() < 0.95
    config = SyntheticUPConfig.from_pretrained(tmp_path / "data")
    row = next(iter(SyntheticUPDataset(config, tokenizer).to_hf()))
    assert set(row) == {"input_ids", "labels"}
    assert "labels" in (tmp_path / "data/README.md").read_text().split("## ")[0]


@pytest.mark.parametrize("flags, told", [
    ([], "it is in here once"), (["--sampling", "with_replacement"], "many are exact\ncopies of others"),
    (["--rows_per_round", "32"], "44 % of the rows are in here more than once"),
])  # fmt: skip
def test_rows_are_written_once_unless_asked_for_and_the_card_says_so(
    flags: list[str], told: str, tokenizer, tmp_path: Path
) -> None:
    """16 rows a round are generated, none of them constant, and 2 are noise."""
    small = ["--context_length", "32", "--buffer_size", "64", "--machines", "markov", "--source_batch", "16"]
    small += ["--num_resets", "2", "--burn_in_rounds", "8", "--output", str(tmp_path)]
    _, config = parse_args((export.ScriptArguments, SyntheticUPConfig), "", export.defaults, once([*small, *flags]))
    drawn = torch.cat([tokens for tokens, _ in draw_rows(SyntheticUPDataset(config, tokenizer, rank=0), 512)])
    kept = [tuple(row) for row in drawn.tolist() if len(set(row)) > 1]
    repeated = 1 - len(set(kept)) / len(kept)
    assert repeated < 0.02 if not flags else repeated > 0.2, repeated
    write_data_card(Export(config, tokenizer, tmp_path, 512, 512), "byte", None, {"bytes": 1})
    assert told in (tmp_path / "README.md").read_text()
