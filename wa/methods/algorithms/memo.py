"""MEMO: a new last stage for each task, on stages that all tasks share.

Zhou et al., "A Model or 603 Exemplars: Towards Memory-Efficient Class-Incremental Learning", ICLR
2023. The features are [s_1(g(x)), ..., s_t(g(x))] (section 4). The generalised block g is all of
the network but its last stage. The specialised blocks s_1 to s_t are last stages, and those of the
tasks before are frozen, with the statistics of their batch norms. s_t begins as a copy of s_{t-1}.
The loss of an image is

    -log softmax(W features)_y + auxiliary (-log softmax(A s_t(g(x)))_a)

with a as in DER: 0 for every old class, and else the number of the new class, from 1. Afterwards
the classifier is aligned by its weights, as in WA. g goes on learning. With `freeze: true` it stays
as task 0 left it (train_base of the authors' code, wangkiw/ICLR23-MEMO).
"""

import torch
from torch import Tensor

from wa.methods import auxiliary
from wa.methods.learner import Learner, Losses

OPTIONS = {"auxiliary": 1.0}
CHOICES = {"alignment": "weight"}


class MEMO(Learner):
    distils = False

    def begin(self) -> None:
        if self.task.n_old:
            self.model.grow("stage")
            auxiliary.add(self)

    def losses(self, x: Tensor, label: Tensor) -> Losses:
        features = self.model.backbone(x)
        logits = self.model.classifier(features).float()
        ce = self.classification(logits, label)
        other = torch.zeros_like(ce)
        if self.task.n_old:
            other = auxiliary.loss(self, features, label)
        total = ce + self.options["auxiliary"] * other
        return Losses(total, ce, other, logits.argmax(dim=1) == label)
