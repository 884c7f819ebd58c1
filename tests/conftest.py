"""Everything here runs offline, on a CPU, with models of a few thousand weights."""

import os
import tempfile


# before transformers and huggingface_hub are imported: no test may reach for the network
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp(prefix="hf-up-tests-")
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # or runs would look for the number that is fastest, which decides bits

import atexit  # noqa: E402
import shutil  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable, Sequence  # noqa: E402
from pathlib import Path  # noqa: E402

import pytest  # noqa: E402
import torch  # noqa: E402
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: E402
from transformers import PreTrainedTokenizerFast  # noqa: E402

from hf_universal_pretrain import SyntheticUPConfig, SyntheticUPDataset, UPConfig, UPTrainer  # noqa: E402
from hf_universal_pretrain.evaluation import cut_windows
from hf_universal_pretrain.models.build import build_config, build_model
from hf_universal_pretrain.models.tokenizers import build_tokenizer
from hf_universal_pretrain.text import interpreter_texts


ROOT = Path(__file__).parent.parent
atexit.register(shutil.rmtree, os.environ["HF_DATASETS_CACHE"], ignore_errors=True)


def byte_level_bpe() -> PreTrainedTokenizerFast:
    """A byte-level BPE of about 300 tokens, one of them special without a role."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<s>", "</s>", "<pad>", "<|im_start|>"],
    )  # fmt: skip
    core.train_from_iterator(["hello world, the text of a small tokenizer " * 50], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer("byte")


@pytest.fixture
def make_model(tokenizer: PreTrainedTokenizerFast) -> Callable[..., torch.nn.Module]:
    """Makes a GPT-2 of 2 layers of width 32, dropout on."""

    def make(seed: int = 0, overrides: str = "n_layer=2,n_embd=32,n_head=2,n_positions=64") -> torch.nn.Module:
        return build_model(build_config("gpt2", tokenizer, overrides), seed)

    return make


@pytest.fixture
def small_data() -> SyntheticUPConfig:
    """A stream that makes a round in milliseconds and uses every kind of state."""
    return SyntheticUPConfig(
        machines="lstm=0.5,context_tree=0.5", context_length=32, num_layers=2, hidden_size=16, source_batch=8,
        buffer_size=32, rows_per_round=8, machines_per_round=2, redraw_every=3, reset_every=2, num_resets=4,
        burn_in_rounds=2, stream_seed=5,
    )  # fmt: skip


@pytest.fixture
def make_trainer(
    small_data: SyntheticUPConfig, tokenizer: PreTrainedTokenizerFast, make_model
) -> Callable[..., UPTrainer]:
    """Makes a trainer of 6 steps of 4 rows, which measures English and saves nothing unless told to."""

    def make(folder: Path, data: SyntheticUPConfig = small_data, model=None, callbacks=None, **settings) -> UPTrainer:
        defaults = {
            "max_steps": 6, "per_device_train_batch_size": 4, "use_cpu": True, "warmup_steps": 2,
            "save_strategy": "no", "disable_tqdm": True, "logging_steps": 1, "learning_rate": 1e-2,
        }  # fmt: skip
        windows = {"english": cut_windows(interpreter_texts()["english"], 32, 6)}
        return UPTrainer(
            model=make_model() if model is None else model,
            args=UPConfig(str(folder), **{**defaults, **settings}),
            train_dataset=SyntheticUPDataset(data, tokenizer),
            processing_class=tokenizer,
            eval_windows=windows,
            callbacks=callbacks,
        )

    return make


def once(flags: Sequence[str]) -> list[str]:
    """Of a flag that stands there twice the last, as tests add theirs to common ones: commands refuse the first."""
    parts: list[list[str]] = []
    for word in flags:
        if word.startswith("--") or not parts:
            parts.append([])
        parts[-1].append(word)
    return [word for part in {part[0].partition("=")[0]: part for part in parts}.values() for word in part]


@pytest.fixture
def run_recipe() -> Callable[..., subprocess.CompletedProcess]:
    """Runs a recipe in a process of its own, as a user does."""

    def run(recipe: str, *flags: str, cwd: Path, **env: str) -> subprocess.CompletedProcess:
        command = [sys.executable, str(ROOT / "recipes" / recipe), *once(flags)]
        return subprocess.run(command, capture_output=True, text=True, timeout=250, cwd=cwd, env={**os.environ, **env})

    return run
