"""The ways in which a run ends early, and the one line that is printed of an error.

Wrong use is a `ValueError` whose message names the flag and the mend; what stands here is everything else, and what is
found out only when a run has begun.
"""


class RunFinished(Exception):
    """There is nothing to do: the run that was asked for is finished."""


class NotRestored(ValueError):
    """A checkpoint does not hold all weights of the model that is to go on from it."""


class SaveFailed(RuntimeError):
    """A checkpoint or the final model could not be written; what was complete before still is."""


class TrainingDiverged(RuntimeError):
    """The loss or the weights are not finite."""


class InUse(RuntimeError):
    """Another process is writing to the folder that was given."""


class HubUnavailable(RuntimeError):
    """The Hub could not be reached or did not do its part; nothing that the caller asked for is wrong."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, without its full stop; after its kind where the message alone says
    little."""
    kind, line = type(error).__name__, str(error).strip().split("\n")[0].rstrip(".")
    if not line:
        return kind
    return line if isinstance(error, (ValueError, OSError)) else f"{kind}: {line}"
