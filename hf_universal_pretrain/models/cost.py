"""What training a model costs, in floating-point operations."""

from typing import cast

from torch import nn
from transformers import PreTrainedModel

from hf_universal_pretrain.models.overrides import text_part


def training_flops_per_token(model: PreTrainedModel, context_length: int) -> float:
    """Forward and backward pass: 6 FLOPs for each weight that a token meets in a matrix product (the output layer
    included, embeddings not), and 6 * layers * width * context for attention to, on average, half the context.

    An estimate: exact for a dense transformer, high for state-space and mixture-of-experts models.
    """
    config = text_part(model.config)
    weights = model.num_parameters(exclude_embeddings=True)
    output = model.get_output_embeddings()
    if output is not None and output.weight is model.get_input_embeddings().weight:
        weights += cast(nn.Parameter, output.weight).numel()  # tied: counted out as an embedding
    # a hierarchy of models has no one depth and width: there, attention is left out
    depth, width = (getattr(config, name, 0) for name in ("num_hidden_layers", "hidden_size"))
    return 6.0 * weights + 6.0 * depth * width * context_length
