"""Figures of the predictions after the last task of one protocol, from predictions.npz."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from matplotlib.colors import PowerNorm

from wa.analysis.figures.drawing import (
    Styles,
    colorbar,
    flow,
    grid,
    integers,
    legend,
    nothing,
    save,
    wrapped,
)
from wa.analysis.figures.table import CLASSIFIERS, UNFINISHED
from wa.analysis.metrics import calibration as reliability
from wa.analysis.metrics import expected_calibration_error
from wa.files import read_arrays
from wa.study.layout import RunTable


class Predictions(NamedTuple):
    """What one classifier predicts for the n test images, after the last task of one run."""

    method: str
    classifier: str
    label: np.ndarray  # integers (n,)
    predicted: np.ndarray  # integers (n,)
    confidence: np.ndarray  # float32 (n,), 0 to 1


def finished(study: RunTable) -> Iterator[Predictions]:
    """The predictions of each finished run, as trained and, if the method aligns, as aligned."""
    for run in study.runs():
        file = run.path / f"task-{len(run.sizes) - 1}" / "predictions.npz"
        if not file.exists():
            continue
        arrays = read_arrays(file)
        for name in CLASSIFIERS:
            if name in arrays:
                predicted, confidence = arrays[name], arrays[f"{name}_confidence"]
                yield Predictions(run.method, name, arrays["label"], predicted, confidence)


def confusion(study: RunTable, metrics: None, outputs: list[str]) -> None:
    """Which class is predicted as which, in class order, as trained and as aligned."""
    n = study.n_classes
    counts: dict[tuple[str, str], np.ndarray] = {}
    for p in finished(study):
        pairs = np.bincount(p.label * n + p.predicted, minlength=n * n).reshape(n, n)
        counts[p.method, p.classifier] = counts.get((p.method, p.classifier), 0) + pairs
    if not counts:
        return nothing(UNFINISHED, outputs)
    figure, panels = flow(len(counts), 1.8, "predicted class", "true class")
    for panel, ((method, classifier), pairs) in zip(panels, counts.items(), strict=True):
        percent = 100 * pairs / np.maximum(pairs.sum(axis=1, keepdims=True), 1)
        image = panel.imshow(percent, cmap="viridis", norm=PowerNorm(0.5, 0, 100))
        panel.set_title(f"{wrapped(method)}\n{CLASSIFIERS[classifier]}")
        panel.grid(False)
        integers(panel.xaxis), integers(panel.yaxis)
    colorbar(figure, image, panels, "images of the true class (%)")
    save(figure, outputs)


def calibration(study: RunTable, metrics: None, outputs: list[str]) -> None:
    """Reliability diagrams and expected calibration errors, as trained and as aligned."""
    bins: dict[tuple[str, str], list] = {}
    errors: dict[tuple[str, str], list] = {}
    for p in finished(study):
        right, key = p.predicted == p.label, (p.method, p.classifier)
        bins.setdefault(key, []).append(reliability(p.confidence, right))
        errors.setdefault(key, []).append(expected_calibration_error(p.confidence, right))
    if not bins:
        return nothing(UNFINISHED, outputs)
    styles = Styles(study)
    drawn = {classifier for _, classifier in bins}
    classifiers = [name for name in CLASSIFIERS if name in drawn]
    figure, panels = grid(1, len(classifiers), 1.7, sharey=True)
    for panel, classifier in zip(panels[0], classifiers, strict=True):
        panel.plot([0, 100], [0, 100], color="0.4", ls=":")
        for (method, which), parts in bins.items():
            if which != classifier:
                continue
            count, confident, hits = np.sum(parts, axis=0)
            some = count > 0
            x = 100 * confident[some] / count[some]
            y = 100 * hits[some] / count[some]
            panel.plot(x, y, **styles.of(method))
        panel.set(
            xlabel="confidence (%)",
            title=CLASSIFIERS[classifier],
            xlim=(0, 102),
            ylim=(-2, 102),
            aspect="equal",
        )
    panels[0][0].set_ylabel("accuracy (%)")
    handles = []
    for method in study.methods:
        ece = [f"{np.mean(errors[method, c]):.1f}" for c in classifiers if (method, c) in errors]
        if ece:
            handles.append(styles.handle(method, f"{method}: {' → '.join(ece)}"))
    names = " → ".join(CLASSIFIERS[c] for c in classifiers)
    legend(figure, handles, f"expected calibration error (%), {names}")
    save(figure, outputs)
