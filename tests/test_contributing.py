"""CONTRIBUTING.md is true: an addition touches the file and the table that it names, and no other.

One of each kind is added to a copy of this checkout. A study in the copy then uses all of them.
"""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers import ROOT, small_study

from wa.checkpoint import read_checkpoint
from wa.code import Code
from wa.files import read_arrays, read_json

pytestmark = pytest.mark.slow

# What CONTRIBUTING.md calls it -> what is written before the table, and the entry in the table.
# Each leaves a trace in the results, which a test below looks for.
ADDITIONS = {
    "a loss of classification": (
        """
def my_classification(logits, label, n_old, smoothing=0.0):
    return 1000 + cross_entropy(logits, label, n_old, smoothing)
""",
        '"mine": my_classification',
    ),
    "a loss of distillation": (
        """
def my_distillation(student, teacher, temperature, old_sizes):
    return 500 + distillation(student, teacher, temperature, old_sizes)
""",
        '"mine": my_distillation',
    ),
    "an alignment": (
        """
def my_alignment(weight, bias, n_old, held_out=None):
    return weight, bias + 7
""",
        '"mine": my_alignment',
    ),
    "a selection of exemplars": (
        """
def my_ranking(features, seeds):
    return np.tile(np.arange(features.shape[1]), (len(features), 1))
""",
        '"mine": my_ranking',
    ),
    "a metric": (
        """
def my_metric(a):
    return 42.0
""",
        '"mine": my_metric(a)',
    ),
    "a backbone of your own": (
        """
class MyBackbone(nn.Module):
    features = 5

    def __init__(self, in_channels):
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, 5, 3)

    def forward(self, x):
        return self.convolution(x).relu().mean(dim=(2, 3))
""",
        '"mine": MyBackbone',
    ),
    "an augmentation: its name": ("", '"mine": Kind("mine-N", r"mine-(\\d+)", "add N to bytes.")'),
    "an augmentation: what it does": (
        """
def my_augmentation(value):
    return lambda images, draws: images + int(value), 1
""",
        '"mine": my_augmentation',
    ),
}


# A new algorithm is a file. It touches no other.
ALGORITHM = """
from wa.methods.feature_classifier import FeatureClassifier
from wa.methods.learner import Learner

OPTIONS = {"factor": 3.0}


class Mine(Learner):
    def losses(self, x, label):
        found = super().losses(x, label)
        return found._replace(total=self.options["factor"] * found.total)


class First(FeatureClassifier):
    def fit(self, learned, before):
        return {"weight": learned.weight}

    def scores(self, features, state):
        return -abs(features @ state["weight"].T)
"""


def table_of_additions() -> dict[str, tuple[str, list[str]]]:
    """What CONTRIBUTING.md says: what is added -> its file, and the tables that may take it."""
    rows = re.findall(
        r"^\| ([^|]+) \| [^|]+ \| [^|]*\]\(([^)]+)\) \| ([^|]+) \|$",
        (ROOT / "CONTRIBUTING.md").read_text(),
        re.M,
    )
    return {what: (file, re.findall(r"`(\w+)`", tables)) for what, file, tables in rows}


def add(checkout: Path, what: str) -> None:
    """Write an addition into the file and the table that CONTRIBUTING.md names."""
    file, tables = table_of_additions()[what]
    code, entry = ADDITIONS[what]
    text = (checkout / file).read_text()
    start = re.search(rf"^(def {tables[0]}\(|{tables[0]} = )", text, re.M).start()
    before, after = text[:start], text[start:]
    brace = re.search(r" = \{", after).end()
    after = f"{after[:brace]}{entry}, {after[brace:]}"
    (checkout / file).write_text(f"{before}{code.lstrip()}\n\n{after}")


