"""RanPAC: a ridge regression on random features of the features.

McDonnell et al., "RanPAC: Random Projections and Pre-trained Models for Continual Learning",
NeurIPS 2023, algorithm 1 and equations 4 and 5. With a random matrix P, drawn once:

    h = max(0, phi(x) P),   G = sum h h^T,   Q = sum h y^T (y one-hot),   W = (G + lambda I)^-1 Q
    y(x) = argmax_c h . w_c

Lambda, of 10^-8 to 10^8, has the smallest squared error on a fifth of the task's images, of at most
MOST in random order, after a regression on the others (appendix F.6).
"""

import numpy as np

from wa.methods.feature_classifier import FeatureClassifier, Learned, State

OPTIONS = {"projections": 10_000}
CHOICES = {"freeze": True, "training": {"epochs": 0}}
RIDGES = 10.0 ** np.arange(-8, 9)
MOST = 2000  # images of a task that lambda is chosen with


class RanPAC(FeatureClassifier):
    """gram: float32 (M, M). sums: float32 (M, classes). weight: float32 (M, classes)."""

    def projected(self, features: np.ndarray) -> np.ndarray:
        """The random features h, float32 (n, M). features: (n, d)."""
        draw = np.random.default_rng(self.seed)
        shape = features.shape[1], self.options["projections"]
        return np.maximum(features.astype(np.float32) @ draw.standard_normal(shape, "f4"), 0)

    def fit(self, learned: Learned, before: State) -> State:
        new = learned.label >= learned.n_old
        h, label = self.projected(learned.features[new]), learned.label[new]
        y = np.eye(sum(learned.sizes), dtype=np.float32)[label]
        gram, sums = h.T @ h, h.T @ y
        if before:
            gram += before["gram"]
            sums[:, : learned.n_old] += before["sums"]
        weight = np.linalg.solve(gram + self.ridge(h, y) * np.eye(len(gram), dtype="f4"), sums)
        return {"gram": gram, "sums": sums, "weight": weight}

    def ridge(self, h: np.ndarray, y: np.ndarray) -> np.float32:
        """The lambda with the smallest error on a fifth of the images. h: (n, M), y: (n, c)."""
        order = np.random.default_rng(self.seed).permutation(len(h))[:MOST]
        fitted, held = np.split(order, [int(0.8 * len(order))])
        y = y[:, y.any(axis=0)]
        # (F^T F + r I)^-1 F^T = F^T (F F^T + r I)^-1. The smaller of the two matrices is taken.
        f, dual = h[fitted], len(fitted) < h.shape[1]
        values, vectors = np.linalg.eigh(f @ f.T if dual else f.T @ f)
        left = (h[held] @ f.T if dual else h[held]) @ vectors
        right = vectors.T @ (y[fitted] if dual else f.T @ y[fitted])
        errors = [
            np.square(left @ (right / (np.maximum(values, 0) + r)[:, None]) - y[held]).mean()
            for r in RIDGES
        ]
        return np.float32(RIDGES[int(np.argmin(errors))])

    def scores(self, features: np.ndarray, state: State) -> np.ndarray:
        return self.projected(features) @ state["weight"]
