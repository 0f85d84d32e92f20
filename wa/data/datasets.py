"""Pack a raw data set into arrays that every other program maps into memory.

    python -m wa.data.datasets --dataset cifar100 --path data --output results/data/cifar100

    python -m wa.data.datasets --dataset imagenet100 --path imagenet --output out --processes 16

It writes:

- train_images.npy and test_images.npy, uint8 (n, H, W, C);
- train_labels.npy and test_labels.npy, int64 (n,);
- dataset.json: the names of the classes, the number of images of each class, the mean and standard
  deviation of each channel of the training images (in units of [0, 1]), a fingerprint of the files
  of each class, and the SHA-256 of each array.

A folder of images is `train/CLASS/*` and `test/CLASS/*` (or `val/CLASS/*`), see wa/data/folders.py.
Images of one size stay as they are. Photographs of several sizes need `cache_size`, the side of the
square that is kept. The shorter side is resized to it, and the centre is cut out, as torchvision's
Resize and CenterCrop do it. Training, too, sees nothing outside of the square.

With `--validation 0.1`, a part of each class's training images takes the place of the test images,
which are not opened (wa/data/validation.py).

Importing continuum takes at least 7 s. So this module alone imports it and torchvision, and only
where they are needed.
"""

import argparse
import json
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from wa import identity
from wa.data.folders import IMAGENET, Files, fingerprints, is_folder, left_out, listing
from wa.data.images import read_image
from wa.data.packed import read_dataset
from wa.data.packing import Reader, pack
from wa.data.validation import split_files, split_labels
from wa.errors import UserError, nearest, printable_bytes, program
from wa.files import sha256, write_json, writing
from wa.locks import lock

# The number of training images of each class.
BUILT_IN = {
    "digits": [143, 146, 142, 147, 145, 146, 145, 144, 140, 144],
    "cifar10": [5000] * 10,
    "cifar100": [500] * 100,
}
TEST_IMAGES = {"cifar10": 1000, "cifar100": 100}  # of each class
CIFAR_FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
CIFAR_ARCHIVES = {"cifar10": 170_498_071, "cifar100": 169_001_437}  # bytes to download
# Height, width and channels.
BUILT_IN_SHAPES = {
    "digits": (8, 8, 1),
    "cifar10": (32, 32, 3),
    "cifar100": (32, 32, 3),
}


def cache_size_of(dataset: str, cache_size: int | None) -> int | None:
    """The side of the squares that are kept, in pixels. None: images stay as they are."""
    return cache_size or (256 if dataset in IMAGENET else None)


def packed_name(dataset: str, cache_size: int | None, validation: float = 0) -> str:
    """The name of the folder of the packed arrays.

        packed_name("pets", 256)             # pets-256
        packed_name("digits", None, 0.1)     # digits-validation-0.1

    A default and the same value written in the config give one name, because the arrays are equal.
    """
    size = cache_size_of(dataset, cache_size)
    name = f"{dataset}-{size}" if size else dataset
    return f"{name}-validation-{validation:g}" if validation else name


def survey(dataset: str, path: str | Path, classes: list[str] | None = None) -> list[int]:
    """The number of training images of each class.

    No image is opened. classes: those to read. None: all.
    Raises UserError if there is no such data set.
    """
    if dataset == "digits" and is_folder(path):
        raise UserError(
            f"dataset 'digits' is scikit-learn's, but path {str(path)!r} holds a folder of images."
            " Give these images a name of their own, or set `path` to another folder"
        )
    if is_folder(path):
        train, test = listing(dataset, path, classes)
        check_cifar(dataset, path, train, test)
        return [len(files) for files in train.values()]
    if dataset in IMAGENET:
        raise UserError(
            f"path {str(path)!r} does not hold {dataset}: it must hold train/WNID/*.JPEG and"
            " val/WNID/*.JPEG"
        )
    if dataset not in BUILT_IN:
        there = "is not a folder of images" if Path(path).exists() else "does not exist"
        raise UserError(
            f"dataset {dataset!r} is not built in ({', '.join(BUILT_IN)}{meant(dataset)}), and path"
            f" {str(path)!r} {there}. A folder of images holds train/CLASS/* and test/CLASS/*"
            " (or val/CLASS/*)"
        )
    return BUILT_IN[dataset]


