"""Figures of the predictions after the last task of one protocol, from predictions.npz.

Each method is shown with its own classifier.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from matplotlib.colors import PowerNorm

from wa.analysis.class_order import names_to_show, read_class_order
from wa.analysis.figures.drawing import (
    Figure,
    Styles,
    colorbar,
    flow,
    grid,
    legend,
    name_rows,
    nothing,
    pair_name,
    wrapped,
)
from wa.analysis.figures.table import UNFINISHED
from wa.analysis.metrics import calibration as reliability
from wa.analysis.metrics import expected_calibration_error, own_classifier
from wa.files import read_arrays
from wa.study.layout import PREDICTIONS, RunTable

NAMED = ["aligned", "trained", "nme", "fitted"]  # the classifiers that predictions.npz may hold
PAIRS = 10  # of classes that are confused most
LEAST = 0.01  # the share of images that a bin of the calibration needs to be drawn


class Predictions(NamedTuple):
    """What a method predicts for the n test images, after the last task of one run."""

    method: str
    order: str
    label: np.ndarray  # integers (n,), positions in the class order
    predicted: np.ndarray  # integers (n,), likewise
    confidence: np.ndarray | None  # float32 (n,), 0 to 1. None: the classifier has none.


def finished(study: RunTable) -> Iterator[Predictions]:
    """The predictions of each finished run, by the method's own classifier."""
    for run in study.runs():
        file = run.task(len(run.sizes) - 1) / PREDICTIONS
        if not file.exists():
            continue
        arrays = read_arrays(file)
        own = own_classifier([name for name in NAMED if name in arrays], run.own)
        confidence = arrays.get(f"{own}_confidence")
        yield Predictions(run.method, run.order, arrays["label"], arrays[own], confidence)


def shown_classes(
    study: RunTable, everything: list[Predictions]
) -> tuple[list[str], dict[str, np.ndarray]]:
    """The class names in the order in which figures show them, see names_to_show.

    Also, for each class order, the place there of the class at each position: integers (classes,).
    """
    orders = {p.order: read_class_order(study, p.order) for p in everything}
    several = len(orders) > 1
    place = {
        name: order.classes if several else np.arange(study.n_classes)
        for name, order in orders.items()
    }
    return names_to_show(list(orders.values())), place


def count_pairs(p: Predictions, place: np.ndarray) -> np.ndarray:
    """The images of each true class (row) that are predicted as each class (column).

    place: of the class at each position, integers (classes,). Returns integers (classes, classes).
    """
    n = len(place)
    pairs = place[p.label] * n + place[p.predicted]
    return np.bincount(pairs, minlength=n * n).reshape(n, n)


def confusion(study: RunTable, metrics: None, styles: Styles) -> Figure:
    """Which class is predicted as which.

    With one class order, the classes stand in the order of learning. With several, a position is
    another class in each order. So classes then stand as in the data set, and runs are added up
    class by class.
    """
    everything = list(finished(study))
    if not everything:
        return nothing(UNFINISHED)
    n = study.n_classes
    names, place = shown_classes(study, everything)
    counts: dict[str, np.ndarray] = {}
    for p in everything:
        counts[p.method] = counts.get(p.method, 0) + count_pairs(p, place[p.order])
    wide = n > 10  # so many names need large panels
    height = 2.4 if wide and len(counts) < 4 else 1.9
    figure, panels, spare = flow(len(counts), height, "predicted class", "true class", wide)
    for panel, (method, pairs) in zip(panels, counts.items(), strict=True):
        percent = 100 * pairs / np.maximum(pairs.sum(axis=1, keepdims=True), 1)
        image = panel.imshow(percent, cmap="viridis", norm=PowerNorm(0.5, 0, 100))
        panel.set_title(wrapped(styles.labels[method]))
        panel.grid(False)
        panel.set_xticks([])
    name_rows(panels[0], names)
    colorbar(figure, image, panels, "images of the true class (%)", spare)
    name_rows(panels[0], names)  # again, for a bar below takes room from the panels
    return figure


