"""EEIL: distillation task by task, then a second training on equally many images of each class.

Castro et al., "End-to-End Incremental Learning", ECCV 2018, equations 1 to 4. The loss of an image
is CE + sum over the old tasks of KL_T, each over the classes of that task, with T = 2. In the
second stage, balanced fine-tuning, the new classes are distilled too, from the model as the first
stage left it (section 4, temporary distillation). Its images are the memory after this task.

The recipe of the paper is 40 epochs with a learning rate of 0.1, then 30 epochs with 0.01, each
divided by 10 after every ten epochs. Not reproduced: noise on the gradients, more augmentation.
"""

import copy

import torch
from torch import Tensor

from wa.data.batches import Images
from wa.methods.balanced import balanced
from wa.methods.learner import Learner, Losses
from wa.methods.loss import distillation

OPTIONS = {"distillation": 1.0, "fine_tuning_epochs": 30, "fine_tuning_lr": 0.01}
TEMPERATURE = 2.0


class EEIL(Learner):
    needs_memory = True
    distils = True
    before: torch.nn.Module | None = None  # the model when the second stage began

    def losses(self, x: Tensor, label: Tensor) -> Losses:
        logits = self.model(x).float()
        ce, kd = self.classification(logits, label), torch.zeros_like(logits[:, 0])
        if self.teacher:
            kd = self.distilled(logits, self.teacher, x)
        if self.before:
            kd = kd + self.distilled(logits, self.before, x, first=len(self.task.sizes) - 1)
        total = ce + self.options["distillation"] * kd
        return Losses(total, ce, kd, logits.argmax(dim=1) == label)

    def distilled(
        self, logits: Tensor, teacher: torch.nn.Module, x: Tensor, first: int = 0
    ) -> Tensor:
        """The sum over the tasks from `first` on that the teacher knows: (B,)."""
        with torch.no_grad():
            wanted = teacher(x).float()
        sizes = self.task.sizes[: len(teacher.classifier.heads)]
        pairs = zip(logits[:, : sum(sizes)].split(sizes, 1), wanted.split(sizes, 1), strict=True)
        return sum(distillation(s, t, TEMPERATURE, []) for s, t in list(pairs)[first:])

    def second(self) -> dict[str, object]:
        if not self.task.n_old:
            return {}
        epochs = self.options["fine_tuning_epochs"]
        milestones = tuple(range(10, epochs, 10))
        schedule = {"schedule": "step", "milestones": milestones} if milestones else {}
        return {"epochs": epochs, "lr": self.options["fine_tuning_lr"], "warmup": 0, **schedule}

    def begin_second(self) -> Images:
        images = balanced(self)  # it gives all processes the same statistics of batch norm
        self.before = copy.deepcopy(self.model).requires_grad_(False).eval()
        return images
