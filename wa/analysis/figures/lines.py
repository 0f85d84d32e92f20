"""Figures of what changes from task to task.

Each protocol has a row of panels. Each method has a line, the mean of its runs. With few methods,
each has a band, the standard deviation.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator

from wa.analysis.figures.drawing import (
    Figure,
    Line2D,
    Styles,
    count_runs,
    from_zero,
    grid,
    legend,
    nothing,
)
from wa.analysis.figures.table import CLASSIFIERS, RUN, measured, read, read_own
from wa.study.layout import RunTable

# The line of a reference. Its marks show it where there is only one task.
REFERENCE = {"color": "0.4", "ls": ":", "marker": "_"}


def draw(
    study: RunTable, columns: dict[str, pd.DataFrame], styles: Styles, **axes: object
) -> Figure:
    """Draw a row of panels for each protocol.

    columns: a panel's title -> its frame, with the columns protocol, method, order, seed, x and y.
    A column `reference` is drawn as one dotted line for all methods.
    axes: xlabel, ylabel, ylim, `from_zero` (the y axis begins at 0), and `levels`, the height of a
    dotted line by the panel's title.
    """
    everything = pd.concat(columns.values())
    have = set(everything["protocol"])
    protocols = [name for name in everything["protocol"].cat.categories if name in have]
    height = 1.9 if len(columns) == 1 else 1.5
    page = len(columns) > 2
    sharey = bool(axes.get("ylabel"))
    figure, panels = grid(len(protocols), len(columns), height, page, sharey=sharey)
    for row, protocol in zip(panels, protocols, strict=True):
        for panel, (title, frame) in zip(row, columns.items(), strict=True):
            frame = frame[frame["protocol"] == protocol]
            if title in axes.get("levels", {}):
                panel.axhline(axes["levels"][title], color="0.4", ls=":", zorder=1)
            draw_panel(panel, frame, styles, axes)
            ends = FixedLocator(sorted(frame["x"].unique()), nbins=12 // len(columns))
            panel.xaxis.set_major_locator(ends)
        labels = [protocol] if len(study.protocols) > 1 else []
        row[0].set_ylabel("\n".join([*labels, axes.get("ylabel", "")]).strip())
    for panel, title in zip(panels[0], columns, strict=True):
        panel.set_title(title)
    counts = count_runs(everything)
    handles = [styles.handle(m, f" ({counts[m]})") for m in study.methods if m in counts]
    if "reference" in everything:
        handles.append(Line2D([], [], label="how often they occur", **REFERENCE))
    legend(figure, handles, styles.line_means(counts))
    return figure


def draw_panel(panel: Axes, frame: pd.DataFrame, styles: Styles, axes: dict) -> None:
    """Draw the lines of one panel. axes: as for draw."""
    if "reference" in frame:
        panel.plot(frame.groupby("x")["reference"].mean(), zorder=1, **REFERENCE)
    styles.line(frame, panel)
    panel.set(xlabel=axes.get("xlabel", "classes seen"), ylabel="")
    if "ylim" in axes:
        panel.set_ylim(*axes["ylim"])
    if axes.get("from_zero"):
        from_zero(panel)


def accuracy(study: RunTable, metrics: str, styles: Styles) -> Figure:
    """The accuracy on all classes seen."""
    table = read_own(metrics, study)
    return draw(
        study, {"": measured(table, "accuracy")}, styles, ylabel="accuracy (%)", ylim=(0, 102)
    )


def task_aware(study: RunTable, metrics: str, styles: Styles) -> Figure:
    """The accuracy on all classes seen, as ever, and if the task of each image is told."""
    table = read_own(metrics, study)
    columns = {
        "task not told": measured(table, "accuracy"),
        "task told": measured(table, "task_aware_accuracy"),
    }
    if columns["task told"].empty:
        return nothing("the tasks were evaluated by an earlier version. Run the study")
    return draw(study, columns, styles, ylabel="accuracy (%)", ylim=(0, 102))


def forgetting(study: RunTable, metrics: str, styles: Styles) -> Figure:
    """The forgetting of the earlier tasks."""
    frame = measured(read_own(metrics, study), "forgetting")
    if frame.empty:
        return nothing("nothing can be forgotten before the second task")
    return draw(study, {"": frame}, styles, ylabel="forgetting (points)")


def old_new(study: RunTable, metrics: str, styles: Styles) -> Figure:
    """The accuracy on the classes of earlier tasks, and on those of the newest task."""
    table = read_own(metrics, study)
    table = table[table["task"] > 0]
    if table.empty:
        return nothing("there are no old classes before the second task")
    columns = {f"{which} classes": measured(table, f"accuracy_{which}") for which in ("old", "new")}
    return draw(study, columns, styles, ylabel="accuracy (%)", ylim=(0, 102))


def new_share(study: RunTable, metrics: str, styles: Styles) -> Figure:
    """How often the newest task's classes are predicted, as trained and as aligned."""
    table = read(metrics, study)
    table = table[table["task"] > 0]
    columns = {}
    for classifier, title in CLASSIFIERS.items():
        rows = table[table["classifier"] == classifier]
        occurring = measured(rows, "occurring_new").rename(columns={"y": "reference"})
        occurring = occurring[[*RUN, "task", "reference"]]
        frame = measured(rows, "predicted_new").merge(occurring, on=[*RUN, "task"])
        if len(frame):
            columns[title] = frame
    if not columns:
        return nothing("there are no new classes before the second task")
    return draw(study, columns, styles, ylabel="predicted as new (%)", ylim=(0, 102))


def gamma(study: RunTable, metrics: str, styles: Styles) -> Figure:
    """Gamma of weight aligning, and what the accuracy gains by aligning, in points."""
    table = read(metrics, study)
    frame = measured(table, "gamma")
    if frame.empty:
        return nothing("there is nothing to align before the second task")
    columns, levels = {"gamma": frame}, {"gamma": 1}
    accuracies = measured(table, "accuracy")
    by_classifier = [accuracies[accuracies["classifier"] == name] for name in CLASSIFIERS]
    gain = by_classifier[1].merge(by_classifier[0][[*RUN, "task", "y"]], on=[*RUN, "task"])
    if len(gain):
        title = "gained by aligning (points)"
        columns[title], levels[title] = gain.assign(y=gain["y_x"] - gain["y_y"]), 0
    return draw(study, columns, styles, levels=levels)
