"""Write what each process would feed to the network in its first steps, and features.

    torchrun --standalone --nproc-per-node 2 tests/training/gather_inputs.py FOLDER OPTIONS

OPTIONS are those of wa.training.train. tests/training/test_engine.py runs this.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor

from wa.randomness import key, shuffled
from wa.training import engine, train
from wa.training.engine import AUGMENT, SHUFFLE, Trainer

FEW = 100 * 64  # pixels of images that are embedded at once: several batches of features


def gather(trainer: Trainer) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """What this process sees of an epoch, and the features of all images.

    For each batch: the numbers of its images, and the inputs.
    """
    processes, draw = trainer.processes, key(0, 2, 1, AUGMENT)
    trainer.draw.copy_(draw)
    order = shuffled(key(0, 2, 1, SHUFFLE), len(trainer.task.train))
    parts = [
        batch.tensor_split(processes.size)[processes.rank]
        for batch in order.split(trainer.settings.batch_size)
    ]
    inputs = [
        (trainer.task.train.index[rows], trainer.inputs(rows, images))
        for rows, images in zip(parts, trainer.augmented(parts, draw), strict=True)
    ]
    # The statistics of batch norm of the first process count.
    for buffer in trainer.model.buffers():
        buffer.add_(processes.rank)
    return inputs, trainer.features(trainer.task.images)


if __name__ == "__main__":
    engine.FEATURES = FEW
    trainer = train.prepare(*train.parse(sys.argv[2:]))
    torch.save(gather(trainer), Path(sys.argv[1], f"{trainer.processes.rank}.pt"))
    trainer.processes.close()
