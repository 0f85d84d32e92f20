"""Write what each process would feed to the network in its first steps, and features.

    torchrun --standalone --nproc-per-node 2 tests/training/gather_inputs.py FOLDER OPTIONS

OPTIONS are those of wa.training.train. tests/training/test_engine.py runs this.
"""

import sys
from pathlib import Path

import torch

from wa.randomness import key, shuffled
from wa.training import engine, train
from wa.training.engine import AUGMENT, SHUFFLE

trainer = train.prepare(*train.parse(sys.argv[2:]))
processes = trainer.processes
draw = key(0, 2, 1, AUGMENT)
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
# Several batches of features. The statistics of batch norm of the first process count.
engine.FEATURES = 100 * 64
for buffer in trainer.model.buffers():
    buffer.add_(processes.rank)
features = trainer.features(trainer.task.images)
torch.save((inputs, features), Path(sys.argv[1], f"{processes.rank}.pt"))
processes.close()
