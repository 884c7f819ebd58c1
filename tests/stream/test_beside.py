"""On a CPU work is done at once and its time is counted; on a GPU it is ordered by events."""

import time

import pytest
import torch

from hf_universal_pretrain import SyntheticUPConfig, SyntheticUPDataset
from hf_universal_pretrain.machines.cuda_graph import replayed
from hf_universal_pretrain.stream.beside import SideStream


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_time_of_work_is_counted_and_that_of_access_is_not() -> None:
    side = SideStream(torch.device("cpu"))
    for _ in range(2):
        with side.work():
            time.sleep(0.02)
        with side.access():
            time.sleep(0.05)
    assert 0.04 <= side.seconds < 0.1


def test_a_step_on_a_cpu_is_itself() -> None:
    def step(x: torch.Tensor) -> torch.Tensor:
        return x + 1

    assert replayed(step, torch.zeros(2)) is step


@needs_gpu
def test_a_replayed_step_is_the_step() -> None:
    state = torch.zeros(4, device="cuda")

    def step(x: torch.Tensor) -> torch.Tensor:
        return state.add_(x) * 2

    replay = replayed(step, state)
    state.zero_()
    inputs = torch.randn(5, 4, device="cuda")
    for t in range(5):
        assert torch.allclose(replay(inputs[t]), 2 * inputs[: t + 1].sum(0))


@needs_gpu
def test_rows_do_not_depend_on_what_the_gpu_does_beside() -> None:
    rows = []
    for busy in (False, True):
        dataset = SyntheticUPDataset(SyntheticUPConfig(machines="lstm", context_length=64), device="cuda")
        for _ in range(5):
            if busy:
                torch.randn(4000, 4000, device="cuda") @ torch.randn(4000, 4000, device="cuda")
            dataset.enrich()
            rows.append(dataset.draw(64)[0].clone())
    assert all(torch.equal(a, b) for a, b in zip(rows[:5], rows[5:], strict=True))
