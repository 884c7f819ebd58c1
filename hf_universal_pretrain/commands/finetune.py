"""Continues a pretrained model on real text, or runs the same training from random weights.

    python recipes/finetune.py --model out/quickstart --train_file corpus.txt --eval_file held_out.txt
    python recipes/finetune.py --model out/quickstart --train_file corpus.txt --eval_file held_out.txt \\
        --from_scratch --compare_with out/quickstart-finetuned

    python recipes/finetune.py --model out/quickstart --train_file corpus.txt --transfer attention
    python recipes/finetune.py --model out/quickstart --train_file corpus.txt --tokenizer OTHER \\
        --embeddings match_by_text

`--transfer` says which parts of the pretrained model are taken, `--embeddings` what becomes of its vocabulary; the
table of what was taken, re-drawn or skipped is printed, and stored weight by weight in `transfer.json`.

All runs see the same rows in the same order (`--seed`). `--compare_with` draws the curves of earlier runs beside this
one's in `curves.png`. Flags are those of `ScriptArguments` (below) and of `transformers.TrainingArguments`;
`--config FILE.yaml` sets any of them, and the command line wins. A run that was stopped goes on when the same command
is given again.
"""

import os
from argparse import Namespace
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainingArguments,
)

from hf_universal_pretrain.commands.arguments import parse_args
from hf_universal_pretrain.commands.endings import (
    alone_in,
    disk_errors,
    push_model,
    stoppable,
    train_and_finish,
    usage_errors,
    warn,
    where_to_go_on,
)
from hf_universal_pretrain.corpus import Corpus, open_dataset, open_files
from hf_universal_pretrain.evaluation import check_tokens, text_tokens
from hf_universal_pretrain.models.build import (
    build_model,
    check_fits,
    fit_config,
    load_model,
    override_settings,
    positions_of,
    read_config,
    weights_checksum,
)
from hf_universal_pretrain.models.checks import check_causal
from hf_universal_pretrain.models.tokenizers import build_tokenizer
from hf_universal_pretrain.models.transfer import EMBEDDINGS, TAKES, Taken, transfer, transfer_table
from hf_universal_pretrain.packed import StreamedBlocks, TokenBlocks
from hf_universal_pretrain.runs.checkpoints import write_json
from hf_universal_pretrain.runs.history import read_history
from hf_universal_pretrain.runs.origin import recipe_of, trained_length
from hf_universal_pretrain.runs.settings import at_least, check_arguments, run_settings, told_windows
from hf_universal_pretrain.stream.presets import PRESETS, taken_of
from hf_universal_pretrain.training.bits_trainer import BitsTrainer
from hf_universal_pretrain.training.stage_two import (
    KeepOptimizerCallback,
    VocabularyFirstCallback,
    pretraining_optimizer,
)
from hf_universal_pretrain.training.text_trainer import StreamedTextTrainer


AS_PUBLISHED = "as_published"


