"""A validation split: which images it takes, and that the test images are never opened."""

import json
from pathlib import Path

import numpy as np
import pytest
from data.test_datasets import folder_of_images, pack, write_noise
from helpers import program

from wa.data.validation import for_validation, split_files, split_labels
from wa.errors import UserError
from wa.study.study import Study


def packed(folder: Path) -> dict[str, np.ndarray]:
    names = ["train_images", "train_labels", "test_images", "test_labels"]
    return {name: np.load(folder / f"{name}.npy") for name in names}


@pytest.mark.parametrize("images, share, held", [(2, 0.1, 1), (10, 0.1, 1), (500, 0.1, 50)])
def test_a_share_of_each_class_and_at_least_one_image(images, share, held):
    chosen = for_validation(images, share)
    assert chosen.sum() == held and len(chosen) == images
    assert (chosen == for_validation(images, share)).all()


def test_a_class_of_one_image_is_refused():
    with pytest.raises(UserError, match="1 training image is too few: validation needs one"):
        for_validation(1, 0.1)


def test_files_and_labels_are_split_alike_class_by_class():
    names = {"ant": [f"a{i}" for i in range(20)], "bee": [f"b{i}" for i in range(30)]}
    train, held = split_files(names, 0.2)
    assert [len(held[name]) for name in names] == [4, 6]
    for name, files in names.items():
        assert sorted(train[name] + held[name]) == sorted(files)
        assert train[name] == sorted(train[name], key=files.index)  # the order stays
    label = np.array([0, 1] * 20 + [1] * 10)
    by_label = split_labels(label, 0.2)
    for c, name in enumerate(names):
        of_class = by_label[label == c]
        assert [f for f, is_held in zip(names[name], of_class, strict=True) if is_held] == held[
            name
        ]


def test_the_digits_with_a_split(digits, tmp_path):
    run = pack("digits", tmp_path, tmp_path / "packed", "--validation", 0.1)
    assert run.returncode == 0, run.stdout
    assert "validation images of 10 classes" in run.stdout
    whole, split = packed(digits), packed(tmp_path / "packed")
    facts = json.loads((tmp_path / "packed/dataset.json").read_text())
    assert facts["dataset"] == "digits-validation-0.1" and facts["validation"] == 0.1
    assert len(split["train_labels"]) + len(split["test_labels"]) == len(whole["train_labels"])
    for c in range(10):
        of_class = (whole["train_labels"] == c).sum()
        assert (split["test_labels"] == c).sum() == round(0.1 * of_class)
    # Together, they are the training images. No test image is among them.
    images = np.concatenate([split["train_images"], split["test_images"]])
    assert sorted(map(bytes, images)) == sorted(map(bytes, whole["train_images"]))


def test_of_a_folder_no_test_image_is_opened(tmp_path):
    """The files in test/ are no images. Packing them fails, and packing a split does not."""
    data = folder_of_images(tmp_path / "data")
    for file in (data / "test").rglob("*.png"):
        file.write_text("no image")
    assert pack("insects", data, tmp_path / "whole").returncode == 1
    run = pack("insects", data, tmp_path / "split", "--validation", 0.25)
    assert run.returncode == 0, run.stdout
    arrays = packed(tmp_path / "split")
    assert arrays["train_labels"].tolist() == [0] * 3 + [1] * 3
    assert arrays["test_labels"].tolist() == [0, 1]


def test_a_class_with_too_few_images_is_one_line_before_anything_runs(tmp_path, config):
    for split, counts in (("train", [4, 1]), ("test", [1, 1])):
        for c, count in enumerate(counts):
            write_noise(tmp_path / split / f"c{c}", count)
    config |= {"dataset": "noise", "path": str(tmp_path), "validation": 0.1}
    config["protocols"] = [{"base": 1, "increment": 1}]
    with pytest.raises(UserError, match="validation: class number 1 of noise: 1 training image"):
        Study(config, str(tmp_path / "results"))


def test_the_counts_of_the_plan_are_those_of_the_packed_split(tmp_path, config):
    config["validation"] = 0.1
    before = Study(config, str(tmp_path))
    folder = before.parts[0].folder
    assert folder == f"{tmp_path}/data/digits-validation-0.1"
    run = program(
        "wa.data.datasets", "--dataset", "digits", "--path", tmp_path, "--output", folder,
        "--validation", 0.1,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout
    assert Study(config, str(tmp_path)).counts.tolist() == before.counts.tolist()


def test_tasks_by_name_and_original_files_are_refused(tmp_path, config):
    config["validation"] = 0.1
    named = config | {"dataset": "pets", "tasks": [["a"], ["b"]]}
    del named["protocols"], named["orders"]
    with pytest.raises(UserError, match="validation: it is for `protocols`"):
        Study(named, str(tmp_path))
    config["training"] |= {"input": "timm", "augmentation": ["resized-crop-8"]}
    with pytest.raises(UserError, match="timm reads all original training files"):
        Study(config, str(tmp_path))
