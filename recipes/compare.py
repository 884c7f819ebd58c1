"""`python recipes/compare.py -h` is `hf-up compare -h`; see `hf_universal_pretrain/commands/compare.py`."""

from hf_universal_pretrain.commands.compare import main


if __name__ == "__main__":
    main()
