"""Gather the metrics of every task of every run in one tidy table, and add those that need several tasks.

    python -m wa.analysis.aggregate --study '{"root": "results/digits", ...}' --output results/digits/metrics.csv

A row a measurement: experiment, order, seed, base, increment, method, task, classifier, metric, value. Accuracies are
percentages. The metrics of several tasks (average_incremental_accuracy, forgetting, ...) stand at each task for the tasks
up to it, so a run's final ones stand at its last task. Of a study that is not finished, what is missing is said.
"""

import argparse
import csv
from collections.abc import Iterator

import numpy as np

from wa.analysis.metrics import read_metrics, run_metrics
from wa.errors import program
from wa.files import writing
from wa.study.layout import METRICS, Run, RunTable

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


def run_rows(run: Run) -> Iterator[tuple]:
    """(task, classifier, metric, value) of the tasks of one run that have been evaluated; the classifier that the method names as
    its own is marked, at each task."""
    tasks = [read_metrics(file) for file in run.files(METRICS)]
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
        type=RunTable.from_json,
        required=True,
        help="the table of runs, as wa.study.study.Study.run_table().to_json() gives it",
    )
    parser.add_argument("--output", required=True)
    args = parser.parse_args()
    with writing(args.output) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for run in args.study.runs():
            done = len(run.files(METRICS))
            if done < len(run.sizes):
                print(f"missing: {run.path}: {done} of {len(run.sizes)} tasks are there")
            for row in run_rows(run):
                writer.writerow((args.study.experiment, *run[:5], *row))


if __name__ == "__main__":
    program(main)
