"""The Hub: a repository that is there before any work is done, and a way out when a push fails after it.

The requests themselves are those of huggingface_hub. What is added: a token that never reaches a file or a screen, a
limit on how long a silent server is waited for (the library sets none for uploads), and the command that finishes a
push that failed.
"""

import os
import shlex
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import HfApi, constants, get_session, get_token, hf_hub_download, set_client_factory
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from transformers import TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils.hub import cached_file

from hf_universal_pretrain.errors import HubUnavailable, first_line


# what Trainer.push_to_hub leaves out of the final push
NOT_PUSHED = ("_*", f"{PREFIX_CHECKPOINT_DIR}-*")
_LOG_IN = "log in with `hf auth login`, set HF_TOKEN, or give"


def hide_token(args: TrainingArguments) -> None:
    """Moves `hub_token` into the environment variable HF_TOKEN of this process.

    The Trainer pickles its arguments into `training_args.bin`, in the output folder and in each checkpoint, and pushes
    that file: a token among them would be published.
    """
    if args.hub_token:
        os.environ["HF_TOKEN"], args.hub_token = args.hub_token, None


def claim_repository(name: str, repo_type: str, private: bool | None, name_flag: str, token_flag: str) -> str:
    """Creates a repository unless it exists, makes sure that it may be written to, and returns its full name.

    From here on, a server that is silent for `HF_HUB_DOWNLOAD_TIMEOUT` seconds (60 unless that environment variable
    says otherwise) is given up on.

    Raises:
        ValueError: if the name is not possible, or the token is missing, unknown or may not write; names the flag.
        HubUnavailable: if the Hub does not answer or fails.
    """
    if get_token() is None:
        raise ValueError(f"{token_flag}: pushing to the Hub needs a token: {_LOG_IN} {token_flag}")
    _limit_waiting()
    api = HfApi()
    try:
        full_name = api.create_repo(name, repo_type=repo_type, private=private, exist_ok=True).repo_id
        api.auth_check(full_name, repo_type=repo_type, write=True)  # one may create and exist without being writable
    except Exception as error:  # no connection, no answer: whatever the HTTP library calls it
        wrong = _what_is_wrong(error, name, name_flag, token_flag)
        if wrong is not None:
            raise ValueError(wrong) from error
        raise HubUnavailable(
            f"the Hub ({constants.ENDPOINT}) does not answer as it should: {reason(error)}. Nothing was written."
        ) from error
    return full_name


def _what_is_wrong(error: Exception, name: str, name_flag: str, token_flag: str) -> str | None:
    """What is wrong with what was asked for, and the mend; None if it is the Hub that fails."""
    why = reason(error)
    if isinstance(error, HFValidationError):
        return f"{name_flag}: {name!r} is not a name for a repository: {why}"
    if isinstance(error, OfflineModeIsEnabled):
        return "--push_to_hub: the environment variable HF_HUB_OFFLINE forbids it: unset it"
    match error.response.status_code if isinstance(error, HfHubHTTPError) else None:
        case 401:
            return f"{token_flag}: the Hub refuses the token ({why}): {_LOG_IN} {token_flag}"
        case 403:
            return (
                f"{token_flag}: the token may not write to {name} ({why}): give one that may, or another {name_flag}"
            )
        case 400 | 404:
            return f"{name_flag}: the Hub cannot make the repository {name} ({why}): give another name"
    return None


def _limit_waiting() -> None:
    """The library's own HTTP client, but for its patience, which has no end."""
    stock = get_session()
    kind, hooks, patience = type(stock), stock.event_hooks, float(os.environ.get("HF_HUB_DOWNLOAD_TIMEOUT", 60))
    set_client_factory(lambda: kind(event_hooks=hooks, follow_redirects=True, timeout=patience))


def push_or_explain(push: Callable[[], object], folder: str | Path, repository: str, repo_type: str = "model") -> str:
    """Runs `push`, the last thing that a recipe does, and returns the address of what is then on the Hub.

    Raises:
        HubUnavailable: if the push fails for any reason or is interrupted; the message says what is whole on disk and
            which command finishes the job.
    """
    address = f"{constants.ENDPOINT}/{'datasets/' if repo_type == 'dataset' else ''}{repository}"
    try:
        push()
    except (Exception, KeyboardInterrupt) as error:
        raise HubUnavailable(
            f"the push to {address} failed: {reason(error)}. All of it is in {folder}; this finishes the job:\n"
            f"  {upload_command(folder, repository, repo_type)}"
        ) from error
    return address


def upload_command(folder: str | Path, repository: str, repo_type: str = "model") -> str:
    """The command line that uploads what a final push would have (its token: `hf auth login` or HF_TOKEN)."""
    command = ["hf", "upload", repository, str(folder), "."]
    if repo_type != "model":
        command += ["--repo-type", repo_type]
    for pattern in NOT_PUSHED:
        command += ["--exclude", pattern]
    return shlex.join(command)


def find_file(name: str | Path, filename: str) -> Path | None:
    """A file of a local folder or of a Hub repository (downloaded into the cache); None if there is no such file.

    Raises:
        OSError: if there is neither such a folder nor such a repository, or the Hub does not answer.
    """
    found = cached_file(str(name), filename, _raise_exceptions_for_missing_entries=False)
    return Path(found) if found else None


def published_readme(repository: str, repo_type: str = "model") -> str | None:
    """The README of a repository on the Hub as it is now; None if there is none or the Hub does not tell."""
    try:
        path = hf_hub_download(repository, constants.REPOCARD_NAME, repo_type=repo_type)
        return Path(path).read_text(encoding="utf-8")
    except Exception:  # a card is no reason to stop; if the Hub is out of reach, the push will say so
        return None


def reason(error: BaseException) -> str:
    """What went wrong, in one line; of the Hub's answers their status and what they say."""
    if not isinstance(error, HfHubHTTPError):
        return first_line(error)
    said = " ".join((error.server_message or "").split())
    return f"{error.response.status_code} {error.response.reason_phrase}" + (f", {said}" if said else "")
