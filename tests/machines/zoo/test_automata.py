import torch

from hf_universal_pretrain.machines import FAMILIES
from hf_universal_pretrain.machines.zoo.automata import (
    CLASS_III,
    CLASS_IV,
    ElementaryAutomatonFamily,
    NeuralAutomatonFamily,
    equivalent_rules,
    run_elementary,
)


# rule 110 from one cell, as in Wolfram's "A New Kind of Science", page 32
RULE_110 = """
...............#
..............##
.............###
............##.#
...........#####
..........##...#
.........###..##
........##.#.###
.......#######.#
......##.....###
.....###....##.#
....##.#...#####
"""


def test_rule_110_from_one_cell() -> None:
    picture = RULE_110.split()
    cells = torch.tensor([[int(c == "#") for c in picture[0]]])
    lines = run_elementary(torch.tensor([[110]]), cells, torch.tensor([[16]]), len(picture) - 1)
    assert ["".join(".#"[c] for c in line) for line in lines[0].tolist()] == picture


def test_rule_90_is_pascals_triangle_modulo_2_on_rings_of_their_own_width() -> None:
    """Two rows side by side with rings of 16 and 8 cells; rule 90 adds the two neighbours modulo 2."""
    cells = torch.randint(2, (2, 16), generator=torch.Generator().manual_seed(0))
    widths = torch.tensor([[16], [8]])
    lines = run_elementary(torch.tensor([[90], [90]]), cells, widths, 9)
    for r, width in enumerate((16, 8)):
        line = cells[r, :width].tolist()
        for made in lines[r]:
            assert made[:width].tolist() == line
            line = [line[i - 1] ^ line[(i + 1) % width] for i in range(width)]


def test_equivalent_rules_are_the_published_families() -> None:
    assert equivalent_rules(110) == {110, 124, 137, 193}
    assert equivalent_rules(30) == {30, 86, 135, 149}
    assert equivalent_rules(90) == {90, 165}
    assert equivalent_rules(150) == {150}
    assert all(rule == min(equivalent_rules(rule)) for rule in CLASS_III + CLASS_IV)


def test_rows_are_lines_of_their_automaton() -> None:
    """Unpacked, every line of a row follows from the line before by the row's rule."""
    generator = torch.Generator().manual_seed(0)
    automata = ElementaryAutomatonFamily(alphabet_size=256).draw(40, generator)
    zeros = torch.zeros(40, 256, dtype=torch.int64)
    rows = automata.generate(zeros[:, :1], zeros, generator)
    for row, rule, width, packing, symbols in zip(
        rows.tolist(), automata.rules, automata.widths, automata.packing, automata.symbols.tolist(), strict=True
    ):
        rule, width, packing = int(rule), int(width), int(packing)
        bits = [(symbols.index(s) >> (packing - 1 - k)) & 1 for s in row for k in range(packing)]
        lines = [bits[i : i + width] for i in range(0, len(bits) - width + 1, width)]
        assert len(lines) >= 4
        for line, following in zip(lines, lines[1:], strict=False):
            expected = [rule >> (4 * line[i - 1] + 2 * line[i] + line[(i + 1) % width]) & 1 for i in range(width)]
            assert following == expected


def test_rules_are_weighted_to_classes_3_and_4() -> None:
    automata = FAMILIES["eca"]().draw(4000, torch.Generator().manual_seed(0))
    complex_rules = set().union(*map(equivalent_rules, CLASS_IV))
    chaotic = set().union(*map(equivalent_rules, CLASS_III))
    drawn = automata.rules.flatten().tolist()
    share_4, share_3 = (sum(r in rules for r in drawn) / 4000 for rules in (complex_rules, chaotic))
    assert abs(share_4 - (0.5 + 0.1 * len(complex_rules) / 256)) < 0.03
    assert abs(share_3 - (0.4 + 0.1 * len(chaotic) / 256)) < 0.03


def test_neural_step_against_a_plain_loop() -> None:
    """Each cell from its nine neighbours on the torus; the temperature is low, so the best state wins."""
    generator = torch.Generator().manual_seed(1)
    rule = NeuralAutomatonFamily().draw(1, generator).rules[0]
    cells = torch.randint(rule.states, (2, rule.side, rule.side), generator=generator)
    first, second, third = rule.layers
    made = rule.step(cells, 1e-9, generator)
    for r in range(2):
        for y in range(rule.side):
            for x in range(rule.side):
                hidden = torch.zeros(4)
                for dy in range(3):
                    for dx in range(3):
                        state = cells[r, (y + dy - 1) % rule.side, (x + dx - 1) % rule.side]
                        hidden += first[:, state, dy, dx]
                logits = third[:, :, 0, 0] @ (second[:, :, 0, 0] @ hidden).relu()
                assert made[r, y, x] == logits.argmax()


def test_neural_rows_are_frames_with_delimiters() -> None:
    """Every frame begins with the delimiter, which is found nowhere else, and follows from the frame before."""
    generator = torch.Generator().manual_seed(3)
    family = NeuralAutomatonFamily(temperature=1e-9, machines_per_round=6)
    automata = family.draw(12, generator)
    zeros = torch.zeros(12, 256, dtype=torch.int64)
    rows = automata.generate(zeros[:, :1], zeros, generator)
    for r, row in enumerate(rows.tolist()):
        rule = automata.rules[r // 2]
        values = [rule.symbols.tolist().index(s) for s in row]
        size, blocks = rule.patch**2, rule.side // rule.patch
        per_frame = 1 + blocks**2
        delimiter = rule.states**size
        assert [i for i, v in enumerate(values) if v == delimiter] == list(range(0, 256, per_frame))
        frames = []
        for start in range(0, 256 - per_frame + 1, per_frame):
            cells = torch.empty(rule.side, rule.side, dtype=torch.int64)
            for b, value in enumerate(values[start + 1 : start + per_frame]):
                for k in range(size):
                    y, x = b // blocks * rule.patch + k // rule.patch, b % blocks * rule.patch + k % rule.patch
                    cells[y, x] = value // rule.states**k % rule.states
            frames.append(cells)
        for one, following in zip(frames, frames[1:], strict=False):
            assert torch.equal(rule.step(one[None], 1e-9, generator)[0], following)


def test_rules_are_drawn_anew() -> None:
    generator = torch.Generator().manual_seed(0)
    family = NeuralAutomatonFamily(machines_per_round=1)
    assert len({family.draw(1, generator).rules[0].layers[1].sum().item() for _ in range(20)}) == 20
