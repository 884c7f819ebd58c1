"""The lock of a folder, between processes that really run at the same time."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hf_universal_pretrain.errors import InUse
from hf_universal_pretrain.runs.checkpoints import checkpoints, newest_complete
from hf_universal_pretrain.runs.lock import LOCK_FILE, hold
from tests.commands.test_bad_input import COMPARE, EXPORT, RUN, TUNE, call
from tests.conftest import ROOT, once


HOLD = """
import sys, time
from pathlib import Path
from hf_universal_pretrain.runs.lock import hold
with hold(Path(sys.argv[1]), "--output_dir"):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""
COUNT = """
import sys
from pathlib import Path
from hf_universal_pretrain.runs.lock import hold
for _ in range(40):
    with hold(Path(sys.argv[1]), "--output_dir", patience=60):
        number = Path(sys.argv[2])
        number.write_text(str(int(number.read_text()) + 1))
"""
ENV = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def holder() -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts a process that holds a lock for some seconds, and waits until it does."""
    started = []

    def start(path: Path, seconds: float = 1000) -> subprocess.Popen:
        command = [sys.executable, "-c", HOLD, str(path), str(seconds)]
        process = subprocess.Popen(command, env=ENV, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_another_process_is_told_of_and_a_killed_one_locks_nothing(holder, tmp_path: Path) -> None:
    path = tmp_path / "new" / "er" / LOCK_FILE
    process = holder(path)
    told = rf"--output_dir: another process \({process.pid} on {socket.gethostname()}\) is writing to {path.parent}: "
    for _ in range(2):  # to ask does not make it forget
        with pytest.raises(InUse, match=told), hold(path, "--output_dir"):
            pass
    process.kill()
    process.wait()
    assert path.is_file(), "what a killed process leaves"
    with hold(path, "--output_dir"):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert not path.exists()


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    with hold(tmp_path / "a" / "b" / LOCK_FILE, "--output_dir"):
        assert (tmp_path / "a" / "b" / LOCK_FILE).is_file()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ZeroDivisionError), hold(tmp_path / "a" / "b" / LOCK_FILE, "--output_dir"):
        (tmp_path / "a" / "mine").write_text("")
        raise ZeroDivisionError
    assert list(tmp_path.rglob("*")) == [tmp_path / "a", tmp_path / "a" / "mine"]


def test_a_lock_that_says_nothing_or_nonsense_is_a_lock(tmp_path: Path) -> None:
    path = tmp_path / LOCK_FILE
    for content in ("", "{", "[]", '{"pid": "x", "host": 1}', "\udcff"):
        with hold(path, "--output_dir"):
            path.write_text(content, errors="surrogateescape")
            with pytest.raises(InUse, match="--output_dir: another process is writing to"), hold(path, "--output_dir"):
                pass
        path.write_text(content, errors="surrogateescape")
        with hold(path, "--output_dir"):
            assert json.loads(path.read_text())["pid"] == os.getpid()


def test_a_planted_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / LOCK_FILE).symlink_to(tmp_path / "precious")
    with pytest.raises(ValueError, match="--output_dir: cannot lock"), hold(tmp_path / LOCK_FILE, "--output_dir"):
        pass
    assert (tmp_path / "precious").read_text() == "mine"


def test_one_at_a_time(tmp_path: Path) -> None:
    """Four processes count in one file, 40 times each; the lock, and often its folder, are made anew each time."""
    number = tmp_path / "number"
    number.write_text("0")
    command = [sys.executable, "-c", COUNT, str(tmp_path / "locked" / LOCK_FILE), str(number)]
    processes = [subprocess.Popen(command, env=ENV, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    ended = [(process.communicate(timeout=250)[1], process.returncode) for process in processes]
    assert ended == [("", 0)] * 4
    assert number.read_text() == "160" and not (tmp_path / "locked" / LOCK_FILE).exists()


def test_a_folder_that_comes_and_goes_is_no_error(tmp_path: Path) -> None:
    """Other processes make the folder of a lock, and remove it, at any moment."""
    come_and_go = (
        "import os, sys\nwhile True:\n    try: os.mkdir(sys.argv[1]); os.rmdir(sys.argv[1])\n    except OSError: pass"
    )
    other = subprocess.Popen([sys.executable, "-c", come_and_go, str(tmp_path / "locked")])
    try:
        for _ in range(1500):
            with hold(tmp_path / "locked" / LOCK_FILE, "--output_dir"):
                pass
    finally:
        other.kill()
        other.wait()


def test_the_lock_is_waited_for(holder, tmp_path: Path) -> None:
    process = holder(tmp_path / LOCK_FILE, 1)
    with hold(tmp_path / LOCK_FILE, "--output_dir", patience=60):
        assert process.wait(10) == 0


# ---- Commands ----


def test_a_run_is_alone_in_its_folder_and_a_killed_one_goes_on_at_once(tmp_path: Path) -> None:
    flags = ["--use_cpu", "--max_steps", "1000000", "--save_steps", "5", "--output_dir", "out", "--disable_tqdm", "1"]
    command = [sys.executable, str(ROOT / "recipes" / "pretrain.py"), *once([*RUN, *flags])]
    first = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: newest_complete(tmp_path / "out"), first)
    started = json.loads((tmp_path / "out" / "_run.json").read_text())
    second = subprocess.run([*command, "--seed", "1"], cwd=tmp_path, capture_output=True, text=True, timeout=250)
    assert second.returncode == 1 and second.stdout == ""
    assert second.stderr == (
        f"pretrain.py: error: --output_dir: another process ({first.pid} on {socket.gethostname()}) is writing to "
        "out: wait for its end, or give another folder\n"
    )
    assert json.loads((tmp_path / "out" / "_run.json").read_text()) == started and first.poll() is None
    first.kill()
    first.wait()
    reached = checkpoints(tmp_path / "out")[0].name
    again = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    until(lambda: checkpoints(tmp_path / "out")[0].name > reached, again)
    again.send_signal(signal.SIGTERM)
    told = again.communicate(timeout=250)[1]
    assert again.returncode == 143 and "Going on from out/checkpoint-" in told
    assert not (tmp_path / "out" / LOCK_FILE).exists()


def until(happened: Callable[[], object], process: subprocess.Popen) -> None:
    end = time.monotonic() + 100
    while not happened():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.1)


COMMANDS = {
    "pretrain.py": (RUN, f"locked/{LOCK_FILE}", ["--output_dir", "locked"]),
    "finetune.py": ([*TUNE, "--train_file", "t.txt"], f"locked/{LOCK_FILE}", ["--output_dir", "locked"]),
    "evaluate.py": (["--model", "run"], "locked/_f.json.lock", ["--json", "locked/f.json"]),
    "export_dataset.py": (EXPORT, f"locked/{LOCK_FILE}", ["--output", "locked"]),
    "compare.py": ([*COMPARE, "--arms", '{"scratch": {}}'], f"locked/{LOCK_FILE}", ["--output_dir", "locked"]),
}


@pytest.mark.parametrize("recipe", COMMANDS)
def test_each_command_that_writes_holds_it(recipe: str, holder, tmp_path: Path, monkeypatch, capsys) -> None:
    flags, path, output = COMMANDS[recipe]
    process = holder(tmp_path / path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        call(recipe, [*flags, *output], monkeypatch)
    told = capsys.readouterr().err
    assert ended.value.code == 1 and told.count("\n") == 1
    assert f"{output[0]}: another process ({process.pid} on " in told
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["locked", path]


def test_figures_may_be_written_beside_a_run_that_goes_on(holder, tmp_path: Path, monkeypatch, capsys) -> None:
    holder(tmp_path / "locked" / LOCK_FILE)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        call("evaluate.py", ["--model", "run", "--json", "locked/f.json"], monkeypatch)
    assert "--model" in capsys.readouterr().err, "there is none: the lock was passed"
