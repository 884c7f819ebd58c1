"""Pretrains every causal architecture of the installed transformers for four steps, and writes down what works.

    python -m recipes.measure.architectures --json recipes/results/architectures.json
    python -m recipes.measure.architectures --json out/some.json --names gpt2 mamba2 qwen3_moe

Each architecture runs at a tiny size (`tiny.py`) in a process of its own: it is built, checked, trained through
`UPTrainer`, saved, and loaded with `AutoModelForCausalLM.from_pretrained`; the loaded model must give the same logits,
and the first logged loss, on noise, must be ln(vocabulary) within 5%. `resumes_exactly`: a model with other random
weights that goes on from the checkpoint of step 2 logs the same losses and ends with the same weights, to the last
bit. The full default configuration is built too, without memory, as `pretrain.py --model NAME --dry_run` does. What
stands in the JSON file is not run again.
"""

import json
import math
import multiprocessing
import os
import sys
import tempfile
import traceback
import warnings
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import torch
import transformers
from tqdm.auto import tqdm
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from hf_universal_pretrain import SyntheticUPConfig, SyntheticUPDataset, UPConfig, UPTrainer
from hf_universal_pretrain.evaluation import cut_windows
from hf_universal_pretrain.models.build import build_config, build_model, check_fits
from hf_universal_pretrain.models.checks import check_causal
from hf_universal_pretrain.models.tokenizers import build_tokenizer
from hf_universal_pretrain.text import interpreter_texts
from hf_universal_pretrain.training.plan import plan_table

from .tiny import tiny_config


CONTEXT = 64
# `--config_overrides` that an architecture needs
_CALM = "initializer_range=0.02"  # their own makes an untrained model too sure of itself
_INDEXER = "indexer_n_heads=4,indexer_kv_heads=1,indexer_head_dim=256,indexer_budget=2048,indexer_compress_ratio=4"
NEEDS: dict[str, str] = {
    "deepseek_v2": "num_experts_per_tok=2",
    "dots1": "n_routed_experts=4,n_shared_experts=1,num_experts_per_tok=2",
    "falcon_mamba": _CALM,
    "mamba": _CALM,
    "mamba2": _CALM,
    "qwen4_exp": _INDEXER,
    "qwen4_exp_text": _INDEXER,
    "reformer": "axial_pos_embds=false",  # else rows of exactly 4,096 tokens
    "xmod": "default_language=en_XX",
    "youtu": "embedding_initializer_range=0.01",
}

# what keeps an architecture from being repeatable at all
NOT_REPEATABLE: dict[str, str] = {
    "reformer": "it seeds its hashing anew from the machine's entropy, in each layer and step: no two runs are alike",
}


def build_tiny(name: str, overrides: str | None, seed: int = 0) -> PreTrainedModel:
    """The architecture at a tiny size, after the checks of `pretrain.py`.

    Raises:
        ValueError: if the package refuses it, as a user would see it.
    """
    tokenizer = build_tokenizer("byte")
    model = build_model(tiny_config(name, tokenizer, overrides), seed)
    check_fits(model, tokenizer, CONTEXT)
    check_causal(model, CONTEXT)
    return model


