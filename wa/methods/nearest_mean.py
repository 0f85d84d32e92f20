"""The nearest mean of exemplars: iCaRL's classifier (Rebuffi et al., CVPR 2017, algorithm 1).

A class is represented by the mean of its exemplars' features. An image gets the class whose mean is
closest to its feature. All features and means have length 1:

    mu_c = unit(mean over the exemplars p of class c of unit(phi(p)))
    y(x) = argmin_c || unit(phi(x)) - mu_c || = argmax_c unit(phi(x)) . mu_c

A class without exemplars, as `wa forget` leaves it, is never predicted.
"""

import numpy as np

from wa.data.memory import Memory
from wa.errors import UserError
from wa.files import read_arrays, read_arrays_header
from wa.methods.selection import exemplars, read_ranking

WITHOUT = -2.0  # stands for the cosine of a class without a mean: less than any cosine


def unit(x: np.ndarray) -> np.ndarray:
    """The rows of x (n, d) scaled to length 1."""
    return x / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-8)


def class_means(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The mean of each class, with length 1: float64 (classes, d).

    features: of the exemplars, any float (m, d). labels: integers (m,), from 0 on. A class without
    exemplars has the mean 0.
    """
    phi = unit(features.astype(np.float64))
    sums = np.stack([phi[labels == c].sum(axis=0) for c in range(labels.max() + 1)])
    return unit(sums / np.maximum(np.bincount(labels), 1)[:, None])


def similarities(features: np.ndarray, means: np.ndarray) -> np.ndarray:
    """The cosine of each feature and each class's mean: float64 (n, classes).

    features: any float (n, d). means: as from class_means. The closest mean has the highest value.
    A mean of 0 has WITHOUT, because features with signs may have negative cosines with all others.
    """
    cosines = unit(features.astype(np.float64)) @ means.T
    return np.where(means.any(axis=1), cosines, WITHOUT)


def means_of(
    arrays: dict[str, np.ndarray], memory: Memory, ranking_path: str, features_path: str
) -> np.ndarray:
    """The means of the exemplars after a task, as from class_means.

    arrays: index, label and features of features.npz. memory: how many images of the ranking are
    kept. Raises UserError if the features lack an exemplar of the ranking, unless exemplars were
    removed with `wa forget`.
    """
    ranking = read_ranking(ranking_path)
    kept = exemplars(ranking, memory.per_class(len(ranking["counts"])))
    row = np.searchsorted(arrays["index"], kept).clip(max=len(arrays["index"]) - 1)
    there = arrays["index"][row] == kept
    if not there.all() and not read_arrays_header(features_path).get("removed"):
        raise UserError(f"{ranking_path} ranks images that {features_path} lacks")
    row = row[there]
    return class_means(arrays["features"][row], arrays["label"][row])


def no_means(features_path: str, ranking_path: str, memory: Memory) -> None:
    """A linear classifier needs no means."""


def exemplar_means(features_path: str, ranking_path: str, memory: Memory) -> np.ndarray:
    """The means of the exemplars after a task, as a checkpoint holds them: float32 (classes, d)."""
    arrays = read_arrays(features_path, features="f:nd", label="i:n", index="i:n")
    return means_of(arrays, memory, ranking_path, features_path).astype(np.float32)


# The classifiers that a method can name as its own, and what a checkpoint needs for each.
CLASSIFIERS = {"linear": no_means, "nme": exemplar_means}
