"""Names and locales that are not UTF-8."""

import os
import subprocess
import sys

import numpy as np
import pytest
from data.test_datasets import folder_of_images, pack
from helpers import ROOT

LATIN1 = os.fsdecode(b"caf\xe9")


def test_an_image_whose_name_is_not_utf8_is_packed(tmp_path):
    data = folder_of_images(tmp_path / "data")
    (data / "train/ant/0.png").rename(data / "train/ant" / f"{LATIN1}.png")
    run = pack("insects", data, tmp_path / "packed")
    assert run.returncode == 0, run.stdout
    assert len(np.load(tmp_path / "packed/train_labels.npy")) == 8
    (data / "train/ant" / f"{LATIN1}.png").write_bytes(b"no image")
    run = pack("insects", data, tmp_path / "packed")
    assert run.returncode == 1 and r"caf\xe9.png: cannot be read" in run.stdout
    assert "Traceback" not in run.stdout


def test_a_class_whose_name_is_not_utf8_is_refused(tmp_path):
    data = folder_of_images(tmp_path / "data", classes=("ant", LATIN1))
    run = pack("insects", data, tmp_path / "packed")
    assert run.returncode == 1 and "Traceback" not in run.stdout
    assert r"train/caf\xe9: the name of this class is not UTF-8" in run.stdout


@pytest.mark.parametrize("mode", ["0", ""])
def test_a_locale_that_is_not_utf8_changes_nothing(tmp_path, mode):
    data = folder_of_images(tmp_path / "dätä", classes=("ünï", "猫"))
    where = ["--dataset", "insects", "--path", data, "--classes", '["猫", "ünï"]']
    locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": mode}
    packed = []
    for name, environment in (("utf8", {}), ("other", locale)):
        options = [*where, "--output", tmp_path / name]
        command = [sys.executable, "-m", "wa.data.datasets", *map(str, options)]
        environment |= {"PYTHONPATH": str(ROOT)}
        subprocess.run(command, env=os.environ | environment, check=True)
        packed.append((tmp_path / name / "dataset.json").read_bytes())
    assert packed[0] == packed[1]
