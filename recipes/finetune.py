"""`python recipes/finetune.py -h` is `hf-up finetune -h`; see `hf_universal_pretrain/commands/finetune.py`."""

from hf_universal_pretrain.commands.finetune import main


if __name__ == "__main__":
    main()
