"""From numbers of words to rows of symbols: each word is spelled, perhaps a mark follows, then a blank."""

import torch
from torch import Tensor

from hf_universal_pretrain.machines.draws import uniform_between


def draw_word_lengths(
    shape: tuple[int, int], end_range: tuple[float, float], longest: int, generator: torch.Generator
) -> Tensor:
    """Draws lengths of words, int64 of shape (vocabularies, words): geometric, cut at `longest`; the chance that a
    word ends after a letter is uniform in `end_range`, one for each vocabulary."""
    end = uniform_between(*end_range, (shape[0], 1), generator).double()
    uniform = torch.rand(shape, generator=generator, device=end.device, dtype=end.dtype)
    return ((1 - uniform).log() / (1 - end).log()).long().add_(1).clamp_(max=longest)


def words_of_a_row(length: int) -> int:
    """How many words are always enough to fill a row: all but the first show at least a letter and a blank."""
    return length // 2 + 1


def spell_out(
    words: Tensor,
    length: int,
    spelling: Tensor,
    word_length: Tensor,
    mark_chance: Tensor,
    blank: Tensor,
    marks: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Writes texts out, from somewhere in their first word on.

    Args:
        words: `(rows, words_of_a_row(length))` int64, numbers of words.
        length: symbols of a row.
        spelling: `(rows, V, longest)`, the letters of the V words of each row's vocabulary, as symbols; those after a
            word's end are not used.
        word_length: `(rows, V)` int64, letters of each word, 1 to `longest`.
        mark_chance: `(rows, 1)`, chance of a mark after a word.
        blank: `(rows, 1)` int64, the symbol after every word.
        marks: `(rows, 2)` int64, the symbols of the two marks; each is as likely.
        generator: the only source of randomness.

    Returns:
        `(rows, length)` int64 symbols.
    """
    longest, device = spelling.shape[2], words.device
    uniform = torch.rand(3, *words.shape, generator=generator, device=device)
    marked = uniform[0] < mark_chance
    mark = marks.gather(1, (uniform[1] * 2).long())
    letters = word_length.gather(1, words)
    piece = letters + marked + 1  # a word, perhaps a mark, a blank
    piece_end = piece.cumsum(1)
    skipped = (uniform[2, :, :1] * piece[:, :1]).long()
    position = skipped + torch.arange(length, device=device)
    which = torch.searchsorted(piece_end, position, right=True)
    place = position - (piece_end - piece).gather(1, which)  # inside the piece
    in_spelling = words.gather(1, which) * longest + place.clamp(max=longest - 1)
    letter = spelling.flatten(1).gather(1, in_spelling).long()
    after = place - letters.gather(1, which)  # 0: the first symbol after the word
    shown_mark = (after == 0) & marked.gather(1, which)
    after_word = torch.where(shown_mark, mark.gather(1, which), blank)
    return torch.where(after < 0, letter, after_word)
