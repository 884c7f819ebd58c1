import torch

from hf_universal_pretrain.machines.zoo.pcfg import GrammarFamily, Grammars


def grammars(rows: int = 32, length: int = 200, **settings) -> tuple[Grammars, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = GrammarFamily(**{"alphabet_size": 513, "machines_per_round": 4, **settings}).draw(rows, generator)
    zeros = torch.zeros(rows, length, dtype=torch.int64)
    return made, made.generate(zeros[:, :1], zeros, generator)


def test_a_grammar_has_the_size_of_penns() -> None:
    """2,664 rules with 512 words; fewer where the alphabet has fewer symbols. Each word has one tag."""
    made, _ = grammars()
    assert made.rules() == 2664 and made.symbols.shape == (4, 512)
    assert GrammarFamily(alphabet_size=256).draw(8, torch.Generator().manual_seed(0)).rules() == 2152 + 255
    assert (made.first_word.diff() > 0).all() and made.first_word[:, -1].eq(512).all(), "no tag without a word"


def test_against_a_plain_derivation() -> None:
    """The same derivation by recursion, one row at a time, from the same numbers; no phrase lies deeper than told."""
    rows, length, most = 12, 150, 5
    generator = torch.Generator().manual_seed(3)
    family = GrammarFamily(alphabet_size=200, machines_per_round=3, max_depth=most, phrase_share=0.6, exponent=0.7)
    made = family.draw(rows, generator)
    zeros = torch.zeros(rows, length, dtype=torch.int64)
    state = generator.get_state()
    written = made.generate(zeros[:, :1], zeros, generator)
    generator.set_state(state)
    numbers = torch.cat([torch.rand(64, rows, 1, generator=generator, dtype=torch.float64) for _ in range(40)])
    tags, deepest = made.first_word.shape[1] - 1, 0
    for r in range(rows):
        machine, used, row = r // 4, 0, []

        def derive(node: int, depth: int, r: int = r, machine: int = machine, row: list[int] = row) -> None:
            nonlocal used, deepest
            u = float(numbers[used, r])
            used += 1
            if node < tags:
                first, last = made.first_word[machine, node : node + 2].tolist()
                weights = made.word_cumulative[machine].diff(prepend=torch.zeros(1))[first:last]
                word = int((weights.cumsum(0) / weights.sum() < u).sum())
                row.append(int(made.symbols[machine, first + word]))
                return
            deepest = max(deepest, depth)
            cumulative = made.cumulative[machine, node - tags]
            if depth == most:
                u *= float(cumulative[family.closed_rules - 1])
            for child in made.children[machine, node - tags, int((cumulative[:-1] <= u).sum())].tolist():
                if child >= 0:
                    derive(child, depth + 1)

        while len(row) < length:
            derive(tags, 1)
            row.append(199)
            used += 1
        assert row[:length] == written[r].tolist()
    assert deepest == most


def test_share_of_the_commonest_word_follows_the_exponent() -> None:
    """Words by Zipf's law have a head: of a tag with n words the first takes 1 / H(n), where all alike take 1 / n."""
    for exponent in (0.0, 1.0):
        made, rows = grammars(rows=64, length=1500, exponent=exponent, machines_per_round=1)
        sizes = made.first_word[0].diff()
        tag = int(sizes.argmax())
        n, first = int(sizes[tag]), int(made.first_word[0, tag])
        words = made.symbols[0, first : first + n]
        counts = torch.bincount(rows.flatten(), minlength=513)[words]
        expected = (torch.arange(1, n + 1) ** -exponent).double()
        expected /= expected.sum()
        share = float(counts[0] / counts.sum())
        assert counts.sum() > 400 and abs(share - float(expected[0])) < 0.05
        assert (share > 0.2) == (exponent > 0)


def test_sentences_end_with_the_full_stop_and_words_never_are_one() -> None:
    made, rows = grammars()
    assert not (made.symbols == 512).any()
    lengths = 200 / (rows == 512).sum(1)
    assert 5 < float(lengths.mean()) < 40
