"""Two and four gloo processes: what each sees, what all end with, what a resume makes of it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_universal_pretrain.runs.checkpoints import fault
from tests.distributed.worker import run_workers


pytestmark = pytest.mark.distributed
Runs = dict[str, list[dict[str, Any]]]

TWO = {"world_size": 2, "batch": 4, "accumulation": 2, "max_steps": 4}
FOUR = {"world_size": 4, "batch": 2, "accumulation": 2, "max_steps": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def two(folder: Path) -> Runs:
    return run_workers(
        folder,
        [
            {**TWO, "name": "two"},
            {**TWO, "name": "resumed", "resume": "two/checkpoint-2"},
            {**TWO, "name": "renamed", "model": "gpt_neox"},
            {**TWO, "name": "renamed resumed", "model": "gpt_neox", "seed": 1, "resume": "renamed/checkpoint-2"},
            {**TWO, "name": "stopped", "signal": [1, 1]},
            {**TWO, "name": "went on", "resume": "stopped/checkpoint-1"},
        ],
    )


@pytest.fixture(scope="module")
def four(folder: Path, two: Runs) -> Runs:
    return two | run_workers(
        folder,
        [
            {**FOUR, "name": "four"},
            {**FOUR, "name": "four resumed", "resume": "four/checkpoint-2"},
            {**FOUR, "name": "more", "resume": "two/checkpoint-2"},
            {**FOUR, "name": "fewer", "resume": "four/checkpoint-2", "world_size": 1},
            {**TWO, "name": "fsdp", "fsdp": True},
            {**TWO, "name": "fsdp resumed", "fsdp": True, "resume": "fsdp/checkpoint-2"},
        ],
    )


def assert_equal_weights(*ended: dict[str, Any]) -> None:
    for other in ended[1:]:
        assert all(torch.equal(weight, other["weights"][name]) for name, weight in ended[0]["weights"].items())


def assert_close_weights(one: dict[str, Any], other: dict[str, Any]) -> None:
    for name, weight in one["weights"].items():
        torch.testing.assert_close(weight, other["weights"][name], rtol=1e-3, atol=1e-4)


def assert_distinct_rows(run: list[dict[str, Any]]) -> None:
    """Only constant rows can be equal by chance."""
    rows = [{tuple(row) for row in ended["rows"].tolist() if len(set(row)) > 1} for ended in run]
    assert all(len(some) > 1 for some in rows)
    assert len(set.union(*rows)) == sum(map(len, rows))


def rows_by_step(run: list[dict[str, Any]], batch: int, steps: int) -> torch.Tensor:
    """All rows of each step, in the order of micro-batches and, within these, of ranks."""
    return torch.cat([ended["rows"].view(steps, -1, 1, batch, 32) for ended in run], dim=2).flatten(1, 3)


def test_each_process_has_its_own_rows_and_draws_only_what_it_needs(two: Runs) -> None:
    assert [(ended["rank"], ended["world_size"]) for ended in two["two"]] == [(0, 2), (1, 2)]
    assert_distinct_rows(two["two"])
    for ended in two["two"]:
        assert len(ended["rows"]) == ended["drawn"] == 4 * 2 * 4 and ended["rounds"] == 2 + 4


def test_weights_end_equal(two: Runs) -> None:
    for name in ("two", "resumed", "stopped", "went on"):
        assert_equal_weights(*two[name])


def test_tokens_of_all_processes_are_counted(two: Runs) -> None:
    lines = [entry for entry in two["two"][0]["history"] if "loss" in entry]
    assert [line["synthetic_tokens"] for line in lines] == [2 * 8 * 32 * step for step in range(1, 5)]


def test_resume_is_exact_on_both(two: Runs) -> None:
    for whole, resumed in zip(two["two"], two["resumed"], strict=True):
        assert torch.equal(whole["rows"][2 * 8 :], resumed["rows"])
        assert torch.equal(whole["buffer"], resumed["buffer"])
        assert_equal_weights(whole, resumed)


def test_resume_is_exact_of_a_model_whose_files_have_other_names(two: Runs) -> None:
    """Each process begins with other random weights than the run that it goes on with."""
    assert_equal_weights(*two["renamed"], *two["renamed resumed"])


def test_a_signal_to_one_process_stops_both_after_the_same_step(two: Runs, folder: Path) -> None:
    assert [(ended["stopped_by"], ended["step"]) for ended in two["stopped"]] == [(15, 1), (15, 1)]
    assert fault(folder / "stopped" / "checkpoint-1") is None
    for whole, went_on in zip(two["two"], two["went on"], strict=True):
        assert torch.equal(whole["buffer"], went_on["buffer"])
        assert_equal_weights(whole, went_on)


@pytest.mark.slow
def test_four_processes(four: Runs) -> None:
    assert_distinct_rows(four["four"])
    assert_equal_weights(*four["four"], *four["four resumed"])
    for whole, resumed in zip(four["four"], four["four resumed"], strict=True):
        assert torch.equal(whole["rows"][2 * 4 :], resumed["rows"])


@pytest.mark.slow
def test_another_number_of_processes_goes_on_with_fresh_streams(four: Runs, folder: Path) -> None:
    """The rows are new ones, none of those that the first steps were trained on, and that is told."""
    seen = [{tuple(row) for row in ended["rows"].tolist() if len(set(row)) > 1} for ended in four["two"]]
    for name in ("more", "fewer"):
        assert [ended["step"] for ended in four[name]] == [4] * len(four[name])
        assert_equal_weights(*four[name])
        for ended in four[name]:
            again = {tuple(row) for row in ended["rows"].tolist()} & set.union(*seen)
            assert not again
    assert_distinct_rows(four["more"])
    assert (folder / "stderr").read_text().count("each process goes on with a fresh stream") == 2


@pytest.mark.slow
def test_fsdp2_trains_what_ddp_trains_and_resumes(four: Runs, folder: Path) -> None:
    """Sharded weights on CPUs (see the worker); the checkpoint holds whole ones, which anything can load."""
    assert all(ended["sharded"] for ended in four["fsdp"])
    assert_close_weights(four["two"][0], four["fsdp"][0])
    for whole, resumed in zip(four["fsdp"], four["fsdp resumed"], strict=True):
        assert torch.equal(whole["rows"][2 * 8 :], resumed["rows"])
        assert_equal_weights(whole, resumed)
    marker = json.loads((folder / "fsdp" / "checkpoint-4" / "complete.json").read_text())
    assert {"model.safetensors", "synthetic_stream_1.pt"} <= marker["files"].keys()
