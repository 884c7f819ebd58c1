"""Presets: settings that go together, by name.

A preset is a function of the run's length and batch that returns settings of `SyntheticUPConfig` and of `UPConfig`.
The first line of its docstring says what it is for.
"""

from typing import Any

from hf_universal_pretrain.stream.published import ALL, AS_PUBLISHED, PUBLISHED, pcfg


# Pools that grow: rows must be learned to be of use, and those of one machine can be. Machines that are met are met
# again. A further stage of 64 was not learned in a quarter of such a run, and took away what the others had brought.
POOLS = ("two_clocks@1", "two_clocks@4", "two_clocks@16")


def warm_start(max_steps: int, batch_size: int) -> dict[str, Any]:
    """A start for training on real text, of a model that must learn its positions, such as GPT-2.

    Random machines that write words, first one, then 4, then 16, each for a third of the steps. The rate stays at its
    peak: what follows is more training.
    """
    return {
        "machines": POOLS[0] if max_steps >= len(POOLS) else POOLS[-1],
        "curriculum": growing(POOLS, max_steps),
        "source_batch": 256, "rows_per_round": 256, "buffer_size": 512, "num_resets": 2, "burn_in_rounds": 4,
        "lr_scheduler_type": "constant_with_warmup",
    }  # fmt: skip


def warm_start_rotary(max_steps: int, batch_size: int) -> dict[str, Any]:
    """A start for training on real text, of a model with rotary positions, such as Llama.

    One random grammar that stays: what a phrase may be followed by, over sentences that never come twice. Such a model
    gains more from it than from `warm_start`, GPT-2 less. Further grammars, or other machines beside it, take away
    from it.
    """
    return pcfg(max_steps, batch_size) | {"lr_scheduler_type": "constant_with_warmup"}


def zero_shot(max_steps: int, batch_size: int) -> dict[str, Any]:
    """A model that predicts text which it has never seen, as it is: it learns to learn within a row.

    New machines for every row, so that nothing but the row itself tells how it goes on.
    """
    return {"machines": "context_tree=0.9,lstm=0.1"}


def paper(max_steps: int, batch_size: int) -> dict[str, Any]:
    """The recipe of arXiv 2506.20057, as its code runs it.

    4-layer LSTMs of width 128, one a round, argmax, seed 8, embedding scale 1e-8, gain u^4 with u uniform in
    [1, 3.5], 50 constant and 50 uniform resets a round, source batch 2x and buffer 40x the training batch (20x the
    source batch), a round for each batch.
    """
    return {
        "machines": "lstm", "num_layers": 4, "hidden_size": 128, "embedding_scale": 1e-8, "alphabet_size": 256,
        "gain_range": [1.0, 3.5**4], "gain_law": "fourth_power", "temperature_range": [0.0, 0.0],
        "conditioning": "aligned", "seed_length": 8, "machines_per_round": 1, "redraw_every": 1,
        "source_batch": 2 * batch_size, "rows_per_round": batch_size, "buffer_size": max(40 * batch_size, 100),
        "reset_every": 1, "num_resets": 100, "burn_in_rounds": 0,
    }  # fmt: skip


PRESETS = {
    "warm_start": warm_start, "warm_start_rotary": warm_start_rotary, "zero_shot": zero_shot, "paper": paper,
    **PUBLISHED,
}  # fmt: skip


def taken_of(name: str) -> tuple[str, str]:
    """What a preset's source takes of a model that was pretrained with it: a part (see `models.transfer.TAKES`) and
    what becomes of the vocabulary (see `EMBEDDINGS`)."""
    return AS_PUBLISHED.get(name, ALL)


def settings_of(name: str, given: set[str], max_steps: int, batch_size: int) -> dict[str, Any]:
    """The settings that a preset brings to a command line.

    Machines that are given take the place of the preset's curriculum; where no preset is named beside them, they take
    the place of the preset.

    Args:
        name: of the preset.
        given: the settings that were given by name.
        max_steps: of the run.
        batch_size: rows a step, in a process.
    """
    if "machines" in given and "preset" not in given:
        return {}
    settings = PRESETS[name](max_steps, batch_size) | {"recipe": name}
    return {key: value for key, value in settings.items() if key != "curriculum" or "machines" not in given}


def growing(stages: tuple[str, ...], max_steps: int) -> list[str]:
    """A curriculum that gives each mixture the same share of the steps; the first is where the run starts. Empty where
    there are fewer steps than stages."""
    if max_steps < len(stages):
        return []
    starts = (round(number * max_steps / len(stages)) for number in range(1, len(stages)))
    return [f'{{at: {at}, machines: "{stage}"}}' for at, stage in zip(starts, stages[1:], strict=True)]
