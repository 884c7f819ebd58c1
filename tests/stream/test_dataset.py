import dataclasses
import zlib

import pytest
import torch
from torch.utils.data import DataLoader
from transformers import (
    DataCollatorForLanguageModeling,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    default_data_collator,
)

from hf_universal_pretrain import SyntheticUPConfig, SyntheticUPDataset
from hf_universal_pretrain.machines import FAMILIES, Band


def rows_of(dataset: SyntheticUPDataset, count: int) -> torch.Tensor:
    stream = iter(dataset)
    return torch.stack([next(stream)["input_ids"] for _ in range(count)]) if count else torch.empty(0)


def test_rows_are_what_the_contract_says(small_data: SyntheticUPConfig, tokenizer: PreTrainedTokenizerFast) -> None:
    row = next(iter(SyntheticUPDataset(small_data, tokenizer)))
    assert set(row) == {"input_ids", "labels"}
    assert row["input_ids"].dtype == torch.int64 and row["input_ids"].shape == (32,)
    assert torch.equal(row["input_ids"], row["labels"])


@pytest.mark.parametrize("alphabet", ["identity", "permuted"])
def test_special_tokens_are_never_produced(
    alphabet: str, small_data: SyntheticUPConfig, tokenizer: PreTrainedTokenizerFast
) -> None:
    data = dataclasses.replace(small_data, alphabet=alphabet)
    tokens = rows_of(SyntheticUPDataset(data, tokenizer), 400).flatten()
    assert not set(tokens.tolist()) & set(tokenizer.all_special_ids)
    assert len(tokens.unique()) == 256


def test_printable_rows_are_printable(small_data: SyntheticUPConfig, tokenizer: PreTrainedTokenizerFast) -> None:
    data = dataclasses.replace(small_data, tokens="printable", alphabet_size=97, alphabet="permuted")
    text = tokenizer.decode(rows_of(SyntheticUPDataset(data, tokenizer), 200).flatten())
    assert len(set(text)) == 97 and all(c in "\t\n" or 32 <= ord(c) < 127 for c in text)
    with pytest.raises(ValueError, match="alphabet_size is 98.*at most 97"):
        SyntheticUPDataset(dataclasses.replace(data, alphabet_size=98), tokenizer)


def test_same_seed_same_rows_other_seed_or_rank_other_rows(small_data: SyntheticUPConfig) -> None:
    first = rows_of(SyntheticUPDataset(small_data), 100)
    assert torch.equal(first, rows_of(SyntheticUPDataset(small_data), 100))
    other_seed = SyntheticUPDataset(dataclasses.replace(small_data, stream_seed=6))
    other_rank = SyntheticUPDataset(small_data, rank=1, world_size=2)
    for other in (other_seed, other_rank):
        assert (first == rows_of(other, 100)).all(1).float().mean() < 0.05  # constant rows may agree by chance


@pytest.mark.parametrize("redraw_every, stays", [(0, True), (1, False)])
def test_machines_that_are_never_redrawn_stay(redraw_every: int, stays: bool, small_data: SyntheticUPConfig) -> None:
    """What follows a symbol of a chain late in the stream has followed it before, unless the chain was redrawn."""
    data = dataclasses.replace(
        small_data, machines="markov", machines_per_round=1, num_resets=0, redraw_every=redraw_every, stream_seed=4
    )
    rows = rows_of(SyntheticUPDataset(data), 400)
    pairs = rows[50:, :-1] * 256 + rows[50:, 1:]
    early, late = (part.unique() for part in pairs.chunk(2))
    known = torch.isin(late, early).float().mean()
    assert known > 0.8 if stays else known < 0.4


def test_global_random_state_is_neither_read_nor_changed(small_data: SyntheticUPConfig) -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first = rows_of(SyntheticUPDataset(small_data), 60)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(123)
    assert torch.equal(first, rows_of(SyntheticUPDataset(small_data), 60))


