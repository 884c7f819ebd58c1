"""Sentences of random probabilistic context-free grammars of the size of the Penn Treebank's."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hf_universal_pretrain.machines.base import MachineFamily, equal_shares
from hf_universal_pretrain.machines.draws import inverse_cdf


@dataclass(frozen=True)
class GrammarFamily(MachineFamily):
    """Random context-free grammars, sentence after sentence; each serves an equal share of the rows.

    A grammar has phrases (the Penn Treebank has 26 kinds), tags (parts of speech; it has 45) and words. A phrase
    becomes one of its rules' right sides: one to `max_children` tags and phrases. A tag becomes one of its words, and
    each word has one tag. Every sentence starts from phrase 0 and ends with a full stop, the alphabet's last symbol.
    A quarter of each phrase's rules have tags alone; a phrase at the greatest depth takes one of these.

    With the default of 2,152 rules for phrases and 512 words, of which each is a rule of its tag, a grammar has 2,664
    rules. A smaller alphabet has fewer words.

    Args:
        phrases: kinds of phrases.
        tags: kinds of words; cut to the number of words.
        words: words; cut to the alphabet less the full stop.
        phrase_rules: rules of all phrases together, spread evenly.
        max_children: most children of a phrase; their number is uniform from 1 on.
        phrase_share: chance that a child is a phrase, in rules that may have phrases.
        max_depth: deepest phrase; a sentence's first one has depth 1.
        exponent: s in the weights rank^-s of a phrase's rules and of a tag's words; 0: all alike, 1: Zipf's law.
        machines_per_round: grammars drawn in a round.
    """

    phrases: int = 26
    tags: int = 45
    words: int = 512
    phrase_rules: int = 2152
    max_children: int = 5
    phrase_share: float = 0.4
    max_depth: int = 16
    exponent: float = 1.0
    machines_per_round: int = 8

    reads_condition: ClassVar[bool] = False
    flops_per_symbol: ClassVar[int] = 0

    def machines_for(self, num_rows: int) -> int:
        return min(self.machines_per_round, num_rows)

    def draw(self, num_rows: int, generator: torch.Generator) -> "Grammars":
        machines, device = self.machines_for(num_rows), generator.device
        words = min(self.words, self.alphabet_size - 1)
        tags = min(self.tags, words)
        each = math.ceil(self.phrase_rules / self.phrases)
        shape = (machines, self.phrases, each, self.max_children)

        def uniform(*size: int) -> Tensor:
            return torch.rand(size, generator=generator, device=device)

        child_tag = (uniform(*shape) * tags).long()
        child_phrase = tags + (uniform(*shape) * self.phrases).long()
        closed = torch.arange(each, device=device).view(-1, 1) < self.closed_rules
        children = torch.where((uniform(*shape) < self.phrase_share) & ~closed, child_phrase, child_tag)
        count = 1 + (uniform(*shape[:-1], 1) * self.max_children).long()
        children = torch.where(torch.arange(self.max_children, device=device) < count, children, -1)
        # the closed rules come first in the table, but are no likelier: ranks are dealt out at random
        rank = uniform(*shape[:-1]).argsort(-1) + 1.0
        number = torch.arange(self.phrases, device=device).view(-1, 1) + self.phrases * torch.arange(
            each, device=device
        )
        weight = torch.where(number < self.phrase_rules, rank.double() ** -self.exponent, 0.0)
        # words lie tag by tag: each tag has one, the others fall where they fall
        more = (uniform(machines, words - tags) * tags).long()
        all_tags = torch.arange(tags, device=device).expand(machines, tags)
        tag_of_word = torch.cat([all_tags, more], dim=1).sort(-1).values
        first = torch.searchsorted(tag_of_word, all_tags.contiguous())
        rank_in_tag = torch.arange(words, device=device) - first.gather(1, tag_of_word) + 1
        order = uniform(machines, self.alphabet_size - 1).argsort(-1)
        return Grammars(
            family=self,
            children=children,
            cumulative=weight.cumsum(-1) / weight.sum(-1, keepdim=True),
            first_word=torch.cat([first, torch.full((machines, 1), words, device=device)], dim=1),
            word_cumulative=(rank_in_tag.double() ** -self.exponent).cumsum(-1),
            symbols=order[:, :words],
        )

    @property
    def closed_rules(self) -> int:
        """Of the rules of a phrase, how many have tags alone whatever is drawn; they come first."""
        return max(1, self.phrase_rules // self.phrases // 4)


@dataclass
class Grammars:
    """M grammars of P phrases, T tags and W words. Of a rule's children, 0 to T - 1 are tags, T to T + P - 1 phrases.

    Args:
        children: `(M, P, rules, max_children)`, -1 behind the last.
        cumulative: `(M, P, rules)` float64, cumulative chances of a phrase's rules.
        first_word: `(M, T + 1)`: tag t has the words from `first_word[t]` to `first_word[t + 1]` - 1.
        word_cumulative: `(M, W)` float64, cumulative weights of all words.
        symbols: `(M, W)`, the symbol of each word.
    """

    family: GrammarFamily
    children: Tensor
    cumulative: Tensor
    first_word: Tensor
    word_cumulative: Tensor
    symbols: Tensor

    def rules(self) -> int:
        """How many rules a grammar has: those of its phrases with a weight above 0, and one for each word."""
        chances = self.cumulative[0].diff(dim=-1, prepend=torch.zeros_like(self.cumulative[0, :, :1]))
        return int((chances > 0).sum()) + self.symbols.shape[1]

    @torch.no_grad()
    def generate(self, seeds: Tensor, conditions: Tensor, generator: torch.Generator) -> Tensor:
        """Makes rows, a step of the derivation at a time; seeds and conditions give the shape only."""
        rows, length = conditions.shape
        device, most = conditions.device, self.family.max_depth
        share = equal_shares(rows, len(self.children), device)
        machine = torch.arange(len(self.children), device=device).repeat_interleave(share.shape[1])[:rows]
        tags, wide = self.first_word.shape[1] - 1, self.family.max_children
        closed = self.family.closed_rules
        # what is still to be derived, the next on top, and how deep each of it lies
        room = most * (wide - 1) + 2 * wide
        stack = torch.zeros(2, rows, room, dtype=torch.int64, device=device)
        stack[0, :, 0], stack[1, :, 0] = tags, 1
        height = torch.ones(rows, 1, dtype=torch.int64, device=device)
        output = torch.zeros(rows, length + 1, dtype=torch.int64, device=device)
        written = torch.zeros(rows, 1, dtype=torch.int64, device=device)
        place = torch.arange(wide, device=device)
        cumulative, symbols = self.word_cumulative[machine], self.symbols[machine]
        uniform = torch.empty(0)
        step = 0
        while int(written.min()) < length:
            if step % 64 == 0:
                uniform = torch.rand(64, rows, 1, generator=generator, device=device, dtype=torch.float64)
            u = uniform[step % 64]
            step += 1
            ends = height == 0
            top = (height - 1).clamp(min=0)
            node, depth = stack[0].gather(1, top), stack[1].gather(1, top)
            is_tag = (node < tags) & ~ends
            # a word: the tag's part of the cumulative weights, in which u falls somewhere
            tag = node.clamp(max=tags - 1)
            first = self.first_word[machine.unsqueeze(1), tag]
            last = self.first_word[machine.unsqueeze(1), tag + 1]
            below = torch.where(first > 0, cumulative.gather(1, (first - 1).clamp(min=0)), 0.0)
            aim = below + u * (cumulative.gather(1, last - 1) - below)
            word = torch.searchsorted(cumulative, aim, right=True).clamp_(min=first, max=last - 1)
            symbol = torch.where(ends, self.family.alphabet_size - 1, symbols.gather(1, word))
            output.scatter_(1, written, torch.where(is_tag | ends, symbol, output.gather(1, written)))
            written = (written + (is_tag | ends)).clamp_(max=length)
            # a phrase: the children of one of its rules, the first on top
            phrase = (node - tags).clamp(min=0).squeeze(1)
            chances = self.cumulative[machine, phrase]
            aim = torch.where(depth >= most, u * chances[:, closed - 1 : closed], u)
            children = self.children[machine, phrase, inverse_cdf(chances, aim)]
            count = (children >= 0).sum(-1, keepdim=True)
            is_phrase = ~is_tag & ~ends
            into = (top + count - 1 - place).clamp(min=0)
            put = is_phrase & (place < count)
            # what is not put goes to the last place, which is never read
            into = torch.where(put, into, room - 1)
            stack[0].scatter_(1, into, children)
            stack[1].scatter_(1, into, (depth + 1).expand(-1, wide).contiguous())
            height = torch.where(is_phrase, top + count, top)
            # after the full stop comes the next sentence
            height = torch.where(ends, 1, height)
            stack[0, :, :1] = torch.where(ends, tags, stack[0, :, :1])
            stack[1, :, :1] = torch.where(ends, 1, stack[1, :, :1])
        return output[:, :length]
