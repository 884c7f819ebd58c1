from dataclasses import fields

import torch
from torch import Tensor

from hf_universal_pretrain.machines.language import LanguageFamily, Languages


def take(languages: Languages, which: Tensor) -> Languages:
    return Languages(**{field.name: getattr(languages, field.name)[which] for field in fields(Languages)})


def draw(count: int, rows_each: int, seed: int = 0, **settings) -> Languages:
    """Some languages, each for several rows."""
    languages = LanguageFamily(**settings).draw(count, torch.Generator().manual_seed(seed))
    return take(languages, torch.arange(count).repeat_interleave(rows_each))


def write(languages: Languages, length: int, seed: int = 1) -> Tensor:
    zeros = torch.zeros(len(languages.classes), length, dtype=torch.int64)
    return languages.generate(zeros[:, :1], zeros, torch.Generator().manual_seed(seed))


def vocabulary(languages: Languages, which: int) -> list[tuple[int, ...]]:
    lengths = languages.word_length[which].tolist()
    return [tuple(word[:n]) for word, n in zip(languages.spelling[which].tolist(), lengths, strict=True)]


def frequencies(languages: Languages, which: int) -> Tensor:
    return languages.cumulative[which].diff(prepend=torch.zeros(1))


def pieces(row: list[int], blank: int) -> list[tuple[int, ...]]:
    """What stands between blanks, less the first and the last piece, which may be cut."""
    found: list[list[int]] = [[]]
    for symbol in row:
        if symbol == blank:
            found.append([])
        else:
            found[-1].append(symbol)
    return [tuple(piece) for piece in found[1:-1]]


