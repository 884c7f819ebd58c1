"""Work beside the training: on a GPU in a CUDA stream of its own, so that rounds run while a training step does."""

import contextlib
import time
from collections.abc import Iterator

import torch


class SideStream:
    """Orders two kinds of access to the same tensors: `work`, which runs beside, and `access` from the main stream.

    Each waits for the last of the other kind and for nothing else. On a CPU both just run.

    Args:
        device: of the tensors.
    """

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"
        self._seconds = 0.0
        if self.on_gpu:
            self.stream = torch.cuda.Stream(device)
            self.accessed, self.worked = torch.cuda.Event(), torch.cuda.Event()
            self.accessed.record()
            self._timed: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextlib.contextmanager
    def work(self) -> Iterator[None]:
        """The block's kernels go to the side stream; their time is counted."""
        if not self.on_gpu:
            began = time.perf_counter()
            yield
            self._seconds += time.perf_counter() - began
            return
        self.stream.wait_event(self.accessed)
        with torch.cuda.stream(self.stream):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            yield
            end.record()
            self.worked.record()
        self._timed.append((start, end))

    @contextlib.contextmanager
    def access(self) -> Iterator[None]:
        """The block's kernels go to the current stream, after the work so far."""
        if self.on_gpu:
            torch.cuda.current_stream().wait_event(self.worked)
        yield
        if self.on_gpu:
            self.accessed.record()

    @property
    def seconds(self) -> float:
        """How long the work took that is done; on a GPU the training may have gone on at the same time."""
        if self.on_gpu:
            done = [pair for pair in self._timed if pair[1].query()]
            self._timed = [pair for pair in self._timed if pair not in done]
            self._seconds += sum(began.elapsed_time(ended) for began, ended in done) / 1000
        return self._seconds
