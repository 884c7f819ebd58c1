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