@dataclass
class ScriptArguments:
    model: str
    """Folder or Hub id of the pretrained model; its tokenizer is used."""
    train_file: str | None = None
    """Text to train on, of any size: UTF-8 text, or a table of texts (.jsonl, .csv, .parquet); .gz and .zst of these
    too. A pattern such as 'data/*.jsonl' takes many files, in the order of their names."""
    dataset: str | None = None
    """Instead of --train_file: Hub id or folder of a data set."""
    dataset_name: str | None = None
    """Configuration of --dataset, where it has several."""
    dataset_split: str = "train"
    """Split of --dataset to train on."""
    text_column: str = "text"
    """Column of tables and data sets that holds the text. Rows without one (null) are left out, and counted."""
    streaming: bool = False
    """Read the text while training, and keep nothing of it on disk. Needs --eval_file or --eval_split."""
    eval_file: str | None = None
    """Text to measure on, of any kind that --train_file takes. By default, the last tenth of the training text is held
    out."""
    eval_split: str | None = None
    """Instead of --eval_file: split of --dataset to measure on."""
    from_scratch: bool = False
    """Start from random weights of the same configuration."""
    transfer: str = field(default="all", metadata={"choices": [*TAKES, AS_PUBLISHED]})
    """Parts of the pretrained model that are taken; the others are drawn anew. 'attention' is all that mixes positions
    (state-space and recurrent mixers too), 'mlp' what works on each alone (experts and routers too). 'as_published':
    what the source of the model's --preset takes, and --embeddings as there."""
    embeddings: str | None = field(default=None, metadata={"choices": list(EMBEDDINGS)})
    """Rows of the vocabulary, in and out: 'keep' (default with --transfer all and the model's own tokenizer), 'reinit'
    (default otherwise), 'mean' (drawn around the mean of the pretrained rows), 'match_by_text' (tokens whose text is
    in both vocabularies keep their rows, the others as in 'mean')."""
    tokenizer: str | None = None
    """Another tokenizer than the model's: 'byte', a folder or a Hub id."""
    config_overrides: str | None = None
    """Changes to the model's configuration that leave its weights their shapes, as in attn_pdrop=0.1,resid_pdrop=0.1
    (dropout, for text that is read many times)."""
    pad_vocab_multiple_of: int = 1
    """Rows of the embeddings, rounded up to a multiple; where the model is drawn anew."""
    rescale_norms: bool = False
    """Give each matrix that is taken the norm of the random one in whose place it stands."""
    vocabulary_first: int = 0
    """Optimizer steps in which the vocabulary's rows alone are trained, in and out, before all weights are; 0: none.
    For a model that was pretrained over the symbols of a large tokenizer, which stand for nothing yet: 60 of 340 steps
    helped, with a vocabulary of 4,096."""
    keep_optimizer: bool = False
    """Go on with Adam's moments from the pretraining run's last checkpoint. By default they start anew, with a
    warm-up."""
    early_stopping_patience: int = 0
    """Stop after this many evaluations in a row without a new best, and keep the best model; 0: never."""
    context_length: int = 256
    """Tokens in a training row, and bytes in a window. By default as in the model's own training, where that is
    known."""
    eval_windows: int = 50
    """Windows of the evaluation text."""
    trust_remote_code: bool = False
    """Run the Python code that comes with the model or the tokenizer."""
    compare_with: list[str] = field(default_factory=list)
    """Folders of runs whose curves are drawn beside this one's."""
    license: str | None = None
    """Licence of the model, for its card, as the Hub names it: mit, apache-2.0, ... None by default."""

    @property
    def vocabulary_rows(self) -> str:
        """`--embeddings`, or what it stands for."""
        as_it_is = self.transfer == "all" and not self.tokenizer and self.pad_vocab_multiple_of == 1
        return self.embeddings or ("keep" if as_it_is else "reinit")

    @property
    def takes_all(self) -> bool:
        """Whether the pretrained model is taken as it is."""
        changed = self.from_scratch or self.transfer != "all" or self.tokenizer or self.pad_vocab_multiple_of != 1
        return not changed and self.vocabulary_rows == "keep" and not self.rescale_norms


def defaults(asked: Namespace) -> dict[str, Any]:
    """Where this recipe differs from `TrainingArguments`."""
    length = trained_length(asked.model) if "model" in asked.given else None  # -h may come without one
    beside = Path(asked.model if Path(asked.model).name not in ("", "..") else os.path.abspath(asked.model))
    kind = "scratch" if asked.from_scratch else "finetuned" if asked.transfer == "all" else asked.transfer
    return {
        "metric_for_best_model": "eval_held_out_bits_per_byte", "greater_is_better": False,
        "output_dir": f"{beside}-{kind}",
        # epochs that are asked for count: transformers would let `max_steps` win
        "max_steps": -1 if "num_train_epochs" in asked.given else 1000,
        "learning_rate": 1e-3, "warmup_steps": 50, "adam_beta2": 0.95, "save_total_limit": 2,
        "lr_scheduler_type": "cosine", "logging_steps": 10, "logging_nan_inf_filter": False,
        "ddp_find_unused_parameters": False, "eval_strategy": "steps", "eval_steps": 0.05, "eval_on_start": True,
        "resume_from_checkpoint": "auto",
    } | ({"context_length": length} if length else {})  # fmt: skip


def as_published(script: ScriptArguments) -> ScriptArguments:
    """The arguments with what the source of the model's preset takes, where that is asked for."""
    if script.transfer != AS_PUBLISHED:
        return script
    name = recipe_of(script.model)
    if name not in PRESETS:
        told = f"names the preset {name!r}, which there is not" if name else "does not tell with which preset"
        raise ValueError(
            f"--transfer as_published: {script.model} {told} it was pretrained: give one of {', '.join(TAKES)}"
        )
    take, embeddings = taken_of(name)
    return replace(script, transfer=take, embeddings=script.embeddings or embeddings)


