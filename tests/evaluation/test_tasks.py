"""Each task's answers follow from what stands before them, and can be found by a plain rule."""

import pytest
import torch

from hf_universal_pretrain.evaluation import counting_baselines, make_probe
from hf_universal_pretrain.evaluation.tasks import TASKS


def test_induction_is_a_string_and_its_copy() -> None:
    rows, judged = make_probe("induction", 65, 30)
    assert torch.equal(rows[:, :32], rows[:, 32:64]) and judged[0].nonzero().flatten().tolist() == list(range(33, 65))
    assert len(rows[:, :32].unique()) > 200


def test_repeat_comes_back_after_16_symbols() -> None:
    rows, judged = make_probe("repeat", 100, 30)
    assert torch.equal(rows[:, 16:], rows[:, :-16]) and judged.sum(1).unique().tolist() == [83]


def test_copy_stood_a_quarter_of_the_window_before() -> None:
    rows, judged = make_probe("copy", 128, 50)
    where = judged.nonzero()
    assert (rows[where[:, 0], where[:, 1]] == rows[where[:, 0], where[:, 1] - 32]).all()
    new = torch.ones(128, dtype=torch.bool)
    for start in range(32, 125, 8):
        new[start : start + 4] = False
    assert rows[:, new].unique(return_counts=True)[1].float().std() < 12  # uniform noise


@pytest.mark.parametrize("name", ["sort", "reverse"])
def test_answers_are_the_question_rearranged(name: str) -> None:
    rows, judged = make_probe(name, 100, 20)
    for row, mask in zip(rows.tolist(), judged.tolist(), strict=True):
        for start in range(0, 100 - 22, 22):
            question, answer = row[start : start + 10], row[start + 11 : start + 21]
            assert len(set(question)) == 10 and answer == (sorted(question) if name == "sort" else question[::-1])
            assert mask[start : start + 22] == [False] * 11 + [True] * 10 + [False]
            assert (row[start + 10], row[start + 21]) == (row[10], row[21])


def test_needle_is_in_the_haystack_once() -> None:
    rows, judged = make_probe("needle", 80, 200)
    places = []
    for row, mask in zip(rows.tolist(), judged.tolist(), strict=True):
        key, value = row[-2:]
        assert row.count(key) == row.count(value) == 2 and row[row.index(key) + 1] == value
        assert mask == [False] * 79 + [True]
        places.append(row.index(key))
    assert min(places) < 8 and max(places) > 68


@pytest.mark.parametrize("name", TASKS)
def test_counting_symbols_does_not_answer(name: str) -> None:
    """Order 0 finds nothing but what is rare or frequent; where answers follow their context, order 1 does better."""
    rows, judged = make_probe(name, 256, 100)
    found = counting_baselines(rows, {"judged": judged, "rest": ~judged})
    assert found["judged"]["kt"] > (3.9 if name == "repeat" else 5.0)
    assert rows.min() >= 0 and rows.max() <= 255 and judged.any()
    if name in ("induction", "repeat", "needle"):
        assert found["judged"]["markov_1"] < 3.5
