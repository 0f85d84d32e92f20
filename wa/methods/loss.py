"""The losses of classification, and of distillation from the model of the task before.

Each returns one value for each image, (B,). So the mean is over the global batch, even if several
processes share it. To add a loss, write a function with the same arguments, put it into its table
below, and run `make reference`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, label: Tensor, n_old: int, smoothing: float = 0.0) -> Tensor:
    """-log softmax(logits)[label]. logits: (B, classes). label: int64 (B,)."""
    return F.cross_entropy(logits, label, label_smoothing=smoothing, reduction="none")


def separated_cross_entropy(
    logits: Tensor, label: Tensor, n_old: int, smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy over the old classes for an image of an old class, over the new for others.

    logits: (B, classes), the n_old old classes first. label: int64 (B,). Ahn et al., "SS-IL:
    Separated Softmax for Incremental Learning", ICCV 2021, as in their code (trainer/ssil.py).
    Without a memory all labels are new. Then this is the loss of LwF (Li & Hoiem, ECCV 2016).
    """
    new = cross_entropy(logits[:, n_old:], (label - n_old).clamp(min=0), 0, smoothing)
    if not n_old:
        return new
    old = cross_entropy(logits[:, :n_old], label.clamp(max=n_old - 1), 0, smoothing)
    return torch.where(label < n_old, old, new)


def distillation(
    student: Tensor, teacher: Tensor, temperature: float, old_sizes: list[int]
) -> Tensor:
    """The Kullback-Leibler divergence of the student from the teacher, over the old classes.

    student, teacher: logits of the old classes, (B, old). Both are divided by the temperature
    (Hinton et al., 2015). Zhao et al., equation 3, have the cross-entropy in its place, which has
    the same gradient.
    """
    log_student = F.log_softmax(student / temperature, dim=1)
    log_teacher = F.log_softmax(teacher / temperature, dim=1)
    return F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(dim=1)


def taskwise_distillation(
    student: Tensor, teacher: Tensor, temperature: float, old_sizes: list[int]
) -> Tensor:
    """The sum of one divergence for each old task, over its own classes (SS-IL).

    student, teacher: logits of the old classes, (B, old). old_sizes: the classes of each task.
    """
    tasks = zip(student.split(old_sizes, dim=1), teacher.split(old_sizes, dim=1), strict=True)
    return sum(distillation(s, t, temperature, []) for s, t in tasks)


CLASSIFICATION = {"softmax": cross_entropy, "separated": separated_cross_entropy}
DISTILLATION = {"softmax": distillation, "taskwise": taskwise_distillation}


def distillation_weight(distillation: float | str, n_old: int, n_seen: int) -> float:
    """lambda, the weight of the distillation. `dynamic` is n_old / n_seen (Zhao et al., 3.1)."""
    return n_old / n_seen if distillation == "dynamic" else float(distillation)
