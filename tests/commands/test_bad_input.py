"""Bad input: one table of what is given, the exit status, and the line that must be printed.

All run in this process, since the imports are most of the time; `test_a_process_of_its_own` runs some for real.
"""

import importlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import ROOT


TINY = [
    "--model", "gpt2", "--config_overrides", "n_layer=1,n_embd=16,n_head=2,n_positions=64", "--context_length", "32",
    "--source_batch", "8", "--buffer_size", "32", "--hidden_size", "16", "--burn_in_rounds", "2",
    "--per_device_train_batch_size", "4", "--eval_windows", "4",
]  # fmt: skip
RUN = [*TINY, "--max_steps", "4", "--save_steps", "2", "--eval_strategy", "no", "--eval_on_start", "false"]
TUNE = ["--model", "run", "--context_length", "32", "--max_steps", "2"]

# ---- Flags and YAML: pretrain.py with TINY and these ----
PRETRAIN = {
    "unknown model": (["--model", "gpt22"], "--model: no model at 'gpt22'"),
    "misspelt model": (["--model", "gpt_neo_"], "did you mean 'gpt_neo'?"),
    "not a causal model": (["--model", "t5"], "--model: 't5' is not a causal language model"),
    "model looks ahead": (["--model", "xlnet", "--config_overrides", "n_layer=1,d_model=16,n_head=2,d_inner=16"],
                          "--model: 'xlnet' looks ahead"),
    "model is a file": (["--model", "short.txt"], "--model: no model at 'short.txt'"),
    "model folder is empty": (["--model", "empty_folder"], "--model: no model at 'empty_folder'"),
    "model config is no JSON": (["--model", "config_broken"], "--model: no model at 'config_broken'"),
    "model config is a list": (["--model", "config_list"], "--model: no model at 'config_list'"),
    "model config of no known type": (["--model", "config_unknown"], "--model: no model at 'config_unknown'"),
    "model with code of its own": (["--model", "with_code"], "--trust_remote_code"),
    "unknown family": (["--machines", "lstmm"], "machines: unknown machine family 'lstmm'"),
    "no family": (["--machines="], "machines: unknown machine family ''"),
    "family named twice": (["--machines", "lstm,lstm"], "machines: 'lstm' is named twice"),
    "share is no number": (["--machines", "lstm=x"], "machines: the share of 'lstm' must be a number above 0"),
    "share is infinite": (["--machines", "lstm=inf"], "machines: the share of 'lstm' must be a number above 0"),
    "family too rare": (["--machines", "lstm=1000,gru=1"], "source_batch is 8, too few rows"),
    "unknown flag": (["--speed", "3"], "--speed"),
    "flag cut short": (["--max_step", "3"], "--max_step"),
    "flag without a value": (["--max_steps"], "--max_steps"),
    "not a number": (["--max_steps", "many"], "--max_steps"),
    "not whole": (["--context_length", "32.5"], "--context_length"),
    "unknown choice": (["--alphabet", "greek"], "--alphabet"),
    "unknown preset": (["--preset", "papers"], "--preset"),
    "unknown schedule": (["--lr_scheduler_type", "cosin"], "--lr_scheduler_type"),
    "unknown optimizer": (["--optim", "adamm"], "--optim"),
    "unknown tracker": (["--report_to", "paper"], "paper"),
    "schedule's settings are no JSON": (["--lr_scheduler_kwargs", "{min_lr"], "lr_scheduler_kwargs"),
    "context too long": (["--context_length", "65"], "--context_length: 65 is more than the 64 positions"),
    "context too short": (["--context_length", "1"], "context_length must be at least 2"),
    "seed longer than a row": (["--seed_length", "32"], "seed_length is 32, but a row has only 32 symbols"),
    "alphabet too large": (["--alphabet_size", "257"], "alphabet_size is 257"),
    "alphabet too small": (["--alphabet_size", "1"], "alphabet_size must be at least 2"),
    "source batch too large": (["--source_batch", "64"], "source_batch is 64, but the buffer has only 32 rows"),
    "odd buffer": (["--buffer_size", "33"], "buffer_size must be even"),
    "odd resets": (["--num_resets", "3"], "num_resets must be even"),
    "negative size": (["--hidden_size", "-4"], "hidden_size must be at least 1"),
    "negative seed": (["--stream_seed", "-1"], "stream_seed must be at least 0"),
    "one gain": (["--gain_range", "3"], "gain_range must be two finite numbers"),
    "gains the wrong way round": (["--gain_range", "5", "3"], "gain_range must be two finite numbers"),
    "infinite gain": (["--gain_range", "5", "inf"], "gain_range must be two finite numbers"),
    "temperature from 0": (["--temperature_range", "0", "1"], "temperature_range must start above 0"),
    "band is no band": (["--complexity", "0.3"], "complexity must be LOW:HIGH"),
    "band the wrong way round": (["--complexity", "0.9:0.3"], "complexity must be LOW:HIGH"),
    "curriculum is no mapping": (["--curriculum", "lstm"], "curriculum: each stage must be a mapping"),
    "curriculum without a step": (["--curriculum", "{machines: lstm}"], "curriculum: each stage must be a mapping"),
    "curriculum runs code": (["--curriculum", "!!python/object/apply:os.system [touch ran]"], "curriculum"),
    "no steps": (["--max_steps", "0"], "max_steps must be positive"),
    "no rows in a step": (["--per_device_train_batch_size", "0"], "--per_device_train_batch_size must be at least 1"),
    "no accumulation": (["--gradient_accumulation_steps", "0"], "--gradient_accumulation_steps must be at least 1"),
    "learning rate is NaN": (["--learning_rate", "nan"], "--learning_rate must be a number from 0 on"),
    "learning rate is negative": (["--learning_rate=-1e-3"], "--learning_rate must be a number from 0 on"),
    "no logging interval": (["--logging_steps", "0"], "logging"),
    "workers": (["--dataloader_num_workers", "2"], "dataloader_num_workers must be 0"),
    "replayed stream": (["--ignore_data_skip", "false"], "ignore_data_skip must stay on"),
    "half precision without a GPU": (["--fp16"], "--fp16 needs a GPU"),
    "another way to save on SIGTERM": (["--enable_jit_checkpoint"], "--enable_jit_checkpoint: leave it out"),
    "checkpoints that are none": (["--save_only_model"], "--save_only_model: leave it out"),
    "no windows": (["--eval_windows", "0"], "--eval_windows"),
    "text missing": (["--eval_text", "a=nowhere.txt"], "--eval_text: cannot read nowhere.txt"),
    "text missing, in Greek": (["--eval_text", "α=πουθενά.txt"], "--eval_text: cannot read πουθενά.txt"),
    "text empty": (["--eval_text", "a=empty.txt"], "--eval_text: empty.txt is empty"),
    "text too short": (["--eval_text", "a=short.txt"], "--eval_text a has 5 bytes"),
    "text is binary": (["--eval_text", "a=binary.txt"], "--eval_text: cannot read binary.txt as a UTF-8 text file"),
    "text in Latin-1": (["--eval_text", "a=latin1.txt"], "--eval_text: cannot read latin1.txt as a UTF-8 text file"),
    "text in UTF-16": (["--eval_text", "a=utf16.txt"], "--eval_text: cannot read utf16.txt as a UTF-8 text file"),
    "text is a folder": (["--eval_text", "a=used"], "--eval_text: cannot read used"),
    "text links to itself": (["--eval_text", "a=loop"], "--eval_text: cannot read loop"),
    "text links to nothing": (["--eval_text", "a=dangling"], "--eval_text: cannot read dangling"),
    "text is not packed": (["--eval_text", "a=short.txt.gz"], "--eval_text: cannot read short.txt.gz"),
    "text's package is cut off": (["--eval_text", "a=cut.txt.gz"], "--eval_text: cannot read cut.txt.gz"),
    "text without a name": (["--eval_text", "short.txt"], "--eval_text takes NAME=PATH"),
    "text twice": (["--eval_text", "a=long.txt", "a=long.txt"], "--eval_text takes NAME=PATH, each name once"),
    "no yaml": (["--config", "nowhere.yaml"], "--config: cannot read nowhere.yaml"),
    "yaml is a folder": (["--config", "used"], "--config: cannot read used"),
    "yaml is binary": (["--config", "binary.txt"], "--config: cannot read binary.txt"),
    "yaml is a list": (["--config", "list.yaml"], "--config: list.yaml must hold flags"),
    "yaml is empty": (["--config", "empty.txt"], "--config: empty.txt must hold flags"),
    "yaml is broken": (["--config", "broken.yaml"], "--config: cannot read broken.yaml"),
    "yaml runs code": (["--config", "code.yaml"], "--config: cannot read code.yaml"),
    "yaml key unknown": (["--config", "typo.yaml"], "unknown key 'machine'; did you mean 'machines'?"),
    "yaml key is no word": (["--config", "key.yaml"], "unknown key 3"),
    "yaml value of another type": (["--config", "value.yaml"], "--max_steps"),
    "yaml text has a NUL": (["--config", "nul.yaml"], "--eval_text: cannot read"),
    "tokenizer missing": (["--tokenizer", "none-such"], "--tokenizer: no tokenizer at 'none-such'"),
    "tokenizer broken": (["--tokenizer", "tokenizer_broken"], "--tokenizer: no tokenizer at 'tokenizer_broken'"),
    "tokenizer has code": (["--tokenizer", "tokenizer_with_code"], "--trust_remote_code"),
    "override without a value": (["--config_overrides", "n_layer"], "--config_overrides 'n_layer'"),
    "override of nothing": (["--config_overrides", "layers=2"], "--config_overrides 'layers=2'"),
    "override of another type": (["--config_overrides", "n_layer=two"], "--config_overrides 'n_layer=two'"),
    "heads do not divide": (["--config_overrides", "n_embd=16,n_head=3"], "configuration of 'gpt2' makes no model"),
    "padding of nothing": (["--pad_vocab_multiple_of", "0"], "--pad_vocab_multiple_of must be at least 1"),
    "output is a file": (["--output_dir", "short.txt"], "--output_dir: short.txt is a file"),
    "output below a file": (["--output_dir", "short.txt/out"], "--output_dir: short.txt is a file"),
    "output links to nothing": (["--output_dir", "dangling"], "--output_dir: dangling is a link to nothing"),
    "output cannot be written": (["--output_dir", "/proc/none/out"], "--output_dir: cannot write to /proc"),
    "output holds another run": (["--output_dir", "used"], "--output_dir: used holds another run"),
    "output holds foreign checkpoints": (["--output_dir", "foreign"], "--output_dir: foreign holds another run"),
    "resume from nothing": (["--resume_from_checkpoint", "used"], "--resume_from_checkpoint: used is not a complete"),
    "push without a name": (["--push_to_hub", "--hub_model_id", "a/b/c"], "--hub_model_id: 'a/b/c' is not a name"),
}  # fmt: skip

