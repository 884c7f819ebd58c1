"""`UPConfig`: the arguments of a universal pretraining."""

from dataclasses import dataclass, fields

from transformers import TrainingArguments


@dataclass
class UPConfig(TrainingArguments):
    """Training arguments of [`UPTrainer`].

    These parameters have default values different from [`~transformers.TrainingArguments`]:
    - `max_steps` 1,000 (the stream has no end);
    - `learning_rate` 1e-3, `warmup_steps` 100, `adam_beta2` 0.95;
    - `logging_steps` 10; `logging_nan_inf_filter` False (it hides divergence and costs a device sync a step);
    - `save_total_limit` 2;
    - `ignore_data_skip` True (the stream is restored, never replayed; required);
    - `remove_unused_columns` False, `ddp_find_unused_parameters` False.

    Raises:
        ValueError: if `max_steps` is not positive, or a value that the stream depends on is changed.
    """

    max_steps: int = 1000
    """Number of training steps (the synthetic stream has no end)."""
    learning_rate: float = 1e-3
    """Peak learning rate."""
    warmup_steps: float = 100
    """Steps of linear warm-up; below 1, a share of all steps."""
    adam_beta2: float = 0.95
    """Adam's beta2."""
    logging_steps: float = 10
    """Steps between two log lines."""
    logging_nan_inf_filter: bool = False
    """Hide NaN and infinite losses in the logs."""
    save_total_limit: int | None = 2
    """Checkpoints that are kept."""
    ignore_data_skip: bool = True
    """Must stay on: the stream is restored, not replayed."""
    remove_unused_columns: bool = False
    """Not needed: rows hold what the model reads."""
    ddp_find_unused_parameters: bool | None = False
    """Let DDP look for parameters without gradient in every step."""

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]
        if self.max_steps <= 0:
            raise ValueError(f"max_steps must be positive, not {self.max_steps}: the synthetic stream has no end")
        if self.dataloader_num_workers != 0:
            raise ValueError(
                "dataloader_num_workers must be 0: workers would copy the stream and all serve the same rows"
            )
        if not self.ignore_data_skip:
            raise ValueError(
                "ignore_data_skip must stay on: the stream's state is restored from the checkpoint instead"
            )


def as_up_config(args: TrainingArguments) -> UPConfig:
    """Training arguments as those of a universal pretraining: all values are kept, those that have the library's own
    defaults too, but `ignore_data_skip`, which is turned on.

    Raises:
        ValueError: if `max_steps` is not positive, or another value does not go with a synthetic stream.
    """
    if isinstance(args, UPConfig):
        return args
    names = {field.name for field in fields(args) if field.init} & {field.name for field in fields(UPConfig)}
    return UPConfig(**{name: getattr(args, name) for name in names} | {"ignore_data_skip": True})
