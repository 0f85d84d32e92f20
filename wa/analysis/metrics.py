"""Every metric, and which classifier is a method's own. Accuracies are percentages of images.

A[t] is the accuracy after task t on the test images of all classes seen by then. Each image counts
once, so a larger task counts more than a smaller one. R[t][j] is the accuracy after task t on the
test images of task j's classes.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wa.errors import UserError
from wa.files import read_json

TaskMetrics = dict[str, dict[str, float]]  # classifier -> metric -> value, after one task

CLASSES = "classes"  # the entry of metrics.json that counts images class by class
IMAGES = "images"  # its entry for the test images. Its other entries are classifiers.


class Evaluation(NamedTuple):
    """What metrics.json says of one task."""

    metrics: TaskMetrics
    right: dict[str, list[int]]  # classifier -> images of each class that it classifies right
    images: list[int]  # the test images of each class, in the order of learning


def are_counts(value: object) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**63 for n in value)


def read_evaluation(path: str | Path) -> Evaluation:
    """Read a task's metrics.json. Earlier versions did not count class by class.

    Raises UserError if it lacks the classifier `trained`, or if its counts are damaged.
    """
    metrics = read_json(path)
    metrics.pop("header", None)
    counts = metrics.pop(CLASSES, {IMAGES: []})
    if "trained" not in metrics:
        raise UserError(f"{path} cannot be used: it lacks the classifier `trained`")
    lists = list(counts.values()) if isinstance(counts, dict) and IMAGES in counts else [None]
    if not all(are_counts(each) and len(each) == len(lists[0]) for each in lists):
        raise UserError(
            f"{path} cannot be used: `{CLASSES}` must be lists of numbers of images, all of the"
            " same length"
        )
    images = counts.pop(IMAGES)
    return Evaluation(metrics, counts, images)


def read_metrics(path: str | Path) -> TaskMetrics:
    """Read a task's metrics.json: classifier -> metric -> value. See read_evaluation."""
    return read_evaluation(path).metrics


def count_by_class(
    predicted: dict[str, np.ndarray], label: np.ndarray, classes: int
) -> dict[str, list[int]]:
    """The test images of each class, and how many of them each classifier classifies right.

        count_by_class({"trained": np.array([0, 1])}, np.array([0, 0]), 2)
        # {"images": [2, 0], "trained": [1, 0]}

    predicted: classifier -> integers (n,). label: integers (n,).
    """
    counted = {IMAGES: label} | {name: label[first == label] for name, first in predicted.items()}
    return {name: np.bincount(of, minlength=classes).tolist() for name, of in counted.items()}


def own_classifier(offered: Collection[str], named: str | None = None) -> str:
    """The classifier that stands for a method in tables and figures, after one task.

        own_classifier(["trained", "aligned", "nme"])          # aligned
        own_classifier(["trained", "aligned", "nme"], "nme")   # nme, for iCaRL

    offered: the classifiers that were evaluated after the task. named: the one that the method's
    setting `classifier` names, if it names one. No method aligns after task 0, so there the own
    classifier is `trained`.
    """
    if named:
        return named
    return "aligned" if "aligned" in offered else "trained"


def metrics_of(metrics: TaskMetrics, classifier: str) -> dict[str, float]:
    """A classifier's metrics after one task, or those of `trained` if the task lacks it.

    Task 0 has no aligned classifier. An average over tasks counts the trained one there.
    """
    return metrics.get(classifier, metrics["trained"])


def accuracy(predicted: np.ndarray, label: np.ndarray) -> float:
    """Percentage of images whose label is among the predicted classes.

    predicted: integers (n,) or (n, k). label: integers (n,).
    """
    return 100 * float((predicted.reshape(len(label), -1) == label[:, None]).any(axis=1).mean())


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """The k classes with the highest scores, best first: int64 (n, min(k, classes)).

    scores: (n, classes). Of equal scores, the lower class comes first.
    """
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def task_of(label: np.ndarray, task_sizes: list[int]) -> np.ndarray:
    """The task that brought each class. label: integers (n,). Returns integers (n,)."""
    return np.searchsorted(np.cumsum(task_sizes), label, side="right")


def best_of_own_task(scores: np.ndarray, label: np.ndarray, task_sizes: list[int]) -> np.ndarray:
    """The prediction for each image if its task is told: integers (n,).

    That is the class with the highest score among those of the image's own task. Of equal scores,
    the lower class wins. scores: (n, classes). label: integers (n,).
    """
    task, ends = task_of(label, task_sizes), np.cumsum(task_sizes)
    best = np.full(len(label), -1)  # for a class without a score
    for j, end in enumerate(ends):
        start, rows = end - task_sizes[j], task == j
        own = scores[rows, start:end]
        if own.size:
            best[rows] = start + own.argmax(axis=1)
    return best


