"""Tokenizers from names, and the tokens of one that synthetic rows may be made of."""

from typing import Literal

from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerBase

from hf_universal_pretrain.errors import first_line


# ASCII from the blank to the tilde, tabs and line feeds
PRINTABLE = frozenset(map(chr, [9, 10, *range(32, 127)]))


def build_tokenizer(name: str, flag: str = "--tokenizer", trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The byte tokenizer for `"byte"` (ByT5's without extra ids: 256 bytes and 3 special tokens), else the tokenizer
    of a local folder or a Hub repository.

    Tokens that the tokenizer's file marks as special but that have no role (`<|im_start|>` and kin) are given to
    `extra_special_tokens`, so that `all_special_ids` has them and the synthetic stream never produces them.

    Code that comes with a tokenizer or a model runs only with `trust_remote_code`, here and below.

    Raises:
        ValueError: if there is no such tokenizer; the message names `flag`.
    """
    if name == "byte":
        return ByT5Tokenizer(extra_ids=0)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)
    except Exception as error:  # a broken file is reported by a library in Rust, with errors of its own
        raise ValueError(
            needs_its_code(error, flag, name)
            or f"{flag}: no tokenizer at {name!r} ({first_line(error)}); give 'byte', a folder or a Hub id"
        ) from error
    known = set(tokenizer.all_special_ids)
    extra = [str(token) for i, token in tokenizer.added_tokens_decoder.items() if token.special and i not in known]
    if extra:
        tokenizer.add_special_tokens({"extra_special_tokens": extra}, replace_extra_special_tokens=False)
    return tokenizer


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


def needs_its_code(error: Exception, flag: str, name: str) -> str | None:
    """What to say if a model or a tokenizer was refused because it comes with code; None if that is not the reason."""
    if "trust_remote_code" not in str(error):
        return None
    return (
        f"{flag}: {name!r} comes with code of its own, which is not run unless you ask for it with --trust_remote_code"
    )
