"""Folders of images: which classes and which files they hold. No image is opened here.

A folder is `train/CLASS/*` and `test/CLASS/*` (or `val/CLASS/*`). Classes and images are in the order of
their names. A `val` without class folders is read by its annotation file.
"""

import os
import re
from pathlib import Path

from wa.errors import UserError

IMAGENET = {"imagenet100": 100, "imagenet1000": 1000}  # folders of images: number of classes
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".webp", ".tif", ".tiff"}
DEVKIT = "ILSVRC2012_devkit_t12"
Files = dict[str, list[str]]  # class -> its images


def is_folder(path: str | Path) -> bool:
    return (Path(path) / "train").is_dir()


def splits(path: str | Path) -> tuple[Path, Path]:
    """The folders of the training and the test images."""
    train, test = Path(path, "train"), Path(path, "test")
    test = test if test.is_dir() else Path(path, "val")
    if not train.is_dir() or not test.is_dir():
        raise UserError(
            f"{path} has no folders train/ and test/ (or val/), each with a folder of images a class"
        )
    return train, test


def class_folders(split: Path) -> list[str]:
    folders = sorted(e.name for e in os.scandir(split) if e.is_dir() and not e.name.startswith("."))
    if not folders:
        raise UserError(f"{split} is empty: it must hold a folder of images a class")
    return folders


def images_in(folder: Path) -> list[str]:
    return sorted(
        e.path for e in os.scandir(folder) if os.path.splitext(e.name)[1].lower() in SUFFIXES
    )


def loose_images(folder: Path) -> list[str]:
    """The images in a folder or, as Tiny-ImageNet has them, in its folder `images`."""
    return images_in(folder) or (
        images_in(folder / "images") if (folder / "images").is_dir() else []
    )


def image_files(folder: Path) -> list[str]:
    files = loose_images(folder)
    if not files:
        raise UserError(
            f"{folder} holds no images ({', '.join(sorted(SUFFIXES))}): add some, or remove the class"
        )
    return files


def choose(dataset: str, path: str | Path, have: list[str], wanted: list[str] | None) -> list[str]:
    """The classes to read, of those that are there.

    The field's ImageNet-100 is the first 100 classes of ImageNet in alphabetical order, n01440764 to n01855672 (Rebuffi et
    al., iCaRL, CVPR 2017; imagenet_split/ of arthurdouillard/incremental_learning.pytorch, which PODNet, DER and others use).
    LUCIR drew another hundred (numpy.random.seed(1993), then choice).
    """
    if wanted:
        if missing := sorted(set(wanted) - set(have)):
            raise UserError(
                f"{path}/train lacks {len(missing)} of the classes that the config lists: {missing[:5]}"
            )
        return wanted
    if dataset in IMAGENET and len(have) not in (IMAGENET[dataset], 1000):
        possible = "1000" if dataset == "imagenet1000" else "100 or 1000"
        raise UserError(
            f"{path}/train holds {len(have)} classes; {dataset} needs {possible}, or a list of `classes` in the config"
        )
    return have[: IMAGENET.get(dataset)]


def devkit(folder: Path) -> dict[str, str]:
    """The class of each validation image of ImageNet by the devkit's numbers: name without suffix -> class."""
    from scipy.io import loadmat

    synsets = loadmat(folder / "meta.mat", squeeze_me=True)["synsets"]
    wnid = {int(s["ILSVRC2012_ID"]): str(s["WNID"]) for s in synsets}
    numbers = (folder / "ILSVRC2012_validation_ground_truth.txt").read_text().split()
    return {f"ILSVRC2012_val_{i:08d}": wnid[int(number)] for i, number in enumerate(numbers, 1)}


def annotations(path: Path, val: Path) -> tuple[Path, dict[str, str]]:
    """The file that names the classes of the images in a flat folder, and what it says: name without suffix -> class.

    Known are the devkit of ImageNet, Kaggle's LOC_val_solution.csv, and Tiny-ImageNet's val_annotations.txt.
    """
    if (path / DEVKIT / "data/meta.mat").exists():
        return path / DEVKIT, devkit(path / DEVKIT / "data")
    for file in (
        folder / name
        for folder in (val, path)
        for name in ("val_annotations.txt", "LOC_val_solution.csv")
    ):
        if file.exists():
            pairs = (
                re.split(r"[\s,]+", line)[:2] for line in file.read_text().splitlines() if line
            )
            return file, {os.path.splitext(name)[0]: label for name, label in pairs}
    raise UserError(
        f"{val} has no folders of classes: put {DEVKIT}/, LOC_val_solution.csv or val_annotations.txt (IMAGE CLASS a line) into"
        f" {path}, or sort its images: cd {val} && wget -qO- https://raw.githubusercontent.com/soumith/imagenetloader.torch/"
        "master/valprep.sh | bash"
    )


def annotated(path: Path, val: Path, names: list[str]) -> Files:
    """The images of a flat folder by class."""
    file, label = annotations(path, val)
    found: Files = {name: [] for name in names}
    unknown = []
    for image in loose_images(val):
        said = label.get(os.path.splitext(os.path.basename(image))[0])
        if said is None:
            unknown.append(image)
        elif said in found:
            found[said].append(image)
    if unknown:
        raise UserError(
            f"{file} does not say the class of {len(unknown)} images, for instance {unknown[0]}"
        )
    if empty := [name for name, images in found.items() if not images]:
        raise UserError(f"{val} holds no image of {len(empty)} classes, by {file}: {empty[:5]}")
    return found


def listing(dataset: str, path: str | Path, wanted: list[str] | None = None) -> tuple[Files, Files]:
    """The training and the test images of a folder of images, without opening one."""
    train, test = splits(path)
    have = class_folders(train)
    names = choose(dataset, path, have, wanted)
    trained = {name: image_files(train / name) for name in names}
    if not any((test / name).is_dir() for name in names) and loose_images(test):
        return trained, annotated(Path(path), test, names)
    tested = set(class_folders(test))
    if differing := set(names) - tested or (tested - set(have) if names == have else set()):
        raise UserError(
            f"{train} and {test} hold different classes: only one of them has {sorted(differing)[:5]}"
        )
    return trained, {name: image_files(test / name) for name in names}
