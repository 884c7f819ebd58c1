"""Rows of tokens against a slow plain version: the whole text in memory, encoded at once."""

import hashlib
import itertools
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from hf_universal_pretrain import packed
from hf_universal_pretrain.corpus import Corpus, from_memory, open_dataset, open_files
from hf_universal_pretrain.models.encoding import encode
from hf_universal_pretrain.packed import StreamedBlocks, TokenBlocks
from tests.conftest import byte_level_bpe


TEXT = "".join(f"Grüße {n}: {n * n} is the square.\n" for n in range(8000)).encode()


def plain(text: bytes, tokenizer: PreTrainedTokenizerFast, length: int) -> Tensor:
    tokens = encode(text, tokenizer)
    return tokens[: len(tokens) // length * length].view(-1, length)


def rows(blocks: TokenBlocks) -> Tensor:
    return torch.stack([blocks[i]["input_ids"] for i in range(len(blocks))])


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """A data set of 600 texts in three files."""
    for part in range(3):
        texts = [f"Text {n} of part {part}, told {'again and ' * (n % 9)}again." for n in range(200)]
        lines = (json.dumps({"text": text if n % 50 else None}) + "\n" for n, text in enumerate(texts))
        (tmp_path / f"train-{part}.jsonl").write_text("".join(lines))
    return tmp_path


@pytest.mark.parametrize("length", [32, 1000])
def test_blocks_of_bytes_are_the_text_cut_in_order(length: int, tokenizer, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(TEXT)
    blocks = TokenBlocks(open_files(str(tmp_path / "a.txt"), "text", "--x"), tokenizer, length)
    assert torch.equal(rows(blocks), plain(TEXT, tokenizer, length))
    assert torch.equal(blocks[1]["labels"], blocks[1]["input_ids"]) and blocks[1]["labels"].dtype == torch.int64
    part = TokenBlocks(open_files(str(tmp_path / "a.txt"), "text", "--x"), tokenizer, length, end=100_001)
    assert torch.equal(rows(part), plain(TEXT[:100_001], tokenizer, length))


def test_blocks_of_a_bpe_are_the_text_but_for_cuts(tmp_path: Path) -> None:
    bpe = byte_level_bpe()
    (tmp_path / "a.txt").write_bytes(TEXT)
    found = rows(TokenBlocks(open_files(str(tmp_path / "a.txt"), "text", "--x"), bpe, 64)).flatten()
    told = bpe.decode(found.tolist(), clean_up_tokenization_spaces=False).encode()
    assert TEXT.startswith(told.rstrip("\ufffd".encode())) and len(TEXT) - len(told) < 64 * 8
    known = plain(TEXT, bpe, 64).flatten()
    assert abs(len(found) - len(known)) <= 64 and torch.equal(found[:60_000], known[:60_000])


def test_blocks_of_a_data_set(documents: Path, tokenizer, caplog) -> None:
    blocks = TokenBlocks(open_dataset(str(documents), None, "train", "text"), tokenizer, 32)
    assert "12 rows of the text hold none (null)" in caplog.text
    texts = [json.loads(line)["text"] for path in sorted(documents.iterdir()) for line in path.open()]
    joined = "".join(text + "\n\n" for text in texts if text is not None).encode()
    assert torch.equal(rows(blocks), plain(joined, tokenizer, 32))


def test_what_decides_a_run_is_a_hash_of_the_tokens(tokenizer) -> None:
    blocks = TokenBlocks(b"It was the best of times. " * 1000, tokenizer, 64)
    digest = hashlib.sha256(rows(blocks).numpy().tobytes()).hexdigest()[:12]
    assert blocks.run_settings() == {"train_text": digest, "context_length": 64}
    assert TokenBlocks(b"It was the best of Times. " * 1000, tokenizer, 64).run_settings()["train_text"] != digest


def test_a_text_is_read_once(tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_bytes(TEXT)
    first = rows(TokenBlocks(open_files(str(tmp_path / "a.txt"), "text", "--x"), tokenizer, 128))
    monkeypatch.setattr(Corpus, "pieces", lambda *args: pytest.fail("it is read again"))
    again = TokenBlocks(open_files(str(tmp_path / "a.txt"), "text", "--x"), tokenizer, 128)
    assert torch.equal(rows(again), first)
    (tmp_path / "a.txt").write_bytes(TEXT + b"more")
    with pytest.raises(BaseException, match="it is read again"):
        TokenBlocks(open_files(str(tmp_path / "a.txt"), "text", "--x"), tokenizer, 128)


def test_a_text_that_is_too_short(tokenizer) -> None:
    with pytest.raises(ValueError, match="--train_file: 26 tokens are less than one row of 27"):
        TokenBlocks(bytes(range(97, 123)), tokenizer, 27)
    with pytest.raises(ValueError, match="--train_file: 26 tokens are less than one row of 27"):
        StreamedBlocks(from_memory(bytes(range(97, 123))), tokenizer, 27, 0)


# ---- Streams ----


def stream(corpus: Corpus, tokenizer, seed: int = 0, **process: int) -> StreamedBlocks:
    return StreamedBlocks(corpus, tokenizer, 32, seed, **process)


def take(blocks: StreamedBlocks, count: int) -> list[tuple[int, ...]]:
    return [tuple(row["input_ids"].tolist()) for row in itertools.islice(blocks, count)]


def test_a_stream_has_the_rows_of_the_text_in_another_order(tokenizer, monkeypatch) -> None:
    monkeypatch.setattr(packed, "WINDOW", 100)
    known = [tuple(row) for row in plain(TEXT, tokenizer, 32).tolist()]
    seen = take(stream(from_memory(TEXT), tokenizer), len(known))
    assert sorted(seen) == sorted(known) and seen != known
    assert take(stream(from_memory(TEXT), tokenizer), len(known)) == seen
    assert take(stream(from_memory(TEXT), tokenizer, seed=1), len(known)) != seen


@pytest.mark.parametrize("served", [1, 99, 100, 101, 640, 700, 1500])
def test_a_stream_goes_on_exactly(served: int, documents: Path, tokenizer, tmp_path: Path, monkeypatch) -> None:
    """In the middle of windows, at their ends, in later passes; its state goes through a file."""
    monkeypatch.setattr(packed, "WINDOW", 50)

    def opened() -> StreamedBlocks:
        return stream(open_dataset(str(documents), None, "train", "text"), tokenizer)

    first = opened()
    begun, rest = iter(first), []
    for _ in range(served):
        next(begun)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    rest = [tuple(next(begun)["input_ids"].tolist()) for _ in range(900)]
    again = opened()
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert take(again, 900) == rest


def test_processes_share_a_stream(documents: Path, tokenizer) -> None:
    """Each has texts of its own, and together they have all."""
    seen: list[set[str]] = []
    for rank in range(2):
        blocks = stream(open_dataset(str(documents), None, "train", "text"), tokenizer, rank=rank, world_size=2)
        blocks.corpus.nulls = 0
        texts = b"".join(blocks.corpus.pieces()).decode()
        seen.append({text for text in texts.split("\n\n") if text})
    known = {json.loads(line)["text"] for path in documents.iterdir() for line in path.open()} - {None}
    assert not seen[0] & seen[1] and seen[0] | seen[1] == known
    with pytest.raises(ValueError, match="process 1 of 2"):
        stream(from_memory(TEXT), tokenizer).load_state_dict(blocks.state_dict())
