"""The losses: of classification, and of distillation from the model of the task before.

Each returns one value an image, (B,), so that the mean is over the global batch however it is shared out. To add one, write a
function with the same arguments and put it, by name, into its table below; then run `make reference`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, label: Tensor, n_old: int, smoothing: float = 0.0) -> Tensor:
    """-log softmax(logits)[label]. logits: (B, classes); label: int64 (B,)."""
    return F.cross_entropy(logits, label, label_smoothing=smoothing, reduction="none")


def separated_cross_entropy(
    logits: Tensor, label: Tensor, n_old: int, smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy among the n_old old classes for an image of an old class, among the new ones for one of a new class.

    Ahn et al., "SS-IL: Separated Softmax for Incremental Learning", ICCV 2021 (as in their code, trainer/ssil.py). Without a
    memory all labels are new, and this is the loss of LwF (Li & Hoiem, ECCV 2016): the new head by itself.
    """
    new = cross_entropy(logits[:, n_old:], (label - n_old).clamp(min=0), 0, smoothing)
    if not n_old:
        return new
    old = cross_entropy(logits[:, :n_old], label.clamp(max=n_old - 1), 0, smoothing)
    return torch.where(label < n_old, old, new)


def distillation(
    student: Tensor, teacher: Tensor, temperature: float, old_sizes: list[int]
) -> Tensor:
    """The Kullback-Leibler divergence of the student from the teacher over the old classes, both softened.

    student: the student's logits of the old classes, (B, old); teacher: (B, old). Hinton et al., 2015; Zhao et al.,
    equation 3, has the cross-entropy in place of the divergence: the gradient is the same.
    """
    log_student = F.log_softmax(student / temperature, dim=1)
    log_teacher = F.log_softmax(teacher / temperature, dim=1)
    return F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(dim=1)


def taskwise_distillation(
    student: Tensor, teacher: Tensor, temperature: float, old_sizes: list[int]
) -> Tensor:
    """The sum of the divergences over the classes of each old task by itself (SS-IL). old_sizes: classes a task."""
    tasks = zip(student.split(old_sizes, dim=1), teacher.split(old_sizes, dim=1), strict=True)
    return sum(distillation(s, t, temperature, []) for s, t in tasks)


CLASSIFICATION = {"softmax": cross_entropy, "separated": separated_cross_entropy}
DISTILLATION = {"softmax": distillation, "taskwise": taskwise_distillation}


def distillation_weight(distillation: float | str, n_old: int, n_seen: int) -> float:
    """lambda: a number, or `dynamic`, n_old / n_seen (Zhao et al., section 3.1)."""
    return n_old / n_seen if distillation == "dynamic" else float(distillation)
