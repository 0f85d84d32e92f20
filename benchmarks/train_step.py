"""How fast a training is against a plain PyTorch loop that does the same work.

    .venv/bin/python benchmarks/train_step.py --data cifar100.tar

Both train a ResNet-32 in batches of 128 on the same images of 100 classes, of which 50 are old. The
augmentation is crop-4, flip and rand-m9-mstd0.5-inc1. The loss is CE + 0.5 KL T^2 with the
teacher's forward pass, or CE alone. Both may use every core, and the GPU if there is one.

The plain loop is what tutorials have: PIL images, timm's create_transform, a DataLoader with a
worker for each core, float32, torch.optim.SGD, and losses that are read with .item() at each step.
The engine is wa.training.engine.Trainer on packed arrays, in both precisions, and in bfloat16
without deterministic algorithms.

A round is --steps steps of each, one after the other, from the start of its epoch to its last
update. The DataLoader's workers live on between rounds. The first round is discarded. Without
--data the images are made up.
"""

import argparse
import os
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from timm.data import create_transform
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from wa.checkpoint import write_checkpoint
from wa.data.packed import hashes
from wa.files import sha256, write_json
from wa.models.model import CilModel
from wa.training import engine, train

BATCH, OLD, NEW = 128, 50, 50
ENGINES = {
    "float32": ("--precision", "float32"),
    "bfloat16": ("--precision", "bfloat16"),
    "not deterministic": ("--precision", "bfloat16", "--no-deterministic"),
}
MEAN, STD = (0.507, 0.487, 0.441), (0.267, 0.256, 0.276)


