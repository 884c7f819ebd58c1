"""Random languages: words of letters that follow a sound chain, in sentences that follow Zipf's law.

A language has an alphabet of its own, a vocabulary whose words are spelled by an order-1 chain over the letters, word
frequencies after Zipf and Mandelbrot (1953), and classes of words that follow each other in a chain of their own. A
row is a piece of a text in it. The prior is ours: it has what a model of text learns first (which letters follow each
other, where words end, which words there are, what follows what), each in a form that a small model can learn.

Shape suffixes: M languages (one a row), V words, C classes, L letters, T words of a text.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from hf_universal_pretrain.machines.base import MachineFamily
from hf_universal_pretrain.machines.draws import (
    dirichlet,
    inverse_cdf,
    log_uniform,
    log_uniform_int,
    random_injections,
    uniform_between,
)
from hf_universal_pretrain.machines.words import draw_word_lengths, spell_out, words_of_a_row


OUTSIDE_LETTERS = 3  # a blank and two marks


@dataclass(frozen=True)
class LanguageFamily(MachineFamily):
    """Random languages, a new one for every row.

    Args:
        words: most words of a language; how many it has is log-uniform from an eighth of this. The default is for
            languages that a single row shows.
        pool_words: `words` of languages that stay (see `pooled`).
        letters_range: number of letters, log-uniform; cut to what the alphabet has beside the blank and two marks. In
            an alphabet of fewer than 4 symbols some of these four share one.
        sound_range: concentration of the letters that follow a letter, log-uniform: small values make near-fixed
            spellings.
        end_range: chance that a word ends after a letter, uniform.
        longest_word: most letters of a word.
        exponent_range: s in the frequency (rank + 2)^-s of a word, uniform, ranks from 1.
        classes_range: number of classes, uniform; every class has a word.
        class_range: concentration of the classes that follow a class, log-uniform.
        burst_range: chance that a word is one that the row has had, each occurrence being as likely; uniform.
        mark_range: chance that one of the two marks stands between a word and the blank after it, uniform.
    """

    words: int = 64
    pool_words: int = 400
    letters_range: tuple[int, int] = (8, 48)
    sound_range: tuple[float, float] = (0.05, 0.5)
    end_range: tuple[float, float] = (0.12, 0.35)
    longest_word: int = 14
    exponent_range: tuple[float, float] = (0.7, 1.4)
    classes_range: tuple[int, int] = (1, 8)
    class_range: tuple[float, float] = (0.1, 1.0)
    burst_range: tuple[float, float] = (0.0, 0.5)
    mark_range: tuple[float, float] = (0.03, 0.2)

    reads_condition: ClassVar[bool] = False
    flops_per_symbol: ClassVar[int] = 0

    def pooled(self) -> Self:
        return replace(self, words=self.pool_words)

    def draw(self, num_rows: int, generator: torch.Generator) -> "Languages":
        """Draws `num_rows` languages."""
        each = (num_rows, 1)
        most_letters = max(1, min(self.letters_range[1], self.alphabet_size - OUTSIDE_LETTERS))
        letters = log_uniform_int(min(self.letters_range[0], most_letters), most_letters, each, generator)
        symbols = random_injections(
            num_rows, min(most_letters + OUTSIDE_LETTERS, self.alphabet_size), self.alphabet_size, generator
        )
        # letters first, then blank and marks; these begin anew where the alphabet has too few symbols
        outside = (letters + torch.arange(OUTSIDE_LETTERS, device=letters.device)) % symbols.shape[1]
        outside = symbols.gather(1, outside)

        least, most_classes = max(1, self.words // 8), min(self.classes_range[1], self.words)
        words = log_uniform_int(least, self.words, each, generator)
        classes = uniform_between(self.classes_range[0], most_classes + 1, each, generator).long()
        classes = torch.minimum(classes.clamp_(max=most_classes), words)  # rounding may reach the upper end
        class_of, weight = self._vocabulary(words, classes, generator)
        cumulative = weight.cumsum(1)
        # where the words of a class begin and end in it: classes lie side by side
        edges = torch.zeros(num_rows, most_classes + 1, dtype=weight.dtype, device=weight.device)
        edges[:, 1:] = edges[:, 1:].scatter_add(1, class_of.clamp(max=most_classes - 1), weight).cumsum(1)
        alpha = log_uniform(*self.class_range, (num_rows, 1, 1), generator).expand(-1, most_classes, most_classes)
        return Languages(
            spelling=self._spell(symbols, letters, generator),
            word_length=draw_word_lengths((num_rows, self.words), self.end_range, self.longest_word, generator),
            cumulative=cumulative,
            class_of=class_of.clamp_(max=most_classes - 1),
            edges=edges,
            next_class=dirichlet(alpha, classes.unsqueeze(-1), generator).cumsum(-1),
            classes=classes,
            burst=uniform_between(*self.burst_range, each, generator),
            mark_chance=uniform_between(*self.mark_range, each, generator),
            blank=outside[:, :1],
            marks=outside[:, 1:],
        )

    def _vocabulary(self, words: Tensor, classes: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The class and the frequency of each word, `(M, V)`, in the order of classes; places without a word come
        last, with class C and frequency 0."""
        place = torch.arange(self.words, device=words.device)
        exponent = uniform_between(*self.exponent_range, words.shape, generator)
        weight = torch.where(place < words, (place + 3.0) ** -exponent, 0.0).double()
        chance = torch.rand(len(words), self.words, generator=generator, device=words.device)
        class_of = torch.where(place < classes, place, (chance * classes).long())  # the first words: one in each class
        class_of = torch.where(place < words, class_of, classes.amax())
        class_of, order = class_of.sort(dim=1, stable=True)
        weight = weight.gather(1, order)
        return class_of, weight / weight.sum(1, keepdim=True)

    def _spell(self, symbols: Tensor, letters: Tensor, generator: torch.Generator) -> Tensor:
        """Letters of each word, as many as the longest may have, as symbols of the alphabet: `(M, V, longest)`."""
        (count, most), device = (len(letters), int(symbols.shape[1])), letters.device
        alpha = log_uniform(*self.sound_range, (count, 1, 1), generator).expand(-1, most + 1, most)
        chain = dirichlet(alpha, letters.unsqueeze(-1), generator).cumsum(-1)  # row `most` is a word's beginning
        # All rows in one sorted line: row r lies between r and r + 1, so that one search serves every word.
        line = (chain.flatten(0, 1) + torch.arange(count * (most + 1), device=device).unsqueeze(1)).flatten()
        uniform = torch.rand(
            self.longest_word, count, self.words, generator=generator, device=device, dtype=line.dtype
        )
        first_row = (torch.arange(count, device=device) * (most + 1)).unsqueeze(1)
        letter = torch.full((count, self.words), most, device=device)
        spelling = torch.empty(count, self.longest_word, self.words, dtype=torch.int64, device=device)
        for place in range(self.longest_word):
            row = first_row + letter
            letter = torch.searchsorted(line, row + uniform[place], right=True) - row * most
            letter = torch.minimum(letter, letters - 1)  # rounding may put a value on the row's end
            spelling[:, place] = letter
        symbol = symbols.gather(1, spelling.flatten(1)).view_as(spelling)
        return symbol.transpose(1, 2).to(torch.int16).contiguous()  # an alphabet has at most 32,768 symbols


