"""The model card: what the model is, how it was made, what it reaches, how to start from it."""

import json
import platform
import re
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import EvalResult, ModelCardData
from transformers import TrainingArguments

from hf_universal_pretrain.hub import find_file
from hf_universal_pretrain.models.build import build_model, read_config
from hf_universal_pretrain.models.cost import training_flops_per_token
from hf_universal_pretrain.runs.curves import plot_runs
from hf_universal_pretrain.runs.history import synthetic_tokens, wall_seconds
from hf_universal_pretrain.runs.readme import duration, render_card, write_card, yaml_lines
from hf_universal_pretrain.runs.record import RunRecord
from hf_universal_pretrain.runs.settings import DECISIVE
from hf_universal_pretrain.runs.tables import BASELINES, PICTURED, reach_line, shown_baselines, text_notes
from hf_universal_pretrain.stream.config import SyntheticUPConfig


# training arguments that a card always tells; others of those that decide, where they are not the default
RECIPE = (
    "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate", "lr_scheduler_type",
    "lr_scheduler_kwargs", "warmup_steps", "optim", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon",
    "max_grad_norm", "bf16", "fp16", "torch_compile", "seed",
)  # fmt: skip
# those that decide which model is the best, where that is asked for
JUDGED_BY = (
    "load_best_model_at_end", "metric_for_best_model", "greater_is_better", "eval_strategy", "eval_steps",
    "save_strategy", "save_steps",
)  # fmt: skip


def write_model_card(record: RunRecord, published: str | None = None) -> None:
    """Writes `README.md` and `curves.png` into the run's folder; for `published` see `write_card`."""
    baselines = {
        name: {BASELINES[key]: result["baselines"][key] for key in PICTURED} for name, result in record.texts.items()
    }
    histories = {record.folder.resolve().name: record.history, **record.compare_with}
    plot_runs(histories, baselines, record.folder / "curves.png", record.tokens_per_step if record.data else None)
    write_card(record.folder, _render(record), published)


def _render(record: RunRecord) -> str:
    data, started_from = record.data, record.started_from
    before = earlier_stage(started_from) if started_from else None
    texts = _measured(record.texts, "bits_per_byte")
    probes = _measured(record.probes, "bits_per_symbol")
    packages = ("hf_universal_pretrain", "transformers", "torch", "accelerate")
    versions = [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)]
    return render_card(
        _metadata(record, before, _eval_results(texts, probes)),
        "model_card.md",
        run=record,
        from_synthetic=data is not None,
        no_text=data is not None and (started_from is None or before is not None),
        before=before,
        window_bytes=next((result["context_length"] for result in texts.values()), 0),
        measured_before=all("bits_per_byte_before" in result for result in texts.values()),
        results=texts,
        baselines=shown_baselines(texts),
        notes=text_notes(texts),
        probes=probes,
        reach=record.reach and reach_line(record.reach),
        time=duration(wall_seconds(record.history)),
        hardware=_hardware(record.args),
        data_settings=yaml_lines(data.to_dict()) if data else None,
        training_settings=yaml_lines(_training_settings(record)),
        versions=", ".join(versions),
    )


def _measured(results: dict[str, dict[str, Any]], unit: str) -> dict[str, dict[str, Any]]:
    return {name: result for name, result in results.items() if result.get(unit) is not None}


def _metadata(record: RunRecord, before: dict[str, Any] | None, results: list[EvalResult]) -> ModelCardData:
    """The card's YAML. `base_model` is a Hub id or nothing: a local folder would look like someone else's model."""
    base = before["repository"] if before else record.started_from
    tags = ["universal-pretraining"] if record.data or before else []
    tags += ["synthetic-data"] if record.data else []
    return ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        license=record.license,
        base_model=None if base is None or Path(base).is_dir() else base,
        tags=[*tags, "hf_universal_pretrain"],
        model_name=record.name if results else None,
        eval_results=results or None,
    )


def _eval_results(texts: dict[str, dict[str, Any]], probes: dict[str, dict[str, Any]]) -> list[EvalResult]:
    """What was measured of the model, as `model-index` has it."""
    rows: list[tuple[str, str, str, str, float | None]] = []  # of what, in words, metric, in words, bits
    for name, result in texts.items():
        what = name, f"{name}, second half of {result['context_length']}-byte windows"
        rows.append((*what, "bits_per_byte", "Bits per byte", result["bits_per_byte"]))
        for where, words in (("whole", "whole window"), ("last", "last byte")):
            bits = result[where]["bits_per_byte"]
            rows.append((*what, f"bits_per_byte_{where}", f"Bits per byte, {words}", bits))
    for name, result in probes.items():
        what = name, f"{name}, {result['context_length']} symbols"
        rows.append((*what, "bits_per_symbol", "Bits per symbol", result["bits_per_symbol"]))
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=name,
            dataset_name=dataset,
            metric_type=metric,
            metric_name=title,
            metric_value=round(bits, 4),
        )
        for name, dataset, metric, title, bits in rows
        if bits is not None
    ]


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


def _training_settings(record: RunRecord) -> dict[str, Any]:
    """Flags of the recipe that made this model, as its `--config` takes them."""
    settings, defaults = record.args.to_dict(), {field.name: field.default for field in fields(record.args)}
    judged = settings["load_best_model_at_end"]
    decisive = [*JUDGED_BY, *DECISIVE] if judged else [key for key in DECISIVE if key not in JUDGED_BY]
    changed = [key for key in decisive if settings[key] != defaults[key]]
    recipe = {key: settings[key] for key in dict.fromkeys([*RECIPE, *changed]) if settings.get(key) is not None}
    if record.data and record.padded_to and record.started_from is None:
        recipe["pad_vocab_multiple_of"] = record.padded_to
    return recipe if record.data else {"context_length": record.context_length, **recipe}  # the data's have the length


def _hardware(args: TrainingArguments) -> str:
    if args.device.type == "cuda":
        return f"{args.world_size} x {torch.cuda.get_device_name(args.device)}"
    return f"{args.world_size * torch.get_num_threads()} {args.device.type.upper()} cores ({platform.machine()})"
