"""A command that another one runs, in a process and a folder of its own: its flags, its log, its end.

`flags.json` in the folder says what was asked for, `run.log` what was said. A token among the flags reaches the
process in its environment, and no file.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hf_universal_pretrain.commands.endings import environment
from hf_universal_pretrain.masking import mask_command, mask_words
from hf_universal_pretrain.training.interrupts import PARENT


FLAGS_FILE, LOG_FILE = "flags.json", "run.log"


def start(
    folder: Path, command: str, flags: dict[str, Any], threads: int, extra: dict[str, Any] | None = None
) -> "subprocess.Popen[bytes]":
    """Starts a command of this package with `--output_dir FOLDER`, which saves a checkpoint and ends if this process
    dies.

    Args:
        folder: there already; the log is added to.
        command: `pretrain`, `finetune`, ...
        flags: by name, without dashes.
        threads: on a CPU.
        extra: further flags, which `flags.json` does not have.
    """
    (folder / FLAGS_FILE).write_text(json.dumps(told(flags), indent=1) + "\n", encoding="utf-8")
    called = [sys.executable, "-m", "hf_universal_pretrain", command]
    called += words({**flags, "output_dir": folder, **(extra or {})})
    env = {**environment(threads), PARENT: str(os.getpid())}
    if flags.get("hub_token"):
        env["HF_TOKEN"] = str(flags["hub_token"])
    with open(folder / LOG_FILE, "a", encoding="utf-8") as log:
        log.write(mask_command(called) + "\n")
        log.flush()
        return subprocess.Popen(called, stdout=log, stderr=subprocess.STDOUT, env=env)


def told(flags: dict[str, Any]) -> list[str]:
    """Flags as `flags.json` has them."""
    return mask_words(words(flags))


def told_before(folder: Path) -> list[str] | None:
    """What `flags.json` in a folder says; None if there is none that can be read."""
    try:
        found = json.loads((folder / FLAGS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, list) else None


def differences(before: list[str], now: list[str]) -> list[str]:
    """The flags in which two command lines differ, in whatever order they stand, such as `--seed (was 0, now 1)`."""
    was, given = _by_flag(before), _by_flag(now)
    return [
        f"{flag} (was {was.get(flag, 'not given')}, now {given.get(flag, 'not given')})"
        for flag in dict.fromkeys([*was, *given])
        if was.get(flag) != given.get(flag)
    ]


def _by_flag(line: list[str]) -> dict[str, str]:
    """The values of each flag of a command line, as one word."""
    values: dict[str, list[str]] = {}
    flag = ""
    for word in line:
        if word.startswith("--"):
            flag = word
            values[flag] = []
        else:
            values.setdefault(flag, []).append(word)
    return {flag: " ".join(given) for flag, given in values.items()}


def words(flags: dict[str, Any]) -> list[str]:
    """Flags as the words of a command line, without the token."""
    made = []
    for key, value in flags.items():
        if key != "hub_token":
            values = value if isinstance(value, list) else [value]
            made += [f"--{key}", *(json.dumps(v) if isinstance(v, dict) else str(v) for v in values)]
    return made


def last_words(folder: Path) -> str:
    """The last line that a run has printed."""
    lines = (folder / LOG_FILE).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][-500:] if lines else "nothing was said"
