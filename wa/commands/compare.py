"""Compare two versions of a model on the test images: may the new one be released?

    wa compare OLD/model.safetensors NEW/model.safetensors --max-drop 5

Each version predicts among the classes that it knows. So the old version is judged on its own
classes, and the new one on all classes.
"""

import argparse
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wa.analysis.metrics import expected_calibration_error
from wa.data.packed import check_same_data, parts_of, read_dataset, read_parts
from wa.errors import UserError
from wa.files import write_json
from wa.study import layout

HELP = """Compare two versions of a model on the packed test images.

The table has the accuracy of each class before and after, with the largest fall first. Below it
stand old and new classes together, how often the two versions agree on images of old classes, and
the calibration of both. Then come the worst confusions of the new version between an old and a new
class. Classes of the old version without test images are named: of them nothing is measured.

With --max-drop the exit status is 1 if an old class fell by more points, or if the new version does
not know it, with or without test images. Classes that only the new version knows cannot fall.
"""

SHOWN = 20  # classes in the table; the JSON has all
SHOWN_CONFUSIONS = 8  # likewise
BATCH = 256
ROUNDING = 1e-9  # points: 62 % to 57 % is -5.000000000000007


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("old", help="model.safetensors of the version in service")
    add("new", help="model.safetensors of the version that may replace it")
    add(
        "--data",
        type=Path,
        nargs="+",
        help="folder of the packed data, or of each task (default: beside the study of NEW)",
    )
    add("--max-drop", type=points, metavar="POINTS", help="the largest fall that a class may have")
    add("--json", metavar="FILE", help="write the comparison as JSON")
    add("--figure", metavar="FILE", help="draw the classes that changed most: .svg, .png or .pdf")


