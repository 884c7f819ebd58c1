"""Random rewriting of a row of the buffer: interleaved, reordered, made longer and shorter, its symbols replaced.

Rows pass through machine after machine, so that what other families have written comes back in a form whose origin
has to be found out: the words of a language in another order, backwards, in another alphabet, with something between
them. The replacing is done by a random finite-state transducer (a Mealy machine), which is not one map of symbols but
several, and goes from one to another by what it reads.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hf_universal_pretrain.machines.base import MachineFamily
from hf_universal_pretrain.machines.draws import log_uniform, log_uniform_int, uniform_between


CUT, SWAP, DROP, INSERT = range(4)  # what may happen at a symbol


@dataclass(frozen=True)
class RewriteFamily(MachineFamily):
    """Random rewriting machines, a new one for every row.

    A machine does each of six things, or not: interleave, move and reverse segments, swap neighbours, drop, insert,
    replace. In half of the machines the places of cuts, swaps, drops and insertions follow a rule: they are at certain
    symbols, always. In the others they are anywhere, by chance.

    Args:
        active_share: chance that a machine does a thing at all, for each of the six.
        ruled_share: share of the machines that follow a rule.
        interleave_range: chance at each symbol to go over to the other row, log-uniform; the other row is the
            condition of the row before.
        segment_range: mean length of the segments that a row is cut into, log-uniform.
        reverse_range: chance that a segment is reversed, uniform.
        move_range: how many segments a segment may move back at most, uniform.
        swap_range: chance that two neighbours are swapped, uniform.
        drop_range: chance that a symbol is left out, uniform.
        insert_range: chance that a symbol stands after a symbol that was not there, uniform; which, is decided by the
            symbol before.
        states_range: states of the transducer, log-uniform.
        replace_range: share of the symbols that a state replaces, uniform.
        one_to_one_share: share of the machines whose states replace different symbols by different ones, as far as
            all are replaced; in the others each image is drawn by itself.
        switch_range: share of the symbols at which a state is left for another, uniform.
    """

    active_share: float = 0.5
    ruled_share: float = 0.5
    interleave_range: tuple[float, float] = (0.02, 0.5)
    segment_range: tuple[float, float] = (4.0, 64.0)
    reverse_range: tuple[float, float] = (0.0, 1.0)
    move_range: tuple[float, float] = (0.0, 6.0)
    swap_range: tuple[float, float] = (0.0, 0.5)
    drop_range: tuple[float, float] = (0.0, 0.3)
    insert_range: tuple[float, float] = (0.0, 0.3)
    states_range: tuple[int, int] = (1, 4)
    replace_range: tuple[float, float] = (0.0, 1.0)
    one_to_one_share: float = 0.5
    switch_range: tuple[float, float] = (0.0, 0.3)

    reads_condition: ClassVar[bool] = True
    flops_per_symbol: ClassVar[int] = 0

    def draw(self, num_rows: int, generator: torch.Generator) -> "Rewriters":
        device, alphabet, each = generator.device, self.alphabet_size, (num_rows, 1)

        def chance(*shape: int) -> Tensor:
            return torch.rand(num_rows, *shape, generator=generator, device=device)

        interleaves, moves, swaps, drops, inserts, replaces = (chance(6, 1) < self.active_share).unbind(1)
        reverse = uniform_between(*self.reverse_range, each, generator)
        move = uniform_between(*self.move_range, each, generator)
        at_symbol = torch.cat(
            [
                1 / log_uniform(*self.segment_range, each, generator),
                uniform_between(*self.swap_range, each, generator) * swaps,
                uniform_between(*self.drop_range, each, generator) * drops,
                uniform_between(*self.insert_range, each, generator) * inserts,
            ],
            dim=1,
        )
        most_states = self.states_range[1]
        states = log_uniform_int(*self.states_range, (num_rows, 1, 1), generator)
        one_to_one = chance(1, 1) < self.one_to_one_share
        scores = chance(most_states, alphabet)
        image = torch.where(one_to_one, scores.argsort(-1), (scores * alphabet).long().clamp_(max=alphabet - 1))
        replaced = chance(most_states, alphabet) < uniform_between(*self.replace_range, (num_rows, 1, 1), generator)
        symbols = torch.arange(alphabet, device=device)
        image = torch.where(replaced & replaces.unsqueeze(-1), image, symbols)
        switches = chance(most_states, alphabet) < uniform_between(*self.switch_range, (num_rows, 1, 1), generator)
        other_state = (chance(most_states, alphabet) * states).long()
        same_state = torch.arange(most_states, device=device).unsqueeze(1)
        return Rewriters(
            interleave=log_uniform(*self.interleave_range, each, generator) * interleaves,
            reverse=reverse * moves,
            move=move * moves,
            ruled=chance(1) < self.ruled_share,
            chance=at_symbol,
            rule=chance(4, alphabet) < at_symbol.unsqueeze(-1),
            inserted=(chance(alphabet) * alphabet).long().clamp_(max=alphabet - 1).to(torch.int16),
            image=image.to(torch.int16),  # an alphabet has at most 32,768 symbols
            next_state=torch.where(switches, other_state, same_state).to(torch.int16),
        )


@dataclass
class Rewriters:
    """One machine a row.

    Args:
        interleave: `(M, 1)`, chance at each symbol to go over to the other row; 0: not interleaved.
        reverse: `(M, 1)`, chance that a segment is reversed.
        move: `(M, 1)`, by how many segments a segment may move at most.
        ruled: `(M, 1)` bool, whether `rule` counts, and not `chance`.
        chance: `(M, 4)`, chance that a symbol ends a segment, is swapped with the next, dropped, followed by another.
        rule: `(M, 4, alphabet_size)` bool, the symbols at which this happens.
        inserted: `(M, alphabet_size)` int16, the symbol that is inserted after a symbol.
        image: `(M, S, alphabet_size)` int16, what a symbol is replaced by in each state.
        next_state: `(M, S, alphabet_size)` int16, the state after a symbol; the first is 0.
    """

    interleave: Tensor
    reverse: Tensor
    move: Tensor
    ruled: Tensor
    chance: Tensor
    rule: Tensor
    inserted: Tensor
    image: Tensor
    next_state: Tensor

    @torch.no_grad()
    def generate(self, seeds: Tensor, conditions: Tensor, generator: torch.Generator) -> Tensor:
        """Rewrites the conditions; there is nothing to seed. A row that has become longer is cut, one that has become
        shorter begins again."""
        uniform = torch.rand(7, *conditions.shape, generator=generator, device=conditions.device)
        parity = torch.randint(2, (len(conditions), 1), generator=generator, device=conditions.device)
        symbols = self._interleaved(conditions, uniform[0])
        symbols = self._moved(symbols, *uniform[1:4])
        symbols = self._swapped(symbols, uniform[4], parity)
        symbols = self._dropped_and_inserted(symbols, uniform[5], uniform[6])
        return self._replaced(symbols)

    def _happens(self, what: int, symbols: Tensor, uniform: Tensor) -> Tensor:
        by_rule = self.rule[:, what].gather(1, symbols)
        return torch.where(self.ruled, by_rule, uniform < self.chance[:, what : what + 1])

    def _interleaved(self, symbols: Tensor, uniform: Tensor) -> Tensor:
        """Each row with the one before it (the first with the last): reads on in one, then on in the other."""
        in_other = (uniform < self.interleave).cumsum(1) % 2
        read_in_other = in_other.cumsum(1)
        read_in_own = torch.arange(symbols.shape[1], device=symbols.device) - read_in_other
        other = symbols.roll(1, 0).gather(1, (read_in_other - 1).clamp_(min=0))
        return torch.where(in_other == 1, other, symbols.gather(1, read_in_own.clamp_(min=0)))

    def _moved(self, symbols: Tensor, cut: Tensor, turn: Tensor, step: Tensor) -> Tensor:
        """Segments, each of which ends after a symbol at which the row is cut, reversed and in another order."""
        ends = self._happens(CUT, symbols, cut).long()
        segment = ends.cumsum(1) - ends
        place = torch.arange(symbols.shape[1], device=symbols.device).expand_as(symbols)
        begins = torch.ones_like(ends, dtype=torch.bool)
        begins[:, 1:] = ends[:, :-1] == 1
        start = torch.where(begins, place, 0).cummax(1).values  # what holds for a segment was drawn where it begins
        inside = torch.where(turn.gather(1, start) < self.reverse, -place, place)
        where_to = segment + step.gather(1, start).double() * (1 + self.move)  # with 0, segments stay in order
        order = inside.argsort(dim=1, stable=True)
        order = order.gather(1, where_to.gather(1, order).argsort(dim=1, stable=True))
        return symbols.gather(1, order)

    def _swapped(self, symbols: Tensor, uniform: Tensor, parity: Tensor) -> Tensor:
        """Pairs of neighbours, the first at places of a parity."""
        length = symbols.shape[1]
        place = torch.arange(length, device=symbols.device)
        first = self._happens(SWAP, symbols, uniform) & (place % 2 == parity) & (place < length - 1)
        second = first.roll(1, 1)  # no pair begins at the last place
        return symbols.gather(1, place + first.long() - second.long())

    def _dropped_and_inserted(self, symbols: Tensor, drop: Tensor, insert: Tensor) -> Tensor:
        dropped = self._happens(DROP, symbols, drop)
        dropped &= ~dropped.all(1, keepdim=True)  # something has to be left
        followed = self._happens(INSERT, symbols, insert) & ~dropped
        count = 1 - dropped.long() + followed.long()
        end = count.cumsum(1)
        position = torch.arange(symbols.shape[1], device=symbols.device) % end[:, -1:]
        which = torch.searchsorted(end, position, right=True)
        is_new = position - (end - count).gather(1, which) == 1
        symbol = symbols.gather(1, which)
        return torch.where(is_new, self.inserted.gather(1, symbol).long(), symbol)

    def _replaced(self, symbols: Tensor) -> Tensor:
        """What the transducer writes for each symbol."""
        alphabet = self.image.shape[2]
        image, next_state = self.image.flatten(1), self.next_state.flatten(1)
        state = torch.zeros_like(symbols[:, :1])
        entries = torch.empty_like(symbols)
        for t in range(symbols.shape[1]):
            entry = torch.add(symbols[:, t : t + 1], state, alpha=alphabet)
            entries[:, t : t + 1] = entry
            state = next_state.gather(1, entry).long()
        return image.gather(1, entries).long()
