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

The SHA-256 of the table is kept beside it, in .metrics.csv.sha256. Figures refuse a table that was
edited since.
"""

import argparse
import csv
from collections.abc import Iterator

from wa.analysis.metrics import metrics_over_tasks, own_classifier, read_metrics
from wa.errors import program
from wa.files import keep_sha256, writing
from wa.study.layout import METRICS, Run, add_study_option

RUN_COLUMNS = ("experiment", "order", "seed", "base", "increment", "method")
COLUMNS = (*RUN_COLUMNS, "task", "classes", "classifier", "own", "metric", "value")


def run_rows(run: Run) -> Iterator[tuple]:
    """The rows of one run's evaluated tasks: (task, classes, classifier, own, metric, value)."""
    tasks = [read_metrics(file) for file in run.files(METRICS)]
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
    add_study_option(parser)
    parser.add_argument("--output", required=True, help="the CSV file to write")
    args = parser.parse_args()
    with (
        writing(args.output) as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for run in args.study.runs():
            done = len(run.files(METRICS))
            if done < len(run.sizes):
                print(f"not finished: {run.path}: {done} of {len(run.sizes)} tasks are evaluated")
            for row in run_rows(run):
                writer.writerow((args.study.experiment, *run[:5], *row))
    keep_sha256(args.output)


if __name__ == "__main__":
    program(main)
