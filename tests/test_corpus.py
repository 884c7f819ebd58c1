import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import zstandard

from hf_universal_pretrain.corpus import Corpus, from_memory, open_dataset, open_files, open_named
from hf_universal_pretrain.evaluation import cut_windows
from hf_universal_pretrain.models.encoding import PIECE, cut_point


LINES = [f"Line {n}: grüße, {n * n} \u20ac\r\n" if n % 7 else "\n" for n in range(9000)]  # several pieces
TEXT = "".join(LINES).encode()
DOCUMENTS = ["one", None, "zwei ü", "", "drei\nLinien", None, "vier"]
JOINED = "one\n\nzwei ü\n\n\n\ndrei\nLinien\n\nvier\n\n".encode()


def json_lines(column: str = "text") -> bytes:
    return "".join(json.dumps({"n": n, column: text}) + "\n" for n, text in enumerate(DOCUMENTS)).encode()


def write(path: Path, data: bytes) -> str:
    """Writes a file, packed as its name says; a .zst in two frames, as parallel packers make them."""
    if path.suffix == ".gz":
        data = gzip.compress(data)
    elif path.suffix == ".zst" and ".txt" in path.name:
        half = len(data) // 2
        data = b"".join(zstandard.compress(part) for part in (data[:half], data[half:]))
    elif path.suffix == ".zst":
        data = zstandard.compress(data)
    path.write_bytes(data)
    return str(path)


def whole(corpus: Corpus) -> bytes:
    return b"".join(corpus.pieces())


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.txt.zst", "a", "a.md.gz"])
def test_text_files_are_read_as_they_are(name: str, tmp_path: Path) -> None:
    corpus = open_files(write(tmp_path / name, TEXT), "text", "--x")
    assert whole(corpus) == TEXT and corpus.length() == len(TEXT)
    assert max(map(len, corpus.pieces())) < 2 * PIECE


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.json"])
def test_json_lines_are_joined_by_blank_lines_and_nulls_are_counted(name: str, tmp_path: Path) -> None:
    corpus = open_files(write(tmp_path / name, json_lines("body")), "body", "--x")
    assert whole(corpus) == JOINED and corpus.nulls == 2 and corpus.length() == len(JOINED)


