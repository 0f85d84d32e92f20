"""Packing of each kind of data set, and what is said of data that cannot be packed."""

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT, program
from PIL import Image

from wa.data.datasets import mean_and_std, survey
from wa.data.folders import listing
from wa.data.images import read_image
from wa.errors import UserError


def folder_of_images(path: Path, classes=("ant", "bee"), size=(8, 6), held_out="test") -> Path:
    rng = np.random.default_rng(0)
    for split, n in (("train", 4), (held_out, 2)):
        for name in classes:
            (path / split / name).mkdir(parents=True)
            for i in range(n):
                Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), np.uint8)).save(
                    path / split / name / f"{i}.png"
                )
    return path


def pack(dataset: str, path: Path, output: Path):
    return program("wa.data.datasets", "--dataset", dataset, "--path", path, "--output", output)


def test_digits(digits):
    facts = json.loads((digits / "dataset.json").read_text())
    images, labels = np.load(digits / "train_images.npy"), np.load(digits / "train_labels.npy")
    assert facts["image_shape"] == [8, 8, 1] and images.dtype == np.uint8 and images.max() == 255
    assert sum(facts["train_counts"]) == len(images) == len(labels) and sum(
        facts["test_counts"]
    ) == 1797 - len(images)
    assert facts["mean"] == pytest.approx([images.mean() / 255]) and facts["std"] == pytest.approx(
        [images.std() / 255]
    )
    assert survey("digits", "nowhere") == (10, min(facts["train_counts"]))


@pytest.mark.parametrize("held_out", ["test", "val"])
def test_a_folder_of_images_in_the_order_of_names(tmp_path, held_out):
    data = folder_of_images(tmp_path / "data", held_out=held_out)
    Image.new("L", (8, 6), 77).save(data / "train" / "bee" / "1.png")  # greyscale becomes RGB
    assert survey("insects", data) == (2, 4)
    run = pack("insects", data, tmp_path / "packed")
    assert run.returncode == 0, run.stdout
    images, labels = (
        np.load(tmp_path / "packed/train_images.npy"),
        np.load(tmp_path / "packed/train_labels.npy"),
    )
    assert images.shape == (8, 6, 8, 3) and labels.tolist() == [0] * 4 + [1] * 4
    assert (images[5] == 77).all()
    assert (images[2] == np.asarray(Image.open(data / "train/ant/2.png"))).all()
    assert json.loads((tmp_path / "packed/dataset.json").read_text())["classes"] == ["ant", "bee"]


