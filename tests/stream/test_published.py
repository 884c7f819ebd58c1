"""Published recipes: each against facts of its source that can be counted."""

from pathlib import Path

import pytest
import torch
import yaml

from hf_universal_pretrain import SyntheticUPConfig, SyntheticUPDataset
from hf_universal_pretrain.machines.complexity import compressibility
from hf_universal_pretrain.models.transfer import EMBEDDINGS, TAKES
from hf_universal_pretrain.stream.families import build_family
from hf_universal_pretrain.stream.presets import PRESETS, taken_of
from hf_universal_pretrain.stream.published import AS_PUBLISHED, PUBLISHED


def stream(name: str, batch: int = 4, **changes) -> SyntheticUPDataset:
    """The stream of a preset after its burn-in, rows of 256 where nothing else is said."""
    dataset = SyntheticUPDataset(SyntheticUPConfig.preset(name, 100, batch, **{"context_length": 256, **changes}))
    for _ in range(dataset.rounds_due()):
        dataset.enrich()
    return dataset


def rows_of(name: str, count: int = 200, **changes) -> tuple[SyntheticUPDataset, torch.Tensor, torch.Tensor]:
    dataset = stream(name, **changes)
    return dataset, *dataset.draw(count)


def after_steps(dataset: SyntheticUPDataset, steps: int, batch: int) -> torch.Tensor:
    for _ in range(steps):
        dataset.draw(batch)
        for _ in range(dataset.rounds_due()):
            dataset.enrich()
    return dataset.buffer.rows


