"""Two recurrent machines in one: a quick one spells words, a slow one says which word comes next.

A single recurrent machine writes rows whose structure spans two or three symbols. Here the quick machine has written
a vocabulary, once, starting anew for each word; the slow one goes a step for each word, and reads words as the quick
one reads letters. So what a row shows is structure of many symbols (its words), and above it structure of many words,
both of random networks and neither dead nor noise (see `entropy`).

Shape suffixes: M machines, V words.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from hf_universal_pretrain.machines.base import MachineFamily, equal_shares
from hf_universal_pretrain.machines.draws import uniform_between
from hf_universal_pretrain.machines.recurrent import RecurrentFamily, RecurrentMachines
from hf_universal_pretrain.machines.words import draw_word_lengths, spell_out, words_of_a_row


OUTSIDE_LETTERS = 3  # a blank and two marks


@dataclass(frozen=True)
class TwoClocksFamily(MachineFamily):
    """Pairs of random recurrent networks of one layer.

    Args:
        network: `"lstm"` or `"gru"`, of both.
        units: width of both.
        network_gain_range: effective gain of both, see `RecurrentFamily`.
        words: most words of a machine; how many it has is log-uniform from an eighth of this.
        pool_words: `words` of machines that stay (see `pooled`).
        letters_range: number of letters, log-uniform; cut to what the alphabet has beside the blank and two marks.
        letter_entropy_range: bits of the next letter while words are made up, uniform.
        word_entropy_range: bits of the next word, uniform.
        word_exponent_range: s in the frequencies (rank + 2)^-s of words, were it not for the words before; uniform.
        end_range: chance that a word ends after a letter, uniform.
        longest_word: most letters of a word.
        mark_range: chance that one of the two marks stands between a word and the blank after it, uniform.
        machines_per_round: machines drawn in a round; each serves an equal share of the rows.
    """

    network: Literal["lstm", "gru"] = "lstm"
    units: int = 64
    network_gain_range: tuple[float, float] = (1.0, 4.0)
    words: int = 64
    pool_words: int = 400
    letters_range: tuple[int, int] = (8, 48)
    letter_entropy_range: tuple[float, float] = (1.5, 3.5)
    word_entropy_range: tuple[float, float] = (2.5, 5.5)
    word_exponent_range: tuple[float, float] = (0.7, 1.4)
    end_range: tuple[float, float] = (0.12, 0.35)
    longest_word: int = 14
    mark_range: tuple[float, float] = (0.03, 0.2)
    machines_per_round: int = 8

    reads_condition: ClassVar[bool] = False
    gain_field: ClassVar[str] = "network_gain_range"

    def pooled(self) -> Self:
        return replace(self, words=self.pool_words)

    def _network(self, **settings: Any) -> RecurrentFamily:
        return RecurrentFamily(
            cell=self.network, num_layers=1, hidden_size=self.units, gain_range=self.network_gain_range,
            conditioning="none", machines_per_round=self.machines_per_round, **settings,
        )  # fmt: skip

    @cached_property
    def quick(self) -> RecurrentFamily:
        """The family of the machines that spell."""
        most = max(1, min(self.letters_range[1], self.alphabet_size - OUTSIDE_LETTERS))
        return self._network(
            alphabet_size=self.alphabet_size,
            own_symbols_range=(min(self.letters_range[0], most), most),
            entropy_range=self.letter_entropy_range,
        )

    @cached_property
    def slow(self) -> RecurrentFamily:
        """The family of the machines that order words; their symbols are numbers of words."""
        return self._network(
            alphabet_size=self.words,
            own_symbols_range=(max(1, self.words // 8), self.words),
            entropy_range=self.word_entropy_range,
            exponent_range=self.word_exponent_range,
        )

    @property
    def flops_per_symbol(self) -> int:
        """That of the slow machine, which goes a step for every second symbol (as many words as a row may need)."""
        return self.slow.flops_per_symbol // 2

    def machines_for(self, num_rows: int) -> int:
        return min(self.machines_per_round, num_rows)

    def draw(self, num_rows: int, generator: torch.Generator) -> "TwoClocks":
        """Draws min(machines_per_round, num_rows) pairs, and has their words spelled."""
        machines, device = self.machines_for(num_rows), generator.device
        quick = self.quick.draw(machines, generator)
        assert quick.symbols is not None, "an entropy is set"
        # blank and marks: what is no letter, if there is such
        free = torch.rand(machines, self.alphabet_size, generator=generator, device=device)
        free.scatter_(1, quick.symbols, -1.0)
        outside = free.topk(min(OUTSIDE_LETTERS, self.alphabet_size), dim=1).indices
        outside = outside[:, torch.arange(OUTSIDE_LETTERS, device=device) % outside.shape[1]]
        # every word begins after a blank
        start = outside[:, :1].repeat_interleave(self.words, 0)
        spelled = quick.generate(start, start.expand(-1, self.longest_word + 1), generator)[:, 1:]
        slow = self.slow.draw(machines, generator)
        return TwoClocks(
            **vars(slow),
            spelling=spelled.view(machines, self.words, self.longest_word).to(torch.int16),
            word_length=draw_word_lengths((machines, self.words), self.end_range, self.longest_word, generator),
            mark_chance=uniform_between(*self.mark_range, (machines, 1), generator),
            blank=outside[:, :1],
            marks=outside[:, 1:],
        )


@dataclass(kw_only=True)
class TwoClocks(RecurrentMachines):
    """M machines that order words (see `RecurrentMachines`, of which the symbols are numbers of words), with the words
    that quick machines spelled.

    Args:
        spelling: `(M, V, longest)` int16; this and the following see `spell_out`.
        word_length: `(M, V)` int64.
        mark_chance: `(M, 1)`.
        blank: `(M, 1)` int64.
        marks: `(M, 2)` int64.
    """

    spelling: Tensor
    word_length: Tensor
    mark_chance: Tensor
    blank: Tensor
    marks: Tensor

    @torch.no_grad()
    def generate(self, seeds: Tensor, conditions: Tensor, generator: torch.Generator) -> Tensor:
        """Makes rows that start in the middle of a word; seeds and conditions give the shape only."""
        (rows, length), device = conditions.shape, conditions.device
        count = words_of_a_row(length)
        # a word that is not shown comes first: any, be it one that the machine does not use
        first = torch.randint(self.family.alphabet_size, (rows, 1), generator=generator, device=device)
        words = super().generate(first, first.expand(-1, count + 1), generator)[:, 1:]
        share = equal_shares(rows, len(self.gain), device)
        machine = torch.arange(share.shape[0], device=device).repeat_interleave(share.shape[1])[:rows]
        return spell_out(
            words, length, self.spelling[machine], self.word_length[machine], self.mark_chance[machine],
            self.blank[machine], self.marks[machine], generator,
        )  # fmt: skip
