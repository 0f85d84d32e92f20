"""IL2M: the scores of old classes are rectified by what they were when the classes were learned.

Belouadah & Popescu, "IL2M: Class Incremental Learning With Dual Memory", ICCV 2019, equation 1. An
image that the network takes for a new class gets, for each old class c that task t brought,

    p'_c = p_c  (mean initial score of c / mean score of c now)  (confidence now / confidence at t)

The scores are softmax probabilities, where the authors' code has the raw outputs of the network
(EdenBelouadah/class-incremental-learning, il2m/codes). The initial mean is that of p_c over the
images of c after task t, and the mean now is over its exemplars. The confidence of a model is the
mean of the best score over the images of its new classes. Other images keep their scores. The
network is fine-tuned with a memory and the cross-entropy alone.
"""

import numpy as np

from wa.errors import UserError
from wa.methods.feature_classifier import FeatureClassifier, Learned, State, joined, sums_by_class


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


class IL2M(FeatureClassifier):
    """initial: (classes,). confidence: of the task of each class, (classes,). now: (n_old,)."""

    needs_memory = True

    def fit(self, learned: Learned, before: State) -> State:
        scores = softmax(learned.features.astype(np.float64) @ learned.weight.T + learned.bias)
        label, n_old, n_seen = learned.label, learned.n_old, sum(learned.sizes)
        counts = np.bincount(label, minlength=n_seen)
        if not counts.all():
            raise UserError("algorithm il2m needs a memory with exemplars of each old class")
        own = scores[np.arange(len(label)), label]
        means = sums_by_class(own[:, None], label, 0, n_seen)[:, 0] / counts
        confidence = np.full(n_seen - n_old, scores[label >= n_old].max(axis=1).mean())
        state = joined(before, {"initial": means[n_old:], "confidence": confidence})
        return state | {"now": means[:n_old], "weight": learned.weight, "bias": learned.bias}

    def scores(self, features: np.ndarray, state: State) -> np.ndarray:
        scores = softmax(features.astype(np.float64) @ state["weight"].T + state["bias"])
        n_old = len(state["now"])
        is_new = scores.argmax(axis=1) >= n_old
        factor = state["initial"][:n_old] / state["now"]
        factor = factor * state["confidence"][-1] / state["confidence"][:n_old]
        scores[is_new, :n_old] *= factor
        return scores
