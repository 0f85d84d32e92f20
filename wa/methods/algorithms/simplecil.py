"""SimpleCIL: the mean feature of each class is its prototype, and the backbone stays as it is.

Zhou et al., "Revisiting Class-Incremental Learning with Pre-Trained Models: Generalizability and
Adaptivity are All You Need", IJCV 2024 (arXiv 2303.07338), equations 4 and 5:

    p_c = mean of phi(x) over the images of class c
    y(x) = argmax_c cos(p_c, phi(x))
"""

import numpy as np

from wa.methods.feature_classifier import FeatureClassifier, Learned, State, joined, sums_by_class
from wa.methods.nearest_mean import similarities, unit

CHOICES = {"freeze": True, "training": {"epochs": 0}}


class SimpleCIL(FeatureClassifier):
    """means: float32 (classes, d)."""

    def fit(self, learned: Learned, before: State) -> State:
        features, label = learned.new()
        sums = sums_by_class(features, label, learned.n_old, sum(learned.sizes))
        counts = np.bincount(label)[learned.n_old :]
        return joined(before, {"means": (sums / counts[:, None]).astype(np.float32)})

    def scores(self, features: np.ndarray, state: State) -> np.ndarray:
        return similarities(features, unit(state["means"].astype(np.float64)))
