"""Raw data sets -> packed arrays that every other program maps into memory.

    python -m wa.datasets --dataset cifar100 --path data --output results/data/cifar100

Writes train_images.npy and test_images.npy, uint8 (n, H, W, C); train_labels.npy and test_labels.npy, int64 (n,); and
dataset.json: the class names, the images a class, the mean and standard deviation of the training images' channels (in
units of [0, 1]), and the arrays' SHA-256. The only module that imports continuum and torchvision, and only where they are needed:
importing continuum takes 7 s at best.

A folder of images is `train/CLASS/*` and `test/CLASS/*` (or `val/CLASS/*`); classes and images are in the order of
their names, and read_image says how each becomes RGB.
"""

import argparse
import os
from pathlib import Path

import numpy as np

from wa.files import UserError, program, sha256, write_json, writing

BUILT_IN = {
    "digits": (10, 140),
    "cifar10": (10, 5000),
    "cifar100": (100, 500),
}  # classes; least training images a class
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".webp", ".tif", ".tiff"}


def is_folder(path: str | Path) -> bool:
    return (Path(path) / "train").is_dir()


def splits(path: str | Path) -> tuple[Path, Path]:
    """The folders of the training and the test images."""
    train, test = Path(path, "train"), Path(path, "test")
    test = test if test.is_dir() else Path(path, "val")
    if not train.is_dir() or not test.is_dir():
        raise UserError(f"{path} has no folders train/ and test/ (or val/), each with a folder of images a class")
    return train, test


