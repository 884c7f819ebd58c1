"""Laws of the field, measured anew with tiny models: what others found of learning from synthetic data has to come out
of this stream and this trainer too. Each prints its figures (`pytest -m slow -s tests/slow/test_laws.py`)."""

import math
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, TrainerCallback

from hf_universal_pretrain import SyntheticUPConfig, SyntheticUPDataset, UPConfig, UPTrainer
from hf_universal_pretrain.machines import FAMILIES


pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
EVERY = 10  # steps between two measurements


def attention_only(symbols: int, layers: int = 2, width: int = 32) -> LlamaForCausalLM:
    """A Llama of one head a layer whose MLPs have a single unit, so that attention does the work."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=symbols, hidden_size=width, intermediate_size=1, num_hidden_layers=layers,
            num_attention_heads=1, num_key_value_heads=1, max_position_embeddings=128, bos_token_id=None,
            eos_token_id=None,
        )
    )  # fmt: skip


@torch.no_grad()
def predictions(model: LlamaForCausalLM, rows: Tensor) -> Tensor:
    """Chances of the next symbol after each position, `(rows, length, symbols)`."""
    return model(rows).logits.softmax(-1)


class Watch(TrainerCallback):
    """Measures the model every few steps, and ends the training when a measurement is good enough."""

    def __init__(self, measure: Callable[[Any], Any], enough: Callable[[Any], bool]) -> None:
        self.measure, self.enough = measure, enough
        self.seen: list[tuple[int, Any]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.seen.append((state.global_step, self.measure(model)))

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if state.global_step % EVERY == 0:
            self.seen.append((state.global_step, self.measure(model)))
            control.should_training_stop = self.enough(self.seen[-1][1])


def train(
    model: LlamaForCausalLM, data: dict[str, Any], steps: int, measure: Callable[[Any], Any],
    enough: Callable[[Any], bool] = lambda seen: False,
) -> list[tuple[int, Any]]:  # fmt: skip
    """Trains a model on a stream with the trainer of this package; returns what was measured, by step."""
    watch = Watch(measure, enough)
    fresh = {
        "source_batch": 512, "buffer_size": 512, "rows_per_round": 512, "num_resets": 0, "burn_in_rounds": 1,
        "seed_length": 1,
    }  # fmt: skip
    with TemporaryDirectory() as folder:
        args = UPConfig(
            str(Path(folder) / "run"), max_steps=steps, per_device_train_batch_size=32, learning_rate=3e-3,
            warmup_steps=20, lr_scheduler_type="constant_with_warmup", logging_steps=steps, save_strategy="no",
            use_cpu=True, disable_tqdm=True, report_to="none",
        )  # fmt: skip
        dataset = SyntheticUPDataset(SyntheticUPConfig(**fresh, **data))
        UPTrainer(model=model, args=args, train_dataset=dataset, callbacks=[watch]).train()
    return watch.seen


# ---- Order-1 chains over two symbols: Edelman et al. and Bondaschi et al. ----

CHAINS = ["markov.min_order=1", "markov.max_order=1", "markov.concentration_range=1,1"]
LENGTH, NEAR = 100, 0.12


def counters(rows: Tensor, symbols: int) -> dict[str, Tensor]:
    """What three simple predictors say after each position, `(rows, length, symbols)`: all alike; counting symbols;
    counting what followed the symbol. Counts start at 1 (add-beta with beta 1, the best there is for such chains)."""
    one_hot = torch.nn.functional.one_hot(rows, symbols).double()
    unigram = 1 + one_hot.cumsum(1)
    pairs = one_hot[:, :-1, :, None] * one_hot[:, 1:, None, :]
    counts = 1 + torch.nn.functional.pad(pairs.cumsum(1), (0, 0, 0, 0, 1, 0))
    bigram = (counts * one_hot[..., None]).sum(2)
    made = {"uniform": torch.ones_like(unigram), "unigram": unigram, "bigram": bigram}
    return {name: table / table.sum(-1, keepdim=True) for name, table in made.items()}


@cache
def chain_run(layers: int, transitions: str, most: int = 2500) -> list[tuple[int, dict[str, float]]]:
    """Trains on chains, a new one for every eight rows, until the model is near the counter of pairs. Measured on
    chains of their own: the distance to each counter in bits (relative entropy), and `"L1"` to the counter of pairs
    over the second half of the rows."""
    family = FAMILIES["markov"](
        alphabet_size=2, min_order=1, max_order=1, concentration_range=(1.0, 1.0), machines_per_round=128,
        transitions=transitions,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(99)
    empty = torch.zeros(128, LENGTH, dtype=torch.int64)
    rows = family.draw(128, generator).generate(empty[:, :1], empty, generator)
    told = counters(rows, 2)

    def measure(model: LlamaForCausalLM) -> dict[str, float]:
        said = predictions(model, rows).double()
        distances = {name: float((table * (table / said).log2()).sum(-1).mean()) for name, table in told.items()}
        half = slice(LENGTH // 2, None)
        return {**distances, "L1": float((told["bigram"] - said)[:, half].abs().sum(-1).mean())}

    data = {
        "machines": "markov", "machines_per_round": 64, "alphabet_size": 2, "context_length": LENGTH,
        "family": [*CHAINS, f"markov.transitions={transitions}"],
    }  # fmt: skip
    if transitions == "doubly_stochastic":
        return train(attention_only(2, layers), data, most, measure, enough=lambda now: nearest(now) == "bigram")
    return train(attention_only(2, layers), data, most, measure, enough=lambda now: now["L1"] < NEAR)


def nearest(seen: dict[str, float]) -> str:
    return min(("uniform", "unigram", "bigram"), key=seen.__getitem__)


def arrival(seen: list[tuple[int, dict[str, float]]]) -> int:
    """The first step at which the model is nearer to the counter of pairs than to the others."""
    return next(step for step, now in seen if nearest(now) == "bigram")


def test_chains_are_learned_in_three_phases_and_sooner_without_favourite_symbols() -> None:
    """Edelman et al., arXiv 2402.11004: like uniform, then like counting symbols, then like counting pairs; where all
    symbols are equally frequent the second phase is skipped, and the third comes sooner."""
    seen, balanced = chain_run(2, "dirichlet"), chain_run(2, "doubly_stochastic")
    for title, run in (("Dirichlet", seen), ("doubly stochastic", balanced)):
        print(f"\n{title}: bits from uniform, symbols, pairs; nearest")
        for step, now in run[:: max(1, len(run) // 15)]:
            print(f"{step:5d} {now['uniform']:.4f} {now['unigram']:.4f} {now['bigram']:.4f} {nearest(now)}")
    print(f"pairs are counted from step {arrival(seen)}; without favourite symbols from step {arrival(balanced)}")
    phases = list(dict.fromkeys(nearest(now) for _, now in seen))
    assert phases == ["uniform", "unigram", "bigram"]
    assert arrival(balanced) < arrival(seen)


def test_two_layers_become_the_add_one_counter_and_one_does_not() -> None:
    """Bondaschi et al., arXiv 2502.10178: of transformers, two layers come near the add-beta counter of pairs."""
    two = chain_run(2, "dirichlet")
    one = chain_run(1, "dirichlet", two[-1][0])
    print(f"\nL1 distance to the add-1 counter, second half of {LENGTH}, after {two[-1][0]} steps: ", end="")
    print(f"at first {two[0][1]['L1']:.3f}, two layers {two[-1][1]['L1']:.3f}, one layer {one[-1][1]['L1']:.3f}")
    assert two[-1][1]["L1"] < NEAR and one[-1][1]["L1"] > 2 * NEAR


# ---- Repeated strings: Olsson et al., Chan et al., Zucchet et al. ----

SYMBOLS, STRING = 16, 64


def strings(shortest: int, longest: int) -> dict[str, Any]:
    """Rows that are a random string again and again, its length between two numbers."""
    settings = {
        "max_strands": 1, "distance_range": f"{shortest},{longest}", "mutation_range": "0,0",
        "change_range": "1e-9,1e-9", "base_symbols_range": f"{SYMBOLS},{SYMBOLS}", "base_exponent_range": "0,0",
    }  # fmt: skip
    family = [f"repeat.{name}={value}" for name, value in settings.items()]
    return {"machines": "repeat", "family": family, "alphabet_size": SYMBOLS, "context_length": STRING}


def induction_score(model: LlamaForCausalLM, period: int) -> float:
    """Bits saved on the second copy of random strings, of the 4 that each symbol costs at first."""
    string = torch.randint(SYMBOLS, (128, period), generator=torch.Generator().manual_seed(7))
    rows = torch.cat([string, string, string], 1)
    bits = -predictions(model, rows)[:, :-1].gather(-1, rows[:, 1:, None]).log2().squeeze(-1)
    return float(bits[:, : period - 1].mean() - bits[:, period + 1 : 2 * period].mean())


@cache
def repeat_run(longest: int) -> list[tuple[int, float]]:
    """Trains on repeated strings until half of the bits are saved; the induction score by step."""
    measure = partial(induction_score, period=3 * longest // 4)
    data = strings(longest // 2 + 1, longest)
    return train(attention_only(SYMBOLS, width=64), data, 1000, measure, enough=lambda saved: saved > 2)


def test_induction_is_learned_from_repeats_and_not_from_noise() -> None:
    """Olsson et al. 2022."""
    repeat = repeat_run(16)
    data = {"machines": "uniform", "alphabet_size": SYMBOLS, "context_length": STRING}
    noise = train(attention_only(SYMBOLS, width=64), data, repeat[-1][0], partial(induction_score, period=12))
    print(f"\nbits saved on the second copy of a random string of 12 over {SYMBOLS} symbols")
    for (step, saved), (_, without) in list(zip(repeat, noise, strict=True))[:: max(1, len(noise) // 12)]:
        print(f"{step:5d} repeat {saved:6.3f}  noise {without:6.3f}")
    assert repeat[-1][1] > 2 and max(abs(saved) for _, saved in noise) < 0.3


def exponent(by_number: dict[int, int]) -> float:
    """The slope of log steps against log number: the least-squares line."""
    x, y = (torch.tensor([math.log(value) for value in values]) for values in zip(*by_number.items(), strict=True))
    return float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())


def test_the_plateau_is_shorter_the_more_often_a_string_comes_within_a_row() -> None:
    """Chan et al. 2022, Zucchet et al. 2025: repetition in context shortens the plateau."""
    lengths = {}
    for longest in (8, 16, 32):
        lengths[STRING // longest] = next((step for step, saved in repeat_run(longest) if saved > 1), 1000)
    told = ", ".join(f"{copies} copies {steps}" for copies, steps in lengths.items())
    print(f"\nsteps until 1 bit of 4 is saved on the second copy: {told}; exponent {exponent(lengths):.2f}")
    assert list(lengths.values()) == sorted(lengths.values()) and exponent(lengths) < -0.3


def test_the_plateau_is_longer_the_more_chains_there_are() -> None:
    """Zucchet et al. 2025, repetition across samples: `markov@N` has N chains that come again and again. What is
    measured is how long it takes to know half of what the chains tell beyond the frequencies of a row's symbols."""
    lengths = {}
    for number in (1, 8, 64):
        data = {
            "machines": f"markov@{number}", "machines_per_round": 64, "alphabet_size": SYMBOLS,
            "context_length": STRING, "family": [*CHAINS[:2], "markov.concentration_range=0.1,0.1"],
        }  # fmt: skip
        held_out = SyntheticUPDataset(SyntheticUPConfig(**data, source_batch=128, buffer_size=128, seed_length=1))
        pool = held_out.mixture.pools["markov"].first(number)
        empty = torch.zeros(128, STRING, dtype=torch.int64)
        rows = pool.generate(empty[:, :1], empty, torch.Generator().manual_seed(5))
        told = counters(rows, SYMBOLS)["unigram"][:, :-1].gather(-1, rows[:, 1:, None]).log2()
        known = []
        for table, symbols, share in zip(pool.tables, pool.symbols, rows.tensor_split(number), strict=True):
            place = torch.zeros(SYMBOLS, dtype=torch.int64).index_put_((symbols,), torch.arange(len(symbols)))
            known.append(table[place[share[:, :-1]], place[share[:, 1:]]].log2().flatten())
        half = -(float(told.mean()) + float(torch.cat(known).mean())) / 2

        def bits(model: LlamaForCausalLM, rows: Tensor = rows) -> float:
            return float(-predictions(model, rows)[:, :-1].gather(-1, rows[:, 1:, None]).log2().mean())

        seen = train(attention_only(SYMBOLS, width=64), data, 1500, bits, enough=lambda now, half=half: now < half)
        lengths[number] = seen[-1][0]
    told_lengths = ", ".join(f"{number} chains {steps}" for number, steps in lengths.items())
    print(f"\nsteps until half is known: {told_lengths}; exponent {exponent(lengths):.2f}")
    assert list(lengths.values()) == sorted(lengths.values()) and exponent(lengths) > 0.1
