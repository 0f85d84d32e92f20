"""FeCAM: the Mahalanobis distance to the mean of each class, with the covariance of the class.

Goswami et al., "FeCAM: Exploiting the Heterogeneity of Class Distributions in Exemplar-Free
Continual Learning", NeurIPS 2023. Features are transformed by Tukey's ladder (equation 9), the
covariance of a class is shrunk twice (equation 8) and becomes a correlation (equation 7), and the
distance is between features of length 1 (equation 6):

    Sigma_s = Sigma + gamma_1 V_1 I + gamma_2 V_2 (1 - I),   V: mean variance, mean covariance
    y(x) = argmin_c (unit(x) - unit(mu_c))^T Sigma_c^-1 (unit(x) - unit(mu_c))

As in their code (models/base.py, maha_utils.py), images are scaled to length 1 before Tukey's
transformation, but those that the covariance and the mean are made of are not. Not reproduced:
there, task 0 is classified by the distance to the rows of the trained classifier.
"""

import numpy as np

from wa.methods.feature_classifier import FeatureClassifier, Learned, State, sums_by_class
from wa.methods.nearest_mean import unit

OPTIONS = {"shrinkage": 1.0, "tukey": 0.5}
CHOICES = {"freeze": True, "training": {"epochs": 0}}


class FeCAM(FeatureClassifier):
    """means: float64 (classes, d). root: float32 (classes, d, d), with root root^T = Sigma_c^-1."""

    def fit(self, learned: Learned, before: State) -> State:
        features, label = learned.new()
        classes = range(learned.n_old, sum(learned.sizes))
        sums = sums_by_class(features, label, classes[0], classes[-1] + 1)
        means = sums / np.bincount(label)[learned.n_old :, None]
        roots = np.stack([self.root(self.tukey(features[label == c])) for c in classes])
        if before:
            means = np.concatenate([before["means"], means])
            roots = np.concatenate([before["root"], roots])
        return {"means": means, "root": roots}

    def tukey(self, x: np.ndarray) -> np.ndarray:
        """Tukey's transformation of features (n, d), which are 0 or above."""
        power = self.options["tukey"]
        return np.maximum(x, 0) ** power if power != 1 else x

    def shrunk(self, covariance: np.ndarray) -> np.ndarray:
        size = len(covariance)
        diagonal = np.trace(covariance) / size
        apart = covariance.sum() - np.trace(covariance)
        beside = apart / max(1, np.count_nonzero(covariance - np.diag(np.diag(covariance))))
        gamma, eye = self.options["shrinkage"], np.eye(size)
        return covariance + gamma * diagonal * eye + gamma * beside * (1 - eye)

    def root(self, features: np.ndarray) -> np.ndarray:
        """The root of the inverse of a class's correlation. features: (n, d), n at least 2."""
        covariance = self.shrunk(self.shrunk(np.cov(features.T)))
        deviation = np.sqrt(np.diag(covariance)) + 1e-12
        values, vectors = np.linalg.eigh(covariance / np.outer(deviation, deviation))
        # As a pseudo-inverse: what has no variance does not count.
        kept = values > 1e-6 * values.max()
        return (vectors * np.where(kept, np.abs(values), np.inf) ** -0.5).astype(np.float32)

    def scores(self, features: np.ndarray, state: State) -> np.ndarray:
        x = unit(self.tukey(unit(features.astype(np.float64)))).astype(np.float32)
        means = unit(self.tukey(state["means"])).astype(np.float32)
        scores = np.empty((len(x), len(means)), np.float32)
        for c, root in enumerate(state["root"]):
            scores[:, c] = -(((x - means[c]) @ root) ** 2).sum(axis=1)
        return scores
