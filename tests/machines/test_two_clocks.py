from dataclasses import replace

import torch
from torch import Tensor

from hf_universal_pretrain.machines.complexity import compressibility
from hf_universal_pretrain.machines.recurrent import RecurrentMachines
from hf_universal_pretrain.machines.two_clocks import TwoClocks, TwoClocksFamily
from hf_universal_pretrain.machines.words import spell_out


def write(machines: TwoClocks, rows: int, length: int, seed: int = 1) -> Tensor:
    zeros = torch.zeros(rows, length, dtype=torch.int64)
    return machines.generate(zeros[:, :1], zeros, torch.Generator().manual_seed(seed))


def word_numbers(machines: TwoClocks, rows: int, count: int) -> Tensor:
    """What the slow machines write: `(machines, rows of each, count)`."""
    generator = torch.Generator().manual_seed(5)
    first = torch.randint(machines.family.alphabet_size, (rows, 1), generator=generator)
    words = RecurrentMachines.generate(machines, first, first.expand(-1, count + 1), generator)[:, 1:]
    return words.reshape(len(machines.gain), -1, count)


def test_rows_are_the_slow_machines_words_in_the_quick_ones_spelling() -> None:
    family = TwoClocksFamily(machines_per_round=4)
    machines = family.draw(12, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    first = torch.randint(64, (12, 1), generator=generator)
    words = RecurrentMachines.generate(machines, first, first.expand(-1, 32), generator)[:, 1:]
    each = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    vocabulary = (machines.spelling, machines.word_length, machines.mark_chance, machines.blank, machines.marks)
    expected = spell_out(words, 60, *(tensor[each] for tensor in vocabulary), generator)
    assert torch.equal(write(machines, 12, 60), expected)
    # the quick machines are the first that are drawn: words are what each of them writes after a blank
    quick = family.quick.draw(4, torch.Generator().manual_seed(0))
    for machine in range(4):
        assert set(machines.spelling[machine].flatten().tolist()) <= set(quick.symbols[machine].tolist())
        apart = {machines.blank[machine].item(), *machines.marks[machine].tolist()}
        assert len(apart) == 3 and not apart & set(quick.symbols[machine].tolist())


def test_words_are_many_and_of_their_number() -> None:
    """A machine writes no word but those it uses; their number is log-uniform; spelling rarely makes two alike."""
    machines = TwoClocksFamily(words=80, machines_per_round=40).draw(400, torch.Generator().manual_seed(0))
    words = word_numbers(machines, 1200, 100)
    used = [set(part.flatten().tolist()) for part in words]
    own = [set(symbols.tolist()) for symbols in machines.symbols]
    assert all(mine <= allowed for mine, allowed in zip(used, own, strict=True))
    counts = torch.tensor([len(allowed) for allowed in own]).double()
    assert counts.min() >= 10 and counts.max() <= 80 and abs(counts.log2().mean() - 4.9) < 0.4
    distinct = []
    for machine, allowed in enumerate(own):
        spelled = {
            tuple(machines.spelling[machine, word, : machines.word_length[machine, word]].tolist()) for word in allowed
        }
        distinct.append(len(spelled) / len(allowed))
    assert sum(distinct) / 40 > 0.6


def test_words_have_context_of_words() -> None:
    """The word before tells a good deal about the next: at a low entropy more than at a high one."""

    def told(bits: float) -> float:
        family = TwoClocksFamily(words=40, word_entropy_range=(bits, bits), machines_per_round=4)
        words = word_numbers(family.draw(4, torch.Generator().manual_seed(0)), 800, 200)
        found = []
        for part in words:
            joint = torch.zeros(40, 40).index_put_(
                (part[:, :-1].flatten(), part[:, 1:].flatten()), torch.tensor(1.0), accumulate=True
            )
            p = joint / joint.sum()
            independent = p.sum(1, keepdim=True) * p.sum(0)
            found.append((p * (p / independent).clamp(min=1e-12).log2()).nansum().item())
        return sum(found) / 4

    assert told(1.5) > told(3.0) > 0.2


def test_no_machine_is_dead_or_noise() -> None:
    machines = TwoClocksFamily(machines_per_round=64).draw(512, torch.Generator().manual_seed(3))
    squeezed = compressibility(write(machines, 512, 256), 256)
    assert squeezed.min() > 0.15 and squeezed.view(64, 8).mean(1).max() < 0.8


def test_machines_drawn_one_by_one_can_be_stacked() -> None:
    """Words of a machine of a pool are the words it has alone."""
    family = TwoClocksFamily(words=20).pooled()
    assert family == replace(TwoClocksFamily(words=20), words=400)
    family = replace(family, words=30)
    drawn = [family.draw(1, torch.Generator().manual_seed(seed)) for seed in (4, 5, 6)]

    def stack(values: list):
        if isinstance(values[0], Tensor):
            return torch.cat(values)
        if isinstance(values[0], list):
            return [stack(list(parts)) for parts in zip(*values, strict=True)]
        return values[0]

    pool = TwoClocks(**{key: stack([vars(one)[key] for one in drawn]) for key in vars(drawn[0])})
    rows = write(pool, 6, 200)
    for r, row in enumerate(rows.tolist()):
        one = drawn[r // 2]
        blank, marks = one.blank[0].item(), one.marks[0].tolist()
        words = {tuple(one.spelling[0, w, : one.word_length[0, w]].tolist()) for w in range(30)}
        text = [[]]
        for symbol in row:
            if symbol == blank:
                text.append([])
            else:
                text[-1].append(symbol)
        whole = [tuple(piece[:-1] if piece and piece[-1] in marks else piece) for piece in text[1:-1]]
        assert len(whole) > 10 and all(word in words for word in whole)
