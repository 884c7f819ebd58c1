"""Two gloo processes, started as a user starts them: `torchrun --nproc_per_node 2 ... --use_cpu`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch


pytestmark = pytest.mark.distributed

# Trains 5 steps and leaves what each process saw and ended with. 4 rows a process and step, two accumulation steps.
SCRIPT = """
import sys
import torch
from transformers import TrainerCallback
from hf_universal_pretrain import SyntheticUPConfig, SyntheticUPDataset, UPConfig, UPTrainer
from hf_universal_pretrain.modeling import build_config, build_model, build_tokenizer

out, resume = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
tokenizer = build_tokenizer("byte")
data = SyntheticUPConfig(
    machines="lstm=0.5,context_tree=0.5", context_length=32, num_layers=1, hidden_size=16, source_batch=8,
    buffer_size=32, rows_per_round=8, machines_per_round=2, burn_in_rounds=2,
)
args = UPConfig(
    out, max_steps=5, per_device_train_batch_size=4, gradient_accumulation_steps=2, use_cpu=True, warmup_steps=1,
    save_steps=2, save_total_limit=None, logging_steps=1, disable_tqdm=True, learning_rate=1e-2,
)
model = build_model(build_config("gpt2", tokenizer, "n_layer=1,n_embd=16,n_head=2,n_positions=32"), 0)
dataset = SyntheticUPDataset(data, tokenizer)
rows = []
draw = dataset.draw
dataset.draw = lambda count: rows.append(draw(count)) or rows[-1]
trainer = UPTrainer(model=model, args=args, train_dataset=dataset, processing_class=tokenizer)
trainer.train(resume_from_checkpoint=resume)
torch.save(
    {"rank": dataset.rank, "world_size": dataset.world_size, "rounds": dataset.rounds,
     "rows": torch.cat([tokens for tokens, _ in rows]),
     "weights": model.state_dict(), "buffer": dataset.buffer.rows, "history": trainer.state.log_history},
    f"{out}-{'resumed' if resume else 'whole'}-{args.process_index}.pt",
)
"""


def torchrun(script: Path, *arguments: str) -> None:
    port = str(29_500 + os.getpid() % 1000)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", port]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, str(script), *arguments], capture_output=True, text=True, timeout=250, env=env)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict]]:
    folder = tmp_path_factory.mktemp("two")
    script = folder / "train.py"
    script.write_text(SCRIPT)
    torchrun(script, str(folder / "run"))
    torchrun(script, str(folder / "run"), str(folder / "run" / "checkpoint-2"))
    return {
        kind: [torch.load(folder / f"run-{kind}-{rank}.pt", weights_only=True) for rank in (0, 1)]
        for kind in ("whole", "resumed")
    }


def test_each_process_has_its_own_rows_and_draws_only_what_it_needs(runs: dict[str, list[dict]]) -> None:
    first, second = runs["whole"]
    assert (first["rank"], second["rank"], first["world_size"], second["world_size"]) == (0, 1, 2, 2)
    assert len(first["rows"]) == len(second["rows"]) == 5 * 2 * 4
    assert first["rounds"] == second["rounds"] == 2 + 5
    shared = {tuple(row) for row in first["rows"].tolist()} & {tuple(row) for row in second["rows"].tolist()}
    assert all(len(set(row)) == 1 for row in shared)  # only constant rows can be equal by chance
    assert not torch.equal(first["buffer"], second["buffer"])


def test_weights_end_equal(runs: dict[str, list[dict]]) -> None:
    first, second = runs["whole"]
    assert all(torch.equal(weight, second["weights"][name]) for name, weight in first["weights"].items())


def test_tokens_of_all_processes_are_counted(runs: dict[str, list[dict]]) -> None:
    lines = [entry for entry in runs["whole"][0]["history"] if "loss" in entry]
    assert [line["synthetic_tokens"] for line in lines] == [2 * 8 * 32 * step for step in range(1, 6)]


def test_resume_is_exact_on_both(runs: dict[str, list[dict]]) -> None:
    for whole, resumed in zip(runs["whole"], runs["resumed"], strict=True):
        assert torch.equal(whole["rows"][2 * 8 :], resumed["rows"])
        assert torch.equal(whole["buffer"], resumed["buffer"])
        assert all(torch.equal(weight, resumed["weights"][name]) for name, weight in whole["weights"].items())
