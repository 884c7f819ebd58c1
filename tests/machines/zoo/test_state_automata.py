import torch

from hf_universal_pretrain.machines.zoo.state_automata import StateAutomatonFamily


def test_every_cell_is_what_the_table_says_of_the_three_above() -> None:
    generator = torch.Generator().manual_seed(0)
    made = StateAutomatonFamily(max_width=24).draw(30, generator)
    zeros = torch.zeros(30, 130, dtype=torch.int64)
    rows = made.generate(zeros[:, :1], zeros, generator)
    for r in range(30):
        width, state = int(made.widths[r]), {s: i for i, s in enumerate(made.symbols[r].tolist())}
        cells = [state[symbol] for symbol in rows[r].tolist()]
        for place in range(width, 130):
            line, x = divmod(place, width)
            left, own, right = (cells[(line - 1) * width + (x + d) % width] for d in (-1, 0, 1))
            assert cells[place] == made.table[r, (left * 16 + own) * 16 + right]


def test_a_rule_has_an_entry_for_each_neighbourhood_and_langtons_share_of_active_ones() -> None:
    made = StateAutomatonFamily(active_range=(0.3, 0.3)).draw(50, torch.Generator().manual_seed(0))
    assert made.table.shape == (50, 16**3)
    active = (made.table != 0).double()
    assert abs(active.mean() - 0.3) < 0.005
    assert (made.table.max() == 15) and abs((made.table == 7).double().mean() - 0.3 / 15) < 0.002


def test_more_active_entries_make_rows_harder_to_compress() -> None:
    from hf_universal_pretrain.machines.complexity import compressibility

    means = []
    for active in (0.05, 0.3, 0.9):
        generator = torch.Generator().manual_seed(0)
        zeros = torch.zeros(64, 256, dtype=torch.int64)
        made = StateAutomatonFamily(active_range=(active, active)).draw(64, generator)
        means.append(float(compressibility(made.generate(zeros[:, :1], zeros, generator), 256).mean()))
    assert means[0] < 0.8 * means[1] < 0.8 * 0.8 * means[2]