@pytest.mark.parametrize(
    "machines, served", [*((name, 23) for name in FAMILIES), ("lstm=0.5,markov=0.5", 0), ("lstm=0.5,markov=0.5", 1)]
)
def test_state_restores_the_future(machines: str, served: int, small_data: SyntheticUPConfig, tmp_path) -> None:
    """Also between two draws of machines (redraw_every is 3), where the machines in use decide the future."""
    assert_state_restores(dataclasses.replace(small_data, machines=machines), served, tmp_path)


def assert_state_restores(data: SyntheticUPConfig, served: int, folder) -> None:
    dataset = SyntheticUPDataset(data)
    rows_of(dataset, served)
    dataset.step = 6
    torch.save(dataset.state_dict(), folder / "state.pt")
    expected = rows_of(dataset, 50)
    other = SyntheticUPDataset(data)
    rows_of(other, 77)
    other.load_state_dict(torch.load(folder / "state.pt", weights_only=True))
    assert torch.equal(expected, rows_of(other, 50))
    assert torch.equal(dataset.buffer.rows, other.buffer.rows)


def test_state_restores_gains_and_the_stage_of_a_curriculum(small_data: SyntheticUPConfig, tmp_path) -> None:
    """The state is taken when step 6 has come but stage 1, which begins there, has not been entered."""
    data = dataclasses.replace(
        small_data,
        redraw_every=1,
        complexity="0.3:0.9",
        curriculum=["{at: 3, machines: rnn}", "{at: 6, machines: lstm}"],
    )
    assert_state_restores(data, 23, tmp_path)


def test_band_keeps_rows_outside_it_out(small_data: SyntheticUPConfig) -> None:
    """Without resets, what is outside the band in the end is what the buffer began with."""
    data = dataclasses.replace(
        small_data, machines="lstm=0.5,nca=0.5", complexity="0.3:0.9", redraw_every=1, num_resets=0, context_length=128
    )
    dataset = SyntheticUPDataset(data)
    for _ in range(40):
        dataset.enrich()
    written = dataset.buffer.passes > 0
    place = Band(0.3, 0.9).place(dataset.buffer.read(written.nonzero().flatten()), 256)
    assert written.float().mean() > 0.5 and (place == 0).all()
    assert dataset.kept < dataset.tried
    free = SyntheticUPDataset(dataclasses.replace(data, complexity=""))
    for _ in range(40):
        free.enrich()
    assert free.kept == free.tried
    assert (Band(0.3, 0.9).place(free.buffer.read(torch.arange(32)), 256) != 0).float().mean() > 0.2


@pytest.mark.parametrize("gains, turned", [([30.0, 60.0], "down"), ([0.5, 1.0], "up")])
def test_gain_follows_the_band(gains: list[float], turned: str, small_data: SyntheticUPConfig) -> None:
    """Chaotic machines are calmed, dead ones are woken, until rows fall inside."""
    data = dataclasses.replace(
        small_data, machines="lstm", complexity="0.3:0.9", redraw_every=1, gain_range=gains, context_length=128
    )
    dataset = SyntheticUPDataset(data)
    for _ in range(60):
        dataset.enrich()
    factor = dataset.mixture.gains["lstm"][0] / gains[0]
    assert factor < 0.7 if turned == "down" else factor > 1.4
    assert dataset.mixture.gains["lstm"] == pytest.approx([factor * gain for gain in gains], rel=1e-6)
    assert dataset.mixture.families["lstm"].gain_range == dataset.mixture.gains["lstm"]


def test_curriculum_changes_the_machines_at_its_step(small_data: SyntheticUPConfig) -> None:
    data = dataclasses.replace(small_data, machines="uniform", curriculum=["{at: 5, machines: constant}"])
    dataset = SyntheticUPDataset(data)
    seen = []
    for step in range(8):
        dataset.step = step
        dataset.enrich()
        seen.append(list(dataset.mixture.families))
    assert seen == [["uniform"]] * 5 + [["constant"]] * 3


