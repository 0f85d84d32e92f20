"""LUCIR: cosines in place of logits, features that keep their direction, and a margin.

Hou et al., "Learning a Unified Classifier Incrementally via Rebalancing", CVPR 2019. A logit is
sigma cos(w_c, phi(x)), with one learned scale sigma. After task 0 the loss of an image is

    CE + lambda (1 - cos(phi(x), phi'(x))) + sum_k max(0, margin - cos_y + cos_k) / K

phi' are the features of the model before. The last term is for exemplars of old classes only, and k
runs over the K new classes with the highest cosines. lambda = distillation sqrt(n_old / n_new). The
rows of old classes stay as they are. Those of new classes begin as the mean direction of their
features, with the mean length of the old rows. This is the authors' code (class_incremental_cosine_
cifar100.py and incremental_train_and_eval_MR_LF.py). Not reproduced: a network whose last block has
no ReLU.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wa.methods.feature_classifier import FeatureClassifier, Learned, State
from wa.methods.learner import Learner, Losses
from wa.models.cosine_classifiers import CosineClassifier

OPTIONS = {"distillation": 5.0, "margin": 0.5, "rivals": 2}


class LUCIR(Learner):
    task_0 = ()
    distils = True
    classifier = CosineClassifier

    def begin(self) -> None:
        if self.teacher:
            *old, new = self.model.classifier.heads
            self.imprint(old, new)
            for head in old:
                head.requires_grad_(False)

    @torch.no_grad()
    def imprint(self, old: list[nn.Linear], new: nn.Linear) -> None:
        """Give the rows of new classes the mean direction of their features."""
        features = F.normalize(self.trainer.features(self.task.train), dim=1)
        length = torch.cat([head.weight for head in old]).norm(dim=1).mean()
        for row in range(new.out_features):
            of_class = features[self.task.train.label == self.task.n_old + row]
            new.weight[row] = F.normalize(of_class.mean(dim=0), dim=0) * length

    def losses(self, x: Tensor, label: Tensor) -> Losses:
        features = self.model.backbone(x).float()
        cosines = self.model.classifier.cosines(features).float()
        logits = self.model.classifier.sigma * cosines
        ce, rest = self.classification(logits, label), torch.zeros_like(cosines[:, 0])
        if self.teacher:
            rest = self.less_forget(features, x) + self.margin_ranking(cosines, label)
        return Losses(ce + rest, ce, rest, logits.argmax(dim=1) == label)

    def less_forget(self, features: Tensor, x: Tensor) -> Tensor:
        with torch.no_grad():
            before = self.teacher.backbone(x).float()
        ratio = self.task.n_old / self.task.sizes[-1]
        weight = self.options["distillation"] * math.sqrt(ratio)
        return weight * (1 - F.cosine_similarity(features, before, dim=1))

    def margin_ranking(self, cosines: Tensor, label: Tensor) -> Tensor:
        """The mean over the exemplars in the batch, shared among its images."""
        n_old = self.task.n_old
        is_own = torch.arange(cosines.shape[1], device=label.device) == label[:, None]
        own = (cosines * is_own).sum(dim=1, keepdim=True)
        rivals = cosines[:, n_old:].topk(min(self.options["rivals"], self.task.sizes[-1])).values
        hinge = (self.options["margin"] - own + rivals).clamp(min=0).mean(dim=1)
        return hinge * self.mean_over(label < n_old)


class Cosine(FeatureClassifier):
    """The trained cosines. weight: (classes, d), rows of length 1. sigma: the scale, ()."""

    def fit(self, learned: Learned, before: State) -> State:
        length = np.linalg.norm(learned.weight, axis=1, keepdims=True)
        weight = learned.weight / np.maximum(length, 1e-12)
        return {"weight": weight, "sigma": learned.tensors["classifier.sigma"]}

    def scores(self, features: np.ndarray, state: State) -> np.ndarray:
        length = np.linalg.norm(features, axis=1, keepdims=True)
        return state["sigma"] * (features / np.maximum(length, 1e-12) @ state["weight"].T)

    def logits(self, learned: Learned, features: np.ndarray) -> np.ndarray:
        return self.scores(features, self.fit(learned, {}))
