"""Stage two: `finetune.py` with parts of a model, another tokenizer, Adam's moments, and an early stop."""

import json
import shutil
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, TrainerCallback, TrainingArguments

from hf_universal_pretrain import SyntheticUPConfig, SyntheticUPDataset, UPConfig, UPTrainer
from hf_universal_pretrain.commands import finetune as command
from hf_universal_pretrain.commands import pretrain
from hf_universal_pretrain.commands.arguments import parse_args
from hf_universal_pretrain.models.build import build_config, build_model, load_model
from hf_universal_pretrain.models.tokenizers import build_tokenizer
from hf_universal_pretrain.packed import TokenBlocks
from hf_universal_pretrain.training.bits_trainer import BitsTrainer
from hf_universal_pretrain.training.stage_two import (
    KeepOptimizerCallback,
    VocabularyFirstCallback,
    pretraining_optimizer,
)
from tests.conftest import once


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretraining run of 3 steps with its checkpoint, and texts beside it."""
    folder = tmp_path_factory.mktemp("stage_two")
    tokenizer = build_tokenizer("byte")
    model = build_model(build_config("gpt2", tokenizer, "n_layer=1,n_embd=16,n_head=2,n_positions=64"), 0)
    data = SyntheticUPConfig(
        machines="context_tree", context_length=32, source_batch=8, buffer_size=32, burn_in_rounds=1
    )
    args = UPConfig(
        str(folder / "run"), max_steps=3, use_cpu=True, save_steps=3, disable_tqdm=True, per_device_train_batch_size=4
    )
    trainer = UPTrainer(
        model=model, args=args, train_dataset=SyntheticUPDataset(data, tokenizer), processing_class=tokenizer
    )
    trainer.train()
    trainer.finish()
    (folder / "train.txt").write_text("It was the best of times, it was the worst of times. " * 200)
    (folder / "other.txt").write_text("0123456789+-*/=<>[]{}()$%&#@!|~^_ZYXWVUQJ" * 50)
    return folder


@pytest.fixture
def finetune(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def run(*flags: str) -> None:
        common = ["--model", "run", "--train_file", "train.txt", "--context_length", "32", "--use_cpu"]
        common += ["--eval_windows", "4", "--disable_tqdm", "true"]
        monkeypatch.chdir(run_folder)
        monkeypatch.setattr("sys.argv", ["finetune.py", *once([*common, *flags])])
        command.main()

    return run


@pytest.mark.parametrize("flags, length", [([], 32), (["--context_length", "48"], 48)])
def test_rows_are_as_long_as_in_pretraining_unless_told(
    flags: list[str], length: int, run_folder: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(run_folder)
    common = ["--model", "run", "--train_file", "train.txt", "--use_cpu", "--max_steps", "1", "--eval_windows", "2"]
    folder = f"length-{length}"
    monkeypatch.setattr("sys.argv", ["finetune.py", *common, "--output_dir", folder, "--save_strategy", "no", *flags])
    command.main()
    results = json.loads((run_folder / folder / "eval_results.json").read_text())
    assert results["context_length"] == results["texts"]["held_out"]["context_length"] == length
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning: --context_length" in line]
    assert len(warnings) == (length > 32), "one line where rows are longer than those of the pretraining"


def test_attention_only_takes_attention_and_says_so(finetune, run_folder: Path, capsys) -> None:
    finetune("--transfer", "attention", "--max_steps", "1", "--learning_rate", "0", "--save_strategy", "no")
    shown = capsys.readouterr().out
    for line in ("attention    taken", "mlp          re-drawn", "vocabulary   re-drawn"):
        assert line in shown
    stored = json.loads((run_folder / "run-attention" / "transfer.json").read_text())
    old = load_model(str(run_folder / "run")).state_dict()
    new = load_model(str(run_folder / "run-attention")).state_dict()  # trained at rate 0
    for row in stored:
        assert row["part"] in ("norms", "positions", "mlp", "attention", "vocabulary")
        assert (row["action"] == "taken") == (".attn." in row["name"])
        if row["part"] != "norms" and not row["name"].endswith("bias"):  # those are constants when drawn
            assert torch.equal(new[row["name"]], old[row["name"]]) == (row["action"] == "taken"), row


def test_what_was_taken_is_told_before_the_end(finetune, run_folder: Path, monkeypatch) -> None:
    """A run that is killed at the very end is finished, and would never tell it again."""

    def killed(*_: object) -> None:
        raise SystemExit(137)

    flags = ["--transfer", "mlp", "--max_steps", "1", "--output_dir", "told"]
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(command, "push_model", killed)
        finetune(*flags)
    actions = {row["action"] for row in json.loads((run_folder / "told" / "transfer.json").read_text())}
    assert (run_folder / "told" / "eval_results.json").is_file() and actions >= {"taken", "re-drawn"}
    with pytest.raises(SystemExit) as exited:
        finetune(*flags)
    assert exited.value.code == 0


@pytest.mark.parametrize("model", [".", "..", "../run", "run/", "./run/.", "../run/checkpoint-3/.."])
def test_the_default_folder_has_the_name_of_the_model(model: str, run_folder: Path, monkeypatch) -> None:
    """Beside the model, wherever that is."""
    inside = {".": "run", "..": "run/checkpoint-3"}.get(model, "run" if model.startswith("../") else ".")
    monkeypatch.chdir(run_folder / inside)
    asked = Namespace(given={"model"}, model=model, from_scratch=False, transfer="all")
    assert Path(command.defaults(asked)["output_dir"]).resolve() == (run_folder / "run-finetuned").resolve()


def test_the_default_folder_of_a_pretraining_has_the_name_of_the_model(run_folder: Path, monkeypatch) -> None:
    monkeypatch.chdir(run_folder / "run")
    for flag, model, folder in (
        ("--model", "gpt2", "out/gpt2"), ("--warm_start", "..", f"out/{run_folder.name}-more"),
        ("--warm_start", ".", "out/run-more"), ("--warm_start", "org/name", "out/name-more"),
        ("--model", "../run/", "out/run"),
    ):  # fmt: skip
        dataclasses = (pretrain.ScriptArguments, SyntheticUPConfig, UPConfig)
        assert parse_args(dataclasses, "", pretrain.defaults, [flag, model])[2].output_dir == folder


def test_another_model_in_the_same_folder_is_no_finished_run(finetune, run_folder: Path, capsys) -> None:
    """Also where it has the name of the one that was trained, as one that was made anew in place."""
    same = ["--output_dir", "same", "--max_steps", "1"]
    finetune(*same)
    with pytest.raises(SystemExit, match="0"):
        finetune(*same)
    assert "is finished" in capsys.readouterr().out
    model = load_model(str(run_folder / "run"))
    with torch.no_grad():
        model.lm_head.weight += 1
    copied = run_folder / "copied"
    shutil.copytree(run_folder / "run", copied, ignore=shutil.ignore_patterns("checkpoint-*"))
    model.save_pretrained(copied)
    with pytest.raises(SystemExit) as exited:
        finetune("--model", "copied", *same)
    assert exited.value.code == 2 and "starting_weights (was" in capsys.readouterr().err


def test_another_tokenizer_of_another_size(finetune, run_folder: Path) -> None:
    from tests.models.test_vocabulary import bpe

    tokenizer = bpe(run_folder / "bpe")
    flags = ["--tokenizer", "bpe", "--embeddings", "match_by_text", "--pad_vocab_multiple_of", "64"]
    finetune(*flags, "--max_steps", "2", "--output_dir", "matched", "--save_strategy", "no")
    model = AutoModelForCausalLM.from_pretrained(run_folder / "matched")
    assert model.config.vocab_size == 320 and model.config.bos_token_id == tokenizer.bos_token_id
    stored = json.loads((run_folder / "matched" / "transfer.json").read_text())
    assert [row["action"] for row in stored if row["part"] == "vocabulary"] == ["rows taken: 258 of 320"]


def test_epochs_that_are_asked_for_count(finetune, run_folder: Path) -> None:
    finetune("--num_train_epochs", "2", "--save_strategy", "no", "--output_dir", "epochs")
    state = json.loads((run_folder / "epochs/trainer_state.json").read_text())
    rows = int(len((run_folder / "train.txt").read_bytes()) * 0.9) // 32
    assert state["global_step"] == state["max_steps"] == 2 * -(-rows // 8)


@pytest.mark.parametrize("more", [[], ["--from_scratch"], ["--transfer", "attention"]], ids=str)
def test_dropout_can_be_another_than_in_pretraining(more: list[str], finetune, run_folder: Path) -> None:
    losses = {}
    for chance in ("0", "0.5"):
        drop = f"attn_pdrop={chance},resid_pdrop={chance},embd_pdrop={chance}"
        flags = [
            "--config_overrides",
            drop,
            "--max_steps",
            "1",
            "--save_strategy",
            "no",
            "--logging_steps",
            "1",
            *more,
        ]
        finetune(*flags, "--output_dir", f"drop-{chance}{''.join(more)}", "--seed", "5")
        folder = run_folder / f"drop-{chance}{''.join(more)}"
        state = json.loads((folder / "trainer_state.json").read_text())
        losses[chance] = next(entry["loss"] for entry in state["log_history"] if "loss" in entry)
        saved = AutoModelForCausalLM.from_pretrained(folder).config
        assert (saved.resid_pdrop, saved.n_embd) == (float(chance), 16)
    assert losses["0"] != losses["0.5"]


def test_it_stops_when_validation_turns_and_keeps_the_best(finetune, run_folder: Path) -> None:
    """Trained on prose and measured on signs, it gets better at first (fewer symbols than 259) and then ever worse."""
    flags = [
        "--eval_file",
        "other.txt",
        "--early_stopping_patience",
        "2",
        "--eval_steps",
        "5",
        "--learning_rate",
        "1e-2",
    ]
    finetune(*flags, "--max_steps", "400", "--warmup_steps", "0", "--output_dir", "stopped")
    state = json.loads((run_folder / "stopped" / "trainer_state.json").read_text())
    assert state["global_step"] < 200
    key = "eval_held_out_bits_per_byte"
    measured = [entry[key] for entry in state["log_history"] if key in entry]
    best = min(measured[1:-1])
    assert measured[1:-1].index(best) == len(measured) - 2 - 3  # then 2 worse ones
    results = json.loads((run_folder / "stopped" / "eval_results.json").read_text())
    assert results["texts"]["held_out"]["bits_per_byte"] == pytest.approx(best, abs=1e-6)


def test_a_data_set_is_streamed_and_a_split_of_it_held_out(run_folder: Path, monkeypatch, capsys) -> None:
    """In bf16 too; the checkpoint has the place in the text, and the same command finds nothing left to do."""
    (run_folder / "texts").mkdir()
    for split, count in (("train", 90), ("validation", 30)):
        lines = (json.dumps({"body": f"In {split}, {n} times {n} is {n * n}."}) for n in range(count))
        (run_folder / "texts" / f"{split}.jsonl").write_text("\n".join(lines))
    monkeypatch.chdir(run_folder)
    flags = ["--model", "run", "--dataset", "texts", "--eval_split", "validation", "--text_column", "body"]
    flags += [
        "--streaming",
        "--context_length",
        "32",
        "--use_cpu",
        "--bf16",
        "--eval_windows",
        "4",
        "--max_steps",
        "2",
    ]
    flags += ["--save_steps", "1", "--output_dir", "streamed", "--disable_tqdm", "true"]
    monkeypatch.setattr("sys.argv", ["finetune.py", *flags])
    command.main()
    assert "on a stream of text" in capsys.readouterr().out
    place = torch.load(run_folder / "streamed" / "checkpoint-1" / "text_place_0.pt", weights_only=True)
    assert place["served"] == 8 and json.loads((run_folder / "streamed" / "eval_results.json").read_text())["texts"]
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 0


class Look(TrainerCallback):
    """Notes the optimizer's state before the first step."""

    def on_train_begin(self, args, state, control, optimizer, **kwargs) -> None:
        group = optimizer.param_groups[0]
        self.states = [
            {name: value.clone() for name, value in optimizer.state[weight].items()}
            for g in optimizer.param_groups
            for weight in g["params"]
        ]
        self.initial_rate, self.decay = group["initial_lr"], group["weight_decay"]


