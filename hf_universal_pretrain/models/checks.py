"""Two questions that only running a model answers: does it see what it is to predict, and is its loss what it says?

`AutoModelForCausalLM` also makes encoders that look ahead, decoders whose loss expects labels that are already
shifted, and models that cannot do without an image. Two short forward passes tell.
"""

import inspect

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.loss.loss_utils import ForCausalLMLoss

from hf_universal_pretrain.errors import first_line
from hf_universal_pretrain.models.build import embedding_count


@torch.no_grad()
def check_causal(model: PreTrainedModel, length: int) -> None:
    """Refuses a model that cannot read a row of tokens, or that looks ahead.

    A short row is read twice, the second time with other tokens in its last quarter: what the model predicts before
    that must not change. A whole row is read in training mode, where some models are pickier.

    Args:
        model: with its weights in memory; on torch's "meta" device there is nothing to check.
        length: of the row, in tokens.

    Raises:
        ValueError: if it cannot read the row, gives no logits for each token, or looks ahead.
    """
    if _is_empty(model):
        return
    tokens = embedding_count(model)
    whole = torch.randint(tokens // 2, tokens - 1, (1, length), generator=torch.Generator().manual_seed(0))
    row = whole[:, :32]
    other, known = row.clone(), row.shape[1] - max(1, row.shape[1] // 4)
    other[:, known:] += 1
    try:
        first, second = _logits(model, row), _logits(model, other)
        with torch.random.fork_rng():
            _logits(model, whole, training=True)
    except Exception as error:  # whatever a model says of inputs that it cannot do without
        raise ValueError(
            f"--model: {model.config.model_type!r} cannot read a row of {length} tokens alone "
            f"({first_line(error)}); choose another architecture or --context_length"
        ) from error
    if first.shape[:2] != row.shape:
        raise ValueError(f"--model: {model.config.model_type!r} does not predict each token of a row; choose another")
    # float32 sums in another order differ by far less; a model that looks ahead differs by the size of its logits
    if (first - second)[:, :known].abs().max() > 1e-3 * first.std():
        raise ValueError(
            f"--model: {model.config.model_type!r} looks ahead (a later token changes an earlier prediction), so its "
            "loss would mean nothing; choose a causal architecture"
        )


def causal_loss(outputs: dict[str, Tensor], labels: Tensor, num_items_in_batch: Tensor | None = None) -> Tensor:
    """Mean cross-entropy in nats of predicting token t + 1 at t: a `compute_loss_func` for the Trainer."""
    logits = outputs["logits"].contiguous()
    return ForCausalLMLoss(logits, labels, vocab_size=logits.shape[-1], num_items_in_batch=num_items_in_batch)


@torch.no_grad()
def has_causal_loss(model: PreTrainedModel) -> bool:
    """Whether the model's own loss predicts token t + 1 at t, and divides by what the Trainer tells it to.

    If only the first token of a row has a label there is nothing to predict: the mean is NaN. A loss that does not
    shift finds a label, and would be trained to copy. A loss that breaks on text alone counts as no loss.
    """
    if _is_empty(model):
        return True
    row = torch.arange(3, 11, device=model.device)[None]
    first_only = torch.full_like(row, -100)
    first_only[0, 0] = row[0, 0]
    counts = any(p.kind == p.VAR_KEYWORD for p in inspect.signature(model.forward).parameters.values())
    was_training = model.training
    model.eval()
    try:
        loss = model(input_ids=row, labels=first_only, use_cache=False)["loss"]
        if loss.isfinite() and loss != 0:
            return False
        mean = model(input_ids=row, labels=row, use_cache=False)["loss"]
        if not counts:  # the Trainer does not ask it to divide
            return True
        return bool(
            model(input_ids=row, labels=row, use_cache=False, num_items_in_batch=row.new_tensor(14))["loss"]
            < 0.75 * mean
        )
    except Exception:
        return False
    finally:
        model.train(was_training)


def _logits(model: PreTrainedModel, row: Tensor, training: bool = False) -> Tensor:
    was_training = model.training
    model.train(training)
    try:
        return model(input_ids=row.to(model.device), use_cache=False).logits.float()
    finally:
        model.train(was_training)


def _is_empty(model: PreTrainedModel) -> bool:
    """On torch's "meta" device, or with its weights elsewhere (DeepSpeed's ZeRO 3)."""
    return any(weight.is_meta or not weight.numel() for weight in model.parameters())
