"""Gather the metrics of every task of every run in one tidy table, and add those that need several tasks.

    python -m wa.aggregate --study '{"experiment": "digits", ...}' --output results/digits/metrics.csv

A row a measurement: experiment, order, seed, base, increment, method, task, classifier, metric, value. Accuracies are
percentages. The metrics of several tasks (average_incremental_accuracy, forgetting, ...) stand at each task for the tasks
up to it, so a run's final ones stand at its last task.
"""

import argparse
import csv
import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np

from wa.files import program, read_json, writing
from wa.metrics import run_metrics
from wa.scenario import task_sizes

COLUMNS = ("experiment", "order", "seed", "base", "increment", "method", "task", "classifier", "metric", "value")


def run_rows(run: Path, sizes: list[int], own: str | None) -> Iterator[tuple]:
    """(task, classifier, metric, value) of one run; the classifier that the method names as its own is marked, at each task."""
    tasks = [read_json(run / f"task-{t}" / "metrics.json") for t in range(len(sizes))]
    for t, metrics in enumerate(tasks):
        yield t, "", "classes_seen", sum(sizes[: t + 1])
        if own:
            yield t, own, "own_classifier", 1
        for classifier, values in metrics.items():
            yield from ((t, classifier, metric, value) for metric, value in values.items())
            # The base task has no aligned classifier: what a method starts from is the classifier as trained.
            earlier = [m.get(classifier, m["trained"]) for m in tasks[: t + 1]]
            a = np.array([m["accuracy"] for m in earlier])
            r = np.array([[m.get(f"accuracy_task_{j}", np.nan) for j in range(t + 1)] for m in earlier])
            yield from ((t, classifier, metric, value) for metric, value in run_metrics(a, r).items())
            if t == len(sizes) - 1:
                yield t, classifier, "last_accuracy", a[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description="One tidy table of all metrics of a study.")
    parser.add_argument("--study", type=json.loads, required=True, help="the table of runs, as wa.study.Study.table() gives it")
    parser.add_argument("--output", required=True, help="metrics.csv, in the folder of the study")
    args = parser.parse_args()
    study, root = args.study, Path(args.output).parent
    with writing(args.output) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for order, seed, (base, inc), method in product(*(study[k] for k in ("orders", "seeds", "protocols", "methods"))):
            name = f"base-{base}{study.get('bases', {}).get(method, '')}"
            run = Path(root, f"order-{order}", f"seed-{seed}", name, f"inc-{inc}", method)
            for row in run_rows(run, task_sizes(study["n_classes"], base, inc), study.get("classifiers", {}).get(method)):
                writer.writerow((study["experiment"], order, seed, base, inc, method, *row))


if __name__ == "__main__":
    program(main)
