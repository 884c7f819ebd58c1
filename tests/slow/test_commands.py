"""Every command of README.md and docs/*.md, and every piece of Python in them, run as it stands but cut short.

    pytest -m slow tests/slow/test_commands.py -rs     # the summary counts them, and says why some are left out
    python -m tests.slow.test_commands                 # only lists them

Each page has a folder of its own, in which its commands run in their order. The files that pages speak of lie in it,
and the quickstart's model, unless the page makes it.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from hf_universal_pretrain.text import interpreter_texts
from tests.conftest import ROOT


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# why a command is not run here, by what is in it; the first that fits counts
SKIPPED = {
    r"^(pip|pre-commit) install": "installs: .ci/wheel and .ci/run do that",
    r"ORG/|hf auth|Qwen/|hf jobs": "needs the Hub",
    r"--multi_gpu|fsdp2|ddp\.yaml": "needs GPUs",
    r"sbatch": "needs Slurm",
    r"lm_eval": "needs lm_eval: tests/slow/test_lm_eval.py runs it",
    r"OTHER": "stands for a tokenizer of the reader's",
    r"benchmark\.py": "measures for long: tests/test_benchmark.py runs it",
    r"^python tests/slow|^pytest": "is a test itself",
    r"families\.py": "measures for long: tests/commands/test_recipes.py runs it",
    r"(orders|readouts)\.py": "measures for long",
    r"checkpoint-\{": "needs a run of an hour",
}
# what cuts a command short, by what is in it
_DATA = "--context_length 64 --source_batch 16 --buffer_size 32 --num_resets 2 --burn_in_rounds 1"
_TRAINING = (
    "--max_steps 2 --eval_windows 2 --use_cpu --bf16 false --torch_compile false --per_device_train_batch_size 1"
)
CUT = {
    r"--dry_run": "",
    r"pretrain.*--model gpt2": f"{_TRAINING} {_DATA} --config_overrides n_layer=1,n_embd=32,n_head=2",
    r"\bpretrain\b": f"{_TRAINING} {_DATA}",
    r"\bfinetune\b": f"{_TRAINING} --context_length 64",
    r"\bevaluate\b": "--windows 2 --probe_windows 2 --context_length 64",
    r"\binspect(_data)?\b": "--rounds 0 1 --context_length 64 --source_batch 16 --buffer_size 32 --num_resets 2",
    r"\bexport(_dataset)?\b": f"--rows 8 --rows_per_shard 8 --num_proc 1 {_DATA}",
    r"\bcompare\b": "--dry_run",
    r"architectures": "--names gpt2",
}
QUICKSTART = "hf-up pretrain --config quickstart"


def commands(page: Path) -> Iterator[tuple[str, str]]:
    """The commands of a page: `("bash", a line)`, continued lines joined, or `("python", a block)`."""
    for kind, block in re.findall(r"^```(bash|sh|python)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        if kind == "python":
            yield kind, block
            continue
        for line in block.replace("\\\n", " ").splitlines():
            line = re.sub(r"\s+#.*$", "", " ".join(line.split()))
            if line:
                yield "bash", line


ALL = [(page, kind, text) for page in PAGES for kind, text in commands(page)]


def reason(text: str) -> str | None:
    """Why a command is not run here; None if it is."""
    return next((why for pattern, why in SKIPPED.items() if re.search(pattern, text, re.MULTILINE)), None)


def cut_short(command: str) -> str:
    """The command with the flags that cut it short in the place of its own, since none may be given twice."""
    flags = next((flags for pattern, flags in CUT.items() if re.search(pattern, command)), "")
    for flag in re.findall(r"--\w+", flags):
        command = re.sub(rf" {flag}( (?!--)('[^']*'|\"[^\"]*\"|\S+))*(?= |$)", "", command)
    return f"{command} {flags}".strip()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {"": tmp_path_factory.mktemp("pages")}


@pytest.fixture
def folder(request: pytest.FixtureRequest, folders: dict[str, Path], as_a_user: dict[str, str]) -> Path:
    """The folder of a page, made for its first command."""
    page = request.getfixturevalue("page")
    if page.name not in folders:
        place = folders[page.name] = folders[""] / page.stem
        place.mkdir()
        for name in ("recipes", "tests", "examples"):
            (place / name).symlink_to(ROOT / name)
        text = interpreter_texts()
        for name in ("corpus.txt", "reviews.txt", "english.txt", "english-valid.txt"):
            (place / name).write_bytes(text["english"])
        (place / "held_out.txt").write_bytes(text["english"][-30_000:])
        (place / "argparse.py").write_bytes(text["python"])
        lines = "".join(json.dumps({"body": line}) + "\n" for line in text["english"].decode().splitlines())
        (place / "corpus").mkdir()
        (place / "corpus" / "part-0.jsonl.zst").write_bytes(zstandard.compress(lines.encode()))
        family = re.search(r"```python\n(.*?)```", (ROOT / "docs/extending.md").read_text(), re.DOTALL)
        (place / "my_family.py").write_text(family[1])
        if (page, "bash", QUICKSTART) not in ALL:
            if "model" not in folders:
                folders["model"] = folders[""] / "model"
                run(f"{cut_short(QUICKSTART)} --save_steps 1 --output_dir {folders['model']}", place, as_a_user)
            shutil.copytree(folders["model"], place / "out" / "quickstart")
    return folders[page.name]


def run(command: str, folder: Path, env: dict[str, str]) -> None:
    shell = ["bash", "-euo", "pipefail", "-c", command]
    done = subprocess.run(shell, cwd=folder, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def name_of(value: object) -> str:
    return value.stem if isinstance(value, Path) else str(value).strip().split("\n")[0][:60]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("page", "kind", "text"), ALL, ids=name_of)
def test_command(page: Path, kind: str, text: str, request, as_a_user: dict[str, str]) -> None:
    why = reason(text)
    if why is not None:
        pytest.skip(why)
    folder: Path = request.getfixturevalue("folder")
    if kind == "bash":
        run(cut_short(text), folder, as_a_user)
        return
    earlier = "\n".join(t for p, k, t in ALL if p == page and k == "python" and t != text and reason(t) is None)
    needed = earlier if "tokenizer=tokenizer" in text and "tokenizer = " not in text else ""
    script = folder / "piece.py"
    script.write_text(
        f"{needed}\n{text}".replace("max_steps=1000", "max_steps=2").replace("max_steps=100", "max_steps=2")
    )
    run("python piece.py", folder, as_a_user)


def test_there_are_commands() -> None:
    """The pages are still found and read as they are written."""
    assert len([1 for page, kind, _ in ALL if kind == "bash"]) > 40
    for pattern in SKIPPED:
        assert any(re.search(pattern, text, re.MULTILINE) for _, _, text in ALL), f"{pattern} fits no command"


if __name__ == "__main__":
    for page, kind, text in ALL:
        shown = text if kind == "bash" else f"(python) {text.strip().splitlines()[0]} ..."
        sys.stdout.write(f"{page.name}: {'skipped, ' + reason(text) if reason(text) else 'run'}: {shown}\n")
    run_here = sum(reason(text) is None for _, _, text in ALL)
    sys.stdout.write(f"{len(ALL)} commands: {run_here} are run, {len(ALL) - run_here} are not\n")
