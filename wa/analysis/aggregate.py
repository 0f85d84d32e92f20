"""Write the metrics of all runs of a study to one tidy table, and those of each class to another.

    python -m wa.analysis.aggregate --study '{"root": "results/digits", ...}' \
        --output results/digits/metrics.csv --classes results/digits/classes.csv

Each row of metrics.csv is one value. The columns:

    experiment, order, seed, base, increment, method    the run
    task         the task that was learned last, from 0
    classes      how many classes have been seen by then
    classifier   trained, aligned, nme (nearest mean of exemplars) or fitted (to features)
    own          true if tables and figures show this classifier for the method, else false
    metric       its name, as in wa.analysis.metrics
    value        accuracies and shares are percentages

Metrics of several tasks, such as forgetting, stand at each task and count the tasks up to it. So a
run's final values stand at its last task. The program prints which runs are not finished.

Each row of classes.csv is the accuracy on one class. It has the same columns up to `own`, and then:

    class        its name
    images       its test images. A class without any has no row.
    accuracy     the percentage of them that is classified right

The classes have a table of their own because they are many: 16,500 rows for one run of 1,000
classes in ten tasks, with three classifiers. One figure reads them. All others stay as fast as they
were.

The SHA-256 of each table is kept beside it, in .metrics.csv.sha256 and .classes.csv.sha256. Figures
refuse a table that was edited since.
"""

import argparse
import contextlib
import csv
from collections.abc import Iterator
from functools import cache

from wa.analysis.class_order import read_class_order
from wa.analysis.metrics import Evaluation, metrics_over_tasks, own_classifier, read_evaluation
from wa.errors import program
from wa.files import keep_sha256, writing
from wa.study.layout import METRICS, Run, add_study_option

RUN_COLUMNS = ("experiment", "order", "seed", "base", "increment", "method")
TASK_COLUMNS = (*RUN_COLUMNS, "task", "classes", "classifier", "own")
COLUMNS = (*TASK_COLUMNS, "metric", "value")
CLASS_COLUMNS = (*TASK_COLUMNS, "class", "images", "accuracy")


def run_rows(run: Run, evaluations: list[Evaluation]) -> Iterator[tuple]:
    """The rows of one run's evaluated tasks: (task, classes, classifier, own, metric, value)."""
    tasks = [evaluation.metrics for evaluation in evaluations]
    for t, metrics in enumerate(tasks):
        classes = sum(run.sizes[: t + 1])
        finished = t == len(run.sizes) - 1
        own = own_classifier(metrics, run.own)
        for classifier, of_task in metrics.items():
            is_own = "true" if classifier == own else "false"
            values = of_task | metrics_over_tasks(tasks[: t + 1], classifier, finished)
            for metric, value in values.items():
                yield t, classes, classifier, is_own, metric, value


def class_rows(run: Run, evaluations: list[Evaluation], names: list[str]) -> Iterator[tuple]:
    """The rows of one run's classes: (task, classes, classifier, own, class, images, accuracy).

    names: of the classes, in the order of learning.
    """
    for t, (metrics, right, images) in enumerate(evaluations):
        own = own_classifier(metrics, run.own)
        for classifier, hits in right.items():
            start = t, sum(run.sizes[: t + 1]), classifier, "true" if classifier == own else "false"
            for name, hit, n in zip(names, hits, images, strict=False):
                if n:
                    yield *start, name, n, 100 * hit / n


@contextlib.contextmanager
def table(path: str, columns: tuple[str, ...]):
    """Yield a csv writer of a table, whose SHA-256 is kept beside it when the block ends well."""
    with (
        writing(path) as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        yield writer
    keep_sha256(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write all metrics of a study to one tidy table.")
    add_study_option(parser)
    parser.add_argument("--output", required=True, help="the CSV file to write")
    parser.add_argument("--classes", required=True, help="to write: the CSV file of each class")
    args = parser.parse_args()
    order_of = cache(lambda order: read_class_order(args.study, order))
    with table(args.output, COLUMNS) as metrics, table(args.classes, CLASS_COLUMNS) as classes:
        for run in args.study.runs():
            evaluations = [read_evaluation(file) for file in run.files(METRICS)]
            if len(evaluations) < len(run.sizes):
                done = f"{len(evaluations)} of {len(run.sizes)} tasks are evaluated"
                print(f"not finished: {run.path}: {done}")
            start = (args.study.experiment, *run[:5])
            metrics.writerows((*start, *row) for row in run_rows(run, evaluations))
            if evaluations:
                names = order_of(run.order).names
                classes.writerows((*start, *row) for row in class_rows(run, evaluations, names))


if __name__ == "__main__":
    program(main)