# ---- What a model is made of: pretrain.py --warm_start ----
WARM_START = {
    "warm start from another run's rest": ("used", "--warm_start: no model at 'used'"),
    "warm start from a pickle": ("pickled", "--warm_start: no model at 'pickled'"),
    "weights are NaN": ("nan", "weights of 'nan' hold NaN or infinite values (transformer.wte.weight)"),
    "weights are cut off": ("cut", "--warm_start: no model at 'cut'"),
    "weights are text": ("text_weights", "--warm_start: no model at 'text_weights'"),
    "weights of another size": ("other_size", "--warm_start: no model at 'other_size'"),
    "data's settings are no JSON": ("data_broken", "data_broken/synthetic_up_config.json is not"),
    "data's settings are a list": ("data_list", "data_list/synthetic_up_config.json is not"),
    "data's settings are binary": ("data_binary", "data_binary/synthetic_up_config.json is not"),
    "data's settings are unknown": ("data_unknown", "unknown ['warp']"),
    "data's settings have another type": ("data_type", "context_length"),
    "data's settings are out of range": ("data_range", "seed_length must be at least 1"),
    "data's machines are a number": ("data_machines", "machines"),
}  # fmt: skip

# ---- Going on: pretrain.py with RUN, and these, in a copy of a run that stopped at step 4 of 8 ----
GO_ON = {
    "seed changed": (["--stream_seed", "1"], 2, "stream_seed (was 0, now 1)"),
    "training seed changed": (["--seed", "1"], 2, "seed (was 42, now 1)"),
    "machines changed": (["--machines", "lstm"], 2, "machines (was language@1, now lstm)"),
    "context changed": (["--context_length", "16"], 2, "context_length (was 32, now 16)"),
    "batch changed": (["--per_device_train_batch_size", "2"], 2, "per_device_train_batch_size (was 4, now 2)"),
    "learning rate changed": (["--learning_rate", "0.01"], 2, "learning_rate (was 0.001, now 0.01)"),
    "model changed": (["--config_overrides", "n_layer=2,n_embd=16,n_head=2,n_positions=64"], 2,
                      "model.n_layer (was 1, now 2)"),
    "two things changed": (["--seed", "1", "--hidden_size", "8"], 2, "hidden_size (was 16, now 8)"),
    "fewer steps than taken": (["--max_steps", "3"], 2, "--max_steps"),
    "another output folder's checkpoint": (["--resume_from_checkpoint", "going/checkpoint-4", "--output_dir", "used"],
                                           2, "--output_dir: used holds another run"),
    "an older checkpoint": (["--resume_from_checkpoint", "going/checkpoint-2"], 2, "holds newer checkpoints"),
    "a checkpoint that was cut": (["--resume_from_checkpoint", "going_cut/checkpoint-4"], 2,
                                  "optimizer.pt has 1,000 bytes instead of"),
    "a checkpoint that misses a file": (["--resume_from_checkpoint", "going_lacks/checkpoint-4"], 2,
                                        "model.safetensors is missing"),
    "a stream's state that was tampered with": (["--resume_from_checkpoint", "going_tampered/checkpoint-4"], 2,
                                                "synthetic_stream_0.pt is not what was written"),
    "a marker that is no JSON": (["--resume_from_checkpoint", "going_marker/checkpoint-4"], 2, "unreadable complete"),
    "a run's file that is no JSON": (["--output_dir", "going_run_file"], 2, "cannot read going_run_file/_run.json"),
    "a finished run": (["--output_dir", "run"], 0, "The run in run is finished (at step 4): nothing to do."),
    "a finished run, changed": (["--output_dir", "run", "--seed", "1"], 2, "seed (was 42, now 1)"),
}  # fmt: skip

