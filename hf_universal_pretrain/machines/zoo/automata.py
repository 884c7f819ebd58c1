"""Cellular automata: elementary ones (`eca`), and neural ones (`nca`, arXiv 2603.10055)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_universal_pretrain.machines.base import MachineFamily
from hf_universal_pretrain.machines.draws import random_injections


# Wolfram's classes (2002), the smallest number of each rule's family under mirroring and complement
CLASS_III = (18, 22, 30, 45, 60, 90, 105, 122, 126, 146, 150)
CLASS_IV = (41, 54, 106, 110)


def equivalent_rules(rule: int) -> set[int]:
    """The rule with left and right exchanged, with 0 and 1 exchanged, and with both."""
    bit = [(rule >> i) & 1 for i in range(8)]
    mirrored = [bit[(i & 2) | (i >> 2) | ((i & 1) << 2)] for i in range(8)]
    numbers = set()
    for bits in (bit, mirrored):
        numbers.add(sum(b << i for i, b in enumerate(bits)))
        numbers.add(sum((1 - bits[7 - i]) << i for i in range(8)))
    return numbers


def run_elementary(rules: Tensor, cells: Tensor, widths: Tensor, steps: int) -> Tensor:
    """Runs elementary cellular automata on rings.

    Args:
        rules: `(rows, 1)` rule numbers.
        cells: `(rows, W)` of 0 and 1, the first line.
        widths: `(rows, 1)`, how many of the W cells make the ring of a row.
        steps: how many lines to make after the first.

    Returns:
        `(rows, steps + 1, W)` uint8; cells beyond a ring's width mean nothing.
    """
    place = torch.arange(cells.shape[1], device=cells.device)
    left, right = (place - 1) % widths, (place + 1) % widths
    lines = torch.empty(len(cells), steps + 1, cells.shape[1], dtype=torch.uint8, device=cells.device)
    lines[:, 0] = cells
    for t in range(steps):
        neighbourhood = 4 * cells.gather(1, left) + 2 * cells + cells.gather(1, right)
        cells = (rules >> neighbourhood) & 1
        lines[:, t + 1] = cells
    return lines


@dataclass(frozen=True)
class ElementaryAutomatonFamily(MachineFamily):
    """Elementary cellular automata from random first lines, line after line; a new rule and ring for every row.

    Neighbouring cells are packed into one symbol, 1, 2, 4 or 8 at a time (as far as the alphabet goes), through the
    row's own random injection.

    Args:
        class_4_share: share of rows with a rule of class IV (complex); models that learned these transfer best
            (Zhang et al., arXiv 2410.02536).
        class_3_share: share of rows with a rule of class III (chaotic). The rest is uniform over all 256 rules.
        max_width: rings have 8, 16, ... up to this many cells, uniform.
    """

    class_4_share: float = 0.5
    class_3_share: float = 0.4
    max_width: int = 64

    reads_condition: ClassVar[bool] = False
    flops_per_symbol: ClassVar[int] = 0

    def draw(self, num_rows: int, generator: torch.Generator) -> "ElementaryAutomata":
        device = generator.device

        def one_of(numbers: list[int]) -> Tensor:
            index = torch.randint(len(numbers), (num_rows, 1), generator=generator, device=device)
            return torch.tensor(numbers, device=device)[index]

        class_4, class_3 = (sorted(set().union(*map(equivalent_rules, rules))) for rules in (CLASS_IV, CLASS_III))
        which = torch.rand(num_rows, 1, generator=generator, device=device)
        rules = torch.where(which < self.class_4_share + self.class_3_share, one_of(class_3), one_of(list(range(256))))
        rules = torch.where(which < self.class_4_share, one_of(class_4), rules)
        packings = [p for p in (1, 2, 4, 8) if 2**p <= self.alphabet_size]
        return ElementaryAutomata(
            family=self,
            rules=rules,
            widths=8 * one_of(list(range(1, self.max_width // 8 + 1))),
            packing=one_of(packings),
            symbols=random_injections(num_rows, 2 ** packings[-1], self.alphabet_size, generator),
        )


@dataclass
class ElementaryAutomata:
    """One automaton a row.

    Args:
        rules: `(rows, 1)` rule numbers.
        widths: `(rows, 1)` cells of the ring, a multiple of 8.
        packing: `(rows, 1)` cells in one symbol.
        symbols: `(rows, S)`, the symbol of each value of packed cells.
    """

    family: ElementaryAutomatonFamily
    rules: Tensor
    widths: Tensor
    packing: Tensor
    symbols: Tensor

    @torch.no_grad()
    def generate(self, seeds: Tensor, conditions: Tensor, generator: torch.Generator) -> Tensor:
        """Makes rows; seeds and conditions give the shape only."""
        rows, length = conditions.shape
        device, width = conditions.device, self.family.max_width
        cells = torch.randint(2, (rows, width), generator=generator, device=device)
        most_cells = length * self.packing
        lines = run_elementary(self.rules, cells, self.widths, int((most_cells / self.widths).ceil().max()) - 1)
        value = torch.zeros(rows, length, dtype=torch.int64, device=device)
        place = torch.arange(length, device=device)
        for k in range(int(self.packing.max())):
            cell = place * self.packing + k  # the number of the cell, line after line
            index = cell // self.widths * width + cell % self.widths
            bit = lines.flatten(1).gather(1, index.clamp(max=lines[0].numel() - 1)).long()
            value = torch.where(k < self.packing, 2 * value + bit, value)
        return self.symbols.gather(1, value)


@dataclass(frozen=True)
class NeuralAutomatonFamily(MachineFamily):
    """Neural cellular automata on a torus, frame after frame (Lee et al., arXiv 2603.10055).

    A rule is a random network, 3x3 convolution to 4 channels, 1x1 to 16, ReLU, 1x1 to the states; the next state of a
    cell is sampled from its output at a low temperature. The first frame is independent cells of one random
    distribution; some frames are dropped before the row begins. A frame becomes one delimiter and one symbol for each
    patch of cells, through the machine's own random injection.

    The original draws its rules once (its test for the next draw has a precedence bug); here every draw has new
    ones. Its grids of 12 x 12 cells with 10 states in patches of 2 x 2 need 10,000 symbols and rows of 1,024; sides,
    states and patches are drawn here, so that rows of any length over any alphabet hold several frames.

    Args:
        max_states: states of a cell are uniform over 2 to this number (2 to 4 for patches of 2 x 2 with 256 symbols).
        sides: cells along one side of the torus, one of these.
        dropped_frames: frames before the first that is shown.
        temperature: of the sampling.
        machines_per_round: rules drawn in a round; each serves an equal share of the rows.
    """

    max_states: int = 10
    sides: tuple[int, ...] = (4, 6, 8)
    dropped_frames: int = 10
    temperature: float = 1e-3
    machines_per_round: int = 8

    reads_condition: ClassVar[bool] = False
    flops_per_symbol: ClassVar[int] = 2 * (9 * 10 * 4 + 4 * 16 + 16 * 10)

    def machines_for(self, num_rows: int) -> int:
        return min(self.machines_per_round, num_rows)

    def draw(self, num_rows: int, generator: torch.Generator) -> "NeuralAutomata":
        device = generator.device

        def normal(out: int, inputs: int, size: int) -> Tensor:
            drawn = torch.randn(out, inputs, size, size, generator=generator, device=device)
            return drawn / math.sqrt(inputs * size * size)

        rules = []
        for _ in range(self.machines_for(num_rows)):
            patch = int(torch.randint(1, 3, (), generator=generator, device=device))
            if 2 ** (patch * patch) > self.alphabet_size - 1:
                patch = 1
            most = self.max_states
            while most ** (patch * patch) > max(2, self.alphabet_size - 1):  # one symbol is the delimiter's
                most -= 1
            states = int(torch.randint(2, most + 1, (), generator=generator, device=device)) if most > 2 else most
            side = self.sides[int(torch.randint(len(self.sides), (), generator=generator, device=device))]
            values = min(states ** (patch * patch) + 1, self.alphabet_size)
            rules.append(
                NeuralRule(
                    states=states,
                    side=side,
                    patch=patch,
                    layers=(normal(4, states, 3), normal(16, 4, 1), normal(states, 16, 1)),
                    first=torch.randn(states, generator=generator, device=device).softmax(0),
                    symbols=random_injections(1, values, self.alphabet_size, generator)[0],
                )
            )
        return NeuralAutomata(self, rules)


@dataclass
class NeuralRule:
    """One automaton.

    Args:
        states: states of a cell.
        side: cells along one side.
        patch: cells along one side of what becomes one symbol.
        layers: weights of the three convolutions.
        first: `(states,)`, the distribution of the first frame's cells.
        symbols: `(states ** (patch * patch) + 1,)`, the symbol of each patch, and last of the delimiter.
    """

    states: int
    side: int
    patch: int
    layers: tuple[Tensor, Tensor, Tensor]
    first: Tensor
    symbols: Tensor

    def step(self, cells: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
        """The next frame of `(rows, side, side)` int64 cells."""
        x = F.one_hot(cells, self.states).permute(0, 3, 1, 2).float()
        x = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), self.layers[0])
        logits = F.conv2d(F.conv2d(x, self.layers[1]).relu_(), self.layers[2])
        uniform = torch.rand(logits.shape, generator=generator, device=logits.device).clamp_(min=1e-20)
        return (logits / temperature - (-uniform.log()).log()).argmax(1)  # Gumbel's trick samples the softmax


@dataclass
class NeuralAutomata:
    family: NeuralAutomatonFamily
    rules: list[NeuralRule]

    @torch.no_grad()
    def generate(self, seeds: Tensor, conditions: Tensor, generator: torch.Generator) -> Tensor:
        """Makes rows; seeds and conditions give the shape only."""
        rows, length = conditions.shape
        output = torch.empty(rows, length, dtype=torch.int64, device=conditions.device)
        shares = torch.arange(rows, device=conditions.device).tensor_split(len(self.rules))
        for rule, share in zip(self.rules, shares, strict=True):
            output[share] = self._frames(rule, len(share), length, generator)
        return output

    def _frames(self, rule: NeuralRule, rows: int, length: int, generator: torch.Generator) -> Tensor:
        side, patch = rule.side, rule.patch
        cells = torch.multinomial(rule.first, rows * side * side, replacement=True, generator=generator)
        cells = cells.view(rows, side, side)
        place_value = rule.states ** torch.arange(patch * patch, device=cells.device)
        per_frame = 1 + (side // patch) ** 2
        shown = []
        for frame in range(self.family.dropped_frames + math.ceil(length / per_frame)):
            if frame:
                cells = rule.step(cells, self.family.temperature, generator)
            if frame >= self.family.dropped_frames:
                patches = cells.unfold(1, patch, patch).unfold(2, patch, patch).flatten(3).flatten(1, 2)
                value = (patches * place_value).sum(-1)
                shown.append(F.pad(value, (1, 0), value=len(rule.symbols) - 1))
        return rule.symbols[torch.cat(shown, dim=1)[:, :length]]
