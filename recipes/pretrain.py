"""`python recipes/pretrain.py -h` is `hf-up pretrain -h`; see `hf_universal_pretrain/commands/pretrain.py`."""

from hf_universal_pretrain.commands.pretrain import main


if __name__ == "__main__":
    main()
