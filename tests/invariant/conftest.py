import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.invariant import runs


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As the pins were made."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def pinned() -> Callable[[str], Any]:
    return lambda name: json.loads((runs.PINNED / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def same_kind_of_machine(pinned: Callable[[str], Any]) -> bool:
    """Whether last bits of floating-point sums must be those of the pins."""
    return pinned("made_on") == runs.made_on()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the recipes have made `run`, `tuned` and `rows`."""
    folder = tmp_path_factory.mktemp("made")
    for command, _, _ in runs.CARDS:
        runs.run_recipe(command, folder)
    return folder
