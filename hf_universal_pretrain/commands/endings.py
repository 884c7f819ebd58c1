"""How a command ends: done, refused, stopped or failed, each with its exit status and one line."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import torch.distributed as dist
from transformers import ProgressCallback, Trainer, TrainingArguments

from hf_universal_pretrain.errors import (
    HubUnavailable,
    InUse,
    NotRestored,
    RunFinished,
    SaveFailed,
    TrainingDiverged,
    first_line,
)
from hf_universal_pretrain.hub import push_or_explain
from hf_universal_pretrain.masking import mask
from hf_universal_pretrain.runs.checkpoints import newest_complete
from hf_universal_pretrain.runs.folder import checkpoint_to_resume
from hf_universal_pretrain.runs.lock import LOCK_FILE, hold
from hf_universal_pretrain.training.bits_trainer import BitsTrainer
from hf_universal_pretrain.training.interrupts import StopOnSignal, Stopped, command_line, stop_at_signals
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


def where_to_go_on(args: TrainingArguments, settings: dict[str, Any]) -> tuple[str | None, bool]:
    """As `checkpoint_to_resume`; and whether the run is finished, so that nothing but a push is left to be done."""
    try:
        return checkpoint_to_resume(args, settings), False
    except RunFinished:
        if not args.push_to_hub:
            raise
        return None, True


def push_model(trainer: BitsTrainer, was_finished: bool = False) -> None:
    """The last thing that a command does: the whole output folder goes to the Hub, if it was asked for; exit status 1
    and what to do if that fails.

    Args:
        trainer: that has trained.
        was_finished: it has not, since the run was finished before: the folder is pushed as it is, with a fresh card.
    """
    args = trainer.args
    if not args.push_to_hub:
        return
    if was_finished and args.process_index == 0:
        print(f"The run in {args.output_dir} is finished: what the Hub does not have is pushed.")
    with usage_errors():
        push = trainer.push_finished if was_finished else trainer.push_to_hub
        address = push_or_explain(push, str(args.output_dir), str(args.hub_model_id))
    if args.process_index == 0:
        print(f"The model is on the Hub: {address}")


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """Turns a ValueError, which is how the package refuses wrong settings, into one line and exit status 2.

    For the part of a command before it starts to work; later a ValueError is a bug and keeps its traceback. A Hub that
    is out of reach or fails, and a folder that another process writes to, are told without one too, with status 1. A
    run that is finished already is no error: that is said, and the status is 0. Ctrl-C and signals end with the status
    that a shell expects.
    """
    try:
        yield
    except ValueError as error:
        exit_with_usage_error(error)
    except (HubUnavailable, InUse) as error:
        _exit(str(error), 1)
    except RunFinished as done:
        if os.environ.get("LOCAL_RANK", "0") == "0":
            print(done)
        raise SystemExit(0) from done
    except KeyboardInterrupt as stop:
        what, status = _how_stopped(stop)
        _exit(f"{what} before it began", status)


@contextlib.contextmanager
def stoppable(kept: str = "") -> Iterator[None]:
    """For the whole of a command: SIGTERM, SIGHUP and Ctrl-C end it at once (unless something in it knows better, such
    as training), with one line and the status that a shell expects.

    Args:
        kept: what is left of the work, after a mark.
    """
    with stop_at_signals():
        try:
            yield
        except KeyboardInterrupt as stop:
            what, status = _how_stopped(stop)
            _exit(f"{what}{kept}", status)


def _how_stopped(stop: KeyboardInterrupt) -> tuple[str, int]:
    """In words, and as an exit status."""
    return (str(stop), 128 + stop.number) if isinstance(stop, Stopped) else ("interrupted", 128 + signal.SIGINT)


@contextlib.contextmanager
def alone_in(folder: str | Path, flag: str, name: str = LOCK_FILE, here: bool = True) -> Iterator[None]:
    """Keeps other commands out of a folder, from before anything in it is looked at until the end.

    Args:
        folder: that is going to be written.
        flag: which named it.
        name: of the lock file in it.
        here: whether this process is the one to hold the lock: it writes, and is the first of several. These all end
            if it is refused.
    """
    with contextlib.ExitStack() as held:
        with usage_errors():
            refusal: list[Exception | None] = [None]
            try:
                if here:
                    held.enter_context(hold(Path(folder) / name, flag))
            except (InUse, ValueError) as error:
                refusal = [error]
            if dist.is_available() and dist.is_initialized():
                dist.broadcast_object_list(refusal)
            if refusal[0] is not None:
                raise refusal[0]
        yield


def train_and_finish(trainer: BitsTrainer, resume: str | None) -> None:
    """Trains, from the checkpoint `resume` on if there is one, and leaves a complete output folder.

    SIGTERM, SIGHUP and Ctrl-C save a checkpoint and end the process with the status that a shell expects (143, 129 and
    130); before the first step and after the last they end it at once. A loss that is not finite, a full disk, and
    another process of the run that died end it with one line and status 1. All tell how to go on. A checkpoint that
    does not hold all of the model's weights is wrong use, status 2.
    """
    stop = StopOnSignal()
    # first of all: the rounds that fill the buffer take as many threads as the steps
    trainer.callback_handler.callbacks.insert(0, ThreadsCallback(trainer, trainer.context_length))
    trainer.add_callback(stop)
    try:
        with _bar_closed(trainer):
            trainer.train(resume_from_checkpoint=resume)
        if not stop.received:
            trainer.finish()
            return
        what = f"stopped by {signal.Signals(stop.received).name} after step {trainer.state.global_step}"
        status = 128 + stop.received
    except KeyboardInterrupt as stopped:
        what, status = _how_stopped(stopped)
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
