"""Continues a pretrained model on real text, or runs the same training from random weights.

    python recipes/finetune.py --model out/quickstart --train_file corpus.txt --eval_file held_out.txt
    python recipes/finetune.py --model out/quickstart --train_file corpus.txt --eval_file held_out.txt \
        --from_scratch --compare_with out/quickstart-finetuned

Both runs see the same rows in the same order (`--seed`). `--compare_with` draws the curves of earlier runs beside this
one's in `curves.png`. Flags are those of `ScriptArguments` (below) and of `transformers.TrainingArguments`;
`--config FILE.yaml` sets any of them, and the command line wins.
"""

from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from hf_universal_pretrain.callbacks import TimeEstimateCallback
from hf_universal_pretrain.cli import hub_errors, parse_args, push_model, usage_errors, use_all_cores
from hf_universal_pretrain.evaluation import cut_windows
from hf_universal_pretrain.hub import claim_model_repository
from hf_universal_pretrain.modeling import build_model, build_tokenizer, check_fits, load_model, read_config
from hf_universal_pretrain.output import checkpoint_to_resume, claim_output_folder
from hf_universal_pretrain.plotting import read_history
from hf_universal_pretrain.text import TokenBlocks, read_dataset, read_text
from hf_universal_pretrain.trainer import BitsTrainer


@dataclass
class ScriptArguments:
    model: str = field(metadata={"help": "Folder or Hub id of the pretrained model; its tokenizer is used."})
    train_file: str | None = field(default=None, metadata={"help": "Text to train on (UTF-8, .gz too)."})
    dataset: str | None = field(
        default=None,
        metadata={"help": "Instead of --train_file: Hub id or folder of a data set; its split 'train' is used."},
    )
    text_column: str = field(default="text", metadata={"help": "Column of --dataset that holds the text."})
    eval_file: str | None = field(
        default=None,
        metadata={"help": "Text to measure on. Without one, the last tenth of the training text is held out."},
    )
    from_scratch: bool = field(
        default=False, metadata={"help": "Start from random weights of the same configuration."}
    )
    context_length: int = field(default=256, metadata={"help": "Tokens in a training row, and bytes in a window."})
    eval_windows: int = field(default=50, metadata={"help": "Windows of the evaluation text."})
    compare_with: list[str] = field(
        default_factory=list, metadata={"help": "Folders of runs whose curves are drawn beside this one's."}
    )


def defaults(asked: Namespace) -> dict[str, Any]:
    """Where this recipe differs from `TrainingArguments`."""
    kind = "scratch" if asked.from_scratch else "finetuned"
    return {
        "output_dir": f"{asked.model.rstrip('/')}-{kind}",
        "max_steps": 1000, "learning_rate": 1e-3, "warmup_steps": 50, "adam_beta2": 0.95, "save_total_limit": 2,
        "lr_scheduler_type": "cosine", "logging_steps": 10, "logging_nan_inf_filter": False,
        "ddp_find_unused_parameters": False, "eval_strategy": "steps", "eval_steps": 0.05, "eval_on_start": True,
    }  # fmt: skip


def main() -> None:
    script, args = parse_args((ScriptArguments, TrainingArguments), __doc__, defaults)

    # ---- Everything that can be wrong is found here, before anything is written ----
    with usage_errors(), hub_errors():
        if (script.train_file is None) == (script.dataset is None):
            raise ValueError("give the training text with either --train_file or --dataset")
        resume = checkpoint_to_resume(args)
        claim_output_folder(args, resume)
        tokenizer = build_tokenizer(script.model, flag="--model")
        if script.from_scratch:
            model = build_model(read_config(script.model), args.seed)
        else:
            model = load_model(script.model)
        check_fits(model, tokenizer, script.context_length)
        if script.train_file:
            text = read_text(script.train_file, "--train_file")
        else:
            text = read_dataset(script.dataset, script.text_column)
        if script.eval_file:
            held_out = read_text(script.eval_file, "--eval_file")
        else:
            text, held_out = text[: -len(text) // 10], text[-len(text) // 10 :]
        windows = {"held_out": cut_windows(held_out, script.context_length, script.eval_windows, "--eval_file")}
        blocks = TokenBlocks(text, tokenizer, script.context_length)
        others = {Path(run).name: read_history(run) for run in script.compare_with}
        if args.push_to_hub:
            claim_model_repository(args)

    if args.process_index == 0:
        start = "random weights" if script.from_scratch else f"the weights of {script.model}"
        print(
            f"Training {model.num_parameters():,} parameters from {start} on {len(blocks):,} rows of text", flush=True
        )

    # ---- Training ----
    if args.device.type == "cpu":
        use_all_cores()
    trainer = BitsTrainer(
        model=model,
        args=args,
        train_dataset=blocks,
        processing_class=tokenizer,
        context_length=script.context_length,
        eval_windows=windows,
        started_from=None if script.from_scratch else script.model,
        compare_with=others,
        callbacks=[TimeEstimateCallback()],
    )
    trainer.train(resume_from_checkpoint=resume)
    trainer.finish()
    if args.push_to_hub:
        push_model(trainer)


if __name__ == "__main__":
    main()
