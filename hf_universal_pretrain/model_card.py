"""The model card: what the model is, how it was made, what it reaches, how to start from it."""

import hashlib
import logging
import re
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from huggingface_hub import ModelCard, ModelCardData
from transformers import TrainingArguments

from hf_universal_pretrain.callbacks import duration
from hf_universal_pretrain.dataset import SyntheticUPDataset
from hf_universal_pretrain.plotting import plot_runs
from hf_universal_pretrain.report import bits_results


if TYPE_CHECKING:
    from hf_universal_pretrain.trainer import BitsTrainer

logger = logging.getLogger(__name__)

TEMPLATE = Path(__file__).parent / "templates" / "model_card.md"
BEGIN = "<!-- hf_universal_pretrain: begin"
END = "<!-- hf_universal_pretrain: end -->"
_OURS = re.compile(re.escape(BEGIN) + r" (\w*) -->\n(.*)" + re.escape(END), re.DOTALL)
# the training arguments that decide what is learned
RECIPE = (
    "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate", "lr_scheduler_type",
    "lr_scheduler_kwargs", "warmup_steps", "optim", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon",
    "max_grad_norm", "bf16", "fp16", "torch_compile", "seed",
)  # fmt: skip


def write_model_card(trainer: "BitsTrainer") -> None:
    """Writes `README.md` and `curves.png` into the trainer's output folder.

    The card is written between two markers, the first of which holds a digest of the text. A README without the
    markers, or whose text between them a person has edited, is left as it is.
    """
    folder = Path(trainer.args.output_dir)
    results = bits_results(trainer)
    floors = {name: result["floors"] for name, result in results.items()}
    histories = {folder.resolve().name: trainer.state.log_history, **trainer.compare_with}
    plot_runs(histories, floors, folder / "curves.png")

    path = folder / "README.md"
    old = path.read_text(encoding="utf-8") if path.exists() else None
    if old is not None and not _is_untouched(old):
        logger.warning(f"{path} has been edited by hand and is left as it is.")
        return
    new = _render(trainer, results)
    if old is not None:  # keep what a person wrote around our text
        ours = _OURS.search(new).group(0)
        new = _OURS.sub(lambda _: ours, old, count=1)
    path.write_text(new, encoding="utf-8")


def _is_untouched(readme: str) -> bool:
    found = _OURS.search(readme)
    return found is not None and found.group(1) == _digest(found.group(2))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def _render(trainer: "BitsTrainer", results: dict[str, dict[str, Any]]) -> str:
    args, model = trainer.args, trainer.model
    data = trainer.train_dataset.config if isinstance(trainer.train_dataset, SyntheticUPDataset) else None
    name = args.hub_model_id or Path(args.output_dir).resolve().name
    measured = {text: result for text, result in results.items() if "bits_per_byte" in result}
    card_data = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        license="apache-2.0",
        tags=["universal-pretraining", "synthetic-data", "hf_universal_pretrain"]
        if data
        else ["hf_universal_pretrain"],
    )
    seconds = sum(entry.get("train_runtime", 0.0) for entry in trainer.state.log_history)
    card = ModelCard.from_template(
        card_data,
        template_path=str(TEMPLATE),
        model_name=name.split("/")[-1],
        repository=name,
        begin=f"{BEGIN}  -->",
        end=END,
        from_synthetic=data is not None,
        started_from=trainer.started_from,
        architecture=type(model).__name__,
        parameters=f"{model.num_parameters():,}",
        window_bytes=next((windows.shape[1] for windows in trainer.eval_windows.values()), 0),
        before=all("bits_per_byte_before" in result for result in measured.values()),
        results=measured,
        steps=f"{trainer.state.global_step:,}",
        tokens=f"{trainer.tokens_at(trainer.state.global_step):,}",
        flops=f"{trainer.state.total_flos:.2e}",
        rounds=f"{trainer.train_dataset.rounds:,}" if data else None,
        time=duration(seconds),
        hardware=_hardware(args),
        data_settings=yaml.safe_dump(data.to_dict(), sort_keys=False) if data else None,
        training_settings=yaml.safe_dump(_training_settings(trainer), sort_keys=False),
        versions=", ".join(
            f"{p} {version(p)}" for p in ("hf_universal_pretrain", "transformers", "torch", "accelerate")
        ),
        version=version("hf_universal_pretrain"),
    )
    text = str(card)
    body = _OURS.search(text).group(2)
    return text.replace(f"{BEGIN}  -->", f"{BEGIN} {_digest(body)} -->")


def _training_settings(trainer: "BitsTrainer") -> dict[str, Any]:
    settings = trainer.args.to_dict()
    processes = trainer.args.world_size
    return {"context_length": trainer.context_length, "processes": processes, **{key: settings[key] for key in RECIPE}}


def _hardware(args: TrainingArguments) -> str:
    if args.device.type == "cuda":
        return f"{args.world_size} x {torch.cuda.get_device_name(args.device)}"
    return f"{args.world_size * torch.get_num_threads()} {args.device.type.upper()} cores"
