import torch

from hf_universal_pretrain.stream.buffer import SequenceBuffer


def make(rows: int = 200, length: int = 40, alphabet: int = 100, seed: int = 0) -> SequenceBuffer:
    return SequenceBuffer(rows, length, alphabet, torch.Generator().manual_seed(seed))


def test_starts_half_uniform_half_constant() -> None:
    """Every constant row has a symbol of its own (not one for all), every uniform row many."""
    rows = make().read(torch.arange(200))
    distinct = torch.tensor([len(row.unique()) for row in rows])
    constant = rows[distinct == 1, 0]
    assert len(constant) == 100
    assert len(constant.unique()) > 50  # 100 draws from 100 symbols: 63 expected
    assert distinct[distinct > 1].min() > 20


def test_write_reaches_the_buffer_and_read_is_a_copy() -> None:
    buffer = make()
    index = torch.tensor([3, 150])
    buffer.write(index, torch.full((2, 40), 7), torch.tensor([2, 9]))
    assert torch.equal(buffer.rows[index], torch.full((2, 40), 7, dtype=torch.int16))
    assert buffer.passes[index].tolist() == [2, 9]
    buffer.read(index).zero_()
    assert (buffer.read(index) == 7).all()


def test_reset_replaces_exactly_so_many_rows() -> None:
    buffer = make()
    buffer.write(torch.arange(200), torch.full((200, 40), 5), torch.ones(200, dtype=torch.int32))
    buffer.reset(30)
    assert (buffer.passes == 0).sum() == 30
    fresh = buffer.rows[buffer.passes == 0]
    assert sum(len(row.unique()) == 1 for row in fresh) == 15
    assert (buffer.rows[buffer.passes == 1] == 5).all()


def test_choose_draws_different_rows_and_sample_all_of_them() -> None:
    buffer = make()
    assert len(buffer.choose(200).unique()) == 200
    buffer.write(torch.arange(200), torch.arange(200).clamp(max=99).unsqueeze(1).expand(200, 40), torch.zeros(200))
    seen = torch.bincount(buffer.sample(20_000)[0][:, 0], minlength=100)
    assert (seen[:99] > 50).all() and abs(seen[99] / 20_000 - 101 / 200) < 0.02


def test_crop_cuts_running_pieces_at_all_offsets() -> None:
    buffer = make(length=10)
    ramp = torch.arange(10) + torch.arange(200).remainder(90).unsqueeze(1)
    buffer.write(torch.arange(200), ramp, torch.zeros(200))
    pieces = buffer.crop(200, 4)
    assert (pieces.diff(dim=1) == 1).all()
    offsets = (pieces[:, 0] - pieces[:, 0].min()).unique()
    assert len(offsets) > 7


def test_state_round_trip() -> None:
    one, other = make(seed=1), make(seed=2)
    assert not torch.equal(one.rows, other.rows)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.rows, other.rows) and torch.equal(one.passes, other.passes)


def test_complements_are_read_as_symbols_and_sampled_as_not_judged() -> None:
    buffer = make(rows=2, length=4)
    buffer.write(torch.arange(2), torch.tensor([[~0, ~7, 7, 99], [1, ~99, 2, 3]]), torch.zeros(2))
    assert buffer.read(torch.arange(2)).tolist() == [[0, 7, 7, 99], [1, 99, 2, 3]]
    symbols, judged = buffer.sample(50)
    for row, told in zip(symbols.tolist(), judged.tolist(), strict=True):
        assert told == ([False, False, True, True] if row[0] == 0 else [True, False, True, True])


# ---- Without replacement ----


def marked(rows: int, seed: int = 0) -> SequenceBuffer:
    """A buffer whose row i holds the symbol i."""
    generator = torch.Generator().manual_seed(seed)
    buffer = SequenceBuffer(rows, 4, rows, generator, "without_replacement")
    buffer.rows[:] = torch.arange(rows).unsqueeze(1)
    return buffer


def drawn(buffer: SequenceBuffer, count: int) -> list[int]:
    return buffer.sample(count)[0][:, 0].tolist()


def test_against_a_plain_queue() -> None:
    """A list of rows in the order of their turn: the unserved stand first, in any order."""
    buffer, chance = marked(12), torch.Generator().manual_seed(1)
    fresh, queue = set(range(12)), []
    for _ in range(300):
        count = int(torch.randint(1, 9, (), generator=chance))
        first = drawn(buffer, count)
        new, old = first[: len(fresh)], first[len(fresh) :]
        assert len(set(new)) == len(new) and set(new) <= fresh
        assert old == queue[: len(old)]
        fresh -= set(new)
        queue = queue[len(old) :] + new + old
        written = torch.randperm(12, generator=chance)[: int(torch.randint(6, (), generator=chance))]
        buffer.write(written, written.unsqueeze(1).expand(-1, 4), torch.ones(len(written)))
        fresh |= set(written.tolist())
        queue = [row for row in queue if row not in fresh]


def test_more_rows_than_there_are_come_equally_often() -> None:
    buffer = marked(10)
    rows = drawn(buffer, 35)
    assert sorted(rows[:10]) == list(range(10)) and rows[10:20] == rows[:10] == rows[20:30] and rows[30:] == rows[:5]
    assert drawn(buffer, 10) == rows[5:10] + rows[:5]


def test_fresh_rows_come_in_random_order_and_reset_ones_again() -> None:
    orders = {tuple(drawn(marked(10, seed), 10)) for seed in range(20)}
    assert len(orders) == 20
    buffer = marked(10)
    drawn(buffer, 10)
    buffer.reset(4)
    changed = set((buffer.served == 0).nonzero().flatten().tolist())
    assert len(changed) == 4
    before = buffer.served.clone()
    buffer.sample(4)
    assert set((buffer.served != before).nonzero().flatten().tolist()) == changed


def test_turns_are_restored() -> None:
    buffer, other = marked(10), marked(10, seed=5)
    drawn(buffer, 7)
    other.load_state_dict(buffer.state_dict())
    other.generator.set_state(buffer.generator.get_state())
    assert [drawn(buffer, 6) for _ in range(3)] == [drawn(other, 6) for _ in range(3)]
    assert "served" not in make().state_dict()
