"""Every metric, from predictions. Accuracies are percentages of images.

R[t][j] is the accuracy on the test images of task j's classes after task t has been learned; A[t] is the accuracy on
those of all classes seen by then (so each image counts once, and a larger task counts more than a smaller one).
"""

from pathlib import Path

import numpy as np

from wa.errors import UserError
from wa.files import read_json


def read_metrics(path: str | Path) -> dict[str, dict[str, float]]:
    """metrics.json of a task: classifier -> metric -> value. Every classifier has an accuracy, and one is `trained`."""
    metrics = read_json(path)
    metrics.pop("header", None)
    for values in metrics.values():
        if (
            not isinstance(values, dict)
            or "accuracy" not in values
            or any(type(v) not in (int, float) for v in values.values())
        ):
            raise UserError(
                f"{path} cannot be used: it must hold numbers, among them an accuracy, of each classifier"
            )
    if "trained" not in metrics:
        raise UserError(
            f"{path} cannot be used: it must hold the metrics of the classifier `trained`"
        )
    return metrics


def accuracy(predicted: np.ndarray, label: np.ndarray) -> float:
    """Percentage of images whose label (n,) is among those predicted, (n,) or (n, k)."""
    return 100 * float((predicted.reshape(len(label), -1) == label[:, None]).any(axis=1).mean())


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """The k classes with the highest scores (n, classes), best first, ties to the lower class: int64 (n, min(k, classes))."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def task_of(label: np.ndarray, task_sizes: list[int]) -> np.ndarray:
    """The task that brought each class position."""
    return np.searchsorted(np.cumsum(task_sizes), label, side="right")


def task_metrics(top: np.ndarray, label: np.ndarray, task_sizes: list[int]) -> dict[str, float]:
    """What can be said after one task. top: the best classes, best first (n, k); label: (n,); task_sizes: up to this task.

    `accuracy_task_j` is R[t][j]. Old and new classes are those before and of this task; `predicted_new` and
    `occurring_new` are the percentages of images that are predicted to be, and are, of new classes.
    """
    task = task_of(label, task_sizes)
    new = len(task_sizes) - 1
    first = top[:, 0]
    values = {"accuracy": accuracy(first, label), "top5_accuracy": accuracy(top[:, :5], label)}
    values |= {
        f"accuracy_task_{j}": accuracy(first[task == j], label[task == j]) for j in range(new + 1)
    }
    values["accuracy_new"] = values[f"accuracy_task_{new}"]
    values["predicted_new"] = 100 * float((task_of(first, task_sizes) == new).mean())
    values["occurring_new"] = 100 * float((task == new).mean())
    if new:
        values["accuracy_old"] = accuracy(first[task < new], label[task < new])
    return values


def calibration(
    confidence: np.ndarray, right: np.ndarray, bins: int = 15
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A reliability diagram: for equal bins of the confidence, (k-1)/bins < confidence <= k/bins, the number of images
    (bins,), the sum of their confidences (bins,) and how many are predicted rightly (bins,).

    confidence: (n,), 0 to 1; right: bool (n,), whether the prediction is. Guo et al., ICML 2017.
    """
    confidence = confidence.astype(np.float64)
    inside = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return tuple(np.bincount(inside, weights, bins) for weights in (None, confidence, right))


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """The mean over images of |accuracy - confidence| of their bin, in percent. Guo et al., ICML 2017, equation 3."""
    _, confident, hits = calibration(confidence, right, bins)
    return 100 * float(np.abs(hits - confident).sum() / len(right))


def average_incremental_accuracy(a: np.ndarray, with_first: bool = True) -> float:
    """The mean of A[0..t]. Papers differ in whether the first task, before anything incremental, counts (Rebuffi et
    al., CVPR 2017: it does not; PyCIL, PODNet, DER: it does)."""
    return float(np.mean(a if with_first else a[1:]))


def forgetting(r: np.ndarray) -> float:
    """The mean over earlier tasks of the best accuracy before the last task minus the accuracy after it.

    r: (tasks, tasks), entries above the diagonal unused. Chaudhry et al., ECCV 2018, equation 3.
    """
    last = len(r) - 1
    return float(np.mean([r[j:last, j].max() - r[last, j] for j in range(last)]))


def backward_transfer(r: np.ndarray) -> float:
    """The mean over earlier tasks of the accuracy after the last task minus that just after learning them.

    r: (tasks, tasks), entries above the diagonal unused. Lopez-Paz & Ranzato, NeurIPS 2017.
    """
    last = len(r) - 1
    return float(np.mean([r[last, j] - r[j, j] for j in range(last)]))


def run_metrics(a: np.ndarray, r: np.ndarray) -> dict[str, float]:
    """What can be said after several tasks. a: A[0..t]; r: R[0..t][0..t]."""
    values = {"average_incremental_accuracy": average_incremental_accuracy(a)}
    if len(a) > 1:
        values["average_incremental_accuracy_without_first"] = average_incremental_accuracy(
            a, with_first=False
        )
        values["forgetting"] = forgetting(r)
        values["backward_transfer"] = backward_transfer(r)
    return values
