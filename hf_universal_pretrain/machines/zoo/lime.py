"""Deduction, induction and abduction on random strings: LIME (Wu et al., arXiv 2101.06223)."""

import random
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hf_universal_pretrain.machines.base import MachineFamily
from hf_universal_pretrain.machines.draws import random_injections


TASKS = ("deduct", "induct", "abduct")
CLASSES = (24, 24, 20)  # letters, lower-case letters and signs that an example chooses
MARKS = 4  # between a letter and what stands for it, behind that, behind a part, at the end


@dataclass(frozen=True)
class LimeFamily(MachineFamily):
    """Rule, case, result: two are shown, the third is asked for; example after example, each with symbols of its own.

    A rule is a string of letters and signs. A case says what each letter stands for: a string of 2 to 8 lower-case
    letters and signs. The result is the rule with that put in. `deduct` shows rule and case and asks for the result,
    `induct` shows result and case and asks for the rule, `abduct` shows rule and result and asks for the case.

    What is shown comes after the letters of the rule, so that it can be told which symbols are letters, and is not
    judged; the answer and the mark that ends it are. The original lists the 24 lower-case letters and the 20 signs of
    the example too, and writes question and answer into an encoder and a decoder.

    Args:
        tasks: examples draw one of these.
        letters_range: letters that a rule is made of, uniform.
        signs_range: signs in a rule, uniform.
        case_range: length of what a letter stands for, uniform.
    """

    tasks: tuple[str, ...] = TASKS
    letters_range: tuple[int, int] = (3, 5)
    signs_range: tuple[int, int] = (5, 19)
    case_range: tuple[int, int] = (2, 8)

    judges_all: ClassVar[bool] = False
    reads_condition: ClassVar[bool] = False
    flops_per_symbol: ClassVar[int] = 0

    def draw(self, num_rows: int, generator: torch.Generator) -> "LimeSources":
        return LimeSources(self, random_injections(num_rows, self.alphabet_size, self.alphabet_size, generator))


@dataclass
class LimeSources:
    """One source a row.

    Args:
        symbols: `(rows, alphabet_size)`, the alphabet in an order of the row's own: the marks come first, and each
            example chooses its letters, lower-case letters and signs from the others.
    """

    family: LimeFamily
    symbols: Tensor

    @torch.no_grad()
    def generate(self, seeds: Tensor, conditions: Tensor, generator: torch.Generator) -> Tensor:
        """Makes rows; seeds and conditions give the shape only. What is shown is written as complements."""
        length = conditions.shape[1]
        numbers = random.Random(int(torch.randint(2**62, (), generator=generator, device=generator.device)))
        made = []
        for symbols in self.symbols.tolist():
            row: list[int] = []
            while len(row) < length:
                shown, asked = self._example(symbols, numbers)
                row += [~symbol for symbol in shown] + asked
            made.append(row[:length])
        return torch.tensor(made, device=conditions.device)

    def _example(self, symbols: list[int], numbers: random.Random) -> tuple[list[int], list[int]]:
        """What is shown and what is asked for, marks included."""
        family = self.family
        stands, comma, part, end = (symbols[place % len(symbols)] for place in range(MARKS))
        letters, lower, signs = classes(symbols[MARKS:] or symbols, numbers)
        count = numbers.randint(*family.letters_range)
        chosen = numbers.choices(letters[:count], k=2 * count)
        rule = chosen + numbers.choices(signs, k=numbers.randint(*family.signs_range))
        numbers.shuffle(rule)
        case = {
            letter: numbers.choices(lower + signs, k=numbers.randint(*family.case_range))
            for letter in dict.fromkeys(chosen)
        }
        result = [symbol for place in rule for symbol in case.get(place, [place])]
        told = [symbol for letter, string in case.items() for symbol in (letter, stands, *string, comma)]
        one, other, asked = {
            "deduct": (rule, told, result), "induct": (result, told, rule), "abduct": (rule, result, told)
        }[numbers.choice(family.tasks)]  # fmt: skip
        return [*case, part, *one, part, *other, part], [*asked, end]


def classes(symbols: list[int], numbers: random.Random) -> list[list[int]]:
    """Letters, lower-case letters and signs of an example: different symbols, as long as there are enough."""
    chosen = numbers.sample(symbols, min(len(symbols), sum(CLASSES)))
    edges = [round(sum(CLASSES[:place]) / sum(CLASSES) * len(chosen)) for place in range(len(CLASSES) + 1)]
    return [chosen[start:stop] or chosen for start, stop in zip(edges, edges[1:], strict=False)]
