import pytest
import torch

from hf_universal_pretrain.machines import FAMILIES
from hf_universal_pretrain.machines.zoo.dyck import DyckSources


def make(name: str, length: int, **settings) -> tuple[DyckSources, list[list[int]]]:
    generator = torch.Generator().manual_seed(0)
    sources = FAMILIES[name](alphabet_size=200, **settings).draw(100, generator)
    zeros = torch.zeros(100, length, dtype=torch.int64)
    return sources, sources.generate(zeros[:, :1], zeros, generator).tolist()


@pytest.mark.parametrize("name", ["dyck", "shuffle_dyck"])
@pytest.mark.parametrize("length", [80, 81])
def test_words_balance(name: str, length: int) -> None:
    """A stack (or a count for each kind) comes out empty, never below zero, never deeper than drawn."""
    sources, rows = make(name, length)
    kinds = sources.symbols.shape[1] // 2
    deepest = 0
    for r, row in enumerate(rows):
        symbols = sources.symbols[r].tolist()
        open_brackets: list[int] = []
        for symbol in row[: length - length % 2]:
            value = symbols.index(symbol)
            if value < kinds:
                open_brackets.append(value)
                assert value < sources.kinds[r]
            elif name == "dyck":
                assert open_brackets.pop() == value - kinds
            else:
                open_brackets.remove(value - kinds)  # ValueError if this kind is not open
            assert len(open_brackets) <= sources.depth[r]
            deepest = max(deepest, len(open_brackets))
        assert open_brackets == []
        assert length % 2 == 0 or symbols.index(row[-1]) < kinds
    assert deepest > 10


def test_shuffled_words_are_not_nested() -> None:
    """Among shuffled words of many kinds some bracket closes while another, opened later, stays open."""
    sources, rows = make("shuffle_dyck", 80)
    kinds = sources.symbols.shape[1] // 2
    crossing = 0
    for r, row in enumerate(rows):
        stack: list[int] = []
        for symbol in row:
            value = sources.symbols[r].tolist().index(symbol)
            if value < kinds:
                stack.append(value)
            elif stack[-1] == value - kinds:
                stack.pop()
            else:
                crossing += 1
                break
    assert crossing > 60


def test_opens_at_its_rate_where_both_are_possible() -> None:
    sources, rows = make("dyck", 400, depth_range=(1000, 1000), open_range=(0.45, 0.45))
    kinds = sources.symbols.shape[1] // 2
    opened = free = 0
    for r, row in enumerate(rows):
        place = {symbol: i for i, symbol in enumerate(sources.symbols[r].tolist())}
        level = 0
        for t, symbol in enumerate(row):
            if 0 < level < 400 - t:
                free += 1
                opened += place[symbol] < kinds
            level += 1 if place[symbol] < kinds else -1
    assert abs(opened / free - 0.45) < 0.01
