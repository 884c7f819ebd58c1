"""Feeds configurations and files that were changed at random to commands, for as long as it is given.

    python tests/slow/fuzz.py --seconds 600 --seed 1

Four targets in turn: YAML configurations; `synthetic_up_config.json` and `config.json` of a model's folder;
`trainer_state.json` of a checkpoint (whose marker is made anew, so that its checksum says nothing) and of a run to be
compared with. Each is run in this process up to the first training step, and beyond it for states. It must end with a
status of 0, 1 or 2, without an exception, within `PATIENCE` seconds of computing, and with at most `MOST_MEMORY`, on
what they take for a machine of `MACHINE` bytes: a model larger than that is to be refused before it is made. What
does not is printed, made as small as hypothesis can, and the status is 1. Some examples at a time have a process of
their own, forked from this one.
"""

import argparse
import contextlib
import io
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any


os.environ["HF_HUB_OFFLINE"] = "1"  # before it is imported: a name that is drawn is of no repository

import torch
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from transformers import CONFIG_MAPPING

from hf_universal_pretrain import SyntheticUPConfig, UPConfig, limits
from hf_universal_pretrain.commands import finetune, pretrain
from hf_universal_pretrain.runs.checkpoints import mark_complete, read_marker


PATIENCE, MOST_MEMORY, EXAMPLES = 30, 2_000_000_000, 10
MACHINE = 1_000_000_000  # bytes that commands are told there are; the libraries take the rest
MOST_WINDOWS = 10_000  # that are asked for: reading more takes the time that it takes
TINY = {
    "model": "gpt2", "config_overrides": "n_layer=1,n_embd=16,n_head=2,n_positions=64", "context_length": 32,
    "source_batch": 8, "buffer_size": 32, "hidden_size": 16, "burn_in_rounds": 1, "per_device_train_batch_size": 4,
    "eval_windows": 2, "max_steps": 4, "save_steps": 2, "eval_strategy": "no", "eval_on_start": False,
}  # fmt: skip
# what leaves this process or this folder, or is another program's
OUTSIDE = {
    "output_dir", "use_cpu", "report_to", "deepspeed", "fsdp", "fsdp_config", "run_name", "project", "dry_run",
    "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id", "resume_from_checkpoint", "torch_compile",
    "ddp_backend", "ddp_timeout", "tpu_num_cores", "parallelism_config", "local_rank", "trust_remote_code",
}  # fmt: skip
FLAGS = sorted(
    {f.name for kind in (pretrain.ScriptArguments, SyntheticUPConfig, UPConfig) for f in fields(kind) if f.init}
    - OUTSIDE
    - {f.name for f in fields(UPConfig) if f.name.startswith(("hub_", "push_to_hub"))}
)
NUMBERS = st.one_of(
    st.integers(-3, 70), st.sampled_from([0, 1, -1, 2**15, 2**31, 2**63, 10**12, 10**30, 10**400]), st.floats(),
    st.floats(0, 1),
)  # fmt: skip
WORDS = st.one_of(
    st.sampled_from([
        "", "lstm", "gru=0.5,markov", "language@3", "constant", "transformer=inf", "all", "none", "auto", "nan",
        "1e999", "gpt2", "../x", "a=b", "[]", "{", "eval_loss", "a\nb", "\0", "é" * 9, "n_layer=2", "0.3:0.9",
        "lstm.hidden_size=8", "cosine", "steps", "float16", "bf16",
    ]),
    st.text(max_size=12),
)  # fmt: skip
ANY = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(WORDS, inner, max_size=4)),
    max_leaves=8,
)


class TooSlow(Exception):
    """A command that did not end in time."""


