"""`compare.py` as a user runs it: processes of their own, interrupted and started again."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from hf_universal_pretrain.commands import compare
from hf_universal_pretrain.commands.arguments import parse_args
from hf_universal_pretrain.commands.experiment import Experiment, ScriptArguments
from hf_universal_pretrain.models.transfer import shuffle_weights
from hf_universal_pretrain.text import deal_out
from tests.conftest import ROOT


COMMON = """
output_dir: out
train_file: train.txt
model: gpt2
config_overrides: n_layer=1,n_embd=16,n_head=2,n_positions=32
context_length: 32
seeds: [0]
learning_rates: [1.0e-2]
sweep_steps: 4
pretrain: {max_steps: 4, per_device_train_batch_size: 4, use_cpu: true, source_batch: 8, buffer_size: 32,
    burn_in_rounds: 1, machines: "lstm=0.5,context_tree=0.5", hidden_size: 16, eval_windows: 2, logging_steps: 1}
finetune: {max_steps: 20, per_device_train_batch_size: 4, use_cpu: true, eval_windows: 4, warmup_steps: 2}
"""


@pytest.fixture
def config(tmp_path: Path):
    (tmp_path / "train.txt").write_text("It was the best of times,\nit was the worst of times.\n" * 5000)

    def write(arms: str) -> list[str]:
        (tmp_path / "c.yaml").write_text(f"{COMMON}arms:\n{arms}")
        return ["--config", "c.yaml"]

    return write


def test_text_is_dealt_out_in_whole_lines() -> None:
    lines = [f"line {i}\n".encode() for i in range(100)]
    dealt = deal_out(b"".join(lines), ["a", "b", "a"], block=20)
    assert sorted(b"".join(dealt.values()).splitlines(keepends=True)) == sorted(lines)
    assert (
        dealt["b"].startswith(b"line 3\nline 4\nline 5\nline 12\n") and 1.5 < len(dealt["a"]) / len(dealt["b"]) < 2.5
    )
    assert deal_out(b"one\n", ["a", "b"]) == {"a": b"one\n", "b": b""}


def test_shuffled_weights_are_the_same_values(make_model) -> None:
    model, other = make_model(), make_model()
    shuffle_weights(model, seed=1)
    for (name, weight), before in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(weight.flatten().sort().values, before.flatten().sort().values)
        assert weight.unique().numel() < 10 or not torch.equal(weight, before), name


@pytest.mark.parametrize(
    "changes, told",
    [
        (["--only", "down"], "'down' is none of scratch, up"),
        (["--arms", '{"scratch": {"teach": 1}}'], "scratch must be a mapping with keys among"),
        (["--arms", '{"scratch": {}, "b": {"weights_of": "c"}}'], "b takes the weights of 'c'"),
        (["--sweep_seed", "0"], "--sweep_seed: 0 is one of --seeds"),
        (["--pretrain", "[1]"], "--pretrain must be a mapping"),
        (["--override", "finetune.max_steps"], "--override finetune.max_steps: write arms.KEY=VALUE"),
        (["--override", "seeds=1"], "--override seeds=1: write arms.KEY=VALUE"),
        (["--override", "finetune..a=1"], "--override finetune..a=1: write arms.KEY=VALUE"),
        (["--override", "finetune.max_steps.few=1"], "max_steps holds a value, and no mapping"),
        (["--override", "finetune.max_steps=[1"], "'[1' cannot be read as YAML"),
        (["--override", "arms.up.teach=1"], "up must be a mapping with keys among"),
        (["--train_file", "nowhere.txt"], "--train_file"),
    ],
)
def test_wrong_use(changes: list[str], told: str, config, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["compare.py", *config("  scratch: {}\n  up: {pretrain: {}}\n"), *changes])
    with pytest.raises(SystemExit) as stopped:
        compare.main()
    assert stopped.value.code == 2 and told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_failed_arms_are_kept_and_finished_runs_skipped(run_recipe, config, tmp_path: Path) -> None:
    flags = config("  scratch: {}\n  broken: {pretrain: {machines: nonsense}}\n")
    first = run_recipe("compare.py", *flags, cwd=tmp_path)
    assert first.returncode == 1, first.stderr
    assert "FAILED: broken, seed 0: broken/seed-0/before" in first.stderr + first.stdout
    results = json.loads((tmp_path / "out/comparison.json").read_text())["arms"]
    assert "unknown machine family 'nonsense'" in results["broken"]["failed"]["seed 0"]
    curve = results["scratch"]["curves"]["0"]
    assert curve[0][0] == 0 and curve[-1][0] == 20 * 4 * 32 and curve[-1][1] < curve[0][1]
    assert results["scratch"]["gap"]["mean"] == 0
    finished = tmp_path / "out/scratch/seed-0/rate-0.01/eval_results.json"
    written = finished.stat().st_mtime_ns
    again = run_recipe("compare.py", *flags, "--only", "scratch", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert finished.stat().st_mtime_ns == written and "| scratch | 0.01 |" in again.stdout


def processes_in(folder: Path) -> int:
    """How many processes run in a folder."""
    found = 0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            found += (process / "cwd").resolve() == folder.resolve()
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_stopped_it_leaves_no_run_behind_and_goes_on(config, tmp_path: Path) -> None:
    flags = config("  scratch: {}\n  other: {finetune: {weight_decay: 0.1}}\n")
    settings = tmp_path / "c.yaml"
    settings.write_text(settings.read_text().replace("max_steps: 20", "max_steps: 400, save_steps: 10"))
    command = [sys.executable, ROOT / "recipes/compare.py", *flags]
    process = subprocess.Popen(command, cwd=tmp_path)
    run = tmp_path / "out/scratch/seed-0/rate-0.01"
    while not list(run.glob("checkpoint-*/trainer_state.json")):
        time.sleep(0.1)
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert processes_in(tmp_path) == 0 and not (tmp_path / "out/other").exists()
    assert not (run / "eval_results.json").exists()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    curve = json.loads((tmp_path / "out/comparison.json").read_text())["arms"]["scratch"]["curves"]["0"]
    assert curve[0][0] == 0 and curve[-1][0] == 400 * 4 * 32  # one curve, from before the stop to the end


def test_an_override_changes_what_it_names_and_leaves_the_rest(config, tmp_path: Path, monkeypatch) -> None:
    """On top of a configuration, where the whole mapping on the command line would take its place."""
    monkeypatch.chdir(tmp_path)
    flags = config("  scratch: {}\n  up: {pretrain: {max_steps: 7, machines: lstm}}\n")
    changes = ["finetune.max_steps=5", "finetune.lr_scheduler_kwargs={min_lr_rate: 0.1}"]
    changes += ["pretrain.learning_rate=2e-3", "arms.up.pretrain.max_steps=3", "arms.more.pretrain.use_cpu=true"]
    (script,) = parse_args((ScriptArguments,), "", lambda asked: {}, [*flags, "--override", *changes])
    assert script.finetune_flags == {
        "max_steps": 5, "per_device_train_batch_size": 4, "use_cpu": True, "eval_windows": 4, "warmup_steps": 2,
        "lr_scheduler_kwargs": {"min_lr_rate": 0.1},
    }  # fmt: skip
    assert float(script.pretrain_flags["learning_rate"]) == 2e-3 and script.pretrain_flags["max_steps"] == 4
    assert script.specs["up"] == {"pretrain": {"max_steps": 3, "machines": "lstm"}}
    assert script.specs["more"] == {"pretrain": {"use_cpu": True}}


def test_a_model_can_be_one_for_each_seed() -> None:
    arms = {"scratch": {}, "found": {"model": "starts/seed-{seed}/before"}}
    script = ScriptArguments(output_dir="out", train_file="t", arms=json.dumps(arms))
    assert Experiment(script, None).stage_one("found", 3) == Path("starts/seed-3/before")


@pytest.mark.slow
def test_seeds_of_an_arm_run_side_by_side(config, tmp_path: Path) -> None:
    flags = [*config("  scratch: {}\n"), "--seeds", "0", "1", "--jobs", "2"]
    command = [sys.executable, ROOT / "recipes/compare.py", *flags]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"scratch/seed-[01]/rate-0.01, scratch/seed-[01]/rate-0.01", done.stderr), "the bar names both"
    runs = [tmp_path / f"out/scratch/seed-{seed}/rate-0.01" for seed in (0, 1)]
    begun = [(run / "flags.json").stat().st_mtime_ns for run in runs]
    ended = [(run / "eval_results.json").stat().st_mtime_ns for run in runs]
    assert max(begun) < min(ended)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_arms_are_what_they_say(config, tmp_path: Path) -> None:
    arms = "  scratch: {}\n  up: {pretrain: {}}\n  text: {text: true}\n  still: {pretrain: {ablation: no_iteration}}\n"
    arms += (
        "  shuffled: {weights_of: up, shuffle_weights: true}\n  partly: {weights_of: up, finetune: {transfer: mlp}}\n"
    )
    flags = config(arms)
    more = ["--learning_rates", "1e-3", "1e-2", "--jobs", "2"]
    command = [sys.executable, ROOT / "recipes/compare.py", *flags, *more]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "out/comparison.json").read_text())["arms"]
    assert list(results) == ["scratch", "up", "text", "still", "shuffled", "partly"]
    for arm, result in results.items():
        assert result["sweep"].keys() == {"0.001", "0.01"} and not result["failed"]
        assert result["learning_rate"] == 0.01 and result["rate_at_edge"]
        assert result["earlier_tokens"] == (0 if arm == "scratch" else 4 * 4 * 32)
        assert (
            (result["generation_flops"] > 0) == (result["generation_seconds"] > 0) == (arm not in ("scratch", "text"))
        )
    ups = [results[arm]["curves"]["0"][0][1] for arm in ("up", "still", "shuffled", "text")]
    assert len(set(ups)) == 4  # four different models to start from
    up = AutoModelForCausalLM.from_pretrained(tmp_path / "out/up/seed-0/before").state_dict()
    shuffled = AutoModelForCausalLM.from_pretrained(tmp_path / "out/shuffled/seed-0/before").state_dict()
    assert all(torch.equal(up[n].flatten().sort().values, shuffled[n].flatten().sort().values) for n in up)
    assert "transfer.json" in {path.name for path in (tmp_path / "out/partly/seed-0/rate-0.01").iterdir()}
    assert (tmp_path / "out/comparison.png").stat().st_size > 10_000