def confused_shares(study: RunTable, place: dict[str, np.ndarray], everything: list) -> dict:
    """method -> the share of each true class (row) that is taken for each class (column), percent.

    Pairs of two old classes, or of two new ones, are 0. Each run is counted by its own new classes.
    """
    n, new_classes = study.n_classes, study.sizes(study.protocols[0])[-1]
    hits: dict[str, np.ndarray] = {}
    images: dict[str, np.ndarray] = {}
    for p in everything:
        is_new = np.zeros(n, bool)
        is_new[place[p.order][n - new_classes :]] = True
        mixed = is_new[:, None] != is_new[None, :]
        pairs = count_pairs(p, place[p.order])
        hits[p.method] = hits.get(p.method, 0) + pairs * mixed
        images[p.method] = images.get(p.method, 0) + pairs.sum(axis=1, keepdims=True) * mixed
    return {method: 100 * hits[method] / np.maximum(images[method], 1) for method in hits}


def worst_pairs(study: RunTable, metrics: None, styles: Styles) -> Figure:
    """The pairs of an old and a new class that are confused most, on average over the methods."""
    if len(study.sizes(study.protocols[0])) == 1:
        return nothing("there is one task, so there are no old classes")
    everything = list(finished(study))
    if not everything:
        return nothing(UNFINISHED)
    names, place = shown_classes(study, everything)
    shares = confused_shares(study, place, everything)
    mean = np.mean(list(shares.values()), axis=0)
    worst = [
        pair for pair in np.argsort(-mean, axis=None, kind="stable")[:PAIRS] if mean.flat[pair]
    ]
    if not worst:
        return nothing("no old class is taken for a new one, nor a new one for an old one")
    figure, [[panel]] = grid(1, 1, 0.5 + 0.15 * len(worst))
    for method, share in shares.items():
        panel.plot(share.flat[worst], range(len(worst)), **styles.of(method) | {"ls": ""})
    pairs = [divmod(int(pair), len(names)) for pair in worst]
    labels = [pair_name(names[a], names[b]) for a, b in pairs]
    panel.set_yticks(range(len(worst)), labels)
    panel.set_ylim(len(worst) - 0.5, -0.5)
    panel.set(xlabel="images of the true class (%)", xlim=(-2, 102))
    legend(figure, [styles.handle(m) for m in study.methods if m in shares])
    return figure


def calibration(study: RunTable, metrics: None, styles: Styles) -> Figure:
    """Reliability diagrams and expected calibration errors, and how many images each bin has."""
    bins: dict[str, list] = {}
    errors: dict[str, list] = {}
    without = {}
    for p in finished(study):
        if p.confidence is None:
            without[p.method] = "no probabilities"
            continue
        right = p.predicted == p.label
        bins.setdefault(p.method, []).append(reliability(p.confidence, right))
        errors.setdefault(p.method, []).append(expected_calibration_error(p.confidence, right))
    if not bins:
        why = "the methods have no probabilities" if without else UNFINISHED
        return nothing(why)
    figure, panels = grid(2, 1, 1.6, sharex=True, height_ratios=[2.2, 1])
    above, below = panels[:, 0]
    above.plot([0, 100], [0, 100], color="0.4", ls=":")
    for method, parts in bins.items():
        count, confident, hits = np.sum(parts, axis=0)
        share = count / count.sum()
        enough = share >= LEAST
        x = 100 * confident[enough] / count[enough]
        above.plot(x, 100 * hits[enough] / count[enough], **styles.of(method))
        edges = np.linspace(0, 100, len(count) + 1)
        steps = np.append(100 * share, 100 * share[-1])
        below.plot(edges, steps, drawstyle="steps-post", color=styles.colors[method], lw=0.9)
    above.set(ylabel="accuracy (%)", xlim=(0, 102), ylim=(-2, 102))
    below.set(xlabel="confidence (%)", ylabel="images (%)")
    texts = {method: f"{np.mean(values):.1f}" for method, values in errors.items()} | without
    shown = [method for method in study.methods if method in texts]
    handles = [styles.handle(method, f": {texts[method]}") for method in shown]
    legend(figure, handles, "expected calibration error (%)")
    return figure