def test_kept_moments_are_those_of_the_checkpoint_and_the_rate_is_the_new_one(
    run_folder: Path, tmp_path: Path
) -> None:
    path = pretraining_optimizer(str(run_folder / "run"))
    tokenizer, look = build_tokenizer("byte"), Look()
    args = TrainingArguments(
        str(tmp_path), max_steps=1, learning_rate=7e-4, weight_decay=0.3, use_cpu=True, save_strategy="no"
    )
    blocks = TokenBlocks((run_folder / "train.txt").read_bytes(), tokenizer, 32)
    trainer = BitsTrainer(
        model=load_model(str(run_folder / "run")), args=args, train_dataset=blocks, processing_class=tokenizer,
        context_length=32, callbacks=[KeepOptimizerCallback(path), look],
    )  # fmt: skip
    trainer.train()
    saved = torch.load(path, weights_only=True)["state"]
    assert len(look.states) == len(saved) > 10
    for mine, theirs in zip(look.states, saved.values(), strict=True):
        assert mine["step"] == 3
        assert all(torch.equal(mine[name], theirs[name]) for name in ("exp_avg", "exp_avg_sq"))
    assert (look.initial_rate, look.decay) == (7e-4, 0.3)


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--transfer", "heads"], "--transfer"),
        (["--embeddings", "random"], "--embeddings"),
        (["--tokenizer", "nowhere"], "--tokenizer: no tokenizer at 'nowhere'"),
        (["--pad_vocab_multiple_of", "0"], "--pad_vocab_multiple_of must be at least 1"),
        (["--transfer", "attention", "--keep_optimizer"], "--keep_optimizer: Adam's moments fit only"),
        (["--from_scratch", "--keep_optimizer"], "--keep_optimizer: Adam's moments fit only"),
        (["--vocabulary_first", "-1"], "--vocabulary_first must be at least 0"),
        (["--early_stopping_patience", "2", "--eval_strategy", "no"], "--early_stopping_patience"),
        (["--streaming"], "--streaming: give --eval_file or --eval_split too"),
        (["--streaming", "--eval_file", "other.txt", "--max_steps", "-1"], "--streaming: give --max_steps"),
        (["--eval_split", "validation"], "--eval_split is a split of --dataset"),
        (["--config_overrides", "n_embd=32"], "would give lm_head.weight another shape"),
        (["--config_overrides", "n_layer=2"], "would give transformer.h.1"),
        (["--config_overrides", "dropout=.1"], "--config_overrides"),
    ],
)
def test_refusals(flags: list[str], message: str, finetune, run_folder: Path, capsys) -> None:
    before = sorted(run_folder.rglob("*"))
    with pytest.raises(SystemExit) as exited:
        finetune(*flags, "--output_dir", "refused")
    shown = capsys.readouterr().err
    assert exited.value.code == 2 and message in shown and len(shown.strip().splitlines()) == 1, shown
    assert sorted(run_folder.rglob("*")) == before


