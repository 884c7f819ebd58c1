import torch
from torch import Tensor

from hf_universal_pretrain.machines.rewrite import CUT, DROP, INSERT, SWAP, RewriteFamily, Rewriters


OFF = {
    "interleave_range": (1e-9, 1e-9), "reverse_range": (0.0, 0.0), "move_range": (0.0, 0.0), "swap_range": (0.0, 0.0),
    "drop_range": (0.0, 0.0), "insert_range": (0.0, 0.0), "replace_range": (0.0, 0.0), "active_share": 1.0,
}  # fmt: skip


def noise(rows: int, length: int, alphabet: int = 40) -> Tensor:
    return torch.randint(alphabet, (rows, length), generator=torch.Generator().manual_seed(9))


def rewrite(conditions: Tensor, seed: int = 0, **settings) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    machines = RewriteFamily(alphabet_size=40, **{**OFF, **settings}).draw(len(conditions), generator)
    return machines.generate(conditions[:, :1], conditions, generator)


def plain(machines: Rewriters, conditions: Tensor, generator: torch.Generator) -> list[list[int]]:
    """Row by row and symbol by symbol, with the same random numbers."""
    rows, length = conditions.shape
    uniform = torch.rand(7, rows, length, generator=generator).tolist()
    parity = torch.randint(2, (rows, 1), generator=generator).tolist()
    made = []
    for r in range(rows):

        def happens(what: int, symbol: int, chance: float, r: int = r) -> bool:
            if machines.ruled[r]:
                return machines.rule[r, what, symbol].item()
            return chance < machines.chance[r, what].item()

        own, other, in_other = conditions[r].tolist(), conditions[r - 1].tolist(), False
        row = []
        for t in range(length):
            in_other ^= uniform[0][r][t] < machines.interleave[r, 0].item()
            row.append((other if in_other else own).pop(0))

        segments, start = [], 0
        for t in range(length):
            if happens(CUT, row[t], uniform[1][r][t]) or t == length - 1:
                part = row[start : t + 1]
                if uniform[2][r][start] < machines.reverse[r, 0].item():
                    part.reverse()
                where_to = len(segments) + uniform[3][r][start] * (1 + machines.move[r, 0].item())
                segments.append((where_to, part))
                start = t + 1
        row = [symbol for _, part in sorted(segments, key=lambda segment: segment[0]) for symbol in part]

        swap = [happens(SWAP, row[t], uniform[4][r][t]) for t in range(length)]
        for t in range(parity[r][0], length - 1, 2):
            if swap[t]:
                row[t : t + 2] = row[t + 1], row[t]

        drop = [happens(DROP, symbol, uniform[5][r][t]) for t, symbol in enumerate(row)]
        new = []
        for t, symbol in enumerate(row):
            if not drop[t] or all(drop):
                new.append(symbol)
                if happens(INSERT, symbol, uniform[6][r][t]):
                    new.append(machines.inserted[r, symbol].item())
        row = [new[t % len(new)] for t in range(length)]

        state, written = 0, []
        for symbol in row:
            written.append(machines.image[r, state, symbol].item())
            state = machines.next_state[r, state, symbol].item()
        made.append(written)
    return made


def test_against_a_plain_loop() -> None:
    for length, rows in ((1, 30), (2, 30), (70, 150), (33, 1)):
        machines = RewriteFamily(alphabet_size=40).draw(rows, torch.Generator().manual_seed(length))
        conditions = noise(rows, length)
        written = machines.generate(conditions[:, :1], conditions, torch.Generator().manual_seed(1))
        assert written.tolist() == plain(machines, conditions, torch.Generator().manual_seed(1))


def test_a_machine_that_does_nothing_changes_nothing() -> None:
    conditions = noise(50, 60)
    assert torch.equal(rewrite(conditions), conditions)
    assert torch.equal(rewrite(conditions, active_share=0.0), conditions)
    assert not torch.equal(rewrite(conditions, replace_range=(0.5, 0.5)), conditions)


def test_moving_and_swapping_keep_the_symbols() -> None:
    """Each row has the same symbols as before, in another order."""
    conditions = noise(60, 80)
    for settings in (
        {"reverse_range": (0.5, 0.5)},
        {"move_range": (5.0, 5.0)},
        {"swap_range": (0.5, 0.5), "ruled_share": 0.0},
    ):
        written = rewrite(conditions, segment_range=(6.0, 6.0), **settings)
        assert torch.equal(written.sort(1).values, conditions.sort(1).values)
        assert (written != conditions).any(1).float().mean() > 0.9


