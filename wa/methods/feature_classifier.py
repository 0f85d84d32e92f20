"""A classifier that is fitted to features after each task, in closed form and without torch.

A method of this kind says how it predicts: from the features of images, and from what it has kept
of the classes. What it keeps is a dict of arrays. It is stored in fitted.npz, beside the metrics of
the task, and the fit of the next task gets it as `before`.
"""

from typing import NamedTuple

import numpy as np

State = dict[str, np.ndarray]


class Learned(NamedTuple):
    """What a task leaves when its training ends.

    features: float32 (n, d), of the images of the new classes and of the memory. label: integers
    (n,). sizes: the classes of each task so far. weight, bias: the trained classifier, (classes, d)
    and (classes,). tensors: all tensors of the trained checkpoint, by name.
    """

    features: np.ndarray
    label: np.ndarray
    sizes: list[int]
    weight: np.ndarray
    bias: np.ndarray
    tensors: State

    @property
    def n_old(self) -> int:
        return sum(self.sizes[:-1])

    def new(self) -> tuple[np.ndarray, np.ndarray]:
        """The features and labels of the new classes, float64 (m, d) and integers (m,)."""
        is_new = self.label >= self.n_old
        return self.features[is_new].astype(np.float64), self.label[is_new]


class FeatureClassifier:
    """How a method predicts. options: those of the algorithm. seed: that of the run."""

    needs_memory = False  # True: a config without a memory is refused

    def __init__(self, options: dict, seed: int):
        self.options, self.seed = options, seed

    def fit(self, learned: Learned, before: State) -> State:
        """What the method keeps after a task, by name.

        before: what it kept after the task before. Empty after task 0.
        """
        raise NotImplementedError

    def scores(self, features: np.ndarray, state: State) -> np.ndarray:
        """A score of each class for images, (n, classes): the highest is the prediction.

        features: float32 (n, d). state: as from fit.
        """
        raise NotImplementedError

    def logits(self, learned: Learned, features: np.ndarray) -> np.ndarray | None:
        """The logits of the trained classifier for images, (n, classes). None: it is linear.

        Its softmax has the probabilities. features: float32 (n, d).
        """
        return None


def joined(before: State, new: State) -> State:
    """What was kept of the old classes, and then of the new ones. before: empty after task 0."""
    return {k: np.concatenate([before[k], v]) for k, v in new.items()} if before else new


def sums_by_class(features: np.ndarray, label: np.ndarray, first: int, end: int) -> np.ndarray:
    """The sum of the features of each class from `first` to `end` - 1: (classes, d).

    features: (n, d). label: integers (n,).
    """
    order = label.argsort(kind="stable")
    places = np.searchsorted(label[order], np.arange(first, end))
    if len(np.unique(label)) < end - first:  # add.reduceat cannot sum nothing
        return np.stack([features[label == c].sum(axis=0) for c in range(first, end)])
    return np.add.reduceat(features[order], places, axis=0)
