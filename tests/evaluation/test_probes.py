"""Each probe is what its description says."""

import re
from collections.abc import Callable

import pytest
import torch

from hf_universal_pretrain.evaluation import make_probe
from hf_universal_pretrain.evaluation.probes import AUTOMATON, PIECES, Dice, aut, probe_string, probe_windows


@pytest.fixture
def pieces() -> Callable[[str], list[str]]:
    def cut(name: str) -> list[str]:
        string = probe_string(name, torch.Generator().manual_seed(0), 20_000).decode("latin-1")
        assert len(string) >= 20_000
        return string.split("|")

    return cut


def test_champ_counts_on_in_hexadecimal(pieces) -> None:
    for piece in pieces("champ"):
        digits = len(piece) // 256
        starts = {int(piece[:d], 16) for d in (digits, digits + 1)}
        assert any("".join(f"{n:x}" for n in range(start, start + 256)) == piece for start in starts)


def test_dyck_words_close_every_bracket_and_no_sooner(pieces) -> None:
    lengths = []
    for piece in pieces("dyck"):
        depth = 0
        for place, bracket in enumerate(piece):
            depth += 1 if bracket == "(" else -1
            assert depth > 0 or (depth == 0 and place == len(piece) - 1)
        lengths.append(len(piece))
    assert lengths.count(2) / len(lengths) == pytest.approx(9 / 16, abs=0.05)  # closed at once


def test_ndfa_repeats_one_word(pieces) -> None:
    words = [re.fullmatch(r"s((abc!)*|(uvw!)*|(klm!)*)s", piece).group(1) for piece in pieces("ndfa")]
    assert sum(word == "" for word in words) / len(words) == pytest.approx(1 / 4, abs=0.05)
    assert {word[:3] for word in words} == {"", "abc", "uvw", "klm"}


def test_toy_is_grammar(pieces) -> None:
    thing = r"(a|the) ((short|quick|busy|nice|gorgeous) )?(mouse|bunny|cat|dog|man|woman|person)"
    clause = rf"{thing} (walked|walks|ran|runs|goes|went)"
    place = rf"( (on|with|to) {thing}| \( (on|with|to) {thing} \))?"
    flat = rf"{clause}{place}( (briefly|quickly|impatiently))*"
    sentences = pieces("toy")
    simple = [s for s in sentences if "while" not in s and "but" not in s]
    assert len(simple) > len(sentences) / 3 and all(re.fullmatch(flat, sentence) for sentence in simple)
    assert all(sentence.count("(") == sentence.count(")") for sentence in sentences)


def test_toy2_is_arithmetic(pieces) -> None:
    expressions = pieces("toy2")
    for expression in expressions:
        compile(expression.replace("^", "**"), "expression", "eval")
    assert set("".join(expressions)) == set("xyz+-*/^() ")


def test_bits_are_two_words_and_four_functions_of_them(pieces) -> None:
    for piece in pieces("bits")[:-1]:
        a, b, xor, both, either, equal = ([c == "0" for c in piece[i : i + 5]] for i in range(0, 30, 5))
        assert xor == [x != y for x, y in zip(a, b, strict=True)] and equal == [not x for x in xor]
        assert both == [x and y for x, y in zip(a, b, strict=True)]
        assert either == [x or y for x, y in zip(a, b, strict=True)]


def test_bitsrep_and_bitsflip(pieces) -> None:
    (string,) = pieces("bitsrep")
    assert all(string[i : i + 9] == string[i : i + 3] * 3 for i in range(0, 9000, 9))
    (string,) = pieces("bitsflip")
    assert all(string[i : i + 12] == string[i : i + 12][::-1] for i in range(0, 12000, 12))
    assert len({string[i : i + 6] for i in range(0, 12000, 12)}) == 64


def test_aut_is_a_walk_of_512_steps_that_the_automaton_can_take() -> None:
    walk = aut(Dice(torch.Generator().manual_seed(0)))
    assert len(walk) == 512 and {ord(c) for c in walk} == {122, 248, 224}
    states = {0}
    for symbol in walk:
        states = {to for state in states for written, to in AUTOMATON[state] if written == symbol}
        assert states


@pytest.mark.parametrize("period", [1, 3, 10])
def test_repetitions_fill_the_window(period: int) -> None:
    rows, judged = make_probe(f"rep-{period}", 64, 20)
    assert torch.equal(rows[:, period:], rows[:, :-period]) and len(rows.unique(dim=0)) == 20 or period == 1
    assert judged[:, 1:].all() and not judged[:, 0].any()


@pytest.mark.parametrize("name", PIECES)
def test_windows_are_pieces_of_one_string_and_follow_the_seed(name: str) -> None:
    windows = probe_windows(name, 40, 10, torch.Generator().manual_seed(3))
    string = probe_string(name, torch.Generator().manual_seed(3))
    assert all(bytes(window.tolist()) in string for window in windows)
    assert torch.equal(make_probe(name, 40, 10)[0], make_probe(name, 40, 10)[0])
    assert make_probe(name, 40, 10)[1].nonzero()[:, 1].unique().tolist() == [39]
