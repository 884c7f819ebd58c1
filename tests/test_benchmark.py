"""The benchmark measures what it says: contestants do the same work, and medians are medians."""

import gc
import time
from pathlib import Path

import pytest
import torch

from hf_universal_pretrain.machines.recurrent import RecurrentFamily
from tests.conftest import ROOT


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(ROOT / "recipes")
    import benchmark

    return benchmark


@pytest.mark.parametrize("machines", [1, 3])
def test_the_plain_loop_writes_what_the_machines_write(benchmark, machines: int) -> None:
    generator = torch.Generator(benchmark.DEVICE).manual_seed(0)
    family = RecurrentFamily(
        num_layers=2, hidden_size=16, alphabet_size=20, machines_per_round=machines, gain_range=(3.0, 3.0)
    )
    drawn = family.draw(12, generator)
    seeds, conditions = benchmark.inputs(12, 40, 20, generator)
    written = drawn.generate(seeds, conditions, generator)
    assert torch.equal(benchmark.plain_loops(drawn, seeds, conditions)(), written)
    assert len(written.unique()) > 3, "dead machines would be equal whatever is wrong"


def test_contestants_take_turns(benchmark) -> None:
    calls = []
    took = benchmark.take_turns(
        {"slow": lambda: (calls.append("slow"), time.sleep(0.02)), "quick": lambda: calls.append("quick")}, 3
    )
    assert calls == ["slow", "quick"] * 4
    assert 0.02 <= took["slow"] < 1 and took["quick"] < took["slow"]


def test_peak_memory_is_that_of_the_work(benchmark) -> None:
    from measure import training as benchmark_training

    class Cycle:
        def __init__(self) -> None:
            self.me, self.weights = self, torch.ones(25_000_000)

    def work() -> None:
        gc.collect()
        torch.ones(25_000_000).sum()

    Cycle()  # left by the parent, as trainers leave models
    assert 100 <= benchmark_training.peak_megabytes(work) < 130


@pytest.mark.parametrize("kind", ["enriched", "frozen", "stock_trainer", "plain_loop"])
def test_steps_are_timed(benchmark, kind: str) -> None:
    from measure import training as benchmark_training

    overrides = "n_layer=1,n_embd=16,n_head=1,n_positions=32"
    assert 0 < benchmark_training.step_seconds(kind, overrides, length=32, batch=2, steps=4) < 10


def test_growth_is_drawn(benchmark, tmp_path: Path) -> None:
    growth = {"lstm": {"rows": {64: 1.0, 128: 2.1}}, "hmm": {"rows": {64: 0.5, 128: 0.9}}}
    benchmark.plot_scaling(growth, tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 5_000