def callbacks(script: ScriptArguments, args: TrainingArguments) -> list[TrainerCallback]:
    """Adam's moments of the pretraining, the vocabulary first, and an early stop, where they are asked for."""
    made: list[TrainerCallback] = []
    if script.vocabulary_first:
        if args.deepspeed:
            raise ValueError("--vocabulary_first: DeepSpeed keeps gradients of its own: leave one of the two out")
        made.append(VocabularyFirstCallback(script.vocabulary_first))
    if script.keep_optimizer:
        made.append(KeepOptimizerCallback(pretraining_optimizer(script.model)))
    if script.early_stopping_patience:
        if args.eval_strategy == "no":
            raise ValueError("--early_stopping_patience needs evaluations: give --eval_strategy steps")
        # the best model is loaded in the end, so there must be a checkpoint at each evaluation
        args.load_best_model_at_end, args.save_strategy = True, args.eval_strategy
        args.save_steps = args.eval_steps or args.save_steps
        args.restore_callback_states_from_checkpoint = True  # a run that goes on stays as patient as it was
        made.append(EarlyStoppingCallback(script.early_stopping_patience))
    return made


@dataclass
class Start:
    """What training starts from."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    taken: list[Taken] = field(default_factory=list)
    """What became of each weight, where not all are taken."""
    weights: str | None = None
    """Checksum of the pretrained weights; None where none are taken."""


def start_from(script: ScriptArguments, seed: int) -> Start:
    """The model that training starts from, and its tokenizer."""
    trust = script.trust_remote_code
    old_tokenizer = build_tokenizer(script.model, "--model", trust)
    overrides = script.config_overrides
    changed = override_settings(read_config(script.model, trust), overrides, trust) if overrides else None
    if script.takes_all:
        model = load_model(script.model, trust_remote_code=trust, config=changed)
        return Start(model, old_tokenizer, weights=weights_checksum(model))
    tokenizer = build_tokenizer(script.tokenizer, trust_remote_code=trust) if script.tokenizer else old_tokenizer
    config = fit_config(changed or read_config(script.model, trust), tokenizer, script.pad_vocab_multiple_of)
    model = build_model(config, seed, trust_remote_code=trust)
    if script.from_scratch:
        return Start(model, tokenizer)
    old = load_model(script.model, trust_remote_code=trust)
    rows, rescale = script.vocabulary_rows, script.rescale_norms
    taken = transfer(old, model, script.transfer, rows, old_tokenizer, tokenizer, seed, rescale)
    return Start(model, tokenizer, taken, weights_checksum(old))


def training_text(script: ScriptArguments) -> Corpus:
    """The text to train on, unread."""
    if script.dataset is not None:
        return open_dataset(script.dataset, script.dataset_name, script.dataset_split, script.text_column)
    return open_files(script.train_file or "", script.text_column, "--train_file")


def held_out(script: ScriptArguments, text: Corpus) -> tuple[Tensor, int | None]:
    """Windows to measure on, and after how many bytes the text to train on ends (None: it is taken whole)."""
    length, count = script.context_length, script.eval_windows
    if script.eval_split and script.dataset:
        other = open_dataset(script.dataset, script.dataset_name, script.eval_split, script.text_column)
        return other.windows(length, count, "--eval_split"), None
    if script.eval_file:
        other = open_files(script.eval_file, script.text_column, "--eval_file")
        return other.windows(length, count, "--eval_file"), None
    end = text.length() + -text.length() // 10
    return text.windows(length, count, "--eval_file", begin=end), end


def training_rows(script: ScriptArguments, args: TrainingArguments, tokenizer: PreTrainedTokenizerBase, text: Corpus,
                  end: int | None) -> TokenBlocks | StreamedBlocks:  # fmt: skip
    """The text to train on, cut into rows of tokens."""
    if not script.streaming:
        quiet = args.disable_tqdm or args.local_process_index > 0
        return TokenBlocks(text, tokenizer, script.context_length, end, not quiet)
    args.ignore_data_skip = True  # the place in the text is restored instead
    seed = args.seed if args.data_seed is None else args.data_seed
    return StreamedBlocks(text, tokenizer, script.context_length, seed, args.process_index, args.world_size)


def check_texts(script: ScriptArguments, args: TrainingArguments) -> None:
    """Refuses flags that do not say which text, or more than one.

    Raises:
        ValueError: names the flags.
    """
    if (script.train_file is None) == (script.dataset is None):
        raise ValueError("give the training text with either --train_file or --dataset")
    if script.eval_split and (script.eval_file or not script.dataset):
        raise ValueError("--eval_split is a split of --dataset: give it with that, and without --eval_file")
    if script.streaming and not (script.eval_file or script.eval_split):
        raise ValueError("--streaming: give --eval_file or --eval_split too: no end of a stream can be held out")
    if script.streaming and args.max_steps <= 0:
        raise ValueError("--streaming: give --max_steps: a stream has no length")


def warn_of_length(script: ScriptArguments) -> None:
    """Says in a line that rows reach beyond those of the pretraining."""
    before = trained_length(script.model)
    if before and script.context_length > before and not script.from_scratch:
        warn(
            f"--context_length: rows of {script.context_length} tokens, but {script.model} was trained on {before}: "
            "its positions after these start untrained"
        )


def plan(script: ScriptArguments, parameters: int, rows: TokenBlocks | StreamedBlocks, taken: list[Taken]) -> str:
    """What is said before training starts."""
    start = "random weights" if script.from_scratch else f"{script.transfer} of the weights of {script.model}"
    many = f"{len(rows):,} rows of text" if isinstance(rows, TokenBlocks) else "a stream of text"
    told = f"Training {parameters:,} parameters from {start} on {many}"
    return told + (f"\nTaken from {script.model}:\n{transfer_table(taken)}" if taken else "")


def main() -> None:
    script, args = parse_args((ScriptArguments, TrainingArguments), __doc__, defaults)
    with stoppable(), alone_in(str(args.output_dir), "--output_dir", here=args.process_index == 0):
        finetune(script, args)


def finetune(script: ScriptArguments, args: TrainingArguments) -> None:
    """The command, with its flags read and its folder locked."""
    # ---- Everything that can be wrong is found here, before anything is written ----
    with usage_errors():
        check_arguments(args)
        script = as_published(script)
        at_least(1, "eval_windows", script.eval_windows)
        at_least(2, "context_length", script.context_length)
        at_least(0, "early_stopping_patience", script.early_stopping_patience)
        at_least(0, "vocabulary_first", script.vocabulary_first)
        check_texts(script, args)
        if script.keep_optimizer and not script.takes_all:
            raise ValueError("--keep_optimizer: Adam's moments fit only a model that is taken whole (--transfer all)")
        added, length = callbacks(script, args), script.context_length
        start = start_from(script, args.seed)
        model, tokenizer, taken = start.model, start.tokenizer, start.taken
        check_fits(model, tokenizer, length)
        text = training_text(script)
        cut, end = held_out(script, text)
        windows = {"held_out": cut}
        tokens = {name: text_tokens(cut, tokenizer) for name, cut in windows.items()}
        check_tokens(tokens, length, positions_of(model.config), "--tokenizer" if script.tokenizer else "--model")
        warn_of_length(script)
        blocks = training_rows(script, args, tokenizer, text, end)
        others = {Path(run).name: read_history(run) for run in script.compare_with}
        check_causal(model, length)
        settings = run_settings(
            args, model, tokenizer, blocks, from_scratch=script.from_scratch, transfer=script.transfer,
            embeddings=script.vocabulary_rows, rescale_norms=script.rescale_norms,
            keep_optimizer=script.keep_optimizer, pretrained=Path(script.model).name,
            starting_weights=start.weights, vocabulary_first=script.vocabulary_first or None,
            eval_text=told_windows(windows), early_stopping_patience=script.early_stopping_patience,
        )  # fmt: skip
        resume, was_finished = where_to_go_on(args, settings)
        trainer = (StreamedTextTrainer if script.streaming else BitsTrainer)(
            model=model, args=args, train_dataset=blocks, processing_class=tokenizer, context_length=length,
            eval_windows=windows, started_from=None if script.from_scratch else script.model, compare_with=others,
            license=script.license, settings=settings, callbacks=added,
        )  # fmt: skip

    if args.process_index == 0 and not was_finished:
        print(plan(script, model.num_parameters(), blocks, taken), flush=True)
        if taken:
            with disk_errors(trainer.folder):
                write_json(trainer.folder / "transfer.json", [asdict(one) for one in taken])

    # ---- Training ----
    if not was_finished:
        train_and_finish(trainer, resume)
    push_model(trainer, was_finished)
