"""`evaluate.py` as a user runs it."""

import gzip
import json
import math
from pathlib import Path

import pytest
from measure.tiny import tiny_config

from hf_universal_pretrain.commands import evaluate
from hf_universal_pretrain.models.build import build_model
from tests.commands.test_recipes import TINY
from tests.odd_tokenizers import ODD


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt.gz"
    path.write_bytes(gzip.compress(b"It was the best of times, it was the worst of times. " * 200))
    return path


def test_checkpoints_are_measured_beside_baselines_and_drawn(run_recipe, text: Path, tmp_path: Path) -> None:
    flags = ["--max_steps", "4", "--save_steps", "2", "--output_dir", "out", "--eval_text", f"dickens={text}"]
    done = run_recipe("pretrain.py", *TINY, *flags, "--logging_steps", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    models = ["out/checkpoint-2", "out/checkpoint-4", "out"]
    common = ["--text", f"dickens={text}", "--context_length", "32", "--windows", "4", "--json", "e.json"]
    done = run_recipe("evaluate.py", "--model", *models, *common, "--probes", "rep-3", "sort", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "dickens" in done.stdout and "sort" in done.stdout and "counts .05" in done.stdout

    results = json.loads((tmp_path / "e.json").read_text())["models"]
    assert [results[model]["synthetic_tokens"] for model in models] == [256, 512, 512]
    entry = results["out"]["texts"]["dickens"]
    trained = json.loads((tmp_path / "out/eval_results.json").read_text())["texts"]["dickens"]
    assert entry["baselines"] == trained["baselines"]
    for key in ("bits_per_byte", "ci95"):
        assert entry[key] == pytest.approx(trained[key], abs=1e-5)
    markov = [f"markov_{order}" for order in range(1, 6)]
    assert list(entry["baselines"]) == ["uniform", "kt", "counts_05", *markov, "best"]
    assert entry["windows"] == 4 and entry["context_length"] == 32 and entry["last"]["baselines"]["uniform"] == 8
    assert results["out"]["probes"].keys() == {"rep-3", "sort"}
    assert results["out"]["probes"]["rep-3"]["bits_per_symbol"] == pytest.approx(math.log2(259), abs=1)
    assert (tmp_path / "e.png").stat().st_size > 5000


def test_one_model_has_the_contracts_json(run_recipe, tmp_path: Path, monkeypatch, capsys) -> None:
    """Of any causal model: here one that was never trained, on a data set in a folder, without texts of its own."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train.jsonl").write_text(json.dumps({"body": "to be or not to be " * 50}) + "\n")
    flags = ["--max_steps", "1", "--learning_rate", "0", "--output_dir", "out", "--eval_strategy", "no"]
    assert run_recipe("pretrain.py", *TINY, *flags, cwd=tmp_path).returncode == 0
    common = ["--model", "out", "--dataset", "data", "--text_column", "body", "--windows", "3", "--json", "e.json"]
    done = run_recipe("evaluate.py", *common, "--probes", "none", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "e.json").read_text())
    assert results["probes"] == {} and results["texts"].keys() == {"data"}
    entry = results["texts"]["data"]
    assert entry["context_length"] == 32 and entry["windows"] == 3  # as in its training
    assert entry["bits_per_byte"] == pytest.approx(math.log2(259), abs=0.5)
    assert entry["baselines"]["best"] < 4 < entry["baselines"]["uniform"]

    monkeypatch.chdir(tmp_path)
    for wrong, told in (
        (["--probes", "nonsense"], "--probes: unknown probe 'nonsense'"),
        (["--windows", "0"], "--windows"),
        (["--context_length", "65"], "--context_length: 65 is more than the 64 positions"),
        (["--context_length", "4"], "--context_length must be at least 8, not 4"),
        (["--context_length", "0"], "--context_length must be at least 8, not 0"),
        (["--context_length", "-5"], "--context_length must be at least 8, not -5"),
        (["--context_length", "16", "--probes", "sort"], "probes need at least 32 symbols, not 16"),
        (["--json", "data"], "--json: data is a folder: give a file"),
        (["--json", "e.json/f.json"], "--json: e.json is a file: give another folder"),
        (["--text", "x"], "--text takes NAME=PATH"),
        (["--model", "nowhere"], "--model"),
    ):
        monkeypatch.setattr("sys.argv", ["evaluate.py", *common, "--json", "f.json", *wrong])
        with pytest.raises(SystemExit) as stopped:
            evaluate.main()
        told_in = capsys.readouterr().err
        assert stopped.value.code == 2 and told in told_in.strip().splitlines()[-1]
        assert not (tmp_path / "f.json").exists()

    flags = ["--probes", "none", "--context_length"]
    for length, warned in (("32", False), ("48", True)):
        monkeypatch.setattr("sys.argv", ["evaluate.py", *common, *flags, length])
        evaluate.main()
        said = [line for line in capsys.readouterr().err.splitlines() if "warning: --context_length" in line]
        assert len(said) == warned, "one line where the windows are longer than the rows of the training"


def test_a_tokenizer_that_loses_the_text_is_refused(tmp_path: Path, monkeypatch, capsys) -> None:
    tokenizer = ODD["words"]()
    build_model(tiny_config("gpt2", tokenizer), 0).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    capsys.readouterr()
    command = ["evaluate.py", "--model", str(tmp_path / "model"), "--probes", "none", "--windows", "5"]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as stopped:
        evaluate.main()
    [line] = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert stopped.value.code == 2 and "% of the bytes of english" in line
    (tmp_path / "rhyme.txt").write_text("the cat and the hat, and the bat! " * 100 + "X")
    monkeypatch.setattr("sys.argv", [*command, "--text", f"rhyme={tmp_path / 'rhyme.txt'}"])
    evaluate.main()
    shown = capsys.readouterr().out
    assert "of tokens" in shown and "cannot be told back" in shown
