"""How many kernels a GPU launches for a batch, and how many bytes they move. It needs no GPU.

    .venv/bin/python benchmarks/gpu_step.py
    .venv/bin/python benchmarks/gpu_step.py --backbone torchvision/resnet18 --size 256 \\
        --augmentation resized-crop-224 flip rand-m9-mstd0.5-inc1

A batch is 128 images of 100 classes, of which 50 are old. The step is the network with its teacher,
the losses and SGD, in bfloat16. It runs once on the CPU, and each operation of torch is noted. The
augmentation runs on tensors without values (meta), in the chunks and with the code of a GPU. This
is an estimate:

- Each operation that does more than make a view counts as one kernel, and the backward pass of a
  convolution as two. A GPU may need more for one operation, or one for several.
- Its bytes are those of the tensors that it reads and writes. A cache of a GPU saves some of them.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from train_step import BATCH, NEW, OLD, pack, trainer_of

from wa.data import augment
from wa.data.augmentations import output_size
from wa.randomness import key
from wa.training.engine import AUGMENTED


class Count(TorchDispatchMode):
    """Counts the kernels on a device, and the bytes that they read and write."""

    def __init__(self, device: str):
        super().__init__()
        self.device, self.kernels, self.bytes = device, 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        name = function.name().removeprefix("aten::")
        if function.is_view or name.startswith(("empty", "profiler", "detach", "lift_fresh")):
            return result
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
        if any(tensor.device.type == self.device for tensor in tensors):
            self.kernels += 2 if name.startswith("convolution_backward") else 1
            self.bytes += sum(tensor.nbytes for tensor in tensors)
        return result

    def for_each_of(self, batches: int) -> str:
        return f"{self.kernels / batches:8.0f} kernels {self.bytes / batches / 1e9:8.2f} GB"


def count_augmentation(names: list[str], size: int) -> tuple[Count, int]:
    """Augment one chunk. Returns the count, and how many batches the chunk has."""
    batches = max(1, AUGMENTED["cuda"] // (size * size * BATCH))
    index, count = torch.arange(batches * BATCH), Count("meta")
    rows = index.to("meta")
    images = torch.empty(2 * len(index), size, size, 3, dtype=torch.uint8, device="meta")
    # As Images.batch does it.
    with count:
        chunk = images.index_select(0, rows).permute(0, 3, 1, 2)
        augment.Augment(names)(chunk, key(1), index)
    return count, batches


def count_step(folder: Path, options: argparse.Namespace) -> Count:
    """Run the step of a training on one batch. The step is the second one: SGD has its momentum."""
    random, n = np.random.default_rng(0), 2 * (OLD + NEW)
    images = random.integers(0, 256, (n, options.size, options.size, 3), dtype=np.uint8)
    side = output_size(options.augmentation) or options.size
    pack(folder, images, np.arange(n) % (OLD + NEW), options.backbone, (side, side))
    settings = ["--backbone", options.backbone, "--distillation", "0.5", "--precision", "bfloat16"]
    trainer = trainer_of(folder, *settings, "--augmentation", *options.augmentation)
    augment.CACHED = 2**62  # a GPU normalises a batch at once
    rows = torch.arange(BATCH)
    pixels = next(trainer.augmented([rows], key(1)))
    trainer.model.train()
    trainer.step(BATCH, rows, pixels)
    with Count("cpu") as count:
        trainer.step(BATCH, rows, pixels)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="resnet32", help="default: resnet32")
    parser.add_argument("--size", type=int, default=32, help="pixels of a side (default: 32)")
    parser.add_argument(
        "--augmentation",
        nargs="*",
        default=["crop-4", "flip", "rand-m9-mstd0.5-inc1"],
        help="default: crop-4 flip rand-m9-mstd0.5-inc1",
    )
    options = parser.parse_args()
    augmentation, batches = count_augmentation(options.augmentation, options.size)
    with tempfile.TemporaryDirectory() as folder:
        step = count_step(Path(folder), options)
    print(f"augmentation, {batches} batches at once: {augmentation.for_each_of(batches)} a batch")
    print(f"step: {step.for_each_of(1)}")
    step.kernels += augmentation.kernels / batches
    step.bytes += augmentation.bytes / batches
    print(f"together: {step.for_each_of(1)}")


if __name__ == "__main__":
    main()