def test_rows_are_what_a_plain_loop_writes() -> None:
    """Words written out letter by letter, with the same random numbers."""
    languages = draw(30, 1)
    length = 70
    generator = torch.Generator().manual_seed(1)
    words = languages.write_words(length // 2 + 1, generator)
    has_mark, which_mark, skip = torch.rand(3, *words.shape, generator=generator)
    rows = write(languages, length)
    for r, row in enumerate(rows.tolist()):
        spelled, text = vocabulary(languages, r), []
        for t, word in enumerate(words[r].tolist()):
            piece = list(spelled[word])
            if has_mark[r, t] < languages.mark_chance[r]:
                piece.append(languages.marks[r, int(which_mark[r, t] >= 0.5)].item())
            piece.append(languages.blank[r].item())
            text += piece[int(skip[r, 0] * len(piece)) :] if t == 0 else piece
        assert row == text[:length]


def test_words_of_a_row_are_words_of_its_language() -> None:
    """Between two blanks stands a word, or a word and a mark; its letters are not those of blank and marks."""
    languages = draw(20, 1)
    assert languages.spelling.shape == (20, 64, 14)
    for r, row in enumerate(write(languages, 400).tolist()):
        words = set(vocabulary(languages, r)[: int((frequencies(languages, r) > 0).sum())])
        marks, blank = languages.marks[r].tolist(), languages.blank[r].item()
        assert len({blank, *marks, *(letter for word in words for letter in word)}) >= 3 + 4
        assert not {blank, *marks} & {letter for word in words for letter in word}
        found = pieces(row, blank)
        assert len(found) > 20
        for piece in found:
            assert (piece[:-1] if piece[-1] in marks else piece) in words


def test_sizes_are_drawn_as_said() -> None:
    """Words log-uniform from an eighth of the most, letters from 8 to 48, 14 letters a word at most."""
    languages = draw(2000, 1)
    words = (languages.cumulative.diff(prepend=torch.zeros(2000, 1)) > 0).sum(1).double()
    assert words.min() >= 8 and words.max() == 64
    assert abs(words.log2().mean() - 4.5) < 0.1  # between 3 and 6
    assert languages.word_length.min() == 1 and languages.word_length.max() == 14
    assert abs(languages.classes.double().mean() - 4.5) < 0.2 and languages.classes.min() == 1
    assert languages.spelling.min() >= 0 and languages.spelling.max() == 255
    pooled = LanguageFamily().pooled()
    assert pooled == LanguageFamily(words=400) and pooled.draw(3, torch.Generator()).cumulative.shape == (3, 400)


def test_frequencies_follow_the_zipf_law() -> None:
    """(rank + 2)^-s, in the language and in what is written: within four standard errors."""
    languages = draw(
        1, 300, words=40, exponent_range=(1.2, 1.2), classes_range=(1, 1), burst_range=(0.0, 0.0)
    )  # fmt: skip
    weight = frequencies(languages, 0)
    ranked = weight.sort(descending=True).values
    count = int((weight > 0).sum())
    law = (torch.arange(1, count + 1) + 2.0).double() ** -1.2
    assert torch.allclose(ranked[:count], law / law.sum(), rtol=1e-5)
    words = languages.write_words(200, torch.Generator().manual_seed(3))
    seen = torch.bincount(words.flatten(), minlength=40) / words.numel()
    assert ((seen - weight).abs() <= 4 * (weight * (1 - weight) / words.numel()).sqrt()).all()


def test_spellings_follow_the_sound_chain() -> None:
    """At a small concentration a letter has few successors, at a large one many."""

    def successors(sound: float) -> float:
        languages = draw(20, 1, words=400, sound_range=(sound, sound), letters_range=(20, 20))
        pairs = 0
        for r in range(20):
            pairs += len({pair for word in vocabulary(languages, r) for pair in zip(word, word[1:], strict=False)})
        return pairs / 20 / 20

    assert successors(0.05) < 5 and successors(5.0) > 15


def test_classes_follow_their_chain() -> None:
    languages = draw(1, 200, words=40, classes_range=(4, 4), class_range=(0.5, 0.5), burst_range=(0.0, 0.0))
    words = languages.write_words(200, torch.Generator().manual_seed(3))
    classes = languages.class_of.gather(1, words)
    expected = languages.next_class[0].diff(dim=1, prepend=torch.zeros(4, 1))
    for before in range(4):
        after = classes[:, 1:][classes[:, :-1] == before]
        seen = torch.bincount(after, minlength=4) / len(after)
        assert ((seen - expected[before]).abs() <= 4 * (0.25 / len(after)) ** 0.5).all()
    # inside a class, words have the frequencies of the language
    weight = frequencies(languages, 0)
    common = torch.bincount(classes.flatten()).argmax()
    mine = (languages.class_of[0] == common) & (weight > 0)
    seen = torch.bincount(words[classes == common], minlength=40)[mine].double()
    share = weight[mine] / weight[mine].sum()
    assert ((seen / seen.sum() - share).abs() <= 4 * (0.25 / seen.sum()) ** 0.5).all()
    assert set(languages.class_of[0][weight > 0].tolist()) == {0, 1, 2, 3}, "every class has a word"


def test_bursts_raise_repetition() -> None:
    """Of 2,000 words that are about as likely each, few come again by chance; with bursts of .4, two fifths do."""

    def repeated(burst: float) -> float:
        languages = draw(1, 100, words=2000, exponent_range=(0.0, 0.0), burst_range=(burst, burst))
        words = languages.write_words(30, torch.Generator().manual_seed(3)).tolist()
        return sum(word in row[:t] for row in words for t, word in enumerate(row) if t) / (29 * len(words))

    by_chance = repeated(0.0)
    assert by_chance < 0.1
    assert abs(repeated(0.4) - (0.4 + 0.6 * by_chance)) < 0.03


def test_marks_stand_after_their_share_of_words() -> None:
    languages = draw(1, 300, mark_range=(0.15, 0.15))
    blank, marks = languages.blank[0].item(), languages.marks[0].tolist()
    found = [piece[-1] for row in write(languages, 300).tolist() for piece in pieces(row, blank)]
    shares = [sum(last == mark for last in found) / len(found) for mark in marks]
    assert all(abs(share - 0.075) < 4 * (0.075 / len(found)) ** 0.5 for share in shares)


def test_rows_start_anywhere_in_a_word() -> None:
    """A language of one word makes periodic rows, and every phase is as likely."""
    languages = draw(1, 2000, seed=2, words=1, mark_range=(0.0, 0.0))
    period = languages.word_length[0, 0].item() + 1
    rows = write(languages, 40)
    assert period > 3 and torch.equal(rows[:, period:], rows[:, :-period])
    phase = (rows[:, :period] == languages.blank).long().argmax(1)
    seen = torch.bincount(phase, minlength=period) / 2000
    assert (seen - 1 / period).abs().max() < 4 * (0.25 / 2000) ** 0.5


def test_a_language_of_a_pool_stays_the_same_language() -> None:
    """Languages drawn one by one and stacked: other rows of the same one have its words, and not another's."""
    family = LanguageFamily(words=30).pooled()
    drawn = [family.draw(1, torch.Generator().manual_seed(i)) for i in range(5)]
    pool = Languages(
        **{field.name: torch.cat([getattr(one, field.name) for one in drawn]) for field in fields(Languages)}
    )
    which = torch.tensor([3, 0, 3, 4, 0, 1, 2, 3])
    one, other = (write(take(pool, which), 300, seed) for seed in (1, 2))
    assert not torch.equal(one, other)

    def share_known(row: Tensor, language: int) -> float:
        words, marks = set(vocabulary(pool, language)), pool.marks[language].tolist()
        found = pieces(row.tolist(), pool.blank[language].item())
        return sum((w[:-1] if w and w[-1] in marks else w) in words for w in found) / max(1, len(found))

    for rows in (one, other):
        for row, language in zip(rows, which.tolist(), strict=True):
            assert share_known(row, language) == 1
            assert share_known(row, (language + 1) % 5) < 0.2


def test_small_alphabets_have_few_letters() -> None:
    """Letters make way for the blank and the marks."""
    for alphabet, most_letters in ((2, 1), (4, 1), (11, 8), (30, 27), (51, 48), (300, 48)):
        languages = draw(200, 1, alphabet_size=alphabet)
        rows = write(languages, 60)
        assert rows.min() >= 0 and rows.max() < alphabet
        spelled = [len({letter for word in vocabulary(languages, r) for letter in word}) for r in range(200)]
        assert max(spelled) <= most_letters
        if alphabet >= 4:
            apart = torch.cat([languages.blank, languages.marks], 1)
            assert all(len(set(outside)) == 3 for outside in apart.tolist())
            assert all(
                not set(outside) & {letter for word in vocabulary(languages, r) for letter in word}
                for r, outside in enumerate(apart.tolist())
            )