@pytest.mark.parametrize("dataset, classes", [("cifar10", 10), ("cifar100", 100)])
def test_cifar_in_torchvisions_format(tmp_path, dataset, classes):
    """The real reading code on small files in CIFAR's format; only torchvision's list of checksums is replaced."""
    rng, folder = (
        np.random.default_rng(0),
        tmp_path / {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}[dataset],
    )
    folder.mkdir()
    files = (
        ["train", "test"]
        if dataset == "cifar100"
        else [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    )
    pixels = {}
    for name in files:
        pixels[name] = rng.integers(0, 256, (2 * classes, 3072), np.uint8)
        labels = (list(range(classes)) * 2)[:: 1 if dataset == "cifar100" else -1]
        key = "fine_labels" if dataset == "cifar100" else "labels"
        (folder / name).write_bytes(pickle.dumps({"data": pixels[name], key: labels}))
    names, meta = (
        [f"class {i}" for i in range(classes)],
        "meta" if dataset == "cifar100" else "batches.meta",
    )
    (folder / meta).write_bytes(
        pickle.dumps({"fine_label_names" if dataset == "cifar100" else "label_names": names})
    )
    code = (
        "import sys, torchvision.datasets.utils as u, torchvision.datasets.cifar as c\n"
        "c.check_integrity = lambda *a: True\n"
        "from wa.data import datasets; datasets.main()"
    )
    script = tmp_path / "run.py"
    script.write_text(code)
    options = ["--dataset", dataset, "--path", str(tmp_path), "--output", str(tmp_path / "packed")]
    run = subprocess.run(
        [sys.executable, str(script), *options],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert run.returncode == 0, run.stderr
    images, labels = (
        np.load(tmp_path / "packed/train_images.npy"),
        np.load(tmp_path / "packed/train_labels.npy"),
    )
    assert images.shape[1:] == (32, 32, 3) and set(labels) == set(range(classes))
    assert (images[3] == pixels[files[0]][3].reshape(3, 32, 32).transpose(1, 2, 0)).all()
    assert json.loads((tmp_path / "packed/dataset.json").read_text())["classes"] == names


def test_mean_and_std_of_channels():
    images = np.random.default_rng(0).integers(0, 256, (10, 4, 5, 3), np.uint8)
    mean, std = mean_and_std(images)
    np.testing.assert_allclose(mean, images.mean(axis=(0, 1, 2)) / 255)
    np.testing.assert_allclose(std, images.std(axis=(0, 1, 2)) / 255)


def test_unreadable_and_odd_images_are_named_all_at_once(tmp_path):
    data = folder_of_images(tmp_path / "data")
    (data / "train/ant/1.png").write_bytes(b"no image")
    (data / "test/bee/0.png").write_bytes((data / "test/bee/0.png").read_bytes()[:60])
    Image.new("RGB", (9, 6)).save(data / "train/bee/3.png")
    run = pack("insects", data, tmp_path / "packed")
    assert run.returncode == 1
    assert (
        "error: 3 images" in run.stdout
        and "ant/1.png: cannot be read" in run.stdout
        and "bee/0.png: cannot be read" in run.stdout
    )
    assert "bee/3.png: 9x6 pixels, but" in run.stdout
    assert not (tmp_path / "packed/dataset.json").exists()


def test_folders_that_are_none(tmp_path):
    with pytest.raises(UserError, match="'insects' is not built in"):
        survey("insects", tmp_path / "missing")
    (tmp_path / "a/train").mkdir(parents=True)
    with pytest.raises(UserError, match=r"has no folders train/ and test/"):
        survey("insects", tmp_path / "a")
    (tmp_path / "a/val").mkdir()
    with pytest.raises(UserError, match="train is empty"):
        survey("insects", tmp_path / "a")
    data = folder_of_images(tmp_path / "b")
    (data / "train/cow").mkdir()
    with pytest.raises(UserError, match="cow holds no images"):
        survey("insects", data)
    Image.new("RGB", (8, 6)).save(data / "train/cow/0.png")
    with pytest.raises(UserError, match=r"hold different classes: only one of them has \['cow'\]"):
        survey("insects", data)


def photographs(
    path: Path, sizes=((40, 30), (30, 44), (100, 90), (24, 24)), classes=("cat", "dog")
) -> Path:
    """Smooth pictures of several sizes as JPEGs."""
    rng = np.random.default_rng(1)
    for split in ("train", "val"):
        for name in classes:
            (path / split / name).mkdir(parents=True)
            for i, size in enumerate(sizes):
                coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
                coarse.resize(size, Image.Resampling.BICUBIC).save(
                    path / split / name / f"{i}.JPEG", quality=95
                )
    return path


def test_photographs_of_all_sizes_and_modes_become_squares(tmp_path):
    """By torchvision's Resize and CenterCrop, where libjpeg does not shrink them first; that differs by a few grey levels."""
    from torchvision.transforms import CenterCrop, Compose, Resize

    data = photographs(tmp_path / "data")
    cat = data / "train/cat"
    colour = Image.open(cat / "0.JPEG").copy()
    colour.convert("CMYK").save(cat / "4.JPEG")
    colour.convert("L").save(cat / "5.JPEG")
    colour.convert("P").save(cat / "6.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    colour.save(cat / "7.JPEG", exif=exif)
    run = program(
        *(
            "wa.data.datasets",
            "--dataset",
            "pets",
            "--path",
            data,
            "--output",
            tmp_path / "p",
            "--cache-size",
            24,
            "--processes",
            2,
        )
    )
    assert run.returncode == 0, run.stdout
    images = np.load(tmp_path / "p/train_images.npy", mmap_mode="r")
    assert images.shape == (12, 24, 24, 3)
    theirs = Compose([Resize(24), CenterCrop(24)])
    files = [*(cat / f"{i}.JPEG" for i in range(6)), cat / "6.png"]
    expected = [np.asarray(theirs(Image.open(file).convert("RGB"))) for file in files]
    difference = [np.abs(a - b.astype(int)).max() for a, b in zip(images, expected, strict=False)]
    assert [d for i, d in enumerate(difference) if i != 2] == [0] * 6
    assert difference[2] <= 8  # of 100 x 90 pixels: decoded at a half of that
    turned = theirs(Image.open(cat / "7.JPEG").transpose(Image.Transpose.ROTATE_270))
    assert (images[7] == np.asarray(turned)).all()
    facts = json.loads((tmp_path / "p/dataset.json").read_text())
    assert (
        facts["cache_size"] == 24
        and facts["dataset"] == "pets-24"
        and facts["image_shape"] == [24, 24, 3]
    )


def test_the_array_is_the_one_that_numpy_would_save(tmp_path):
    data = folder_of_images(tmp_path / "data")
    assert pack("insects", data, tmp_path / "packed").returncode == 0
    images = np.stack([np.asarray(Image.open(f)) for f in sorted(data.glob("train/*/*.png"))])
    np.save(tmp_path / "saved.npy", images)
    assert (tmp_path / "packed/train_images.npy").read_bytes() == (
        tmp_path / "saved.npy"
    ).read_bytes()
    assert not [f.name for f in (tmp_path / "packed").glob(".*") if f.name != ".lock"]


def slow(image: str) -> np.ndarray:
    time.sleep(0.02)
    return read_image(image, 3, square=16)


@pytest.mark.slow
def test_a_killed_packing_goes_on(tmp_path):
    """Killed by SIGKILL in the midst of it: no decoder is left, nothing looks whole, and only what lacks is decoded."""
    data = photographs(tmp_path / "data", [(20, 16)] * 60)
    script = tmp_path / "run.py"
    script.write_text(
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from wa.data import packing; packing.CHUNK, packing.SYNC = 4000, 0.1\n"
        "from test_datasets import slow; from pathlib import Path\n"
        "print(packing.pack(sys.argv[3:], Path(sys.argv[2]), (16, 16, 3), slow, 'code', 2), flush=True)\n"
    )
    files, output = sorted(map(str, data.glob("train/*/*.JPEG"))), tmp_path / "out/images.npy"
    command = [sys.executable, script, Path(__file__).parent, output, *files]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    process = subprocess.Popen(command, env=environment)
    journal = output.with_name(".images.npy.journal")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (
        journal.exists() and len(journal.read_text().splitlines()) > 4
    ):
        time.sleep(0.02)
    process.kill()
    process.wait()
    finished = len(journal.read_text().splitlines()) - 1
    assert 4 <= finished < 24 and not output.exists()
    with pytest.raises(ValueError):
        np.load(output.with_name(".images.npy.part"), allow_pickle=False)
    time.sleep(0.2)
    assert not any(
        b"run.py" in p.read_bytes() and str(output).encode() in p.read_bytes() for p in cmdlines()
    )

    before = [read_image(file, 3, square=16) for file in files]
    Path(files[0]).write_bytes(
        Path(files[1]).read_bytes()
    )  # changed in the meantime: its chunk is decoded again
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert (
        f"going on, {finished - 1} of 24 chunks are there" in run.stdout
        and "([], [])" in run.stdout
    )
    assert (np.load(output) == np.stack([before[1], *before[1:]])).all() and not journal.exists()


def cmdlines():
    return [p for p in Path("/proc").glob("[0-9]*/cmdline") if p.exists()]


def imagenet(path: Path, classes: int, flat=False) -> Path:
    """ImageNet's layout with one tiny picture a class (a link to the same file)."""
    (path / "val").mkdir(parents=True)
    Image.new("RGB", (4, 4), "red").save(path / "one.png")
    for c in range(classes):
        name = f"n{c:08d}"
        for split in ("train", "val")[: 1 if flat else 2]:
            (path / split / name).mkdir(parents=True)
            os.link(path / "one.png", path / split / name / "a.png")
        if flat:
            os.link(path / "one.png", path / f"val/ILSVRC2012_val_{c + 1:08d}.JPEG")
    return path


def test_imagenet_100_is_the_first_hundred_classes(tmp_path):
    path = imagenet(tmp_path / "imagenet", 1000)
    assert survey("imagenet1000", path) == (1000, 1) and survey("imagenet100", path) == (100, 1)
    train, val = listing("imagenet100", path)
    assert list(train) == list(val) == [f"n{c:08d}" for c in range(100)]
    assert list(listing("imagenet100", path, ["n00000700", "n00000003"])[0]) == [
        "n00000700",
        "n00000003",
    ]
    with pytest.raises(UserError, match=r"lacks 1 of the classes that the config lists: \['n9'\]"):
        survey("imagenet100", path, ["n9", "n00000003"])
    with pytest.raises(UserError, match="holds 60 classes, but imagenet100 needs 100 or 1000"):
        survey("imagenet100", imagenet(tmp_path / "sixty", 60))
    with pytest.raises(UserError, match="does not hold imagenet1000: it must hold train/WNID"):
        survey("imagenet1000", tmp_path)


def test_a_flat_val_is_read_by_its_annotations_or_refused_with_what_mends_it(tmp_path):
    from scipy.io import savemat

    path = imagenet(tmp_path / "flat", 3, flat=True)
    with pytest.raises(
        UserError,
        match=r"val has no folder for each class. Put ILSVRC2012_devkit_t12/.* or sort its images: cd ",
    ):
        survey("any", path)

    def by_class() -> list[str]:
        return [os.path.basename(files[0])[15:-5] for files in listing("any", path)[1].values()]

    lines = [f"ILSVRC2012_val_{i:08d},n{c:08d} 1 2 3 4" for i, c in ((1, 2), (2, 0), (3, 1))]
    (path / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *lines, ""]))
    assert by_class() == ["00000002", "00000003", "00000001"]
    (path / "val/val_annotations.txt").write_text(
        "ILSVRC2012_val_00000001.JPEG\tn00000000\t0\n" * 2
    )
    with pytest.raises(UserError, match=r"val_annotations.txt does not say the class of 2 images"):
        by_class()
    data = path / "ILSVRC2012_devkit_t12/data"
    data.mkdir(parents=True)
    synsets = np.array(
        [(2, "n00000000"), (1, "n00000001"), (3, "n00000002")],
        [("ILSVRC2012_ID", "O"), ("WNID", "O")],
    )
    savemat(data / "meta.mat", {"synsets": synsets})
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text("3\n1\n2\n")
    assert by_class() == ["00000003", "00000002", "00000001"]
