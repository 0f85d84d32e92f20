"""How fast wa.data.augment is against timm with Pillow, on one thread.

    .venv/bin/python benchmarks/augment.py --data cifar100.tar

The augmentation is crop-4, flip and rand-m9-mstd0.5-inc1. Both sides start from images in memory:
PIL images for timm, one uint8 tensor for ours. Both end with a normalised float32 batch of 128
images of 32 x 32 pixels. timm's side is timm.data.create_transform with torchvision's
RandomCrop(32, padding=4) as its first step, and torch.stack. The two take turns, so both meet the
same machine. Without --data the images are made up.
"""

import argparse
import io
import statistics
import tarfile
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from timm.data import create_transform
from torch import Tensor
from torchvision import transforms

from wa.data.augment import Augment, normalize
from wa.randomness import key

BATCH = 128
POLICY = "rand-m9-mstd0.5-inc1"
MEAN, STD = (0.507, 0.487, 0.441), (0.267, 0.256, 0.276)


def load(tar: str | None, count: int) -> Tensor:
    """uint8 (count, 3, 32, 32): the first images of the tar, or smooth random ones."""
    if tar is None:
        coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 320 - 32
        return torch.nn.functional.interpolate(coarse, size=32, mode="bicubic").clamp(0, 255).byte()
    pixels: list[np.ndarray] = []
    with tarfile.open(tar) as archive:
        for member in archive:
            if member.name.endswith(".png"):
                pixels.append(
                    np.asarray(
                        Image.open(io.BytesIO(archive.extractfile(member).read())).convert("RGB")
                    )
                )
            if len(pixels) == count:
                break
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()


def timm_epoch(images: Tensor) -> Callable[[], None]:
    timms = create_transform(
        input_size=32,
        is_training=True,
        auto_augment=POLICY,
        interpolation="bicubic",
        color_jitter=0.4,
        mean=MEAN,
        std=STD,
    )
    pipeline = transforms.Compose([transforms.RandomCrop(32, padding=4), *timms.transforms[1:]])
    pil = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]

    def epoch() -> None:
        for batch in range(0, len(pil), BATCH):
            torch.stack([pipeline(image) for image in pil[batch : batch + BATCH]])

    return epoch


def our_epoch(images: Tensor) -> Callable[[], None]:
    augment = Augment(["crop-4", "flip", POLICY])
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    indices = torch.arange(len(images)).split(BATCH)
    count = iter(range(1_000_000))

    def epoch() -> None:
        this = key(0, next(count))
        for index in indices:
            normalize(augment(images.index_select(0, index), this, index), mean, std)

    return epoch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", metavar="TAR", help="a tar of CIFAR-100 as .png files")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batches", type=int, default=8, help="batches in a round")
    options = parser.parse_args()

    torch.set_num_threads(1)
    images = load(options.data, options.batches * BATCH)
    epochs = {"timm and Pillow": timm_epoch(images), "wa.data.augment": our_epoch(images)}
    speeds: dict[str, list[float]] = {name: [] for name in epochs}
    for round_ in range(options.rounds + 1):
        for name, epoch in epochs.items():
            start = time.perf_counter()
            epoch()
            if round_:  # the first round warms up
                speeds[name].append(len(images) / (time.perf_counter() - start))

    print(f"{'images/s':20}{'min':>10}{'median':>10}{'max':>10}")
    for name, speed in speeds.items():
        print(f"{name:20}{min(speed):10.0f}{statistics.median(speed):10.0f}{max(speed):10.0f}")
    theirs, ours = (statistics.median(speed) for speed in speeds.values())
    print(f"speedup: {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
