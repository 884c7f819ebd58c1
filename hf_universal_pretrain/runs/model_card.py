"""The model card: what the model is, how it was made, what it reaches, how to start from it."""

import json
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import EvalResult, ModelCardData
from transformers import TrainingArguments

from hf_universal_pretrain.hub import find_file
from hf_universal_pretrain.models.build import build_model, read_config
from hf_universal_pretrain.models.cost import training_flops_per_token
from hf_universal_pretrain.runs.curves import plot_runs
from hf_universal_pretrain.runs.history import synthetic_tokens, wall_seconds
from hf_universal_pretrain.runs.readme import duration, render_card, write_card, yaml_lines
from hf_universal_pretrain.runs.record import bits_results, probe_results
from hf_universal_pretrain.runs.tables import FLOORS
from hf_universal_pretrain.stream.config import SyntheticUPConfig
from hf_universal_pretrain.stream.dataset import SyntheticUPDataset


if TYPE_CHECKING:
    from hf_universal_pretrain.training.bits_trainer import BitsTrainer

# the training arguments that decide what is learned
RECIPE = (
    "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate", "lr_scheduler_type",
    "lr_scheduler_kwargs", "warmup_steps", "optim", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon",
    "max_grad_norm", "bf16", "fp16", "torch_compile", "seed", "global_stream",
)  # fmt: skip


def write_model_card(trainer: "BitsTrainer", published: str | None = None) -> None:
    """Writes `README.md` and `curves.png` into the trainer's output folder; for `published` see `write_card`."""
    folder = Path(trainer.args.output_dir)
    results = bits_results(trainer)
    floors = {
        name: {label: result["floors"][key] for key, label in FLOORS.items()} for name, result in results.items()
    }
    histories = {folder.resolve().name: trainer.state.log_history, **trainer.compare_with}
    synthetic = isinstance(trainer.train_dataset, SyntheticUPDataset)
    plot_runs(histories, floors, folder / "curves.png", trainer.tokens_at(1) if synthetic else None)
    write_card(folder, _render(trainer, results), published)


def _render(trainer: "BitsTrainer", results: dict[str, dict[str, Any]]) -> str:
    args, model = trainer.args, trainer.model
    data = trainer.train_dataset.config if isinstance(trainer.train_dataset, SyntheticUPDataset) else None
    name = args.hub_model_id or Path(args.output_dir).resolve().name
    measured = {text: result for text, result in results.items() if "bits_per_byte" in result}
    before = earlier_stage(trainer.started_from) if trainer.started_from else None
    tokens = trainer.tokens_at(trainer.state.global_step)
    return render_card(
        _metadata(trainer, name, measured, before),
        "model_card.md",
        model_name=name.split("/")[-1],
        repository=name,
        from_synthetic=data is not None,
        no_text=data is not None and (trainer.started_from is None or before is not None),
        started_from=trainer.started_from,
        before=before,
        architecture=type(model).__name__,
        parameters=f"{model.num_parameters():,}",
        window_bytes=next((windows.shape[1] for windows in trainer.eval_windows.values()), 0),
        measured_before=all("bits_per_byte_before" in result for result in measured.values()),
        results=measured,
        floors=FLOORS,
        probes=probe_results(trainer),
        steps=f"{trainer.state.global_step:,}",
        tokens=f"{tokens:,}",
        flops=f"{tokens * training_flops_per_token(model, trainer.context_length):.2e}",
        rounds=f"{trainer.train_dataset.rounds:,}" if data else None,
        time=duration(wall_seconds(trainer.state.log_history)),
        hardware=_hardware(args),
        processes=args.world_size,
        data_settings=yaml_lines(data.to_dict()) if data else None,
        training_settings=yaml_lines(_training_settings(trainer)),
        seed=args.seed,
        stream_seed=data.stream_seed if data else None,
        versions=", ".join(
            [f"Python {platform.python_version()}"]
            + [f"{p} {version(p)}" for p in ("hf_universal_pretrain", "transformers", "torch", "accelerate")]
        ),
    )


