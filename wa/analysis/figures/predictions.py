"""Figures of the predictions after the last task of one protocol, from predictions.npz."""

from collections.abc import Iterator

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
from wa.study.layout import Run, RunTable


def finished(study: RunTable) -> Iterator[tuple[Run, dict[str, np.ndarray]]]:
    """The finished runs, and their predictions after the last task."""
    for run in study.runs():
        file = run.path / f"task-{len(run.sizes) - 1}" / "predictions.npz"
        if file.exists():
            yield run, read_arrays(file)


def confusion(study: RunTable, metrics: None, outputs: list[str]) -> None:
    """Which class is predicted as which, in class order, as trained and as aligned."""
    counts: dict[tuple[str, str], np.ndarray] = {}
    n = study.n_classes
    for run, arrays in finished(study):
        for classifier in CLASSIFIERS:
            if classifier in arrays:
                pairs = np.bincount(
                    arrays["label"] * n + arrays[classifier], minlength=n * n
                ).reshape(n, n)
                counts[run.method, classifier] = counts.get((run.method, classifier), 0) + pairs
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
    for run, arrays in finished(study):
        for classifier in CLASSIFIERS:
            if classifier in arrays:
                confidence, right = (
                    arrays[f"{classifier}_confidence"],
                    arrays[classifier] == arrays["label"],
                )
                bins.setdefault((run.method, classifier), []).append(reliability(confidence, right))
                errors.setdefault((run.method, classifier), []).append(
                    expected_calibration_error(confidence, right)
                )
    if not bins:
        return nothing(UNFINISHED, outputs)
    styles, classifiers = (
        Styles(study),
        [c for c in CLASSIFIERS if any(which == c for _, which in bins)],
    )
    figure, panels = grid(1, len(classifiers), 1.7, sharey=True)
    for panel, classifier in zip(panels[0], classifiers, strict=True):
        panel.plot([0, 100], [0, 100], color="0.4", ls=":")
        for (method, which), parts in bins.items():
            if which == classifier:
                count, confident, hits = np.sum(parts, axis=0)
                some = count > 0
                panel.plot(
                    100 * confident[some] / count[some],
                    100 * hits[some] / count[some],
                    **styles.of(method),
                )
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
    legend(
        figure,
        handles,
        f"expected calibration error (%), {' → '.join(CLASSIFIERS[c] for c in classifiers)}",
    )
    save(figure, outputs)
