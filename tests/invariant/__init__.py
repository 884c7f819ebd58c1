"""What must stay equal, bit for bit where it can, when the code is moved, renamed or made faster.

`pinned/` holds what the code made when the pins were written; the tests make it again and compare:

- `streams.json`: checksums of the first rows of small streams, served in one go and resumed half-way;
- `run/`: a checkpoint of a tiny run, which must be gone on from; `run.json`: the files that such a run leaves, the
  weights that it ends with, and those that going on from `run/` ends with (the checkpoint may be of another CPU);
- `losses.json`: the losses of ten steps of `UPTrainer`;
- `export.json`: checksums of the rows of an exported data set;
- `cards/`: the cards of a pretrained model, of its fine-tuning and of an exported data set;
- `flags.json`: the flags of the recipes and the values that they have when they are not given;
- `made_on.json`: the build of torch and the model of CPU that all of it was made on (only there are last bits equal).

The tests know the package only by its public names and by its recipes' files, so that they hold for any layout of its
modules. What is changed on purpose (a card's wording, a flag, a default) is pinned anew, and the difference read in
`git diff`:

    python -m tests.invariant.pin --yes            # all
    python -m tests.invariant.pin --yes flags cards  # some
"""
