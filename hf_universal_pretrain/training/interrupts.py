"""SIGTERM, SIGHUP and Ctrl-C: a checkpoint after the step that is running, then the end."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import psutil
import torch
import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_universal_pretrain.masking import mask_command


PARENT = "HF_UP_PARENT"  # environment variable: the process that this one must not outlive
_SECRET = ("--hub_token", "--hub-token")
IMPATIENT = 3.0  # seconds after which a second Ctrl-C is meant as one (launchers pass the first one on again)


class Stopped(KeyboardInterrupt):
    """SIGTERM or SIGHUP where there is nothing to save; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


def ending_signals() -> list[int]:
    """SIGTERM, and SIGHUP where there is one and it is not to be ignored (`nohup`)."""
    there = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    return [number for number in there if number == signal.SIGTERM or signal.getsignal(number) != signal.SIG_IGN]


@contextmanager
def stop_at_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP raise [`Stopped`], once: launchers send several. Must be made use of on the main thread."""

    def stop(number: int, frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(number)

    before = {number: signal.getsignal(number) for number in ending_signals()}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StopOnSignal(TrainerCallback):
    """Saves a checkpoint and ends the training after the step in which one of the processes gets SIGTERM, SIGHUP or
    SIGINT.

    So does the end of the process that started this one to run for it (`compare`). A second Ctrl-C does not wait for
    the step. Must be made use of on the main thread.

    Attributes:
        received: the number of the signal that ended the training; 0 if none did.
    """

    def __init__(self) -> None:
        self.received = 0
        self._mine, self._at = 0, 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._before = {number: signal.signal(number, self._handle) for number in (*ending_signals(), signal.SIGINT)}
        # a group of its own on the CPU: asking the others costs no synchronization with a GPU
        self._group = dist.new_group(backend="gloo") if args.world_size > 1 else None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._mine:
            self._mine, self._at = number, time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - self._at > IMPATIENT:
            raise KeyboardInterrupt

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        number = self._mine or (signal.SIGTERM if _is_orphan() else 0)
        if self._group is not None:  # all must stop after the same step
            shared = torch.tensor(number)
            dist.all_reduce(shared, dist.ReduceOp.MAX, self._group)
            number = int(shared)
        if number:
            self.received = number
            control.should_save = control.should_training_stop = True

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _is_orphan() -> bool:
    return os.environ.get(PARENT, "") not in ("", str(os.getppid()))


def command_line() -> str:
    """The command that started this process; if a launcher (`accelerate launch`, `torchrun`) did, the launcher's.
    Without `--hub_token`, if it was there; what else looks like a secret is masked."""
    launcher = psutil.Process().parent()
    command = launcher.cmdline() if launcher is not None else []
    command = command if sys.argv[0] in command else sys.orig_argv
    shown = [word for before, word in zip(["", *command], command, strict=False) if before not in _SECRET]
    return mask_command(word for word in shown if word.split("=")[0] not in _SECRET)
