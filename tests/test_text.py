import gzip
import os
from pathlib import Path

import pytest

from hf_universal_pretrain.text import (
    check_utf8,
    interpreter_texts,
    read_text,
)


BROKEN = gzip.compress(b"abc")[:10] + b"\xff" * 20  # a good header, then what is no deflate stream


def test_reads_plain_and_packed_text(tmp_path: Path) -> None:
    plain, packed = tmp_path / "a.txt", tmp_path / "a.txt.gz"
    plain.write_text("grüße", encoding="utf-8")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_text(str(plain), "--x") == read_text(str(packed), "--x") == "grüße".encode()


@pytest.mark.parametrize(
    "content",
    [None, b"", b"\xff\xfe\x00", gzip.compress(b"abc")[:-6], BROKEN],
    ids=["no file", "empty", "no UTF-8", "cut-off gzip", "broken gzip"],
)
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


def test_every_interpreter_has_english_and_python() -> None:
    texts = interpreter_texts()
    assert b"def " in texts["python"] and len(texts["english"]) > 100_000
    compile(texts["python"], "python", "exec")
    assert texts["english"].count(b" the ") > 1000


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