def test_reversing_all_segments_reverses_each_between_cuts() -> None:
    """Segments of length one in a row of one rule: nothing; one segment: the whole row backwards."""
    conditions = noise(20, 30)
    once = rewrite(conditions, reverse_range=(1.1, 1.1), segment_range=(1.0, 1.0))
    assert torch.equal(once, conditions)
    whole = rewrite(conditions, reverse_range=(1.1, 1.1), segment_range=(1e9, 1e9))
    assert torch.equal(whole, conditions.flip(1))


def test_chances_are_what_they_are_said_to_be() -> None:
    """Dropping a fifth makes a row begin again after four fifths; inserting a fifth puts its end out of the row."""
    length = 200
    conditions = torch.arange(length).expand(400, -1).contiguous()
    generator = torch.Generator().manual_seed(0)
    for name, factor in (("drop_range", 0.8), ("insert_range", 1.2)):
        settings = {**OFF, name: (0.2, 0.2), "ruled_share": 0.0}
        machines = RewriteFamily(alphabet_size=length, **settings).draw(400, generator)
        machines.inserted.zero_()
        rows = machines.generate(conditions[:, :1], conditions, generator)
        if name == "drop_range":
            again = (rows[:, 1:] < rows[:, :-1]).long().argmax(1) + 1.0  # where it begins again
            seen = again.mean() / length
        else:
            seen = length / (rows.amax(1) + 1.0).mean()  # how far the row has come
        assert abs(seen - factor) < 0.01


def test_interleaving_reads_both_rows_in_order() -> None:
    """Symbols of two rows that share none, taken apart, are the beginnings of the two."""
    own, other = torch.arange(20).expand(2, -1).unbind(0)
    conditions = torch.stack([own, other + 20])
    written = rewrite(conditions, interleave_range=(0.3, 0.3))
    for row in written.tolist():
        low, high = [s for s in row if s < 20], [s for s in row if s >= 20]
        assert low == list(range(len(low))) and high == list(range(20, 20 + len(high)))
        assert len(low) > 2 and len(high) > 2


def test_rules_put_what_happens_at_certain_symbols() -> None:
    """With a rule, a symbol is always followed by an inserted one or never; without, sometimes."""
    conditions = noise(100, 300)
    shares = {}
    for ruled in (0.0, 1.0):
        family = RewriteFamily(alphabet_size=40, **{**OFF, "insert_range": (0.3, 0.3), "ruled_share": ruled})
        machines = family.draw(100, torch.Generator().manual_seed(0))
        machines.inserted.fill_(39)  # where 39 stands one was inserted, or it was there
        conditions[conditions == 39] = 0
        rows = machines.generate(conditions[:, :1], conditions, torch.Generator().manual_seed(1))
        followed = torch.zeros(100, 40)
        ones = torch.ones(100, 299)
        stood = torch.zeros(100, 40).scatter_add_(1, rows[:, :-1], ones)
        followed.scatter_add_(1, rows[:, :-1], (rows[:, 1:] == 39).float())
        share = (followed / stood.clamp(min=1))[:, :39][stood[:, :39] > 3]
        shares[ruled] = ((share == 0) | (share == 1)).float().mean().item()
        assert abs(share.mean() - 0.3) < 0.03
    assert shares[1.0] == 1.0 and shares[0.0] < 0.5


def test_images_are_one_to_one_or_not() -> None:
    """A permutation keeps apart what is different; drawn one by one, images coincide: some 1 - 1/e are left."""
    for share, left in ((1.0, 1.0), (0.0, 0.632)):
        family = RewriteFamily(alphabet_size=500, replace_range=(1.1, 1.1), active_share=1.0, one_to_one_share=share)
        machines = family.draw(20, torch.Generator().manual_seed(0))
        images = [len(set(state.tolist())) / 500 for machine in machines.image for state in machine]
        assert abs(sum(images) / len(images) - left) < 0.01


def test_states_are_one_to_four() -> None:
    """As far as a machine gets from state 0; log-uniform: 43 % have one, 14 % have four."""
    family = RewriteFamily(switch_range=(0.5, 0.5))
    states = family.draw(2000, torch.Generator().manual_seed(0)).next_state[:, 0].amax(1) + 1
    shares = torch.bincount(states, minlength=5)[1:] / 2000
    assert (shares - torch.tensor([2.0, 3 / 2, 4 / 3, 5 / 4]).log() / torch.tensor(5.0).log()).abs().max() < 0.04


def test_a_row_of_which_all_would_be_dropped_stays() -> None:
    """Constant rows, under rules that drop most symbols."""
    conditions = torch.arange(40).unsqueeze(1).expand(-1, 25)
    assert torch.equal(rewrite(conditions, drop_range=(0.9, 0.9), ruled_share=1.0), conditions)
