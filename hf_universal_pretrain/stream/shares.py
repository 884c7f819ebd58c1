"""What the text of `machines` says: which families make the rows of a round, and in which shares."""

import math

from hf_universal_pretrain.machines import FAMILIES


def parse_mixture(machines: str) -> dict[str, float]:
    """Reads `"lstm=0.7,markov=0.3"` into shares that add up to 1; a single name may stand without a number.

    Raises:
        ValueError: for an unknown family, a family named twice, or a share that is not a positive number.
    """
    shares: dict[str, float] = {}
    for part in machines.split(","):
        name, _, share = (piece.strip() for piece in part.partition("="))
        if name not in FAMILIES:
            raise ValueError(f"machines: unknown machine family {name!r}; known: {', '.join(FAMILIES)}")
        if name in shares:
            raise ValueError(f"machines: family {name!r} is named twice")
        try:
            shares[name] = float(share or 1)
        except ValueError:
            shares[name] = math.nan
        if not 0 < shares[name] < math.inf:
            raise ValueError(f"machines: the share of {name!r} must be a number above 0, not {share!r}")
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()}


def rows_of_shares(shares: dict[str, float], rows: int) -> dict[str, int]:
    """How many of `rows` rows each gets: its share, rounded so that they add up."""
    edges, total = [0], 0.0
    for share in shares.values():
        total += share
        edges.append(round(total * rows))
    return {name: edges[i + 1] - edges[i] for i, name in enumerate(shares)}
