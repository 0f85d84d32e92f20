"""Equally many images of each class, for a second stage.

This is a module of its own, so that herding counts for the training of those methods only.
"""

import numpy as np

from wa.data.batches import Images
from wa.methods.learner import Learner
from wa.methods.selection import rank_classes


def balanced(learner: Learner) -> Images:
    """The memory after this task: equally many images of each class, chosen by herding.

    Raises UserError if the method has no memory.
    """
    learner.need_memory()
    task = learner.task
    each = task.memory.per_class(task.n_seen)
    features = learner.trainer.features(task.images).cpu().numpy()
    chosen = np.zeros(len(task.images), bool)
    for rows in rank_classes(features, task.images.label.cpu().numpy()).values():
        chosen[rows[:each]] = True
    return task.images.part(chosen)
