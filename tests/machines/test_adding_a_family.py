"""The family of the documentation, word for word, in a file of the user's own: alone, in a mixture, as a pool."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hf_universal_pretrain import SyntheticUPConfig, SyntheticUPDataset
from hf_universal_pretrain.machines import load_family, own
from hf_universal_pretrain.stream.export import Export
from tests.conftest import ROOT


SMALL = {
    "context_length": 32, "alphabet_size": 64, "source_batch": 32, "buffer_size": 64, "num_resets": 0,
    "burn_in_rounds": 8,
}  # fmt: skip
MARKED = "from pathlib import Path\nPath('it_ran').touch()\n"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`my_family.py` in the working folder; nothing is loaded before or after."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(own, "_loaded", {})
    monkeypatch.delenv("HF_UP_FAMILY_FILES", raising=False)
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "extending.md").read_text(), re.DOTALL)[1]
    path = tmp_path / "my_family.py"
    path.write_text(code)
    return path


@pytest.mark.parametrize("share", ["", "@4", "=0.5,language=0.5"])
def test_it_makes_rows(share: str, file: Path) -> None:
    machines = load_family(f"my_family.py:CountingFamily{share}")
    settings = [load_family("my_family.py:CountingFamily.step_range=3,5")]
    dataset = SyntheticUPDataset(SyntheticUPConfig(machines=machines, family=settings, **SMALL))
    rows = torch.stack([row["input_ids"] for row, _ in zip(dataset, range(64), strict=False)])
    steps = (rows[:, 1:] - rows[:, :-1]) % 64
    counted = (steps == steps[:, :1]).all(1)
    assert counted.float().mean() > (0.3 if "language" in machines else 0.95)
    assert set(steps[counted, 0].tolist()) - {0} <= {3, 4, 5}, "its own setting reaches it; 0 is noise of one symbol"


def test_the_file_is_recorded_by_path_and_digest(file: Path) -> None:
    assert re.fullmatch(
        r"my_family\.py:CountingFamily#[0-9a-f]{12}=0\.5,lstm", load_family("my_family.py:CountingFamily=0.5,lstm")
    )
    assert load_family(f"{file}:CountingFamily") == load_family("./my_family.py:CountingFamily")
    before = load_family("my_family.py:CountingFamily")
    file.write_text(file.read_text() + "\n# another version\n")
    assert load_family("my_family.py:CountingFamily") != before
    with pytest.raises(ValueError, match="is not what it was"):
        load_family(before)


def test_a_configuration_runs_nothing(file: Path, tmp_path: Path) -> None:
    """One from a folder or the Hub is read; a stream of it is refused until the file is loaded."""
    file.write_text(MARKED + file.read_text())
    digest = own.hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    saved = {**SyntheticUPConfig(**SMALL).to_dict(), "machines": f"my_family.py:CountingFamily#{digest}@4"}
    (tmp_path / "synthetic_up_config.json").write_text(json.dumps(saved))
    config = SyntheticUPConfig.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="which is run only if you say so"):
        SyntheticUPDataset(config)
    with pytest.raises(ValueError, match="is a family of a file"):
        SyntheticUPConfig(machines="my_family.py:CountingFamily")
    assert not (tmp_path / "it_ran").exists()
    load_family("my_family.py:CountingFamily")
    assert (tmp_path / "it_ran").exists() and next(iter(SyntheticUPDataset(config)))


def test_processes_of_an_export_have_it(file: Path, tmp_path: Path, tokenizer) -> None:
    config = SyntheticUPConfig(machines=load_family("my_family.py:CountingFamily"), **SMALL)
    Export(config, tokenizer, tmp_path / "rows", 40, 20).write(1, show_progress=False)
    assert len(list((tmp_path / "rows").rglob("*.parquet"))) == 2


BROKEN = {
    "no such file": ("", "other.py:CountingFamily", "cannot read other.py"),
    "no such class": ("", "my_family.py:Other", "there is no Other in my_family.py"),
    "no family": ("Other = int\n", "my_family.py:Other", "must be a dataclass and a subclass of MachineFamily"),
    "no code": ("(\n", "my_family.py:CountingFamily", "cannot be run (SyntaxError"),
    "wrong symbols": ("", "my_family.py:CountingFamily", "makes symbols that are not from 0"),
    "wrong shape": ("", "my_family.py:CountingFamily", "must make (3, 16) int64 symbols, not (3, 15) int64"),
    "own randomness": ("", "my_family.py:CountingFamily", "from the generator that it is given"),
    "one machine for all": ("", "my_family.py:CountingFamily", "draws step of length 1"),
}
CHANGES = {
    "wrong symbols": ("% self.family.alphabet_size", "+ self.family.alphabet_size"),
    "wrong shape": ("return (", "return (lambda rows: rows[:, 1:] % 256)("),
    "own randomness": ("(seeds[:, :1] +", "(torch.randint(64, (len(seeds), 1)) +"),
    "one machine for all": ("(num_rows, 1), generator)", "(1, 1), generator)"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_family_is_refused(name: str, file: Path) -> None:
    more, machines, told = BROKEN[name]
    code = file.read_text()
    if name in CHANGES:
        old, new = CHANGES[name]
        assert old in code
        code = code.replace(old, new)
    file.write_text(code + more)
    with pytest.raises(ValueError, match=re.escape(told)):
        load_family(machines)


def test_the_command_takes_it_and_goes_on_with_the_same_content_alone(file: Path, tmp_path: Path) -> None:
    flags = "--model gpt2 --config_overrides n_layer=1,n_embd=16,n_head=2,n_positions=64 --context_length 32 --use_cpu"
    flags += (
        " --source_batch 8 --buffer_size 32 --burn_in_rounds 2 --num_resets 2 --eval_windows 4 --output_dir out/mine"
    )
    flags += " --machines my_family.py:CountingFamily@2=0.5,markov=0.5 --save_steps 2 --max_steps"
    command = [sys.executable, "-m", "hf_universal_pretrain", "pretrain", *flags.split()]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, "2"], capture_output=True, text=True, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    recorded = json.loads((tmp_path / "out/mine/synthetic_up_config.json").read_text())["machines"]
    assert re.fullmatch(r"my_family\.py:CountingFamily#[0-9a-f]{12}@2=0\.5,markov=0\.5", recorded)
    assert recorded in (tmp_path / "out/mine/README.md").read_text()
    file.write_text(file.read_text() + "\n# another version\n")
    again = subprocess.run([*command, "4"], capture_output=True, text=True, cwd=tmp_path, env=env)
    assert again.returncode == 2 and "machines" in again.stderr and "Traceback" not in again.stderr, again.stderr
