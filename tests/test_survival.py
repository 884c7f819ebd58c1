"""Runs that are stopped, run out of disk, diverge or collapse; what is asserted is what is on the disk afterwards."""

import dataclasses
import importlib
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback, TrainingArguments

from hf_universal_pretrain.commands import pretrain as command
from hf_universal_pretrain.errors import TrainingDiverged
from hf_universal_pretrain.packed import TokenBlocks
from hf_universal_pretrain.runs.checkpoints import checkpoints, fault, newest_complete
from hf_universal_pretrain.training.bits_trainer import BitsTrainer
from hf_universal_pretrain.training.callbacks import BufferEnrichmentCallback
from hf_universal_pretrain.training.health import dead_share
from hf_universal_pretrain.training.interrupts import StopOnSignal, stop_at_signals
from tests.commands.test_bad_input import RUN, TUNE
from tests.conftest import ROOT, once


class At(TrainerCallback):
    """Does something at the end of a step, once."""

    def __init__(self, step: int, act) -> None:
        self.step, self.act = step, act

    def on_step_end(self, args, state, control, model, **kwargs) -> None:
        if state.global_step == self.step:
            self.act(model)


def me(number: int):
    return lambda model: os.kill(os.getpid(), number)


def same_weights(one: Path, other: Path) -> bool:
    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def recipe(name: str, flags: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Runs a recipe in this process and returns its exit status."""
    monkeypatch.setattr("sys.argv", [name, *once(["--use_cpu", *flags])])
    monkeypatch.syspath_prepend(ROOT / "recipes")
    try:
        importlib.import_module(name.removesuffix(".py")).main()
    except SystemExit as exited:
        return exited.code
    return 0


# ---- Signals ----


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_saves_and_the_run_goes_on_exactly(number: int, make_trainer, tmp_path: Path) -> None:
    """Accumulation and dropout on; launchers send a signal twice. Nothing but the signal makes it save."""
    settings = {"gradient_accumulation_steps": 2, "save_steps": 100}
    make_trainer(tmp_path / "whole", **settings, save_strategy="steps").train()

    def twice(model) -> None:
        me(number)(model)
        me(number)(model)

    stop, before = StopOnSignal(), signal.getsignal(number)
    stopped = make_trainer(tmp_path / "stopped", **settings, callbacks=[At(3, twice), stop])
    stopped.train()
    assert (stop.received, stopped.state.global_step) == (number, 3), (
        "the callback comes first, the signal is seen next"
    )
    assert signal.getsignal(number) is before, "the handlers of before are back"
    checkpoint = newest_complete(tmp_path / "stopped")
    assert checkpoint.name == "checkpoint-3"
    resumed = make_trainer(tmp_path / "stopped", **settings, save_strategy="steps")
    torch.manual_seed(999)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert same_weights(tmp_path / "whole" / "checkpoint-6", tmp_path / "stopped" / "checkpoint-6")


def test_the_checkpoint_of_a_stop_is_kept_beside_an_older_best_one(tmp_path: Path, monkeypatch) -> None:
    """Where one checkpoint is to be kept, and the first evaluation stays the best: the run goes on from the stop."""
    (tmp_path / "text").write_text("It was the best of times. " * 400)
    assert recipe("pretrain.py", [*RUN, "--output_dir", str(tmp_path / "run")], monkeypatch) == 0
    flags = [*TUNE, "--train_file", str(tmp_path / "text"), "--model", str(tmp_path / "run"), "--max_steps", "20"]
    flags += ["--save_total_limit", "1", "--save_steps", "2", "--eval_steps", "2", "--eval_on_start", "false"]
    flags += ["--learning_rate", "0", "--output_dir", str(tmp_path / "out")]
    original = StopOnSignal.on_step_end

    def signalled(self, args, state, control, **kwargs) -> None:
        if state.global_step == 5:
            me(signal.SIGTERM)(None)
        original(self, args, state, control, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(StopOnSignal, "on_step_end", signalled)
        assert recipe("finetune.py", flags, monkeypatch) == 128 + signal.SIGTERM
    assert [path.name for path in checkpoints(tmp_path / "out")] == ["checkpoint-5", "checkpoint-2"]
    assert newest_complete(tmp_path / "out").name == "checkpoint-5"


def test_stopped_by_ctrl_c_as_a_user_sees_it(tmp_path: Path) -> None:
    """Status 130, one line that says how to go on, no token in it or in any file; the command works."""
    secret = "hf_this_is_secret"
    flags = ["--max_steps", "1000000", "--save_steps", "1000000", "--output_dir", "out", "--hub_token", secret]
    flags += ["--disable_tqdm", "true", "--logging_steps", "1"]
    command = [sys.executable, str(ROOT / "recipes" / "pretrain.py"), *once([*RUN, *flags, "--use_cpu"])]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    run = subprocess.Popen(command, cwd=tmp_path, **pipes)
    while "loss" not in run.stdout.readline():
        assert run.poll() is None
    run.send_signal(signal.SIGINT)
    shown, told = run.communicate(timeout=60)
    assert run.returncode == 130, told
    lines = told.strip().splitlines()[-2:]
    assert "stopped by SIGINT after step" in lines[0] and "is complete; this goes on:" in lines[0]
    assert "Traceback" not in told
    assert secret not in shown + told
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 10 and not any(secret.encode() in path.read_bytes() for path in files)
    reached = int(newest_complete(tmp_path / "out").name.split("-")[1])
    longer = lines[1].replace("--max_steps 1000000", f"--max_steps {reached + 2}")
    done = subprocess.run(longer, shell=True, cwd=tmp_path, timeout=100, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"Going on from out/checkpoint-{reached}" in done.stderr
    assert (tmp_path / "out" / f"checkpoint-{reached + 2}" / "complete.json").is_file()


def test_a_terminal_that_is_closed_is_ignored_under_nohup(make_trainer, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop = StopOnSignal()
        with stop_at_signals():
            me(signal.SIGHUP)(None)
            trainer = make_trainer(tmp_path, callbacks=[At(3, me(signal.SIGHUP)), stop])
            trainer.train()
        assert (stop.received, trainer.state.global_step) == (0, 6)
    finally:
        signal.signal(signal.SIGHUP, before)


OUTSIDE = {
    "imports are done": (command, "starting_model", signal.SIGHUP),
    "burn-in": (BufferEnrichmentCallback, "on_train_begin", signal.SIGTERM),
    "evaluation at the start": (BitsTrainer, "evaluate", signal.SIGTERM),
    "finish": (BitsTrainer, "save_state", signal.SIGTERM), "push": (command, "push_model", signal.SIGHUP),
}  # fmt: skip


@pytest.mark.parametrize("when", OUTSIDE)
def test_a_signal_outside_of_training_ends_with_a_line(when: str, tmp_path: Path, monkeypatch, capsys) -> None:
    """Sent twice, as launchers do. The folder is free at once, and the same command brings the run to its end."""
    place, name_of_method, number = OUTSIDE[when]
    original = getattr(place, name_of_method)

    def signalled(*args, **kwargs):
        me(number)(None)
        me(number)(None)
        return original(*args, **kwargs)

    flags = [*RUN, "--output_dir", str(tmp_path / "out"), "--save_steps", "2", "--eval_strategy", "steps"]
    flags += ["--eval_on_start", str(when == "evaluation at the start"), "--eval_steps", "4"]
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)]
    with monkeypatch.context() as patch:
        patch.setattr(place, name_of_method, signalled)
        assert recipe("pretrain.py", flags, monkeypatch) == 128 + number
    assert before[:2] == [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)]
    signal.signal(signal.SIGINT, before[2])
    told = capsys.readouterr().err
    assert f"pretrain.py: stopped by {signal.Signals(number).name}" in told and "Traceback" not in told
    assert "checkpoint-4 is complete; this goes on" in told or when != "finish"
    assert not (tmp_path / "out" / "_lock").exists()
    assert (tmp_path / "out").exists() == (when != "imports are done")
    assert recipe("pretrain.py", flags, monkeypatch) == 0
    assert (tmp_path / "out" / "eval_results.json").is_file()


# ---- The end of a run ----


def test_a_run_that_was_killed_after_its_last_step_trains_no_step_more(make_trainer, tmp_path: Path) -> None:
    make_trainer(tmp_path, save_strategy="steps", save_steps=6).train()
    again = make_trainer(tmp_path)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    again.finish()
    assert again.state.global_step == 6 and again.train_dataset.rows_served == 24
    assert same_weights(tmp_path, tmp_path / "checkpoint-6")


def test_rotation_keeps_the_newest_complete_checkpoint(make_trainer, tmp_path: Path) -> None:
    """At the moment at which the newest is written but does not count yet, the one before must still be there."""
    seen = []

    class Spy(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs) -> None:
            seen.append([fault(path) for path in checkpoints(tmp_path)])

    trainer = make_trainer(tmp_path, save_strategy="steps", save_steps=1, save_total_limit=1, callbacks=[Spy()])
    waited = trainer.accelerator.wait_for_everyone
    trainer.accelerator.wait_for_everyone = lambda: (
        seen.append([fault(path) for path in checkpoints(tmp_path)]) or waited()
    )
    trainer.train()
    assert seen[:4] == [[], ["no complete.json"], [None], [None]]
    assert seen[4:7] == [["no complete.json", None], [None, None], [None]]


def test_new_intervals_count_after_a_resume(make_trainer, tmp_path: Path) -> None:
    make_trainer(tmp_path, save_strategy="steps", save_steps=3, max_steps=3).train()
    again = make_trainer(tmp_path, save_strategy="steps", save_steps=2, save_total_limit=None)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-6", "checkpoint-4", "checkpoint-3"]


def test_fine_tuning_goes_on_exactly(make_model, tokenizer, tmp_path: Path) -> None:
    """Two epochs and a half over shuffled rows of text, stopped in the second."""

    def trainer(folder: Path, **settings) -> BitsTrainer:
        args = TrainingArguments(
            str(folder), max_steps=10, per_device_train_batch_size=4, use_cpu=True, save_steps=7, disable_tqdm=True,
            **settings,
        )  # fmt: skip
        blocks = TokenBlocks(bytes(range(128)) * 4, tokenizer, 32)
        return BitsTrainer(model=make_model(), args=args, train_dataset=blocks, context_length=32)

    trainer(tmp_path / "whole").train()
    torch.manual_seed(999)
    trainer(tmp_path / "again").train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-7"))
    assert same_weights(tmp_path / "whole" / "checkpoint-10", tmp_path / "again" / "checkpoint-10")


def test_fine_tuning_stays_as_patient_as_it_was(tmp_path: Path, monkeypatch) -> None:
    """Killed between two evaluations without a new best, it stops after the same step: the best one and 3 more."""
    (tmp_path / "text").write_text("It was the best of times. " * 200)
    assert recipe("pretrain.py", [*RUN, "--output_dir", str(tmp_path / "run")], monkeypatch) == 0
    flags = [*TUNE, "--train_file", str(tmp_path / "text"), "--model", str(tmp_path / "run"), "--max_steps", "20"]
    flags += ["--early_stopping_patience", "3", "--eval_steps", "2", "--learning_rate", "0"]
    whole, again = tmp_path / "whole", tmp_path / "again"
    assert recipe("finetune.py", [*flags, "--output_dir", str(whole)], monkeypatch) == 0

    class Killed(Exception):
        pass

    def die(self, args, state, control, **kwargs) -> None:
        if state.global_step == 5:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(StopOnSignal, "on_step_begin", die)
        recipe("finetune.py", [*flags, "--output_dir", str(again)], monkeypatch)
    assert recipe("finetune.py", [*flags, "--output_dir", str(again)], monkeypatch) == 0
    steps = [json.loads((run / "trainer_state.json").read_text())["global_step"] for run in (whole, again)]
    assert steps == [8, 8]


# ---- A full disk ----


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 600 kB: room for three checkpoints of RUN and no fourth."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system takes root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_full_disk(small_disk: Path, monkeypatch, capsys) -> None:
    """One line, status 1, the last complete checkpoint intact, nothing half-written; with room it goes on exactly."""
    flags = [*RUN, "--save_total_limit", "9", "--max_steps", "12"]
    out = small_disk / "out"
    assert recipe("pretrain.py", [*flags, "--output_dir", str(out)], monkeypatch) == 1
    told = capsys.readouterr().err.strip().splitlines()
    assert "error: cannot save to" in told[-2] and "No space left on device" in told[-2], told
    newest = checkpoints(out)[0]
    assert f"{newest} is complete; this goes on:" in told[-2]
    assert all(fault(path) is None for path in checkpoints(out)) and newest.name != "checkpoint-12"
    subprocess.run(["mount", "-o", "remount,size=9m", str(small_disk)], check=True)
    assert recipe("pretrain.py", [*flags, "--output_dir", str(out)], monkeypatch) == 0
    whole = small_disk / "whole"
    assert recipe("pretrain.py", [*flags, "--output_dir", str(whole)], monkeypatch) == 0
    assert same_weights(out, whole)


# ---- Numbers that go wrong ----


def test_a_loss_that_is_not_finite_ends_the_run_within_one_logging_interval(make_trainer, tmp_path: Path) -> None:
    def poison(model) -> None:
        model.transformer.h[0].mlp.c_fc.weight.data[0, 0] = math.nan

    trainer = make_trainer(tmp_path, max_steps=100, logging_steps=5, callbacks=[At(7, poison)])
    with pytest.raises(TrainingDiverged, match="the loss is nan at step 10. Lower --learning_rate"):
        trainer.train()


def test_weights_that_are_not_finite_do_not_take_the_place_of_a_checkpoint(make_trainer, tmp_path: Path) -> None:
    def poison(model) -> None:
        model.transformer.wpe.weight.data[1] = math.inf

    settings = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 1, "logging_steps": 100}
    trainer = make_trainer(tmp_path, callbacks=[At(3, poison)], **settings)
    with pytest.raises(TrainingDiverged, match=r"weights are not finite \(transformer.wpe.weight\) at step 3"):
        trainer.train()
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-2"] and fault(
        checkpoints(tmp_path)[0]
    ) is None


def test_divergence_as_a_user_sees_it(tmp_path: Path, monkeypatch, capsys) -> None:
    flags = ["--learning_rate", "1e30", "--warmup_steps", "0", "--max_steps", "50", "--logging_steps", "5"]
    assert recipe("pretrain.py", [*RUN, *flags, "--output_dir", str(tmp_path / "out")], monkeypatch) == 1
    told = capsys.readouterr().err
    line = told.strip().splitlines()[-1]
    assert line.startswith("pretrain.py: error: training has diverged: ") and "Traceback" not in told
    assert "Lower --learning_rate" in line


QUIET = {
    "no logs and no checkpoints": ["--logging_strategy", "no", "--save_strategy", "no"],
    "rare logs and no checkpoints": ["--logging_steps", "1000", "--save_strategy", "no"],
}


@pytest.mark.parametrize("quiet", QUIET)
@pytest.mark.parametrize("name", ["pretrain.py", "finetune.py"])
def test_weights_that_are_not_finite_are_never_the_model(
    name: str, quiet: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    """Where nothing looks at the loss on the way."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("It was the best of times. " * 200)
    flags, out = RUN, "run"
    if name == "finetune.py":
        assert recipe("pretrain.py", [*RUN, "--output_dir", "run"], monkeypatch) == 0
        flags, out = [*TUNE, "--train_file", "text", "--eval_strategy", "no", "--eval_on_start", "false"], "tuned"
    flags = [*flags, "--learning_rate", "1e30", "--warmup_steps", "0", "--max_steps", "4", "--max_grad_norm", "0"]
    assert recipe(name, [*flags, *QUIET[quiet], "--output_dir", out], monkeypatch) == 1
    told = capsys.readouterr().err
    assert f"{name}: error: training has diverged: weights are not finite" in told and "Traceback" not in told
    assert not (tmp_path / out / "model.safetensors").exists()


def test_a_collapsed_buffer_is_told_once(make_trainer, small_data, tmp_path: Path, caplog) -> None:
    data = dataclasses.replace(small_data, machines="constant", num_resets=0, source_batch=32, rows_per_round=4)
    make_trainer(tmp_path, data).train()
    assert caplog.text.count("Step 1: the buffer has collapsed: 100% of its rows are constant") == 1
    caplog.clear()
    make_trainer(tmp_path, small_data).train()
    assert "collapsed" not in caplog.text


def test_dead_rows_are_constant_or_nearly_so() -> None:
    rows = torch.arange(100).repeat(4, 1)
    rows[0] = 7
    rows[1, :98] = 7
    rows[2] = torch.arange(2).repeat(50)
    assert dead_share(rows) == 0.5
    assert dead_share(torch.cat([torch.zeros(3000, 8), torch.arange(8).repeat(1000, 1)])) == pytest.approx(
        0.75, abs=0.01
    )


# ---- What comes with a model ----


def test_code_of_a_model_runs_if_asked_for(tmp_path: Path, monkeypatch) -> None:
    """A model of its own class is pretrained and saved; without the flag its code does not run (`test_bad_input`)."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "own.py").write_text(
        "from transformers import GPT2Config, GPT2LMHeadModel\n"
        "class OwnConfig(GPT2Config):\n    model_type = 'own'\n"
        "class OwnModel(GPT2LMHeadModel):\n    config_class = OwnConfig\n"
    )
    (own / "config.json").write_text(
        '{"model_type": "own", "n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 64, '
        '"auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}}'
    )
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    flags = [*RUN, "--model", str(own), "--config_overrides", "n_layer=1", "--output_dir", str(tmp_path / "out")]
    assert recipe("pretrain.py", [*flags, "--trust_remote_code"], monkeypatch) == 0
    assert (tmp_path / "out" / "model.safetensors").is_file()
