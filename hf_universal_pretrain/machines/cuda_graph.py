"""A step that is run thousands of times: on a GPU, recorded once as a CUDA graph and replayed.

A step of a small network is some thirty kernels of a few microseconds. Launched one by one from Python they take
longer than they run; a graph launches them all at once.
"""

from collections.abc import Callable

import torch
from torch import Tensor


Step = Callable[..., Tensor]


def replayed(step: Step, *example: Tensor) -> Step:
    """The step itself on a CPU; on a GPU a replay of it, whose result lives until the next call.

    Args:
        step: a function of tensors that makes a tensor, with kernels of fixed shapes and no look at their values. It
            may change tensors of its own in place: it is run three times here, so set those back afterwards.
        example: arguments, of the shapes and types of all that follow.
    """
    if example[0].device.type != "cuda":
        return step
    static = [tensor.clone() for tensor in example]
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):  # libraries set up what they need
            step(*static)
        # other threads may go on launching: the model is training beside this
        graph.capture_begin(capture_error_mode="thread_local")
        result = step(*static)
        graph.capture_end()
    torch.cuda.current_stream().wait_stream(stream)

    def replay(*arguments: Tensor) -> Tensor:
        for mine, given in zip(static, arguments, strict=True):
            mine.copy_(given)
        graph.replay()
        return result

    return replay
