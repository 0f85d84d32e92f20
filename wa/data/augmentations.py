"""The names of augmentations, read and checked. No torch is needed.

    parse(["crop-4", "flip"])  ->  [Step("crop-4", "crop", (4,)), Step("flip", "flip", ())]

wa/data/augment.py makes transformations of these steps, and wa/data/timm_input.py makes timm's. To
add an augmentation, add an entry to KINDS here and to TRANSFORMS in wa/data/augment.py.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from wa.errors import UserError

NUMBER = r"([0-9]*\.?[0-9]+)"


class Kind(NamedTuple):
    """A kind of augmentation: how its name is written, and what it does."""

    spelling: str
    pattern: str  # each group is a value of the step
    help: str
    needs_colour: bool = False


RESIZED_CROP = Kind(
    "resized-crop-S",
    r"resized-crop-([1-9][0-9]{0,3})",
    help="torchvision's RandomResizedCrop to S pixels. It must be the first. Models are then "
    "evaluated on the centre of S pixels, after a resize to S / 0.875.",
)
CROP = Kind("crop-P", r"crop-([0-9]{1,3})", help="Pad by P pixels of zeros, then crop at random.")
FLIP = Kind("flip", r"flip", help="Flip horizontally, for half of the images.")
BRIGHTNESS = Kind(
    "brightness-B", rf"brightness-{NUMBER}", help="torchvision's ColorJitter of the brightness."
)
JITTER = Kind(
    "jitter-B-C-S",
    rf"jitter-{NUMBER}-{NUMBER}-{NUMBER}",
    help="torchvision's ColorJitter of brightness, contrast and saturation. Colour images only.",
    needs_colour=True,
)
RAND_AUGMENT = Kind(
    "rand-mM-nN-pP-mstdD-mmaxX-inc1",
    r"rand(?:-.*)?",
    help="timm's RandAugment, for instance `rand-m9-mstd0.5-inc1`. Colour images only.",
    needs_colour=True,
)
ERASE = Kind(
    "erase-P",
    rf"erase-{NUMBER}(-const)?",
    help="timm's RandomErasing with probability P. The rectangle is filled with noise, or with "
    "zeros by `erase-P-const`. It must be the last.",
)

# The key is the first word of the names.
KINDS = {
    "resized": RESIZED_CROP,
    "crop": CROP,
    "flip": FLIP,
    "brightness": BRIGHTNESS,
    "jitter": JITTER,
    "rand": RAND_AUGMENT,
    "erase": ERASE,
}
KNOWN = ", ".join(kind.spelling for kind in KINDS.values())


class Step(NamedTuple):
    """One augmentation: its name, its kind (a key of KINDS), and its numbers."""

    name: str
    kind: str
    values: tuple


class Policy(NamedTuple):
    """timm's settings of RandAugment, with timm's defaults."""

    m: int = 10  # magnitude
    n: int = 2  # operations for each image, one after the other
    p: float = 0.5  # probability of each
    mstd: float = 0.0  # standard deviation of the magnitude
    mmax: int = 10  # largest magnitude
    inc: int = 0  # 1: the operations whose effect grows with the magnitude


def parse_policy(name: str) -> Policy:
    """The settings in the name of a RandAugment. Raises UserError."""
    settings = {}
    for section in name.split("-")[1:]:
        match = re.fullmatch(rf"(m|n|mmax|inc)([0-9]{{1,3}})|(p|mstd){NUMBER}", section)
        if not match:
            raise UserError(
                f"{name!r}: unknown section {section!r}; known are m, n, p, mstd, mmax and inc"
            )
        key = match[1] or match[3]
        if key in settings:
            raise UserError(f"{name!r} gives {key} twice")
        settings[key] = int(match[2]) if match[1] else float(match[4])
    policy = Policy(**settings)
    if not 1 <= policy.n <= 9:
        raise UserError(f"{name!r}: n is {policy.n}, but must be 1 to 9")
    if policy.p > 1:
        raise UserError(f"{name!r}: p is {policy.p:g}, but a probability is at most 1")
    if policy.inc > 1:
        raise UserError(f"{name!r}: inc is {policy.inc}, but must be 0 or 1")
    return policy


def parse_step(name: str) -> Step:
    """One name. Raises UserError for a name that is not known."""
    kind = name.split("-")[0]
    match = re.fullmatch(KINDS[kind].pattern, name) if kind in KINDS else None
    if match is None:
        raise UserError(f"unknown augmentation {name!r}; known are {KNOWN}")
    if kind == "rand":
        return Step(name, kind, parse_policy(name))
    if kind == "erase":
        probability = float(match[1])
        if probability > 1:
            raise UserError(f"{name!r}: {match[1]} is not a probability; it is at most 1")
        return Step(name, kind, (probability, bool(match[2])))
    number = int if kind in ("resized", "crop") else float
    return Step(name, kind, tuple(number(value) for value in match.groups()))


def parse(names: Sequence[str]) -> list[Step]:
    """The steps, in order. Raises UserError: an unknown name, or an order that is not possible."""
    steps = [parse_step(name) for name in names]
    for i, step in enumerate(steps):
        if step.kind == "resized" and i > 0:
            raise UserError(f"{step.name!r} must be the first: it decides the size of the images")
        if step.kind == "erase" and i < len(steps) - 1:
            raise UserError(
                f"{step.name!r} stands before {steps[i + 1].name!r}: erase must be the last,"
                " because it acts on normalised images"
            )
    return steps


def output_size(names: Sequence[str]) -> int | None:
    """The side of the images that come out. None: as they come in."""
    steps = parse(names)
    if steps and steps[0].kind == "resized":
        return steps[0].values[0]
    return None


def check_images(names: Sequence[str], height: int, width: int, channels: int) -> None:
    """Raise UserError if images of this shape cannot be augmented so."""
    side, shape = min(height, width), f"{height} x {width} pixels"
    for step in parse(names):
        if KINDS[step.kind].needs_colour and channels != 3:
            raise UserError(
                f"augmentation: {step.name} needs colour images (3 channels), but these have"
                f" {channels}. If you named none, it is of the default. Under `training`, write"
                " another list, such as `augmentation: [crop-1]`"
            )
        if step.kind == "resized" and step.values[0] > side:
            raise UserError(f"augmentation: {step.name} is larger than the images, {shape}")
        if step.kind == "crop" and step.values[0] >= side:
            raise UserError(
                f"augmentation: {step.name} pads by as much as the images are large, {shape}"
            )


TIMM_ORDER = ("resized", "flip", "jitter", "rand", "erase")  # in which timm's transform acts


def parse_for_timm(names: Sequence[str]) -> dict[str, Step]:
    """The steps by their kind. Raises UserError if timm's create_transform cannot do them."""
    steps = parse(names)
    kinds = [step.kind for step in steps]
    fits = kinds[:1] == ["resized"] and kinds == [k for k in TIMM_ORDER if k in kinds]
    if not fits or {"jitter", "rand"} <= set(kinds):
        raise UserError(
            f"{' '.join(names) or '[]'}: `input: timm` takes resized-crop-S and then, in this"
            " order, flip, jitter-B-C-S or rand-..., erase-P"
        )
    return {step.kind: step for step in steps}
