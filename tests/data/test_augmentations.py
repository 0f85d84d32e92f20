"""The names of augmentations: parsed in one place, refused before anything runs."""

import subprocess
import sys

import pytest
from helpers import ROOT

from wa.data.augmentations import KINDS, Policy, check_images, output_size, parse, parse_for_timm
from wa.errors import UserError


def test_names_become_steps():
    names = ["resized-crop-32", "crop-4", "flip", "brightness-.25", "jitter-0.4-0.3-.2", "erase-1"]
    steps = parse(names)
    assert [step.name for step in steps] == names
    assert [step.kind for step in steps] == [
        "resized", "crop", "flip", "brightness", "jitter", "erase",
    ]  # fmt: skip
    values = [step.values for step in steps]
    assert values == [(32,), (4,), (), (0.25,), (0.4, 0.3, 0.2), (1.0, False)]
    assert parse(["erase-0.5-const"])[0].values == (0.5, True)
    assert parse(["rand-m9-mstd0.5-inc1"])[0].values == Policy(m=9, mstd=0.5, inc=1)
    assert output_size(names) == 32 and output_size(names[1:]) is None and output_size([]) is None


@pytest.mark.parametrize(
    "names, message",
    [
        (["blur-3"], "unknown augmentation 'blur-3'; known are resized-crop-S"),
        (["resized-crop-0"], "unknown augmentation"),
        (["crop-4\n"], "unknown augmentation"),
        (["random-m9"], "unknown augmentation"),
        (["rand-m9-w0"], "unknown section 'w0'; known are m, n, p, mstd, mmax and inc"),
        (["rand-"], "unknown section ''"),
        (["rand-m9-m5"], "gives m twice"),
        (["rand-n0"], "n is 0, but must be 1 to 9"),
        (["rand-p2"], "p is 2, but a probability is at most 1"),
        (["rand-inc2"], "inc is 2, but must be 0 or 1"),
        (["erase-1.5"], "1.5 is not a probability"),
        (["erase-0.5", "flip"], "'erase-0.5' stands before 'flip': erase must be the last"),
        (["flip", "resized-crop-32"], "'resized-crop-32' must be the first"),
        (["resized-crop-32", "resized-crop-16"], "'resized-crop-16' must be the first"),
    ],
)
def test_what_is_wrong_is_one_line(names, message):
    with pytest.raises(UserError) as error:
        parse(names)
    assert message in str(error.value) and str(error.value).isprintable()


@pytest.mark.parametrize(
    "names, shape, message",
    [
        (["rand-m9"], (8, 8, 1), "rand-m9 needs colour images"),
        (["jitter-1-1-1"], (8, 8, 1), "jitter-1-1-1 needs colour images"),
        (["resized-crop-33"], (32, 40, 3), "resized-crop-33 is larger than the images"),
        (["crop-32"], (32, 40, 3), "crop-32 pads by as much"),
    ],
)
def test_what_images_do_not_allow(names, shape, message):
    with pytest.raises(UserError, match=f"^augmentation: {message}"):
        check_images(names, *shape)


def test_what_images_allow():
    check_images(["resized-crop-32", "rand-m9", "erase-0.5"], 32, 40, 3)
    check_images(["crop-7", "flip", "brightness-0.2"], 8, 8, 1)


def test_timm_has_an_order_of_its_own():
    given = parse_for_timm(["resized-crop-32", "flip", "rand-m9", "erase-0.5"])
    assert list(given) == ["resized", "flip", "rand", "erase"]
    for names in (["flip", "resized-crop-32"], ["resized-crop-32", "erase-1", "flip"], []):
        with pytest.raises(UserError):
            parse_for_timm(names)


def test_every_kind_has_a_transformation():
    from wa.data.augment import TRANSFORMS

    assert {*TRANSFORMS, "erase"} == KINDS.keys()


def test_names_need_no_torch():
    code = "import sys, wa.data.augmentations, wa.data.memory, wa.models.names, wa.study.settings"
    code += "; print('torch' in sys.modules, 'numpy' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.stdout.split() == ["False", "False"], run.stderr
