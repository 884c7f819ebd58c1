"""trl's SFTTrainer on the synthetic stream, and on rows that were exported, packed.

pip install trl
python examples/trl_sft.py
"""

import os
import subprocess
import sys

from datasets import List, Value, load_dataset
from trl import SFTConfig, SFTTrainer

from hf_universal_pretrain import SyntheticUPConfig, SyntheticUPDataset
from hf_universal_pretrain.models.build import build_config, build_model
from hf_universal_pretrain.models.tokenizers import build_tokenizer


STEPS = int(os.environ.get("STEPS", 100))

tokenizer = build_tokenizer("byte")
SIZES = "num_hidden_layers=2,hidden_size=128,intermediate_size=256,num_attention_heads=4,num_key_value_heads=4"


def train(rows, folder: str, **settings) -> None:
    """Trains a small Llama on rows that are tokens already."""
    arguments = SFTConfig(
        folder, max_steps=STEPS, learning_rate=1e-3, logging_steps=20, use_cpu=True, bf16=False, max_length=256,
        eos_token=tokenizer.eos_token, report_to="none", **settings,
    )  # fmt: skip
    model = build_model(build_config("llama", tokenizer, SIZES), seed=0)
    SFTTrainer(model, args=arguments, train_dataset=rows, processing_class=tokenizer).train()


# ---- The stream, made as it is read ----
stream = SyntheticUPDataset(SyntheticUPConfig(machines="language@16", context_length=128), tokenizer)
train(stream.to_hf(), "out/trl_stream")

# ---- Exported rows, two of them packed into one of 256 tokens ----
export = "--rows 2000 --context_length 128 --machines language@16 --num_proc 1 --output out/trl_rows"
subprocess.run([sys.executable, "-m", "hf_universal_pretrain", "export", *export.split()], check=True)
exported = load_dataset("out/trl_rows", split="train")
exported = exported.cast_column("input_ids", List(Value("int64")))  # trl packs lists of no fixed length
train(exported, "out/trl_packed", packing=True, packing_strategy="wrapped")
