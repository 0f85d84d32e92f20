"""FOSTER: a new network learns what the old one lacks, and then one network learns from both.

Wang et al., "FOSTER: Feature Boosting and Compression for Class-Incremental Learning", ECCV 2022.
First the model is the frozen old network and a new one, which begins as its copy. One classifier W
sees the features of both (section 4.2, boosting). The loss of an image is

    -log softmax(o / w)_y  -  log softmax(A F(x))_y  +  distillation KL(softmax_T(o'), softmax_T(o))

with o = W [F'(x), F(x)] and T = 2. o' are the logits of the old model, and the last term is over
the old classes. A classifier A sees the new network alone. The logits are aligned: w_c is
(1 - beta) / (1 - beta^n_c), divided by its mean over the classes, where n_c is the number of images
of class c (Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019).

Then the old model, with rows for the new classes, learns from both networks (section 4.3,
compression). Its logits q have the balanced distillation as loss:

    -sum_c p_c log softmax_T(q)_c,   p_c = w_c softmax_T(o)_c / sum_k w_k softmax_T(o)_k

with another beta. One network is left. With `compression_epochs: 0` both stay, and the next task
adds a third. This is the authors' code (G-U-N/ECCV22-FOSTER, models/foster.py).
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wa.data.batches import Images
from wa.methods.learner import Learner, Losses
from wa.methods.loss import distillation

OPTIONS = {
    "beta": 0.96,
    "compression_beta": 0.97,
    "distillation": 1.0,
    "compression_epochs": 130,
    "compression_lr": 0.1,
}
TEMPERATURE = 2.0


class FOSTER(Learner):
    needs_memory = True
    distils = False
    both: nn.Module | None = None  # both networks, when the second stage has begun

    def begin(self) -> None:
        if self.task.n_old:
            self.need_memory()
            self.weights = self.aligning(self.options["beta"])
            self.old = copy.deepcopy(self.model)
            self.model.grow()
            a = nn.Linear(self.model.width, self.task.n_seen)
            self.model.auxiliary = a.to(self.trainer.device)

    def aligning(self, beta: float) -> Tensor:
        """The weights w of all classes: (classes,). Those of classes with images have a mean of 1.

        A class without images, as `wa forget` leaves it, has the weight 1.
        """
        counts = torch.bincount(self.task.train.label, minlength=self.task.n_seen)
        there = counts > 0
        weights = (1 - beta) / (1 - beta ** counts.double())
        return torch.where(there, weights / weights[there].mean(), 1.0).float()

    def losses(self, x: Tensor, label: Tensor) -> Losses:
        if not self.task.n_old:
            return super().losses(x, label)
        return self.compressed(x, label) if self.both else self.boosted(x, label)

    def boosted(self, x: Tensor, label: Tensor) -> Losses:
        features, width = self.model.backbone(x), self.model.width
        logits = self.model.classifier(features).float()
        with torch.no_grad():
            old = self.old.classifier(features[:, :-width]).float()
        n_old = self.task.n_old
        kd = distillation(logits[:, :n_old], old[:, :n_old], TEMPERATURE, [])
        alone = self.model.auxiliary(features[:, -width:]).float()
        other = self.classification(alone, label) + self.options["distillation"] * kd
        aligned = self.classification(logits / self.weights, label)
        return Losses(aligned + other, aligned, other, logits.argmax(dim=1) == label)

    def compressed(self, x: Tensor, label: Tensor) -> Losses:
        with torch.no_grad():
            wanted = self.weights * F.softmax(self.both(x).float() / TEMPERATURE, dim=1)
            wanted = wanted / wanted.sum(dim=1, keepdim=True)
        logits = self.model(x).float()
        loss = -(wanted * F.log_softmax(logits / TEMPERATURE, dim=1)).sum(dim=1)
        return Losses(loss, torch.zeros_like(loss), loss, logits.argmax(dim=1) == label)

    def second(self) -> dict[str, object]:
        epochs, lr = self.options["compression_epochs"], self.options["compression_lr"]
        if not self.task.n_old or not epochs:
            return {}
        return {"epochs": epochs, "lr": lr, "schedule": "cosine", "warmup": 0, "weight_decay": 0.0}

    def begin_second(self) -> Images:
        self.processes.share_buffers(self.model)
        self.weights = self.aligning(self.options["compression_beta"])
        self.both = self.model.requires_grad_(False).eval()
        self.trainer.model = self.model = self.old
        return self.task.train
