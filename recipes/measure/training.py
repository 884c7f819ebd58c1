"""Part of benchmark.py: what training costs, in time beside a stock `Trainer`, and in memory."""

import contextlib
import gc
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from tqdm import tqdm
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments, default_data_collator

from hf_universal_pretrain import SyntheticUPConfig, SyntheticUPDataset, UPConfig, UPTrainer
from hf_universal_pretrain.models.build import build_config, build_model
from hf_universal_pretrain.models.tokenizers import build_tokenizer


ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
NO_DROPOUT = "resid_pdrop=0,embd_pdrop=0,attn_pdrop=0"
QUICKSTART = yaml.safe_load((Path(__file__).parents[1] / "configs" / "quickstart.yaml").read_text())


# ---- Training ----


class StepTimer(TrainerCallback):
    """Seconds of the steps after the first two."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 2:
            if ON_GPU:
                torch.cuda.synchronize()
            self.began = time.perf_counter()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if ON_GPU:
            torch.cuda.synchronize()
        self.step_seconds = (time.perf_counter() - self.began) / (state.global_step - 2)


KINDS = ("enriched", "frozen", "stock_trainer", "plain_loop")


def step_seconds(kind: str, overrides: str, length: int, batch: int, steps: int) -> float:
    """Trains a GPT-2 for some steps with the machines of the preset `warm_start`.

    Args:
        kind: `enriched` or `frozen` (no round after the burn-in) with `UPTrainer`; `stock_trainer` or `plain_loop` on
            rows that are ready.
        overrides: of the configuration of GPT-2.
        length: symbols in a row.
        batch: rows in a step.
        steps: of which the first two are not timed.
    """
    tokenizer, timer = build_tokenizer("byte"), StepTimer()
    once = {"rows_per_round": 10**9} if kind == "frozen" else {}
    stream = SyntheticUPDataset(
        SyntheticUPConfig.preset("warm_start", steps, batch, context_length=length, **once), tokenizer
    )
    model = build_model(build_config("gpt2", tokenizer, overrides), 0)
    ready = stream.draw(batch * steps)[0] if kind in ("stock_trainer", "plain_loop") else None
    if kind == "plain_loop":
        return plain_loop(model, ready, batch)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        settings = {
            "output_dir": folder, "max_steps": steps, "per_device_train_batch_size": batch, "save_strategy": "no",
            "logging_steps": 25, "disable_tqdm": True, "report_to": "none", "bf16": ON_GPU, "torch_compile": ON_GPU,
            "use_cpu": not ON_GPU,
        }  # fmt: skip
        if kind == "stock_trainer":
            rows = [{"input_ids": row, "labels": row} for row in ready]
            args = TrainingArguments(**settings)
            trainer = Trainer(model, args, default_data_collator, rows, callbacks=[timer])
        else:
            trainer = UPTrainer(
                model, UPConfig(**settings), train_dataset=stream, processing_class=tokenizer, callbacks=[timer]
            )
        trainer.train()
    return timer.step_seconds


def plain_loop(model: PreTrainedModel, rows: torch.Tensor, batch: int) -> float:
    """Seconds a step of the shortest loop that trains as the `Trainer` does: AdamW and clipped gradients."""
    model, rows = model.to(DEVICE), rows.to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    step = torch.compile(model) if ON_GPU else model
    for number, tokens in enumerate(rows.split(batch)):
        if number == 2:
            if ON_GPU:
                torch.cuda.synchronize()
            began = time.perf_counter()
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=ON_GPU):
            loss = step(input_ids=tokens, labels=tokens).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    if ON_GPU:
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / (number - 1)


def training(repeats: int) -> dict[str, Any]:
    """Milliseconds a step of each trainer: the quickstart's model and one of 10M weights; on a GPU, GPT-2 small."""
    models = {  # at least a round and the two steps that are not timed
        "quickstart": (QUICKSTART["config_overrides"], 256, QUICKSTART["per_device_train_batch_size"], 50),
        "gpt2_10m": (f"n_layer=6,n_embd=384,n_head=6,n_positions=256,{NO_DROPOUT}", 256, 8, 34),
    }
    if ON_GPU:
        models = {"gpt2_small": (f"n_positions=1024,{NO_DROPOUT}", 1024, 32, 66)}
    results = {}
    for name, (overrides, length, batch, steps) in models.items():
        turns = [
            {kind: step_seconds(kind, overrides, length, batch, steps) for kind in KINDS}
            for _ in tqdm(range(repeats), f"Training {name}", unit="turn")
        ]

        def median(of: Callable[[dict[str, float]], float], turns: list[dict[str, float]] = turns) -> float:
            return statistics.median(of(turn) for turn in turns)

        results[name] = {
            "model": f"gpt2 {overrides}", "context_length": length, "batch": batch, "steps": steps,
            "ms_per_step": {kind: 1000 * median(lambda turn, k=kind: turn[k]) for kind in KINDS},
            "enriched_to_stock": median(lambda turn: turn["stock_trainer"] / turn["enriched"]),
            "frozen_to_stock": median(lambda turn: turn["stock_trainer"] / turn["frozen"]),
            "frozen_to_plain": median(lambda turn: turn["plain_loop"] / turn["frozen"]),
            "generation_share": median(lambda turn: 1 - turn["frozen"] / turn["enriched"]),
        }  # fmt: skip
    return results


# ---- Memory ----


def memory(context_length: int) -> dict[str, float]:
    """Megabytes at the peak, above what was there before: of the stream over some rounds, of a training step."""
    tokenizer = build_tokenizer("byte")

    def stream() -> None:
        dataset = SyntheticUPDataset(SyntheticUPConfig(context_length=context_length), tokenizer, DEVICE)
        for _ in range(3):
            dataset.enrich()

    def paper_stream() -> None:
        dataset = SyntheticUPDataset(SyntheticUPConfig.paper(8, context_length=context_length), device=DEVICE)
        for _ in range(3):
            dataset.enrich()

    def step(overrides: str) -> Callable[[], None]:
        def run() -> None:
            model = build_model(build_config("gpt2", tokenizer, overrides), 0).to(DEVICE)
            optimizer = torch.optim.AdamW(model.parameters())
            tokens = torch.randint(3, 259, (8, context_length), device=DEVICE)
            model(input_ids=tokens, labels=tokens).loss.backward()
            optimizer.step()

        return run

    ten = f"n_layer=6,n_embd=384,n_head=6,n_positions={context_length},{NO_DROPOUT}"
    subjects = {
        "stream": stream, "stream_of_the_paper": paper_stream,
        "step_of_gpt2_10m_batch_8": step(ten),
        "step_of_gpt2_small_batch_8": step(f"n_positions={max(1024, context_length)},{NO_DROPOUT}"),
    }  # fmt: skip
    return {name: peak_megabytes(work) for name, work in subjects.items()}


def peak_megabytes(work: Callable[[], None]) -> float:
    """On a CPU in a forked process, whose peak is its own."""
    if ON_GPU:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    import resource

    read, write = os.pipe()
    if os.fork() == 0:
        torch.set_num_threads(1)  # more would not survive the fork
        gc.collect()  # what the parent left would be freed during the work, and taken off its peak
        before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
        work()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        os.write(write, str((peak - before) / 1e6).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        return float(answer.read())
