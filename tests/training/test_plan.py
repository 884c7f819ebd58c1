import dataclasses
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedTokenizerFast

from hf_universal_pretrain import SyntheticUPConfig, UPConfig
from hf_universal_pretrain.models.build import build_config, build_model
from hf_universal_pretrain.models.cost import training_flops_per_token
from hf_universal_pretrain.stream.families import build_family
from hf_universal_pretrain.stream.mixture import generation_flops_per_symbol
from hf_universal_pretrain.training.plan import plan_table
from tests.models.test_build import SMALL


@pytest.mark.parametrize(
    "name, overrides",
    [
        ("gpt2", "n_layer=3,n_embd=64,n_head=2,n_positions=128"),
        ("qwen3", f"{SMALL},num_attention_heads=2,num_key_value_heads=2,intermediate_size=64,head_dim=16"),
    ],
)
def test_training_flops_against_a_counter(name: str, overrides: str, tokenizer: PreTrainedTokenizerFast) -> None:
    """Within 2 % of what torch counts, forward and backward; eager attention reads all of the context."""
    model = build_model(build_config(name, tokenizer, overrides), 0)
    model.set_attn_implementation("eager")
    rows = torch.randint(3, 259, (2, 128))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=rows, labels=rows).loss.backward()
    unread_half = 6 * model.config.num_hidden_layers * model.config.hidden_size * 128
    counted = counter.get_total_flops() / rows.numel() - unread_half
    assert training_flops_per_token(model, 128) == pytest.approx(counted, rel=0.02)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_generation_flops_against_a_counter(cell: str, small_data: SyntheticUPConfig, monkeypatch) -> None:
    """Equal to what torch counts in a long run, but for the look-up tables, which are made once."""
    data = dataclasses.replace(small_data, machines=cell, num_layers=2, alphabet_size=16)
    family = build_family(cell, data)
    generator = torch.Generator().manual_seed(0)
    machines = family.draw(8, generator)
    conditions = torch.zeros(8, 500, dtype=torch.int64)
    # torch's counter overlooks this product where it is done in place
    monkeypatch.setattr(
        torch.Tensor, "baddbmm_", lambda gates, h, weight: gates.copy_(torch.baddbmm(gates, h, weight))
    )
    with FlopCounterMode(display=False) as counter:
        machines.generate(conditions[:, :1], conditions, generator)
    assert generation_flops_per_symbol(data) == pytest.approx(counter.get_total_flops() / conditions.numel(), rel=0.05)


def test_plan_counts_what_the_run_will_do(
    small_data: SyntheticUPConfig, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = build_model(build_config("gpt2", tokenizer, "n_layer=1,n_embd=16,n_head=1"), 0, empty=True)
    args = UPConfig(
        str(tmp_path), max_steps=10, per_device_train_batch_size=4, gradient_accumulation_steps=2, use_cpu=True
    )
    table = plan_table(model, args, small_data)
    assert "10 steps x 8 rows x 32 = 2,560 tokens" in table
    assert "12 rounds x 8 rows = 3,072 symbols" in table  # 2 of burn-in, 1 for each 8 rows
    assert "lstm 50%, context_tree 50%" in table
