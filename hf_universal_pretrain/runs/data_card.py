"""The card of an exported data set: how to load it, how to train on it, how it was made."""

from importlib.metadata import version
from pathlib import Path

from huggingface_hub import DatasetCardData

from hf_universal_pretrain.runs.readme import render_card, write_card, yaml_lines
from hf_universal_pretrain.stream.dataset import row_features
from hf_universal_pretrain.stream.export import Export


# what `models.tokenizers.byte_tokenizer` does, for readers who do not have this package
BYTE_TOKENIZER = """PreTrainedTokenizerFast(
    tokenizer_object=core, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", split_special_tokens=True
)"""


def write_data_card(
    export: Export,
    tokenizer: str,
    repository: str | None,
    done: dict[str, float],
    license: str | None = None,
    published: str | None = None,
) -> None:
    """Writes `README.md` into the folder of a finished export. Its metadata are what `load_dataset` goes by.

    Args:
        export: what was written.
        tokenizer: the name that was given for it.
        repository: Hub id; None for a data set that stays on disk.
        done: the figures of `Export.write`.
        license: of the data set, as the Hub names it (`cc0-1.0`, `mit`, ...); none by default.
        published: see `write_card`.
    """
    config, name = export.config, repository or str(export.folder)
    features = row_features(config, export.tokenizer)
    bits = 16 if features["input_ids"].feature.dtype == "int16" else 32
    size = export.rows * config.context_length * bits // 8 * len(features)
    data = DatasetCardData(
        license=license,
        pretty_name=f"Universal pretraining, {export.rows:,} rows of {config.context_length}",
        task_categories=["text-generation"],
        size_categories=_size_category(export.rows),
        tags=["universal-pretraining", "synthetic-data", "hf_universal_pretrain"],
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}],
        dataset_info={
            "features": features._to_yaml_list(),
            "splits": [{"name": "train", "num_bytes": size, "num_examples": export.rows}],
            "download_size": int(done["bytes"]),
            "dataset_size": size,
        },
    )
    fresh = render_card(
        data,
        "data_card.md",
        name=name.rstrip("/").split("/")[-1],
        repository=name,
        rows=f"{export.rows:,}",
        length=config.context_length,
        tokens=f"{export.rows * config.context_length:,}",
        bits=bits,
        has_labels="labels" in features,
        vocabulary=len(export.tokenizer),
        make_tokenizer=BYTE_TOKENIZER if tokenizer == "byte" else f'AutoTokenizer.from_pretrained("{tokenizer}")',
        of_bytes=tokenizer == "byte",
        tokenizer=tokenizer,
        shards=len(export.shards),
        rows_per_shard=export.rows_per_shard,
        total_rows=export.rows,
        settings=yaml_lines(config.to_dict()),
        versions=", ".join(f"{p} {version(p)}" for p in ("hf_universal_pretrain", "torch", "datasets", "pyarrow")),
    )
    write_card(Path(export.folder), fresh, published)


def _size_category(rows: int) -> str:
    names = ["1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T"]
    for place, name in enumerate(names):
        if rows < 10 ** (place + 3):
            return f"{names[place - 1]}<n<{name}" if place else "n<1K"
    return "n>1T"