def before_packing(dataset: str, path: str | Path) -> list[str]:
    """What packing will download or leave out, in words."""
    if is_folder(path):
        return left_out(path)
    if dataset not in CIFAR_FOLDERS or Path(path, CIFAR_FOLDERS[dataset]).exists():
        return []
    megabytes = CIFAR_ARCHIVES[dataset] / 1e6
    return [f"{dataset} is not in {str(path)!r}. It will be downloaded into it: {megabytes:.0f} MB"]


def meant(dataset: str) -> str:
    """A question for a name that is nearly that of a known data set, or nothing."""
    close = nearest(dataset, [*BUILT_IN, *IMAGENET])
    return f"; did you mean {close!r}?" if close else ""


def check_cifar(dataset: str, path: str | Path, train: Files, test: Files) -> None:
    """Raise UserError if a folder of images is named as CIFAR and does not hold as many images."""
    if dataset not in TEST_IMAGES:
        return
    counts = BUILT_IN[dataset]
    n_classes, per_class = len(counts), counts[0]
    for split, files, wanted in (
        ("train", train, per_class),
        ("test", test, TEST_IMAGES[dataset]),
    ):
        if len(files) != n_classes or any(len(images) != wanted for images in files.values()):
            raise UserError(
                f"dataset {dataset!r} has {n_classes} classes with {wanted} images each in"
                f" {split}/, but the folder of images at path {str(path)!r} has not. Give these"
                " images a name of their own, or set `path` to another folder"
            )


Arrays = tuple[np.ndarray, np.ndarray]  # images, uint8 (n, H, W, C), and labels, int64 (n,)
Raw = tuple[Arrays, Arrays, list[str]]  # for training, for testing, the names of the classes


