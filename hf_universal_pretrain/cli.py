"""`hf-up COMMAND ...`, and the same as `python -m hf_universal_pretrain COMMAND ...`.

The name is one that `hf extensions` finds, so that `hf up COMMAND ...` works where it is installed.
"""

import importlib
import sys
from importlib.metadata import version


COMMANDS = {
    "pretrain": "pretrain a language model on synthetic data, before any real text",
    "finetune": "go on from a pretrained model on real text, or from random weights",
    "evaluate": "measure models: bits per byte on texts, bits on probes, beside simple baselines",
    "inspect": "show what a buffer of synthetic rows holds: a page, pictures, figures",
    "export": "write the synthetic stream as a data set (parquet, with a card)",
    "compare": "run arms of an experiment, seed by seed, and make the table and the plot",
}


def overview() -> str:
    """What `hf-up -h` prints."""
    lines = [f"  {name:<10} {does}" for name, does in COMMANDS.items()]
    return "\n".join(
        ["usage: hf-up COMMAND [flags]", "", "Universal pretraining: train a language model before any real text.", ""]
        + [*lines, "", "hf-up COMMAND -h tells the flags of a command; --config FILE.yaml sets any of them."]
    )


def main() -> None:
    """Runs the command that the command line names; exit status 2 where it names none."""
    name, rest = (sys.argv[1] if len(sys.argv) > 1 else "-h"), sys.argv[2:]
    if name in ("-h", "--help"):
        print(overview())
    elif name in ("-V", "--version"):
        print(version("hf_universal_pretrain"))
    elif name in COMMANDS:
        sys.argv = [f"hf-up {name}", *rest]
        importlib.import_module(f"hf_universal_pretrain.commands.{name}").main()  # torch is not needed for the rest
    else:
        print(f"hf-up: error: {name!r} is no command; known: {', '.join(COMMANDS)}", file=sys.stderr)
        raise SystemExit(2)
