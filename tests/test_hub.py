"""Pushing and loading, by recipes in processes of their own, against a real HTTP server on the loopback."""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.commands.test_recipes import TINY
from tests.conftest import ROOT, once
from tests.hub_server import READER, WRITER, HubServer


QUICK = [*TINY, "--max_steps", "4", "--save_steps", "2", "--output_dir", "out/tiny", "--eval_strategy", "no"]
PUSH = ["--push_to_hub", "--hub_model_id", "org/tiny"]
REPO = "models/org/tiny"
COMMIT = "POST .*/commit/main"


@pytest.fixture
def hub() -> Iterator[HubServer]:
    server = HubServer()
    yield server
    server.close()


@pytest.fixture
def run(run_recipe, hub: HubServer, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    def run(recipe: str, *flags: str, **env: str) -> subprocess.CompletedProcess:
        return run_recipe(recipe, *flags, cwd=tmp_path, **{**hub.environment(tmp_path / "home"), **env})

    return run


def written(folder: Path) -> list[str]:
    """What a recipe left, the library's cache apart."""
    return sorted(path.name for path in folder.iterdir() if path.name != "home")


def show(done: subprocess.CompletedProcess) -> None:
    """What the user saw, for `pytest -rP`."""
    sys.stdout.write(f"exit status {done.returncode}\n{done.stderr}")


def output_files(folder: Path) -> dict[str, bytes]:
    """What is to be pushed: all but checkpoints and `_run.json`, which says whose folder it is."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != "_run.json"}


def test_a_run_is_pushed_whole_and_loads_bit_equal_without_this_package(run, hub: HubServer, tmp_path: Path) -> None:
    flags = [*QUICK, *PUSH, "--hub_strategy", "checkpoint", "--eval_strategy", "steps", "--hub_token", WRITER]
    done = run("pretrain.py", *flags, HF_TOKEN="")
    assert done.returncode == 0, done.stderr
    assert f"The model is on the Hub: {hub.url}/org/tiny" in done.stdout
    repository, folder = hub.repositories[REPO], tmp_path / "out/tiny"

    # during training: what the stock file list leaves out, and the checkpoint with the stream's state
    (message, first), (_, checkpoint), *_, (last, _) = repository.commits
    assert message == "Training in progress, step 2" and last == "End of training"
    assert {"synthetic_up_config.json", "curves.png", "README.md", "trainer_state.json"} <= set(first)
    assert {"last-checkpoint/synthetic_stream_0.pt", "last-checkpoint/synthetic_up_config.json"} <= set(checkpoint)
    # at the end: the whole output folder
    pushed = {path: data for path, data in repository.files.items() if not path.startswith("last-checkpoint/")}
    assert pushed == output_files(folder)
    # the token, which the stock Trainer pickles into training_args.bin, is nowhere
    everything = [*repository.files.values(), done.stdout.encode(), done.stderr.encode()]
    everything += [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert not any(WRITER.encode() in data for data in everything)

    load = """
import sys
sys.modules["hf_universal_pretrain"] = None  # from here on, importing it is an error
from transformers import AutoModelForCausalLM, AutoTokenizer
model, tokenizer = AutoModelForCausalLM.from_pretrained("org/tiny"), AutoTokenizer.from_pretrained("org/tiny")
model.save_pretrained("loaded")
print(tokenizer("abc").input_ids)
"""
    env = {**os.environ, **hub.environment(tmp_path / "other_home", token="")}
    loaded = subprocess.run([sys.executable, "-c", load], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.strip() == "[100, 101, 102]"
    one, other = load_file(tmp_path / "loaded/model.safetensors"), load_file(folder / "model.safetensors")
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_push_that_fails_leaves_the_model_whole_and_names_the_command(run, hub: HubServer, tmp_path: Path) -> None:
    """The command is run as it was printed, on a server that is well again: then the Hub has the whole folder."""
    hub.fails(COMMIT, status=500)
    done = run("pretrain.py", *QUICK, *PUSH, "--hub_strategy", "end")
    command = check_failed_push(done, hub, tmp_path)
    hub.heal()
    finish(command, hub, tmp_path)


def check_failed_push(done: subprocess.CompletedProcess, hub: HubServer, tmp_path: Path) -> str:
    """Status 1, no traceback, a model that loads, a complete folder. Returns the command that was printed."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr and WRITER not in done.stdout + done.stderr
    message, command = done.stderr.strip().splitlines()[-2:]
    assert message.startswith(f"pretrain.py: error: the push to {hub.url}/org/tiny failed: "), done.stderr
    assert message.endswith(". All of it is in out/tiny; this finishes the job:")
    assert command == "  hf upload org/tiny out/tiny . --exclude '_*' --exclude 'checkpoint-*'"
    folder = tmp_path / "out/tiny"
    AutoModelForCausalLM.from_pretrained(folder)
    complete = {
        "README.md", "config.json", "curves.png", "eval_results.json", "generation_config.json", "model.safetensors",
        "synthetic_up_config.json", "tokenizer.json", "tokenizer_config.json", "trainer_state.json",
        "training_args.bin",
    }  # fmt: skip
    assert output_files(folder).keys() == complete
    show(done)
    return command


def finish(command: str, hub: HubServer, tmp_path: Path) -> None:
    program, *words = shlex.split(command)
    env = {**os.environ, **hub.environment(tmp_path / "home")}
    program = Path(sys.executable).parent / program
    done = subprocess.run([program, *words], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert hub.repositories[REPO].files == output_files(tmp_path / "out/tiny")


BAD_STARTS = {
    "unknown token": (PUSH, {"HF_TOKEN": "hf_wrong"}, 2, "--hub_token: the Hub refuses the token (401 Unauthorized"),
    "no token": (PUSH, {"HF_TOKEN": ""}, 2, "--hub_token: pushing to the Hub needs a token: log in with `hf auth"),
    "a token that may only read": (PUSH, {"HF_TOKEN": READER}, 2, "--hub_token: the token may not write to org/tiny"),
    "someone else's name": (
        ["--push_to_hub", "--hub_model_id", "them/x"], {}, 2, "--hub_token: the token may not write to them/x"
    ),
    "not a name": (["--push_to_hub", "--hub_model_id", "org/a b"], {}, 2, "--hub_model_id: 'org/a b' is not a name"),
    "offline": (PUSH, {"HF_HUB_OFFLINE": "1"}, 2, "--push_to_hub: the environment variable HF_HUB_OFFLINE forbids it"),
    "404": (PUSH, {"fault": {"status": 404}}, 2, "--hub_model_id: the Hub cannot make the repository org/tiny (404"),
    "409": (PUSH, {"fault": {"status": 409}}, 1, "does not answer as it should"),
    "429": (PUSH, {"fault": {"status": 429}}, 1, "does not answer as it should: 429 Too Many Requests"),
    "500": (PUSH, {"fault": {"status": 500}}, 1, "does not answer as it should: 500 Internal Server Error"),
    "hangs": (PUSH, {"fault": {"action": "hang"}}, 1, "does not answer as it should: ReadTimeout"),
    "dies": (PUSH, {"fault": {"action": "die"}}, 1, "does not answer as it should: RemoteProtocolError"),
    "not there": (PUSH, {"HF_ENDPOINT": "http://127.0.0.1:9"}, 1, "does not answer as it should: ConnectError"),
}  # fmt: skip


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=[pytest.mark.slow] * (c != "unknown token")) for c in BAD_STARTS]
)
def test_a_hub_that_refuses_is_found_before_training(case: str, run, hub: HubServer, tmp_path: Path) -> None:
    flags, env, status, message = BAD_STARTS[case]
    hub.create(REPO)  # it exists, so that only the token is at fault
    if "fault" in env:
        hub.fails("POST /api/repos/create", **env["fault"])
    done = run("pretrain.py", *QUICK, *flags, **{key: value for key, value in env.items() if key != "fault"})
    assert done.returncode == status and message in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and "hf_w" not in done.stderr, done.stderr
    assert "Plan" not in done.stdout and written(tmp_path) == []
    show(done)


