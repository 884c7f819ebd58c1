import gzip
import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from hf_universal_pretrain.models.encoding import encode
from hf_universal_pretrain.text import (
    TokenBlocks,
    check_utf8,
    interpreter_texts,
    read_dataset,
    read_named_texts,
    read_text,
)


BROKEN = gzip.compress(b"abc")[:10] + b"\xff" * 20  # a good header, then what is no deflate stream


def test_reads_plain_and_packed_text(tmp_path: Path) -> None:
    plain, packed = tmp_path / "a.txt", tmp_path / "a.txt.gz"
    plain.write_text("grüße", encoding="utf-8")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_text(str(plain), "--x") == read_text(str(packed), "--x") == "grüße".encode()


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00", gzip.compress(b"abc")[:-6], BROKEN])
def test_what_is_no_text_is_refused_by_name(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / ("a.gz" if content and content[:2] == b"\x1f\x8b" else "a.txt")
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=f"--train_file: .*{path.name}"):
        read_text(str(path), "--train_file")


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(ValueError, match=f"--x: cannot read {path} as a UTF-8 text file"):
            read_text(str(path), "--x")


def test_utf8_is_checked_in_pieces() -> None:
    check_utf8("a\u20ac\U0001f600".encode(), piece=1)
    for wrong in ("\u20ac".encode()[:2], b"ab\x80", b"\xff"):
        with pytest.raises(UnicodeDecodeError):
            check_utf8(wrong, piece=1)


def test_a_long_text_takes_no_more_memory_than_it_must(tokenizer: PreTrainedTokenizerFast) -> None:
    """Two bytes for each token, where int64 has eight; what decides a run is as it always was."""
    blocks = TokenBlocks(b"It was the best of times. " * 1000, tokenizer, 64)
    assert blocks.blocks.element_size() == 2 and blocks[3]["input_ids"].dtype == torch.int64
    known = torch.cat([blocks[i]["input_ids"] for i in range(len(blocks))])
    digest = hashlib.sha256(known.numpy().tobytes()).hexdigest()[:12]
    assert blocks.run_settings() == {"train_text": digest, "context_length": 64}


def test_named_texts(tmp_path: Path) -> None:
    (tmp_path / "a=b.txt").write_text("x")
    assert read_named_texts([f"one={tmp_path}/a=b.txt"], "--t") == {"one": b"x"}
    for wrong in (["a"], ["=a"], ["a="], [f"a={tmp_path}/a=b.txt"] * 2):
        with pytest.raises(ValueError, match="--t takes NAME=PATH"):
            read_named_texts(wrong, "--t")
    for name in ("<script>", "a|b", "a\nb", "a b"):
        with pytest.raises(ValueError, match="--t: the name"):
            read_named_texts([f"{name}={tmp_path}/a=b.txt"], "--t")


def test_every_interpreter_has_english_and_python() -> None:
    texts = interpreter_texts()
    assert b"def " in texts["python"] and len(texts["english"]) > 100_000
    compile(texts["python"], "python", "exec")
    assert texts["english"].count(b" the ") > 1000


def test_dataset_folder(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"text": text, "n": 1}) + "\n" for text in ("one", "zwei ü"))
    (tmp_path / "train.jsonl").write_text(lines)
    assert read_dataset(str(tmp_path), "text") == "one\n\nzwei ü".encode()
    with pytest.raises(ValueError, match="--dataset: cannot read column 'body'"):
        read_dataset(str(tmp_path), "body")
    with pytest.raises(ValueError, match="--dataset: cannot read.*'no/such'"):
        read_dataset("no/such", "text")


def test_blocks_are_the_text_cut_in_order(tokenizer: PreTrainedTokenizerFast) -> None:
    text = bytes(range(97, 123))
    blocks = TokenBlocks(text, tokenizer, 8)
    assert len(blocks) == 3  # the last two letters do not fill a row
    assert bytes(token - 3 for i in range(3) for token in blocks[i]["input_ids"].tolist()) == text[:24]
    assert blocks[1]["labels"].tolist() == encode(b"ijklmnop", tokenizer).tolist()
    with pytest.raises(ValueError, match="--train_file: 26 tokens"):
        TokenBlocks(text, tokenizer, 27)


def test_texts_that_every_machine_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = read_text("stdlib", "--train_file")
    assert (
        len(source) > 5_000_000 and b"class ArgumentParser" in source and b"import unittest.mock" not in source[:100]
    )
    assert source == read_text("stdlib", "--train_file"), "always in the same order"
    assert b"The" in read_text("pydoc", "--train_file")
    Path("stdlib").write_text("a file of that name comes first")
    assert read_text("stdlib", "--train_file").startswith(b"a file")
