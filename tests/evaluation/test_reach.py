import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from hf_universal_pretrain.evaluation.reach import measure_reach


SYMBOLS = 32


class Knows(nn.Module):
    """A predictor that is sure of the token `distance` places back from the one that it predicts."""

    def __init__(self, distance: int) -> None:
        super().__init__()
        self.distance, self.nothing = distance, nn.Parameter(torch.zeros(1))

    def forward(self, input_ids: Tensor, use_cache: bool) -> SimpleNamespace:
        logits = torch.zeros(*input_ids.shape, SYMBOLS)
        seen = input_ids.roll(self.distance - 1, 1)
        return SimpleNamespace(logits=logits.scatter(2, seen.unsqueeze(2), 20.0))


def rows_of_period(period: int, count: int = 40, length: int = 64) -> Tensor:
    """Rows that repeat a random piece, each its own."""
    piece = torch.randint(SYMBOLS, (count, period), generator=torch.Generator().manual_seed(0))
    return piece.repeat(1, length // period + 1)[:, :length]


def test_a_model_that_looks_eight_back_needs_eight() -> None:
    reach = measure_reach(Knows(8), rows_of_period(8))
    assert reach.full < 0.01 and reach.bits[8] < 0.01 and reach.bits[16] < 0.01
    assert reach.bits[1] > 10 and reach.bits[4] > 10
    assert reach.gain == pytest.approx(reach.bits[1] - reach.full)


def test_a_bigram_gains_nothing_from_further_back() -> None:
    reach = measure_reach(Knows(1), rows_of_period(8))
    assert reach.gain == 0 and reach.ci95 == 0


def test_both_places_are_judged_with_their_own_past() -> None:
    """Rows whose second half is known from 8 back, but not the place three quarters in."""
    rows = rows_of_period(8)
    rows[:, 47] = (rows[:, 47] + 1) % SYMBOLS
    reach = measure_reach(Knows(8), rows, distances=(8,))
    assert reach.bits.keys() == {1, 8}
    assert reach.full == pytest.approx(20 / math.log(2) / 2, rel=0.01)


def test_the_model_is_left_in_its_mode(make_model) -> None:
    model = make_model().train()
    measure_reach(model, torch.randint(3, 259, (4, 32)), distances=(1, 64), batch_size=3)
    assert model.training
