"""What a run is going to cost, worked out before it starts."""

from typing import cast

from torch import nn
from transformers import PreTrainedModel

from hf_universal_pretrain.models.cost import training_flops_per_token
from hf_universal_pretrain.stream.config import SyntheticUPConfig
from hf_universal_pretrain.stream.mixture import generation_flops_per_symbol
from hf_universal_pretrain.training.config import UPConfig


def plan_table(model: PreTrainedModel, args: UPConfig, data: SyntheticUPConfig) -> str:
    """The plan that `pretrain.py` prints: parameters, tokens, FLOPs of training and of generation."""
    rows = args.per_device_train_batch_size * max(1, args.n_gpu) * args.gradient_accumulation_steps
    rows_a_step = rows * args.world_size
    tokens = args.max_steps * rows_a_step * data.context_length
    rounds = data.burn_in_rounds + args.max_steps * rows // data.rows_per_round
    symbols = rounds * data.source_batch * data.context_length * args.world_size
    training = tokens * training_flops_per_token(model, data.context_length)
    generating = symbols * generation_flops_per_symbol(data)
    bodies = model.num_parameters(exclude_embeddings=True)
    vocabulary, width = cast(nn.Embedding, model.get_input_embeddings()).weight.shape
    lines = {
        "model": model.name_or_path or f"{model.config.model_type}, random weights",
        "parameters": f"{model.num_parameters():,} ({bodies:,} without embeddings)",
        "vocabulary": f"{vocabulary:,} tokens, width {width:,}",
        "training": f"{args.max_steps:,} steps x {rows_a_step:,} rows x {data.context_length:,} = {tokens:,} tokens",
        "training FLOPs": f"{training:.2e}",
        "machines": ", ".join(f"{name} {share:.0%}" for name, share in data.mixture.items()),
        "generation": f"{rounds * args.world_size:,} rounds x {data.source_batch:,} rows = {symbols:,} symbols",
        "generation FLOPs": f"{generating:.2e} ({generating / training:.1%} of training)",
        "devices": f"{args.world_size} x {args.device.type}",
        "output": str(args.output_dir),
    }
    return "\n".join(f"  {name:<17} {value}" for name, value in lines.items())
