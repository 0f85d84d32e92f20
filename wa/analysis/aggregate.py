"""Write the metrics of all runs of a study to one tidy table.

    python -m wa.analysis.aggregate --study '{"root": "results/digits", ...}' \
        --output results/digits/metrics.csv

Each row is one value. The columns:

    experiment, order, seed, base, increment, method    the run
    task         the task that was learned last, from 0
    classes      how many classes have been seen by then
    classifier   trained, aligned or nme (nearest mean of exemplars)
    own          true if tables and figures show this classifier for the method, else false
    metric       its name, as in wa.analysis.metrics
    value        accuracies and shares are percentages

Metrics of several tasks, such as forgetting, stand at each task and count the tasks up to it. So a
run's final values stand at its last task. The program prints which runs are not finished.
"""

import argparse
import csv
import json
from collections.abc import Iterator
from itertools import product, takewhile
from pathlib import Path
from typing import NamedTuple

from wa.analysis.metrics import metrics_over_tasks, own_classifier, read_metrics
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
    "classes",
    "classifier",
    "own",
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
    sizes: list[int]  # the number of classes of each task
    own: str | None  # the classifier that the method's setting `classifier` names, if any

    def files(self, name: str) -> list[Path]:
        """The file of this name in each task's folder, up to the first task that lacks it."""
        return list(
            takewhile(Path.exists, (self.path / f"task-{t}" / name for t in range(len(self.sizes))))
        )

    def learned(self, name: str) -> list[Path]:
        """The file of this name beside each task's checkpoint, up to the first task that lacks it.

        Methods and increments share the checkpoint of task 0.
        """
        base = self.path.parents[1] / name
        return list(
            takewhile(
                Path.exists,
                [base, *(self.path / f"task-{t}" / name for t in range(1, len(self.sizes)))],
            )
        )


def runs(study: dict) -> Iterator[Run]:
    """The runs of a study. study: what wa.study.study.Study.table() returns, parsed."""
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
    """The rows of one run's evaluated tasks: (task, classes, classifier, own, metric, value)."""
    tasks = [read_metrics(file) for file in run.files("metrics.json")]
    for t, metrics in enumerate(tasks):
        classes = sum(run.sizes[: t + 1])
        finished = t == len(run.sizes) - 1
        own = own_classifier(metrics, run.own)
        for classifier, of_task in metrics.items():
            is_own = "true" if classifier == own else "false"
            values = of_task | metrics_over_tasks(tasks[: t + 1], classifier, finished)
            for metric, value in values.items():
                yield t, classes, classifier, is_own, metric, value


def main() -> None:
    parser = argparse.ArgumentParser(description="Write all metrics of a study to one tidy table.")
    parser.add_argument(
        "--study",
        type=json.loads,
        required=True,
        help="the runs, as JSON: what wa.study.study.Study.table() returns",
    )
    parser.add_argument("--output", required=True, help="the CSV file to write")
    args = parser.parse_args()
    with writing(args.output) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for run in runs(args.study):
            done = len(run.files("metrics.json"))
            if done < len(run.sizes):
                print(f"not finished: {run.path}: {done} of {len(run.sizes)} tasks are evaluated")
            for row in run_rows(run):
                writer.writerow((args.study["experiment"], *run[:5], *row))


if __name__ == "__main__":
    program(main)