def python(checkout: Path, *options: object) -> str:
    run = subprocess.run(
        [sys.executable, *map(str, options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout)},
    )
    assert run.returncode == 0, run.stdout
    return run.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of this checkout, with one addition of each kind."""
    copy = tmp_path_factory.mktemp("contributed")
    for folder in ("wa", "workflow", "profiles", "config", "docs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignored)
    for file in ("Snakefile", "environment.yml", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / file, copy / file)
    for what in ADDITIONS:
        add(copy, what)
    (copy / "wa/methods/algorithms/mine.py").write_text(ALGORITHM)
    python(copy, "-m", "wa.study.reference")
    return copy


@pytest.fixture(scope="module")
def task(checkout) -> Path:
    """The folder of the second task of a study that uses all additions."""
    config = small_study() | {"protocols": [{"base": 6, "increment": 4}]}
    losses = {"classification_loss": "mine", "distillation_loss": "mine", "distillation": 1}
    config["methods"] = {
        "all": losses | {"memory": 20, "selection": "mine", "alignment": "mine"},
        "algorithm": {"algorithm": "mine"},
    }
    config["training"] |= {"backbone": "mine", "augmentation": ["mine-3"]}
    (checkout / "mine.yaml").write_text(yaml.safe_dump(config))
    python(checkout, *["-m", "snakemake", "metrics", "--cores", "2", "--configfile", "mine.yaml"])
    return checkout / "results/tiny/order-1993/seed-0/base-6/inc-4/all/task-1"


def test_losses(task):
    with open(task / "history.csv", encoding="utf-8") as file:
        row = list(csv.DictReader(file))[-1]
    assert float(row["cross_entropy"]) > 1000
    assert float(row["distillation"]) > 500


def test_an_algorithm(task):
    folder = task.parents[1] / "algorithm/task-1"
    with open(folder / "history.csv", encoding="utf-8") as file:
        row = list(csv.DictReader(file))[-1]
    assert float(row["loss"]) == pytest.approx(3 * float(row["cross_entropy"]), rel=1e-3)
    assert "fitted" in read_json(folder / "metrics.json")


def test_an_alignment(task):
    names = [f"classifier.heads.{head}.bias" for head in (0, 1)]
    trained, _ = read_checkpoint(task / "trained.safetensors")
    aligned, _ = read_checkpoint(task / "model.safetensors")
    for name in names:
        np.testing.assert_allclose(aligned[name], trained[name] + 7, rtol=1e-6)


def test_a_selection(task):
    ranking = read_arrays(task / "mine.npz")
    parts = np.split(ranking["ranking"], np.cumsum(ranking["counts"])[:-1])
    assert len(parts) == 10
    assert all((np.diff(part) > 0).all() for part in parts)


def test_a_metric(task, checkout):
    with open(checkout / "results/tiny/metrics.csv", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "mine"]
    assert {row["task"] for row in rows} == {"0", "1"}
    assert {float(row["value"]) for row in rows} == {42.0}


def test_a_backbone(task):
    tensors, _ = read_checkpoint(task / "model.safetensors")
    assert tensors["classifier.heads.0.weight"].shape == (6, 5)
    assert tensors["backbone.convolution.weight"].shape == (5, 1, 3, 3)


def test_an_augmentation(checkout):
    code = """if True:
        import torch
        from wa.data.augment import Augment

        images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
        augmented = Augment(["mine-3"])(images, torch.tensor(0), torch.arange(2))
        print(augmented.unique().tolist())
    """
    assert python(checkout, "-c", code) == "[3]\n"


def test_no_addition_trains_anything_again(checkout):
    words = ["resnet8", "crop", "flip", "softmax", "herding", "weight"]
    for program in ("wa.training.train", "wa.methods.selection", "wa.methods.alignment"):
        assert Code(checkout).digest(program, words) == Code(ROOT).digest(program, words), program


def test_every_file_and_every_table_of_the_list_is_there():
    additions = table_of_additions()
    assert ADDITIONS.keys() < additions.keys()
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert len(additions) == len(re.findall(r"^\| an? |^\| any ", text, re.M))
    for what, (path, tables) in additions.items():
        files = sorted((ROOT / path).glob("*.py")) if (ROOT / path).is_dir() else [ROOT / path]
        code = "\n".join(file.read_text() for file in files)
        assert tables, what
        for table in tables:
            assert re.search(rf"^((def|class) {table}\b|{table}\b.* = )", code, re.M), (what, table)
