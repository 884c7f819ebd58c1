"""Bits per byte on real text, beside what simple adaptive predictors reach on the same windows."""

from hf_universal_pretrain.evaluation.bits import bits_per_byte, cut_windows
from hf_universal_pretrain.evaluation.floors import kt_bits, text_floors


__all__ = ["bits_per_byte", "cut_windows", "kt_bits", "text_floors"]
