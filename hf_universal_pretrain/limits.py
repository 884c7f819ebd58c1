"""How much there is of what runs need, and refusals of what cannot fit, before it is tried."""

import math
import os
from pathlib import Path

import psutil
import torch


GB = 1e9
_CGROUP = Path("/sys/fs/cgroup/memory.max")  # of a container, which may have less than its machine
_CPU_SHARE = Path("/sys/fs/cgroup/cpu.max")  # microseconds that it may compute, and in how many


class TooLarge(ValueError):
    """More than this machine has, or than any machine could do in a lifetime."""


def memory(device: str | torch.device = "cpu") -> int:
    """Bytes of memory that a device has in all, used or not."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    total = psutil.virtual_memory().total
    try:
        return min(total, int(_CGROUP.read_text()))
    except (OSError, ValueError):  # there is none, or it says "max"
        return total


def cores() -> int:
    """CPU cores that this process may use: those that it is bound to, and no more than its container has."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # not on macOS
    try:
        allowed, period = _CPU_SHARE.read_text().split()
        return max(1, min(bound, math.ceil(int(allowed) / int(period))))
    except (OSError, ValueError):  # there is none, or it says "max"
        return bound


def fits_64_bits(value: object) -> bool:
    """Whether this is no whole number that torch, or what is worked out in floats, could not take: those of Python, of
    JSON and YAML have no end."""
    return not isinstance(value, int) or abs(value) < 2**63


def check_memory(needed: float, what: str, mend: str, device: str | torch.device = "cpu") -> None:
    """Refuses what is certain not to fit.

    Args:
        needed: bytes, at the least.
        what: that needs them; begins with the flag.
        mend: what to do about it.
        device: whose memory it is.

    Raises:
        TooLarge: if the device has less.
    """
    have = memory(device)
    if needed > have:
        raise TooLarge(f"{what} takes {needed / GB:,.1f} GB of memory, and there are {have / GB:,.1f} GB: {mend}")
