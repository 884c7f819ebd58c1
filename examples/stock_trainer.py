"""The stock Trainer of transformers on the synthetic stream, which is made as it is read.

    python examples/stock_trainer.py

`DataCollatorForLanguageModeling` makes labels of its own. Of families that leave symbols unjudged (`procedural`), take
`default_data_collator` instead: it keeps the stream's labels.
"""

import os

from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

from hf_universal_pretrain import SyntheticUPConfig, SyntheticUPDataset
from hf_universal_pretrain.models.build import build_config, build_model
from hf_universal_pretrain.models.tokenizers import build_tokenizer


STEPS = int(os.environ.get("STEPS", 200))

tokenizer = build_tokenizer("byte")
stream = SyntheticUPDataset(SyntheticUPConfig(machines="language@16", context_length=128), tokenizer)
trainer = Trainer(
    model=build_model(build_config("gpt2", tokenizer, "n_layer=2,n_embd=128,n_head=4"), seed=0),
    args=TrainingArguments("out/stock_trainer", max_steps=STEPS, learning_rate=1e-3, logging_steps=20, use_cpu=True),
    train_dataset=stream.to_hf(),
    data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
    processing_class=tokenizer,
)
trainer.train()
trainer.save_model()
