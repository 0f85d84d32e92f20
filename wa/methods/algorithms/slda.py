"""Deep SLDA: linear discriminant analysis with the mean of each class and one shared covariance.

Hayes & Kanan, "Lifelong Machine Learning with Deep Streaming Linear Discriminant Analysis", CVPR
Workshops 2020, section 3:

    Lambda = ((1 - eps) Sigma + eps I)^-1
    w_c = Lambda mu_c,   b_c = -1/2 mu_c . Lambda mu_c,   y(x) = argmax_c w_c . phi(x) + b_c

Sigma is updated image by image, with the mean of its class before that image:

    Sigma_{t+1} = (t Sigma_t + Delta_t) / (t + 1),   Delta_t = t (x - mu)(x - mu)^T / (t + 1)

After many images Delta_t is (x - mu)(x - mu)^T. Here Sigma is the scatter within the classes,
divided by the number of images, which does not depend on the order of images.
"""

import numpy as np

from wa.methods.feature_classifier import FeatureClassifier, Learned, State, sums_by_class

OPTIONS = {"shrinkage": 1e-4}
CHOICES = {"freeze": True, "training": {"epochs": 0}}


class SLDA(FeatureClassifier):
    """means: float64 (classes, d). scatter: float64 (d, d). images: their number, int64 ()."""

    def fit(self, learned: Learned, before: State) -> State:
        features, label = learned.new()
        sums = sums_by_class(features, label, learned.n_old, sum(learned.sizes))
        means = sums / np.bincount(label)[learned.n_old :, None]
        apart = features - means[label - learned.n_old]
        scatter, images = apart.T @ apart, np.int64(len(label))
        if before:
            means = np.concatenate([before["means"], means])
            scatter, images = before["scatter"] + scatter, before["images"] + images
        return {"means": means, "scatter": scatter, "images": images}

    def scores(self, features: np.ndarray, state: State) -> np.ndarray:
        means, eps = state["means"], self.options["shrinkage"]
        sigma = (1 - eps) * state["scatter"] / state["images"] + eps * np.eye(means.shape[1])
        weight = np.linalg.solve(sigma, means.T)
        return features @ weight - (means.T * weight).sum(axis=0) / 2
