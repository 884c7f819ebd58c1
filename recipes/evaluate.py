"""`python recipes/evaluate.py -h` is `hf-up evaluate -h`; see `hf_universal_pretrain/commands/evaluate.py`."""

from hf_universal_pretrain.commands.evaluate import main


if __name__ == "__main__":
    main()
