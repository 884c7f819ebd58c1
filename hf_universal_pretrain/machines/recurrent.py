"""Random LSTMs and GRUs, many machines in one call: the generator of universal pretraining (arXiv 2506.20057).

A machine embeds symbols, runs them through `num_layers` recurrent layers whose weights and biases are those of a
fresh `torch.nn.LSTM` or `torch.nn.GRU` multiplied by the machine's *gain*, and reads the next symbol from a linear
layer. The gain decides whether the machine is dead (constant output), structured, or chaotic; it is the effective
factor, applied once. (The paper's code multiplies by m once per layer, so its m in [1, 3.5] acts as m^4, 1 to 150.)

What makes it quick: all machines of a round step together in batched matrix products, and the first layer looks its
input up in a table of (symbol -> gate values) instead of multiplying.

Shape suffixes: M machines, R rows of one machine, T time, A alphabet, H hidden, I input width of a layer.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_universal_pretrain.machines.base import MachineFamily, equal_shares
from hf_universal_pretrain.machines.cuda_graph import replayed
from hf_universal_pretrain.machines.draws import inverse_cdf, log_uniform
from hf_universal_pretrain.machines.entropy import (
    TRIAL_ROWS,
    TRIAL_STEPS,
    Choice,
    OwnSymbols,
    draw_own_symbols,
    find_scale,
)


@dataclass(frozen=True)
class RecurrentFamily(MachineFamily):
    """Random recurrent networks.

    Args:
        cell: `"lstm"` or `"gru"`.
        num_layers: recurrent layers of a machine.
        hidden_size: width of each layer and of the embedding.
        embedding_scale: factor on the N(0, 1) embedding; the paper has 1e-8, so that rows part only by chaos.
        gain_range: lowest and highest effective gain.
        gain_law: `"log_uniform"` over the range, or `"fourth_power"`: u^4 with u uniform (the paper's code).
        temperature_range: lowest and highest sampling temperature of a machine, log-uniform; `[0, 0]` takes the most
            likely symbol.
        entropy_range: lowest and highest mean entropy of a machine's next symbol, in bits, uniform. In place of a
            temperature: the read-out is N(0, 1), without bias, times the factor at which the machine's own rows have
            that entropy (see `entropy`), so that no machine is dead and none is noise. `(0, 0)`: off.
        own_symbols_range: how many symbols a machine with a set entropy writes, log-uniform; cut to the alphabet.
        exponent_range: s in the frequencies (rank + 2)^-s of these symbols, uniform, which what a machine has read
            raises and lowers; 0: all alike.
        conditioning: `"aligned"`: at step t a machine reads its own symbol t and the condition's symbol t (the
            paper); `"prefix"`: it reads the whole condition, then its seed, before it writes; `"none"`: it reads
            nothing but its own symbols.
        machines_per_round: machines drawn in a round; each serves an equal share of the rows.

    Raises:
        ValueError: with both an entropy and a temperature.
    """

    cell: Literal["lstm", "gru"] = "lstm"
    num_layers: int = 4
    hidden_size: int = 128
    embedding_scale: float = 1.0
    gain_range: tuple[float, float] = (3.0, 12.0)
    gain_law: Literal["log_uniform", "fourth_power"] = "log_uniform"
    temperature_range: tuple[float, float] = (0.0, 0.0)
    entropy_range: tuple[float, float] = (0.0, 0.0)
    own_symbols_range: tuple[float, float] = (32, 48)
    exponent_range: tuple[float, float] = (0.0, 0.0)
    conditioning: Literal["aligned", "prefix", "none"] = "aligned"
    machines_per_round: int = 8

    gain_field: ClassVar[str] = "gain_range"

    def __post_init__(self) -> None:
        if self.sets_entropy and self.temperature_range[1] > 0:
            raise ValueError(
                f"entropy_range of {self.cell} stands in place of temperature_range: set one of the two to 0 0"
            )

    @property
    def reads_condition(self) -> bool:
        return self.conditioning != "none"

    @property
    def sets_entropy(self) -> bool:
        """Whether machines have an entropy of their own in place of a temperature."""
        return self.entropy_range[1] > 0

    @property
    def input_size(self) -> int:
        """Width of what the first layer reads: the machine's own symbol and, when aligned, the condition's."""
        return self.hidden_size * (2 if self.conditioning == "aligned" else 1)

    @property
    def flops_per_symbol(self) -> int:
        hidden = self.hidden_size
        layers = 4 * hidden * (hidden + (self.num_layers - 1) * 2 * hidden)
        steps = 2 if self.conditioning == "prefix" else 1
        outputs = min(int(self.own_symbols_range[1]), self.alphabet_size) if self.sets_entropy else self.alphabet_size
        return 2 * (steps * layers + hidden * outputs)

    def machines_for(self, num_rows: int) -> int:
        return min(self.machines_per_round, num_rows)

    def draw(self, num_rows: int, generator: torch.Generator) -> "RecurrentMachines":
        """Draws min(machines_per_round, num_rows) networks with the initial distribution of `torch.nn`, times gain."""
        machines, hidden = self.machines_for(num_rows), self.hidden_size
        gates = {"lstm": 4, "gru": 3}[self.cell]
        device = generator.device

        def uniform(*shape: int) -> Tensor:
            return (torch.rand(machines, *shape, generator=generator, device=device) * 2 - 1) / math.sqrt(hidden)

        low, high = self.gain_range
        if self.gain_law == "log_uniform":
            gain_M = log_uniform(low, high, (machines,), generator)
        else:
            u_M = torch.rand(machines, generator=generator, device=device)
            gain_M = (low**0.25 + (high**0.25 - low**0.25) * u_M) ** 4
        cold, hot = self.temperature_range
        temperature_M = log_uniform(cold, hot, (machines,), generator) if cold > 0 else torch.zeros_like(gain_M)

        embedding_MAI = torch.randn(machines, self.alphabet_size, hidden, generator=generator, device=device)
        layers = []
        for layer in range(self.num_layers):
            width = self.input_size if layer == 0 else hidden
            shapes = ((gates * hidden, width), (gates * hidden, hidden), (gates * hidden,), (gates * hidden,))
            layers.append([uniform(*shape) * gain_M.view(-1, *[1] * len(shape)) for shape in shapes])
        drawn = RecurrentMachines(
            family=self,
            embedding=embedding_MAI * self.embedding_scale,
            layers=layers,
            head_weight=uniform(self.alphabet_size, hidden),
            head_bias=uniform(self.alphabet_size),
            gain=gain_M,
            temperature=temperature_M,
        )
        return self._with_entropy(drawn, generator) if self.sets_entropy else drawn

    def _with_entropy(self, machines: "RecurrentMachines", generator: torch.Generator) -> "RecurrentMachines":
        """The machines with read-outs that give them the entropy they draw."""
        count, device = len(machines.gain), generator.device
        own = draw_own_symbols(
            count, self.alphabet_size, self.own_symbols_range, self.entropy_range, self.exponent_range, generator
        )
        shape = (count, own.symbols.shape[1], self.hidden_size)
        head_MKH = torch.randn(shape, generator=generator, device=device)
        network = _Network(replace(machines, head_weight=head_MKH, head_bias=torch.zeros_like(own.bias)), TRIAL_ROWS)
        offset_M1 = _offsets(count, self.alphabet_size, device)
        prefix_TMR = torch.empty(0)
        if self.conditioning == "prefix":
            shape = (TRIAL_STEPS, count, TRIAL_ROWS)
            prefix_TMR = torch.randint(self.alphabet_size, shape, generator=generator, device=device) + offset_M1

        def start() -> None:
            network.forget()
            for symbols_MR in prefix_TMR:
                network.step(symbols_MR)

        def step(symbols_MR: Tensor, condition_MR: Tensor) -> Tensor:
            aligned = condition_MR + offset_M1 if self.conditioning == "aligned" else None
            return network.logits(network.step(symbols_MR + offset_M1, aligned))

        scale_M11 = find_scale(own, self.alphabet_size, step, start, generator).view(-1, 1, 1)
        return replace(
            machines,
            head_weight=head_MKH * scale_M11,
            head_bias=own.bias,
            symbols=own.symbols,
            entropy=own.target,
        )


@dataclass
class RecurrentMachines:
    """The weights of M machines, in the layout of `torch.nn` with a leading machine dimension.

    Args:
        embedding: `(M, alphabet_size, hidden_size)`.
        layers: for each layer `weight_ih (M, G*H, I)`, `weight_hh (M, G*H, H)`, `bias_ih` and `bias_hh` `(M, G*H)`;
            G is 4 for LSTMs (input, forget, cell, output) and 3 for GRUs (reset, update, new), as in `torch.nn`.
        head_weight: `(M, alphabet_size, hidden_size)`; with a set entropy `(M, K, hidden_size)`, K the most symbols
            that a machine writes.
        head_bias: `(M, alphabet_size)`; with a set entropy see `OwnSymbols.bias`.
        gain: `(M,)`, already applied to `layers`.
        temperature: `(M,)`.
        symbols: see `OwnSymbols`; None without a set entropy: output s is symbol s.
        entropy: see `OwnSymbols.target`; None without.
    """

    family: RecurrentFamily
    embedding: Tensor
    layers: list[list[Tensor]]
    head_weight: Tensor
    head_bias: Tensor
    gain: Tensor
    temperature: Tensor
    symbols: Tensor | None = None
    entropy: Tensor | None = None

    @torch.no_grad()
    def generate(self, seeds: Tensor, conditions: Tensor, generator: torch.Generator) -> Tensor:
        rows, seed_length = seeds.shape
        machines, length = len(self.gain), conditions.shape[1]
        share_MR = equal_shares(rows, machines, seeds.device)
        per_machine = share_MR.shape[1]
        offset_M11 = _offsets(machines, self.family.alphabet_size, seeds.device).unsqueeze(-1)
        # by time, and as indices into tables of M * alphabet_size entries
        seeds_TMR = (seeds[share_MR] + offset_M11).permute(2, 0, 1).contiguous()
        conditions_TMR = (conditions[share_MR] + offset_M11).permute(2, 0, 1).contiguous()
        network = _Network(self, per_machine)
        choice = None
        if self.symbols is not None and self.entropy is not None:
            choice = Choice(OwnSymbols(self.symbols, self.head_bias, self.entropy), per_machine)
        aligned = self.family.conditioning == "aligned"
        sample = self.family.temperature_range[0] > 0 or choice is not None
        shape = (length if sample else 1, machines, per_machine, 1)
        uniform_TMR1 = torch.rand(shape, generator=generator, device=seeds.device, dtype=self.embedding.dtype)
        temperature_M11 = self.temperature.view(-1, 1, 1)

        def step(symbols_MR: Tensor, condition_MR: Tensor, uniform_MR1: Tensor) -> Tensor:
            logits_MRA = network.logits(network.step(symbols_MR, condition_MR if aligned else None))
            if choice is not None:
                return choice(logits_MRA, uniform_MR1)
            if sample:
                return inverse_cdf((logits_MRA / temperature_M11).softmax(-1).cumsum(-1), uniform_MR1)
            return logits_MRA.argmax(-1)

        step = replayed(step, seeds_TMR[0], conditions_TMR[0], uniform_TMR1[0])
        network.forget()
        if self.family.conditioning == "prefix":
            for symbols_MR in conditions_TMR:
                step(symbols_MR, symbols_MR, uniform_TMR1[0])
        if choice is not None:
            choice.forget()
        output_TMR = torch.empty(length, machines, per_machine, dtype=torch.int64, device=seeds.device)
        output_TMR[:seed_length] = seeds_TMR
        for t in range(length - 1):
            next_MR = step(output_TMR[t], conditions_TMR[t], uniform_TMR1[t if sample else 0])
            if t + 1 >= seed_length:
                torch.add(next_MR, offset_M11[..., 0], out=output_TMR[t + 1])
        output_MRT = output_TMR.permute(1, 2, 0) - offset_M11
        return output_MRT.reshape(-1, length)[:rows]


def _offsets(machines: int, alphabet_size: int, device: torch.device) -> Tensor:
    """`(M, 1)`: where the entries of each machine begin in tables of all machines' symbols."""
    return (torch.arange(machines, device=device) * alphabet_size).unsqueeze(1)


