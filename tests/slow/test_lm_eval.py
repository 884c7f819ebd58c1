"""lm_eval judges a saved folder as `evaluate.py` does.

Needs `lm_eval` (`pip install "lm_eval[hf]"`), in this environment or in another whose command `LM_EVAL` names:

    LM_EVAL=/path/to/venv/bin/lm_eval pytest -m slow tests/slow/test_lm_eval.py
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from hf_universal_pretrain.models.build import build_config, build_model
from hf_universal_pretrain.packed import TokenBlocks
from hf_universal_pretrain.text import interpreter_texts
from tests.conftest import ROOT


LM_EVAL = os.environ.get("LM_EVAL") or shutil.which("lm_eval")
LENGTH, WINDOWS = 256, 60

pytestmark = [pytest.mark.slow, pytest.mark.skipif(LM_EVAL is None, reason="lm_eval is not installed")]


@pytest.fixture
def model(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    """A model that knows a little English: it gives a byte 1 to 10 bits."""
    config = build_config("gpt2", tokenizer, f"n_layer=2,n_embd=64,n_head=2,n_positions={LENGTH}")
    model = build_model(config, 0)
    blocks = TokenBlocks(interpreter_texts()["english"], tokenizer, LENGTH)
    rows = torch.stack([row["input_ids"] for row in blocks])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(150):
        batch = rows[torch.arange(8) + 8 * step % (len(rows) - 8)]
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_bits_per_byte_are_the_same(model: Path, run_recipe, tmp_path: Path) -> None:
    """On one line of ASCII, cut into windows that lie side by side, which is how lm_eval reads a long document. Names
    of special tokens stand in it. What differs: lm_eval judges each window's first byte too, from the one before."""
    prose = interpreter_texts()["english"].decode().encode("ascii", "ignore").decode()
    text = re.sub(r"\s+", " ", prose)[-2 * LENGTH * WINDOWS :]
    text = " </s> <pad> ".join(text[i : i + 100] for i in range(0, len(text), 100))[: LENGTH * WINDOWS]
    (tmp_path / "held_out.txt").write_text(text)
    flags = ["--context_length", str(LENGTH), "--windows", str(WINDOWS), "--probes", "none", "--json", "ours.json"]
    done = run_recipe("evaluate.py", "--model", str(model), "--text", "held_out=held_out.txt", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ours = json.loads((tmp_path / "ours.json").read_text())["texts"]["held_out"]["whole"]["bits_per_byte"]

    tasks = ["--tasks", "local_text", "--include_path", str(ROOT / "recipes" / "configs" / "lm_eval")]
    command = [str(LM_EVAL), "--model", "hf", "--model_args", f"pretrained={model}", *tasks, "--device", "cpu"]
    env = {**os.environ, "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = float(re.search(r"\|bits_per_byte\s*\|.*?\|\s*([\d.]+)\|", done.stdout).group(1))
    assert ours < 6
    assert theirs == pytest.approx(ours, abs=0.01)