def test_the_comparisons_hold_every_recipe_and_differ_in_text_alone() -> None:
    configs = Path(__file__).parents[2] / "recipes" / "configs"
    english, python = (
        yaml.safe_load((configs / f"{name}.yaml").read_text()) for name in ("published", "published_python")
    )
    assert set(PUBLISHED) <= english["arms"].keys() == python["arms"].keys()
    starts = {arm: spec["model"] for arm, spec in python["arms"].items() if arm != "scratch"}
    assert starts == {arm: f"{english['output_dir']}/{arm}/seed-{{seed}}/before" for arm in starts}
    text_alone = {"arms", "output_dir", "pretrain", "train_file"}
    assert {k: v for k, v in english.items() if k not in text_alone} == {
        k: v for k, v in python.items() if k not in text_alone
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_recipe_tells_its_source_what_is_known_and_where_ours_differs(name: str) -> None:
    recipe = PUBLISHED[name]
    told = getattr(recipe, "func", recipe).__doc__
    for part in ("Source: ", "Known: ", "Ours differs: "):
        assert f"\n    {part}" in told
    assert SyntheticUPConfig.preset(name, 100, 8).recipe == name
    take, embeddings = taken_of(name)
    assert take in TAKES and embeddings in EMBEDDINGS
    assert AS_PUBLISHED.keys() <= PUBLISHED.keys() and PUBLISHED.keys() <= PRESETS.keys()


def test_x_transformers_never_changes_a_row_and_would_if_it_were_as_meant() -> None:
    dataset = stream("x_transformers")
    before = dataset.buffer.rows.clone()
    assert before.shape == (80, 256)
    assert torch.equal(after_steps(dataset, 30, 4), before), "0 of 80 rows in 30 steps"
    constant = (before == before[:, :1]).all(1)
    assert constant.sum() == 40
    dataset = stream("x_transformers_as_meant", hidden_size=32)
    before = dataset.buffer.rows.clone()
    rows = after_steps(dataset, 30, 4)
    assert (rows != before).any(1).sum() > 60


def test_an_lstm_with_initial_weights_writes_little_but_loops() -> None:
    """What is known of the recipe of x-transformers, were its rounds to reach the buffer."""
    dataset = stream("x_transformers_as_meant", context_length=512, hidden_size=32)
    rows = after_steps(dataset, 40, 4)
    assert compressibility(rows[dataset.buffer.passes > 0], 256).mean() < 0.15


def test_nca_keeps_rules_in_the_band_alone() -> None:
    dataset = stream("nca", source_batch=64, buffer_size=64, machines_per_round=16)
    written = dataset.buffer.rows[dataset.buffer.passes > 0]
    ratio = compressibility(written, 256)
    assert len(written) > 50 and ratio.min() >= 0.5 and ratio.max() <= 1.0
    assert dataset.kept < dataset.tried, "most rules are left out"
    family = build_family("nca", dataset.config)
    assert (family.sides, family.max_states, family.temperature) == ((12,), 10, 1e-4)


def test_procedural_rows_have_questions_of_64_and_are_judged_on_answers() -> None:
    for task, per_answer in (("identity", 64), ("delete", 63)):
        _, tokens, labels = rows_of(f"procedural_{task}")
        assert tokens.max() < 100
        question = 64 + 1 + (2 if task == "delete" else 0)
        assert (labels[:, :question] == -100).all()
        answer = slice(question, question + per_answer + 1)
        assert (labels[:, answer] == tokens[:, answer]).all()
        assert len(tokens[:, question - 1].unique()) == 1, "one separator for the whole run"
    dataset = stream("procedural")
    pool = dataset.mixture.pools["procedural"].first(64)
    assert set(pool.task) == {"identity", "reverse", "sort", "set", "union", "delete", "stack"}
    assert (pool.length == 64).all() and (pool.size == 99).all()


@pytest.mark.parametrize("name, kinds", [("k_dyck_64", 64), ("k_dyck_128", 128)])
def test_k_dyck_is_one_language_of_k_kinds(name: str, kinds: int) -> None:
    """One table of pairs for all rows; in each the bracket that was opened last closes first."""
    dataset, tokens, _ = rows_of(name)
    symbols = dataset.mixture.pools["dyck"].first(1).symbols[0].tolist()
    closes = dict(zip(symbols[:kinds], symbols[kinds:], strict=True))
    used = set()
    for row in tokens.tolist():
        stack: list[int] = []
        for symbol in row:
            if symbol in closes:
                stack.append(symbol)
                used.add(symbol)
            else:
                assert closes[stack.pop()] == symbol
        assert stack == []
    assert len(used) == kinds


@pytest.mark.parametrize("name, kinds", [("k_shuffle_dyck_64", 64), ("k_shuffle_dyck_128", 128)])
def test_k_shuffle_dyck_has_k_kinds_and_at_most_16_open(name: str, kinds: int) -> None:
    dataset, tokens, _ = rows_of(name)
    source = dataset.mixture.pools["shuffle_dyck"].first(1)
    assert int(source.kinds) == kinds and float(source.open_chance) == 0.5
    place = torch.empty(2 * kinds, dtype=torch.int64)
    place[source.symbols[0]] = torch.arange(2 * kinds)
    step = torch.where(place[tokens] < kinds, 1, -1)
    depth = step.cumsum(1)
    assert depth.max() == 16 and depth.min() == 0 and (depth[:, -1] == 0).all()
    for kind in (0, kinds - 1):  # each kind balances by itself
        of_kind = torch.where(place[tokens] % kinds == kind, step, 0).cumsum(1)
        assert of_kind.min() == 0 and (of_kind[:, -1] == 0).all() and of_kind.max() > 0


def test_rnn_ppt_keeps_1000_linear_networks_of_radius_09() -> None:
    dataset = stream("rnn_ppt", alphabet_size=16, source_batch=64, buffer_size=64)
    pool = dataset.mixture.pools["rnn"]
    assert pool.size == 1000
    networks = pool.first(1000)
    assert networks.linear.all() and networks.weight.shape == (1000, 64, 64)
    radius = torch.linalg.eigvals(networks.weight[:100]).abs().amax(-1)
    assert abs(radius.mean() - 0.9) < 0.06
    assert not networks.condition_table.any()


def test_solomonoff_runs_programs_of_100_instructions_on_10_cells() -> None:
    dataset, tokens, _ = rows_of("solomonoff")
    family = build_family("program", dataset.config)
    machines = family.draw(8, torch.Generator().manual_seed(0))
    assert (machines.lengths == 100).all() and (machines.modulus == 128).all() and family.cells == 10
    assert tokens.max() < 128
    assert compressibility(tokens, 128).mean() < 0.6, "programs, not noise"


def test_pcfg_is_one_grammar_uniform_or_by_zipf() -> None:
    heads = {}
    for name in ("pcfg_uniform", "pcfg_zipf"):
        dataset, tokens, _ = rows_of(name, source_batch=200, buffer_size=200)
        grammar = dataset.mixture.pools["pcfg"].first(1)
        assert grammar.rules() == 2152 + 255 and grammar.family.max_depth == 16
        assert build_family("pcfg", SyntheticUPConfig.preset(name, 1, 1, alphabet_size=513)).draw(
            1, torch.Generator().manual_seed(0)
        ).rules() == 2664  # fmt: skip
        counts = torch.bincount(tokens.flatten(), minlength=256)[:255].double().sort(descending=True).values
        heads[name] = float(counts[:25].sum() / counts.sum())
    assert heads["pcfg_zipf"] > 1.2 * heads["pcfg_uniform"]


def test_ca16_has_16_rules_of_4096_entries() -> None:
    dataset = stream("ca16")
    rules = dataset.mixture.pools["ca"].first(16)
    assert rules.table.shape == (16, 4096) and rules.symbols.shape == (16, 16)


def test_set_answers_with_the_different_symbols_in_order() -> None:
    dataset, tokens, labels = rows_of("set", context_length=1024)
    lengths = dataset.mixture.pools["procedural"].first(64).length
    assert 10 <= lengths.min() and 150 < lengths.max() <= 220
    checked = 0
    for row, judged in zip(tokens.tolist(), (labels >= 0).tolist(), strict=True):
        start = judged.index(True)
        end = judged.index(False, start) if False in judged[start:] else len(row)
        if end == len(row):
            continue
        assert row[start : end - 1] == list(dict.fromkeys(row[: start - 1]))
        checked += 1
    assert checked > 100


def test_lime_marks_are_the_same_in_all_rows() -> None:
    _, tokens, labels = rows_of("lime", context_length=512)
    ends = {
        row[place]
        for row, judged in zip(tokens.tolist(), (labels >= 0).tolist(), strict=True)
        for place in range(511)
        if judged[place] and not judged[place + 1]
    }
    assert len(ends) == 1, "the mark behind an answer"
    assert 0.2 < (labels >= 0).float().mean() < 0.4
