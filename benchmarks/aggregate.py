"""Time and memory of the tables of all metrics and of the figures, as a study grows.

    .venv/bin/python benchmarks/aggregate.py --runs 100 300 1000

The metrics are made up. A run is 10 tasks of CIFAR-100 with three classifiers. With --classes 1000
it is 10 tasks of ImageNet. Time and memory should grow no faster than the runs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from dag import ROOT, config

from wa.study.study import Study


def metrics(task: int, draw: np.random.Generator) -> dict:
    """What wa.evaluate says of a task: a classifier's accuracies, and the norms of its rows."""
    names = [
        "accuracy",
        "top5_accuracy",
        "accuracy_old",
        "accuracy_new",
        *(f"accuracy_task_{j}" for j in range(task + 1)),
    ]
    norms = [f"row_norm_{c}" for c in range(10 * (task + 1))]
    return {
        classifier: dict(zip(names, draw.uniform(0, 100, len(names)).tolist(), strict=True))
        | (
            dict(zip(norms, draw.uniform(0, 2, len(norms)).tolist(), strict=True))
            if classifier != "nme"
            else {}
        )
        for classifier in ("trained", "aligned", "nme")
    }


def measure(*command: str) -> str:
    """Processor time and peak memory of a program of wa/."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command], env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command[0]} failed")
    return f"{usage.ru_utime + usage.ru_stime:6.1f} s {usage.ru_maxrss / 2**10:6.0f} MiB"


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Processor time and memory of aggregate and figures, by number of runs."
    )
    parser.add_argument(
        "--runs", type=int, nargs="+", default=[100, 300, 1000], help="multiples of 100"
    )
    args = parser.parse_args()
    for runs in args.runs:
        with tempfile.TemporaryDirectory() as folder:
            study, draw = Study(config(runs), results=folder), np.random.default_rng(0)
            for run in study.runs():
                for number, task in enumerate(run):
                    Path(task.path).mkdir(parents=True)
                    Path(task.path, "metrics.json").write_text(
                        json.dumps(metrics(number, draw)), encoding="utf-8"
                    )
            table = f"{study.root}/metrics.csv"
            programs = {
                "aggregate": [
                    "wa.analysis.aggregate",
                    "--study",
                    study.run_table().to_json(),
                    "--output",
                    table,
                ]
            }
            for figure, kind in (("accuracy", "svg"), ("final", "md")):
                options = [
                    "--study",
                    study.run_table().to_json(),
                    "--metrics",
                    table,
                    "--output",
                    f"{folder}/{figure}.{kind}",
                ]
                programs[figure] = ["wa.analysis.figures", figure, *options]
            said = [f"{name} {measure(*command)}" for name, command in programs.items()]
            print(
                f"{runs} runs: "
                + ", ".join(said)
                + f"; table {Path(table).stat().st_size / 2**20:.0f} MiB",
                flush=True,
            )


if __name__ == "__main__":
    main()
