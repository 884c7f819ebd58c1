"""Secrets in command lines and messages: they are neither printed nor stored.

What is a secret is told by its form (`hf_` and many letters), by the name before it (`--hub_token`, also mistyped;
`HF_TOKEN=`; `"api_key":`), and by being the token that this process uses.
"""

import difflib
import os
import re
import shlex
from collections.abc import Iterable
from typing import Any


MASK = "***"
_TOKEN = re.compile(r"hf_[A-Za-z0-9]{20,}")
_NAMED = re.compile(
    r"""(?P<name>--?[A-Za-z][\w-]*|\b[A-Za-z]\w*)(?P<quote>["']?)"""  # a flag, a variable, a key
    r"""(?P<between>=|\s*:\s*|\s*,\s*|\s+)(?P<open>["']?)(?P<value>[^\s"',\[\]{}]+)"""
)


def is_secret(name: str) -> bool:
    """Whether the value of a flag, a variable or a key is a secret, by its name; names that are nearly those count."""
    name = name.lstrip("-").replace("-", "_").lower()
    if name.endswith(("_token", "api_key", "password", "secret")) or name in ("token", "hubtoken"):
        return True
    return difflib.SequenceMatcher(None, name, "hub_token").ratio() > 0.8


def mask_words(words: Iterable[str]) -> list[str]:
    """The words of a command line, those that are secrets replaced by `***`."""
    masked, secret = [], False
    for word in words:
        if secret and not word.startswith("-"):
            masked.append(MASK)
            secret = False
            continue
        name, equals, _ = word.partition("=")
        secret = not equals and word.startswith("-") and is_secret(word)
        named = bool(equals) and name.lstrip("-").replace("-", "_").isidentifier() and is_secret(name)
        masked.append(f"{name}={MASK}" if named else mask(word))
    return masked


def mask_command(words: Iterable[str]) -> str:
    """A command line that a shell can read, secrets replaced."""
    return shlex.join(mask_words(words))


def mask(text: str) -> str:
    """A text, such as an error's message, with the secrets in it replaced by `***`."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if len(os.environ.get(name, "")) > 7:
            text = text.replace(os.environ[name], MASK)
    return _NAMED.sub(_mask_value, _TOKEN.sub(MASK, text))


def mask_values(content: Any) -> Any:
    """What is going to be JSON, the values of secret keys replaced."""
    if isinstance(content, dict):
        return {key: MASK if value and is_secret(str(key)) else mask_values(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [mask_values(value) for value in content]
    return mask(content) if isinstance(content, str) else content


def _mask_value(found: re.Match[str]) -> str:
    name, between = found["name"], found["between"].strip()
    if not is_secret(name) or found["value"].startswith("-"):
        return found[0]
    if name.startswith("-"):
        is_its_value = between != ":"  # after a colon, a message speaks of the flag
    else:
        is_its_value = between == "=" or (between == ":" and bool(found["quote"] or "_" in name))
    return f"{name}{found['quote']}{found['between']}{found['open']}{MASK}" if is_its_value else found[0]
