"""The digest of code changes when the code does something else, and only then."""

import shutil
from dataclasses import asdict

import pytest
from helpers import ROOT

from wa.code import Code
from wa.identity import training_code
from wa.methods import algorithm
from wa.study.settings import Settings


@pytest.fixture
def checkout(tmp_path):
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "wa", tmp_path / "wa", ignore=ignored)
    return tmp_path


def edit(checkout, file, old, new):
    path = checkout / file
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")


def of_training(checkout, **settings):
    return training_code(Code(checkout), asdict(Settings(**settings)))


def test_how_many_exemplars_a_class_has_counts_for_a_training(checkout):
    """The class comes in by an option, so no name in the training leads to its methods."""
    before = of_training(checkout)
    edit(checkout, "wa/data/memory.py", "self.total // n_classes", "self.total // n_classes // 2")
    assert of_training(checkout) != before


def test_the_input_that_is_not_chosen_does_not_count(checkout):
    before, of_timm = of_training(checkout), of_training(checkout, input="timm")
    edit(checkout, "wa/data/timm_input.py", '"bilinear"', '"bicubic"')
    assert of_training(checkout) == before
    assert of_training(checkout, input="timm") != of_timm


@pytest.mark.parametrize("name", algorithm.NAMES)
def test_a_new_loss_does_not_count_for_a_method_with_an_algorithm(checkout, name):
    before = of_training(checkout, algorithm=name)
    new = 'def another(*_):\n    return 0\n\n\nCLASSIFICATION = {"another": another, '
    edit(checkout, "wa/methods/loss.py", "CLASSIFICATION = {", new)
    assert of_training(checkout, algorithm=name) == before


OWN = """from wa.methods.learner import Learner


{before}
class Own(Learner):
    def losses(self, x, label):
        return {used}
"""
# Pairs of code that do different things: (before the class, in the class), twice.
DIFFERENT = {
    "a loop": (
        ("W = []\nfor k in range(3):\n    W.append(k)\n", "W"),
        ("W = []\nfor k in range(3):\n    W.append(2 * k)\n", "W"),
    ),
    "a name that a loop binds": (
        ("for k in range(3):\n    last = k\n", "last"),
        ("for k in range(3):\n    last = k + 1\n", "last"),
    ),
    "an entry of a table that is read as a whole": (
        ('T = {"mean": float(1), "std": float(2)}\n', 'sum(T.values()) + x["mean"]'),
        ('T = {"mean": float(1), "std": float(3)}\n', 'sum(T.values()) + x["mean"]'),
    ),
    "an argument that is named as one of argparse": (
        ("def f(help):\n    return help\n", "f(help=1)"),
        ("def f(help):\n    return help\n", "f(help=2)"),
    ),
}


def of_own(checkout, before, used):
    file = checkout / "own.py"
    file.write_text(OWN.format(before=before, used=used), encoding="utf-8")
    return Code(checkout, {"own": file}).digest("own", function="Own")


@pytest.mark.parametrize("name", DIFFERENT)
def test_different_code_in_a_file_of_ones_own_is_told_apart(checkout, name):
    one, two = DIFFERENT[name]
    assert of_own(checkout, *one) != of_own(checkout, *two)
    assert of_own(checkout, *one) == of_own(checkout, f"# A comment.\n{one[0]}", one[1])


def test_what_a_star_imports_counts(checkout):
    star = "from wa.models.cosine_classifiers import *\n"
    before = of_own(checkout, star, "centres(x)")
    edit(checkout, "wa/models/cosine_classifiers.py", "def centres(", "def centres(_=0, *, ")
    assert of_own(checkout, star, "centres(x)") != before