@dataclass
class Languages:
    """One language a row. Words are numbered in the order of their classes; those that a language lacks have
    frequency 0.

    Args:
        spelling: `(M, V, longest)` int16, the letters of each word as symbols; those after its end are not used.
        word_length: `(M, V)` int64, letters of each word.
        cumulative: `(M, V)` float64, cumulative frequencies of the words.
        class_of: `(M, V)` int64.
        edges: `(M, C + 1)` float64, the values of `cumulative` between which the words of each class lie.
        next_class: `(M, C, C)` float64, cumulative probabilities of the class that follows a class.
        classes: `(M, 1)` int64, how many of the C classes are used; the first is drawn uniformly.
        burst: `(M, 1)`, chance that a word is one that the row has had.
        mark_chance: `(M, 1)`, chance of a mark after a word.
        blank: `(M, 1)` int64, the symbol after every word.
        marks: `(M, 2)` int64, the symbols of the marks.
    """

    spelling: Tensor
    word_length: Tensor
    cumulative: Tensor
    class_of: Tensor
    edges: Tensor
    next_class: Tensor
    classes: Tensor
    burst: Tensor
    mark_chance: Tensor
    blank: Tensor
    marks: Tensor

    @torch.no_grad()
    def generate(self, seeds: Tensor, conditions: Tensor, generator: torch.Generator) -> Tensor:
        """Makes rows that start in the middle of a word; seeds and conditions give the shape only."""
        length = conditions.shape[1]
        words = self.write_words(words_of_a_row(length), generator)
        return spell_out(
            words, length, self.spelling, self.word_length, self.mark_chance, self.blank, self.marks, generator
        )

    def write_words(self, count: int, generator: torch.Generator) -> Tensor:
        """A text of each language as numbers of words, `(M, count)` int64."""
        languages, device = len(self.classes), self.classes.device
        uniform = torch.rand(count, 4, languages, 1, generator=generator, device=device, dtype=torch.float64)
        start = torch.rand(languages, 1, generator=generator, device=device)
        each = torch.arange(languages, device=device)
        word_class = (start * self.classes).long()
        words = torch.zeros(languages, count, dtype=torch.int64, device=device)
        for t in range(count):
            chosen, within, again, which = uniform[t]
            word_class = inverse_cdf(self.next_class[each, word_class[:, 0]], chosen).unsqueeze(1)
            low, high = self.edges.gather(1, word_class), self.edges.gather(1, word_class + 1)
            # rounding may reach the last edge, where no word is
            word = torch.searchsorted(self.cumulative, low + within * (high - low), right=True)
            word.clamp_(max=self.cumulative.shape[1] - 1)
            if t:
                word = torch.where(again < self.burst, words.gather(1, (which * t).long()), word)
                word_class = self.class_of.gather(1, word)
            words[:, t : t + 1] = word
        return words
