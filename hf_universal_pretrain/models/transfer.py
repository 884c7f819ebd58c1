"""Warm starts: which parts of a pretrained model are taken, and what becomes of its embeddings.

Every weight belongs to one part, found by the kinds of the modules around it and not by one architecture's names:

| part | holds |
|---|---|
| `vocabulary` | the input embedding of tokens and the output layer over them, tied or not, with its bias |
| `positions` | other embeddings: of positions, token types, ... |
| `norms` | LayerNorm, RMSNorm and kin, wherever they stand |
| `attention` | what mixes positions: attention, linear attention, state-space, recurrent, convolutional mixers |
| `mlp` | what works on each position alone: feed-forward layers, experts and their routers |
| `other` | the rest: scalars of the residual stream, transformations before the output layer, ... |
"""

import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_universal_pretrain.models.tokenizers import token_bytes


PARTS = ("vocabulary", "positions", "norms", "attention", "mlp", "other")
# What `--transfer` takes beside the vocabulary, for which `--embeddings` speaks.
TAKES = {
    "all": {"positions", "norms", "attention", "mlp", "other"},
    "all_but_embeddings": {"norms", "attention", "mlp", "other"},
    "attention": {"attention"},
    "mlp": {"mlp"},
    "norms": {"norms"},
}
EMBEDDINGS = ("keep", "reinit", "mean", "match_by_text")

# Of an attribute's name or a module's class, lower case; the innermost that speaks decides, attention before mlp.
_ATTENTION = re.compile(
    r"att(entio)?n|mixer|mamba|rg_?lru|retention|^mlstm|delta_?net|short_?conv|selfoutput|temporal_block|rwkv.*time"
    r"|^(q|k|v|o|qkv|query|key|value)(_proj|_lin)?$|indexer|lightning|hyena|kda|^rel_attn|cca$"
)
_MLP = re.compile(
    r"mlp|feed_?forward|ffn?\d?$|ffn_|expert|moe|router|^gate$|^fc\d?$|^fc_|^lin[12]$|intermediate|output$|dense_h_to"
    r"|dense_4h|^wi|^wo$|glu|chunkff|channel_?mix|^(up|down|gate)_proj$"
)


@dataclass
class Taken:
    """What became of one weight; `norm` and `fresh_norm` are Frobenius norms: as it is now, as it was drawn."""

    name: str
    part: str
    action: str  # taken, re-drawn, skipped (shapes differ), around the mean, or "rows taken: n of m"
    shape: list[int]
    norm: float
    fresh_norm: float


def parts_of(model: PreTrainedModel) -> dict[str, str]:
    """The part that each weight and saved buffer of a model belongs to, by its name; tied weights stand once."""
    vocabulary = {id(weight) for weight in vocabulary_weights(model)}
    modules = dict(model.named_modules())
    parts = {}
    for name in _tensors(model):
        path, _, leaf = name.rpartition(".")
        module = modules[path]
        if id(getattr(module, leaf)) in vocabulary:
            parts[name] = "vocabulary"
        elif isinstance(module, nn.Embedding) or "Embedding" in type(module).__name__:
            parts[name] = "positions"
        elif "norm" in type(module).__name__.lower():
            parts[name] = "norms"
        else:
            parts[name] = _part_by_modules(name, modules)
    return parts


def _part_by_modules(name: str, modules: dict[str, nn.Module]) -> str:
    """The innermost module around the weight's own that speaks decides (its class before its name); else the weight's
    own module, or its name."""
    words = name.split(".")
    if "norm" in words[-1]:  # a norm's weight that lies in its mixer
        return "norms"
    for depth in (*range(len(words) - 2, 0, -1), len(words) - 1, len(words)):
        module = modules.get(".".join(words[:depth]))
        kind, attribute = type(module).__name__.lower(), words[depth - 1].lower() if depth else ""
        if re.search(r"(mlp|moe|ffn|experts?|router|feedforward)$", kind):
            return "mlp"
        if re.search(r"(layer|block|model|list|conv1d)$", kind):
            kind = ""  # a layer's class is named after all that is in it; Conv1D is GPT-2's linear layer
        for word in (kind, attribute):
            for part, pattern in (("attention", _ATTENTION), ("mlp", _MLP)):
                if pattern.search(word):
                    return part
    return "other"


def _tensors(model: PreTrainedModel) -> dict[str, Tensor]:
    """Weights and saved buffers by name, tied ones once."""
    saved = model.state_dict().keys()
    return {**dict(model.named_parameters()), **{n: b for n, b in model.named_buffers() if n in saved}}


def vocabulary_weights(model: PreTrainedModel) -> list[nn.Parameter]:
    """The input embedding of tokens and the output layer over them, with its bias; tied weights stand twice."""
    modules = [model.get_input_embeddings(), model.get_output_embeddings()]
    return [weight for module in modules if module is not None for weight in module.parameters(recurse=False)]


