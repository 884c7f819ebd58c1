"""`python -m hf_universal_pretrain` is `hf-up`."""

from hf_universal_pretrain.cli import main


main()