FAILED_PUSHES = {
    "401": {"status": 401},
    "403": {"status": 403},
    "404": {"status": 404},
    "409": {"status": 409},
    "429": {"status": 429},
    "hangs": {"action": "hang"},
    "dies in the middle of a commit": {"action": "die"},
}


@pytest.mark.parametrize("recipe", ["finetune.py", "evaluate.py", "pretrain.py"])
def test_help_asks_nothing_of_the_hub(recipe: str, run, hub: HubServer) -> None:
    done = run(recipe, "-h")
    assert done.returncode == 0 and "--config" in done.stdout, done.stderr
    assert hub.requests == []


@pytest.mark.slow
@pytest.mark.parametrize("case", FAILED_PUSHES)
def test_failures_of_the_final_push(case: str, run, hub: HubServer, tmp_path: Path) -> None:
    hub.fails(COMMIT, **FAILED_PUSHES[case])
    done = run("pretrain.py", *QUICK, *PUSH, "--hub_strategy", "end", HF_HUB_DOWNLOAD_TIMEOUT="1")
    command = check_failed_push(done, hub, tmp_path)
    hub.heal()
    finish(command, hub, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_finished_run_pushes_what_is_not_on_the_hub(run, hub: HubServer, tmp_path: Path) -> None:
    """With the flag added later; again, with a file gone from the Hub, and a card edited there."""
    assert run("pretrain.py", *QUICK).returncode == 0
    folder, weights = tmp_path / "out/tiny", (tmp_path / "out/tiny/model.safetensors").read_bytes()
    checkpoints = sorted(path.stat().st_mtime_ns for path in folder.glob("checkpoint-*/*"))
    done = run("pretrain.py", *QUICK, *PUSH)
    assert done.returncode == 0 and "Plan" not in done.stdout, done.stderr
    assert done.stdout.splitlines() == [
        "The run in out/tiny is finished: what the Hub does not have is pushed.",
        f"The model is on the Hub: {hub.url}/org/tiny",
    ]
    repository = hub.repositories[REPO]
    assert repository.files == output_files(folder) and repository.files["model.safetensors"] == weights
    assert sorted(path.stat().st_mtime_ns for path in folder.glob("checkpoint-*/*")) == checkpoints
    card = repository.files["README.md"].decode()
    assert 'from_pretrained("org/tiny")' in card and "4 steps, 512 synthetic" in card and "0 rounds" not in card

    commits = len(repository.commits)
    repository.files["README.md"] = card.replace("# tiny", "# A title of mine").encode()
    repository.files.pop("model.safetensors")
    again = run("pretrain.py", *QUICK, *PUSH)
    assert again.returncode == 0, again.stderr
    assert repository.files == output_files(folder) and len(repository.commits) > commits
    assert b"# A title of mine" in repository.files["README.md"]
    longer = run("pretrain.py", *QUICK, *PUSH, "--max_steps", "5", "--lr_scheduler_type", "linear")
    assert longer.returncode == 0 and "Plan" in longer.stdout, "it is to be trained on"


def kill_in_its_push(recipe: str, flags: list[str], hub: HubServer, tmp_path: Path) -> None:
    """Kills a recipe with SIGKILL at its first commit, which the server does not answer."""
    hub.fails(COMMIT, action="hang")
    env = {**os.environ, **hub.environment(tmp_path / "home")}
    command = [sys.executable, str(ROOT / "recipes" / recipe), *once(flags)]
    process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 200
    while not any("/commit/" in request for request in hub.requests):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    process.kill()
    process.wait()
    hub.heal()


@pytest.mark.slow
def test_a_run_that_was_killed_in_its_push_pushes(run, hub: HubServer, tmp_path: Path) -> None:
    flags = [*QUICK, *PUSH, "--hub_strategy", "end"]
    kill_in_its_push("pretrain.py", flags, hub, tmp_path)
    assert not hub.repositories[REPO].files
    done = run("pretrain.py", *flags)
    assert done.returncode == 0 and "is finished: what the Hub" in done.stdout, done.stderr
    assert hub.repositories[REPO].files == output_files(tmp_path / "out/tiny")


@pytest.mark.slow
def test_fine_tuning_that_failed_to_push_pushes(run, hub: HubServer, tmp_path: Path) -> None:
    assert run("pretrain.py", *QUICK).returncode == 0
    (tmp_path / "text.txt").write_text("It was the best of times, it was the worst of times. " * 200)
    flags = ["--model", "out/tiny", "--train_file", "text.txt", "--max_steps", "2", "--use_cpu", "--eval_windows", "4"]
    flags += ["--push_to_hub", "--hub_model_id", "org/tuned", "--output_dir", "out/tuned", "--hub_strategy", "end"]
    hub.fails(COMMIT, status=403)
    assert run("finetune.py", *flags).returncode == 1
    hub.heal()
    done = run("finetune.py", *flags)
    assert done.returncode == 0 and "Training" not in done.stdout, done.stderr
    assert hub.repositories["models/org/tuned"].files == output_files(tmp_path / "out/tuned")


@pytest.mark.slow
def test_an_export_that_was_killed_in_its_push_pushes(run, hub: HubServer, tmp_path: Path) -> None:
    flags = ["--rows", "64", "--context_length", "32", "--num_proc", "1", "--buffer_size", "32", "--source_batch", "8"]
    flags += ["--burn_in_rounds", "1", "--rows_per_shard", "32", "--push_to_hub", "org/rows", "--output", "rows"]
    kill_in_its_push("export_dataset.py", flags, hub, tmp_path)
    shards = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "rows/data").iterdir()}
    done = run("export_dataset.py", *flags)
    assert done.returncode == 0 and "2 shards are there already" in done.stdout, done.stderr
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "rows/data").iterdir()} == shards
    files = hub.repositories["datasets/org/rows"].files
    here = [path for path in (tmp_path / "rows").rglob("*") if path.is_file()]
    assert files == {str(path.relative_to(tmp_path / "rows")): path.read_bytes() for path in here}


