"""The probes of arXiv 2506.20057: strings with a rule, made without any text.

Each is one long string, pieces joined by `|` or nothing, of which windows are cut at random. A
character's code is its symbol.
"""

from collections.abc import Callable

import torch
from torch import Tensor


CHARACTERS = 100_000  # of each string


class Dice:
    """Integers from a generator, drawn many at a time: a call for each would take longer than all the rest."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        self.drawn: list[int] = []

    def roll(self, sides: int) -> int:
        """An integer in `[0, sides)`."""
        if not self.drawn:
            self.drawn = torch.rand(4096, generator=self.generator, dtype=torch.float64).tolist()
        return int(self.drawn.pop() * sides)

    def bits(self, count: int) -> list[int]:
        return [self.roll(2) for _ in range(count)]


def champ(dice: Dice) -> str:
    """256 successive integers in hexadecimal, run together, from a random start below 2^24 - 256."""
    start = dice.roll(2**24 - 256)
    return "".join(f"{number:x}" for number in range(start, start + 256))


def dyck(dice: Dice) -> str:
    """A bracket word: opens with probability 7/16 as long as a bracket is open, and closes otherwise."""
    word, depth = "(", 1
    while depth > 0:
        opens = dice.roll(16) < 7
        word += "(" if opens else ")"
        depth += 1 if opens else -1
    return word


def ndfa(dice: Dice) -> str:
    """One of three words again and again between two `s`; before each repetition it stops with probability 1/4."""
    word, repeated = ("abc!", "uvw!", "klm!")[dice.roll(3)], ""
    while dice.roll(4):
        repeated += word
    return f"s{repeated}s"


NOUNS = ("mouse", "bunny", "cat", "dog", "man", "woman", "person")
ADJECTIVES = ("short", "quick", "busy", "nice", "gorgeous")
VERBS = ("walked", "walks", "ran", "runs", "goes", "went")
ADVERBS = ("briefly", "quickly", "impatiently")
PREPOSITIONS = ("on", "with", "to")
CONJUNCTIONS = ("while", "but")


def toy(dice: Dice) -> str:
    """A sentence of a small English grammar with the paper's words, each rule as likely as the others."""

    def one_of(words: tuple[str, ...]) -> str:
        return words[dice.roll(len(words))]

    def thing() -> str:
        adjective = f"{one_of(ADJECTIVES)} " if dice.roll(2) else ""
        return f"{one_of(('a', 'the'))} {adjective}{one_of(NOUNS)}"

    def sentence() -> str:
        rule = dice.roll(6)
        if rule == 0:
            return f"{sentence()} {one_of(ADVERBS)}"
        clause = f"{thing()} {one_of(VERBS)}"
        if rule == 1:
            return clause
        rest = f"{one_of(PREPOSITIONS)} {thing()}" if rule in (2, 3) else f"{one_of(CONJUNCTIONS)} {sentence()}"
        return f"{clause} {rest}" if rule in (2, 4) else f"{clause} ( {rest} )"

    return sentence()


def toy2(dice: Dice) -> str:
    """An arithmetic expression over x, y and z: each of `+ - * / ^` stands with probability .2 at its level, and one
    atom in five is an expression in brackets."""

    def level(number: int) -> str:
        if number == 3:
            return "xyz"[dice.roll(3)] if dice.roll(5) < 4 else f"({level(0)})"
        operators, chosen = ("+-", "*/", "^")[number], dice.roll(5)
        operand = level(number + 1)
        return f"{operand} {operators[chosen]} {level(number)}" if chosen < len(operators) else operand

    return level(0)


def bits(dice: Dice) -> str:
    """Two words of 5 bits, then their exclusive or, their and, their or, and where they are equal; 0 means true."""
    a, b = dice.bits(5), dice.bits(5)
    rules: tuple[Callable[[int, int], int], ...]
    rules = (lambda x, y: x, lambda x, y: y, lambda x, y: x ^ y, lambda x, y: x & y, lambda x, y: x | y,
             lambda x, y: x == y)  # fmt: skip
    return "".join("10"[rule(x, y)] for rule in rules for x, y in zip(a, b, strict=True))


def bitsrep(dice: Dice) -> str:
    """A word of 3 bits, written 3 times."""
    return "".join(map(str, dice.bits(3))) * 3


def bitsflip(dice: Dice) -> str:
    """A word of 6 bits, and the same from its end to its start."""
    word = "".join(map(str, dice.bits(6)))
    return word + word[::-1]


A, B, C = chr(122), chr(248), chr(224)
# for each state, the edges that leave it: what is written, and the next state
AUTOMATON = (
    ((A, 0), (A, 1), (B, 2), (B, 3), (C, 4)),
    ((C, 1), (C, 3)),
    ((B, 3),),
    ((B, 4),),
    ((B, 0), (A, 2), (C, 3)),
)


def aut(dice: Dice) -> str:
    """A walk of 512 steps, from state 0, in one small automaton; each edge that leaves a state is as likely."""
    state, written = 0, []
    for _ in range(512):
        symbol, state = AUTOMATON[state][dice.roll(len(AUTOMATON[state]))]
        written.append(symbol)
    return "".join(written)


# by name: a piece, and what joins pieces
PIECES: dict[str, tuple[Callable[[Dice], str], str]] = {
    "champ": (champ, "|"), "dyck": (dyck, "|"), "ndfa": (ndfa, "|"), "toy": (toy, "|"), "toy2": (toy2, "|"),
    "bits": (bits, "|"), "bitsrep": (bitsrep, ""), "bitsflip": (bitsflip, ""), "aut": (aut, ""),
}  # fmt: skip


def probe_string(name: str, generator: torch.Generator, characters: int = CHARACTERS) -> bytes:
    """The string of a probe, a byte a symbol, of at least `characters` symbols.

    Args:
        name: a key of `PIECES`.
    """
    piece, joint = PIECES[name]
    dice, pieces, length = Dice(generator), [], 0
    while length < characters:
        pieces.append(piece(dice))
        length += len(pieces[-1])
    return joint.join(pieces).encode("latin-1")


def probe_windows(name: str, length: int, count: int, generator: torch.Generator) -> Tensor:
    """`(count, length)` uint8 windows of a probe, cut at random from one string; any part of it may stand in several.

    Args:
        name: a key of `PIECES`, or `rep-N`: N random symbols, other ones in each window, again and again to its end.
    """
    if name.startswith("rep-"):
        period = int(name.removeprefix("rep-"))
        first = torch.randint(256, (count, period), generator=generator, dtype=torch.uint8)
        return first.repeat(1, -(-length // period))[:, :length]
    string = torch.frombuffer(bytearray(probe_string(name, generator, max(CHARACTERS, 4 * length))), dtype=torch.uint8)
    starts = torch.randint(len(string) - length + 1, (count, 1), generator=generator)
    return string[starts + torch.arange(length)]
