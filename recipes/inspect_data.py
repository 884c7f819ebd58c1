"""`python recipes/inspect_data.py -h` is `hf-up inspect -h`; see `hf_universal_pretrain/commands/inspect.py`."""

from hf_universal_pretrain.commands.inspect import main


if __name__ == "__main__":
    main()