@torch.no_grad()
def transfer(
    source: PreTrainedModel,
    target: PreTrainedModel,
    take: str,
    embeddings: str,
    source_tokenizer: PreTrainedTokenizerBase,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    rescale_norms: bool = False,
) -> list[Taken]:
    """Copies parts of a pretrained model into a freshly drawn one of the same architecture, in place.

    Args:
        source: the pretrained model.
        target: random weights; its vocabulary may have another size.
        take: a key of `TAKES`.
        embeddings: of the vocabulary's rows. `"keep"`: as they are (same tokenizer). `"reinit"`: as freshly drawn.
            `"mean"`: drawn from a normal distribution around the mean of the source's rows, with their standard
            deviation in each dimension. `"match_by_text"`: tokens whose text is in both vocabularies keep their rows,
            special tokens are matched by their roles, the others are drawn as in `"mean"`.
        source_tokenizer: of the source.
        tokenizer: of the target.
        seed: of the rows that are drawn.
        rescale_norms: gives each matrix that is taken the Frobenius norm of the random one it replaces, so that a
            warm start differs in directions only.

    Returns:
        What became of each weight, in the model's order.

    Raises:
        ValueError: if rows are to be kept but the tokenizers differ in size.
    """
    if embeddings == "keep" and len(source_tokenizer) != len(tokenizer):
        raise ValueError(
            f"--embeddings keep: the pretrained tokenizer has {len(source_tokenizer)} tokens and --tokenizer "
            f"{len(tokenizer)}; choose reinit, mean or match_by_text"
        )
    old, random = _tensors(source), torch.Generator().manual_seed(seed)
    matches = _matches(source_tokenizer, tokenizer) if embeddings == "match_by_text" else {}
    usable = [i for i in range(len(source_tokenizer)) if i not in source_tokenizer.all_special_ids]
    table = []
    for (name, weight), part in zip(_tensors(target).items(), parts_of(target).values(), strict=True):
        fresh_norm = weight.float().norm().item()
        if part == "vocabulary":
            action = _transfer_rows(old.get(name), weight, embeddings, matches, usable, random)
        elif part not in TAKES[take]:
            action = "re-drawn"
        elif name not in old or old[name].shape != weight.shape:
            action = "skipped"
        else:
            weight.copy_(old[name])
            action = "taken"
        if rescale_norms and action not in ("re-drawn", "skipped") and weight.ndim > 1 and fresh_norm > 0:
            weight.mul_(fresh_norm / weight.float().norm().clamp(min=1e-12))
        table.append(Taken(name, part, action, list(weight.shape), weight.float().norm().item(), fresh_norm))
    return table


@torch.no_grad()
def shuffle_weights(model: PreTrainedModel, seed: int) -> None:
    """Puts the weights of each tensor into random order, in place: the values stay, what they do together does not."""
    random = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        order = torch.randperm(weight.numel(), generator=random)
        weight.copy_(weight.flatten()[order].view_as(weight))


def _transfer_rows(
    old: Tensor | None, new: Tensor, how: str, matches: dict[int, int], usable: list[int], random: torch.Generator
) -> str:
    """Fills a tensor whose first dimension is the vocabulary; says what was done."""
    if how == "reinit":
        return "re-drawn"
    if old is None or old.shape[1:] != new.shape[1:]:
        return "skipped"
    if how == "keep":
        rows = min(len(old), len(new))  # the rest only pads the vocabulary
        new[:rows] = old[:rows]
        return "taken" if len(old) == len(new) else f"rows taken: {rows} of {len(new)}"
    mean, spread = old[usable].mean(0), old[usable].std(0)
    new.copy_(mean + spread * torch.randn(new.shape, generator=random))
    if how == "mean":
        return "around the mean"
    new[list(matches)] = old[list(matches.values())]
    return f"rows taken: {len(matches)} of {len(new)}"


def _matches(old: PreTrainedTokenizerBase, new: PreTrainedTokenizerBase) -> dict[int, int]:
    """For each new token that the old vocabulary has too, its number there."""
    by_text: dict[bytes, int] = {}
    for number, text in enumerate(token_texts(old)):
        if text is not None:
            by_text.setdefault(text, number)
    found = {n: by_text[text] for n, text in enumerate(token_texts(new)) if text is not None and text in by_text}
    for role in ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id"):
        if getattr(old, role) is not None and getattr(new, role) is not None:
            found[getattr(new, role)] = getattr(old, role)
    return found


def token_texts(tokenizer: PreTrainedTokenizerBase) -> list[bytes | None]:
    """The bytes that each token stands for (see `token_bytes`); None for special tokens and those without a text."""
    special = set(tokenizer.all_special_ids)
    return [None if i in special or not text else text for i, text in enumerate(token_bytes(tokenizer))]


def transfer_table(table: list[Taken]) -> str:
    """For the screen: for each part and what became of it, the tensors, their weights, and how their norm compares."""
    lines = [f"  {'part':<12} {'what':<26} {'tensors':>8} {'weights':>13} {'norm / fresh':>13}"]
    for part in PARTS:
        for action in dict.fromkeys(taken.action for taken in table if taken.part == part):
            rows = [taken for taken in table if (taken.part, taken.action) == (part, action)]
            weights = sum(torch.Size(taken.shape).numel() for taken in rows)
            norm, fresh = (sum(getattr(t, n) ** 2 for t in rows) ** 0.5 for n in ("norm", "fresh_norm"))
            ratio = f"{norm / fresh:13.2f}" if fresh else f"{'-':>13}"
            lines.append(f"  {part:<12} {action:<26} {len(rows):>8} {weights:>13,} {ratio}")
    return "\n".join(lines)
