"""What the seam for methods costs: a training whose loss is a Learner's, against the loss itself.

    .venv/bin/python benchmarks/seam.py

The two trainings are alike, and end with the same bits. The loss is CE + 0.5 KL T^2 with a teacher.
One takes it from the standard Learner, as every method does. The other computes it in the step, as
the engine did before methods had a seam. By default the network and the images are tiny, because
the seam counts most where a step is short. Each round trains an epoch of both, one after the other,
and every second round in the other order. Times are processor seconds of one thread, so that other
work on the machine counts little. The difference is that of pairs, with its interval of 95 %.
"""

import argparse
import math
import os
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from train_step import NEW, OLD, pack, trainer_of

from wa.analysis.statistics import differences
from wa.methods.learner import Losses
from wa.training.engine import Trainer


class Direct(Trainer):
    """The engine with the standard loss in its step."""

    def losses(self, x: Tensor, label: Tensor) -> Losses:
        with self.autocast:
            logits = self.model(x).float()
            ce = F.cross_entropy(logits, label, reduction="none")
            with torch.no_grad():
                teacher = self.teacher(x).float()
            log_student = F.log_softmax(logits[:, :OLD] / 2, dim=1)
            log_teacher = F.log_softmax(teacher / 2, dim=1)
            kl = F.kl_div(log_student, log_teacher, reduction="none", log_target=True)
            kd = kl.sum(dim=1) * 2**2
        return Losses(ce + 0.5 * kd, ce, kd, logits.argmax(dim=1) == label)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--backbone", default="resnet8")
    add("--size", type=int, default=8, help="pixels of a side (default: 8)")
    add("--batch-size", type=int, default=32)
    add("--images", type=int, default=2048, help="of an epoch (default: 2048)")
    add("--rounds", type=int, default=16, help="the first one does not count (default: 16)")
    args = parser.parse_args()
    shape, draw = (args.images, args.size, args.size, 3), np.random.default_rng(0)
    images = draw.integers(0, 256, shape, dtype=np.uint8)
    settings = ["--backbone", args.backbone, "--batch-size", str(args.batch_size)]
    settings += ["--epochs", str(args.rounds), "--distillation", "0.5", "--precision", "float32"]
    settings += ["--augmentation", "crop-1", "--device", "cpu"]
    with tempfile.TemporaryDirectory() as folder:
        labels = np.arange(args.images) % (OLD + NEW)
        pack(Path(folder), images, labels, args.backbone, (args.size, args.size))
        sides = {name: trainer_of(Path(folder), *settings) for name in ("direct", "learner")}
    sides["direct"].__class__ = Direct
    seconds = {name: [] for name in sides}
    for epoch in range(args.rounds):
        for name in (list(sides), list(sides)[::-1])[epoch % 2]:
            started = time.process_time()
            sides[name].epoch(epoch)
            seconds[name].append(time.process_time() - started)
    weights = [side.model.tensors() for side in sides.values()]
    same = all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert same, "the two trainings must end with the same bits"
    times = pd.DataFrame(seconds).iloc[1:]
    for name in sides:
        print(f"{name:8} {args.images / times[name].median():8.0f} images/s")
    (found,) = differences(times.map(math.log), "direct")
    change, low, high = (
        100 * (math.exp(value) - 1) for value in (found.mean, found.low, found.high)
    )
    print(
        f"the seam takes {change:+.1f} % more time ({low:+.1f} to {high:+.1f}, {found.pairs} pairs)"
    )


if __name__ == "__main__":
    main()