# ---- finetune.py with TUNE and these ----
FINETUNE = {
    "pretrained model missing": (["--model", "nowhere"], "--model: no tokenizer at 'nowhere'"),
    "pretrained model is another thing": (["--model", "used"], "--model: no tokenizer at 'used'"),
    "pretrained model is pickled": (["--model", "pickled"], "--model: no model at 'pickled'"),
    "pretrained model is NaN": (["--model", "nan"], "--model: the weights of 'nan' hold NaN or infinite values"),
    "two texts": (["--dataset", "d"], "--train_file or --dataset"),
    "training text missing": (["--train_file", "nowhere.txt"], "--train_file: cannot read nowhere.txt"),
    "training text in Latin-1": (["--train_file", "latin1.txt"], "--train_file: cannot read latin1.txt"),
    "training text empty": (["--train_file", "empty.txt"], "--train_file: empty.txt is empty"),
    "training text too short": (["--train_file", "short.txt", "--eval_file", "long.txt"], "--train_file: 5 tokens"),
    "held-out text missing": (["--eval_file", "nowhere.txt"], "--eval_file: cannot read nowhere.txt"),
    "held-out text too short": (["--eval_file", "short.txt"], "--eval_file has 5 bytes"),
    "rows longer than the model": (["--context_length", "65"], "--context_length: 65 is more than the 64 positions"),
    "rows of nothing": (["--context_length", "0"], "--context_length must be at least 2"),
    "windows of nothing": (["--eval_windows", "0"], "--eval_windows must be at least 1"),
    "unknown part": (["--transfer", "half"], "--transfer"),
    "unknown embeddings": (["--embeddings", "half"], "--embeddings"),
    "moments of a part": (["--keep_optimizer", "--transfer", "mlp"], "--keep_optimizer: Adam's moments fit only"),
    "no moments": (["--model", "nothing_kept", "--keep_optimizer"], "has no complete checkpoint-N/optimizer.pt"),
    "impatient": (["--early_stopping_patience", "-1"], "--early_stopping_patience must be at least 0"),
    "patient without evaluations": (["--early_stopping_patience", "2", "--eval_strategy", "no"],
                                    "--early_stopping_patience needs evaluations"),
    "compared with nothing": (["--compare_with", "used"], "--compare_with: used is not the folder of a run"),
    "compared with a broken state": (["--compare_with", "state_broken"], "is not the state of a run"),
    "tuned output holds another run": (["--output_dir", "used"], "--output_dir: used holds another run"),
}  # fmt: skip
DATASET = {
    "no text": ([], "--train_file or --dataset"),
    "data set missing": (["--dataset", "none/such"], "--dataset: cannot read column 'text'"),
    "data set without the column": (["--dataset", "table"], "--dataset: cannot read column 'text' of split 'train'"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of all kinds, a finished run, one that is half done, and copies of both that were tampered with."""
    folder = tmp_path_factory.mktemp("bad")
    for name, content in {
        "empty.txt": "", "short.txt": "short", "long.txt": "It was the best of times. " * 200, "short.txt.gz": "short",
        "typo.yaml": "model: gpt2\nmachine: lstm\n", "list.yaml": "- model\n", "broken.yaml": "model: [\n",
        "value.yaml": "max_steps: soon\n", "key.yaml": "3: 4\n", "nul.yaml": 'eval_text: ["a=b\\0c"]\n',
        "code.yaml": "model: !!python/object/apply:os.system [touch ran]\n",
    }.items():  # fmt: skip
        (folder / name).write_text(content)
    (folder / "binary.txt").write_bytes(bytes(range(256)) * 40)
    (folder / "latin1.txt").write_bytes("Où est la bibliothèque ? ".encode("latin-1") * 40)
    (folder / "utf16.txt").write_bytes(("text " * 100).encode("utf-16"))
    (folder / "cut.txt.gz").write_bytes(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xcbH")
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nowhere/at/all")
    for name in ("empty_folder", "used", "foreign/checkpoint-5", "table", "state_broken"):
        (folder / name).mkdir(parents=True)
    (folder / "used" / "model.safetensors").write_text("")
    (folder / "foreign" / "checkpoint-5" / "trainer_state.json").write_text("{}")
    (folder / "table" / "train.csv").write_text("words\nsome\n")
    (folder / "state_broken" / "trainer_state.json").write_text("{")
    for name, content in {
        "config_broken": "{", "config_list": "[1]", "config_unknown": '{"model_type": "gpt22"}',
        "with_code": json.dumps({"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}),
    }.items():  # fmt: skip
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(content)
    (folder / "with_code" / "own.py").write_text("open('ran', 'w')\n")
    for name, content in {
        "tokenizer_broken": '{"tokenizer_class": "PreTrainedTokenizerFast"}',
        "tokenizer_with_code": '{"auto_map": {"AutoTokenizer": ["own.Own", null]}}',
    }.items():
        (folder / name).mkdir()
        (folder / name / "tokenizer_config.json").write_text(content)
        (folder / name / "tokenizer.json").write_text("{")
        shutil.copy(folder / "with_code" / "own.py", folder / name / "own.py")
    _make_runs(folder)
    return folder


def _make_runs(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        call("pretrain.py", [*RUN, "--output_dir", "run"], patch)
    shutil.copytree(folder / "run", folder / "going")
    state = json.loads((folder / "going" / "_run.json").read_text())
    (folder / "going" / "_run.json").write_text(json.dumps({**state, "finished_at": None}))
    for name in ("cut", "lacks", "tampered", "marker", "run_file"):
        shutil.copytree(folder / "going", folder / f"going_{name}")
    with open(folder / "going_cut" / "checkpoint-4" / "optimizer.pt", "r+b") as file:
        file.truncate(1000)
    (folder / "going_lacks" / "checkpoint-4" / "model.safetensors").unlink()
    stream = folder / "going_tampered" / "checkpoint-4" / "synthetic_stream_0.pt"
    stream.write_bytes(stream.read_bytes()[:-100] + bytes(100))
    (folder / "going_marker" / "checkpoint-4" / "complete.json").write_text("{")
    (folder / "going_run_file" / "_run.json").write_text("{")

    model = shutil.ignore_patterns("checkpoint-*", "_run.json")
    names = ("pickled", "nan", "cut", "text_weights", "other_size", "nothing_kept")
    data = {
        "data_broken": "{", "data_list": "[1]", "data_unknown": '{"warp": 9}', "data_type": '{"context_length": "32"}',
        "data_range": '{"seed_length": 0}', "data_machines": '{"machines": 3}', "data_binary": "",
    }  # fmt: skip
    for name in (*names, *data):
        shutil.copytree(folder / "run", folder / name, ignore=model)
    weights = load_file(folder / "run" / "model.safetensors")
    (folder / "pickled" / "model.safetensors").unlink()
    torch.save(weights, folder / "pickled" / "pytorch_model.bin")
    broken = {**weights, "transformer.wte.weight": weights["transformer.wte.weight"] * float("nan")}
    save_file(broken, folder / "nan" / "model.safetensors", metadata={"format": "pt"})
    whole = (folder / "run" / "model.safetensors").read_bytes()
    (folder / "cut" / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    (folder / "text_weights" / "model.safetensors").write_text("these are weights, believe me")
    config = json.loads((folder / "run" / "config.json").read_text())
    (folder / "other_size" / "config.json").write_text(json.dumps({**config, "n_embd": 32}))
    for name, content in data.items():
        (folder / name / "synthetic_up_config.json").write_text(content)
    (folder / "data_binary" / "synthetic_up_config.json").write_bytes(bytes(range(256)))


def call(recipe: str, flags: list[str], patch: pytest.MonkeyPatch) -> None:
    patch.setattr("sys.argv", [recipe, "--use_cpu", *flags])
    patch.syspath_prepend(ROOT / "recipes")
    importlib.import_module(recipe.removesuffix(".py")).main()


@pytest.fixture
def check(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., None]:
    def check(recipe: str, flags: list[str], status: int, message: str) -> None:
        before = sorted(folder.rglob("*"))
        monkeypatch.chdir(folder)
        monkeypatch.setenv("HF_TOKEN", "hf_none")
        with pytest.raises(SystemExit) as exited:
            call(recipe, flags, monkeypatch)
        shown = capsys.readouterr()
        assert exited.value.code == status, shown.err
        # what a progress bar leaves is no message
        line = (
            re.sub(r"(Loading weights|Generating train split):[^\r\n]*[\r\n]+", "", shown.err) if status else shown.out
        )
        assert message in line and len(line.strip().splitlines()) == 1, line
        assert "Plan" not in shown.out
        assert sorted(folder.rglob("*")) == before, "something was written, or code was run"

    return check


@pytest.mark.parametrize("case", PRETRAIN)
def test_pretrain(case: str, check) -> None:
    flags, message = PRETRAIN[case]
    check("pretrain.py", [*TINY, *flags], 2, message)


def test_pretrain_needs_a_model(check) -> None:
    check("pretrain.py", [], 2, "--model: give an architecture such as gpt2")


@pytest.mark.parametrize("case", WARM_START)
def test_warm_start(case: str, check) -> None:
    model, message = WARM_START[case]
    check("pretrain.py", ["--warm_start", model, "--context_length", "32"], 2, message)


@pytest.mark.parametrize("case", GO_ON)
def test_going_on(case: str, check) -> None:
    flags, status, message = GO_ON[case]
    check("pretrain.py", [*RUN, "--output_dir", "going", *flags], status, message)


@pytest.mark.parametrize("case", FINETUNE)
def test_finetune(case: str, check) -> None:
    flags, message = FINETUNE[case]
    check("finetune.py", [*TUNE, "--train_file", "long.txt", *flags], 2, message)


@pytest.mark.parametrize("case", DATASET)
def test_finetune_on_a_data_set(case: str, check) -> None:
    flags, message = DATASET[case]
    check("finetune.py", [*TUNE, *flags], 2, message)


@pytest.mark.parametrize(
    "recipe, flags, message",
    [
        ("pretrain.py", ["--model", "gpt2", "--machines", "lstm=x"], "machines"),
        ("finetune.py", ["--model", "used", "--train_file", "short.txt"], "--model"),
        ("finetune.py", ["--model", "used"], "--train_file or --dataset"),
        ("pretrain.py", [*TINY, "--eval_text", "a=\udcff.txt"], "--eval_text: cannot read \\udcff.txt"),
    ],
)
def test_a_process_of_its_own(recipe: str, flags: list[str], message: str, folder: Path, run_recipe) -> None:
    before = sorted(folder.rglob("*"))
    done = run_recipe(recipe, *flags, cwd=folder)
    assert done.returncode == 2 and message in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert sorted(folder.rglob("*")) == before


def test_there_are_many_cases() -> None:
    assert len(PRETRAIN) + len(WARM_START) + len(GO_ON) + len(FINETUNE) + len(DATASET) >= 150