def task_metrics(
    top: np.ndarray,
    label: np.ndarray,
    task_sizes: list[int],
    confidence: np.ndarray | None = None,
    row_norms: Sequence[float] = (),
    gamma: float | None = None,
    told: np.ndarray | None = None,
) -> dict[str, float]:
    """The metrics of one classifier after one task.

    top: the best classes of each image, best first, integers (n, k). label: integers (n,).
    task_sizes: the classes of each task so far. confidence: the probability of the best class,
    (n,), 0 to 1. row_norms: the norm of each class's row. gamma: the factor of weight aligning.
    told: the predictions if the task is told, see best_of_own_task.

    `accuracy_task_j` is R[t][j]. New classes are those of this task, old classes those of earlier
    tasks. Classes without test images are left out, and `untested_classes` is their number.
    `predicted_new` is the percentage of images that are predicted as a new class, and
    `occurring_new` the percentage that belong to one. `ece` needs the confidence.
    `task_aware_accuracy` is the accuracy of `told`.
    """
    task = task_of(label, task_sizes)
    new = len(task_sizes) - 1
    first = top[:, 0]
    values = {"accuracy": accuracy(first, label), "top5_accuracy": accuracy(top[:, :5], label)}
    untested = sum(task_sizes) - len(np.unique(label))
    if untested:
        values["untested_classes"] = untested
    for j in range(new + 1):
        if (task == j).any():
            values[f"accuracy_task_{j}"] = accuracy(first[task == j], label[task == j])
    if (task == new).any():
        values["accuracy_new"] = values[f"accuracy_task_{new}"]
    values["predicted_new"] = 100 * float((task_of(first, task_sizes) == new).mean())
    values["occurring_new"] = 100 * float((task == new).mean())
    if (task < new).any():
        values["accuracy_old"] = accuracy(first[task < new], label[task < new])
    if told is not None:
        values["task_aware_accuracy"] = accuracy(told, label)
    if confidence is not None:
        values["ece"] = expected_calibration_error(confidence, first == label)
    for c, norm in enumerate(row_norms):
        values[f"row_norm_{c}"] = norm
    if gamma is not None:
        values["gamma"] = gamma
    return values


def calibration(
    confidence: np.ndarray, right: np.ndarray, bins: int = 15
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The bins of a reliability diagram (Guo et al., ICML 2017).

    confidence: (n,), 0 to 1. right: bool (n,), whether the prediction is right. Bin k holds the
    images with (k - 1) / bins < confidence <= k / bins. Returns for each bin, each (bins,): the
    number of images, the sum of their confidences, and the number of right predictions.
    """
    confidence = confidence.astype(np.float64)
    inside = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return tuple(np.bincount(inside, weights, bins) for weights in (None, confidence, right))


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """The mean over images of |accuracy - confidence| of their bin, in percent.

    confidence: (n,), 0 to 1. right: bool (n,). Guo et al., ICML 2017, equation 3.
    """
    _, confident, hits = calibration(confidence, right, bins)
    return 100 * float(np.abs(hits - confident).sum() / len(right))


def average_incremental_accuracy(a: np.ndarray, with_first: bool = True) -> float:
    """The mean of A[0..t], a: (tasks,).

    Papers differ in whether the first task counts. PyCIL, PODNet and DER count it. Rebuffi et al.
    (CVPR 2017) do not.
    """
    return float(np.mean(a if with_first else a[1:]))


def tested(r: np.ndarray) -> list[int]:
    """The earlier tasks that still have test images after the last task. r: (tasks, tasks)."""
    return [j for j in range(len(r) - 1) if not np.isnan(r[-1, j])]


def forgetting(r: np.ndarray) -> float:
    """The mean over earlier tasks of (best accuracy before the last task - accuracy after it).

    r: (tasks, tasks), at least two tasks. Entries above the diagonal are not read. Tasks without
    an accuracy at the end are left out. Chaudhry et al., ECCV 2018, equation 3.
    """
    last = len(r) - 1
    falls = [r[j:last, j].max() - r[last, j] for j in tested(r)]
    return float(np.mean(falls))


def backward_transfer(r: np.ndarray) -> float:
    """The mean over earlier tasks of (accuracy after the last task - accuracy when just learned).

    r: as in forgetting. Lopez-Paz & Ranzato, NeurIPS 2017.
    """
    last = len(r) - 1
    return float(np.mean([r[last, j] - r[j, j] for j in tested(r)]))


def run_metrics(a: np.ndarray, r: np.ndarray) -> dict[str, float]:
    """The averages and the forgetting of A[0..t], (tasks,), and R[0..t][0..t], (tasks, tasks)."""
    values = {"average_incremental_accuracy": average_incremental_accuracy(a)}
    if len(a) > 1:
        values["average_incremental_accuracy_without_first"] = average_incremental_accuracy(
            a, with_first=False
        )
        if tested(r):
            values["forgetting"] = forgetting(r)
            values["backward_transfer"] = backward_transfer(r)
    return values


def metrics_over_tasks(
    tasks: list[TaskMetrics], classifier: str, finished: bool
) -> dict[str, float]:
    """The metrics of one classifier that need several tasks, after the last of `tasks`.

    tasks: the metrics after each task from task 0 on. finished: whether the run ends here.
    Only then there is a `last_accuracy`.
    """
    values = [metrics_of(metrics, classifier) for metrics in tasks]
    columns = [f"accuracy_task_{j}" for j in range(len(tasks))]
    a = np.array([value["accuracy"] for value in values])
    r = np.array([[value.get(column, np.nan) for column in columns] for value in values])
    result = run_metrics(a, r)
    for name in ("top5_accuracy", "task_aware_accuracy"):
        found = [value[name] for value in values if name in value]
        if len(found) == len(values):  # not if an earlier version evaluated a task
            result[f"average_incremental_{name}"] = float(np.mean(found))
    if finished:
        result["last_accuracy"] = float(a[-1])
    return result
