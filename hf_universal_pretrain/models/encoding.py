"""Text as tokens, and which of its bytes each token covers."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from hf_universal_pretrain.models.tokenizers import token_bytes, tokens_of_bytes


PIECE = 65_536  # bytes in one call of a tokenizer of bytes: a whole text's encoding would fill the memory
BATCH = 2 * PIECE  # bytes that are encoded at once: fast tokenizers need some hundred for each

_CONTINUATION = bytes(range(0x80, 0xC0))  # all bytes of a character but its first


@dataclass
class Encoded:
    """The tokens of a text and their places in it: each begins where the one before it ends, the first at `start`.

    What is cut off at the edges of a text is covered by no token: the bytes of a character of which the others are
    missing (a tokenizer of bytes has tokens for these too).
    """

    ids: Tensor
    """`(tokens,)` int64."""
    ends: Tensor
    """`(tokens,)` int64, ascending: the bytes of the text up to the end of each token. The last ends with the text."""
    start: int
    """Bytes of the text before the first token."""
    aligned_by: Literal["spelling", "offsets", "count"]
    """How `ends` are known. `spelling`: the tokens' own texts, one after another, are the text; `offsets`: the
    tokenizer says of each token which characters it was made of; `count`: neither, so all tokens get equally many
    bytes."""
    lost: int
    """Bytes of the text that are not in the decoded tokens: unknown words, capitals, blanks, accents."""


def encode(text: bytes, tokenizer: PreTrainedTokenizerBase, dtype: torch.dtype = torch.int64) -> Tensor:
    """The tokens of a UTF-8 text, `(tokens,)` of `dtype`. No special token is added.

    A tokenizer of bytes turns bytes that are no UTF-8 into tokens too; any other leaves them out.
    """
    return _encode(text, tokenizer, tokens_of_bytes(tokenizer), dtype)


def encode_pieces(
    pieces: Iterable[bytes], tokenizer: PreTrainedTokenizerBase, dtype: torch.dtype = torch.int64
) -> Iterator[Tensor]:
    """The tokens of a text that comes in pieces, in order, some of them at a time: `(tokens,)` of `dtype`.

    Long pieces are cut where lines or words end. So the tokens are those of `encode` but for a few that would have
    reached over a cut, one in tens of thousands; with a tokenizer of bytes, exactly those.
    """
    of_bytes, batch, size = tokens_of_bytes(tokenizer), list[bytes](), 0
    for piece in pieces:
        while piece:
            cut = len(piece) if len(piece) <= PIECE else cut_point(piece[:PIECE])
            batch.append(piece[:cut])
            size, piece = size + cut, piece[cut:]
            if size >= BATCH:
                yield _encode_batch(batch, tokenizer, of_bytes, dtype)
                batch, size = [], 0
    if batch:
        yield _encode_batch(batch, tokenizer, of_bytes, dtype)


def cut_point(text: bytes) -> int:
    """Where to cut a text that goes on, so that no word is cut: after its last line, or else before its last word, or
    else, where it is one long word, before a last character that may not be whole."""
    cut = text.rfind(b"\n") + 1 or text.rfind(b" ")
    return cut if cut > 0 else max(len(text.rstrip(_CONTINUATION)) - 1, 0) or len(text)


def encode_windows(windows: Iterable[bytes], tokenizer: PreTrainedTokenizerBase) -> list[Encoded]:
    """The tokens of each window of a text, and their places in it."""
    texts, of_bytes = token_bytes(tokenizer), tokens_of_bytes(tokenizer)
    return [_place(text, _encode(text, tokenizer, of_bytes), tokenizer, texts, bool(of_bytes)) for text in windows]


def _encode(
    text: bytes, tokenizer: PreTrainedTokenizerBase, of_bytes: dict[int, int], dtype: torch.dtype = torch.int64
) -> Tensor:
    if not of_bytes:
        string = text.decode("utf-8", errors="ignore")
        return torch.tensor(tokenizer(string, add_special_tokens=False, verbose=False)["input_ids"], dtype=dtype)
    ids, count = torch.empty(len(text), dtype=dtype), 0
    for start in range(0, len(text), PIECE):  # a character that is cut here is cut into tokens all the same
        piece = _ids_of_bytes(text[start : start + PIECE], tokenizer, of_bytes)
        ids[count : count + len(piece)] = torch.tensor(piece, dtype=dtype)
        count += len(piece)
    return ids[:count]


def _encode_batch(
    batch: list[bytes], tokenizer: PreTrainedTokenizerBase, of_bytes: dict[int, int], dtype: torch.dtype
) -> Tensor:
    if of_bytes:
        return torch.cat([_encode(piece, tokenizer, of_bytes, dtype) for piece in batch])
    texts = [piece.decode("utf-8", errors="ignore") for piece in batch]
    if tokenizer.is_fast:  # its own way, without the offsets, takes two thirds of the time
        core = tokenizer.backend_tokenizer
        core.no_truncation()
        core.no_padding()
        rows = [encoded.ids for encoded in core.encode_batch_fast(texts, add_special_tokens=False)]
    else:
        rows = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return torch.cat([torch.tensor(row, dtype=dtype) for row in rows])


def _ids_of_bytes(text: bytes, tokenizer: PreTrainedTokenizerBase, of_bytes: dict[int, int]) -> list[int]:
    ids: list[int] = []
    # what is no UTF-8 is decoded into surrogates, which no tokenizer takes
    for n, part in enumerate(re.split("([\udc80-\udcff]+)", text.decode("utf-8", errors="surrogateescape"))):
        if n % 2:
            ids += [of_bytes[byte] for byte in part.encode("utf-8", errors="surrogateescape")]
        elif part:
            ids += tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def _place(
    text: bytes, ids: Tensor, tokenizer: PreTrainedTokenizerBase, texts: list[bytes], of_bytes: bool
) -> Encoded:
    covered = text if of_bytes else text.decode("utf-8", errors="ignore").encode("utf-8")
    # of a character that is cut at the front, the rest is left out
    start = 0 if len(covered) == len(text) else len(text) - len(text.lstrip(_CONTINUATION))
    pieces = [texts[token] for token in ids.tolist()]
    spelled = b"".join(pieces)
    if spelled in (covered, b" " + covered):  # sentencepiece may put a blank before the text
        ends = torch.tensor([len(piece) for piece in pieces]).cumsum(0) - (len(spelled) - len(covered))
        return Encoded(ids, start + ends.clamp(min=0), start, "spelling", 0)
    lost = _lost(covered, ids, tokenizer)
    told = _ends_by_offsets(covered, tokenizer) if tokenizer.is_fast else None
    if told is not None and len(told) == len(ids):
        return Encoded(ids, start + told, start, "offsets", lost)
    ends = (torch.arange(1, len(ids) + 1) * (len(covered) / max(1, len(ids)))).round().long()
    return Encoded(ids, start + ends, start, "count", lost)


def _ends_by_offsets(covered: bytes, tokenizer: PreTrainedTokenizerBase) -> Tensor | None:
    """None if what the tokenizer says of its tokens cannot be."""
    string = covered.decode("utf-8")
    encoded = tokenizer(string, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    characters = torch.tensor([end for _, end in encoded["offset_mapping"]], dtype=torch.int64).cummax(0).values
    if len(characters) == 0 or characters[-1] > len(string) or string[characters[-1] :].strip():
        return None
    characters[-1] = len(string)  # blanks at the end that have no token
    return torch.tensor([0] + [len(character.encode("utf-8")) for character in string]).cumsum(0)[characters]


def _lost(covered: bytes, ids: Tensor, tokenizer: PreTrainedTokenizerBase) -> int:
    """Characters are counted, wherever they stand: a tokenizer that moves them is not one that loses them."""
    decoded = tokenizer.decode(ids.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    missing = Counter(covered.decode("utf-8")) - Counter(decoded)
    return sum(number * len(character.encode("utf-8")) for character, number in missing.items())
