"""GDumb: a network from scratch, trained on the memory alone, with equally many images of a class.

Prabhu et al., "GDumb: A Simple Approach that Questions Our Progress in Continual Learning", ECCV
2020, algorithms 1 and 2. The memory is shared equally by the classes seen so far, and its images
are a random sample of each class. Here an image stays in the memory if a number that depends on
the seed and the image is among the smallest of its class.

Not reproduced: task 0 is trained on all of its images, as other methods train it. The paper's 256
epochs, batches of 16, cosine with warm restarts and CutMix are settings, or are not there.
"""

import numpy as np

from wa.methods.balanced import share
from wa.methods.learner import Learner
from wa.randomness import HOLD_OUT, key, uniform

CHOICES = {"start": "scratch", "selection": "random"}


class GDumb(Learner):
    needs_memory = True

    def begin(self) -> None:
        self.need_memory()
        images, each = self.task.train, share(self.task)
        label = images.label.cpu().numpy()
        draw = key(self.trainer.seed, 0, HOLD_OUT)
        number = uniform(draw, images.index.cpu(), 1).flatten().numpy()
        chosen = np.zeros(len(label), bool)
        for c in range(self.task.n_seen):
            rows = np.flatnonzero(label == c)
            chosen[rows[number[rows].argsort(kind="stable")[:each]]] = True
        self.task.train = images.part(chosen)
