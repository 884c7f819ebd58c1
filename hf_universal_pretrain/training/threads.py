"""How many threads a run on a CPU takes: as many as are fastest now, measured before the first step.

Threads wait for each other in every one of the hundreds of small parts of a step. Tiny models, and machines that have
other work, are often fastest with one.
"""

import copy
import logging
import os
import statistics
import time
from collections import deque
from typing import Any, cast

import psutil
import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_universal_pretrain.limits import cores


logger = logging.getLogger(__name__)

TRIALS = 3  # steps that are timed with each number of threads, after one that is not
USUAL = 20  # steps whose median is the usual time
SLOW, SLOW_STEPS = 3.0, 3  # it is measured again after so many steps in a row that took so many times as long
WORTH = 0.95  # more threads must need less than this share of the time


class ThreadsCallback(TrainerCallback):
    """Chooses the number of threads, by steps of a copy of the model on rows that count for nothing, so that neither
    weights nor data nor random states are touched; and again when steps have become `SLOW` times as slow.

    The number decides the last bits of sums. So it is written into the log (`{"threads": n, "step": m}`), and a run
    that goes on begins with that of its checkpoint. Where a person has set OMP_NUM_THREADS, nothing is measured, and
    the number stays; nor on a GPU.

    Args:
        trainer: of the run.
        context_length: tokens in a training row.
    """

    def __init__(self, trainer: Trainer, context_length: int) -> None:
        self.trainer, self.length = trainer, context_length
        self.most = max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        self.chooses = trainer.args.device.type == "cpu" and not given() and self.most > 1
        self._usual: deque[float] = deque(maxlen=USUAL)
        self._slow = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not self.chooses:
            return
        kept = threads_of(state.log_history)
        if state.global_step and kept:
            torch.set_num_threads(kept)
        else:
            self._choose(args, state)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.chooses and self._slow >= SLOW_STEPS:
            self._choose(args, state)
        self._began = time.perf_counter()

    # Not the end of the step, to which the rounds of a synthetic stream belong.
    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        seconds = time.perf_counter() - self._began
        if len(self._usual) == USUAL and seconds > SLOW * statistics.median(self._usual):
            self._slow += 1
        else:
            self._slow = 0
            self._usual.append(seconds)

    def _choose(self, args: TrainingArguments, state: TrainerState) -> None:
        self._usual.clear()
        self._slow, before = 0, threads_of(state.log_history)
        seconds = self.measure(args.per_device_train_batch_size)
        number = fastest(seconds)
        torch.set_num_threads(number)
        if number != before:
            state.log_history.append({"threads": number, "step": state.global_step})
        if state.is_world_process_zero:
            told = ", ".join(f"{taken:.3f} s with {n}" for n, taken in sorted(seconds.items()))
            logger.warning(f"Threads: {number} (a step now takes {told}). OMP_NUM_THREADS sets another number.")

    def measure(self, rows: int) -> dict[int, float]:
        """Seconds of a step of `rows` rows with `most` threads, half of them, and so on down to one, as long as that
        does not get much slower."""
        bare = self.trainer.accelerator.unwrap_model(self.trainer.model, keep_torch_compile=False)
        model = copy.deepcopy(bare).train()
        model.__dict__.pop("forward", None)  # with bf16, accelerate has put one there that would run the model itself
        tokens = torch.arange(rows * self.length).view(rows, self.length) % model.config.vocab_size
        seconds: dict[int, float] = {}
        number = self.most
        with torch.random.fork_rng([]):
            while number:
                torch.set_num_threads(number)
                times = []
                for _ in range(1 + TRIALS):
                    began = time.perf_counter()
                    with torch.autocast("cpu", torch.bfloat16, enabled=self.trainer.args.bf16):
                        loss = self.trainer.compute_loss(model, {"input_ids": tokens, "labels": tokens})
                    cast(torch.Tensor, loss).backward()
                    times.append(time.perf_counter() - began)
                seconds[number] = statistics.median(times[1:])
                if seconds[number] > 2 * min(seconds.values()):
                    break
                number //= 2
        return seconds


def fastest(seconds: dict[int, float]) -> int:
    """The number of threads that takes least; where more are hardly faster, the smaller number."""
    best = min(seconds)
    for number in sorted(seconds):
        if seconds[number] < WORTH * seconds[best]:
            best = number
    return best


def threads_of(history: list[dict[str, Any]]) -> int:
    """The number of threads that the log of a run told last; 0 if none."""
    return int(next((entry["threads"] for entry in reversed(history) if "threads" in entry), 0))


def given() -> bool:
    """Whether a person has set the number of threads. `accelerate launch` and `torchrun` set OMP_NUM_THREADS to 1 for
    the processes that they start, unless it is set: what counts is the launcher's own environment."""
    if "OMP_NUM_THREADS" not in os.environ:
        return False
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ or "TORCHELASTIC_RUN_ID" in os.environ
    return not launched or "OMP_NUM_THREADS" in psutil.Process(os.getppid()).environ()
