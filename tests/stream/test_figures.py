import torch

from hf_universal_pretrain import SyntheticUPConfig
from hf_universal_pretrain.machines import Band
from hf_universal_pretrain.stream.figures import band_shares, row_figures, stream_figures


def test_figures_of_known_rows() -> None:
    """A constant row, a fair coin in turn (1 bit), 16 symbols in turn (4 bits), and noise."""
    noise = torch.randint(256, (256,), generator=torch.Generator().manual_seed(0))
    rows = torch.stack([torch.full((256,), 9), torch.arange(256) % 2, torch.arange(256) % 16, noise])
    figures = row_figures(rows, torch.tensor([0, 1, 2, 3]), 256)
    assert torch.allclose(figures.entropy[:3], torch.tensor([0.0, 1.0, 4.0]), atol=1e-5)
    assert figures.distinct.tolist() == [1, 2, 16, len(noise.unique())]
    assert figures.passes.tolist() == [0, 1, 2, 3]
    assert band_shares(figures, Band(0.15, 0.5)) == {"dead": 0.75, "in_band": 0.0, "incompressible": 0.25}


def test_stream_figures_of_a_known_stream(small_data: SyntheticUPConfig) -> None:
    config = SyntheticUPConfig(machines="constant", context_length=64, source_batch=8, buffer_size=32, num_resets=0)
    figures = stream_figures(config, rounds=60, band=Band(0.3, 0.9))
    assert figures["dead"] == 1.0 and figures["mean_passes"] == 1.0 and figures["acceptance"] == 1.0
    assert figures["rows_per_second"] > 0
