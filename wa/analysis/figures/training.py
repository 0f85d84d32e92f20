"""Figures of what training did and cost, from the files that each training leaves."""

import pandas as pd
from matplotlib.axes import Axes

from wa.analysis.figures.drawing import (
    Figure,
    Styles,
    count_runs,
    from_zero,
    grid,
    integers,
    legend,
    nothing,
)
from wa.analysis.figures.lines import draw
from wa.analysis.figures.table import RUN, read_costs
from wa.study.layout import HISTORY, RunTable, protocol_name

# Columns of wa.training.history -> their label.
CURVES = {
    "loss": "loss",
    "train_accuracy": "training accuracy (%)",
    "test_accuracy": "test accuracy (%)",
}


def curves(study: RunTable, metrics: None, styles: Styles) -> Figure:
    """The loss and the accuracies, epoch by epoch, the mean of the runs."""
    parts = []
    for run in study.runs():
        key = {"order": run.order, "seed": run.seed, "method": run.method}
        for task, file in enumerate(run.learned_files(HISTORY)):
            history = pd.read_csv(file, usecols=lambda name: name in ("epoch", *CURVES))
            parts.append(history.assign(x=task + history["epoch"] / len(history), **key))
    if not parts:
        return nothing("no task of this protocol has been trained")
    table = pd.concat(parts).assign(protocol=protocol_name(*study.protocols[0]))
    counts = count_runs(table)
    measured = [name for name in CURVES if name in table and table[name].notna().any()]
    names = [method for method in study.methods if method in counts]
    figure, panels = grid(len(measured), 1, 1.3, sharex=True)
    for panel, column in zip(panels[:, 0], measured, strict=True):
        for method in names:
            mean = table[table["method"] == method].groupby("x")[column].mean().dropna()
            draw_curve(panel, mean, column, styles.of(method, marker=False))
        panel.set(ylabel=CURVES[column], xlim=(0, None))
        integers(panel.xaxis)
    panels[-1, 0].set_xlabel("task")
    from_zero(panels[0, 0])
    handles = [styles.handle(name, f" ({counts[name]})", marker=False) for name in names]
    legend(figure, handles, "method (runs)")
    return figure


def draw_curve(panel: Axes, mean: pd.Series, column: str, style: dict) -> None:
    """Draw a curve. mean: the values, by the task and the share of its epochs that is done.

    The loss and the training accuracy are means over an epoch. So each is a step as wide as the
    epoch, and the first step begins at 0. The test accuracy is measured when an epoch ends.
    """
    if column == "test_accuracy":
        panel.plot(mean, lw=0.8, **style | {"marker": ".", "mfc": style["color"]})
    elif len(mean):
        x, y = [0, *mean.index], [mean.iloc[0], *mean]
        panel.plot(x, y, drawstyle="steps-pre", lw=0.8, **style)


# Metrics of wa.analysis.cost -> the title of their panel. What was not measured has none.
COSTS = {
    "seconds": "time (s)",
    "host_gib": "host memory (GiB)",
    "gpu_gib": "GPU memory (GiB)",
    "kilojoules": "energy (kJ)",
    "stored_mb": "model and exemplars (MB)",
}


def cost(study: RunTable, costs: str, styles: Styles) -> Figure:
    """What each training takes, and what is stored after it. costs: cost.csv."""
    table = read_costs(costs, study)
    stored = table[table["metric"].isin(["model_mb", "memory_mb"])]
    keys = [*RUN, "protocol", "task"]
    stored = stored.groupby(keys, observed=True)["value"].sum().reset_index()
    table = pd.concat([table, stored.assign(metric="stored_mb")])
    columns = {}
    for metric, title in COSTS.items():
        rows = table[table["metric"] == metric]
        if len(rows):
            columns[title] = rows.rename(columns={"task": "x", "value": "y"})
    if not columns:
        return nothing("no training was measured")
    return draw(study, columns, styles, xlabel="task", from_zero=True)
