"""Raw data sets -> packed arrays that every other program maps into memory.

    python -m wa.data.datasets --dataset cifar100 --path data --output results/data/cifar100

    python -m wa.data.datasets --dataset imagenet100 --path /data/imagenet --output results/data/imagenet100-256 --processes 16

Writes train_images.npy and test_images.npy, uint8 (n, H, W, C); train_labels.npy and test_labels.npy, int64 (n,); and
dataset.json: the class names, the images a class, the mean and standard deviation of the training images' channels (in
units of [0, 1]), and the arrays' SHA-256. The only module that imports continuum and torchvision, and only where they are needed:
importing continuum takes 7 s at best.

A folder of images is `train/CLASS/*` and `test/CLASS/*` (or `val/CLASS/*`); classes and images are in the order of
their names, and read_image says how each becomes RGB. A `val` without class folders is read by its annotation file. Images of
one size stay as they are. Of photographs of all sizes, `cache_size` keeps a square: the shorter side is resized to so many
pixels and the centre cut out, as torchvision's Resize and CenterCrop do it. What is outside is not seen in training either.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np

from wa import identity
from wa.data.folders import IMAGENET, is_folder, listing
from wa.data.images import read_image
from wa.data.packing import pack
from wa.errors import UserError, program
from wa.files import sha256, write_json, writing
from wa.locks import lock

BUILT_IN = {
    "digits": (10, 140),
    "cifar10": (10, 5000),
    "cifar100": (100, 500),
}  # classes; least training images a class
BUILT_IN_SHAPES = {
    "digits": (8, 8, 1),
    "cifar10": (32, 32, 3),
    "cifar100": (32, 32, 3),
}  # height, width, channels


def cache_size_of(dataset: str, cache_size: int | None) -> int | None:
    return cache_size or (256 if dataset in IMAGENET else None)


def packed_name(dataset: str, cache_size: int | None) -> str:
    """The name of the folder of the packed arrays: the same for the same arrays, however the config says it."""
    size = cache_size_of(dataset, cache_size)
    return f"{dataset}-{size}" if size else dataset


def survey(dataset: str, path: str | Path, classes: list[str] | None = None) -> tuple[int, int]:
    """The number of classes and the least number of training images a class, without opening an image."""
    if is_folder(path):
        counts = [len(files) for files in listing(dataset, path, classes)[0].values()]
        return len(counts), min(counts)
    if dataset in IMAGENET:
        raise UserError(
            f"path {str(path)!r} does not hold {dataset}: it must hold train/WNID/*.JPEG and val/WNID/*.JPEG"
        )
    if dataset not in BUILT_IN:
        raise UserError(
            f"dataset {dataset!r} is not built in ({', '.join(BUILT_IN)}) and path {str(path)!r} is no folder of images:"
            f" it must hold train/CLASS/* and test/CLASS/* (or val/CLASS/*)"
        )
    return BUILT_IN[dataset]


Arrays = tuple[np.ndarray, np.ndarray]


def read_digits() -> tuple[Arrays, Arrays, list[str]]:
    """scikit-learn's digits: 1797 images of 8x8 pixels. No split comes with them; each fifth image of a class is for testing."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    nth = np.zeros(len(images), int)  # the how manieth of its class an image is
    for c in range(10):
        nth[digits.target == c] = np.arange((digits.target == c).sum())
    test = nth % 5 == 4
    return (
        (images[~test], digits.target[~test]),
        (images[test], digits.target[test]),
        [str(c) for c in range(10)],
    )


def read_cifar(dataset: str, path: str) -> tuple[Arrays, Arrays, list[str]]:
    """CIFAR from `path`; torchvision verifies its checksum, and downloads it where it is absent."""
    from continuum.datasets import CIFAR10, CIFAR100

    kind, folder = {
        "cifar10": (CIFAR10, "cifar-10-batches-py"),
        "cifar100": (CIFAR100, "cifar-100-python"),
    }[dataset]
    try:
        parts = [kind(path, train=train, download=True) for train in (True, False)]
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{dataset} is not in {path!r} and cannot be downloaded ({error}): set `path` to the folder that holds {folder}/,"
            " or train/CLASS/* and test/CLASS/*"
        ) from None
    return parts[0].get_data()[:2], parts[1].get_data()[:2], list(parts[0].dataset.classes)


def first_shape(files: list[str], read) -> tuple[int, ...]:
    for file in files:
        try:
            return read(file).shape
        except UserError:  # named with all the others
            continue
    return (1, 1, 3)


