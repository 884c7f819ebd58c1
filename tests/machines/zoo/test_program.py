import random

import torch

from hf_universal_pretrain.machines.zoo.program import INSTRUCTIONS, ProgramFamily, compile_program, run_programs


def run(text: str, count: int, modulus: int = 256, cells: int = 30, steps: int = 5000) -> list[int]:
    code = compile_program(text)
    length, mod = torch.tensor([[code.shape[1]]]), torch.tensor([[modulus]])
    output, written = run_programs(code, length, mod, cells, count, steps, 1, torch.Generator().manual_seed(0))
    return output[0, : written[0]].tolist()


HELLO = (  # the well-known program
    "++++++++[>++++[>++>+++>+++>+<<<<-]>+>+>->>+[<]<-]>>.>---.+++++++..+++.>>.<-.<.+++.------.--------.>>+.>++."
)


def test_known_programs() -> None:
    assert bytes(run(HELLO, 13)).decode() == "Hello World!\n"
    assert run("++++[>+++<-]>.", 1) == [12]
    # Fibonacci by the classic loop of two cells and a copy
    assert run("+.>+.[<[>>+>+<<<-]>>>[<<<+>>>-]<[<+>-]<.[>+<-]>[<+>-]<]", 2) == [1, 1]


def test_a_program_that_ends_starts_again_with_its_memory() -> None:
    assert run("+.", 5) == [1, 2, 3, 4, 5]
    assert run("+.", 5, modulus=3) == [1, 2, 0, 1, 2]


def test_read_is_random_and_inside_the_modulus() -> None:
    numbers = run(",.", 2000, modulus=7)
    assert all(abs(numbers.count(n) / 2000 - 1 / 7) < 0.04 for n in range(7))


def plain(text: str, modulus: int, cells: int, steps: int) -> list[int]:
    """One program, one instruction at a time; brackets are matched by scanning."""
    memory, pointer, place, written = [0] * cells, 0, 0, []
    for _ in range(steps):
        op = text[place]
        if op in "+-":
            memory[pointer] = (memory[pointer] + (1 if op == "+" else -1)) % modulus
        elif op in "<>":
            pointer = (pointer + (1 if op == ">" else -1)) % cells
        elif op == ".":
            written.append(memory[pointer])
        elif op in "[]" and (memory[pointer] == 0) == (op == "["):
            step, depth, scan = (1 if op == "[" else -1), 0, place
            while 0 <= scan < len(text):
                depth += {"[": 1, "]": -1}.get(text[scan], 0)
                if depth == 0:
                    place = scan
                    break
                scan += step
        place = (place + 1) % len(text)
    return written


def test_random_programs_against_a_plain_interpreter() -> None:
    """300 programs of different lengths side by side; brackets without partner do nothing."""
    chooser = random.Random(0)
    texts = ["".join(chooser.choices(INSTRUCTIONS[:-1], k=chooser.randint(2, 30))) for _ in range(300)]
    code = torch.zeros(300, 30, dtype=torch.int64)
    for row, text in zip(code, texts, strict=True):
        row[: len(text)] = compile_program(text)
    lengths = torch.tensor([[len(text)] for text in texts])
    moduli = torch.tensor([[chooser.randint(2, 9)] for _ in texts])
    output, written = run_programs(code, lengths, moduli, 6, 40, 400, 301, torch.Generator())
    for i, text in enumerate(texts):
        expected = plain(text, int(moduli[i]), 6, 400)[:40]
        assert output[i, : written[i]].tolist() == expected, text
    assert (written == 40).sum() > 30


def test_rows_of_random_programs_are_of_many_kinds() -> None:
    generator = torch.Generator().manual_seed(0)
    zeros = torch.zeros(128, 128, dtype=torch.int64)
    rows = ProgramFamily().draw(128, generator).generate(zeros[:, :1], zeros, generator)
    distinct = torch.tensor([len(row.unique()) for row in rows])
    assert (distinct > 8).sum() > 25, "rows should not all be constants"
    assert len(rows.unique(dim=0)) > 100
