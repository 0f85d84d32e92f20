"""The auxiliary classifier of methods that grow: it sees the features of the newest branch alone.

It tells the new classes from one another and from one kind for all old classes (DER, Yan et al.,
CVPR 2021, section 3.2). Only training needs it.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from wa.methods.learner import Learner


def add(learner: Learner) -> None:
    """Add one to the model of a learner, after the model has grown."""
    model, kinds = learner.model, learner.task.sizes[-1] + 1
    model.auxiliary = nn.Linear(model.width, kinds).to(learner.trainer.device)


def loss(learner: Learner, features: Tensor, label: Tensor) -> Tensor:
    """Its cross-entropy, (B,): the target is 0 for all old classes, 1 for the first new one.

    features: (B, d), of all branches. label: int64 (B,).
    """
    logits = learner.model.auxiliary(features[:, -learner.model.width :]).float()
    kind = (label - learner.task.n_old + 1).clamp(min=0)
    return F.cross_entropy(logits, kind, reduction="none")
