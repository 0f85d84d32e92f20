"""DER: a new network for each task, beside the frozen ones of the tasks before.

Yan et al., "DER: Dynamically Expandable Representation for Class Incremental Learning", CVPR 2021.
The features are those of all networks together, Phi_t(x) = [Phi_{t-1}(x), F_t(x)] (section 3.2).
The networks of the tasks before are frozen, with the statistics of their batch norms. F_t begins as
a copy of F_{t-1}. The loss of an image is

    -log softmax(H_t Phi_t(x))_y + auxiliary (-log softmax(H_a F_t(x))_a)

where H_a sees the new network alone, and a is 0 for every old class, and else the number of the new
class, from 1. Then the classifier is drawn anew, and trained alone on equally many images of each
class, with the logits divided by `temperature` (section 3.4).

This is DER without pruning (section 3.3). The numbers of the second stage are those of the authors'
code (Rhyssiyan/DER-ClassIL.pytorch, exps/der_womask). Its images are the memory after this task,
chosen by herding, where the authors draw as many new images as there are exemplars of a class.
"""

import torch
from torch import Tensor, nn

from wa.data.batches import Images
from wa.methods import auxiliary
from wa.methods.balanced import balanced
from wa.methods.learner import Learner, Losses

OPTIONS = {
    "auxiliary": 1.0,
    "temperature": 5.0,
    "fine_tuning_epochs": 30,
    "fine_tuning_lr": 0.1,
}


class DER(Learner):
    needs_memory = True
    distils = False
    temperature = 1.0  # of the first stage

    def begin(self) -> None:
        if self.task.n_old:
            self.model.grow()
            auxiliary.add(self)

    def losses(self, x: Tensor, label: Tensor) -> Losses:
        features = self.model.backbone(x)
        logits = self.model.classifier(features).float()
        ce = self.classification(logits / self.temperature, label)
        other = torch.zeros_like(ce)
        if isinstance(self.model.auxiliary, nn.Linear):
            other = auxiliary.loss(self, features, label)
        total = ce + self.options["auxiliary"] * other
        return Losses(total, ce, other, logits.argmax(dim=1) == label)

    def second(self) -> dict[str, object]:
        epochs, lr = self.options["fine_tuning_epochs"], self.options["fine_tuning_lr"]
        if not self.task.n_old or not epochs:
            return {}
        schedule = {"schedule": "step", "milestones": (epochs // 2,)} if epochs > 1 else {}
        return {"epochs": epochs, "lr": lr, "warmup": 0, **schedule}

    def begin_second(self) -> Images:
        images = balanced(self)
        self.model.auxiliary = nn.Identity()
        self.model.backbone.requires_grad_(False)
        self.model.classifier.redraw()
        self.temperature = self.options["temperature"]
        return images