def test_what_is_not_judged_is_shown_but_has_no_label(
    small_data: SyntheticUPConfig, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Procedural rows: labels are -100 on questions and the token elsewhere, through the buffer and the alphabet."""
    data = dataclasses.replace(small_data, machines="procedural", num_resets=0, alphabet="permuted")
    dataset = SyntheticUPDataset(data, tokenizer)
    for _ in range(40):
        dataset.enrich()
    tokens, labels = dataset.draw(100)
    judged = labels != -100
    assert torch.equal(tokens[judged], labels[judged])
    assert 0.2 < judged.float().mean() < 0.8 and not judged[:, 0].any()
    assert tokens.min() >= 3, "complements must not reach the tokens"


def test_state_of_another_run_is_refused(small_data: SyntheticUPConfig) -> None:
    state = SyntheticUPDataset(small_data).state_dict()
    with pytest.raises(ValueError, match="rank 0, this run has rank 1"):
        SyntheticUPDataset(small_data, rank=1, world_size=2).load_state_dict(state)
    with pytest.raises(ValueError, match=r"seed_length \(was 8, now 4\)"):
        SyntheticUPDataset(dataclasses.replace(small_data, seed_length=4)).load_state_dict(state)


def test_rounds_follow_the_rows_served(small_data: SyntheticUPConfig) -> None:
    """2 rounds of burn-in, then one after every 8 rows; a round is run when the next row is asked for."""
    dataset = SyntheticUPDataset(small_data)
    stream = iter(dataset)
    rounds = []
    for _ in range(18):
        next(stream)
        rounds.append(dataset.rounds)
    assert rounds == [2] * 8 + [3] * 8 + [4] * 2


def test_enriched_rows_replace_what_they_were_made_from(small_data: SyntheticUPConfig) -> None:
    """One round of a family that reads its condition: `source_batch` rows change, one pass deeper; others stay."""
    data = dataclasses.replace(small_data, machines="lstm", reset_every=100, temperature_range=[1.0, 1.0])
    dataset = SyntheticUPDataset(data)
    before = dataset.buffer.rows.clone()
    dataset.enrich()
    changed = (before != dataset.buffer.rows).any(1)
    assert changed.sum() == data.source_batch
    assert torch.equal(dataset.buffer.passes, changed.int())
    for _ in range(60):
        dataset.enrich()
    assert dataset.buffer.passes.float().mean() > 8  # 61 rounds x 8 rows over 32 rows: 15 passes


@pytest.mark.parametrize("machines, deeper", [("lstm", True), ("context_tree", False)])
def test_passes_count_machines_behind_a_row(machines: str, deeper: bool, small_data: SyntheticUPConfig) -> None:
    dataset = SyntheticUPDataset(dataclasses.replace(small_data, machines=machines, num_resets=0))
    for _ in range(40):
        dataset.enrich()
    assert (dataset.buffer.passes.max() > 1) == deeper


def test_machines_are_drawn_anew_when_due(small_data: SyntheticUPConfig) -> None:
    dataset = SyntheticUPDataset(dataclasses.replace(small_data, machines="lstm"))
    gains = []
    for _ in range(7):
        dataset.enrich()
        gains.append(dataset.mixture.machines["lstm"].gain[0].item())
    assert gains[0] == gains[1] == gains[2] != gains[3] == gains[4] == gains[5] != gains[6]


def test_without_iteration_nothing_of_the_buffer_is_read(small_data: SyntheticUPConfig) -> None:
    """Machines that repeat what they read: what they write is noise or constant, as no row of the buffer is."""
    data = dataclasses.replace(small_data, machines="lstm", ablation="no_iteration", burn_in_rounds=0, num_resets=0)
    stream = SyntheticUPDataset(data)
    stream.buffer.rows[:] = torch.arange(32)  # a mark that no noise has
    seen = []

    class Spy:
        def generate(self, seeds, conditions, generator):
            seen.append((seeds, conditions))
            return conditions

    stream.mixture.machines = {"lstm": Spy()}
    stream.enrich()
    ((seeds, conditions),) = seen
    constant = (conditions == conditions[:, :1]).all(1)
    assert seeds.shape == (8, 8) and not (conditions == torch.arange(32)).all(1).any() and 0 < constant.sum() < 8
    assert (stream.buffer.passes > 0).sum() == 8 and stream.buffer.passes.max() == 1


def test_shuffled_positions_are_the_same_symbols_in_random_order(small_data: SyntheticUPConfig) -> None:
    data = dataclasses.replace(small_data, ablation="shuffled_positions")
    stream = SyntheticUPDataset(data)
    stream.buffer.rows[:] = torch.arange(32)
    tokens, labels = stream.draw(200)
    assert torch.equal(tokens.sort(1).values, torch.arange(32).expand(200, 32)) and torch.equal(tokens, labels)
    assert len(tokens.unique(dim=0)) == 200 and (tokens.float().mean(0) - 15.5).abs().max() < 3


def test_a_state_from_before_a_setting_was_there_loads(small_data: SyntheticUPConfig) -> None:
    state = SyntheticUPDataset(small_data).state_dict()
    del state["config"]["ablation"]
    SyntheticUPDataset(small_data).load_state_dict(state)
    other = SyntheticUPDataset(dataclasses.replace(small_data, ablation="no_iteration"))
    with pytest.raises(ValueError, match="ablation \\(was none, now no_iteration\\)"):
        other.load_state_dict(state)


def test_paper_preset_changes_its_buffer() -> None:
    """After 100 rounds nearly all rows have changed (the x-transformers wrapper: 0 of 80); constants differ."""
    dataset = SyntheticUPDataset(
        SyntheticUPConfig.paper(batch_size=8, context_length=64, num_layers=2, hidden_size=32)
    )
    before = dataset.buffer.rows.clone()
    for _ in range(100):
        dataset.enrich()
    changed = (before != dataset.buffer.rows).any(1).float().mean().item()
    constants = [row[0].item() for row in dataset.buffer.rows if len(row.unique()) == 1]
    assert changed > 0.95
    assert len(set(constants)) > 50
    # 100 resets to 16 generated rows a round: mostly noise, as in the paper's own small batches; some is enriched
    assert 0 < (dataset.buffer.passes > 0).float().mean() < 0.3


def test_machines_make_structure_out_of_noise() -> None:
    """The default recipe's rows compress better than uniform noise and are not constant."""
    rows = rows_of(SyntheticUPDataset(SyntheticUPConfig(context_length=256)), 200)
    ratio = sum(len(zlib.compress(bytes(row.tolist()), 9)) for row in rows) / rows.numel()
    assert 0.2 < ratio < 0.9
    assert sum(len(row.unique()) > 1 for row in rows) > 150


def test_workers_are_refused(small_data: SyntheticUPConfig) -> None:
    loader = DataLoader(SyntheticUPDataset(small_data), batch_size=2, num_workers=1)
    with pytest.raises(ValueError, match="workers"):
        next(iter(loader))


def test_stock_trainer_takes_the_stream(
    small_data: SyntheticUPConfig, tokenizer: PreTrainedTokenizerFast, make_model, tmp_path
) -> None:
    """Under a stock Trainer the stream enriches itself; its rounds are those of the rows it served."""
    dataset = SyntheticUPDataset(small_data, tokenizer)
    args = TrainingArguments(
        str(tmp_path), max_steps=6, per_device_train_batch_size=4, use_cpu=True, save_strategy="no"
    )
    Trainer(model=make_model(), args=args, train_dataset=dataset).train()
    assert dataset.rows_served >= 24 and dataset.rounds == 2 + (dataset.rows_served - 1) // 8


@pytest.mark.parametrize("collator", [default_data_collator, None])
def test_to_hf_yields_what_collators_take(collator, small_data: SyntheticUPConfig, tokenizer) -> None:
    """Lists of plain integers; the stock collators refuse numpy's."""
    collator = collator or DataCollatorForLanguageModeling(tokenizer, mlm=False)
    config = dataclasses.replace(small_data, machines="procedural")
    rows = list(SyntheticUPDataset(config, tokenizer).to_hf().take(2))
    assert all(type(token) is int for row in rows for column in row.values() for token in column)
    batch = collator(rows)
    assert batch["input_ids"].shape == batch["labels"].shape == (2, 32)
    assert batch["input_ids"].dtype == torch.int64
