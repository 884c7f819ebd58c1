"""What the text of `machines` says: which families make the rows of a round, in which shares, and which of their
machines stay."""

import math

from hf_universal_pretrain.machines import FAMILIES, is_own


def parse_mixture(machines: str) -> dict[str, float]:
    """Reads `"lstm=0.7,markov=0.3"` into shares that add up to 1, by part; a single one may stand without a number.

    A part is a family, or a pool of a family as in `"language@64=0.6"`: 64 machines that stay. The same family may
    stand several times, with pools of different sizes and without one. A family may be one of the user's own, as in
    `"my_family.py:MyFamily#0a1b2c3d4e5f"` (see `machines.own`); that it was loaded is not asked here.

    Raises:
        ValueError: for an unknown family, a part named twice, a share that is not a positive number, or a pool that
            is not a positive number of machines or whose family has no machines to keep.
    """
    shares: dict[str, float] = {}
    for text in machines.split(","):
        name, _, share = (piece.strip() for piece in text.partition("="))
        family, at, size = (piece.strip() for piece in name.partition("@"))
        own = is_own(family)
        if own and "#" not in family:
            raise ValueError(
                f"machines: {family} is a family of a file: in Python, give machines=load_family({machines!r}) of "
                "hf_universal_pretrain.machines, which runs the file"
            )
        if not own and family not in FAMILIES:
            raise ValueError(f"machines: unknown machine family {family!r}; known: {', '.join(FAMILIES)}")
        part = family
        if at:
            if not size.isascii() or not size.isdigit() or int(size) == 0:
                raise ValueError(
                    f"machines: a pool must be a number of machines from 1 on, as in '{family}@16', not {name!r}"
                )
            if not own and FAMILIES[family]().machines_for(1) == 0:
                raise ValueError(f"machines: {family!r} has no machines that could stay: leave out @{size}")
            part = f"{family}@{int(size)}"
        if part in shares:
            raise ValueError(f"machines: {part!r} is named twice")
        try:
            shares[part] = float(share or 1)
        except ValueError:
            shares[part] = math.nan
        if not 0 < shares[part] < math.inf:
            raise ValueError(f"machines: the share of {part!r} must be a number above 0, not {share!r}")
    total = sum(shares.values())
    return {part: share / total for part, share in shares.items()}


def family_of(part: str) -> str:
    """The family of a part of a mixture: `"language"` of `"language@64"`."""
    return part.partition("@")[0]


def pool_of(part: str) -> int | None:
    """The size of its pool: 64 of `"language@64"`; None of a part whose machines are drawn anew."""
    size = part.partition("@")[2]
    return int(size) if size else None


def rows_of_shares(shares: dict[str, float], rows: int) -> dict[str, int]:
    """How many of `rows` rows each part gets: its share, rounded so that they add up."""
    edges, total = [0], 0.0
    for share in shares.values():
        total += share
        edges.append(round(total * rows))
    return {part: edges[i + 1] - edges[i] for i, part in enumerate(shares)}
