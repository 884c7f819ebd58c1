from types import SimpleNamespace

import pytest
from transformers import TrainerControl, TrainerState

from hf_universal_pretrain.callbacks import TimeEstimateCallback, duration


def test_duration_in_words() -> None:
    assert [duration(s) for s in (42, 700, 9000)] == ["42 seconds", "12 minutes", "2.5 hours"]


@pytest.mark.parametrize("pace, told_at", [(1.0, 12), (0.25, 21), (30.0, 2)])
def test_estimate_comes_after_20_steps_or_10_seconds(pace: float, told_at: int, monkeypatch, capsys) -> None:
    """The first step takes 100 s (compilation) and does not count; the estimate comes once, and is right."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("hf_universal_pretrain.callbacks.time.perf_counter", lambda: clock.now)
    callback, state = TimeEstimateCallback(), TrainerState(max_steps=1001, is_world_process_zero=True)
    callback.on_train_begin(None, state, TrainerControl())
    said = []
    for step in range(1, 40):
        clock.now += 100 if step == 1 else pace
        state.global_step = step
        callback.on_step_end(None, state, TrainerControl())
        if output := capsys.readouterr().out:
            said.append((step, output))
    assert [step for step, _ in said] == [told_at]
    assert duration(pace * (1001 - told_at)) in said[0][1]