class Watch(TrainerCallback):
    """Notes after each step which weights differ from the step before."""

    def __init__(self, model) -> None:
        self.weights = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        self.moved: list[set[str]] = []

    def on_step_end(self, args, state, control, model, **kwargs) -> None:
        now = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        self.moved.append({name for name in now if not torch.equal(now[name], self.weights[name])})
        self.weights = now


@pytest.mark.parametrize("tied", [True, False])
def test_the_vocabulary_alone_moves_in_the_first_steps_and_then_all_weights(
    tied: bool, run_folder: Path, tmp_path: Path
) -> None:
    """Weight decay moves nothing either, and two micro-batches are one step; Adam begins anew where the rest does."""
    tokenizer = build_tokenizer("byte")
    model = build_model(
        build_config("gpt2", tokenizer, f"n_layer=1,n_embd=16,n_head=2,n_positions=64,tie_word_embeddings={tied}"), 0
    )
    watch = Watch(model)
    args = TrainingArguments(
        str(tmp_path), max_steps=4, learning_rate=1e-2, weight_decay=0.3, use_cpu=True, save_strategy="no",
        gradient_accumulation_steps=2, per_device_train_batch_size=2,
    )  # fmt: skip
    blocks = TokenBlocks((run_folder / "train.txt").read_bytes(), tokenizer, 32)
    trainer = BitsTrainer(
        model=model, args=args, train_dataset=blocks, processing_class=tokenizer, context_length=32,
        callbacks=[VocabularyFirstCallback(2), watch],
    )  # fmt: skip
    trainer.train()
    vocabulary = {"transformer.wte.weight"} | (set() if tied else {"lm_head.weight"})
    assert watch.moved == [vocabulary, vocabulary, set(watch.weights), set(watch.weights)]
    steps = {name: float(trainer.optimizer.state[weight]["step"]) for name, weight in model.named_parameters()}
    assert steps == {name: 4 if name in vocabulary else 2 for name in watch.weights}


