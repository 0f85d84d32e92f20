"""`input: timm`: the original image files through timm's transforms, comparable with other code.

By default a task trains on the packed squares (wa/data/task.py), which is several times as fast
(benchmarks/input.py). Here each image file is decoded whole in each epoch, and
timm.data.create_transform cuts, augments and normalises it with Pillow. Features and evaluation still come from the packed
squares. Their centre is what torchvision's Resize and CenterCrop give. A training has as many
DataLoader workers as threads (snakemake --set-threads train=8).

timm draws from the global generators of Python, numpy and torch. They are seeded for each image by
(seed, task, epoch, image). So a resumed training ends with the same bits, whatever the number of
workers.
"""

import random
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from wa.data.augmentations import parse_for_timm
from wa.data.folders import is_folder, listing
from wa.data.images import read_image
from wa.errors import UserError
from wa.randomness import uniform


def transform(augmentation: Sequence[str], mean: list[float], std: list[float]):
    """timm's transform for our names: a PIL image to a normalised float32 (3, S, S)."""
    from timm.data import create_transform

    steps = parse_for_timm(augmentation)
    erase_probability, erase_const = steps["erase"].values if "erase" in steps else (0.0, False)
    return create_transform(
        steps["resized"].values[0],
        is_training=True,
        interpolation="bilinear",
        hflip=0.5 if "flip" in steps else 0.0,
        color_jitter=steps["jitter"].values if "jitter" in steps else None,
        auto_augment=steps["rand"].name if "rand" in steps else None,
        re_prob=erase_probability,
        re_mode="const" if erase_const else "pixel",
        mean=tuple(mean),
        std=tuple(std),
    )


class Originals(Dataset):
    """The training files of a data set: (index, seed) -> a normalised image, float32 (3, S, S)."""

    def __init__(self, dataset: dict, path: str | None, augmentation: Sequence[str]):
        if not path or not is_folder(path):
            raise UserError(
                f"`input: timm` reads the original files, but path {path!r} is no folder of images"
            )
        by_class = listing(dataset["dataset"], path, dataset["classes"])[0]
        if [len(files) for files in by_class.values()] != dataset["train_counts"]:
            raise UserError(
                f"{path} holds other numbers of images than were packed: delete the packed arrays,"
                " and run again"
            )
        self.files = [file for files in by_class.values() for file in files]
        self.transform = transform(augmentation, dataset["mean"], dataset["std"])

    def __getitem__(self, item: tuple[int, int]) -> Tensor:
        index, seed = item
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        return self.transform(Image.fromarray(read_image(self.files[index], 3)))

    def batches(
        self, key: Tensor, index: Sequence[Tensor], device: torch.device
    ) -> Iterator[Tensor]:
        """The images of each batch of indices, on the device.

        key: of the epoch's augmentation, on the CPU.
        """
        seeds = [(uniform(key, some, 1).flatten() * 2**24).long().tolist() for some in index]
        batches = [
            list(zip(some.tolist(), seed, strict=True))
            for some, seed in zip(index, seeds, strict=True)
        ]
        workers, pin = torch.get_num_threads(), device.type == "cuda"
        for images in DataLoader(
            self, batch_sampler=batches, num_workers=workers, pin_memory=pin, collate_fn=torch.stack
        ):
            yield images.to(device, non_blocking=True)
