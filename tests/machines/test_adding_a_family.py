"""The family of the documentation, word for word, in one file: it runs alone, in a mixture and as a pool."""

import re

import pytest
import torch

from hf_universal_pretrain import SyntheticUPConfig, SyntheticUPDataset
from hf_universal_pretrain.machines import FAMILIES
from tests.conftest import ROOT


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the two pieces of code that the page shows run."""
    monkeypatch.setattr("hf_universal_pretrain.machines.FAMILIES", FAMILIES)
    known = dict(FAMILIES)
    made: dict = {"__name__": "my_family"}
    for code in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "extending.md").read_text(), re.DOTALL):
        exec(code, made)
    assert FAMILIES.keys() - known.keys() == {"counting"}
    yield
    del FAMILIES["counting"]


@pytest.mark.parametrize("machines", ["counting", "counting@4", "counting=0.5,language=0.5"])
def test_it_makes_rows(machines: str, counting: None) -> None:
    config = SyntheticUPConfig(
        machines=machines, context_length=32, alphabet_size=64, source_batch=32, buffer_size=64, num_resets=0,
        burn_in_rounds=8, family=["counting.step_range=3,5"],
    )  # fmt: skip
    dataset = SyntheticUPDataset(config)
    rows = torch.stack([row["input_ids"] for row, _ in zip(dataset, range(64), strict=False)])
    steps = (rows[:, 1:] - rows[:, :-1]) % 64
    counted = (steps == steps[:, :1]).all(1)
    assert counted.float().mean() > (0.3 if "language" in machines else 0.95)
    assert set(steps[counted, 0].tolist()) - {0} <= {3, 4, 5}, "its own setting reaches it; 0 is noise of one symbol"
