"""Names and paths are taken as they are: braces are no wildcards, and a dash begins no option."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT, small_study, snakemake
from PIL import Image

from wa.study.study import Study

CLASSES = ["{cat}", "-n", "--cache-size", "a b'c"]


@pytest.fixture
def odd(tmp_path) -> tuple[Path, dict]:
    """A folder with odd names in it, and the config of a study of its images."""
    folder = tmp_path / "{y} results"
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in CLASSES:
            images = folder / "-{pets}" / split / name
            images.mkdir(parents=True)
            for i in range(8):
                pixels = random.integers(256, size=(8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(images / f"{i}.png")
    (folder / "-{w}.pth").touch()
    config = small_study() | {
        "experiment": "on",
        "dataset": "pets",
        "path": "-{pets}",
        "classes": CLASSES,
        "protocols": [{"base": 2, "increment": 2}],
        "methods": {"base-2": {}, "1": {}, "null": {"memory": 8}},
    }
    config["training"] |= {"batch_size": 8}
    return folder, config


def test_odd_names_reach_the_programs_as_they_are(odd):
    folder, config = odd
    targets = ("results/on/config.yaml", "results/on/order-1993/order.json")
    run = snakemake(folder, *targets, config=config)
    assert run.returncode == 0, run.stdout
    dataset = json.loads((folder / "results/data/pets/dataset.json").read_text())
    assert dataset["classes"] == CLASSES and dataset["train_counts"] == [8] * 4


def test_weights_with_an_odd_name_are_planned(odd):
    folder, config = odd
    config["training"]["pretrained"] = "-{w}.pth"
    run = snakemake(folder, "-n", "-p", config=config)
    assert run.returncode == 0, run.stdout
    assert "'--pretrained=-{w}.pth'" in run.stdout


@pytest.mark.slow
def test_a_checkout_with_braces_in_its_path(odd, tmp_path):
    folder, config = odd
    checkout = tmp_path / "my {x} checkout"
    for name in ("workflow", "wa", "config", "docs", "profiles"):
        skipped = shutil.ignore_patterns("__pycache__", "images")
        shutil.copytree(ROOT / name, checkout / name, ignore=skipped)
    for name in ("Snakefile", "environment.yml"):
        shutil.copy(ROOT / name, checkout / name)
    (folder / "study.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "-s", str(checkout / "Snakefile")]
    command += ["results/on/order-1993/order.json", "results/on/config.yaml"]
    files = ["--configfile", "study.json"]
    run = subprocess.run([*command, *files], capture_output=True, text=True, cwd=folder)
    assert run.returncode == 0, run.stderr
    command += ["all", "-n", *files]
    plan = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert plan.returncode == 0, plan.stderr


@pytest.mark.slow
def test_a_study_with_odd_names_runs_to_its_end(odd):
    folder, config = odd
    run = snakemake(folder, "all", "results_table", config=config)
    assert run.returncode == 0, run.stdout
    table = (folder / "results/on/figures/final.md").read_text()
    assert all(f"| {method} |" in table for method in config["methods"])


def test_the_options_of_a_packing_can_be_read(odd):
    folder, config = odd
    config["path"] = str(folder / "-{pets}")
    assert Study(config, str(folder)).parts[0].options() == (
        """'--classes=["{cat}", "-n", "--cache-size", "a b'"'"'c"]'"""
    )
