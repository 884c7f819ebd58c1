"""Runs of an experiment: no token in any file, no run that outlives the experiment, no run of another text."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from hf_universal_pretrain.commands import child, compare, experiment
from tests.conftest import ROOT


TOKEN = "hf_" + "aB3" * 12
FLAGS = {"max_steps": 4, "hub_token": "a-secret", "hub_tokn": "another", "note": f"see {TOKEN}"}


def test_a_run_is_another_by_the_values_of_its_flags_and_not_by_their_order() -> None:
    flags = {"family": ["a.b=1", "c.d=-2"], "seed": 0, "kwargs": {"x": 1}}
    before = child.told(flags)
    assert child.differences(before, child.told(dict(reversed(flags.items())))) == []
    assert child.differences(before, child.told({**flags, "seed": 1})) == ["--seed (was 0, now 1)"]
    assert child.differences(before, child.told({**flags, "family": ["c.d=-2", "a.b=1"]})) == [
        "--family (was a.b=1 c.d=-2, now c.d=-2 a.b=1)"
    ]
    assert child.differences(before, child.told({**flags, "max_steps": -1})) == ["--max_steps (was not given, now -1)"]
    assert child.differences(before, before[:-2]) == ['--kwargs (was {"x": 1}, now not given)']


def test_no_token_reaches_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called = {}
    monkeypatch.setattr(child.subprocess, "Popen", lambda words, env, **kwargs: called.update(words=words, env=env))
    child.start(tmp_path, "pretrain", FLAGS, threads=1)
    assert "a-secret" not in called["words"] and called["env"]["HF_TOKEN"] == "a-secret"
    assert called["words"][4:10] == ["--max_steps", "4", "--hub_tokn", "another", "--note", f"see {TOKEN}"]
    written = "".join(path.read_text() for path in tmp_path.iterdir())
    assert not any(secret in written for secret in ("a-secret", "another", TOKEN)) and "max_steps" in written
    assert child.told_before(tmp_path) == child.told(FLAGS)


def test_no_token_reaches_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["compare.py", "--pretrain", json.dumps(FLAGS), "--hub_tokn", "third"])
    script = compare.ScriptArguments("out", "train.txt", json.dumps({"up": {"pretrain": FLAGS}, "scratch": {}}))
    compare.write_results(tmp_path, script, {})
    written = (tmp_path / "comparison.json").read_text()
    assert not any(secret in written for secret in ("a-secret", "another", "third", TOKEN)), written
    assert json.loads(written)["settings"]["arms"]["up"]["pretrain"]["max_steps"] == 4


def test_results_tell_paths_relative_to_where_the_command_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the settings, in the command, in arms; what is no path of this machine stays as it is."""
    (tmp_path / "here").mkdir()
    (tmp_path / "text").write_text("")
    monkeypatch.chdir(tmp_path / "here")
    text, arms = str(tmp_path / "text"), {"scratch": {}, "found": {"model": str(tmp_path)}}
    monkeypatch.setattr("sys.argv", ["compare.py", "--train_file", text, f"--eval_file={text}", "--model", "/no/such"])
    script = compare.ScriptArguments(str(tmp_path / "here"), text, json.dumps(arms))
    compare.write_results(tmp_path / "here", script, {})
    written = (tmp_path / "here" / "comparison.json").read_text()
    told = json.loads(written)
    assert told["command"] == "hf-up compare --train_file ../text --eval_file=../text --model /no/such"
    assert (told["settings"]["output_dir"], told["settings"]["train_file"]) == (".", "../text")
    assert told["settings"]["arms"]["found"]["model"] == ".." and str(tmp_path) not in written


def test_no_path_of_a_machine_is_among_the_results_that_travel_along() -> None:
    for path in (ROOT / "recipes" / "results").glob("*.json"):
        assert not re.search(r"(?<![\w.])/(work|home|root|tmp|mnt|Users)/", path.read_text()), path


def test_a_mistyped_token_is_not_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    from hf_universal_pretrain.commands import pretrain

    for words in (["--hub_tokn", "a-secret"], ["--hub_tokn=a-secret"], ["--machines", TOKEN], ["--x", TOKEN]):
        monkeypatch.setattr("sys.argv", ["pretrain.py", "--model", "gpt2", *words])
        with pytest.raises(SystemExit):
            pretrain.main()
        shown = capsys.readouterr()
        assert "a-secret" not in shown.err + shown.out and TOKEN not in shown.err + shown.out
        assert "***" in shown.err


