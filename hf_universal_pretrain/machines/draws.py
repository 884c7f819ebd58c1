"""What machine families draw with: ranges, distributions, injections."""

import torch
from torch import Tensor


def uniform_between(low: float, high: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draws float32 values, uniform in `[low, high)`."""
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)


def log_uniform(low: float, high: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draws float32 values between `low` and `high` (both positive) whose logarithm is uniform."""
    return low * (high / low) ** torch.rand(shape, generator=generator, device=generator.device)


def log_uniform_int(low: int, high: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draws int64 values from low to high, both included, about log-uniform."""
    return log_uniform(low, high + 1, shape, generator).long().clamp_(low, high)


def dirichlet(alpha: Tensor, used: Tensor | int, generator: torch.Generator) -> Tensor:
    """Draws distributions over the last dimension: Dirichlet(alpha) over its first `used` entries, 0 elsewhere.

    Args:
        alpha: concentrations, positive.
        used: how many entries to use; broadcasts against alpha, its last dimension is 1.

    Returns:
        float64 of alpha's shape. (A float32 gamma draw of small shape underflows to 0 in every entry.)
    """
    gamma = torch._standard_gamma(alpha.double().contiguous(), generator=generator) + 1e-300
    gamma = torch.where(torch.arange(alpha.shape[-1], device=alpha.device) < used, gamma, 0.0)
    return gamma / gamma.sum(-1, keepdim=True)


def inverse_cdf(cumulative: Tensor, uniform: Tensor) -> Tensor:
    """Samples from distributions given by their cumulative sums over the last dimension.

    Args:
        cumulative: `(..., K)`.
        uniform: `(..., 1)` values in [0, 1).

    Returns:
        `(...)` int64 in [0, K). The last sum is left out: rounding may keep it below 1, and it must not yield K.
    """
    return (cumulative[..., :-1] <= uniform).sum(-1)


def random_injections(count: int, size: int, alphabet_size: int, generator: torch.Generator) -> Tensor:
    """Draws `(count, size)` int64: in each line `size` different symbols, in random order."""
    scores = torch.rand(count, alphabet_size, generator=generator, device=generator.device)
    return scores.topk(size, dim=-1).indices


def zipf_base(
    num_rows: int,
    alphabet_size: int,
    symbols_range: tuple[float, float],
    exponent_range: tuple[float, float],
    generator: torch.Generator,
) -> Tensor:
    """Draws `(num_rows, alphabet_size)` distributions: Zipf's law over a random subset of symbols in random order."""
    device = generator.device
    high = min(symbols_range[1], alphabet_size)
    count = log_uniform(min(symbols_range[0], high), high + 1, (num_rows, 1), generator).floor()
    exponent = uniform_between(*exponent_range, (num_rows, 1), generator)
    rank = torch.arange(1.0, alphabet_size + 1, device=device)
    weight = torch.where(rank <= count, rank ** (-exponent), 0.0)
    shuffle = torch.rand(num_rows, alphabet_size, generator=generator, device=device).argsort(-1)
    weight = weight.gather(-1, shuffle)
    return weight / weight.sum(-1, keepdim=True)
