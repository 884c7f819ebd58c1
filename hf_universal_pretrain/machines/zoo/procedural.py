"""Small algorithmic tasks, judged on the answer alone (Shinnick et al., arXiv 2601.21725)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hf_universal_pretrain.machines.base import MachineFamily
from hf_universal_pretrain.machines.draws import log_uniform_int, random_injections


def distinct(symbols: list[int]) -> list[int]:
    """The different symbols, in the order of their first occurrence."""
    return list(dict.fromkeys(symbols))


def without_first(symbols: list[int], symbol: int) -> list[int]:
    """The symbols without the first occurrence of one of them."""
    where = symbols.index(symbol)
    return symbols[:where] + symbols[where + 1 :]


# A task turns n random symbols, a separator and n uniform numbers into a question and its answer.
Task = Callable[[list[int], int, list[float]], tuple[list[int], list[int]]]


def _identity(x: list[int], sep: int, u: list[float]) -> tuple[list[int], list[int]]:
    return x, x


def _reverse(x: list[int], sep: int, u: list[float]) -> tuple[list[int], list[int]]:
    return x, x[::-1]


def _sort(x: list[int], sep: int, u: list[float]) -> tuple[list[int], list[int]]:
    return x, sorted(x)


def _set(x: list[int], sep: int, u: list[float]) -> tuple[list[int], list[int]]:
    return x, distinct(x)


def _union(x: list[int], sep: int, u: list[float]) -> tuple[list[int], list[int]]:
    half = (len(x) + 1) // 2
    return [*x[:half], sep, *x[half:]], distinct(x)


def _delete(x: list[int], sep: int, u: list[float]) -> tuple[list[int], list[int]]:
    gone = x[int(u[0] * len(x))]
    return [*x, sep, gone], without_first(x, gone)


def _stack(x: list[int], sep: int, u: list[float]) -> tuple[list[int], list[int]]:
    """Pushes (a symbol) and pops (the separator), mostly pushes first; the answer is the stack from the top down."""
    operations: list[int] = []
    stack: list[int] = []
    for i, chance in enumerate(u):
        push_chance = 0.75 if i < 2 * len(u) / 3 else 0.25
        # what is pushed is not on the stack already; each number makes one operation, or rows would run out of numbers
        new = next((symbol for symbol in (*x[i:], *x[:i]) if symbol not in stack), None)
        if new is not None and (chance < push_chance or not stack):
            stack.append(new)
            operations.append(new)
        else:
            stack.pop()
            operations.append(sep)
    return operations, stack[::-1]


TASKS: dict[str, Task] = {
    "identity": _identity, "reverse": _reverse, "sort": _sort, "set": _set, "union": _union, "delete": _delete,
    "stack": _stack,
}  # fmt: skip


@dataclass(frozen=True)
class ProceduralFamily(MachineFamily):
    """Question, separator, answer, separator, and so on to the end of the row; a new source for every row.

    A row has one task, one length of question, and its own set of symbols; `sort` goes by their numbers. Questions
    are shown but not judged (their loss would be noise); answers and what ends them are. The original has one
    question of 64 symbols a row.

    Args:
        tasks: rows draw one of these.
        length_range: symbols of a question, log-uniform; cut to a quarter of the row.
        symbols_range: symbols that questions are made of, log-uniform; cut to the alphabet.
    """

    tasks: tuple[str, ...] = tuple(TASKS)
    length_range: tuple[int, int] = (2, 48)
    symbols_range: tuple[int, int] = (8, 100)

    reads_condition: ClassVar[bool] = False
    judges_all: ClassVar[bool] = False
    flops_per_symbol: ClassVar[int] = 0

    def draw(self, num_rows: int, generator: torch.Generator) -> "ProceduralSources":
        most = min(self.symbols_range[1], self.alphabet_size - 1)
        task = torch.randint(len(self.tasks), (num_rows,), generator=generator, device=generator.device)
        return ProceduralSources(
            family=self,
            task=[self.tasks[i] for i in task.tolist()],
            length=log_uniform_int(*self.length_range, (num_rows,), generator),
            size=log_uniform_int(min(self.symbols_range[0], most), most, (num_rows,), generator),
            symbols=random_injections(num_rows, most + 1, self.alphabet_size, generator),
        )


@dataclass
class ProceduralSources:
    """One source a row.

    Args:
        task: `rows` names.
        length: `(rows,)`, symbols of a question.
        size: `(rows,)`, how many symbols questions are made of.
        symbols: `(rows, S + 1)`: the symbols, of which the first `size` are used, and last the separator.
    """

    family: ProceduralFamily
    task: list[str]
    length: Tensor
    size: Tensor
    symbols: Tensor

    @torch.no_grad()
    def generate(self, seeds: Tensor, conditions: Tensor, generator: torch.Generator) -> Tensor:
        """Makes rows; seeds and conditions give the shape only. Questions are written as complements."""
        rows, length = conditions.shape
        uniform = torch.rand(2, rows, length, generator=generator, device=self.length.device)
        picks = self.symbols.gather(
            1, (uniform[0] * self.size.unsqueeze(1)).long().clamp_(max=self.symbols.shape[1] - 2)
        )
        separators = self.symbols[:, -1].tolist()
        sizes = self.length.clamp(max=max(1, length // 4)).tolist()
        made = []
        for name, n, sep, pick, chance in zip(
            self.task, sizes, separators, picks.tolist(), uniform[1].tolist(), strict=True
        ):
            row: list[int] = []
            used = 0
            while len(row) < length:
                question, answer = TASKS[name](pick[used : used + n], sep, chance[used : used + n])
                row += [~s for s in question] + [~sep] + answer + [sep]
                used += n
            made.append(row[:length])
        return torch.tensor(made, device=conditions.device)