def changed(content: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A mapping in which some values are others, somewhere in it, and some keys are gone."""
    paths = [(key,) for key in content] + [
        (key, inner) for key, value in content.items() if isinstance(value, dict) for inner in value
    ]

    @st.composite
    def change(draw: Callable[[Any], Any]) -> dict[str, Any]:
        made = json.loads(json.dumps(content))
        for path in draw(st.lists(st.sampled_from(paths), min_size=1, max_size=3, unique=True)):
            place = made
            for key in path[:-1]:
                place = place.get(key) if isinstance(place, dict) else None
            if not isinstance(place, dict):
                continue
            old = place.get(path[-1])
            if draw(st.booleans()) and draw(st.booleans()):
                place.pop(path[-1], None)
            else:
                near = NUMBERS if isinstance(old, (int, float)) and not isinstance(old, bool) else WORDS
                place[path[-1]] = draw(st.one_of(near, ANY))
        return made

    return change()


def text_of(content: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """JSON of a changed mapping, of something else, or bytes of it that were changed."""
    whole = json.dumps(content).encode()

    @st.composite
    def torn(draw: Callable[[Any], Any]) -> bytes:
        start = draw(st.integers(0, len(whole)))
        return whole[:start] + draw(st.binary(max_size=6)) + whole[start + draw(st.integers(0, 40)) :]

    return st.one_of(changed(content).map(as_json), changed(content).map(as_json), ANY.map(as_json), torn())


def as_json(content: Any) -> bytes:
    return json.dumps(content).encode("utf-8", errors="replace")


def run(command: Any, flags: list[str]) -> None:
    """Runs a command, and raises what it should not have raised."""

    def late(*_: object) -> None:
        raise TooSlow(f"more than {PATIENCE} s")

    said = io.StringIO()
    sys.argv = [command.__name__.rpartition(".")[2] + ".py", "--use_cpu", *flags]
    before = {number: signal.signal(number, late) for number in (signal.SIGPROF, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_PROF, PATIENCE)
    signal.alarm(20 * PATIENCE)  # where it waits and does nothing
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            command.main()
    except SystemExit as ended:
        if ended.code not in (0, 1, 2):
            raise AssertionError(f"status {ended.code}") from ended
        if ended.code == 2 and ": error: " not in said.getvalue():
            raise AssertionError(f"status 2 and no line: {said.getvalue()}") from ended
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert peak < MOST_MEMORY, f"{peak / 1e9:.2f} GB"


def make_targets(work: Path) -> dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], None]]]:
    """What is drawn for each target, and what is done with it."""
    as_flags = [word for key, value in TINY.items() for word in (f"--{key}", str(value))]
    run(pretrain, [*as_flags, "--output_dir", str(work / "run")])
    whole, train = work / "run", pretrain.train_and_finish
    data = json.loads((whole / "synthetic_up_config.json").read_text())
    state = json.loads((whole / "trainer_state.json").read_text())
    configs = {"run": json.loads((whole / "config.json").read_text())}
    small = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1}
    small |= {"intermediate_size": 16, "head_dim": 8, "vocab_size": 259, "num_experts": 4, "num_local_experts": 4}
    for name in ("qwen3", "mixtral", "gemma3_text", "mamba"):
        configs[name] = {**CONFIG_MAPPING[name](**small).to_dict(), "model_type": name}
    (work / "text.txt").write_text("It was the best of times. " * 200)

    def until_training(command: Any, flags: list[str]) -> None:
        command.train_and_finish = lambda *_: None
        try:
            run(command, [*flags, "--output_dir", str(work / "out")])
        finally:
            command.train_and_finish = train
            shutil.rmtree(work / "out", ignore_errors=True)

    def configuration(content: bytes) -> None:
        content = re.sub(rb"(eval_windows\W+)\d{5,}", rb"\g<1>%d" % MOST_WINDOWS, content)
        (work / "config.yaml").write_bytes(content)
        until_training(pretrain, ["--config", str(work / "config.yaml")])

    def beside(name: str, content: bytes, flags: list[str]) -> None:
        folder = work / "model"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder, ignore=shutil.ignore_patterns("checkpoint-*", "_run.json"))
        (folder / name).write_bytes(content)
        until_training(pretrain, [*flags[:1], str(folder), *flags[1:]])

    def resumed(content: bytes) -> None:
        folder = work / "going"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        told = json.loads((folder / "_run.json").read_text())
        (folder / "_run.json").write_text(json.dumps({**told, "finished_at": None}))
        checkpoint = folder / "checkpoint-4"
        (checkpoint / "trainer_state.json").write_bytes(content)
        mark_complete(checkpoint, 4, read_marker(checkpoint)["settings"])
        run(pretrain, [*as_flags, "--output_dir", str(folder)])
        beside_it = work / "compared"
        beside_it.mkdir(exist_ok=True)
        (beside_it / "trainer_state.json").write_bytes(content)
        flags = ["--model", str(whole), "--train_file", str(work / "text.txt"), "--compare_with", str(beside_it)]
        until_training(finetune, [*flags, "--max_steps", "1", "--eval_windows", "2"])

    yaml_of = st.fixed_dictionaries({}, optional=dict.fromkeys(FLAGS, ANY)).flatmap(
        lambda _: st.dictionaries(st.sampled_from(FLAGS), st.one_of(NUMBERS, WORDS, ANY), min_size=1, max_size=3)
    )
    documents = yaml_of.map(lambda content: yaml.safe_dump({**TINY, **content}, allow_unicode=True).encode())
    rest = ["--max_steps", "1", "--eval_windows", "2"]
    return {
        "configuration": (st.one_of(documents, documents, text_of(TINY)), configuration),
        "synthetic_up_config.json": (
            text_of(data), lambda content: beside("synthetic_up_config.json", content, ["--warm_start", *rest])),
        "config.json": (
            st.sampled_from(sorted(configs)).flatmap(lambda name: text_of(configs[name])),
            lambda content: beside("config.json", content, [
                "--model", *rest, "--context_length", "32", "--source_batch", "8", "--buffer_size", "32"])),
        "trainer_state.json": (text_of(state), resumed),
    }  # fmt: skip


def fault(strategy: st.SearchStrategy[Any], act: Callable[[Any], None], number: int) -> str | None:
    """Tries some examples; what goes wrong with one of them, in words."""

    @seed(number)
    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink], report_multiple_bugs=False,
    )  # fmt: skip
    @given(strategy)
    def attempt(content: Any) -> None:
        act(content)

    try:
        attempt()
    except Exception as error:
        *_, place = traceback.walk_tb(error.__traceback__)
        where = f"{place[0].f_code.co_filename}:{place[1]}"
        notes = "\n".join(getattr(error, "__notes__", []))
        return f"{type(error).__name__}: {error}\n  at {where}\n{notes}"
    return None


def in_a_process(strategy: st.SearchStrategy[Any], act: Callable[[Any], None], number: int) -> tuple[str, float]:
    """As `fault`, in a process of its own: what goes wrong, or nothing; and the gigabytes that it took."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        told = fault(strategy, act, number) or ""
        with os.fdopen(write, "w") as answer:
            json.dump([told, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6], answer)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    _, status = os.waitpid(child, 0)
    return tuple(json.loads(text)) if text else (f"its process ended with status {status}", 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one of the targets")
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # threads would not survive a fork
    torch.set_num_threads(1)
    limits.memory = lambda device="cpu": MACHINE
    work = Path(tempfile.mkdtemp(prefix="fuzz-"))
    os.chdir(work)
    targets = {name: it for name, it in make_targets(work).items() if asked.only in (None, name)}
    number, tried, failed, peak = asked.seed, dict.fromkeys(targets, 0), 0, 0.0
    end = time.monotonic() + asked.seconds
    while time.monotonic() < end and failed < 20:
        for name, (strategy, act) in targets.items():
            number += 1
            tried[name] += EXAMPLES
            told, took = in_a_process(strategy, act, number)
            peak = max(peak, took)
            if told:
                failed += 1
                print(f"FAILED {name} (seed {number}): {told}", flush=True)
    print(f"{tried}: {failed} failed; at most {peak:.2f} GB")
    shutil.rmtree(work, ignore_errors=True)
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
