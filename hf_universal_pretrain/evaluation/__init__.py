"""Bits per byte on real text and bits on probes, beside what simple adaptive predictors reach on the same windows."""

from hf_universal_pretrain.evaluation.baselines import counting_baselines, markov_bits
from hf_universal_pretrain.evaluation.bits import bits_per_byte, symbol_bits, text_bits
from hf_universal_pretrain.evaluation.results import (
    PROBES,
    Figures,
    TextSetting,
    choose_probes,
    make_probe,
    measure,
    probe_entry,
    probe_figures,
    text_baselines,
    text_entry,
    text_figures,
    text_setting,
)
from hf_universal_pretrain.evaluation.tokenized import MOST_LOST, check_tokens, text_tokens
from hf_universal_pretrain.evaluation.windows import (
    cut_each,
    cut_windows,
    mean_and_interval,
    position_masks,
    window_means,
)


__all__ = [
    "MOST_LOST",
    "PROBES",
    "Figures",
    "TextSetting",
    "bits_per_byte",
    "check_tokens",
    "choose_probes",
    "counting_baselines",
    "cut_each",
    "cut_windows",
    "make_probe",
    "markov_bits",
    "mean_and_interval",
    "measure",
    "position_masks",
    "probe_entry",
    "probe_figures",
    "symbol_bits",
    "text_bits",
    "text_baselines",
    "text_entry",
    "text_figures",
    "text_setting",
    "text_tokens",
    "window_means",
]
