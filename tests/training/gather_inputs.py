"""Write what each process would feed to the network in its first steps.

    torchrun --standalone --nproc-per-node 2 tests/training/gather_inputs.py FOLDER OPTIONS

OPTIONS are those of wa.training.train. tests/training/test_engine.py runs this.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor

from wa.randomness import key, shuffled
from wa.training import train
from wa.training.engine import AUGMENT, SHUFFLE, Trainer


def gather(trainer: Trainer) -> list[tuple[Tensor, Tensor]]:
    """(the rows of the images, the inputs) of this process, for each batch of an epoch."""
    processes = trainer.processes
    trainer.draw.copy_(key(0, 2, 1, AUGMENT))
    order = shuffled(key(0, 2, 1, SHUFFLE), len(trainer.task.train))
    parts = [
        batch.tensor_split(processes.size)[processes.rank]
        for batch in order.split(trainer.settings.batch_size)
    ]
    return [(trainer.task.train.index[rows], trainer.inputs(rows)) for rows in parts]


if __name__ == "__main__":
    trainer = train.prepare(*train.parse(sys.argv[2:]))
    torch.save(gather(trainer), Path(sys.argv[1], f"{trainer.processes.rank}.pt"))
    trainer.processes.close()
