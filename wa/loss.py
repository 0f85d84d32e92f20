"""The losses: cross-entropy, and knowledge distillation from the model of the task before.

Each returns one value an image, (B,), so that the mean is over the global batch however it is shared out.
"""

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, label: Tensor, smoothing: float = 0.0) -> Tensor:
    """-log softmax(logits)[label]. logits: (B, classes); label: int64 (B,)."""
    return F.cross_entropy(logits, label, label_smoothing=smoothing, reduction="none")


def distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """The Kullback-Leibler divergence of the student from the teacher over the old classes, both softened.

    student: the student's logits of the old classes, (B, old); teacher: (B, old). Hinton et al., 2015; Zhao et al.,
    equation 3, has the cross-entropy in place of the divergence: the gradient is the same.
    """
    log_student = F.log_softmax(student / temperature, dim=1)
    log_teacher = F.log_softmax(teacher / temperature, dim=1)
    return F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(dim=1)


def distillation_weight(distillation: float | str, n_old: int, n_seen: int) -> float:
    """lambda: a number, or `dynamic`, n_old / n_seen (Zhao et al., section 3.1)."""
    return n_old / n_seen if distillation == "dynamic" else float(distillation)
