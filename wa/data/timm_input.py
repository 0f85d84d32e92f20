"""`input: timm`: the original image files through timm's transforms, comparable with other code.

By default, a task trains on the packed squares (wa/data/task.py). That is several times as fast:
see benchmarks/input.py. Here, each file is decoded whole in each epoch. timm.data.create_transform
then cuts, augments and normalises the image with Pillow.

Features and evaluation still come from the packed squares, whose centre is what torchvision's
Resize and CenterCrop give. A training has as many DataLoader workers as threads
(snakemake --set-threads train=8).

timm draws from the global generators of Python, numpy and torch. They are seeded for each image by
(seed, task, epoch, image). So a resumed training ends with the same bits, with any number of
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
    """timm's transform for our names: a PIL image to a normalised one, float32 (3, S, S).

    mean, std: of each channel, in units of [0, 1]. Raises UserError for names that timm cannot do.
    """
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
    """The training files of a data set: (index, seed) -> a normalised image, float32 (3, S, S).

    dataset: dataset.json. path: the folder of images. Raises UserError if they do not fit together.
    """

    def __init__(self, dataset: dict, path: str | None, augmentation: Sequence[str]):
        if not path or not is_folder(path):
            raise UserError(
                f"`input: timm` reads the original files, but path {path!r} is not a folder of"
                " images"
            )
        by_class, _ = listing(dataset["dataset"], path, dataset["classes"])
        if [len(files) for files in by_class.values()] != dataset["train_counts"]:
            raise UserError(
                f"{path} holds other numbers of images than were packed. Delete the packed arrays,"
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
        """The images of each batch, float32 (B, 3, S, S), on the device.

        key: of the augmentation of the epoch. index: the images of each batch, int64 (B,). Both are
        on the CPU.
        """
        batches = []
        for some in index:
            seeds = (uniform(key, some, 1).flatten() * 2**24).long().tolist()
            batches.append(list(zip(some.tolist(), seeds, strict=True)))
        loader = DataLoader(
            self,
            batch_sampler=batches,
            num_workers=torch.get_num_threads(),
            pin_memory=device.type == "cuda",
            collate_fn=torch.stack,
        )
        for images in loader:
            yield images.to(device, non_blocking=True)