def test_a_run_that_goes_on_from_its_first_steps_ends_as_one_in_one_piece(finetune, run_folder: Path, capsys) -> None:
    """And `--vocabulary_first` is one of the settings that a run cannot go on without."""
    flags = ["--lr_scheduler_type", "constant", "--vocabulary_first", "3", "--save_steps", "2", "--max_steps"]
    finetune(*flags, "6", "--output_dir", "whole")
    finetune(*flags, "2", "--output_dir", "pieces")
    with pytest.raises(SystemExit):
        finetune(*flags[:2], *flags[4:], "6", "--output_dir", "pieces")
    assert "vocabulary_first (was 3, now None)" in capsys.readouterr().err
    finetune(*flags, "6", "--output_dir", "pieces")
    whole, pieces = (load_model(str(run_folder / folder)).state_dict() for folder in ("whole", "pieces"))
    assert all(torch.equal(whole[name], pieces[name]) for name in whole)


def test_a_run_without_checkpoints_has_no_moments_to_keep(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--keep_optimizer: .* has no complete checkpoint-N/optimizer.pt"):
        pretraining_optimizer(str(tmp_path))


def test_as_published_takes_what_the_source_of_the_preset_takes(finetune, run_folder: Path, capsys) -> None:
    """The folder tells the preset; what is given by name wins; a model that tells none is refused."""
    path = run_folder / "run" / "synthetic_up_config.json"
    before = path.read_text()
    quick = ("--transfer", "as_published", "--max_steps", "1", "--save_strategy", "no")
    try:
        for recipe, given, lines in (
            ("nca", (), ("positions    taken", "mlp          taken", "vocabulary   re-drawn")),
            ("k_dyck_64", (), ("positions    re-drawn", "attention    taken", "vocabulary   around the mean")),
            ("k_dyck_64", ("--embeddings", "reinit"), ("attention    taken", "vocabulary   re-drawn")),
            ("rnn_ppt", (), ()),
        ):
            path.write_text(json.dumps({**json.loads(before), "recipe": recipe}))
            finetune(*quick, *given, "--output_dir", f"published-{recipe}-{len(given)}")
            shown = capsys.readouterr().out
            assert all(line in shown for line in lines) and ("Taken from run" in shown) == bool(lines)
    finally:
        path.write_text(before)
    with pytest.raises(SystemExit) as error:
        finetune(*quick)
    assert error.value.code == 2 and "--transfer as_published: run does not tell" in capsys.readouterr().err


def test_pretrain_notes_the_preset_beside_the_model(run_recipe, tmp_path: Path) -> None:
    flags = ["--model", "gpt2", "--config_overrides", "n_layer=1,n_embd=16,n_head=2,n_positions=64", "--use_cpu"]
    flags += ["--preset", "pcfg_zipf", "--context_length", "32", "--max_steps", "2", "--eval_strategy", "no"]
    flags += ["--eval_on_start", "false", "--per_device_train_batch_size", "2", "--output_dir", str(tmp_path / "run")]
    done = run_recipe("pretrain.py", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    stored = SyntheticUPConfig.from_pretrained(tmp_path / "run")
    assert stored.recipe == "pcfg_zipf" and stored.machines == "pcfg@1"