@pytest.mark.slow
@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 429}, {"action": "die"}, {"action": "hang"}], ids=str)
def test_a_short_failure_is_waited_out(fault: dict, run, hub: HubServer, tmp_path: Path) -> None:
    hub.fails(COMMIT, times=1, **fault)
    done = run("pretrain.py", *QUICK, *PUSH, "--hub_strategy", "end")
    assert done.returncode == 0, done.stderr
    assert hub.repositories[REPO].files == output_files(tmp_path / "out/tiny")


@pytest.mark.slow
def test_pushes_that_fail_during_training_are_told_and_made_good(run, hub: HubServer, tmp_path: Path) -> None:
    hub.fails(COMMIT, status=403, times=1)
    done = run("pretrain.py", *QUICK, *PUSH)
    assert done.returncode == 0, done.stderr
    assert "A push during training failed (403 Forbidden" in done.stderr
    assert hub.repositories[REPO].files == output_files(tmp_path / "out/tiny")


@pytest.mark.slow
def test_a_resumed_run_goes_on_pushing_and_keeps_what_was_edited_on_the_hub(run, hub, tmp_path: Path) -> None:
    """The run is stopped by a checkpoint limit, someone retitles the card on the Hub, and the run goes on."""
    flags = [*QUICK, *PUSH, "--lr_scheduler_type", "constant"]
    assert run("pretrain.py", *flags, "--max_steps", "2").returncode == 0
    repository = hub.repositories[REPO]
    readme = repository.files["README.md"].decode()
    assert "2 steps, 256 synthetic" in readme
    repository.files["README.md"] = (readme.replace("# tiny", "# A title of mine") + "\nThanks.\n").encode()
    done = run("pretrain.py", *flags, "--resume_from_checkpoint", "auto")
    assert done.returncode == 0, done.stderr
    assert [message for message, _ in repository.commits][-1] == "End of training"
    readme = repository.files["README.md"].decode()
    assert "# A title of mine" in readme and readme.endswith("Thanks.\n") and "4 steps, 512 synthetic" in readme
    assert repository.files == output_files(tmp_path / "out/tiny")


