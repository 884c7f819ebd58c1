import math

import pytest
import torch

from hf_universal_pretrain.evaluation import cut_windows, mean_and_interval, position_masks, window_means


def test_windows_are_evenly_spaced_from_start_to_end() -> None:
    text = bytes(range(100))
    windows = cut_windows(text, 10, 4)
    assert windows[:, 0].tolist() == [0, 30, 60, 90] and windows.shape == (4, 10)
    assert windows[2].tolist() == list(range(60, 70))
    assert cut_windows(b"abc", 3, 200).shape == (1, 3)
    with pytest.raises(ValueError, match="--eval_text x has 3 bytes, less than one window of 4"):
        cut_windows(b"abc", 4, 1, "--eval_text x")


def test_positions_that_are_judged() -> None:
    masks = {name: mask.nonzero().flatten().tolist() for name, mask in position_masks(6).items()}
    assert masks == {"second_half": [3, 4, 5], "whole": [1, 2, 3, 4, 5], "last": [5]}


def test_means_leave_out_what_is_not_judged() -> None:
    bits = torch.tensor([[math.nan, 1.0, 2.0, 3.0], [math.nan, math.nan, 4.0, 6.0]])
    assert window_means(bits, torch.tensor([True, True, False, True])).tolist() == [2.0, 6.0]
    assert window_means(bits, torch.tensor([True, False, False, False])).isnan().all()


def test_the_interval_holds_the_truth_about_95_times_in_100() -> None:
    """2,000 samples of 60 exponential values, whose mean is 1."""
    samples = torch.empty(2000, 60).exponential_(generator=torch.Generator().manual_seed(0))
    held = [abs(mean - 1) < half for mean, half in map(mean_and_interval, samples)]
    assert 0.91 < sum(held) / len(held) < 0.97
    assert math.isnan(mean_and_interval(torch.tensor([2.0]))[1])
