"""Tokenizers of other kinds than bytes, each as small as can be, trained where they are made."""

import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import CTRLTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast


TEXT = ["the cat and the hat, and the bat! " * 20, "ab cd ef ghi jkl mno pqr stu vwx yz 0123456789 . , ; - \n" * 3]


def sentencepiece_with_bytes() -> PreTrainedTokenizerFast:
    """As Llama's: a blank before the text, and what is not known as bytes."""
    of_bytes = [f"<0x{byte:02X}>" for byte in range(256)]
    core = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    special = ["<unk>", "<s>", "</s>", *of_bytes]
    core.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=360, special_tokens=special, show_progress=False))
    described = json.loads(core.to_str())
    described["added_tokens"] = described["added_tokens"][:3]  # the bytes are tokens like others
    core = Tokenizer.from_str(json.dumps(described))
    core.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def sentencepiece_that_normalises() -> PreTrainedTokenizerFast:
    """As T5's: compatibility characters become plain ones, blanks become one, and what is not known `<unk>`."""
    core = Tokenizer(models.Unigram())
    core.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    core.pre_tokenizer, core.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=60, unk_token="<unk>", special_tokens=["<unk>", "<pad>"], show_progress=False
    )
    core.train_from_iterator(TEXT, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", pad_token="<pad>")


def bytes_that_normalise() -> PreTrainedTokenizerFast:
    """Byte-level BPE of a text whose compatibility characters have become plain ones, of which there may be more."""
    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.NFKC()
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator(TEXT, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core)


def words() -> PreTrainedTokenizerFast:
    """As BERT's: no capitals, no accents, no blanks, and `[UNK]` for what is not known."""
    core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.normalizer, core.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=100, special_tokens=["[UNK]", "[PAD]"], show_progress=False)
    core.train_from_iterator(TEXT, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]", pad_token="[PAD]")


def slow(folder: Path) -> PreTrainedTokenizerBase:
    """As CTRL's: words in pieces, in Python; it does not tell which characters a token covers."""
    (folder / "vocab.json").write_text(
        '{"<unk>": 0, "t@@": 1, "h@@": 2, "e</w>": 3, "the": 4, "a": 5, "n": 6, "t": 7, "th@@": 8, "i@@": 9}'
    )
    (folder / "merges.txt").write_text("#version: 0.2\nt h\nth e</w>\n")
    return CTRLTokenizer(folder / "vocab.json", folder / "merges.txt")


ODD = {
    "sentencepiece with bytes": sentencepiece_with_bytes,
    "sentencepiece that normalises": sentencepiece_that_normalises,
    "bytes that normalise": bytes_that_normalise, "words": words,
}  # fmt: skip