def _metadata(
    trainer: "BitsTrainer", name: str, measured: dict[str, dict[str, Any]], before: dict[str, Any] | None
) -> ModelCardData:
    """The card's YAML. `base_model` is a Hub id or nothing: a local folder would look like someone else's model."""
    synthetic = isinstance(trainer.train_dataset, SyntheticUPDataset)
    base = before["repository"] if before else trainer.started_from
    base = None if base is None or Path(base).is_dir() else base
    metrics = []
    for text, result in measured.items():
        values = {"bits_per_byte": ("Bits per byte", result["bits_per_byte"])}
        for floor, label in FLOORS.items():
            values[f"bits_per_byte_floor_{floor}"] = (f"Floor: {label}", result["floors"][floor])
        for where in ("whole", "last"):
            if "bits_per_byte" in result[where]:
                title = "whole window" if where == "whole" else "last byte"
                values[f"bits_per_byte_{where}"] = (f"Bits per byte, {title}", result[where]["bits_per_byte"])
        dataset = {
            "dataset_type": text,
            "dataset_name": f"{text}, second half of {result['context_length']}-byte windows",
        }
        metrics += [
            EvalResult("text-generation", metric_type=kind, metric_name=title, metric_value=round(bits, 4), **dataset)
            for kind, (title, bits) in values.items()
        ]
    for probe, result in probe_results(trainer).items():
        dataset = {"dataset_type": probe, "dataset_name": f"{probe}, {result['context_length']} symbols"}
        values = {"bits_per_symbol": ("Bits per symbol", result["bits_per_symbol"])}
        values["bits_per_symbol_floor_best"] = ("Floor: best", result["floors"]["best"])
        metrics += [
            EvalResult("text-generation", metric_type=kind, metric_name=title, metric_value=round(bits, 4), **dataset)
            for kind, (title, bits) in values.items()
        ]
    return ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        license="apache-2.0",
        base_model=base,
        tags=["universal-pretraining", *(["synthetic-data"] if synthetic else []), "hf_universal_pretrain"]
        if synthetic or before
        else ["hf_universal_pretrain"],
        model_name=name if metrics else None,
        eval_results=metrics or None,
    )


def earlier_stage(model: str) -> dict[str, Any] | None:
    """What the universal pretraining that made `model` (a folder or Hub id) was; None if nothing tells of one.

    Returns:
        `repository` (Hub id, or None if it was not pushed), `settings` (YAML of its data), `steps`, `tokens`, `flops`
        and `time`, in words.
    """
    try:
        data = SyntheticUPConfig.from_pretrained(model)
        path = find_file(model, "trainer_state.json")
    except (OSError, ValueError):  # no such file, or the Hub is out of reach: the card goes without
        return None
    if path is None:
        return None
    state = json.loads(path.read_text(encoding="utf-8"))
    tokens = synthetic_tokens(state)
    flops = tokens * training_flops_per_token(build_model(read_config(model), seed=0, empty=True), data.context_length)
    return {
        "repository": _pushed_as(model),
        "settings": yaml_lines(data.to_dict()),
        "steps": f"{state['global_step']:,}",
        "tokens": f"{tokens:,}",
        "flops": f"{flops:.2e}",
        "time": duration(wall_seconds(state["log_history"])),
    }


def _pushed_as(model: str) -> str | None:
    """The Hub id of a model that may be a local folder, in which case its card knows."""
    if not Path(model).is_dir():
        return model
    readme = find_file(model, "README.md")
    found = re.search(r'AutoModelForCausalLM\.from_pretrained\("(.+?/.+?)"\)', readme.read_text()) if readme else None
    return found and found.group(1)


def _training_settings(trainer: "BitsTrainer") -> dict[str, Any]:
    """Flags of the recipe that made this model, as its `--config` takes them."""
    settings = trainer.args.to_dict()
    recipe = {key: settings[key] for key in RECIPE if settings.get(key) is not None}
    synthetic = isinstance(trainer.train_dataset, SyntheticUPDataset)  # then the data's settings have the length
    return recipe if synthetic else {"context_length": trainer.context_length, **recipe}


def _hardware(args: TrainingArguments) -> str:
    if args.device.type == "cuda":
        return f"{args.world_size} x {torch.cuda.get_device_name(args.device)}"
    return f"{args.world_size * torch.get_num_threads()} {args.device.type.upper()} cores ({platform.machine()})"
