"""Time and memory of the tables of all metrics, of statistics and figures, as a study grows.

    .venv/bin/python benchmarks/aggregate.py --runs 100 300 1000

The metrics are made up. A run is 10 tasks of CIFAR-100 with three classifiers. With --dataset
imagenet1000 it is 10 tasks of 100 classes. Time and memory should grow no faster than the runs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from dag import ROOT, SIZES, config

from wa.analysis.figures.catalog import TABLES
from wa.files import write_json
from wa.study.study import Study

CLASSIFIERS = ("trained", "aligned", "nme")


def metrics(task: int, seen: int, draw: np.random.Generator) -> dict:
    """What wa.analysis.evaluate says of a task after which `seen` classes are known.

    That is each classifier's accuracies, the norms of its rows, and counts of each class.
    """
    names = [
        "accuracy",
        "top5_accuracy",
        "accuracy_old",
        "accuracy_new",
        *(f"accuracy_task_{j}" for j in range(task + 1)),
    ]
    norms = [f"row_norm_{c}" for c in range(seen)]
    counts = {name: draw.integers(0, 51, seen).tolist() for name in CLASSIFIERS}
    return {"classes": {"images": [50] * seen} | counts} | {
        classifier: dict(zip(names, draw.uniform(0, 100, len(names)).tolist(), strict=True))
        | (
            dict(zip(norms, draw.uniform(0, 2, len(norms)).tolist(), strict=True))
            if classifier != "nme"
            else {}
        )
        for classifier in CLASSIFIERS
    }


def folder_of(dataset: str, folder: Path) -> dict[str, str]:
    """The key `path` of a config. A data set that is not built in gets a folder of empty files."""
    if dataset == "cifar100":
        return {}
    for split in ("train", "val"):
        for c in range(1000):
            file = folder / split / f"n{c:08d}" / "0.JPEG"
            file.parent.mkdir(parents=True)
            file.touch()
    return {"path": str(folder)}


def invent(study: Study) -> None:
    """Write the class orders, and the metrics of all tasks."""
    draw = np.random.default_rng(0)
    for order, classes in study.orders.items():
        names = [f"class {c}" for c in classes]
        write_json(f"{study.root}/order-{order}/order.json", {"order": classes, "names": names})
    for run in study.runs():
        for number, task in enumerate(run):
            found = metrics(number, sum(task.sizes), draw)
            write_json(f"{task.path}/metrics.json", found)


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
    parser.add_argument("--dataset", choices=SIZES, default="cifar100")
    args = parser.parse_args()
    for runs in args.runs:
        with tempfile.TemporaryDirectory() as folder:
            images = folder_of(args.dataset, Path(folder, "images"))
            study = Study(config(runs, args.dataset) | images, results=folder)
            invent(study)
            table, classes = f"{study.root}/metrics.csv", f"{study.root}/classes.csv"
            programs = {
                "aggregate": [
                    "wa.analysis.aggregate",
                    "--study",
                    study.run_table().to_json(),
                    "--output",
                    table,
                    "--classes",
                    classes,
                ]
            }
            one = study.run_table(study.protocols[0])  # the figure of classes is of one protocol
            drawn = [("accuracy", "svg", study.run_table(), table)]
            drawn += [(name, "svg", study.run_table(), table) for name in ("paired", "mean_ranks")]
            drawn += [("classes", "svg", one, classes)]
            of_metrics = [name for name, entry in TABLES.items() if entry.reads == "metrics"]
            drawn += [(name, "md", study.run_table(), table) for name in of_metrics]
            chosen = json.dumps({name: study.config["methods"][name] for name in study.show})
            for figure, kind, runs_of, file in drawn:
                options = ["--study", runs_of.to_json(), "--metrics", file, "--choices", chosen]
                options += ["--output", f"{folder}/{figure}.{kind}"]
                programs[figure] = ["wa.analysis.figures", figure, *options]
            said = [f"{name} {measure(*command)}" for name, command in programs.items()]
            print(
                f"{runs} runs: "
                + ", ".join(said)
                + f"; metrics.csv {Path(table).stat().st_size / 2**20:.0f} MiB"
                + f", classes.csv {Path(classes).stat().st_size / 2**20:.0f} MiB",
                flush=True,
            )


if __name__ == "__main__":
    main()
