import time
from pathlib import Path

import pytest
import torch

from hf_universal_pretrain import limits
from hf_universal_pretrain.commands.endings import train_and_finish
from hf_universal_pretrain.training import threads
from hf_universal_pretrain.training.threads import ThreadsCallback, fastest, given, threads_of


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of two cores, on which no one has set a number of threads; and the one that is set is put back."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "cores", lambda: 2)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_more_threads_must_be_worth_it() -> None:
    assert fastest({4: 1.0, 2: 1.02, 1: 3.0}) == 2
    assert fastest({4: 1.0, 2: 1.2, 1: 3.0}) == 4
    assert fastest({2: 1.0, 1: 0.5}) == 1


@pytest.mark.parametrize("bf16", [False, True])
def test_measuring_touches_nothing(bf16: bool, free, make_trainer, tmp_path: Path, monkeypatch) -> None:
    """Not the weights, their gradients, the random state or the stream: training is what it would have been."""
    measured: list[dict[int, float]] = []
    monkeypatch.setattr(threads, "fastest", lambda seconds: measured.append(seconds) or 1)

    def trained(folder: Path, chooses: bool) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        torch.set_num_threads(1)
        trainer = make_trainer(folder, bf16=bf16)
        if chooses:
            trainer.add_callback(ThreadsCallback(trainer, 32))
        trainer.train()
        return trainer.model.state_dict()

    plain, choosing = trained(tmp_path / "a", False), trained(tmp_path / "b", True)
    assert [set(seconds) for seconds in measured] == [{1, 2}] and min(measured[0].values()) > 0
    assert all(torch.equal(weight, choosing[name]) for name, weight in plain.items())


def test_the_number_is_in_the_log_and_a_run_goes_on_with_it(free, make_trainer, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(ThreadsCallback, "measure", lambda self, rows: {2: 0.1, 1: 0.2})
    trainer = make_trainer(tmp_path, save_strategy="steps", save_steps=3)
    trainer.add_callback(ThreadsCallback(trainer, 32))
    trainer.train()
    assert torch.get_num_threads() == 2 and trainer.state.log_history[0] == {"threads": 2, "step": 0}
    torch.set_num_threads(1)
    monkeypatch.setattr(ThreadsCallback, "measure", lambda self, rows: pytest.fail("it is measured again"))
    again = make_trainer(tmp_path, save_strategy="steps", save_steps=3)
    again.add_callback(ThreadsCallback(again, 32))
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert torch.get_num_threads() == 2 and threads_of(again.state.log_history) == 2


def test_it_is_chosen_before_the_buffer_is_filled(free, make_trainer, tmp_path: Path, monkeypatch) -> None:
    """Two threads beside other work take some ten times as long for that, too."""
    rounds: list[int] = []
    monkeypatch.setattr(threads, "fastest", lambda seconds: 1)
    monkeypatch.setattr(
        ThreadsCallback, "measure", lambda self, rows: rounds.append(self.trainer.train_dataset.rounds) or {1: 0.1}
    )
    trainer = make_trainer(tmp_path, max_steps=1)
    train_and_finish(trainer, None)
    assert rounds == [0] and trainer.train_dataset.rounds > 0


def test_steps_that_are_three_times_as_slow_are_looked_into(free, make_trainer, tmp_path: Path, monkeypatch) -> None:
    """Three in a row; one alone is no reason."""
    measured, now = [], [0.0]
    monkeypatch.setattr(ThreadsCallback, "measure", lambda self, rows: measured.append(now[0]) or {2: 0.1, 1: 0.2})
    trainer = make_trainer(tmp_path)
    callback = ThreadsCallback(trainer, 32)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    given_to = (trainer.args, trainer.state, trainer.control)
    callback.on_train_begin(*given_to)
    for number, seconds in enumerate([1.0] * 30 + [3.5] + [1.0] * 5 + [3.5] * 3 + [1.0] * 2):
        callback.on_step_begin(*given_to)
        assert len(measured) == (1 if number < 39 else 2), number
        now[0] += seconds
        callback.on_optimizer_step(*given_to)


def test_what_a_person_has_set_is_kept(make_trainer, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert given() and not ThreadsCallback(make_trainer(tmp_path), 32).chooses
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")  # a launcher's process, and the launcher has it not
    monkeypatch.setattr(threads.psutil, "Process", lambda pid: type("Launcher", (), {"environ": lambda self: {}})())
    assert not given() and ThreadsCallback(make_trainer(tmp_path), 32).chooses
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert ThreadsCallback(make_trainer(tmp_path), 32).most == 2


@pytest.mark.parametrize("share, most", [("max 100000", 64), ("150000 100000", 2), ("50000 100000", 1), (None, 64)])
def test_cores_are_those_of_the_container(share: str | None, most: int, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(limits, "_CPU_SHARE", tmp_path / "cpu.max")
    monkeypatch.setattr(limits.os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    if share is not None:
        (tmp_path / "cpu.max").write_text(share + "\n")
    assert limits.cores() == most
