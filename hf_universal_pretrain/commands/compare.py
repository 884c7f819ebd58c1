"""Does it help? Arms of an experiment, seed by seed, from one YAML file.

    python recipes/compare.py --config recipes/configs/compare_cpu.yaml
    python recipes/compare.py --config recipes/configs/compare_cpu.yaml --only scratch up --seeds 0
    python recipes/compare.py --config recipes/configs/compare_cpu.yaml --dry_run
    python recipes/compare.py --config recipes/configs/compare_cpu.yaml --output_dir out/short \\
        --override finetune.max_steps=150 pretrain.max_steps=225

An arm is a way to come by a model before real-text training, which is the same for all: the same architecture, rows
and order (by seed), and number of steps. In the YAML, `arms` maps names to:

    scratch: {}                                      # random weights
    up: {pretrain: {FLAG: VALUE, ...}}               # recipes/pretrain.py with these flags on top of the common ones
    text: {text: true}                               # as many tokens, steps and rows of other real text instead
    shuffled: {weights_of: up, shuffle_weights: true}  # of another arm or a `model`, within each tensor
    found: {model: DIR_OR_HUB_ID}                    # a model that is there already; {seed} in it: one for each seed
    partly: {weights_of: up, finetune: {transfer: attention}}  # flags of recipes/finetune.py on top

For each arm the learning rate of the real-text stage is swept on a stream of its own: the rows of `sweep_seed`, judged
on a text that is used for nothing else. Then each seed is run at that rate and judged on the held-out text. The
training file is dealt out in blocks: to the real-text stage, to arm `text`, to the sweep's judgement, and (without
`eval_file`) to the held-out text.

Each run is a process of its own (`pretrain.py`, `finetune.py`) in a folder of its own under `output_dir`; one that is
finished is skipped, one that was cut off goes on from its last checkpoint. A run that fails is told and kept in the
results, and tried again next time. Arms that `--only` leaves out keep the runs that they have. `comparison.json`,
`.md` and `.png` in `output_dir` are written anew after each arm.
"""

import json
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from hf_universal_pretrain.commands.arguments import parse_args, relative_paths, told_command
from hf_universal_pretrain.commands.endings import alone_in, disk_errors, stoppable, usage_errors
from hf_universal_pretrain.commands.experiment import METRIC, Experiment, ScriptArguments
from hf_universal_pretrain.masking import mask_values
from hf_universal_pretrain.runs.comparison import (
    compare,
    markdown,
    plot_comparison,
    verdict,
)


def write_results(root: Path, script: ScriptArguments, measured: dict[str, dict[str, Any]]) -> str:
    """Writes `comparison.json`, `.md` and `.png`; returns the table."""
    reference, results = measured.get(script.reference, {}).get("runs", {}), {}
    for arm, found in measured.items():
        told = {key: value for key, value in found.items() if key != "runs"}
        compared = compare(found["runs"], reference, script.targets) if found["runs"] else {}
        results[arm] = {**told, **compared, "curves": {seed: run.curve for seed, run in found["runs"].items()}}
    table = markdown(results, script.targets)
    settings = vars(script) | {"arms": script.specs}
    settings |= {"pretrain": settings.pop("pretrain_flags"), "finetune": settings.pop("finetune_flags")}
    del settings["specs"]
    content = {
        "command": told_command("compare"), "judged": METRIC,
        "settings": relative_paths(mask_values(settings)),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {script.threads} thread(s)",
        "versions": {name: version(name) for name in ("torch", "transformers", "hf_universal_pretrain")},
        "arms": results,
    }  # fmt: skip
    (root / "comparison.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (root / "comparison.md").write_text(table + "\n", encoding="utf-8")
    drawn = {arm: found["runs"] for arm, found in measured.items() if found["runs"]}
    plot_comparison(drawn, root / "comparison.png", script.reference)
    return table


def verdicts(measured: dict[str, dict[str, Any]], reference: str) -> str:
    """A sentence for each arm beside the reference: how much real text it saves."""
    told = measured.get(reference, {}).get("runs", {})
    others = {arm: found["runs"] for arm, found in measured.items() if arm != reference and found["runs"]}
    return "\n".join(verdict(arm, runs, reference, told) for arm, runs in others.items())


def main() -> None:
    with usage_errors():
        (script,) = parse_args((ScriptArguments,), __doc__, lambda asked: {})
    with (
        stoppable("Finished runs are kept: the same command goes on with the others"),
        alone_in(script.output_dir, "--output_dir", here=not script.dry_run),
    ):
        run(script)


def run(script: ScriptArguments) -> None:
    """The command, with its flags read and its folder locked."""
    chosen = [arm for arm in script.specs if not script.only or arm in script.only]
    runs_an_arm = len(script.seeds) + (len(script.learning_rates) if len(script.learning_rates) > 1 else 0)
    if script.dry_run:
        print(f"{len(chosen)} arms ({', '.join(chosen)}), {runs_an_arm} runs of real-text training each")
        return
    total = len(chosen) * runs_an_arm
    with disk_errors(script.output_dir), tqdm(total=total, desc="Real-text runs", unit="run") as bar:
        experiment = Experiment(script, bar)
        with usage_errors():
            experiment.prepare()
        # a thread for each arm, which waits for the arm's runs
        with ThreadPoolExecutor(script.jobs) as pool, ThreadPoolExecutor(len(script.specs)) as waiting:
            experiment.starts_runs = False
            others = {arm: experiment.measure(arm, pool) for arm in script.specs if arm not in chosen}
            measured = {arm: found for arm, found in others.items() if found["runs"]}
            experiment.starts_runs = True
            try:
                begun = {waiting.submit(experiment.measure, arm, pool): arm for arm in chosen}
                for future in as_completed(begun):
                    measured[begun[future]] = future.result()
                    measured = {arm: measured[arm] for arm in script.specs if arm in measured}
                    table = write_results(experiment.root, script, measured)
            except BaseException:  # interrupted: without this, the pool would go on to the end
                experiment.stop()
                raise
    print(f"{table}\n\n{verdicts(measured, script.reference)}")
    print(f"The results are in {experiment.root}/comparison.json, .md and .png")
    if any(measured[arm]["failed"] for arm in chosen):
        raise SystemExit(1)
