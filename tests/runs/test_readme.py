"""Cards in folders where something else is called README.md."""

import os
import time
from pathlib import Path

import pytest

from hf_universal_pretrain.runs.readme import LARGEST, write_card


@pytest.mark.parametrize("kind", ["folder", "binary", "large", "pipe", "link"])
def test_what_is_no_card_is_left_as_it_is(kind: str, tmp_path: Path, caplog) -> None:
    path = tmp_path / "README.md"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(bytes(range(256)) * 4 if kind == "binary" else b"<!-- x\n" * (LARGEST // 4))
    before = path.lstat()
    began = time.perf_counter()
    write_card(tmp_path, "a card")
    assert time.perf_counter() - began < 5
    assert "README.md is no card" in caplog.text and "it is left as it is" in caplog.text
    assert (path.lstat().st_mode, path.lstat().st_size) == (before.st_mode, before.st_size)
