"""Bits per byte on real text and bits on probes, beside what simple adaptive predictors reach on the same windows."""

from hf_universal_pretrain.evaluation.baselines import floors, markov_bits
from hf_universal_pretrain.evaluation.bits import bits_per_byte, symbol_bits, text_bits
from hf_universal_pretrain.evaluation.results import (
    PROBES,
    Figures,
    choose_probes,
    make_probe,
    measure,
    probe_entry,
    probe_figures,
    text_entry,
    text_figures,
    text_floors,
)
from hf_universal_pretrain.evaluation.windows import (
    cut_each,
    cut_windows,
    mean_and_interval,
    position_masks,
    window_means,
)


__all__ = [
    "PROBES",
    "Figures",
    "bits_per_byte",
    "choose_probes",
    "cut_each",
    "cut_windows",
    "floors",
    "make_probe",
    "markov_bits",
    "mean_and_interval",
    "measure",
    "position_masks",
    "probe_entry",
    "probe_figures",
    "symbol_bits",
    "text_bits",
    "text_entry",
    "text_figures",
    "text_floors",
    "window_means",
]
