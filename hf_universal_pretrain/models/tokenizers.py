"""Tokenizers from names, what their tokens stand for, and the tokens that synthetic rows may be made of."""

import re
from collections.abc import Sequence
from typing import Literal

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode
from transformers.models.auto.tokenization_auto import get_tokenizer_config

from hf_universal_pretrain.errors import first_line


# ASCII from the blank to the tilde, tabs and line feeds
PRINTABLE = frozenset(map(chr, [9, 10, *range(32, 127)]))


def byte_tokenizer(extra_special_tokens: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """A token for each byte: byte b is token b + 3, after `<pad>` (0), `</s>` (1) and `<unk>` (2), as in ByT5.

    A text becomes its bytes and nothing else: no token is added, and `</s>` in a text is four bytes. A saved folder
    needs nothing but transformers to be loaded (`AutoTokenizer`).

    Args:
        extra_special_tokens: more special tokens, from id 259 on.
    """
    vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2}
    vocabulary |= {letter: byte + 3 for byte, letter in bytes_to_unicode().items()}
    core = Tokenizer(models.BPE(vocabulary, []))  # a pair of bytes is never merged
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        extra_special_tokens=list(extra_special_tokens),
        split_special_tokens=True,  # a text's own "</s>" is text
    )  # fmt: skip


def build_tokenizer(name: str, flag: str = "--tokenizer", trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The byte tokenizer for `"byte"`, else the tokenizer of a local folder or a Hub repository.

    Tokens that the tokenizer's file marks as special but that have no role (`<|im_start|>` and kin) are given to
    `extra_special_tokens`, so that `all_special_ids` has them and the synthetic stream never produces them.

    For ByT5's tokenizer, which models of earlier versions have and which adds `</s>` to each text, the byte tokenizer
    with the same ids is given.

    Code that comes with a tokenizer or a model runs only with `trust_remote_code`, here and below.

    Raises:
        ValueError: if there is no such tokenizer; the message names `flag`.
    """
    if name == "byte":
        return byte_tokenizer()
    mend = "give 'byte', or a folder or Hub id that holds one (tokenizer.save_pretrained writes it)"
    if flag != "--tokenizer":
        mend = mend.replace("'byte', or ", "")
    try:
        # for some architectures AutoTokenizer puts a class of its own, which normalises, in the place of this one
        told = get_tokenizer_config(name)
        as_saved = told.get("tokenizer_class") in _BACKEND and "auto_map" not in told
        loader = PreTrainedTokenizerFast if as_saved else AutoTokenizer
        tokenizer = loader.from_pretrained(name, trust_remote_code=trust_remote_code)
    except Exception as error:  # a broken file is reported by a library in Rust, with errors of its own
        raise ValueError(
            needs_its_code(error, flag, name) or f"{flag}: no tokenizer at {name!r} ({first_line(error)}); {mend}"
        ) from error
    if isinstance(tokenizer, ByT5Tokenizer):
        return byte_tokenizer([str(t) for i, t in sorted(tokenizer.added_tokens_decoder.items()) if i > 258])
    known = set(tokenizer.all_special_ids)
    extra = [str(token) for i, token in tokenizer.added_tokens_decoder.items() if token.special and i not in known]
    if extra:
        tokenizer.add_special_tokens({"extra_special_tokens": extra}, replace_extra_special_tokens=False)
    if len(usable_tokens(tokenizer)) < 2:  # what transformers makes of a folder without a tokenizer's files
        raise ValueError(f"{flag}: no tokenizer at {name!r} (it has no tokens but special ones); {mend}")
    return tokenizer


# what a tokenizer that is all in its `tokenizer.json` is called
_BACKEND = ("TokenizersBackend", "PreTrainedTokenizerFast")


def usable_tokens(tokenizer: PreTrainedTokenizerBase, which: Literal["all", "printable"] = "all") -> list[int]:
    """The ids that rows may be made of, ascending: never those of special tokens.

    Args:
        tokenizer: any.
        which: `"all"` others, or those whose text is `"printable"` ASCII, tabs and line feeds (with the byte
            tokenizer 97 of 256).
    """
    tokens = sorted(set(range(len(tokenizer))) - set(tokenizer.all_special_ids))
    if which == "printable":
        texts = tokenizer.batch_decode([[token] for token in tokens], clean_up_tokenization_spaces=False)
        tokens = [token for token, text in zip(tokens, texts, strict=True) if text and PRINTABLE.issuperset(text)]
    return tokens


def token_bytes(tokenizer: PreTrainedTokenizerBase) -> list[bytes]:
    """The bytes of text that each token stands for, by its id; of special tokens, their names.

    Knows bytes as ByT5 writes them, byte-level BPE (where a letter stands for each byte), and sentencepiece's mark for
    a space and its `<0x0A>` for a byte; any other token stands for its own text.
    """
    byte_of = {letter: byte for byte, letter in bytes_to_unicode().items()}
    if isinstance(tokenizer, ByT5Tokenizer):
        byte_of = {chr(byte): byte for byte in range(256)}
    elif not (tokenizer.is_fast and "ByteLevel" in str(tokenizer.backend_tokenizer.decoder)):
        byte_of = {}
    added = tokenizer.added_tokens_decoder  # these are written as they are
    found = []
    for number, token in enumerate(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))):
        if number in added or token is None:
            found.append(str(added.get(number, "")).encode("utf-8"))
        elif byte_of and all(letter in byte_of for letter in token):
            found.append(bytes(byte_of[letter] for letter in token))
        elif re.fullmatch(r"<0x[0-9A-F]{2}>", token):
            found.append(bytes([int(token[3:5], 16)]))
        else:
            found.append(token.replace("\u2581", " ").encode("utf-8"))
    return found


def tokens_of_bytes(tokenizer: PreTrainedTokenizerBase) -> dict[int, int]:
    """The token of each byte, if the tokenizer has these 256 and, but for special ones, no other; else nothing."""
    usable, texts = usable_tokens(tokenizer), token_bytes(tokenizer)
    single = {texts[token][0]: token for token in usable if len(texts[token]) == 1}
    return single if len(single) == len(usable) == 256 else {}


def needs_its_code(error: Exception, flag: str, name: str) -> str | None:
    """What to say if a model or a tokenizer was refused because it comes with code; None if that is not the reason."""
    if "trust_remote_code" not in str(error):
        return None
    return (
        f"{flag}: {name!r} comes with code of its own, which is not run unless you ask for it with --trust_remote_code"
    )
