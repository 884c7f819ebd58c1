import json
from pathlib import Path

import pytest

from hf_universal_pretrain import SyntheticUPConfig
from hf_universal_pretrain.runs.origin import told_printable, trained_length, trained_tokens


def test_the_last_training_decides(tmp_path: Path) -> None:
    """A checkpoint has its marker, a pretrained folder the settings of its data, a finished one its results."""
    assert trained_length(str(tmp_path)) is None and trained_tokens(str(tmp_path)) == 0
    SyntheticUPConfig(context_length=128, tokens="printable", alphabet_size=97).save_pretrained(tmp_path)
    assert trained_length(str(tmp_path)) == 128 and told_printable(str(tmp_path))
    (tmp_path / "complete.json").write_text(json.dumps({"settings": {"context_length": 96}}))
    assert trained_length(str(tmp_path)) == 96
    (tmp_path / "eval_results.json").write_text(json.dumps({"context_length": 64, "texts": {}}))
    assert trained_length(str(tmp_path)) == 64


@pytest.mark.parametrize("content", ["", "[]", "null", "{", '{"context_length": "x"}', '{"context_length": -4}'])
def test_files_that_tell_nothing_are_passed_over(content: str, tmp_path: Path) -> None:
    for name in ("eval_results.json", "complete.json", "synthetic_up_config.json", "trainer_state.json"):
        (tmp_path / name).write_text(content)
    assert trained_length(str(tmp_path)) is None and trained_tokens(str(tmp_path)) == 0
    assert not told_printable(str(tmp_path)) and trained_length(str(tmp_path / "nowhere")) is None
