"""The machines behind a stream: which families take part, who generates the rows of a round, what becomes of rows that
are too simple or too close to noise."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hf_universal_pretrain.machines import Band, MachineFamily, Machines
from hf_universal_pretrain.machines.own import label
from hf_universal_pretrain.machines.pool import Pool
from hf_universal_pretrain.stream.config import SyntheticUPConfig
from hf_universal_pretrain.stream.families import build_family
from hf_universal_pretrain.stream.shares import family_of, pool_of


MAX_REDRAWS = 4  # how often the machines of rows outside the band are drawn again before the rows are given up
GAIN_RATE = 0.05  # how fast, a round, gains follow the rows outside the band

# Seeds `(rows, seed_length)`, conditions `(rows, context_length)`, and the conditions' passes `(rows,)`.
Read = tuple[Tensor, Tensor, Tensor]


@dataclass
class Generated:
    """What a round made.

    Args:
        rows: `(source_batch, context_length)` int64 symbols or complements (see `Machines.generate`).
        passes: `(source_batch,)`, how many machines have acted on each row.
        kept: `(n,)` int64, the numbers of the rows that are inside the band; without a band, of all.
        tried: how many rows were generated for these, those outside the band included.
    """

    rows: Tensor
    passes: Tensor
    kept: Tensor
    tried: int


class Mixture:
    """The families of the stage of the curriculum that a stream is in, and the machines drawn from them.

    A part of the mixture is a family whose machines are drawn anew every `redraw_every` rounds, or one with a pool of
    machines that stay, of which every round runs some.

    Args:
        config: the settings of the stream.
        generator: the stream's source of randomness; machines live on its device.
        step: the training step at which the stream starts.

    Attributes:
        stage: the settings as they are in the stage.
        families: by part.
        machines: those of the coming rounds, by part; not of parts with a pool.
        pools: by family. They are kept when a stage ends, since a later pool has the same machines and more.
        gains: the range of gains that a family is drawn with, where the band has moved it.
    """

    def __init__(self, config: SyntheticUPConfig, generator: torch.Generator, step: int = 0) -> None:
        self.config, self.generator = config, generator
        self.pools: dict[str, Pool] = {}
        self.gains: dict[str, tuple[float, float]] = {}
        self._enter_stage(config.stage_at(step))

    def _enter_stage(self, number: int) -> None:
        self.stage_number, self.stage = number, self.config.stages[number]
        self.families: dict[str, MachineFamily] = {}
        for part in self.stage.mixture:
            name, size = family_of(part), pool_of(part)
            family = build_family(name, self.stage)
            if size is not None and name not in self.pools:
                self.pools[name] = Pool(label(name), family, self.config.stream_seed, self.generator.device)
            elif size is None and name in self.gains:
                family = family.with_gains(self.gains[name])
            self.families[part] = family
        self._draw_machines()

    def _draw_machines(self) -> None:
        """Draws the machines of the coming rounds and keeps the generator's state, from which they follow."""
        self._drawn_from = self.generator.get_state()
        self.machines: dict[str, Machines] = {
            part: self.families[part].draw(rows, self.generator)
            for part, rows in self.stage.rows_of_families().items()
            if pool_of(part) is None
        }

    def _machines_of(self, part: str, rows: int) -> Machines:
        """The machines of a part that make its rows of this round."""
        size = pool_of(part)
        return self.machines[part] if size is None else self.pools[family_of(part)].deal(size, rows, self.generator)

    def prepare(self, step: int, rounds: int) -> None:
        """Enters the stage of training step `step`, or draws new machines if they are due after `rounds` rounds."""
        every = self.config.redraw_every
        if self.config.stage_at(step) != self.stage_number:
            self._enter_stage(self.config.stage_at(step))
        elif rounds and every and rounds % every == 0:
            self._draw_machines()

    def generate(self, read: Read, read_again: Callable[[int], Read]) -> Generated:
        """Generates the rows of a round, each part of the mixture its share of them.

        Args:
            read: what the machines read, a row for each that they write.
            read_again: reads as much for so many other rows: for those that fall outside the band.
        """
        shares, device = list(self.stage.rows_of_families().values()), self.generator.device
        made, passes_now, places, tried = [], [], [], sum(shares)
        for name, seeds, conditions, passes in zip(self.families, *(what.split(shares) for what in read), strict=True):
            rows = self._machines_of(name, len(seeds)).generate(seeds, conditions, self.generator)
            band = self.stage.band
            if band is not None:
                passes = passes.clone()
                place, again = self._redraw_outside_band(band, name, rows, passes, read_again)
                places.append(place)
                tried += again
            made.append(rows)
            passes_now.append(passes + 1 if self.families[name].reads_condition else torch.ones_like(passes))
        kept = torch.arange(tried, device=device)  # without a band nothing may wait for the GPU
        if places:
            kept = (torch.cat(places) == 0).nonzero().flatten().to(device)
        return Generated(torch.cat(made), torch.cat(passes_now), kept, tried)

    def _redraw_outside_band(
        self, band: Band, name: str, rows: Tensor, passes: Tensor, read_again: Callable[[int], Read]
    ) -> tuple[Tensor, int]:
        """Draws new machines, seeds and conditions for rows outside the band, a bounded number of times.

        A machine is judged by the row that it writes.

        Args:
            band: of the stage.
            name: of the family.
            rows: `(rows, context_length)`; those outside the band are replaced in place.
            passes: `(rows,)` of the conditions; replaced alike.
            read_again: see `generate`.

        Returns:
            Where each row is in the end, `(rows,)` on the CPU (see `Band.place`; one that is not inside is given up),
            and how many rows were generated here.
        """
        family, tried = self.families[name], 0
        place = band.place(rows, self.config.alphabet_size)
        first = place.clone()
        for _ in range(MAX_REDRAWS):
            outside = place.nonzero().flatten().to(rows.device)
            if len(outside) == 0:
                break
            seeds, conditions, passes[outside] = read_again(len(outside))
            machines = family.draw(len(outside), self.generator)
            rows[outside] = machines.generate(seeds, conditions, self.generator)
            place[outside.cpu()] = band.place(rows[outside], self.config.alphabet_size)
            tried += len(outside)
        self._follow_band(name, first)
        return place, tried

    def _follow_band(self, name: str, place: Tensor) -> None:
        """While fewer than `target_acceptance` of a family's rows are inside the band at the first try, its gain
        follows the band: up when more rows are too simple than too close to noise, down when it is the other way
        round."""
        if (place == 0).float().mean() >= self.config.target_acceptance:
            return
        family = self.families[name].with_gain(math.exp(-GAIN_RATE * place.float().mean().item()))
        if family.gains is not None and family != self.families[name]:
            self.families[name], self.gains[name] = family, family.gains

    def state_dict(self) -> dict[str, Any]:
        """What decides the machines of the coming rounds."""
        return {"stage": self.stage_number, "gains": dict(self.gains), "machines_drawn_from": self._drawn_from}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on with the families and machines of `state`; the generator is left as it is after drawing them.

        A state of version 3 has `gain_factors` in the place of `gains`.
        """
        config = self.config
        self.gains = dict(state["gains"]) if "gains" in state else {}
        for name, factor in state.get("gain_factors", {}).items():
            gains = build_family(name, config).with_gain(factor).gains
            if gains is not None:
                self.gains[name] = gains
        self.generator.set_state(state["machines_drawn_from"])
        self._enter_stage(state["stage"])


def generation_flops_per_symbol(config: SyntheticUPConfig) -> float:
    """Matrix products for one generated symbol, averaged over the mixture."""
    rows = config.rows_of_families()
    flops = sum(build_family(family_of(part), config).flops_per_symbol * count for part, count in rows.items())
    return flops / config.source_batch
