import pytest
import torch

from hf_universal_pretrain.machines.zoo.procedural import TASKS, ProceduralFamily


def episodes(task: str) -> list[tuple[int, list[int], list[int]]]:
    """All whole (separator, question, answer) of 60 rows, taken apart by which symbols are complements."""
    generator = torch.Generator().manual_seed(0)
    sources = ProceduralFamily(alphabet_size=120, tasks=(task,)).draw(60, generator)
    zeros = torch.zeros(60, 128, dtype=torch.int64)
    found = []
    for row, symbols in zip(
        sources.generate(zeros[:, :1], zeros, generator).tolist(), sources.symbols.tolist(), strict=True
    ):
        separator, place = symbols[-1], 0
        while place < len(row):
            question, answer = [], []
            while place < len(row) and row[place] < 0:
                question.append(~row[place])
                place += 1
            while place < len(row) and row[place] >= 0:
                answer.append(row[place])
                place += 1
            if answer and answer[-1] == separator:  # else the row ended in the middle
                assert question[-1] == separator
                found.append((separator, question[:-1], answer[:-1]))
    assert len(found) > 100
    return found


def split(symbols: list[int], separator: int) -> list[list[int]]:
    where = symbols.index(separator)
    return [symbols[:where], symbols[where + 1 :]]


def test_identity_reverse_and_sort() -> None:
    assert all(answer == question for _, question, answer in episodes("identity"))
    assert all(answer == question[::-1] for _, question, answer in episodes("reverse"))
    assert all(answer == sorted(question) for _, question, answer in episodes("sort"))
    assert any(len(question) > 20 for _, question, _ in episodes("sort"))


def test_set_and_union_keep_the_first_of_each() -> None:
    for task in ("set", "union"):
        for separator, question, answer in episodes(task):
            symbols = [s for s in question if s != separator]
            assert sorted(answer) == sorted(set(symbols))
            assert [symbols.index(s) for s in answer] == sorted(symbols.index(s) for s in answer)
    assert all(sum(s == sep for s in question) == 1 for sep, question, _ in episodes("union"))


def test_delete_leaves_out_the_first_occurrence() -> None:
    for separator, question, answer in episodes("delete"):
        symbols, (gone,) = split(question, separator)
        expected = symbols.copy()
        expected.remove(gone)
        assert answer == expected


def test_stack_from_the_top() -> None:
    popped = 0
    for separator, question, answer in episodes("stack"):
        stack: list[int] = []
        for operation in question:
            if operation == separator:
                stack.pop()
                popped += 1
            else:
                assert operation not in stack
                stack.append(operation)
        assert answer == stack[::-1]
    assert popped > 50


@pytest.mark.parametrize("task", TASKS)
def test_rows_are_questions_and_answers_to_their_end(task: str) -> None:
    """A row that runs out of random numbers ends in one symbol, again and again."""
    generator = torch.Generator().manual_seed(0)
    zeros = torch.zeros(300, 512, dtype=torch.int64)
    rows = ProceduralFamily(tasks=(task,)).draw(300, generator).generate(zeros[:, :1], zeros, generator)
    ends = torch.where(rows < 0, ~rows, rows)[:, -64:]
    assert (ends == ends[:, :1]).all(1).sum() == 0


@pytest.mark.parametrize("task", TASKS)
def test_questions_are_not_judged_answers_are(task: str) -> None:
    generator = torch.Generator().manual_seed(0)
    zeros = torch.zeros(60, 128, dtype=torch.int64)
    rows = ProceduralFamily(tasks=(task,)).draw(60, generator).generate(zeros[:, :1], zeros, generator)
    assert (rows[:, 0] < 0).all() and 0.2 < (rows >= 0).float().mean() < 0.7