def points(text: str) -> float:
    """The value of --max-drop, in percentage points."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a fall in points: give 0 or more")
    return value


class Predictions(NamedTuple):
    """What a model says of images: its class (n,), as a name, and the probability of it (n,)."""

    names: np.ndarray
    confidence: np.ndarray | None  # None for the nearest mean, which has no probabilities


class Change(NamedTuple):
    """A class before and after: its accuracy in percent. `old` is None for a class that is new."""

    name: str
    images: int
    old: float | None
    new: float  # 0 for a class that the new version does not know

    @property
    def points(self) -> float:
        """How much its accuracy rose; 0 for a new class."""
        return 0.0 if self.old is None else self.new - self.old


class Confusion(NamedTuple):
    """Images of one class that the new version takes for another. One is old, and one is new."""

    true: str
    predicted: str
    images: int
    percent: float  # of the images of the true class


def predict(model, images: np.ndarray) -> Predictions:
    """model: a Classifier. images: uint8 (n, H, W, C), as packed."""
    from tqdm import tqdm

    if images.shape[1:] != model.image_shape:
        raise UserError(
            f"the packed images are {images.shape[1:]}, but the model takes {model.image_shape}"
        )
    classes, confidence = [], []
    for start in tqdm(range(0, len(images), BATCH), "predicting", leave=False, disable=None):
        best = model.measured_images(np.array(images[start : start + BATCH])).max(dim=1)
        classes.append(best.indices.numpy())
        confidence.append(best.values.numpy())
    names = np.array(model.classes, dtype=object)[np.concatenate(classes)]
    is_probability = model.measure == "probability"
    return Predictions(names, np.concatenate(confidence) if is_probability else None)


def changes(label: np.ndarray, old: Predictions, new: Predictions, known: set[str]) -> list[Change]:
    """Each class of the test images, the largest fall first.

    label: names (n,). known: the classes of the old version.
    """
    found = []
    for name in dict.fromkeys(label.tolist()):
        of_class = label == name
        before = 100 * float((old.names == name)[of_class].mean()) if name in known else None
        after = 100 * float((new.names == name)[of_class].mean())
        found.append(Change(name, int(of_class.sum()), before, after))
    return sorted(found, key=lambda change: change.points)


def confusions(label: np.ndarray, new: Predictions, known: set[str]) -> list[Confusion]:
    """Images of old classes that the new version takes for new ones, and the reverse.

    The pair with the most images comes first. label: names (n,). known: the classes of the old
    version.
    """
    pairs = Counter(zip(label.tolist(), new.names.tolist(), strict=True))
    images = Counter(label.tolist())
    found = [
        Confusion(true, predicted, count, 100 * count / images[true])
        for (true, predicted), count in pairs.items()
        if (true in known) != (predicted in known)
    ]
    return sorted(found, key=lambda pair: (-pair.images, -pair.percent, pair.true, pair.predicted))


def summary(label: np.ndarray, old: Predictions, new: Predictions, known: set[str]) -> dict:
    """Accuracies, agreement and calibration error, in percent."""
    is_old = np.isin(label, list(known))

    def accuracy(said: Predictions, part: np.ndarray) -> float | None:
        return 100 * float((said.names == label)[part].mean()) if part.any() else None

    def ece(said: Predictions, part: np.ndarray) -> float | None:
        if said.confidence is None:
            return None
        right = (said.names == label)[part]
        return expected_calibration_error(said.confidence[part], right)

    return {
        "old classes, old version": accuracy(old, is_old),
        "old classes, new version": accuracy(new, is_old),
        "new classes, new version": accuracy(new, ~is_old),
        "all classes, new version": accuracy(new, np.full(len(label), True)),
        "agreement on old classes": 100 * float((old.names == new.names)[is_old].mean()),
        "calibration error, old version": ece(old, is_old),
        "calibration error, new version": ece(new, np.full(len(label), True)),
    }


def report(found: list[Change], facts: dict, confused: list[Confusion]) -> Iterator[str]:
    """The lines of the table, the summary, and the worst confusions."""
    width = max(len(change.name) for change in found[:SHOWN])
    yield f"{'class':{width}}  {'images':>6}  {'old %':>6}  {'new %':>6}  {'change':>6}"
    for change in found[:SHOWN]:
        old = "-" if change.old is None else f"{change.old:.1f}"
        points = "new" if change.old is None else f"{change.points:+.1f}"
        yield f"{change.name:{width}}  {change.images:6}  {old:>6}  {change.new:6.1f}  {points:>6}"
    if len(found) > SHOWN:
        yield f"... and {len(found) - SHOWN} more classes, which fell less"
    yield ""
    for name, value in facts.items():
        yield f"{name:32} {'-' if value is None else f'{value:.1f} %'}"
    worst = confused[:SHOWN_CONFUSIONS]
    if worst:
        yield ""
        yield "worst confusions between old and new classes, new version"
        true = max(len("true class"), *(len(pair.true) for pair in worst))
        other = max(len("predicted"), *(len(pair.predicted) for pair in worst))
        yield f"{'true class':{true}}  {'predicted':{other}}  {'images':>6}  {'% of class':>10}"
        for pair in worst:
            yield (
                f"{pair.true:{true}}  {pair.predicted:{other}}"
                f"  {pair.images:6}  {pair.percent:10.1f}"
            )


def test_images(folders: list[Path], header: dict, path: str, classes: list[str]) -> tuple:
    """The packed test images, and their names, of these classes.

    folders: one, or one for each task by name. Test images that were deleted are left out.
    """
    files = [folder / layout.DATASET for folder in folders]
    grown = isinstance(header.get("data_sha256"), list)
    dataset = read_parts(files) if grown else read_dataset(files[0])
    check_same_data(path, header, dataset, folders[0])
    images, names = [], []
    for folder, part in zip(folders, dataset.get("parts", [dataset]), strict=True):
        if not (folder / "test_images.npy").exists():
            continue
        pixels = np.load(folder / "test_images.npy", mmap_mode="r", allow_pickle=False)
        label = np.load(folder / "test_labels.npy", allow_pickle=False)
        of_image = np.array(part["classes"], dtype=object)[label]
        rows = np.flatnonzero(np.isin(of_image, classes))
        images.append(pixels[rows])
        names.append(of_image[rows])
    if not images:
        raise UserError(f"{folders[0]} holds no test images")
    return np.concatenate(images), np.concatenate(names)


def some(names: list[str]) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def refusal(found: list[Change], lost: list[str], limit: float) -> str:
    """Why the new version may not be released, or "".

    lost: the classes of the old version that the new one does not know. limit: the largest fall
    that a class may have, in points.
    """
    old = [change for change in found if change.old is not None]
    fell = [change for change in old if -change.points > limit + ROUNDING]
    why = []
    if lost:
        why.append(f"classes that the new version does not know: {some(lost)}")
    if fell:
        names = some([f"{change.name} ({change.points:+.1f})" for change in fell])
        why.append(f"{len(fell)} of {len(old)} classes fell by more than {limit:g} points: {names}")
    return "; ".join(why)


def draw(found: list[Change], confused: list[Confusion], output: str) -> None:
    """The classes that fell or rose most, before and after. Below, the worst confusions."""
    from wa.analysis.figures.drawing import on_paper, save
    from wa.analysis.figures.look import Look

    with on_paper(Look()):
        save(drawing(found, confused), [output])


def drawing(found: list[Change], confused: list[Confusion]):
    """The figure."""
    from wa.analysis.figures.drawing import Line2D, grid, legend

    known = [change for change in found if change.old is not None]
    half = SHOWN // 2
    shown = known if len(known) <= SHOWN else [*known[:half], *known[-half:]]
    shown += [change for change in found if change.old is None][:half]
    worst = confused[:SHOWN_CONFUSIONS]
    heights = [0.5 + 0.13 * len(rows) for rows in (shown, worst) if rows]
    figure, panels = grid(len(heights), 1, sum(heights) / len(heights), height_ratios=heights)
    draw_changes(panels[0][0], shown)
    if worst:
        draw_confusions(panels[1][0], worst)
    handles = [
        Line2D([], [], color="0.4", marker="o", mfc="w", mew=1, ls="", label="old version"),
        Line2D([], [], color="0.1", marker="o", ls="", label="new version"),
    ]
    legend(figure, handles)
    return figure


def name_rows(panel, names: list[str]) -> None:
    """Put the names on the y axis, the first one at the top."""
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.5, -0.5)


def draw_changes(panel, shown: list[Change]) -> None:
    from wa.analysis.figures.drawing import shortened

    for y, change in enumerate(shown):
        if change.old is not None:
            color = "C3" if change.points < 0 else "C2"
            panel.plot([change.old, change.new], [y, y], color=color)
            panel.plot(change.old, y, "o", color="0.4", mfc="w", mew=1)
        panel.plot(change.new, y, "o", color="0.1")
    panel.set(xlabel="accuracy (%)", xlim=(-2, 102))
    name_rows(panel, [shortened(change.name) for change in shown])


def draw_confusions(panel, worst: list[Confusion]) -> None:
    from wa.analysis.figures.drawing import pair_name

    panel.barh(range(len(worst)), [pair.percent for pair in worst], height=0.6, color="C3")
    panel.set(xlabel="images of the true class (%)")
    name_rows(panel, [pair_name(pair.true, pair.predicted) for pair in worst])


def main(args: argparse.Namespace) -> None:
    from wa.models.classifier import Classifier

    old, new = Classifier(args.old), Classifier(args.new)
    folders = args.data
    if folders is None:
        _, place = layout.find(args.new)
        if place is None:
            raise UserError(f"{args.new} lies in no study. Name the packed data: --data FOLDER")
        folders = layout.data_folders(place.shared, new.header["dataset"], parts_of(new.header))
    known = set(old.classes)
    images, label = test_images(folders, new.header, args.new, [*known.union(new.classes)])
    if not known & set(label):
        if known.isdisjoint(new.classes):
            raise UserError("the two versions have no class in common")
        names = " ".join(map(str, folders))
        raise UserError(f"no test images of the old version's classes are left in {names}")
    said = predict(old, images), predict(new, images)
    found, facts = changes(label, *said, known), summary(label, *said, known)
    confused = confusions(label, said[1], known)
    print(*report(found, facts, confused), sep="\n")
    tested, learned = set(label), set(new.classes)
    untested = [name for name in old.classes if name not in tested]
    lost = [name for name in old.classes if name not in learned]
    if untested:
        print(f"\nclasses of the old version without test images: {', '.join(untested)}")
    if lost:
        print(f"\nclasses that the new version does not know: {', '.join(lost)}")
    if args.json:
        write_json(
            args.json,
            {
                "old": {"path": args.old, "version": old.version},
                "new": {"path": args.new, "version": new.version},
                "summary": facts,
                "classes": [change._asdict() | {"change": change.points} for change in found],
                "untested_classes": untested,
                "lost_classes": lost,
                "confusions": [pair._asdict() for pair in confused],
            },
        )
    if args.figure:
        draw(found, confused, args.figure)
    if args.max_drop is not None and (why := refusal(found, lost, args.max_drop)):
        raise UserError(why)