def load(tar: str | None, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 (count, 32, 32, 3), and labels (count,).

    They are training images spread over the classes of the tar, or made-up ones.
    """
    if tar is None:
        coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 320 - 32
        images = F.interpolate(coarse, size=32, mode="bicubic").clamp(0, 255).byte()
        return images.permute(0, 2, 3, 1).numpy(), np.arange(count) % (OLD + NEW)
    with tarfile.open(tar) as archive:
        files = [
            m
            for m in archive.getmembers()
            if m.name.startswith("train/") and m.name.endswith(".png")
        ]
        files = [files[i * len(files) // count] for i in range(count)]
        images = [np.asarray(Image.open(archive.extractfile(m)).convert("RGB")) for m in files]
    return np.stack(images), np.unique([m.name.split("/")[1] for m in files], return_inverse=True)[
        1
    ]


class PilImages(Dataset):
    def __init__(self, images: np.ndarray, labels: np.ndarray):
        policy = {
            "auto_augment": "rand-m9-mstd0.5-inc1",
            "interpolation": "bicubic",
            "color_jitter": 0.4,
        }
        timms = create_transform(input_size=32, is_training=True, mean=MEAN, std=STD, **policy)
        timms.transforms[0] = transforms.RandomCrop(32, padding=4)
        self.images, self.labels, self.transform = (
            [Image.fromarray(i) for i in images],
            labels.tolist(),
            timms,
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[i]), self.labels[i]


def plain(loader: DataLoader, device: torch.device, teacher: CilModel | None) -> Callable[[], None]:
    model = CilModel("resnet32", 3, [OLD, NEW]).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)

    def epoch() -> None:
        torch.use_deterministic_algorithms(False)
        model.train()
        for images, target in loader:
            images, target = (
                images.to(device, non_blocking=True),
                target.to(device, non_blocking=True),
            )
            logits = model(images)
            ce, kd = F.cross_entropy(logits, target), torch.zeros((), device=device)
            if teacher:
                with torch.no_grad():
                    soft = F.softmax(teacher(images) / 2, dim=1)
                kd = (
                    F.kl_div(F.log_softmax(logits[:, :OLD] / 2, dim=1), soft, reduction="batchmean")
                    * 2**2
                )
            loss = ce + 0.5 * kd
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            _ = ce.item(), kd.item(), loss.item()

    return epoch


def pack(
    folder: Path,
    images: np.ndarray,
    labels: np.ndarray,
    backbone: str = "resnet32",
    size: tuple[int, int] = (32, 32),
) -> CilModel:
    """Write a packed data set, a class order and the teacher's checkpoint. Returns the teacher.

    images: uint8 (n, H, W, 3). labels: int64 (n,). size: height and width that the network takes.
    """
    height, width, channels = images.shape[1:]
    teacher = CilModel(backbone, channels, [OLD], size=size).eval()
    header = {"backbone": backbone, "in_channels": channels, "task_sizes": [OLD], "bias": True}
    order = list(range(OLD + NEW))
    names = [str(c) for c in order]
    write_json(folder / "order.json", {"order": order, "names": names})
    dataset = {
        "dataset": "cifar100",
        "classes": names,
        "image_shape": [height, width, channels],
        "mean": MEAN,
        "std": STD,
    }
    dataset["train_counts"] = np.bincount(labels, minlength=len(names)).tolist()
    for split, (kind, array) in product(
        ("train", "test"), {"images": images, "labels": labels}.items()
    ):
        name = f"{split}_{kind}"
        np.save(folder / f"{name}.npy", array)
        dataset[f"{name}_sha256"] = sha256(folder / f"{name}.npy")
    write_json(folder / "dataset.json", dataset)
    header |= {"input_size": list(size), "classes": names[:OLD], "data_sha256": hashes(dataset)}
    write_checkpoint(folder / "model.safetensors", teacher.tensors(), header)
    return teacher


def trainer_of(folder: Path, *settings: str) -> engine.Trainer:
    """wa.training.train on the packed data set in `folder`, before its first epoch."""
    files = {
        "data": folder,
        "order": folder / "order.json",
        "model": folder / "model.safetensors",
        "output": folder,
    }
    options = [word for name, file in files.items() for word in (f"--{name}", str(file))]
    options += ["--tasks", str(OLD), str(NEW), "--memory", "all", *settings]
    return train.prepare(*train.parse(options))


def ours(folder: Path, *settings: str) -> Callable[[], None]:
    """Trains an epoch of wa.training.train, as its main function does."""
    trainer = trainer_of(folder, *settings)
    count = iter(range(trainer.settings.epochs))

    def epoch() -> None:
        torch.use_deterministic_algorithms(trainer.settings.deterministic)
        trainer.epoch(next(count))

    return epoch


def contestants(
    images: np.ndarray, labels: np.ndarray, workers: int, folder: Path
) -> dict[str, Callable[[], None]]:
    """What trains an epoch, by name. Packs the data set into `folder`."""
    device = engine.Processes("auto").device
    teacher = pack(folder, images, labels)
    keep = {"persistent_workers": workers > 0, "pin_memory": device.type == "cuda"}
    loader = DataLoader(PilImages(images, labels), BATCH, shuffle=True, num_workers=workers, **keep)
    sides = {}
    for case, weight in (("with teacher", "0.5"), ("without", "0")):
        sides[f"{case}, plain"] = plain(
            loader, device, teacher.to(device) if weight != "0" else None
        )
        for name, settings in ENGINES.items():
            sides[f"{case}, {name}"] = ours(folder, "--distillation", weight, *settings)
    return sides


def main() -> None:
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", metavar="TAR", help="a tar of CIFAR-100 as train/CLASS/*.png")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--steps", type=int, default=6, help="steps of each in a round (default: 6)"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=cores,
        help=f"of the DataLoader (default: the cores, {cores})",
    )
    options = parser.parse_args()

    torch.set_num_threads(cores)
    synchronize = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    images, labels = load(options.data, options.steps * BATCH)
    speeds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        epochs = contestants(images, labels, options.workers, Path(folder))
        for round_ in range(options.rounds + 1):
            for name, epoch in epochs.items():
                start = time.perf_counter()
                epoch()
                synchronize()
                if round_:
                    speeds.setdefault(name, []).append(len(images) / (time.perf_counter() - start))

    print(f"{'images/s':28}{'min':>10}{'median':>10}{'max':>10}")
    for name, speed in speeds.items():
        print(f"{name:28}{min(speed):10.0f}{statistics.median(speed):10.0f}{max(speed):10.0f}")
    theirs, *ours = (
        statistics.median(speeds[f"with teacher, {side}"])
        for side in ("plain", "float32", "bfloat16")
    )
    print(f"speedup: {max(ours) / theirs:.2f}")


if __name__ == "__main__":
    main()
