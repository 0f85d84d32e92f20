"""Figures of one protocol from metrics.csv or classes.csv, with a panel for each method."""

import numpy as np

from wa.analysis.class_order import names_to_show, read_class_order
from wa.analysis.figures.drawing import (
    LINE,
    Figure,
    Line2D,
    Styles,
    colorbar,
    flow,
    from_zero,
    integers,
    legend,
    name_rows,
    nothing,
    wrapped,
)
from wa.analysis.figures.table import CLASSIFIERS, UNFINISHED, at_the_end, read, read_own
from wa.study.layout import RunTable


def matrix(study: RunTable, metrics: str, styles: Styles) -> Figure:
    """The accuracy on each task's classes after each task."""
    table = read_own(metrics, study)
    table = table[table["metric"].str.fullmatch(r"accuracy_task_\d+")]
    table = table.assign(of=table["metric"].str.rsplit("_", n=1).str[1].astype(int))
    if table.empty:
        return nothing("no task of this protocol has been evaluated")
    methods = [m for m in study.methods if (table["method"] == m).any()]
    tasks = table["task"].max() + 1
    figure, panels, spare = flow(len(methods), 1.65, "classes of task", "after task")
    for panel, method in zip(panels, methods, strict=True):
        rows = table[table["method"] == method]
        mean = rows.pivot_table(index="task", columns="of", values="value").reindex(
            index=range(tasks), columns=range(tasks)
        )
        image = panel.imshow(mean, vmin=0, vmax=100, cmap="viridis")
        if tasks <= 5:  # else the numbers do not fit
            for (after, of), value in np.ndenumerate(mean):
                if not np.isnan(value):
                    panel.text(
                        of,
                        after,
                        f"{value:.0f}",
                        ha="center",
                        va="center",
                        color="w" if value < 60 else "k",
                    )
        panel.set_title(wrapped(styles.labels[method]))
        panel.grid(False)
        integers(panel.xaxis), integers(panel.yaxis)
    colorbar(figure, image, panels, "accuracy (%)", spare)
    return figure


TALLEST = 8.5  # inches: all rows of panels together, so that a page holds them


def classes(study: RunTable, table: str, styles: Styles) -> Figure:
    """The accuracy on each class after each task. table: classes.csv."""
    rows = read(table, study, ("classifier", "own", "class", "images", "accuracy"))
    rows = rows[rows["own"]]
    if rows.empty:
        return nothing("no task of this protocol has been evaluated")
    methods = [m for m in study.methods if (rows["method"] == m).any()]
    orders = rows["order"].unique()
    names = names_to_show([read_class_order(study, order) for order in orders])
    lines = -(-len(methods) // 4)  # of panels, if they need the width of the page
    height = min(max(1.65, 0.9 + len(names) * LINE / 72), TALLEST / lines)
    wide = len(names) > 10  # so many names need large panels
    figure, panels, spare = flow(len(methods), height, "after task", "class", wide)
    for panel, method in zip(panels, methods, strict=True):
        of_method = rows[rows["method"] == method].astype({"class": str})
        mean = of_method.pivot_table(index="class", columns="task", values="accuracy")
        mean = mean.reindex(index=names, columns=range(rows["task"].max() + 1))
        image = panel.imshow(mean, vmin=0, vmax=100, cmap="viridis", aspect="auto")
        panel.set_title(wrapped(styles.labels[method]))
        panel.grid(False)
        integers(panel.xaxis)
    name_rows(panels[0], names)
    colorbar(figure, image, panels, "accuracy (%)", spare)
    name_rows(panels[0], names)  # again, for a bar below takes room from the panels
    return figure


def norms(study: RunTable, metrics: str, styles: Styles) -> Figure:
    """The norms of the classifier's rows after the last task, as trained and as aligned."""
    table = at_the_end(read(metrics, study, norms=True))
    table = table[table["metric"].str.fullmatch(r"row_norm_\d+")]
    if table.empty:
        return nothing(UNFINISHED)
    table = table.assign(position=table["metric"].str.rsplit("_", n=1).str[1].astype(int))
    methods = [m for m in study.methods if (table["method"] == m).any()]
    figure, panels, spare = flow(len(methods), 1.2, "class, in order", "norm of its row")
    first_new = sum(study.sizes(study.protocols[0])[:-1])
    dashes = {"trained": (0, (1.5, 1)), "aligned": "-"}
    dashes = {c: dash for c, dash in dashes.items() if (table["classifier"] == c).any()}
    handles = [
        Line2D([], [], color="0.2", ls=dash, label=CLASSIFIERS[c]) for c, dash in dashes.items()
    ]
    if first_new:
        handles.append(Line2D([], [], color="0.4", ls=":", label="first new class"))
    for panel, method in zip(panels, methods, strict=True):
        rows, color = table[table["method"] == method], styles.colors[method]
        for classifier, dash in dashes.items():
            norm = (
                rows[rows["classifier"] == classifier]
                .groupby("position")["value"]
                .agg(["mean", "std"])
                .fillna(0)
            )
            panel.plot(norm["mean"], ls=dash, color=color)
            panel.fill_between(
                norm.index,
                norm["mean"] - norm["std"],
                norm["mean"] + norm["std"],
                color=color,
                alpha=0.18,
                lw=0,
            )
        if first_new:
            panel.axvline(first_new - 0.5, color="0.4", ls=":")
        panel.set_title(wrapped(styles.labels[method]))
        integers(panel.xaxis, 5)
    from_zero(panels[0])  # and so all panels, now that all curves are drawn
    legend(figure, handles, spare=spare)
    return figure
