"""Equally many images of each class, for a second stage.

This is a module of its own, so that herding counts for the training of those methods only.
"""

from typing import TYPE_CHECKING

import numpy as np

from wa.data.batches import Images
from wa.methods.learner import Learner
from wa.methods.selection import rank_classes

if TYPE_CHECKING:
    from wa.data.task import Task


def share(task: "Task") -> int | None:
    """How many images of each class the memory after this task has. None: all.

    With `held_out`, it is no more than an old class has left to train on.
    """
    each = task.memory.per_class(task.n_seen)
    if each is None or not task.held_out.any():
        return each
    left = np.bincount(task.train.label.cpu().numpy())[: task.n_old]
    return int(min(each, left[left > 0].min()))


def balanced(learner: Learner) -> Images:
    """The memory after this task: equally many images of each class, chosen by herding.

    They are images that the task trains on, so none is held out. Raises UserError if the method has
    no memory.
    """
    learner.need_memory()
    task = learner.task
    images, each = task.train, share(task)
    features = learner.trainer.features(images).cpu().numpy()
    chosen = np.zeros(len(images), bool)
    for rows in rank_classes(features, images.label.cpu().numpy()).values():
        chosen[rows[:each]] = True
    return images.part(chosen)
