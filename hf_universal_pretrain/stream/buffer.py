"""The buffer that machines enrich: N rows of T symbols, at first noise.

A symbol s that the model is shown but not judged on is kept as its complement ~s (see `machines.base.Machines`).
"""

from typing import Literal

import torch
from torch import Tensor

from hf_universal_pretrain.machines.base import symbols_of


class SequenceBuffer:
    """Rows of symbols that are sampled, cropped, overwritten and reset; all draws come from one generator.

    Args:
        num_rows: N.
        length: T, symbols a row.
        alphabet_size: symbols are integers in `[0, alphabet_size)`; at most 32,768 (rows are stored as int16).
        generator: the source of all randomness; the buffer lives on its device.
        sampling: `"with_replacement"`: every row that is drawn may be any. `"without_replacement"`: a row is drawn
            once for each time that it is written, as far as there are such rows; else the one drawn longest ago.

    Attributes:
        rows: `(num_rows, length)` int16.
        passes: `(num_rows,)` int32, how many machines have acted on what a row holds; 0 for noise.
        served: `(num_rows,)` int64, a number that grows with each row drawn; 0 for rows that were not drawn since they
            were written. Without replacement only.
    """

    def __init__(
        self,
        num_rows: int,
        length: int,
        alphabet_size: int,
        generator: torch.Generator,
        sampling: Literal["with_replacement", "without_replacement"] = "with_replacement",
    ) -> None:
        self.alphabet_size = alphabet_size
        self.generator = generator
        self.sampling = sampling
        self.rows = torch.empty(num_rows, length, dtype=torch.int16, device=generator.device)
        self.passes = torch.zeros(num_rows, dtype=torch.int32, device=generator.device)
        self.served = torch.zeros(num_rows, dtype=torch.int64, device=generator.device)
        self._write_noise(torch.arange(num_rows, device=generator.device))

    def noise(self, count: int) -> Tensor:
        """Draws `(count, length)` int64 symbols: the first half of the rows uniform, the others constant, each of its
        own symbol."""
        uniform = count // 2
        noise = self._integers(self.alphabet_size, count, self.rows.shape[1])
        noise[uniform:] = self._integers(self.alphabet_size, count - uniform, 1)
        return noise

    def _write_noise(self, index: Tensor) -> None:
        self.rows[index] = self.noise(len(index)).to(torch.int16)
        self.passes[index] = 0
        self.served[index] = 0

    def _integers(self, high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=self.generator, device=self.rows.device)

    def choose(self, count: int) -> Tensor:
        """Draws `(count,)` different row numbers."""
        return torch.randperm(len(self.rows), generator=self.generator, device=self.rows.device)[:count]

    def read(self, index: Tensor) -> Tensor:
        """The symbols of the rows `index`, `(len(index), length)` int64. This is a copy; `write` is the way back."""
        return symbols_of(self.rows[index].long())

    def sample(self, count: int) -> tuple[Tensor, Tensor]:
        """Draws rows as `sampling` says: symbols `(count, length)` int64, and which of them are judged, bool."""
        with_replacement = self.sampling == "with_replacement"
        rows = self.rows[self._integers(len(self.rows), count) if with_replacement else self._next(count)].long()
        return symbols_of(rows), rows >= 0

    def _next(self, count: int) -> Tensor:
        """The numbers `(count,)` of the rows whose turn it is, without replacement."""
        num_rows, device = len(self.rows), self.rows.device
        order = self.choose(num_rows)  # sorting keeps rows that were not served in this order
        order = order[self.served[order].argsort(stable=True)]
        index = order[torch.arange(count, device=device) % num_rows]
        last = index[-num_rows:]  # of a row that comes several times, the last time
        self.served[last] = self.served.max() + 1 + torch.arange(len(last), device=device)
        return index

    def crop(self, count: int, length: int) -> Tensor:
        """Draws `(count, length)` pieces: different rows, each cut at its own random offset."""
        start = self._integers(self.rows.shape[1] - length + 1, count, 1)
        columns = start + torch.arange(length, device=start.device)
        return self.read(self.choose(count)).gather(1, columns)

    def write(self, index: Tensor, rows: Tensor, passes: Tensor) -> None:
        """Replaces the rows `index` with `rows`, `(len(index), length)` symbols or complements, and their counts with
        `passes`."""
        self.rows[index] = rows.to(torch.int16)
        self.passes[index] = passes.to(torch.int32)
        self.served[index] = 0

    def reset(self, count: int) -> None:
        """Replaces `count` random rows with fresh noise, half uniform, half constant."""
        self._write_noise(self.choose(count))

    def state_dict(self) -> dict[str, Tensor]:
        """Rows, passes and (without replacement) what was served; the generator belongs to the dataset."""
        served = {} if self.sampling == "with_replacement" else {"served": self.served.clone()}
        return {"rows": self.rows.clone(), "passes": self.passes.clone(), **served}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        if state["rows"].shape != self.rows.shape:
            raise ValueError(
                f"buffer state of shape {tuple(state['rows'].shape)} does not fit a buffer of {tuple(self.rows.shape)}"
            )
        self.rows.copy_(state["rows"])
        self.passes.copy_(state["passes"])
        if self.sampling == "without_replacement":
            self.served.copy_(state["served"])
