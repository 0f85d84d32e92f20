"""How a method trains: what it may change of the training of a task.

The training engine asks the method's learner for the loss of each image, and for all else that
methods differ in. `Learner` itself is the standard: cross-entropy and distillation, as the settings
name them. Another method is a subclass in a file of its own, in wa/methods/algorithms or in a file
of the user. It overrides what it does otherwise, and leaves the rest.

A loss runs inside a CUDA graph on a GPU. So it must not read a value back (`.item()`), and its
shapes must not depend on the data. It returns one value for each image, because several processes
may share a batch.
"""

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from wa.errors import UserError
from wa.methods.loss import CLASSIFICATION, DISTILLATION, distillation_weight
from wa.models.model import CilClassifier

if TYPE_CHECKING:
    from wa.data.batches import Images
    from wa.training.engine import Trainer


class Losses(NamedTuple):
    """What a learner returns for the images of a batch, each (B,).

    total: the loss. classification, other: its two parts, as the history shows them. right: whether
    the prediction is right.
    """

    total: Tensor
    classification: Tensor
    other: Tensor
    right: Tensor


class Learner:
    """How a method trains a task.

    trainer: what trains. Its model has a head for the new classes. Its teacher is the frozen model
    of the task before, in evaluation mode, or None in task 0 and for a learner that needs none.
    options: those of the algorithm. state: what `end` returned after the task before, by name.
    Both models and the state are on the device.
    """

    # None: task 0 is trained as every other method trains it, and shared with them. A tuple: the
    # method has a task 0 of its own, and these are the options that matter there.
    task_0: tuple[str, ...] | None = None
    # Whether it needs a teacher. None: the setting `distillation` says so. Otherwise the method has
    # a loss of its own, and that setting is refused.
    distils: bool | None = None
    needs_memory = False  # True: a config without a memory is refused
    classifier = CilClassifier  # the class of the model's classifier
    penalizes = False  # True: `penalty` is added to the loss

    def __init__(self, trainer: "Trainer", options: dict, state: dict[str, Tensor]):
        self.trainer, self.options, self.state = trainer, options, state
        self.model, self.teacher = trainer.model, trainer.teacher
        self.task, self.settings = trainer.task, trainer.settings
        self.processes = trainer.processes
        self.kd_weight = (
            distillation_weight(self.settings.distillation, self.task.n_old, self.task.n_seen)
            if self.teacher
            else 0.0
        )
        self.begin()

    def begin(self) -> None:
        """Called before the first epoch, and again when a killed training goes on.

        The model is still that of the task before, with new rows for the new classes. What depends
        on it alone can be kept here. The backbone may grow: `self.model.grow()`. Layers for the
        training alone may be added: `self.model.auxiliary = ...`, on the device.
        """

    def losses(self, x: Tensor, label: Tensor) -> Losses:
        """The losses of images. x: float (B, C, H, W), normalised. label: int64 (B,)."""
        logits = self.model(x).float()
        ce = self.classification(logits, label)
        kd = torch.zeros_like(ce)
        if self.kd_weight:
            kd = self.distillation(logits, x)
        ce_weight = 1 - self.kd_weight if self.settings.mix == "convex" else 1.0
        total = ce_weight * ce + self.kd_weight * kd
        return Losses(total, ce, kd, logits.argmax(dim=1) == label)

    def classification(self, logits: Tensor, label: Tensor) -> Tensor:
        """The loss that the setting `classification_loss` names: (B,)."""
        loss = CLASSIFICATION[self.settings.classification_loss]
        return loss(logits, label, self.task.n_old, self.settings.label_smoothing)

    def distillation(self, logits: Tensor, x: Tensor) -> Tensor:
        """The loss that the setting `distillation_loss` names: (B,)."""
        with torch.no_grad():
            teacher = self.teacher(x).float()
        loss = DISTILLATION[self.settings.distillation_loss]
        old_sizes, temperature = self.task.sizes[:-1], self.settings.temperature
        kd = loss(logits[:, : self.task.n_old], teacher, temperature, old_sizes)
        return kd * temperature**2 if self.settings.temperature_squared else kd

    def mean_over(self, chosen: Tensor) -> Tensor:
        """Weights (B,) with which the mean over a batch is the mean over its chosen images.

        chosen: bool (B,). Several processes may share the batch.
        """
        sums = torch.stack([chosen.sum(), torch.ones_like(chosen).sum()]).float()
        self.processes.sum(sums)
        return chosen * sums[1] / sums[0].clamp(min=1)

    def penalty(self) -> Tensor:
        """A loss that depends on the parameters alone: a number. Only if `penalizes`."""
        raise NotImplementedError

    def second(self) -> dict[str, object]:
        """The settings of a second stage that differ from those of the first, such as `epochs`.

        Empty if there is none, as in task 0 of most methods.
        """
        return {}

    def begin_second(self) -> "Images":
        """Called by all processes when the second stage begins. Returns what it trains on.

        It may freeze parameters, or train another model: `self.trainer.model = self.model = ...`.
        A killed training calls it again, with the model as it was.
        """
        raise NotImplementedError

    def need_memory(self) -> None:
        """Raise UserError if the method has no memory."""
        if self.task.memory.is_none:
            raise UserError(
                f"algorithm {self.settings.algorithm} needs a memory, such as memory: 2000"
            )

    def end(self) -> dict[str, Tensor]:
        """Called by all processes after the last epoch. Returns what the next task gets as `state`.

        It is stored in the checkpoint, by the same names. All processes must return the same.
        """
        return {}
