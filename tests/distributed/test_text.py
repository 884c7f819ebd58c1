"""Two gloo processes on real text: from disk in one order for both, or streamed, each its own part."""

import json
from pathlib import Path

import pytest
import torch

from tests.distributed.test_processes import Runs, assert_close_weights, assert_distinct_rows, assert_equal_weights
from tests.distributed.worker import run_workers


pytestmark = pytest.mark.distributed
TEXT = {"world_size": 2, "batch": 4, "max_steps": 4}
RUNS = [
    {**TEXT, "name": "blocks", "text": "blocks"},
    {**TEXT, "name": "blocks resumed", "text": "blocks", "resume": "blocks/checkpoint-2", "seed": 1},
    {**TEXT, "name": "alone", "text": "blocks", "world_size": 1, "batch": 8},
    {**TEXT, "name": "stream", "text": "stream"},
    {**TEXT, "name": "stream resumed", "text": "stream", "resume": "stream/checkpoint-2", "seed": 1},
]


def write_texts(folder: Path) -> None:
    lines = (json.dumps({"text": f"This is text {n}, of which the square is {n * n}."}) for n in range(200))
    (folder / "text.jsonl").write_text("\n".join(lines))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("text")
    write_texts(folder)
    return run_workers(folder, RUNS)


def test_two_processes_read_a_text_in_one_order_and_go_on_in_it(two: Runs) -> None:
    """Together they train on the rows that one process would, step by step, in the order of ranks."""
    both, alone = two["blocks"], two["alone"][0]
    steps = [ended["rows"][: 4 * 4].view(4, 4, 32) for ended in both]
    assert torch.equal(torch.cat(steps, dim=1).flatten(0, 1), alone["rows"][: 4 * 8])
    assert_close_weights(both[0], alone)
    for whole, resumed in zip(both, two["blocks resumed"], strict=True):
        assert torch.equal(whole["rows"][2 * 4 : 4 * 4], resumed["rows"][: 2 * 4])
    assert_equal_weights(*both, *two["blocks resumed"])


def test_two_processes_stream_rows_of_their_own_and_go_on_in_them(two: Runs) -> None:
    both = two["stream"]
    assert_distinct_rows(both)
    for whole, resumed in zip(both, two["stream resumed"], strict=True):
        assert torch.equal(whole["rows"][2 * 4 :], resumed["rows"])
    assert_equal_weights(*both, *two["stream resumed"])