def test_parquet_and_csv(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": list(range(7)), "body": DOCUMENTS}), tmp_path / "a.parquet")
    assert whole(open_files(str(tmp_path / "a.parquet"), "body", "--x")) == JOINED
    (tmp_path / "a.csv").write_text('n,body\n0,"one, two"\n1,"three\nfour"\n')
    assert whole(open_files(str(tmp_path / "a.csv"), "body", "--x")) == b"one, two\n\nthree\nfour\n\n"


def test_patterns_are_read_in_the_order_of_names(tmp_path: Path) -> None:
    for name, data in (("b.txt", b"second "), ("a.txt.gz", b"first "), ("c.txt.zst", b"third")):
        write(tmp_path / name, data)
    assert whole(open_files(f"{tmp_path}/*.txt*", "text", "--x")) == b"first second third"
    write(tmp_path / "d.jsonl", json_lines())
    with pytest.raises(ValueError, match="--x: .*several kinds"):
        open_files(f"{tmp_path}/*", "text", "--x")
    with pytest.raises(ValueError, match="--x: cannot read .*none"):
        open_files(f"{tmp_path}/none*", "text", "--x")


def test_a_part_of_a_text(tmp_path: Path) -> None:
    corpus = open_files(write(tmp_path / "a.txt.gz", TEXT), "text", "--x")
    for begin, end in ((0, None), (5, PIECE), (PIECE + 1, PIECE + 2), (100, len(TEXT) - 3), (len(TEXT) - 3, None)):
        assert b"".join(corpus.pieces(begin, end)) == TEXT[begin:end]


@pytest.mark.parametrize("begin, length, count", [(0, 40, 30), (len(TEXT) - 200, 50, 500), (70_001, 3000, 7)])
def test_windows_are_those_of_the_text_in_memory(begin: int, length: int, count: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt.zst", TEXT)
    for _ in range(2):  # the second time they come from disk
        windows = open_files(path, "text", "--x").windows(length, count, "--x", begin)
        assert torch.equal(windows, cut_windows(TEXT[begin:], length, count))
    with pytest.raises(ValueError, match="--x has 3 bytes, less than one window of 4"):
        open_files(path, "text", "--x").windows(4, 1, "--x", len(TEXT) - 3)


def test_a_text_that_changes_is_another(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"abcdef")
    first = open_files(path, "text", "--x").windows(6, 1, "--x")
    write(tmp_path / "a.txt", b"ghijklm")
    second = open_files(path, "text", "--x").windows(6, 1, "--x")
    assert bytes(first[0].tolist()) == b"abcdef" and bytes(second[0].tolist()) == b"ghijkl"
    assert from_memory(b"abcdef").identity != from_memory(b"abcdeg").identity


def test_a_data_set_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes(json_lines())
    (tmp_path / "validation.jsonl").write_text('{"n": 1, "text": "held out"}\n')
    assert whole(open_dataset(str(tmp_path), None, "train", "text")) == JOINED
    assert whole(open_dataset(str(tmp_path), None, "validation", "text")) == b"held out\n\n"
    for split, name, why in (("test", None, "test"), ("train", "other", "other")):
        with pytest.raises(ValueError, match=f"--dataset: cannot read column 'text' of split '{split}'.*{why}"):
            open_dataset(str(tmp_path), name, split, "text")
    with pytest.raises(ValueError, match="--dataset: .*'no/such'"):
        open_dataset("no/such", None, "train", "text")


BROKEN: dict[str, tuple[str, bytes, str]] = {
    "no such column": ("a.jsonl", json_lines("body"), "there is none; there are n, body"),
    "integers": ("a.jsonl", b'{"text": 1}\n{"text": 2}\n', "it holds int, not text"),
    "broken JSON": ("a.jsonl", b'{"text": "a"}\n{"text": \n', "cannot read column 'text'"),
    "broken JSON, packed": ("a.jsonl.gz", b'{"text": "a"}\n{"text": \n', "cannot read column 'text'"),
    "broken CSV": ("a.csv", b'text\n"a\nb,c\n1,2,3', "cannot read column 'text'"),
    "no parquet": ("a.parquet", b"PAR1 no PAR1", "cannot read column 'text'"),
    "half a character": ("a.jsonl", b'{"text": "\\ud83d"}\n', "cannot read column 'text'"),
    "Latin-1": ("a.txt", "grüße".encode("latin-1"), "cannot read .* as a UTF-8 text file .*decode"),
    "Latin-1, packed": ("a.txt.zst", "grüße".encode("latin-1"), "cannot read .* as a UTF-8 text file .*decode"),
    "empty": ("a.txt", b"", "is empty"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_is_told_in_a_line(case: str, tmp_path: Path) -> None:
    name, data, message = BROKEN[case]
    with pytest.raises(ValueError, match=f"--x: .*{message}") as told:
        open_files(write(tmp_path / name, data), "text", "--x").length()
        whole(open_files(str(tmp_path / name), "text", "--x"))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("cut", [gzip.compress(TEXT)[:-500], zstandard.compress(TEXT)[:-500]], ids=["gz", "zst"])
def test_packed_files_that_are_cut_off_are_refused(cut: bytes, tmp_path: Path, request) -> None:
    path = tmp_path / f"a.txt.{request.node.callspec.id}"
    path.write_bytes(cut)
    with pytest.raises(ValueError, match="--x: cannot read"):
        whole(open_files(str(path), "text", "--x"))


def test_named_texts(tmp_path: Path) -> None:
    (tmp_path / "a=b.txt").write_text("x")
    assert whole(open_named([f"one={tmp_path}/a=b.txt"], "text", "--t")["one"]) == b"x"
    for wrong in (["a"], ["=a"], ["a="], [f"a={tmp_path}/a=b.txt"] * 2):
        with pytest.raises(ValueError, match="--t takes NAME=PATH"):
            open_named(wrong, "text", "--t")
    for name in ("<script>", "a|b", "a\nb", "a b"):
        with pytest.raises(ValueError, match="--t: the name"):
            open_named([f"{name}={tmp_path}/a=b.txt"], "text", "--t")


def test_texts_that_every_machine_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    corpus = open_files("pydoc", "text", "--x")
    assert len(whole(corpus)) == corpus.length() > 100_000
    Path("pydoc").write_text("a file of that name comes first")
    assert whole(open_files("pydoc", "text", "--x")).startswith(b"a file")


@pytest.mark.parametrize(
    "text, cut",
    [
        (b"a b\nc d", 4),
        (b"a b c", 3),
        ("aü€".encode(), 3),
        ("aü€".encode()[:-1], 3),
        (b"abc", 2),
        (b" abc", 3),
    ],
)
def test_texts_are_cut_between_lines_words_or_characters(text: bytes, cut: int) -> None:
    assert cut_point(text) == cut
    text[:cut].decode("utf-8")
