"""FeCAM: the Mahalanobis distance to the mean of each class, with the covariance of the class.

Goswami et al., "FeCAM: Exploiting the Heterogeneity of Class Distributions in Exemplar-Free
Continual Learning", NeurIPS 2023. Features go through Tukey's transformation (equation 9). The
covariance of a class is shrunk twice (equation 8), and becomes a correlation (equation 7):

    Sigma_s = Sigma + gamma V_1 I + gamma V_2 (1 - I),   V: mean variance, mean covariance
    y(x) = argmin_c (unit(x) - unit(mu_c))^T Sigma_c^-1 (unit(x) - unit(mu_c))

As in their code (models/base.py, maha_utils.py), an image is scaled to length 1 before Tukey's
transformation. Those that the covariance and the mean are made of are not.
"""

import numpy as np

from wa.errors import UserError
from wa.methods.feature_classifier import FeatureClassifier, Learned, State, joined, sums_by_class
from wa.methods.nearest_mean import unit

OPTIONS = {"shrinkage": 1.0, "tukey": 0.5}
CHOICES = {"freeze": True, "training": {"epochs": 0}}
AT_ONCE = 2**26  # numbers of the products of features that are computed at once


class FeCAM(FeatureClassifier):
    """The distance as a form x^T A x - 2 b x + c. square: A's upper triangles, off-diagonals twice,
    float32 (classes, d (d + 1) / 2). linear: b, float32 (classes, d). constant: c, (classes,)."""

    def fit(self, learned: Learned, before: State) -> State:
        features, label = learned.new()
        first, end = learned.n_old, sum(learned.sizes)
        sums = sums_by_class(features, label, first, end)
        means = unit(self.tukey(sums / np.bincount(label)[first:, None]))
        forms = [self.form(features[label == first + c], mean) for c, mean in enumerate(means)]
        square, linear, constant = (np.stack(part) for part in zip(*forms, strict=True))
        return joined(before, {"square": square, "linear": linear, "constant": constant})

    def tukey(self, x: np.ndarray) -> np.ndarray:
        """Tukey's transformation of features (n, d), which are 0 or above."""
        return np.maximum(x, 0) ** self.options["tukey"]

    def shrunk(self, covariance: np.ndarray) -> np.ndarray:
        eye = np.eye(len(covariance))
        variance, apart = np.trace(covariance) / len(eye), covariance * (1 - eye)
        beside = apart.sum() / max(1, np.count_nonzero(apart))
        return covariance + self.options["shrinkage"] * (variance * eye + beside * (1 - eye))

    def form(self, features: np.ndarray, mean: np.ndarray) -> tuple:
        """The form of a class. features: (n, d), n at least 2. mean: (d,), of length 1."""
        covariance = self.shrunk(self.shrunk(np.cov(self.tukey(features).T)))
        deviation = np.sqrt(np.diag(covariance))
        try:
            inverse = np.linalg.inv(covariance / np.outer(deviation, deviation))
        except np.linalg.LinAlgError:
            raise UserError("fecam: a covariance has no inverse. Use a larger shrinkage") from None
        twice = 2 * inverse - np.diag(np.diag(inverse))
        linear = inverse @ mean
        square = twice[np.triu_indices(len(mean))]
        return square.astype("f4"), linear.astype("f4"), np.float32(mean @ linear)

    def scores(self, features: np.ndarray, state: State) -> np.ndarray:
        x = unit(self.tukey(unit(features.astype(np.float64)))).astype(np.float32)
        i, j = np.triu_indices(x.shape[1])
        parts = np.array_split(x, -(-len(x) * len(i) // AT_ONCE))
        square = np.concatenate([part[:, i] * part[:, j] @ state["square"].T for part in parts])
        return 2 * x @ state["linear"].T - square - state["constant"]
