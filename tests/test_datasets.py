"""Packing of each kind of data set, and what is said of data that cannot be packed."""

import json
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import program
from PIL import Image

from wa.datasets import mean_and_std, survey
from wa.files import UserError


def folder_of_images(path: Path, classes=("ant", "bee"), size=(8, 6), held_out="test") -> Path:
    rng = np.random.default_rng(0)
    for split, n in (("train", 4), (held_out, 2)):
        for name in classes:
            (path / split / name).mkdir(parents=True)
            for i in range(n):
                Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), np.uint8)).save(path / split / name / f"{i}.png")
    return path


def pack(dataset: str, path: Path, output: Path):
    return program("wa.datasets", "--dataset", dataset, "--path", path, "--output", output)


def test_digits(digits):
    facts = json.loads((digits / "dataset.json").read_text())
    images, labels = np.load(digits / "train_images.npy"), np.load(digits / "train_labels.npy")
    assert facts["image_shape"] == [8, 8, 1] and images.dtype == np.uint8 and images.max() == 255
    assert sum(facts["train_counts"]) == len(images) == len(labels) and sum(facts["test_counts"]) == 1797 - len(images)
    assert facts["mean"] == pytest.approx([images.mean() / 255]) and facts["std"] == pytest.approx([images.std() / 255])
    assert survey("digits", "nowhere") == (10, min(facts["train_counts"]))


@pytest.mark.parametrize("held_out", ["test", "val"])
def test_a_folder_of_images_in_the_order_of_names(tmp_path, held_out):
    data = folder_of_images(tmp_path / "data", held_out=held_out)
    Image.new("L", (8, 6), 77).save(data / "train" / "bee" / "1.png")  # greyscale becomes RGB
    assert survey("insects", data) == (2, 4)
    run = pack("insects", data, tmp_path / "packed")
    assert run.returncode == 0, run.stdout
    images, labels = np.load(tmp_path / "packed/train_images.npy"), np.load(tmp_path / "packed/train_labels.npy")
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
    files = ["train", "test"] if dataset == "cifar100" else [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    pixels = {}
    for name in files:
        pixels[name] = rng.integers(0, 256, (2 * classes, 3072), np.uint8)
        labels = (list(range(classes)) * 2)[:: 1 if dataset == "cifar100" else -1]
        key = "fine_labels" if dataset == "cifar100" else "labels"
        (folder / name).write_bytes(pickle.dumps({"data": pixels[name], key: labels}))
    names, meta = [f"class {i}" for i in range(classes)], "meta" if dataset == "cifar100" else "batches.meta"
    (folder / meta).write_bytes(pickle.dumps({"fine_label_names" if dataset == "cifar100" else "label_names": names}))
    code = (
        "import sys, torchvision.datasets.utils as u, torchvision.datasets.cifar as c\n"
        "c.check_integrity = lambda *a: True\n"
        "from wa import datasets; datasets.main()"
    )
    script = tmp_path / "run.py"
    script.write_text(code)
    import subprocess

    root = Path(__file__).parents[1]
    options = ["--dataset", dataset, "--path", str(tmp_path), "--output", str(tmp_path / "packed")]
    run = subprocess.run(
        [sys.executable, str(script), *options],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    assert run.returncode == 0, run.stderr
    images, labels = np.load(tmp_path / "packed/train_images.npy"), np.load(tmp_path / "packed/train_labels.npy")
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
