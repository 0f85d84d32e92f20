"""FeCAM: the Mahalanobis distance to the mean of each class, with the covariance of the class.

Goswami et al., "FeCAM: Exploiting the Heterogeneity of Class Distributions in Exemplar-Free
Continual Learning", NeurIPS 2023, equations 6 to 9, and their code. Features are raised to the
power `tukey`. A covariance is shrunk twice, and becomes a correlation:

    Sigma_s = Sigma + gamma V_1 I + gamma V_2 (1 - I),   V: mean variance, mean covariance
    y(x) = argmin_c (unit(x) - unit(mu_c))^T Sigma_c^-1 (unit(x) - unit(mu_c))

A class needs two images with different features: of less there is no covariance, and their code
goes on with one that holds no numbers. Here that is an error.
"""

import numpy as np

from wa.errors import UserError
from wa.methods.feature_classifier import FeatureClassifier, Learned, State, joined, sums_by_class
from wa.methods.nearest_mean import unit

OPTIONS = {"shrinkage": 1.0, "tukey": 0.5}
CHOICES = {"freeze": True, "training": {"epochs": 0}}
ROWS = 128  # images whose products of features are computed at once


class FeCAM(FeatureClassifier):
    """The distance is x^T A x - 2 b x + c. A's upper triangles, off-diagonals twice, and b and c:
    square (classes, d (d + 1) / 2), linear (classes, d), constant (classes,)."""

    def fit(self, learned: Learned, before: State) -> State:
        """Raises UserError if the features of a new class do not vary."""
        features, label = learned.new()
        first = learned.n_old
        for c in range(first, sum(learned.sizes)):
            x = self.tukey(features[label == c])
            if len(x) < 2 or not np.ptp(x, axis=0).any():
                raise UserError(
                    f"algorithm fecam needs training images with different features of each class."
                    f" Class {c} of the class order, counted from 0, has {len(x)} images, whose"
                    " features do not vary. Add images, or use algorithm simplecil or slda"
                )
        sums = sums_by_class(features, label, first, sum(learned.sizes))
        means = unit(self.tukey(sums / np.bincount(label)[first:, None]))
        forms = [self.form(features[label == first + c], mean) for c, mean in enumerate(means)]
        square, linear, constant = (np.stack(part) for part in zip(*forms, strict=True))
        return joined(before, {"square": square, "linear": linear, "constant": constant})

    def tukey(self, x: np.ndarray) -> np.ndarray:
        return np.maximum(x, 0) ** self.options["tukey"]

    def shrunk(self, covariance: np.ndarray) -> np.ndarray:
        eye = np.eye(len(covariance))
        variance, apart = np.trace(covariance) / len(eye), covariance * (1 - eye)
        beside = apart.sum() / max(1, np.count_nonzero(apart))
        return covariance + self.options["shrinkage"] * (variance * eye + beside * (1 - eye))

    def form(self, features: np.ndarray, mean: np.ndarray) -> tuple:
        """A, b and c of a class. features: (n, d), n at least 2. mean: (d,), of length 1."""
        covariance = self.shrunk(self.shrunk(np.cov(self.tukey(features).T)))
        deviation = np.sqrt(np.diag(covariance))
        inverse = np.linalg.inv(covariance / np.outer(deviation, deviation))
        twice, linear = 2 * inverse - np.diag(np.diag(inverse)), inverse @ mean
        return twice[np.triu_indices(len(mean))].astype("f4"), linear.astype("f4"), mean @ linear

    def scores(self, features: np.ndarray, state: State) -> np.ndarray:
        x = unit(self.tukey(unit(features.astype(np.float64)))).astype("f4")
        scores = 2 * x @ state["linear"].T - state["constant"]
        buffer = np.empty((ROWS, state["square"].shape[1]), "f4")
        for start in range(0, len(x), ROWS):
            part, out = x[start : start + ROWS], buffer[: len(x) - start]
            products = [part[:, [k]] * part[:, k:] for k in range(x.shape[1])]
            scores[start : start + ROWS] -= np.concatenate(products, 1, out) @ state["square"].T
        return scores