def make_trainer(model: PreTrainedModel, folder: str | Path) -> UPTrainer:
    """Four steps on noise, with a checkpoint in the middle."""
    tokenizer = build_tokenizer("byte")
    # uniform noise: where a row repeats itself, a model with tied embeddings that leans towards its input is right
    data = SyntheticUPConfig(
        machines="uniform", context_length=CONTEXT, source_batch=16, buffer_size=64, rows_per_round=16,
        burn_in_rounds=2,
    )  # fmt: skip
    args = UPConfig(
        str(folder), max_steps=4, per_device_train_batch_size=4, logging_steps=1, warmup_steps=0, save_steps=2,
        use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    plan_table(model, args, data)
    return UPTrainer(
        model=model, args=args, train_dataset=SyntheticUPDataset(data, tokenizer), processing_class=tokenizer,
        eval_windows={"english": cut_windows(interpreter_texts()["english"], CONTEXT, 2)},
    )  # fmt: skip


def losses_of(trainer: UPTrainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def pretrain(model: PreTrainedModel, folder: str) -> tuple[dict[str, Any], UPTrainer]:
    """Trains, saves and loads a model.

    Returns:
        `class`, `parameters`, `loss` (nats a token, of the first step, so before any update) and `ln_vocabulary`; and
        the trainer.

    Raises:
        AssertionError: if a promise is broken.
    """
    trainer = make_trainer(model, folder)
    tokenizer = trainer.processing_class
    trainer.train()
    trainer.finish()
    losses = losses_of(trainer)
    ln_vocabulary = math.log(len(tokenizer))
    assert abs(losses[0] / ln_vocabulary - 1) < 0.05, f"the untrained model logs {losses[0]:.3f}, not ln V"
    assert all(math.isfinite(loss) for loss in losses), f"losses {losses}"
    row = torch.randint(3, 259, (2, CONTEXT), generator=torch.Generator().manual_seed(1))
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    mine, theirs = logits(model, row), logits(loaded, row)
    # the same weights; where they lie in memory may change the order of a sum
    assert torch.allclose(mine, theirs, rtol=1e-5, atol=1e-5), "the loaded model gives other logits"
    for special in ("bos_token_id", "eos_token_id", "pad_token_id"):
        token = getattr(tokenizer, special)
        for config in (loaded.config.get_text_config(decoder=True), loaded.generation_config):
            told = getattr(config, special)
            expected = {token} if token is not None else {None, tokenizer.eos_token_id}
            # transformers 5.17 has lists in generation configurations
            assert {*(told if isinstance(told, list) else [told])} <= expected
    figures = {
        "class": type(model).__name__, "parameters": model.num_parameters(), "loss": round(losses[0], 4),
        "ln_vocabulary": round(ln_vocabulary, 4),
    }  # fmt: skip
    return figures, trainer


def difference_after_resume(whole: UPTrainer, other: PreTrainedModel, folder: str | Path) -> str | None:
    """How a run that goes on from the middle of another one differs from it; None if in nothing.

    Args:
        whole: the run that was not stopped, with its checkpoint.
        other: a model of the same configuration with other weights.
        folder: for the run that goes on.
    """
    resumed = make_trainer(other, folder)
    try:
        resumed.train(resume_from_checkpoint=f"{whole.args.output_dir}/checkpoint-2")
    except ValueError as error:
        return f"refused: {error}"
    theirs, mine = losses_of(whole), losses_of(resumed)
    if theirs != mine:
        return f"losses {mine[2:]} instead of {theirs[2:]}"
    weights = resumed.model.state_dict()
    differ = [name for name, weight in whole.model.state_dict().items() if not torch.equal(weight, weights[name])]
    return f"{len(differ)} of {len(weights)} weights differ, as {differ[0]}" if differ else None


@torch.no_grad()
def logits(model: PreTrainedModel, row: torch.Tensor) -> torch.Tensor:
    return model.eval()(input_ids=row, use_cache=False).logits


def build_default(name: str, overrides: str | None) -> int:
    """Parameters of the architecture's default configuration with the byte tokenizer, which takes no memory."""
    return build_model(build_config(name, build_tokenizer("byte"), overrides), seed=0, empty=True).num_parameters()


def examine(name: str, answer: Any) -> None:
    """Sends what there is to say about an architecture: `status` and, by status, figures or the reason."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    sys.stdout = open(os.devnull, "w")
    result: dict[str, Any] = {}
    for overrides in (None, *([NEEDS[name]] if name in NEEDS else [])):
        try:
            model = build_tiny(name, overrides)
            size = build_default(name, overrides)
        except ValueError as error:
            result |= {"status": "cannot", "reason": " ".join(str(error).split())}
            continue
        try:
            with tempfile.TemporaryDirectory() as folder:
                figures, trainer = pretrain(model, f"{folder}/whole")
                result |= {"status": "works", **figures, "default_parameters": size}
                other = build_tiny(name, overrides, seed=1)
                difference = difference_after_resume(trainer, other, f"{folder}/resumed")
                difference = difference and NOT_REPEATABLE.get(name, difference)
                result |= {"resumes_exactly": difference is None, **({"resume": difference} if difference else {})}
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            result |= {"status": "fails", "reason": reason, "place": f"{Path(place.filename).name}:{place.lineno}"}
            continue
        if overrides:
            result.pop("reason", None)
            result.pop("place", None)
            result |= {"status": "needs a flag", "flag": f"--config_overrides {overrides}"}
        break
    answer.put(result)


def in_a_process(name: str, limit: float = 300.0) -> dict[str, Any]:
    """Examines an architecture in a forked process: it may crash, or take longer than `limit` seconds."""
    fork = multiprocessing.get_context("fork")
    answer = fork.SimpleQueue()
    process = fork.Process(target=examine, args=(name, answer))
    process.start()
    process.join(limit)
    if process.is_alive():
        process.kill()
        return {"status": "fails", "reason": f"took longer than {limit:.0f} seconds"}
    return {"status": "fails", "reason": f"crashed, exit code {process.exitcode}"} if answer.empty() else answer.get()


def counts(table: dict[str, dict[str, Any]]) -> dict[str, int]:
    """How many architectures there are of each status, and how many resume exactly."""
    found = {s: sum(r["status"] == s for r in table.values()) for s in ("works", "needs a flag", "cannot", "fails")}
    return {**found, "resumes exactly": sum(r.get("resumes_exactly", False) for r in table.values())}


def main() -> None:
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", default="out/architectures.json", help="Where the table is written and read back.")
    parser.add_argument("--names", nargs="+", default=list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES), help="Default: all.")
    asked = parser.parse_args()
    path = Path(asked.json)
    warnings.simplefilter("ignore")
    table = json.loads(path.read_text())["architectures"] if path.is_file() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # more would not survive the fork
    left = [name for name in asked.names if name not in table]
    for name in tqdm(left, "Architectures", unit="model"):
        table[name] = in_a_process(name)
        content = {
            "transformers": transformers.__version__,
            "counts": counts(table),
            "architectures": dict(sorted(table.items())),
        }
        path.write_text(json.dumps(content, indent=1) + "\n")
    for status in ("needs a flag", "cannot", "fails"):
        for name in asked.names:
            if table[name]["status"] == status:
                print(f"{name}: {status}: {table[name].get('flag') or table[name]['reason']}")
    print(json.dumps(counts(table)))


if __name__ == "__main__":
    main()
