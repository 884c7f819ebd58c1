"""From symbols to tokens of any tokenizer, a row at a time."""

from typing import Literal

import torch
from torch import Tensor


class Alphabet:
    """Maps rows of symbols to rows of tokens; special tokens are never produced.

    Args:
        kind: `"identity"`: symbol s is always the s-th usable token (with the byte tokenizer: the byte s).
            `"permuted"`: each row goes through its own random injection of the symbols into all usable tokens, so
            that every embedding is trained and no token means anything beyond its row.
        alphabet_size: number of symbols.
        usable_tokens: the token ids that may be produced, ascending.

    Raises:
        ValueError: if there are fewer usable tokens than symbols.
    """

    def __init__(self, kind: Literal["identity", "permuted"], alphabet_size: int, usable_tokens: list[int]) -> None:
        if alphabet_size > len(usable_tokens):
            raise ValueError(
                f"alphabet_size is {alphabet_size}, but the tokenizer has only {len(usable_tokens)} tokens that may "
                f"be used (never special ones): set alphabet_size to at most {len(usable_tokens)}"
            )
        self.kind = kind
        self.alphabet_size = alphabet_size
        self.usable_tokens = torch.tensor(usable_tokens)

    def encode(self, symbols: Tensor, generator: torch.Generator) -> Tensor:
        """Maps `(rows, length)` symbols to `(rows, length)` int64 tokens."""
        tokens = self.usable_tokens.to(symbols.device)
        if self.kind == "identity":
            return tokens[symbols]
        # the places of the largest of V random scores are a random injection of A symbols into V tokens
        scores = torch.rand(len(symbols), len(tokens), generator=generator, device=symbols.device)
        injection = tokens[scores.topk(self.alphabet_size, dim=-1).indices]
        return injection.gather(1, symbols)
