"""`python recipes/export_dataset.py -h` is `hf-up export -h`; see `hf_universal_pretrain/commands/export.py`."""

from hf_universal_pretrain.commands.export import main


if __name__ == "__main__":
    main()