def read_folder(
    output: Path,
    dataset: str,
    path: str,
    cache_size: int | None,
    wanted: list[str] | None,
    processes: int,
) -> tuple[Arrays, Arrays, list[str]]:
    """A folder of images, packed into `output`. (continuum's ImageFolderDataset cuts paths at 255 bytes, fails on non-ASCII.)"""
    read = partial(read_image, channels=3, square=cache_size)
    shape, parts, unreadable, odd = None, [], [], []
    by_class = listing(dataset, path, wanted)
    names = list(by_class[0])
    for split, files_of in zip(("train", "test"), by_class, strict=True):
        files = [file for name in names for file in files_of[name]]
        shape = shape or first_shape(files, read)
        problems = pack(
            files, output / f"{split}_images.npy", shape, read, sha256(__file__), processes
        )
        unreadable += problems[0]
        odd += problems[1]
        parts.append(np.repeat(np.arange(len(names)), [len(files_of[name]) for name in names]))
    if count := len(unreadable) + len(odd):
        hint = [f"... and {len(odd) - 20} more"] * (len(odd) > 20)
        hint += [
            "of photographs of several sizes, `cache_size: 256` in the config keeps a square each"
        ] * bool(odd)
        lines = "\n".join([*unreadable, *odd[:20], *hint])
        raise UserError(f"{count} images of {path} cannot be used; mend or remove them:\n{lines}")
    arrays = [
        np.load(output / f"{split}_images.npy", mmap_mode="r", allow_pickle=False)
        for split in ("train", "test")
    ]
    return (arrays[0], parts[0]), (arrays[1], parts[1]), names


def mean_and_std(images: np.ndarray) -> tuple[list[float], list[float]]:
    """Of each channel of uint8 images (n, H, W, C), in units of [0, 1], from the histogram: exact."""
    levels = np.arange(256) / 255
    count = np.zeros((images.shape[3], 256), np.int64)
    step = max(1, 2**24 // images[0].size)  # bincount needs eight bytes a pixel
    for block in (images[i : i + step] for i in range(0, len(images), step)):
        count += np.stack(
            [np.bincount(block[..., c].ravel(), minlength=256) for c in range(images.shape[3])]
        )
    share = count / images[..., 0].size
    mean = share @ levels
    return mean.tolist(), np.sqrt(share @ levels**2 - mean**2).tolist()


def main() -> None:
    started = time.time()
    parser = argparse.ArgumentParser(description="Pack a data set into arrays.")
    known = ", ".join([*BUILT_IN, *IMAGENET])
    parser.add_argument(
        "--dataset", required=True, help=f"{known}, or any name for a folder of images"
    )
    parser.add_argument(
        "--path",
        required=True,
        help="the folder that holds the raw data, or is to receive the download",
    )
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument(
        "--cache-size", type=int, help="side of the square that is kept of photographs of all sizes"
    )
    parser.add_argument(
        "--classes",
        nargs="*",
        help="the classes to read, in this order (default: all in a folder of images)",
    )
    parser.add_argument("--processes", type=int, default=1, help="that decode images (default: 1)")
    parser.add_argument("--code", help="digest of the code, for dataset.json (default: found here)")
    args = parser.parse_args()

    n_classes, _ = survey(args.dataset, args.path, args.classes)
    held = lock(args.output / ".lock", wait=True)
    packed = args.output / "dataset.json"
    if packed.exists() and packed.stat().st_mtime > started:
        print(f"another study has packed it while this one waited for {held.name}: nothing to do")
        return
    cache_size = None
    if is_folder(args.path):
        cache_size = cache_size_of(args.dataset, args.cache_size)
        train, test, names = read_folder(
            args.output, args.dataset, args.path, cache_size, args.classes, args.processes
        )
    elif args.dataset == "digits":
        train, test, names = read_digits()
    else:
        train, test, names = read_cifar(args.dataset, args.path)
    assert len(names) == n_classes

    name = packed_name(args.dataset, args.cache_size)
    facts = {"dataset": name, "classes": names, "image_shape": list(train[0].shape[1:])}
    facts |= identity.packing(
        code=args.code or identity.code_of("wa.data.datasets"),
        source=args.dataset,
        cache_size=cache_size,
        chosen=args.classes or [],
    )
    facts["mean"], facts["std"] = mean_and_std(train[0])
    if 0 in facts["std"]:
        raise UserError(
            f"{args.path}: all training images are alike in a channel; there is nothing to learn from"
        )
    for split, (images, labels) in {"train": train, "test": test}.items():
        counts = np.bincount(labels, minlength=len(names))
        facts[f"{split}_counts"] = counts.tolist()
        for what, array in {"images": images, "labels": labels.astype(np.int64)}.items():
            file = args.output / f"{split}_{what}.npy"
            if not isinstance(array, np.memmap):  # else it is there
                with writing(file) as temporary, open(temporary, "wb") as stream:
                    np.save(stream, array)
            facts[f"{split}_{what}_sha256"] = sha256(file)
    write_json(packed, facts)
    print(
        f"{args.dataset}: {len(train[1])} training and {len(test[1])} test images of {len(names)} classes"
    )


if __name__ == "__main__":
    program(main)
