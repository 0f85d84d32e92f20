"""PODNet: feature maps that stay alike after pooling, and several proxies of each class.

Douillard et al., "PODNet: Pooled Outputs Distillation for Small-Tasks Incremental Learning", ECCV
2020. Features h and the K proxies of each class have length 1 (equations 9 and 10):

    y_c = sum_k softmax_k(theta_ck . h) theta_ck . h
    LSC = -log( exp(eta y_c*) / (exp(eta max_c y_c) + sum_{c != c*} exp(eta y_c)) )

This is the authors' code (arthurdouillard/incremental_learning.pytorch). Equation 10 leaves c* out
of the sum, and has a margin beside y_c*. With it, a negative eta makes the loss 0.

The scale eta is learned. After task 0 the loss of an image is LSC and, with sqrt(n_seen / n_new),

    spatial  mean over the stages of || p - p' || + flat (1 - cos(h, h')),

where p has the sums of the squared map over each row and over each column, as one vector of length
1, and p', h' are of the model before (equations 4 to 8, in the form of the authors' code). Old
proxies stay. New ones begin as the centres of K clusters of the features. Then the classifier alone
is trained on equally many images of each class.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wa.data.batches import Images
from wa.methods.balanced import balanced
from wa.methods.feature_classifier import FeatureClassifier, Learned, State
from wa.methods.learner import Learner, Losses
from wa.models.cosine_classifiers import PROXIES, ProxyClassifier, centres
from wa.models.feature_maps import FeatureMaps, pooled

OPTIONS = {"spatial": 3.0, "flat": 1.0, "fine_tuning_epochs": 20, "fine_tuning_lr": 0.05}


class PODNet(Learner):
    needs_memory = True
    task_0 = ()
    distils = True
    classifier = ProxyClassifier

    def begin(self) -> None:
        if self.teacher:
            self.maps = FeatureMaps(self.model.backbone)
            self.maps_before = FeatureMaps(self.teacher.backbone)
            self.imprint()
            for part in (*self.model.classifier.heads[:-1], *self.model.classifier.more[:-1]):
                part.requires_grad_(False)

    @torch.no_grad()
    def imprint(self) -> None:
        """Let the proxies of new classes begin as the centres of clusters of their features."""
        features = F.normalize(self.trainer.features(self.task.train), dim=1)
        classifier = self.model.classifier
        length = classifier.proxies()[: self.task.n_old].norm(dim=2).mean()
        others = classifier.more[-1].weight.unflatten(0, (-1, PROXIES - 1))
        for row in range(self.task.sizes[-1]):
            of_class = features[self.task.train.label == self.task.n_old + row]
            found = centres(of_class, PROXIES) * length
            classifier.heads[-1].weight[row], others[row] = found[0], found[1:]

    def losses(self, x: Tensor, label: Tensor) -> Losses:
        features = self.model.backbone(x).float()
        similarity = self.model.classifier(features)
        lsc, rest = self.lsc(similarity, label), torch.zeros_like(features[:, 0])
        if self.teacher:
            rest = self.distilled(features, x)
        return Losses(lsc + rest, lsc, rest, similarity.argmax(dim=1) == label)

    def lsc(self, similarity: Tensor, label: Tensor) -> Tensor:
        scores = self.model.classifier.eta * similarity
        is_own = torch.arange(scores.shape[1], device=label.device) == label[:, None]
        own = (scores * is_own).sum(dim=1)
        others = torch.where(is_own, scores.amax(dim=1, keepdim=True), scores)
        return others.logsumexp(dim=1) - own

    def distilled(self, features: Tensor, x: Tensor) -> Tensor:
        with torch.no_grad():
            before = self.teacher.backbone(x).float()
        pairs = zip(self.maps.maps, self.maps_before.maps, strict=True)
        apart = torch.stack([(pooled(new) - pooled(old)).norm(dim=1) for new, old in pairs])
        flat = 1 - F.cosine_similarity(features, before, dim=1)
        growth = math.sqrt(self.task.n_seen / self.task.sizes[-1])
        spatial = self.options["spatial"] * apart.mean(dim=0)
        return growth * (spatial + self.options["flat"] * flat)

    def second(self) -> dict[str, object]:
        if not self.task.n_old:
            return {}
        epochs, lr = self.options["fine_tuning_epochs"], self.options["fine_tuning_lr"]
        return {"epochs": epochs, "lr": lr, "schedule": "constant", "warmup": 0}

    def begin_second(self) -> Images:
        images = balanced(self)
        self.model.backbone.requires_grad_(False)
        self.model.classifier.requires_grad_(True).eta.requires_grad_(False)
        return images


class Proxies(FeatureClassifier):
    """The trained similarity. proxies: (classes, K, d), each of length 1."""

    def fit(self, learned: Learned, before: State) -> State:
        more = [learned.tensors[f"classifier.more.{t}.weight"] for t in range(len(learned.sizes))]
        first, width = learned.weight[:, None], learned.weight.shape[1]
        others = np.concatenate(more).reshape(len(first), PROXIES - 1, width)
        proxies = np.concatenate([first, others], axis=1)
        length = np.linalg.norm(proxies, axis=2, keepdims=True)
        return {"proxies": proxies / np.maximum(length, 1e-12)}

    def scores(self, features: np.ndarray, state: State) -> np.ndarray:
        length = np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
        similarity = np.einsum("nd,ckd->nck", features / length, state["proxies"], optimize=True)
        powers = np.exp(similarity)
        return (powers * similarity).sum(axis=2) / powers.sum(axis=2)

    def logits(self, learned: Learned, features: np.ndarray) -> np.ndarray:
        scores = self.scores(features, self.fit(learned, {}))
        return learned.tensors["classifier.eta"] * scores
