"""Measures export_dataset.py: rows a second and peak memory at several numbers of rows.

    python recipes/measure_export.py --rows 20000 60000 1000000 --json recipes/results/export.json

Each size is one run of the recipe as a user would start it, into an empty folder that is deleted afterwards. The
figures are those that the recipe prints.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path


RECIPE = Path(__file__).parent / "export_dataset.py"
PRINTED = re.compile(
    r"([\d,]+) rows written in ([\d.,]+) s by (\d+) processes: ([\d,]+) rows/s, "
    r"peak memory ([\d,]+) MB a process; ([\d.,]+) MB on disk"
)
NAMES = ("rows", "seconds", "processes", "rows_per_second", "peak_mb_a_process", "mb_on_disk")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", required=True, help="numbers of rows to export, one run each")
    parser.add_argument("--context_length", type=int, default=512, help="tokens in a row (default: 512)")
    parser.add_argument("--json", required=True, metavar="OUT", help="file for the figures")
    args = parser.parse_args()

    runs = []
    for rows in args.rows:
        with tempfile.TemporaryDirectory() as folder:
            flags = ["--rows", str(rows), "--context_length", str(args.context_length)]
            command = [sys.executable, str(RECIPE), *flags, "--output", folder]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        figures = (float(figure.replace(",", "")) for figure in PRINTED.search(done.stdout).groups())
        runs.append(dict(zip(NAMES, figures, strict=True)))
        print(runs[-1], flush=True)
    content = {
        "command": f"python recipes/measure_export.py --rows {' '.join(map(str, args.rows))} "
        f"--context_length {args.context_length} --json {args.json}",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "runs": runs,
    }
    Path(args.json).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
