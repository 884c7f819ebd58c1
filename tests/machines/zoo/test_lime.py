import torch

from hf_universal_pretrain.machines.zoo.lime import LimeFamily


def examples(task: str) -> list[tuple[list[int], list[list[int]], list[int]]]:
    """Of the examples that are whole: letters, the two parts that are shown, the answer; marks as 0 (stands for), 1
    (behind that), taken out at the edges."""
    generator = torch.Generator().manual_seed(0)
    sources = LimeFamily(tasks=(task,)).draw(40, generator)
    zeros = torch.zeros(40, 600, dtype=torch.int64)
    rows = sources.generate(zeros[:, :1], zeros, generator)
    found = []
    for symbols, row in zip(sources.symbols.tolist(), rows.tolist(), strict=True):
        marks = symbols[:4]
        ends = [place for place, symbol in enumerate(row) if symbol == marks[3]]
        for start, end in zip([-1, *ends], ends, strict=False):
            shown = [~symbol for symbol in row[start + 1 : end] if symbol < 0]
            answer = [symbol for symbol in row[start + 1 : end] if symbol >= 0]
            parts: list[list[int]] = [[]]
            for symbol in shown:
                parts.append([]) if symbol == marks[2] else parts[-1].append(symbol)
            letters, one, other, nothing = parts
            assert nothing == []
            found.append((marks[:2], letters, one, other, answer))
    assert len(found) > 100
    return found


def case_of(marks: list[int], told: list[int]) -> dict[int, list[int]]:
    pairs: list[list[int]] = [[]]
    for symbol in told:
        pairs.append([]) if symbol == marks[1] else pairs[-1].append(symbol)
    assert pairs.pop() == [] and all(pair[1] == marks[0] for pair in pairs)
    return {pair[0]: pair[2:] for pair in pairs}


def test_the_result_is_the_rule_with_the_case_put_in_and_each_of_the_three_is_asked_for() -> None:
    for task in ("deduct", "induct", "abduct"):
        for marks, letters, one, other, answer in examples(task):
            rule, told, result = {
                "deduct": (one, other, answer), "induct": (answer, other, one), "abduct": (one, answer, other),
            }[task]  # fmt: skip
            case = case_of(marks, told)
            assert list(case) == letters and set(case) <= set(rule)
            assert all(2 <= len(string) <= 8 for string in case.values()) and 1 <= len(case) <= 5
            assert result == [symbol for place in rule for symbol in case.get(place, [place])]
            in_rule = sum(symbol in case for symbol in rule)
            assert 6 <= in_rule <= 10 and 5 <= len(rule) - in_rule <= 19
