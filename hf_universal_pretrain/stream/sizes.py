"""Streams that do not fit into memory, or would never serve their first row, told from their settings."""

import torch

from hf_universal_pretrain.limits import TooLarge, check_memory
from hf_universal_pretrain.stream.config import SyntheticUPConfig
from hf_universal_pretrain.stream.families import build_family
from hf_universal_pretrain.stream.mixture import generation_flops_per_symbol
from hf_universal_pretrain.stream.shares import family_of


# beyond these a burn-in takes days on the fastest machines there are
MOST_SYMBOLS, MOST_FLOPS = 1e13, 1e19


def check_stream(config: SyntheticUPConfig, device: str | torch.device = "cpu") -> None:
    """Refuses settings of a stream that are certain not to work on a device.

    Raises:
        TooLarge: names the settings that decide it.
    """
    for name in ("buffer_size", "source_batch", "context_length", "burn_in_rounds", "hidden_size", "num_layers"):
        if getattr(config, name) > MOST_SYMBOLS:  # also what is no number for a float any more
            raise TooLarge(f"{name} is larger than {MOST_SYMBOLS:.0e}: make it smaller")
    length = config.context_length
    mend = "make them smaller"
    # noise comes as int64, and is kept as int16
    check_memory(config.buffer_size * length * 12, "buffer_size x context_length: the buffer", mend, device)
    # seeds, conditions and what is generated
    check_memory(config.source_batch * length * 24, "source_batch x context_length: a round", mend, device)
    for stage in config.stages:
        for part in stage.mixture:
            family = build_family(family_of(part), stage)
            # two operations a weight and symbol, four bytes a weight
            weights = 2 * family.flops_per_symbol * getattr(family, "machines_per_round", 1)
            settings = "hidden_size, num_layers and machines_per_round"
            check_memory(weights, f"{settings}: the machines of {part}", mend, device)
    symbols = config.burn_in_rounds * config.source_batch * length
    flops = symbols * generation_flops_per_symbol(config)
    if symbols > MOST_SYMBOLS or flops > MOST_FLOPS:
        raise TooLarge(
            f"burn_in_rounds x source_batch x context_length: {symbols:,} symbols ({flops:.1e} operations) before the "
            "first row would never come to an end: make them smaller"
        )