def read_digits() -> Raw:
    """scikit-learn's digits: 1797 images of 8 x 8 pixels.

    They have no split of their own. Here, each fifth image of a class is for testing.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    position = np.zeros(len(images), int)  # of each image among those of its class
    for c in range(10):
        position[digits.target == c] = np.arange((digits.target == c).sum())
    test = position % 5 == 4
    names = [str(c) for c in range(10)]
    return (images[~test], digits.target[~test]), (images[test], digits.target[test]), names


def read_cifar(dataset: str, path: str, with_test: bool) -> Raw:
    """CIFAR from `path`. torchvision downloads it if it is absent, and verifies its checksum.

    with_test: whether the test images are read. If not, the training images stand for them. Raises
    UserError if CIFAR cannot be read.
    """
    from continuum.datasets import CIFAR10, CIFAR100

    kind = {"cifar10": CIFAR10, "cifar100": CIFAR100}[dataset]
    folder = CIFAR_FOLDERS[dataset]
    try:
        train = kind(path, train=True, download=True)
        test = kind(path, train=False, download=True) if with_test else train
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{dataset} is not in {path!r} and cannot be downloaded ({error}). Set `path` to the"
            f" folder that holds {folder}/, or to a folder of images: train/CLASS/* and"
            " test/CLASS/*"
        ) from None
    return train.get_data()[:2], test.get_data()[:2], list(train.dataset.classes)


def first_shape(files: list[str], read: Reader) -> tuple[int, ...] | None:
    """The shape of the first image that can be read."""
    for file in files:
        with suppress(UserError):  # packing lists all files that cannot be read
            return read(file).shape
    return None


def usual_shape(train: Files, read: Reader) -> tuple[int, ...]:
    """The most frequent shape among the first images of at most 20 classes."""
    shapes = Counter(first_shape(files, read) for files in islice(train.values(), 20))
    del shapes[None]
    return shapes.most_common(1)[0][0] if shapes else (1, 1, 3)


def refuse(path: str, unreadable: list[str], odd: list[str], like: Path | None) -> None:
    """Raise UserError if there are images that cannot be used. It lists them.

    like: dataset.json of images of the same size, if there is one.
    """
    if not unreadable and not odd:
        return
    every = [*unreadable, *odd]
    lines = every[:20]
    if len(every) > 20:
        lines.append(f"... and {len(every) - 20} more")
    if odd and like:
        lines.append("all tasks have the size of task 0, so resize these images")
    elif odd:
        lines.append(
            "for images of several sizes, write `cache_size: 256`, or a side that fits them, in the"
            " config"
        )
    raise UserError(
        f"{path}: {len(unreadable) + len(odd)} of its images cannot be used. Mend or remove them:\n"
        + "\n".join(lines)
    )


def read_folder(
    output: Path,
    dataset: str,
    path: str,
    cache_size: int | None,
    wanted: list[str] | None,
    processes: int,
    like: Path | None = None,
    validation: float = 0,
) -> Raw:
    """A folder of images, packed into the folder `output`.

    like: dataset.json of images of the same size. validation: the share of the training images that
    takes the place of the test images. Raises UserError if there are images that cannot be used.
    (continuum's ImageFolderDataset cuts paths at 255 bytes and fails on paths that are not ASCII.)
    """
    import PIL

    read = partial(read_image, channels=3, square=cache_size)
    train, test = listing(dataset, path, wanted)
    if validation:
        train, test = split_files(train, validation)
    names = list(train)
    shape = tuple(read_dataset(like)["image_shape"]) if like else usual_shape(train, read)
    code = f"{identity.code_of('wa.data.datasets')} Pillow {PIL.__version__}"
    unreadable, odd = [], []
    for split, by_class in (("train", train), ("test", test)):
        files = [file for name in names for file in by_class[name]]
        packed = output / f"{split}_images.npy"
        problems = pack(files, packed, shape, read, code, processes)
        unreadable += problems[0]
        odd += problems[1]
    refuse(path, unreadable, odd, like)
    arrays = []
    for split, by_class in (("train", train), ("test", test)):
        images = np.load(output / f"{split}_images.npy", mmap_mode="r", allow_pickle=False)
        labels = np.repeat(np.arange(len(names)), [len(by_class[name]) for name in names])
        arrays.append((images, labels))
    return arrays[0], arrays[1], names


def mean_and_std(images: np.ndarray) -> tuple[list[float], list[float]]:
    """The mean and standard deviation of each channel, in units of [0, 1].

    images: uint8 (n, H, W, C). Both are computed from the histogram of each channel.
    """
    channels = images.shape[3]
    levels = np.arange(256) / 255
    count = np.zeros((channels, 256), np.int64)
    step = max(1, 2**24 // images[0].size)  # bincount needs eight bytes for each value
    for start in range(0, len(images), step):
        block = images[start : start + step]
        for c in range(channels):
            count[c] += np.bincount(block[..., c].ravel(), minlength=256)
    share = count / images[..., 0].size
    mean = share @ levels
    return mean.tolist(), np.sqrt(share @ levels**2 - mean**2).tolist()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Pack a data set into arrays.")
    known = ", ".join([*BUILT_IN, *IMAGENET])
    parser.add_argument(
        "--dataset", required=True, help=f"{known}, or any name for a folder of images"
    )
    parser.add_argument(
        "--path",
        required=True,
        help="the folder that holds the raw data, or that will hold what is downloaded",
    )
    parser.add_argument("--output", required=True, type=Path, help="the folder of the arrays")
    parser.add_argument(
        "--cache-size",
        type=int,
        help="the side of the square that is kept of photographs, in pixels",
    )
    parser.add_argument(
        "--classes",
        type=json.loads,
        help="the classes of a folder of images to read, in this order, as a list in JSON, such as"
        ' ["cat", "dog"] (default: all)',
    )
    parser.add_argument(
        "--like",
        type=Path,
        help="dataset.json of task 0: images of another size are refused",
    )
    parser.add_argument(
        "--validation",
        type=float,
        default=0,
        help="the share of each class's training images that takes the place of the test images,"
        " such as 0.1 (default: 0, the test images are packed)",
    )
    parser.add_argument(
        "--processes", type=int, default=1, help="how many processes decode images (default: 1)"
    )
    parser.add_argument(
        "--code", help="the digest of the code, for dataset.json (default: it is computed)"
    )
    return parser.parse_args()


def read(args: argparse.Namespace, cache_size: int | None) -> Raw:
    """The data set that the options name."""
    if is_folder(args.path):
        return read_folder(
            args.output,
            args.dataset,
            args.path,
            cache_size,
            args.classes,
            args.processes,
            args.like,
            args.validation,
        )
    if args.dataset == "digits":
        raw = read_digits()
    else:
        raw = read_cifar(args.dataset, args.path, with_test=not args.validation)
    return with_validation(raw, args.validation) if args.validation else raw


def with_validation(raw: Raw, share: float) -> Raw:
    """A data set with a share of each class's training images in place of the test images."""
    (images, label), _, names = raw
    held = split_labels(label, share)
    return (images[~held], label[~held]), (images[held], label[held]), names


def write_split(output: Path, split: str, images: np.ndarray, labels: np.ndarray) -> dict[str, str]:
    """Write the arrays of a split. Returns their SHA-256."""
    hashes = {}
    for what, array in {"images": images, "labels": labels.astype(np.int64)}.items():
        file = output / f"{split}_{what}.npy"
        if not isinstance(array, np.memmap):  # a mapped array is there already
            with writing(file) as temporary, open(temporary, "wb") as stream:
                np.save(stream, array)
        hashes[f"{split}_{what}_sha256"] = sha256(file)
    return hashes


def main() -> None:
    started = time.time()
    args = parse_arguments()
    n_classes = len(survey(args.dataset, args.path, args.classes))
    held = lock(args.output / ".lock", wait=True)
    packed = args.output / "dataset.json"
    if packed.exists() and packed.stat().st_mtime > started:
        print(f"another study packed it while this one waited for {held.name}: nothing to do")
        return
    files, cache_size = None, None
    for line in before_packing(args.dataset, args.path):
        print(printable_bytes(line), flush=True)
    if is_folder(args.path):
        files = fingerprints(*listing(args.dataset, args.path, args.classes))
        cache_size = cache_size_of(args.dataset, args.cache_size)
    train, test, names = read(args, cache_size)
    assert len(names) == n_classes

    name = packed_name(args.dataset, args.cache_size, args.validation)
    facts = {"dataset": name, "classes": names, "image_shape": list(train[0].shape[1:])}
    facts["files"] = files
    facts |= identity.packing(
        code=args.code or identity.code_of("wa.data.datasets"),
        source=args.dataset,
        cache_size=cache_size,
        chosen=args.classes or [],
        validation=args.validation,
    )
    facts["mean"], facts["std"] = mean_and_std(train[0])
    if 0 in facts["std"]:
        raise UserError(
            f"{args.path}: in one channel, all pixels of all training images are equal."
            " There is nothing to learn from"
        )
    for split, (images, labels) in {"train": train, "test": test}.items():
        facts[f"{split}_counts"] = np.bincount(labels, minlength=len(names)).tolist()
        facts |= write_split(args.output, split, images, labels)
    write_json(packed, facts)
    n_train, n_test = len(train[1]), len(test[1])
    second = "validation" if args.validation else "test"
    print(
        f"{args.dataset}: {n_train} training and {n_test} {second} images of {len(names)} classes"
    )


if __name__ == "__main__":
    program(main)