def test_arms_are_names_of_folders(tmp_path: Path) -> None:
    for name in ("../x", "a/b", "", ".", "..", "/tmp/x", "texts", "architecture-1", "a\nb"):
        with pytest.raises(ValueError, match="--arms"):
            compare.ScriptArguments("out", "t", json.dumps({"scratch": {}, name: {}}))


def test_another_text_is_another_file_and_another_model_another_folder(tmp_path: Path) -> None:
    def prepared(text: str, **changes: str) -> tuple[Path, Path]:
        (tmp_path / "t.txt").write_text(text * 20_000)
        arms = json.dumps({"scratch": {}})
        script = compare.ScriptArguments(
            str(tmp_path / "out"), str(tmp_path / "t.txt"), arms, context_length=32, **changes
        )
        made = experiment.Experiment(script, None)
        made.prepare()
        return made.texts["train"], made.architecture

    first, again, other = prepared("It was the best of times.\n"), prepared("It was the best of times.\n"), None
    assert first == again
    other = prepared("It was the worst of times.\n")
    assert other[0] != first[0] and other[1] == first[1] and first[0].is_file()
    assert prepared("It was the best of times.\n", config_overrides="n_layer=2")[1] != first[1]


def test_shuffled_weights_that_were_cut_off_are_made_again(make_model, tmp_path: Path, monkeypatch) -> None:
    """Killed between the configuration and the weights."""
    script = compare.ScriptArguments(str(tmp_path), "t", json.dumps({"scratch": {}}))
    runs = experiment.Experiment(script, None)
    model = make_model()
    experiment.build_tokenizer("byte").save_pretrained(tmp_path / "source")
    model.save_pretrained(tmp_path / "source")
    before = tmp_path / "shuffled" / "seed-0" / "before"

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    for place in ("save_pretrained",):
        with monkeypatch.context() as patch:
            patch.setattr(type(model), place, lambda self, folder: self.config.save_pretrained(folder) or killed())
            with pytest.raises(KeyboardInterrupt):
                runs.shuffled(tmp_path / "source", before, 0)
    made = runs.shuffled(tmp_path / "source", before, 0)
    assert (made / "model.safetensors").is_file() and (made / "config.json").is_file()


def test_weights_are_shuffled_wherever_they_come_from(make_model, tmp_path: Path) -> None:
    """Of another arm, or of a model that is there already; what such a start has cost is told by the model itself."""
    arms = {
        "scratch": {}, "found": {"model": f"{tmp_path}/source-{{seed}}"},
        "shuffled": {"weights_of": "found", "shuffle_weights": True},
        "found_shuffled": {"model": f"{tmp_path}/source-{{seed}}", "shuffle_weights": True},
    }  # fmt: skip
    runs = experiment.Experiment(compare.ScriptArguments(str(tmp_path / "out"), "t", json.dumps(arms)), None)
    source = tmp_path / "source-3"
    experiment.build_tokenizer("byte").save_pretrained(source)
    model = make_model()
    model.save_pretrained(source)
    name, old = next((name, weight) for name, weight in model.state_dict().items() if weight.dim() == 2)
    assert runs.stage_one("found", 3) == source
    for arm in ("shuffled", "found_shuffled"):
        new = experiment.load_model(str(runs.stage_one(arm, 3))).state_dict()[name]
        assert not torch.equal(new, old) and torch.equal(new.flatten().sort().values, old.flatten().sort().values)
        assert runs.trained(arm, 3) == source


def test_a_run_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    """The parent is killed with SIGKILL, which nothing can handle; the run saves a checkpoint and ends."""
    flags = {
        "model": "gpt2", "config_overrides": "n_layer=1,n_embd=16,n_head=2,n_positions=64", "context_length": 32,
        "source_batch": 8, "buffer_size": 32, "hidden_size": 16, "burn_in_rounds": 1, "max_steps": 1_000_000,
        "save_steps": 1_000_000, "eval_windows": 4, "eval_strategy": "no", "eval_on_start": False, "use_cpu": True,
        "per_device_train_batch_size": 4, "logging_steps": 1, "disable_tqdm": True,
    }  # fmt: skip
    code = (
        "import sys, json; from pathlib import Path; from hf_universal_pretrain.commands import child\n"
        f"child.start(Path({str(tmp_path)!r}), 'pretrain', json.loads(sys.argv[1]), 1).wait()"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, "-c", code, json.dumps(flags)], env=env)
    log = tmp_path / "run.log"
    _wait_for(lambda: log.is_file() and "'loss'" in log.read_text(), 200)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _wait_for(lambda: list(tmp_path.glob("checkpoint-*/complete.json")), 60)
    _wait_for(lambda: "stopped by SIGTERM after step" in log.read_text(), 60)


def _wait_for(happened, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.2)
