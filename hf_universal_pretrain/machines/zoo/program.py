"""Random programs of a small universal machine: BrainPhoque (arXiv 2401.14953), all programs stepping together."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hf_universal_pretrain.machines.base import MachineFamily
from hf_universal_pretrain.machines.draws import log_uniform_int, random_injections


INSTRUCTIONS = "+-<>[].,"
PLUS, MINUS, LEFT, RIGHT, OPEN, CLOSE, WRITE, READ = range(len(INSTRUCTIONS))


def compile_program(text: str) -> Tensor:
    """A program's text as `(1, length)` int64 instruction codes."""
    return torch.tensor([[INSTRUCTIONS.index(character) for character in text]])


def jump_targets(code: Tensor, lengths: Tensor) -> Tensor:
    """For each bracket the place of its partner; every other place, and a bracket without partner, leads to itself.

    Args:
        code: `(programs, L)` int64 instruction codes.
        lengths: `(programs, 1)`, how many of them belong to the program.
    """
    programs, length = code.shape
    target = torch.arange(length, device=code.device).repeat(programs, 1)
    stack = torch.zeros(programs, length + 1, dtype=torch.int64, device=code.device)
    depth = torch.zeros(programs, 1, dtype=torch.int64, device=code.device)
    for place in range(length):
        inside = place < lengths
        opens = (code[:, place : place + 1] == OPEN) & inside
        closes = (code[:, place : place + 1] == CLOSE) & inside & (depth > 0)
        stack.scatter_(1, depth, torch.where(opens, place, stack.gather(1, depth)))
        depth += opens.long() - closes.long()
        partner = stack.gather(1, depth)
        target.scatter_(1, partner, torch.where(closes, place, target.gather(1, partner)))
        target[:, place : place + 1] = torch.where(closes, partner, target[:, place : place + 1])
    return target


def run_programs(
    code: Tensor, lengths: Tensor, modulus: Tensor, cells: int, output_length: int, steps: int,
    enough: int, generator: torch.Generator,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Runs programs side by side. The memory is a ring of `cells` cells that count modulo `modulus`; a program that
    comes to its end starts again, its memory kept; `,` reads a random number.

    Args:
        code: `(programs, L)` int64 instruction codes.
        lengths: `(programs, 1)`.
        modulus: `(programs, 1)`.
        cells: cells of the memory.
        output_length: numbers that a program may write.
        steps: instructions after which all stop.
        enough: when so many programs have written all they may, the others stop too.
        generator: of the random numbers.

    Returns:
        `(programs, output_length)` int64 of what was written, and `(programs, 1)` how much that was.
    """
    programs, device = len(code), code.device
    target = jump_targets(code, lengths)
    memory = torch.zeros(programs, cells, dtype=torch.int64, device=device)
    output = torch.zeros(programs, output_length + 1, dtype=torch.int64, device=device)
    counter, pointer, written = (torch.zeros(programs, 1, dtype=torch.int64, device=device) for _ in range(3))
    change = torch.tensor([1, -1, 0, 0, 0, 0, 0, 0], device=device)
    move = torch.tensor([0, 0, -1, 1, 0, 0, 0, 0], device=device)
    for step in range(steps):
        if step % 64 == 0:
            if (written >= output_length).sum() >= enough:
                break
            numbers = torch.rand(64, programs, 1, generator=generator, device=device)
        now = code.gather(1, counter)
        value = (memory.gather(1, pointer) + change[now]) % modulus
        value = torch.where(now == READ, (numbers[step % 64] * modulus).long(), value)
        memory.scatter_(1, pointer, value)
        pointer = (pointer + move[now]) % cells
        output.scatter_(1, written, value)  # what is not kept is overwritten by the next
        written = (written + (now == WRITE)).clamp_(max=output_length)
        jumps = ((now == OPEN) & (value == 0)) | ((now == CLOSE) & (value != 0))
        counter = (torch.where(jumps, target.gather(1, counter), counter) + 1) % lengths
    return output[:, :output_length], written


@dataclass(frozen=True)
class ProgramFamily(MachineFamily):
    """Random programs, a new one for every row, with uniform instructions.

    Twice as many programs run as rows are wanted, and those that wrote most are kept; what they wrote is repeated
    to the end of the row. Departures from BrainPhoque: a program that ends starts again (so that few are silent), and
    its instruction that marks loops for the loss is left out.

    Args:
        length_range: instructions of a program, log-uniform.
        cells: cells of the memory.
        modulus_range: numbers that a cell can hold, log-uniform; cut to the alphabet. Each row maps them to symbols by
            its own random injection.
        steps_per_symbol: instructions that a program may run for each symbol of the row.
    """

    length_range: tuple[int, int] = (6, 64)
    cells: int = 10
    modulus_range: tuple[int, int] = (2, 256)
    steps_per_symbol: int = 8

    reads_condition: ClassVar[bool] = False
    flops_per_symbol: ClassVar[int] = 0

    def draw(self, num_rows: int, generator: torch.Generator) -> "Programs":
        pairs, most = (num_rows, 2), min(self.modulus_range[1], self.alphabet_size)
        lengths = log_uniform_int(*self.length_range, (*pairs, 1), generator)
        shape = (*pairs, self.length_range[1])
        return Programs(
            family=self,
            code=torch.randint(len(INSTRUCTIONS), shape, generator=generator, device=generator.device),
            lengths=lengths,
            modulus=log_uniform_int(min(self.modulus_range[0], most), most, (*pairs, 1), generator),
            symbols=random_injections(2 * num_rows, most, self.alphabet_size, generator).unflatten(0, pairs),
        )


@dataclass
class Programs:
    """Two programs a row. Of all of them, the more talkative half is kept.

    Args:
        code: `(rows, 2, L)` instruction codes.
        lengths: `(rows, 2, 1)`.
        modulus: `(rows, 2, 1)`.
        symbols: `(rows, 2, S)`, the symbol that each number stands for.
    """

    family: ProgramFamily
    code: Tensor
    lengths: Tensor
    modulus: Tensor
    symbols: Tensor

    @torch.no_grad()
    def generate(self, seeds: Tensor, conditions: Tensor, generator: torch.Generator) -> Tensor:
        """Makes rows; seeds and conditions give the shape only."""
        rows, length = conditions.shape
        family = self.family
        numbers, written = run_programs(
            self.code.flatten(0, 1),
            self.lengths.flatten(0, 1),
            self.modulus.flatten(0, 1),
            family.cells,
            length,
            length * family.steps_per_symbol,
            rows,
            generator,
        )
        kept = written.squeeze(1).argsort(descending=True, stable=True)[:rows]
        numbers, written = numbers[kept], written[kept].clamp(min=1)  # a silent program writes zeros
        repeated = numbers.gather(1, torch.arange(length, device=numbers.device) % written)
        return self.symbols.flatten(0, 1)[kept].gather(1, repeated)
