"""How a command ends: done, refused, stopped or failed, each with its exit status and one line."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from transformers import ProgressCallback, Trainer

from hf_universal_pretrain.errors import (
    HubUnavailable,
    NotRestored,
    RunFinished,
    SaveFailed,
    TrainingDiverged,
    first_line,
)
from hf_universal_pretrain.hub import push_or_explain
from hf_universal_pretrain.masking import mask
from hf_universal_pretrain.runs.checkpoints import newest_complete
from hf_universal_pretrain.training.bits_trainer import BitsTrainer
from hf_universal_pretrain.training.interrupts import StopOnSignal, command_line
from hf_universal_pretrain.training.threads import ThreadsCallback


def exit_with_usage_error(message: object) -> NoReturn:
    """Prints one line on stderr (on the first process of a machine) and exits with status 2."""
    _exit(" ".join(str(message).split()), 2)


def warn(message: str) -> None:
    """Prints one line on stderr (on the first process of a machine), and goes on."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"{os.path.basename(sys.argv[0])}: warning: {message}", file=sys.stderr, flush=True)


def _exit(message: str, status: int, from_any: bool = False) -> NoReturn:
    """Prints `message` on stderr (on the first process of a machine, unless `from_any`) and ends this process."""
    kind = "error: " if status <= 2 else ""  # above: a signal
    if from_any or os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"{os.path.basename(sys.argv[0])}: {kind}{mask(message)}", file=sys.stderr, flush=True)
    raise SystemExit(status)


@contextlib.contextmanager
def disk_errors(folder: str | Path) -> Iterator[None]:
    """Turns a file that cannot be written or read into one line (no traceback) and exit status 1."""
    try:
        yield
    except OSError as error:
        _exit(f"cannot write to {folder}: {first_line(error)}. Make room; the same command goes on", 1)


def push_model(trainer: Trainer) -> None:
    """The last thing that a command does: the whole output folder goes to the Hub, if it was asked for; exit status 1
    and what to do if that fails."""
    args = trainer.args
    if not args.push_to_hub:
        return
    with usage_errors():
        address = push_or_explain(trainer.push_to_hub, str(args.output_dir), str(args.hub_model_id))
    if args.process_index == 0:
        print(f"The model is on the Hub: {address}")


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """Turns a ValueError, which is how the package refuses wrong settings, into one line and exit status 2.

    For the part of a command before it starts to work; later a ValueError is a bug and keeps its traceback. A Hub that
    is out of reach or fails is told without one too, with status 1. A run that is finished already is no error: that
    is said, and the status is 0. Ctrl-C ends with status 130.
    """
    try:
        yield
    except ValueError as error:
        exit_with_usage_error(error)
    except HubUnavailable as error:
        _exit(str(error), 1)
    except RunFinished as done:
        if os.environ.get("LOCAL_RANK", "0") == "0":
            print(done)
        raise SystemExit(0) from done
    except KeyboardInterrupt:
        _exit("interrupted before it began", 128 + signal.SIGINT)


def train_and_finish(trainer: BitsTrainer, resume: str | None) -> None:
    """Trains, from the checkpoint `resume` on if there is one, and leaves a complete output folder.

    SIGTERM and Ctrl-C save a checkpoint and end the process with the status that a shell expects (143 and 130). A loss
    that is not finite, a disk that is full, and another process of the run that died end it with one line and status
    1. All tell how to go on. A checkpoint that does not hold all of the model's weights is wrong use, status 2.
    """
    stop = StopOnSignal()
    trainer.add_callback(ThreadsCallback(trainer, trainer.context_length))
    trainer.add_callback(stop)
    try:
        with _bar_closed(trainer):
            trainer.train(resume_from_checkpoint=resume)
        if not stop.received:
            trainer.finish()
            return
        what = f"stopped by {signal.Signals(stop.received).name} after step {trainer.state.global_step}"
        status = 128 + stop.received
    except KeyboardInterrupt:
        what, status = "interrupted", 128 + signal.SIGINT
    except NotRestored as error:
        exit_with_usage_error(error)
    except TrainingDiverged as error:
        _exit(str(error), 1, from_any=trainer.is_fsdp_enabled)  # with FSDP, weights of one process
    except SaveFailed as error:
        what, status = f"{error}. Make room", 1
    except RuntimeError as error:
        if trainer.args.world_size == 1 or not any(words in str(error) for words in _LOST):
            raise
        what, status = f"lost another process of this run, which has died ({first_line(error)})", 1
    _exit(f"{what}. {_how_to_go_on(str(trainer.args.output_dir))}", status, from_any=status == 1)


@contextlib.contextmanager
def _bar_closed(trainer: Trainer) -> Iterator[None]:
    """Ends the progress bar's line, whatever ends the training, so that messages do not stand in it."""
    try:
        yield
    finally:
        progress = trainer.pop_callback(ProgressCallback)
        if isinstance(progress, ProgressCallback) and progress.training_bar is not None:
            progress.training_bar.close()


# what gloo and NCCL say when a process that they wait for is gone
_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "NCCL", "Connection refused")


def _how_to_go_on(folder: str) -> str:
    try:
        newest = newest_complete(folder)
    except OSError as error:
        return f"A checkpoint cannot be read ({error}); when it can, this goes on:\n  {command_line()}"
    saved = f"{newest} is complete; this goes on" if newest else "There is no complete checkpoint; this starts anew"
    return f"{saved}:\n  {command_line()}"


def environment(threads: int) -> dict[str, str]:
    """The environment for a command that another one runs in a process of its own, on so many threads."""
    return {**os.environ, "OMP_NUM_THREADS": str(threads)}