@pytest.mark.slow
def test_large_files_go_through_lfs(run, hub: HubServer, tmp_path: Path) -> None:
    """Without Xet, whose protocol the server does not speak; a failed upload of a file is a failed push."""
    hub.lfs = True
    done = run("pretrain.py", *QUICK, *PUSH, HF_HUB_DISABLE_XET="1")
    assert done.returncode == 0, done.stderr
    assert hub.repositories[REPO].files == output_files(tmp_path / "out/tiny")
    assert (tmp_path / "out/tiny/model.safetensors").read_bytes() in hub.blobs.values()

    hub.repositories.clear(), hub.blobs.clear()
    hub.fails("PUT /lfs/", status=403)
    again = run(
        "pretrain.py", *QUICK, *PUSH, "--output_dir", "out/again", "--hub_strategy", "end", HF_HUB_DISABLE_XET="1"
    )
    assert again.returncode == 1 and "hf upload org/tiny out/again ." in again.stderr, again.stderr


@pytest.mark.slow
def test_from_the_hub_to_real_text_and_to_more_synthetic_data(run, hub: HubServer, tmp_path: Path) -> None:
    """Another folder and cache than the run that pushed: everything comes from the Hub."""
    made = run("pretrain.py", *QUICK, *PUSH, "--stream_seed", "3", "--num_resets", "2")
    assert made.returncode == 0, made.stderr
    (tmp_path / "text.txt").write_text("It was the best of times, it was the worst of times. " * 200)
    env = {"HF_HOME": str(tmp_path / "home" / "other")}

    tune = [
        "--model",
        "org/tiny",
        "--train_file",
        "text.txt",
        "--context_length",
        "32",
        "--max_steps",
        "4",
        "--use_cpu",
    ]
    tune += ["--eval_windows", "4", "--push_to_hub", "--hub_model_id", "org/tuned", "--output_dir", "out/tuned"]
    done = run("finetune.py", *tune, **env)
    assert done.returncode == 0, done.stderr
    card = ModelCard(hub.repositories["models/org/tuned"].files["README.md"].decode())
    assert card.data.base_model == "org/tiny" and "synthetic-data" not in card.data.tags
    stage_1, stage_2 = card.text.split("**Stage 2")
    assert "4 steps, 512 synthetic" in stage_1 and "stream_seed: 3" in stage_1 and "`org/tiny`" in stage_1
    assert "4 steps, 1,024 tokens" in stage_2 and "max_steps: 4" in stage_2
    assert hub.repositories["models/org/tuned"].files == output_files(tmp_path / "out/tuned")
    # from the local folder it is the same, since its card knows where it was pushed to
    local = run(
        "finetune.py", *tune, "--model", "out/tiny", "--output_dir", "out/local", "--hub_model_id", "org/local"
    )
    assert local.returncode == 0, local.stderr
    assert ModelCard.load(tmp_path / "out/local/README.md").data.base_model == "org/tiny"

    more = run(
        "pretrain.py", "--warm_start", "org/tiny", "--max_steps", "1", "--learning_rate", "0", "--use_cpu", **env
    )
    assert more.returncode == 0, more.stderr
    one, other = (load_file(tmp_path / f"out/{name}/model.safetensors") for name in ("tiny", "tiny-more"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    data = [json.loads((tmp_path / f"out/{n}/synthetic_up_config.json").read_text()) for n in ("tiny", "tiny-more")]
    assert data[1] == {**data[0], "stream_seed": 4}


@pytest.mark.slow
def test_the_recipe_of_a_card_makes_the_same_model(run, hub: HubServer, tmp_path: Path) -> None:
    done = run("pretrain.py", *QUICK, *PUSH, "--learning_rate", "0.01", "--seed", "7", "--stream_seed", "2")
    assert done.returncode == 0, done.stderr
    card = ModelCard(hub.repositories[REPO].files["README.md"].decode())
    data, training = (part.split("```")[0] for part in card.text.split("```yaml\n")[1:])
    (tmp_path / "recipe.yaml").write_text(data + training)
    assert yaml.safe_load(training)["learning_rate"] == 0.01
    command = card.text.split("accelerate launch --num_processes 1 recipes/pretrain.py")[1].split("```")[0]
    flags = shlex.split(command.replace("\\\n", ""))
    again = run("pretrain.py", *flags, "--use_cpu", "--output_dir", "out/again")
    assert again.returncode == 0, again.stderr
    one, other = (load_file(tmp_path / f"out/{name}/model.safetensors") for name in ("tiny", "again"))
    assert all(torch.equal(one[name], other[name]) for name in one)