class _Network:
    """One step at a time of M machines on R rows each.

    Both cells are brought to four blocks of gates, so that a layer is a single product `[x, h] W`: (input, forget,
    output, cell) for the LSTM; (reset, update, new from x, new from h) for the GRU, with zeros where the last two do
    not read.
    """

    def __init__(self, machines: RecurrentMachines, rows: int) -> None:
        family = machines.family
        self.lstm = family.cell == "lstm"
        self.hidden = hidden = family.hidden_size
        packed = [_four_blocks(family.cell, *layer) for layer in machines.layers]

        # Layer 0: what a symbol (or the condition's symbol) adds to the gates, bias included, is looked up.
        weight_x, self.first_weight, bias = packed[0]
        halves = weight_x.split(hidden, dim=1)
        own = torch.baddbmm(bias.unsqueeze(1), machines.embedding, halves[0])
        self.own_table = own.flatten(0, 1)
        if family.conditioning == "aligned":
            self.condition_table = torch.bmm(machines.embedding, halves[1]).flatten(0, 1)
        self.deeper = [(torch.cat([w_x, w_h], dim=1), b.unsqueeze(1)) for w_x, w_h, b in packed[1:]]

        self.head_weight = machines.head_weight.transpose(1, 2).contiguous()
        self.head_bias = machines.head_bias.unsqueeze(1)
        zeros = self.head_bias.new_zeros
        count = len(machines.gain)
        # The outputs of all layers lie side by side: what a deeper layer reads, the output of the one below and its
        # own last one, is a window of this, and nothing is copied.
        self.outputs = zeros(count, rows, len(packed) * hidden)
        self.cells = [zeros(count, rows, hidden) for _ in packed]

    def step(self, symbols: Tensor, condition: Tensor | None = None) -> Tensor:
        """Reads `(M, R)` table indices; returns the top layer's output `(M, R, H)`."""
        gates = F.embedding(symbols, self.own_table)
        if condition is not None:
            gates += F.embedding(condition, self.condition_table)
        hidden = self.hidden
        gates.baddbmm_(self.outputs[..., :hidden], self.first_weight)
        self._update(gates, 0)
        for layer, (weight, bias) in enumerate(self.deeper, start=1):
            window = self.outputs[..., (layer - 1) * hidden : (layer + 1) * hidden]
            self._update(torch.baddbmm(bias, window, weight), layer)
        return self.outputs[..., -hidden:]

    def _update(self, gates: Tensor, layer: int) -> None:
        """Brings a layer's output (and cell) to the next step."""
        hidden = self.hidden
        output = self.outputs[..., layer * hidden : (layer + 1) * hidden]
        if self.lstm:
            # tanh(x) = 2 sigmoid(2 x) - 1, right to 1e-7 and three times as quick on a CPU. The cell gate comes
            # doubled (see `_four_blocks`), and what is kept is the doubled cell.
            i, f, o, g = gates.sigmoid_().chunk(4, dim=-1)
            doubled = self.cells[layer].mul_(f).addcmul_(i, g, value=4).sub_(i, alpha=2)
            torch.mul(doubled.sigmoid().mul_(2).sub_(1), o, out=output)
        else:
            r, z = gates[..., : 2 * hidden].sigmoid_().chunk(2, dim=-1)
            new = torch.addcmul(gates[..., 2 * hidden : 3 * hidden], r, gates[..., 3 * hidden :]).tanh_()
            torch.lerp(new, output, z, out=output)

    def forget(self) -> None:
        """Back to the state before the first symbol."""
        for tensor in (self.outputs, *self.cells):
            tensor.zero_()

    def logits(self, hidden_MRH: Tensor) -> Tensor:
        """`(M, R, alphabet_size)`, or what the read-out's width is."""
        return torch.baddbmm(self.head_bias, hidden_MRH, self.head_weight)


def _four_blocks(
    cell: str, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The layer as `(M, I, 4H)` and `(M, H, 4H)` weights and a `(M, 4H)` bias, gates in the order of `_Network`; the
    LSTM's cell gate is doubled, which rounds nothing."""
    if cell == "lstm":
        i, f, g, o = range(4)
        order_x, order_h = (i, f, o, g), (i, f, o, g)
        blocks = 4
    else:
        r, z, n, nothing = 0, 1, 2, 3  # the fourth block, all zeros, is added below
        order_x, order_h = (r, z, n, nothing), (r, z, nothing, n)
        blocks = 3

    def pack(tensor: Tensor, order: tuple[int, ...]) -> Tensor:
        parts = list(tensor.chunk(blocks, dim=1))
        parts.append(torch.zeros_like(parts[0]))
        if cell == "lstm":
            parts[g] = 2 * parts[g]
        return torch.cat([parts[index] for index in order], dim=1)

    weight_x = pack(weight_ih, order_x).transpose(1, 2).contiguous()
    weight_h = pack(weight_hh, order_h).transpose(1, 2).contiguous()
    return weight_x, weight_h, pack(bias_ih, order_x) + pack(bias_hh, order_h)
