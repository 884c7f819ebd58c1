# /// script
# requires-python = ">=3.11"
# dependencies = ["hf_universal_pretrain"]
# ///
"""A pretraining run on a machine of Hugging Face's, for whoever has no GPU; the model goes to the Hub.

    hf jobs uv run --flavor a10g-small --secrets HF_TOKEN examples/hf_job.py --hub_model_id ORG/NAME
    uv run examples/hf_job.py --max_steps 20 --use_cpu      # the same here, without the Hub

What stands behind the file's name are flags of `hf-up pretrain`; they win over those below. `uv` reads the header and
installs what is named there. Not run on the Hub so far; flavors are listed by `hf jobs hardware`.
"""

import sys

from hf_universal_pretrain.commands.pretrain import main


given = sys.argv[1:]
flags = ["--model", "gpt2", "--context_length", "1024", "--max_steps", "20000", "--per_device_train_batch_size", "16"]
flags += ["--learning_rate", "6e-4", "--warmup_steps", "1000"]
if "--use_cpu" not in given:
    flags += ["--bf16", "true"]
if "--hub_model_id" in given:
    flags += ["--push_to_hub"]
sys.argv = ["hf_job.py", *flags, *given]
main()
