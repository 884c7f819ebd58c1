"""`BitsTrainer`: a trainer that judges a model in bits per byte of real text."""

import logging
import math
import time
from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments, default_data_collator
from transformers.trainer_utils import HubStrategy

from hf_universal_pretrain.evaluation import Figures, TextSetting, measure, text_setting
from hf_universal_pretrain.hub import claim_repository, hide_token, published_readme, reason
from hf_universal_pretrain.models.checks import causal_loss, has_causal_loss
from hf_universal_pretrain.models.cost import training_flops_per_token
from hf_universal_pretrain.runs.folder import write_run_file
from hf_universal_pretrain.runs.history import wall_seconds
from hf_universal_pretrain.runs.model_card import write_model_card
from hf_universal_pretrain.runs.record import RunRecord, last_figures, probe_results, text_results
from hf_universal_pretrain.runs.tables import probes_table, reach_line, results_table, write_results
from hf_universal_pretrain.training.exact import ExactTrainer
from hf_universal_pretrain.training.printing import print_evaluations_in_lines
from hf_universal_pretrain.training.refusals import check_metric


logger = logging.getLogger(__name__)


class BitsTrainer(ExactTrainer):
    """An [`ExactTrainer`] whose evaluation is bits per byte on windows of real text.

    Args:
        model: as for [`ExactTrainer`].
        args: of the training.
        eval_windows: for each text, `(count, length)` uint8 windows (see `evaluation.cut_windows`). Metrics are
            `eval_NAME_bits_per_byte`, over the second half of each window, and kin (see `text_metrics`). Every process
            evaluates all windows.
        eval_probes: names of `evaluation.PROBES` to measure too, as `eval_probe_NAME_bits_per_symbol` and kin.
        probe_windows: windows of each probe, of `context_length` symbols.
        started_from: name of the model whose weights training starts from, for the card; None for random weights.
        compare_with: log histories of other runs, by name, to be drawn beside this one's.
        license: of the model, for the card, as the Hub names it (`mit`, `apache-2.0`, ...); none by default.
        kwargs: as for [`ExactTrainer`].
    """

    processing_class: PreTrainedTokenizerBase
    told: Literal["all", "printable"] = "all"
    """The tokens that the rows of training are made of, where there are no others."""

    def __init__(
        self,
        model: PreTrainedModel,
        args: TrainingArguments,
        *,
        eval_windows: dict[str, Tensor] | None = None,
        eval_probes: Sequence[str] = (),
        probe_windows: int = 50,
        started_from: str | None = None,
        compare_with: dict[str, list[dict[str, Any]]] | None = None,
        license: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.eval_windows = eval_windows or {}
        self.eval_probes = eval_probes
        self.probe_windows = probe_windows
        self.started_from = started_from
        self.compare_with = compare_with or {}
        self.license = license
        if "eval_dataset" in kwargs:
            raise ValueError("eval_dataset: give texts to measure as eval_windows (see evaluation.cut_windows)")
        hide_token(args)
        kwargs.setdefault("data_collator", default_data_collator)
        if not has_causal_loss(model):
            kwargs.setdefault("compute_loss_func", causal_loss)
        # the stock Trainer wants to see a dataset before it lets eval_strategy be anything but "no"
        super().__init__(model, args, eval_dataset=self.eval_windows or None, **kwargs)
        print_evaluations_in_lines(self)

    def _validate_args(self) -> None:
        super()._validate_args()
        check_metric(self, self.metric_names())

    def evaluate(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> dict[str, float]:
        """Bits per byte on each text of `eval_windows`, as `{prefix}_{name}_bits_per_byte` and kin, and probes."""
        began = time.perf_counter()
        metrics: dict[str, float] = {}
        figures: dict[str, Any] = measure(
            self.model, self.processing_class, self.eval_windows, self.eval_probes, self.context_length,
            self.probe_windows, self.args.per_device_eval_batch_size,
            show_progress=self.is_local_process_zero() and not self.args.disable_tqdm,
        )  # fmt: skip
        for name, of_text in figures["texts"].items():
            metrics |= text_metrics(f"{metric_key_prefix}_{name}", of_text)
        for name, of_probe in figures["probes"].items():
            metrics |= _as_logged(f"{metric_key_prefix}_probe_{name}", of_probe)
        more, figures["reach"] = self.measure_more(metric_key_prefix)
        metrics |= more
        metrics[f"{metric_key_prefix}_runtime"] = round(time.perf_counter() - began, 2)
        self.log(metrics)
        entry: dict[str, Any] = self.state.log_history[-1]
        entry["figures"] = figures  # in the log alone: loggers take only numbers
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def metric_names(self) -> list[str]:
        """What an evaluation measures that may decide which model is the best."""
        texts = [f"eval_{name}_{what}" for name in self.eval_windows for what in ("bits_per_byte", "whole_bits")]
        return [*texts, *(f"eval_probe_{name}_bits_per_symbol" for name in self.eval_probes)]

    def measure_more(self, prefix: str) -> tuple[dict[str, float], dict[str, Any] | None]:
        """What a kind of trainer measures beside texts and probes: numbers for the log, and the figures in full."""
        return {}, None

    def train(self, *args: Any, **kwargs: Any) -> Any:
        self.train_began = time.perf_counter()
        self.seconds_before: float | None = None
        return super().train(*args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the training loss in bits, and the wall time of training so far (before a resume included)."""
        if "loss" in logs:
            logs["bits_per_token"] = logs["loss"] / math.log(2)
        if "loss" in logs or "train_runtime" in logs:
            if self.seconds_before is None:  # the log of the run that this one resumes, if any, is there by now
                self.seconds_before = wall_seconds(self.state.log_history)
            logs["seconds"] = round(self.seconds_before + time.perf_counter() - self.train_began, 2)
        super().log(logs, start_time)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As the stock one, but with `use_cache` on in what is saved: training turns it off, generating needs it."""
        self.model.config.use_cache = True
        super().save_model(output_dir, _internal_call)
        self.model.config.use_cache = self.args.use_cache

    def tokens_at(self, step: int) -> int:
        """Tokens that the model has been trained on after `step` steps, in all processes."""
        rows = self._train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return step * rows * self.context_length

    def record(self) -> RunRecord:
        """What there is to tell of the run as it is now."""
        log = self.state.log_history
        return RunRecord(
            args=self.args,
            architecture=type(self.model).__name__,
            parameters=self.model.num_parameters(),
            flops_per_token=training_flops_per_token(self.model, self.context_length),
            context_length=self.context_length,
            tokens_per_step=self.tokens_at(1),
            steps=self.state.global_step,
            history=log,
            texts=text_results(log, self.text_settings()),
            probes=probe_results(log, self.context_length, self.probe_windows),
            reach=last_figures(log, "reach"),
            started_from=self.started_from,
            compare_with=self.compare_with,
            license=self.license,
        )

    def text_settings(self) -> dict[str, TextSetting]:
        """What the figures of each text are told with."""
        return {name: text_setting(cut, self.processing_class, self.told) for name, cut in self.eval_windows.items()}

    def finish(self) -> None:
        """Leaves a complete output folder: model, tokenizer, state, results, card and curves; prints the table.

        The texts are measured once more if the last evaluation was before the last step, or was of another model than
        the best one, which is what `load_best_model_at_end` leaves.
        """
        log = self.state.log_history
        measured = any("eval_runtime" in e and e["step"] == self.state.global_step for e in log)
        if self.eval_windows and (not measured or self.args.load_best_model_at_end):
            self.evaluate()
        with self.saving(self.folder):
            self.save_model(_internal_call=True)
            self.save_state()
            if self.is_world_process_zero():
                record = self.record()
                write_results(record.texts, record.probes, record.folder, record.context_length, record.reach)
                write_model_card(record)
                write_run_file(record.folder, self.settings, finished_at=record.steps)
        if self.is_world_process_zero():
            if record.texts:
                print(results_table(record.texts))
            if record.probes:
                print(probes_table(record.probes))
            if record.reach:
                print(reach_line(record.reach))
            print(f"The model is in {self.args.output_dir}")

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Creates the repository and makes sure that it may be written to, as the stock constructor asks before
        anything is written; `args.hub_model_id` then has its full name."""
        args = self.args
        args.hub_token = token or args.hub_token
        hide_token(args)
        if self.is_world_process_zero():
            name = args.hub_model_id or self.folder.absolute().name
            private = args.hub_private_repo if private is None else private
            args.hub_model_id = claim_repository(name, "model", private, "--hub_model_id", "--hub_token")
        self.hub_model_id: str | None = args.hub_model_id  # type: ignore[assignment]  # None in the stock class
        self.push_in_progress = None

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Writes this package's card instead of the stock one, as `push_to_hub` asks before it uploads.

        What a person has written into the card, here or on the Hub, is kept.
        """
        if self.is_world_process_zero():
            write_model_card(self.record(), published_readme(str(self.hub_model_id)))

    # The stock method pushes the output folder with a fixed list of files copied into it from the checkpoint, leaves
    # out a push while another runs, and never looks at how a push ended.
    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END:
            return
        running = self.push_in_progress is not None and not self.push_in_progress.is_done()
        if not running:
            self._warn_of_failed_pushes()
        if not running or self.args.hub_always_push:
            self.save_state()
            self.create_model_card()
        super()._push_from_checkpoint(checkpoint_folder)

    def _finish_current_push(self) -> None:
        super()._finish_current_push()
        self._warn_of_failed_pushes()

    def _warn_of_failed_pushes(self) -> None:
        if not self.args.push_to_hub or not self.is_world_process_zero() or self.push_in_progress is None:
            return
        for error in filter(None, (job.exception() for job in self.push_in_progress.jobs)):
            logger.warning(f"A push during training failed ({reason(error)}). The next one carries everything.")
        self.push_in_progress = None


def text_metrics(prefix: str, figures: dict[str, Figures]) -> dict[str, float]:
    """The figures of a text (`evaluation.text_figures`) as the trainer logs them: `{prefix}_bits_per_byte` and
    `{prefix}_ci95` of the second half, `{prefix}_whole_bits`, `{prefix}_whole_ci95`, and the same for `last`."""
    metrics: dict[str, float] = {}
    for where, values in figures.items():
        stem, bits = (prefix, "bits_per_byte") if where == "second_half" else (f"{prefix}_{where}", "bits")
        metrics |= _as_logged(stem, {bits: values["bits_per_byte"], "ci95": values["ci95"]})
    return metrics


def _as_logged(stem: str, figures: Figures) -> dict[str, float]:
    """Without the interval where there is none; another figure that is missing is NaN, as a Trainer expects."""
    told = {key: math.nan if value is None else value for key, value in figures.items()}
    return {f"{stem}_{key}": value for key, value in told.items() if key != "ci95" or not math.isnan(value)}
