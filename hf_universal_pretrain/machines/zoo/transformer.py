"""Random causal transformers that rewrite a row in one pass: the source of the paper's first version.

A machine reads a whole buffer row and proposes, at each position, a symbol that depends on the row up to there. A mask
that the machine computes as well says where its proposal is written; elsewhere the row stays as it was. So structure
is laid over structure with every pass.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_universal_pretrain.machines.base import MachineFamily, equal_shares
from hf_universal_pretrain.machines.draws import log_uniform


@dataclass(frozen=True)
class RandomTransformerFamily(MachineFamily):
    """Random causal transformers (pbloem/up, the "transformer" source with its identity mask).

    Args:
        depth: layers of a machine.
        width: of the residual stream.
        heads: attention heads.
        attention_gain_range: factor on queries and keys of a machine, log-uniform: small values average over the row,
            large ones look at single positions. (The original multiplies logits by 1.4 once per layer and weights by
            10.)
        machines_per_round: machines drawn in a round; each serves an equal share of the rows.
    """

    depth: int = 2
    width: int = 64
    heads: int = 4
    attention_gain_range: tuple[float, float] = (1.0, 10.0)
    machines_per_round: int = 8

    reads_condition: ClassVar[bool] = True

    @property
    def flops_per_symbol(self) -> int:
        return 2 * self.width * (self.depth * 12 * self.width + self.alphabet_size + 1)

    def machines_for(self, num_rows: int) -> int:
        return min(self.machines_per_round, num_rows)

    def draw(self, num_rows: int, generator: torch.Generator) -> "RandomTransformers":
        machines, width = self.machines_for(num_rows), self.width

        def weight(inputs: int, outputs: int) -> Tensor:
            drawn = torch.randn(machines, inputs, outputs, generator=generator, device=generator.device)
            return drawn / math.sqrt(inputs)

        gain = log_uniform(*self.attention_gain_range, (machines, 1, 1), generator).sqrt()
        layers = []
        for _ in range(self.depth):
            query_key = weight(width, 2 * width) * gain
            attention = (torch.cat([query_key, weight(width, width)], dim=-1), weight(width, width))
            layers.append((*attention, weight(width, 4 * width), weight(4 * width, width)))
        embedding = torch.randn(machines, self.alphabet_size, width, generator=generator, device=generator.device)
        return RandomTransformers(self, embedding, layers, weight(width, self.alphabet_size + 1))


@dataclass
class RandomTransformers:
    """M machines.

    Args:
        embedding: `(M, alphabet_size, width)`.
        layers: for each layer the weights of query, key and value `(M, width, 3 * width)`, of the attention's output,
            and of the two layers of the MLP.
        head: `(M, width, alphabet_size + 1)`; the last column is the mask's.
    """

    family: RandomTransformerFamily
    embedding: Tensor
    layers: list[tuple[Tensor, Tensor, Tensor, Tensor]]
    head: Tensor

    @torch.no_grad()
    def generate(self, seeds: Tensor, conditions: Tensor, generator: torch.Generator) -> Tensor:
        """Rewrites the conditions; there is nothing to seed, since a row is read whole."""
        rows, length = conditions.shape
        machines, width = len(self.embedding), self.family.width
        share = equal_shares(rows, machines, conditions.device)
        each = share.shape[1]
        read = conditions[share].flatten(1)
        x = self.embedding.gather(1, read.unsqueeze(-1).expand(-1, -1, width))
        x += _positions(length, width, x.device).repeat(each, 1)
        for qkv, out, up, down in self.layers:
            parts = torch.bmm(_normalised(x), qkv).view(machines * each, length, 3, self.family.heads, -1)
            query, key, value = parts.permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
            x = x + torch.bmm(mixed.transpose(1, 2).reshape(machines, each * length, width), out)
            x = x + torch.bmm(torch.bmm(_normalised(x), up).relu_(), down)
        scores = torch.bmm(_normalised(x), self.head)
        written = torch.where(scores[..., -1] > 0, scores[..., :-1].argmax(-1), read)
        return written.view(-1, length)[:rows]


def _normalised(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])


def _positions(length: int, width: int, device: torch.device) -> Tensor:
    """`(length, width)` sines and cosines of wavelengths from 2 pi to 10,000 times that."""
    angle = torch.arange(length, device=device).unsqueeze(1) / 10_000 ** torch.linspace(
        0, 1, width // 2, device=device
    )
    return torch.cat([angle.sin(), angle.cos()], dim=-1)
