"""Published recipes as presets: how others pretrain on synthetic data, as far as their papers and code tell.

A docstring says what the recipe is, where it comes from, what is known of it and where ours differs; docs/published.md
is made from them. A recipe has the dose, the rate and the batch of its source where these are known, for models of
that source's size: a small model needs a higher rate and fewer steps, which are given beside `--preset`. How much of a
model is taken is in `AS_PUBLISHED`, and `hf-up finetune --transfer as_published` goes by it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any


# For families that do not read the buffer: every round writes all of it, and each row is served once.
ONCE = {
    "source_batch": 512, "buffer_size": 512, "rows_per_round": 512, "num_resets": 0, "burn_in_rounds": 1,
    "sampling": "without_replacement",
}  # fmt: skip
NEVER = 10**9  # rows between two rounds
TASKS = ("identity", "reverse", "sort", "set", "union", "delete", "stack")


def x_transformers(max_steps: int, batch_size: int) -> dict[str, Any]:
    """What `UniversalPretrainWrapper` of x-transformers does: a buffer of noise that never changes.

    Its rounds write into a copy of the buffer (`buffer[index]` makes one), so that the model is trained for ever on
    the rows of the beginning: 20 times the batch, half of them uniform noise, half constant.

    Source: lucidrains/x-transformers, `up_wrapper.py`, 2.31.10. It has no training loop, so no rate and no dose.

    Known: of 80 rows, none changed in 30 steps (run by us).

    Ours differs: constant rows have a symbol each; there all have the same one.
    """
    return {
        "machines": "uniform=0.5,constant=0.5", "buffer_size": 20 * batch_size, "source_batch": 2,
        "rows_per_round": NEVER, "num_resets": 0, "burn_in_rounds": 0, "seed_length": 8, "context_length": 512,
    }  # fmt: skip


def x_transformers_as_meant(max_steps: int, batch_size: int) -> dict[str, Any]:
    """What `UniversalPretrainWrapper` of x-transformers would do if its rounds reached the buffer.

    One LSTM of one layer, drawn once, with the initial weights of `torch.nn`, near-greedy, that reads a seed of 8 and
    a row of the buffer before it writes; 20 rows a round are turned into noise.

    Source: lucidrains/x-transformers, `up_wrapper.py`, 2.31.10.

    Known: such an LSTM goes round in loops: zlib packs its rows into 5 to 11% of what noise needs (measured by us, 3
    seeds, 60 steps of 8 rows). There is little in them to be learned.

    Ours differs: its width is 128, not that of the model (`--hidden_size`); its read-out is not scaled by a number
    below 1.1, which changes nothing at temperature 1e-4; the condition is read before the seed.
    """
    return {
        "machines": "lstm", "num_layers": 1, "hidden_size": 128, "gain_range": [1.0, 1.0],
        "temperature_range": [1e-4, 1e-4], "conditioning": "prefix", "seed_length": 8, "machines_per_round": 1,
        "redraw_every": 0, "source_batch": batch_size, "rows_per_round": batch_size, "buffer_size": 20 * batch_size,
        "reset_every": 1, "num_resets": min(20, 20 * batch_size), "burn_in_rounds": 0, "context_length": 512,
    }  # fmt: skip


def nca(max_steps: int, batch_size: int) -> dict[str, Any]:
    """Frames of neural cellular automata on a torus of 12 x 12 cells, of middle compressibility.

    Source: Lee et al., arXiv 2603.10055; danihyunlee/nca-pre-pretraining. 164M tokens in rows of 1,024, 32 rows a
    step, rate 1e-4 reached at the end of a warm-up as long as the run. Rules whose rows zlib brings below half their
    size are left out (for code: kept are those at 0.3 to 0.4).

    Known: OpenWebText perplexity of a model of 1.6B weights after 9B tokens: 13.82, from scratch 14.66, after C4
    14.69, after Dyck 14.35.

    Ours differs: patches of 2 x 2 cells with 10 states need 10,000 symbols; here single cells have up to 10 states,
    and patches up to 3 (up to 4 with 257 symbols and more). Rules are drawn for ever, where the original keeps 16,000.
    Compressibility is that of the row against noise of the same symbols. The first frame is judged too.
    """
    return ONCE | {
        "machines": "nca", "complexity": "0.5:1.0", "machines_per_round": 64, "burn_in_rounds": 8,
        "family": ["nca.max_states=10", "nca.sides=12", "nca.temperature=0.0001"],
        "context_length": 1024, "max_steps": 5000, "per_device_train_batch_size": 32, "learning_rate": 1e-4,
        "lr_scheduler_type": "constant_with_warmup", "warmup_steps": 5000, "adam_beta2": 0.999,
    }  # fmt: skip


def procedural(max_steps: int, batch_size: int, task: str = "") -> dict[str, Any]:
    """Questions of 64 symbols and their answers: copy, reverse, sort, set, union, delete, stack.

    `procedural` mixes all of them, `procedural_TASK` has one.

    Source: Shinnick et al., arXiv 2601.21725; 2,500 steps of 64 rows, AdamW at 5e-4 throughout, weight decay 0.1, no
    warm-up, loss on answers alone.

    Known: the same loss on C4, CodeParrot and DeepMind's mathematics with 55, 67 and 86% of the data. Taken are
    attention, MLPs and norms on C4, attention alone on code; the vocabulary starts around the mean of the old rows.

    Ours differs: a row of 256 holds as many questions as fit, not one; the paper mixes tasks in other ways.
    """
    family = ["procedural.length_range=64,64", "procedural.symbols_range=99,99"]
    return ONCE | {
        "machines": "procedural@1" if task else "procedural@64",
        "family": [*family, f"procedural.tasks={task or ','.join(TASKS)}"],
        "alphabet_size": 100, "context_length": 256, "max_steps": 2500, "per_device_train_batch_size": 64,
        "learning_rate": 5e-4, "lr_scheduler_type": "constant", "warmup_steps": 0, "weight_decay": 0.1,
        "adam_beta2": 0.999,
    }  # fmt: skip


def k_dyck(max_steps: int, batch_size: int, kinds: int = 64) -> dict[str, Any]:
    """Nested brackets of 64 or 128 kinds: one language, in which symbol i opens what symbol i + k closes.

    Source: Shinnick et al., arXiv 2601.21725 (k = 64; brackets open with chance 0.49); 500 steps of 32 rows of 2,048.

    Known: 98% of needles found in a haystack, from 10% (the paper's abstract).

    Ours differs: which symbols are brackets of a kind is drawn once for the run. k = 128 takes all 256 symbols; the
    paper has 64.
    """
    family = [f"dyck.{name}" for name in _brackets(kinds, chance=0.49, depth=1024)]
    return ONCE | {
        "machines": "dyck@1", "family": family, "alphabet_size": 2 * kinds, "context_length": 2048, "max_steps": 500,
        "per_device_train_batch_size": 32, "learning_rate": 5e-4, "lr_scheduler_type": "constant", "warmup_steps": 0,
        "weight_decay": 0.1, "adam_beta2": 0.999,
    }  # fmt: skip


def k_shuffle_dyck(max_steps: int, batch_size: int, kinds: int = 64) -> dict[str, Any]:
    """Shuffled brackets of 64 or 128 kinds, at most 16 open at once: each kind balances, and kinds cross.

    Source: Hu et al., arXiv 2502.19249; michahu/pre-pretraining, `src/grammar.py`. 500 steps of 32 rows of 2,048, rate
    1e-3 after a warm-up of 500 (the file; the paper has 5e-4 and 1,000), weight decay 0.1.

    Known: a model of 1B weights reaches the loss of 1.63B tokens with 1.10B; 64 to 128 kinds did best.

    Ours differs: brackets are symbols, not numbers written as text; brackets open with chance 0.5 (0.51 in the file).
    """
    family = [f"shuffle_dyck.{name}" for name in _brackets(kinds, chance=0.5, depth=16)]
    return ONCE | {
        "machines": "shuffle_dyck@1", "family": family, "alphabet_size": 2 * kinds, "context_length": 2048,
        "max_steps": 500, "per_device_train_batch_size": 32, "learning_rate": 1e-3,
        "lr_scheduler_type": "constant_with_warmup", "warmup_steps": 500, "weight_decay": 0.1, "adam_beta2": 0.999,
    }  # fmt: skip


def rnn_ppt(max_steps: int, batch_size: int) -> dict[str, Any]:
    """1,000 random linear networks of 64 units and spectral radius 0.9, which stay for the whole run.

    Source: arXiv 2605.10129. 500 steps of 32 rows of 2,048, rate 7e-4 after a warm-up of 500, on 160M weights.

    Known: C4 loss 3.6012 after it, 3.6176 after Dyck, 3.6269 from scratch (160M weights, 3 seeds).

    Ours differs: the logits' deviation is drawn from 1 to 8 for each network; with the published weights it is near 0
    for 256 symbols, and rows are noise. Rows are drawn anew, where the original keeps 100 a network.
    """
    return ONCE | {
        "machines": "rnn@1000", "conditioning": "none", "machines_per_round": 64, "seed_length": 1,
        "family": ["rnn.units=64", "rnn.radius_range=0.9,0.9", "rnn.linear_share=1"],
        "context_length": 2048, "max_steps": 500, "per_device_train_batch_size": 32, "learning_rate": 7e-4,
        "lr_scheduler_type": "constant_with_warmup", "warmup_steps": 500,
    }  # fmt: skip


def solomonoff(max_steps: int, batch_size: int) -> dict[str, Any]:
    """Random programs of BrainPhoque, a universal machine of 10 cells that count modulo 128.

    Source: Grau-Moya et al., arXiv 2401.14953; google-deepmind/neural_networks_solomonoff_induction, `train.py`:
    programs of up to 100 instructions, rows of 256, 32 rows a step, Adam at 1e-4.

    Known: larger models predict such programs better, and transfer to other sources, of which none is text. The file's
    run of 100 steps is a demonstration; the paper's dose is not in the repository.

    Ours differs: a program runs until it has filled the row or 8 instructions a symbol are spent, where the original
    stops after 100; a row that is not full repeats what was written, where the original masks it; each program writes
    through an injection of its own.
    """
    return ONCE | {
        "machines": "program", "alphabet_size": 128, "context_length": 256, "per_device_train_batch_size": 32,
        "family": ["program.cells=10", "program.length_range=100,100", "program.modulus_range=128,128"],
        "learning_rate": 1e-4, "lr_scheduler_type": "constant", "warmup_steps": 0, "adam_beta2": 0.999,
    }  # fmt: skip


def pcfg(max_steps: int, batch_size: int, exponent: float = 1.0) -> dict[str, Any]:
    """Sentences of one random context-free grammar of the Penn Treebank's size, rules uniform or by Zipf's law.

    `pcfg_uniform` and `pcfg_zipf`: 2,664 rules for 512 words, depth 16 at most.

    Source: we know these figures alone, not the text that gives them; so there is no dose and no rate.

    Known: nothing that we could check.

    Ours differs: with 256 symbols there are 255 words, and so 2,407 rules. The grammar is drawn, not taken from the
    Treebank.
    """
    return ONCE | {"machines": "pcfg@1", "family": [f"pcfg.exponent={exponent:g}"]}


def ca16(max_steps: int, batch_size: int) -> dict[str, Any]:
    """One-dimensional cellular automata with 16 states: 16 rules of 4,096 entries each, which stay.

    Source: we know the number of states alone, not the text that gives it; so there is no dose and no rate.

    Known: for automata of two states, rules between order and chaos do best (Zhang et al., arXiv 2410.02536).

    Ours differs: how many rules there are, the share of active entries (0.2 to 0.9) and the width of the ring (8 to
    64) are our choice.
    """
    return ONCE | {"machines": "ca@16", "family": ["ca.states=16"]}


def lime(max_steps: int, batch_size: int) -> dict[str, Any]:
    """Deduction, induction and abduction with random rules, judged on the answer alone.

    Source: Wu et al., arXiv 2101.06223; tonywu95/LIME, `reason/generate_data.py`. Compared with simpler tasks in
    arXiv 2206.10139.

    Known: 67% of what pretraining on text brings, over six tasks (arXiv 2206.10139).

    Ours differs: a decoder alone reads question and answer in one row; the lists of lower-case letters and signs are
    left out of the question; 72 of 256 symbols take part in an example, there 68 of 1,000.
    """
    return ONCE | {"machines": "lime@1", "context_length": 512}


def set_function(max_steps: int, batch_size: int) -> dict[str, Any]:
    """The set function: a string, then its different symbols in the order in which they came.

    Source: Wu, Li and Liang, arXiv 2206.10139; felixzli/synthetic_pretraining. Strings of 10 to 220 tokens.

    Known: 65% of what pretraining on text brings, over six tasks, nearly as much as LIME.

    Ours differs: a decoder alone reads question and answer in one row; strings are at most a quarter of the row; 255
    symbols, there 32,000.
    """
    family = ["procedural.tasks=set", "procedural.length_range=10,220", "procedural.symbols_range=8,255"]
    return ONCE | {"machines": "procedural@64", "family": family, "context_length": 1024}


def _brackets(kinds: int, chance: float, depth: int) -> list[str]:
    return [
        f"max_kinds={kinds}", f"min_kinds={kinds}", f"open_range={chance},{chance}", f"depth_range={depth},{depth}"
    ]  # fmt: skip


PUBLISHED: dict[str, Callable[[int, int], dict[str, Any]]] = {
    "x_transformers": x_transformers,
    "x_transformers_as_meant": x_transformers_as_meant,
    "nca": nca,
    "procedural": procedural,
    **{f"procedural_{task}": partial(procedural, task=task) for task in TASKS},
    "k_dyck_64": partial(k_dyck, kinds=64),
    "k_dyck_128": partial(k_dyck, kinds=128),
    "k_shuffle_dyck_64": partial(k_shuffle_dyck, kinds=64),
    "k_shuffle_dyck_128": partial(k_shuffle_dyck, kinds=128),
    "rnn_ppt": rnn_ppt,
    "solomonoff": solomonoff,
    "pcfg_uniform": partial(pcfg, exponent=0.0),
    "pcfg_zipf": partial(pcfg, exponent=1.0),
    "ca16": ca16,
    "lime": lime,
    "set": set_function,
}

# What a recipe takes of a model (`finetune --transfer`) and what becomes of its vocabulary (`--embeddings`); the
# others take all and keep it.
ALL = ("all", "keep")
_BODY = ("all_but_embeddings", "mean")
AS_PUBLISHED: dict[str, tuple[str, str]] = {
    "nca": ("all", "reinit"),
    "procedural": _BODY,
    **{f"procedural_{task}": _BODY for task in TASKS},
    "k_dyck_64": _BODY,
    "k_dyck_128": _BODY,
}
