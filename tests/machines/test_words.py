import torch
from torch import Tensor

from hf_universal_pretrain.machines.words import draw_word_lengths, spell_out, words_of_a_row


def plain(words: Tensor, length: int, vocabulary: tuple[Tensor, ...], generator: torch.Generator) -> list[list[int]]:
    """Word by word, letter by letter, with the same random numbers."""
    spelling, word_length, mark_chance, blank, marks = vocabulary
    has_mark, which_mark, skip = torch.rand(3, *words.shape, generator=generator)
    rows = []
    for r, row in enumerate(words.tolist()):
        text: list[int] = []
        for t, word in enumerate(row):
            piece = spelling[r, word, : word_length[r, word]].tolist()
            if has_mark[r, t] < mark_chance[r, 0]:
                piece.append(marks[r, int(which_mark[r, t] >= 0.5)].item())
            piece.append(blank[r, 0].item())
            text += piece[int(skip[r, 0] * len(piece)) :] if t == 0 else piece
        rows.append(text[:length])
    return rows


def test_against_a_plain_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    vocabulary = (
        torch.randint(3, 90, (8, 20, 6), generator=generator).to(torch.int16),
        torch.randint(1, 7, (8, 20), generator=generator),
        torch.rand(8, 1, generator=generator),
        torch.randint(3, (8, 1), generator=generator),
        torch.randint(90, 99, (8, 2), generator=generator),
    )
    for length in (1, 2, 9, 64):
        words = torch.randint(20, (8, words_of_a_row(length)), generator=generator)
        rows = spell_out(words, length, *vocabulary, torch.Generator().manual_seed(length))
        assert rows.shape == (8, length) and rows.dtype == torch.int64
        assert rows.tolist() == plain(words, length, vocabulary, torch.Generator().manual_seed(length))


def test_the_shortest_words_fill_a_row() -> None:
    """Words of one letter without marks, the first left out but for its blank."""
    for length in (1, 2, 7, 8):
        words = torch.zeros(500, words_of_a_row(length), dtype=torch.int64)
        spelling, one = torch.full((500, 1, 3), 5), torch.ones(500, 1, dtype=torch.int64)
        rows = spell_out(
            words, length, spelling, one, torch.zeros(500, 1), 7 * one, one.expand(-1, 2), torch.Generator()
        )
        assert {(5, 7), (7, 5)} >= {tuple(row[:2]) for row in rows.tolist()} or length == 1
        assert set(rows.flatten().tolist()) == {5, 7}


def test_word_lengths_are_geometric() -> None:
    lengths = draw_word_lengths((50, 400), (0.25, 0.25), 9, torch.Generator().manual_seed(0))
    seen = torch.bincount(lengths.flatten(), minlength=10)[1:] / lengths.numel()
    expected = 0.25 * 0.75 ** torch.arange(9.0)
    expected[-1] = 0.75**8  # all that would be longer
    assert (seen - expected).abs().max() < 4 * (0.25 / lengths.numel()) ** 0.5
    assert draw_word_lengths((200, 50), (0.1, 0.9), 14, torch.Generator().manual_seed(0)).double().mean(1).std() > 0.5
