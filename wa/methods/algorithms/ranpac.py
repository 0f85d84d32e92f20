"""RanPAC: a ridge regression on random features of the features.

McDonnell et al., "RanPAC: Random Projections and Pre-trained Models for Continual Learning",
NeurIPS 2023, algorithm 1 and equations 4 and 5. With a random matrix P, drawn once:

    h = max(0, phi(x) P),   G = sum h h^T,   Q = sum h y^T (y one-hot),   W = (G + lambda I)^-1 Q
    y(x) = argmax_c h . w_c

Lambda, of 10^-8 to 10^8, has the smallest squared error on a fifth of the task's images, of at most
MOST in random order, after a regression on the others (appendix F.6). All sums are in float32. If
they are not positive definite with a lambda, that one is too small for them, and a larger one is
taken.
"""

import numpy as np

from wa.methods.feature_classifier import FeatureClassifier, Learned, State

OPTIONS = {"projections": 10_000}
CHOICES = {"freeze": True, "training": {"epochs": 0}}
RIDGES = 10.0 ** np.arange(-8, 9)
MOST = 2000  # images of a task that lambda is chosen with


def solved(gram: np.ndarray, sums: np.ndarray, ridge: float) -> np.ndarray | None:
    """(G + ridge I)^-1 sums, or None if the matrix is not positive definite: float32 (M, c).

    gram: float32 (M, M), of which the lower triangle counts. sums: float32 (M, c).
    """
    from scipy.linalg import lapack  # who only predicts need not have scipy

    matrix = gram.copy()
    matrix.flat[:: len(gram) + 1] += np.float32(ridge)
    # LAPACK has the columns of a matrix where numpy has its rows.
    factor, failed = lapack.spotrf(matrix.T, lower=0, clean=0, overwrite_a=1)
    return None if failed else lapack.spotrs(factor, sums, lower=0)[0]


class RanPAC(FeatureClassifier):
    """float32. gram: the lower triangle of G, (M, M). sums, weight: Q and W, (M, classes)."""

    def projected(self, features: np.ndarray) -> np.ndarray:
        """The random features h, float32 (n, M). features: (n, d)."""
        draw = np.random.default_rng(self.seed)
        shape = features.shape[1], self.options["projections"]
        h = features.astype(np.float32) @ draw.standard_normal(shape, "f4")
        return np.maximum(h, 0, out=h)

    def fit(self, learned: Learned, before: State) -> State:
        from scipy.linalg import blas

        new = learned.label >= learned.n_old
        h, label = self.projected(learned.features[new]), learned.label[new] - learned.n_old
        y = np.eye(learned.sizes[-1], dtype=np.float32)[label]
        size = h.shape[1]
        gram = before["gram"] if before else np.zeros((size, size), np.float32)
        gram = blas.ssyrk(1.0, h.T, beta=1.0, c=gram.T).T
        sums = np.concatenate([before["sums"], h.T @ y], axis=1) if before else h.T @ y
        ridge = self.ridge(h, y)
        while (weight := solved(gram, sums, ridge)) is None:
            ridge *= 10
        return {"gram": gram, "sums": sums, "weight": weight}

    def ridge(self, h: np.ndarray, y: np.ndarray) -> float:
        """The lambda with the smallest error on a fifth of the images. h: (n, M), y: (n, c)."""
        order = np.random.default_rng(self.seed).permutation(len(h))[:MOST]
        fitted, held = np.split(order, [int(0.8 * len(order))])
        # (F^T F + r I)^-1 F^T = F^T (F F^T + r I)^-1. The smaller of the two matrices is taken.
        f, dual = h[fitted], len(fitted) < h.shape[1]
        gram, left = (f @ f.T, h[held] @ f.T) if dual else (f.T @ f, h[held])
        right = y[fitted] if dual else f.T @ y[fitted]
        errors = []
        for ridge in RIDGES:
            weight = solved(gram, right, ridge)
            apart = np.inf if weight is None else left @ weight - y[held]
            errors.append(np.square(apart).mean())
        return float(RIDGES[int(np.argmin(errors))])

    def scores(self, features: np.ndarray, state: State) -> np.ndarray:
        return self.projected(features) @ state["weight"]
