"""The recipes as a user runs them: processes of their own, real files."""

import gzip
import json
import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_universal_pretrain import SyntheticUPConfig
from hf_universal_pretrain.commands.inspect import streams_of
from hf_universal_pretrain.runs.readme import yaml_lines
from tests.conftest import ROOT


TINY = [
    "--model", "gpt2", "--config_overrides", "n_layer=1,n_embd=16,n_head=2,n_positions=64", "--context_length", "32",
    "--source_batch", "8", "--buffer_size", "32", "--hidden_size", "16", "--burn_in_rounds", "2", "--use_cpu",
    "--per_device_train_batch_size", "4", "--eval_windows", "4",
]  # fmt: skip


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("It was the best of times, it was the worst of times. " * 200)
    return path


def test_pretrain_then_finetune_and_scratch(run_recipe, text: Path, tmp_path: Path) -> None:
    flags = ["--max_steps", "8", "--save_steps", "4", "--output_dir", "out/tiny", "--eval_text", f"dickens={text}"]
    flags += ["--learning_rate", "1e-2", "--warmup_steps", "0"]
    done = run_recipe("pretrain.py", *TINY, *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for piece in ("Plan:", "parameters", "training FLOPs", "generation FLOPs", "Bits per byte", "dickens", "KT"):
        assert piece in done.stdout
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out/tiny")
    assert len(AutoTokenizer.from_pretrained(tmp_path / "out/tiny")) == model.config.vocab_size == 259

    packed = tmp_path / "text.txt.gz"
    packed.write_bytes(gzip.compress(text.read_bytes()))
    common = ["--model", "out/tiny", "--train_file", str(packed), "--eval_file", str(text), "--context_length", "32"]
    common += ["--max_steps", "60", "--use_cpu", "--eval_windows", "4", "--save_strategy", "no"]
    common += ["--learning_rate", "1e-2"]
    warm = run_recipe("finetune.py", *common, cwd=tmp_path)
    assert warm.returncode == 0, warm.stderr
    scratch = run_recipe(
        "finetune.py", *common, "--from_scratch", "--compare_with", "out/tiny-finetuned", cwd=tmp_path
    )
    assert scratch.returncode == 0, scratch.stderr
    results = {}
    for name in ("tiny-finetuned", "tiny-scratch"):
        folder = tmp_path / "out" / name
        results[name] = json.loads((folder / "eval_results.json").read_text())["texts"]["held_out"]
        assert results[name]["bits_per_byte"] < 6 < 7 < results[name]["bits_per_byte_before"]
        assert (folder / "curves.png").stat().st_size > 10_000
        assert "real text" in (folder / "README.md").read_text()
    # the warm one starts from the pretrained weights: before its first step it is the pretrained model
    pretrained = json.loads((tmp_path / "out/tiny/eval_results.json").read_text())["texts"]["dickens"]
    assert results["tiny-finetuned"]["bits_per_byte_before"] == pytest.approx(pretrained["bits_per_byte"], abs=1e-4)
    assert results["tiny-scratch"]["bits_per_byte_before"] != pytest.approx(pretrained["bits_per_byte"], abs=1e-4)


def test_resume_goes_on_where_a_killed_run_stopped(run_recipe, tmp_path: Path) -> None:
    """A run to step 8, and one that stops at 4 and goes on with `auto`, end with equal weights."""
    flags = ["--save_steps", "4", "--lr_scheduler_type", "constant", "--eval_strategy", "no"]
    whole = run_recipe("pretrain.py", *TINY, *flags, "--max_steps", "8", "--output_dir", "whole", cwd=tmp_path)
    half = run_recipe("pretrain.py", *TINY, *flags, "--max_steps", "4", "--output_dir", "half", cwd=tmp_path)
    assert whole.returncode == half.returncode == 0, whole.stderr + half.stderr
    again = ["--max_steps", "8", "--output_dir", "half", "--resume_from_checkpoint", "auto"]
    resumed = run_recipe("pretrain.py", *TINY, *flags, *again, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    one = AutoModelForCausalLM.from_pretrained(tmp_path / "whole").state_dict()
    other = AutoModelForCausalLM.from_pretrained(tmp_path / "half").state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_warm_start_takes_the_weights(run_recipe, tmp_path: Path) -> None:
    first = run_recipe("pretrain.py", *TINY, "--max_steps", "2", "--output_dir", "first", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    flags = ["--max_steps", "1", "--learning_rate", "0", "--warm_start", "first", "--output_dir", "second"]
    second = run_recipe("pretrain.py", *TINY[4:], *flags, cwd=tmp_path)  # without --model and --config_overrides
    assert second.returncode == 0, second.stderr
    one = AutoModelForCausalLM.from_pretrained(tmp_path / "first").state_dict()
    other = AutoModelForCausalLM.from_pretrained(tmp_path / "second").state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_dry_run_writes_nothing(run_recipe, tmp_path: Path) -> None:
    done = run_recipe("pretrain.py", "--model", "gpt2", "--dry_run", "--use_cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "86,041,344" in done.stdout and "out/gpt2" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_yaml_sets_defaults_and_the_command_line_wins(run_recipe, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "model: gpt2\nmax_steps: 77\ngain_range: [2.0, 5e0]\nlearning_rate: 1e-3\nbf16: false\n"
        "lr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs: {min_lr: 1.0e-5}\nuse_cpu: true\n"
    )
    flags = ["--config", "c.yaml", "--dry_run", "--config_overrides", "n_layer=1,n_embd=16,n_head=1"]
    assert "77 steps" in run_recipe("pretrain.py", *flags, cwd=tmp_path).stdout
    assert "5 steps" in run_recipe("pretrain.py", *flags, "--max_steps", "5", cwd=tmp_path).stdout


def test_paper_preset_follows_the_batch(run_recipe, tmp_path: Path) -> None:
    flags = ["--model", "gpt2", "--preset", "paper", "--per_device_train_batch_size", "4", "--dry_run", "--use_cpu"]
    done = run_recipe("pretrain.py", *flags, "--max_steps", "10", cwd=tmp_path)
    assert "10 rounds x 8 rows" in done.stdout and "lstm 100%" in done.stdout, done.stderr


def test_a_model_with_rotary_positions_is_told_of_the_preset_that_suits_it(run_recipe, tmp_path: Path) -> None:
    for model, flags, told in (
        ("llama", [], True), ("gpt2", [], False), ("llama", ["--preset", "warm_start_rotary"], False),
    ):  # fmt: skip
        done = run_recipe("pretrain.py", "--model", model, "--dry_run", "--use_cpu", *flags, cwd=tmp_path)
        assert done.returncode == 0 and ("--preset warm_start_rotary suits it better" in done.stdout) == told


def test_a_model_that_goes_on_keeps_its_stream_and_is_told_of_no_other_preset(run_recipe, tmp_path: Path) -> None:
    small = "num_hidden_layers=1,hidden_size=16,intermediate_size=32,num_attention_heads=2,num_key_value_heads=2"
    flags = ["--model", "llama", "--config_overrides", small, *TINY[4:], "--max_steps", "1", "--output_dir", "first"]
    assert run_recipe("pretrain.py", *flags, cwd=tmp_path).returncode == 0
    more = run_recipe("pretrain.py", "--warm_start", "first", "--dry_run", "--use_cpu", cwd=tmp_path)
    assert more.returncode == 0 and "Plan:" in more.stdout and "suits it better" not in more.stdout


def test_every_configuration_file_is_accepted(run_recipe, tmp_path: Path) -> None:
    """Those of pretrain.py: those of compare.py have arms."""
    files = sorted((ROOT / "recipes" / "configs").glob("*.yaml"))
    for path in (path for path in files if "\narms:" not in path.read_text()):
        done = run_recipe(
            "pretrain.py", "--config", str(path), "--dry_run", "--use_cpu", "--bf16", "false", cwd=tmp_path
        )
        assert done.returncode == 0 and "Plan:" in done.stdout, done.stderr


def test_inspect_data_writes_one_page(run_recipe, tmp_path: Path) -> None:
    flags = [
        "--machines",
        "lstm=0.5,nca=0.5",
        "--complexity",
        "0.3:0.9",
        "--context_length",
        "64",
        "--buffer_size",
        "64",
    ]
    flags += ["--source_batch", "16", "--hidden_size", "16", "--rounds", "0", "3", "--output_dir", "look"]
    done = run_recipe("inspect_data.py", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "look/figures.json").read_text())
    assert set(figures) == {"lstm=0.5,nca=0.5", "lstm", "nca"}, "the mixture and each of its families"
    assert all(
        f["rounds"] == 3 and abs(f["dead"] + f["in_band"] + f["incompressible"] - 1) < 1e-3 for f in figures.values()
    )
    page = (tmp_path / "look/index.html").read_text()
    assert page.count("data:image/png;base64,") == 3 * (2 + 4) and "http" not in page, "the page must stand alone"
    assert f">{figures['nca']['mean_entropy_bits']:.2f}</td>" in page and f">{figures['nca']['dead']:.0%}</td>" in page
    names = re.findall(r'<button type="button">(.*?)</button>', page)
    assert len(names) == 11 and all(f"<dt>{name}</dt>" in page for name in names[1:]), "each word is explained"


def test_inspect_shows_each_stage_and_the_parts_of_the_last() -> None:
    data = SyntheticUPConfig(machines="lstm", curriculum=['{at: 3, machines: "lstm=0.5,copies=0.5"}'])
    assert list(streams_of(data)) == ["lstm", "lstm=0.5,copies=0.5", "copies"]


def test_families_measures_goes_on_and_draws(run_recipe, text: Path, tmp_path: Path) -> None:
    flags = ["--json", "f.json", "--steps", "2", "--seeds", "0", "--text", f"dickens={text}", "--jobs", "1"]
    done = run_recipe("measure/families.py", "--arms", "eca", "hmm@0.3:0.9", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first = json.loads((tmp_path / "f.json").read_text())
    assert first["arms"]["hmm@0.3:0.9"]["data"]["in_band"] > first["arms"]["eca"]["data"]["in_band"]
    assert 7 < first["arms"]["eca"]["bits"]["0"]["dickens"] < 9
    assert (tmp_path / "f.png").stat().st_size > 5000 and "| `eca` |" in done.stdout
    again = run_recipe("measure/families.py", "--arms", "eca", "hmm@0.3:0.9", *flags, cwd=tmp_path)
    assert json.loads((tmp_path / "f.json").read_text())["arms"] == first["arms"], again.stderr


def test_curriculum_in_yaml(run_recipe, tmp_path: Path) -> None:
    """A list of mappings in YAML; training goes through the change, and the card's settings keep it."""
    (tmp_path / "c.yaml").write_text("machines: uniform\ncurriculum:\n  - {at: 3, machines: constant}\n")
    flags = ["--config", "c.yaml", "--max_steps", "6", "--output_dir", "out/c", "--rows_per_round", "4"]
    done = run_recipe("pretrain.py", *TINY, *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    data = SyntheticUPConfig.from_pretrained(tmp_path / "out/c")
    assert [list(stage.mixture) for stage in data.stages] == [["uniform"], ["constant"]]


def test_curriculum_on_the_command_line(run_recipe, tmp_path: Path) -> None:
    """As the README and `-h` write it: a mixture in quotes; without them the error says so."""
    right = '{at: 3, machines: "uniform=0.5,constant=0.5", complexity: 0.3:0.9}'
    done = run_recipe("pretrain.py", *TINY, "--dry_run", "--curriculum", right, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    wrong = "{at: 3, machines: uniform=0.5,constant=0.5}"
    done = run_recipe("pretrain.py", *TINY, "--dry_run", "--curriculum", wrong, cwd=tmp_path)
    assert done.returncode == 2 and "put a mixture in quotes" in done.stderr and "Traceback" not in done.stderr


def test_the_settings_of_a_run_are_a_config_file(run_recipe, tmp_path: Path) -> None:
    """All of them, empty lists too, as a card tells them; a list that must not be empty is refused as ever."""
    settings = SyntheticUPConfig(context_length=32, source_batch=8, buffer_size=32, num_layers=2, seed_length=4)
    (tmp_path / "c.yaml").write_text(yaml_lines(settings.to_dict()))
    flags = ["--model", "gpt2", "--config_overrides", "n_layer=1,n_embd=16,n_head=2", "--use_cpu", "--dry_run"]
    done = run_recipe("pretrain.py", "--config", "c.yaml", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "c.yaml").write_text("gain_range: []")
    done = run_recipe("pretrain.py", "--config", "c.yaml", *flags, cwd=tmp_path)
    assert done.returncode == 2 and "--gain_range" in done.stderr


def test_a_finished_run_goes_on_with_the_curriculum_that_it_began_with(run_recipe, tmp_path: Path) -> None:
    flags = [*TINY, "--eval_strategy", "no", "--eval_on_start", "false", "--output_dir", "out"]
    assert run_recipe("pretrain.py", *flags, "--max_steps", "3", cwd=tmp_path).returncode == 0
    began_with = json.loads((tmp_path / "out/synthetic_up_config.json").read_text())["curriculum"]
    longer = run_recipe("pretrain.py", *flags, "--max_steps", "6", cwd=tmp_path)
    assert longer.returncode == 0, longer.stderr
    assert json.loads((tmp_path / "out/trainer_state.json").read_text())["global_step"] == 6
    assert json.loads((tmp_path / "out/synthetic_up_config.json").read_text())["curriculum"] == began_with != []
