"""Gather the metrics of every task of every run in one tidy table, and add those that need several tasks.

    python -m wa.analysis.aggregate --study '{"root": "results/digits", ...}' --output results/digits/metrics.csv

A row a measurement: experiment, order, seed, base, increment, method, task, classifier, metric, value. Accuracies are
percentages. The metrics of several tasks (average_incremental_accuracy, forgetting, ...) stand at each task for the tasks
up to it, so a run's final ones stand at its last task. Of a study that is not finished, what is missing is said.
"""

import argparse
import csv
import json
from collections.abc import Iterator
from itertools import product, takewhile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wa.analysis.metrics import read_metrics, run_metrics
from wa.data.scenario import task_sizes
from wa.errors import program
from wa.files import writing

COLUMNS = (
    "experiment",
    "order",
    "seed",
    "base",
    "increment",
    "method",
    "task",
    "classifier",
    "metric",
    "value",
)


class Run(NamedTuple):
    order: str
    seed: int
    base: int
    increment: int
    method: str
    path: Path  # the folder of its tasks
    sizes: list[int]  # the classes of each task
    own: str | None  # the classifier that the method names as its own

    def files(self, name: str) -> list[Path]:
        """A file of each task's folder, from the first task on, as far as they are there: all, in a finished study."""
        return list(
            takewhile(Path.exists, (self.path / f"task-{t}" / name for t in range(len(self.sizes))))
        )

    def learned(self, name: str) -> list[Path]:
        """The same of the files beside a task's checkpoint; that of task 0 is shared by methods and increments."""
        base = self.path.parents[1] / name
        return list(
            takewhile(
                Path.exists,
                [base, *(self.path / f"task-{t}" / name for t in range(1, len(self.sizes)))],
            )
        )


def runs(study: dict) -> Iterator[Run]:
    """The runs of a study, from what wa.study.Study.table() gives."""
    for order, seed, (base, inc), method in product(
        *(study[k] for k in ("orders", "seeds", "protocols", "methods"))
    ):
        shared = f"base-{base}{study.get('bases', {}).get(method, '')}"
        path = Path(study["root"], f"order-{order}", f"seed-{seed}", shared, f"inc-{inc}", method)
        own = study.get("classifiers", {}).get(method)
        yield Run(
            order, seed, base, inc, method, path, task_sizes(study["n_classes"], base, inc), own
        )


def run_rows(run: Run) -> Iterator[tuple]:
    """(task, classifier, metric, value) of the tasks of one run that have been evaluated; the classifier that the method names as
    its own is marked, at each task."""
    tasks = [read_metrics(file) for file in run.files("metrics.json")]
    for t, metrics in enumerate(tasks):
        yield t, "", "classes_seen", sum(run.sizes[: t + 1])
        if run.own:
            yield t, run.own, "own_classifier", 1
        for classifier, values in metrics.items():
            yield from ((t, classifier, metric, value) for metric, value in values.items())
            # The base task has no aligned classifier: what a method starts from is the classifier as trained.
            earlier = [m.get(classifier, m["trained"]) for m in tasks[: t + 1]]
            a = np.array([m["accuracy"] for m in earlier])
            r = np.array(
                [[m.get(f"accuracy_task_{j}", np.nan) for j in range(t + 1)] for m in earlier]
            )
            yield from (
                (t, classifier, metric, value) for metric, value in run_metrics(a, r).items()
            )
            top5 = np.mean([m.get("top5_accuracy", np.nan) for m in earlier])
            yield t, classifier, "average_incremental_top5_accuracy", top5
            if t == len(run.sizes) - 1:
                yield t, classifier, "last_accuracy", a[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description="One tidy table of all metrics of a study.")
    parser.add_argument(
        "--study",
        type=json.loads,
        required=True,
        help="the table of runs, as wa.study.Study.table() gives it",
    )
    parser.add_argument("--output", required=True)
    args = parser.parse_args()
    with writing(args.output) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for run in runs(args.study):
            done = len(run.files("metrics.json"))
            if done < len(run.sizes):
                print(f"missing: {run.path}: {done} of {len(run.sizes)} tasks are there")
            for row in run_rows(run):
                writer.writerow((args.study["experiment"], *run[:5], *row))


if __name__ == "__main__":
    program(main)