def class_folders(split: Path) -> list[Path]:
    folders = sorted(p for p in split.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not folders:
        raise UserError(f"{split} is empty: it must hold a folder of images a class")
    return folders


def image_files(folder: Path) -> list[Path]:
    files = sorted(Path(e.path) for e in os.scandir(folder) if os.path.splitext(e.name)[1].lower() in SUFFIXES)
    if not files:
        raise UserError(f"{folder} holds no images ({', '.join(sorted(SUFFIXES))}): add some, or remove the class")
    return files


def survey(dataset: str, path: str | Path) -> tuple[int, int]:
    """The number of classes and the least number of training images a class, without opening an image."""
    if is_folder(path):
        train, test = splits(path)
        counts = {folder.name: len(image_files(folder)) for folder in class_folders(train)}
        tested = {folder.name for folder in class_folders(test) if image_files(folder)}
        if tested != counts.keys():
            raise UserError(
                f"{train} and {test} hold different classes: only one of them has {sorted(tested ^ counts.keys())[:5]}"
            )
        return len(counts), min(counts.values())
    if dataset not in BUILT_IN:
        raise UserError(
            f"dataset {dataset!r} is not built in ({', '.join(BUILT_IN)}) and path {str(path)!r} is no folder of images:"
            f" it must hold train/CLASS/* and test/CLASS/* (or val/CLASS/*)"
        )
    return BUILT_IN[dataset]


def read_image(image, channels: int, size: tuple[int, int] | None = None) -> np.ndarray:
    """A path or a PIL image as uint8 (H, W, channels), channels 1 (grey) or 3 (RGB). Training and prediction read alike.

    It is turned upright as its EXIF entry says; palettes and CMYK are converted, 16-bit grey loses its low byte, what is
    transparent becomes white, and of several frames the first counts. size: (width, height) to which the whole image is
    resized if it has another (bilinear over all pixels that fall together, aspect ratio not kept).
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        picture = image if isinstance(image, Image.Image) else Image.open(image)
        picture = ImageOps.exif_transpose(picture)
        if picture.mode.startswith("I;16"):
            picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
        elif picture.mode in ("I", "F"):
            raise ValueError(f"pixels of mode {picture.mode} have no known range: save it with 8 or 16 bits a channel")
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        picture = picture.convert("L" if channels == 1 else "RGB")
        if size and picture.size != size:
            picture = picture.resize(size, Image.Resampling.BILINEAR)
        return np.asarray(picture).reshape(picture.height, picture.width, channels)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = "no image" if isinstance(error, UnidentifiedImageError) else getattr(error, "strerror", None) or error
        raise UserError(f"{image}: cannot be read ({reason})") from None


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
    return (images[~test], digits.target[~test]), (images[test], digits.target[test]), [str(c) for c in range(10)]


def read_cifar(dataset: str, path: str) -> tuple[Arrays, Arrays, list[str]]:
    """CIFAR from `path`; torchvision verifies its checksum, and downloads it where it is absent."""
    from continuum.datasets import CIFAR10, CIFAR100

    kind, folder = {"cifar10": (CIFAR10, "cifar-10-batches-py"), "cifar100": (CIFAR100, "cifar-100-python")}[dataset]
    try:
        parts = [kind(path, train=train, download=True) for train in (True, False)]
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{dataset} is not in {path!r} and cannot be downloaded ({error}): set `path` to the folder that holds {folder}/,"
            " or train/CLASS/* and test/CLASS/*"
        ) from None
    return parts[0].get_data()[:2], parts[1].get_data()[:2], list(parts[0].dataset.classes)


def read_folder(path: str) -> tuple[Arrays, Arrays, list[str]]:
    """A folder of images, all of one size. (continuum's ImageFolderDataset cuts paths at 255 bytes, and fails on non-ASCII.)"""
    from tqdm import tqdm

    train, test = splits(path)
    names = [folder.name for folder in class_folders(train)]
    parts, first, problems = [], None, []
    for split in (train, test):
        files = [(file, c) for c, name in enumerate(names) for file in image_files(split / name)]
        images = None
        for i, (file, _) in enumerate(tqdm(files, desc=str(split), unit="image", mininterval=2, disable=None)):
            try:
                pixels = read_image(file, 3)
            except UserError as error:
                problems.append(str(error))
                continue
            first = first or (file, pixels.shape)
            if pixels.shape != first[1]:
                problems.append(
                    f"{file}: {pixels.shape[1]}x{pixels.shape[0]} pixels, but {first[0]} has {first[1][1]}x{first[1][0]}"
                )
                continue
            if images is None:
                images = np.empty((len(files), *pixels.shape), np.uint8)
            images[i] = pixels
        parts.append((images, np.array([c for _, c in files])))
    if problems:
        more = f"\n... and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise UserError(
            f"{len(problems)} images of {path} cannot be used; mend or remove them:\n" + "\n".join(problems[:20]) + more
        )
    return *parts, names


def mean_and_std(images: np.ndarray) -> tuple[list[float], list[float]]:
    """Of each channel of uint8 images (n, H, W, C), in units of [0, 1], from the histogram: exact."""
    levels = np.arange(256) / 255
    share = np.stack([np.bincount(images[..., c].ravel(), minlength=256) for c in range(images.shape[3])]) / images[..., 0].size
    mean = share @ levels
    return mean.tolist(), np.sqrt(share @ levels**2 - mean**2).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description="Pack a data set into arrays.")
    parser.add_argument("--dataset", required=True, help=f"{', '.join(BUILT_IN)}, or any name for a folder of images")
    parser.add_argument("--path", required=True, help="the folder that holds the raw data, or is to receive the download")
    parser.add_argument("--output", required=True, type=Path)
    args = parser.parse_args()

    n_classes, _ = survey(args.dataset, args.path)
    if is_folder(args.path):
        train, test, names = read_folder(args.path)
    elif args.dataset == "digits":
        train, test, names = read_digits()
    else:
        train, test, names = read_cifar(args.dataset, args.path)
    assert len(names) == n_classes

    facts = {"dataset": args.dataset, "classes": names, "image_shape": list(train[0].shape[1:])}
    facts["mean"], facts["std"] = mean_and_std(train[0])
    if 0 in facts["std"]:
        raise UserError(f"{args.path}: all training images are alike in a channel; there is nothing to learn from")
    for split, (images, labels) in {"train": train, "test": test}.items():
        counts = np.bincount(labels, minlength=len(names))
        facts[f"{split}_counts"] = counts.tolist()
        for name, array in {"images": images, "labels": labels.astype(np.int64)}.items():
            file = args.output / f"{split}_{name}.npy"
            with writing(file) as temporary, open(temporary, "wb") as stream:
                np.save(stream, array)
            facts[f"{split}_{name}_sha256"] = sha256(file)
    write_json(args.output / "dataset.json", facts)
    print(f"{args.dataset}: {len(train[1])} training and {len(test[1])} test images of {len(names)} classes")


if __name__ == "__main__":
    program(main)
