import zlib

import pytest
import torch

from hf_universal_pretrain.machines.complexity import Band, compressibility


@pytest.mark.parametrize("alphabet", [2, 16, 256, 5000])
def test_noise_is_1_at_any_alphabet_and_constants_near_0(alphabet: int) -> None:
    generator = torch.Generator().manual_seed(1)
    noise = torch.randint(alphabet, (200, 512), generator=generator)
    assert abs(compressibility(noise, alphabet).mean().item() - 1) < 0.02
    assert compressibility(torch.full((4, 512), alphabet - 1), alphabet).max() < 0.15


def test_is_zlib_against_zlib() -> None:
    row = torch.arange(64).repeat(8)[None]
    noise = torch.randint(256, (400, 512), generator=torch.Generator().manual_seed(2))

    def size(row: torch.Tensor) -> int:
        return len(zlib.compress(bytes(row.tolist()), 9)) - 6  # zlib's header and checksum

    expected = size(row[0]) / (sum(map(size, noise)) / 400)
    assert abs(compressibility(row, 256).item() - expected) < 0.01 * expected
    assert torch.equal(compressibility(~row, 256), compressibility(row, 256)), "complements count as their symbols"


def test_band_places_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(256, (3, 256), generator=generator)
    rows[0] = 5
    rows[1] %= 16
    assert Band.parse("0.2:0.9").place(rows, 256).tolist() == [-1, 0, 1]


@pytest.mark.parametrize("text", ["0.3", "a:b", "0.9:0.3", "-1:2", "0.3:0.9:1", "nan:1"])
def test_what_is_no_band_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="complexity must be LOW:HIGH"):
        Band.parse(text)
