"""The final comparison of the methods."""

import numpy as np
import pandas as pd

from wa.analysis.figures.drawing import (
    Figure,
    Line2D,
    Styles,
    grid,
    legend,
    nothing,
    seaborn,
    wrapped,
)
from wa.analysis.figures.table import COMPARED, FINAL, UNFINISHED, at_the_end, read_own
from wa.analysis.statistics import interval
from wa.study.layout import RunTable


def error_bar(values: pd.Series) -> tuple[float, float]:
    """The interval of the mean that is drawn. That of two runs would span the figure."""
    return interval(values) if len(values) > 2 else (np.nan, np.nan)


def comparison(study: RunTable, metrics: str, styles: Styles) -> Figure:
    """Each method's average incremental and last accuracy: the runs, their mean, its interval."""
    table = at_the_end(read_own(metrics, study))
    table = table[table["metric"].isin(COMPARED)]
    protocols = [p for p in table["protocol"].cat.categories if (table["protocol"] == p).any()]
    if not protocols:
        return nothing(UNFINISHED)
    methods = [m for m in study.methods if (table["method"] == m).any()]
    names = [wrapped(styles.labels[method], 16) for method in methods]
    height = 0.45 + 0.13 * sum(1 + name.count("\n") for name in names) + 0.04 * len(names)
    figure, panels = grid(len(protocols), 2, height, sharex="col", sharey=True)
    for row, protocol in zip(panels, protocols, strict=True):
        for panel, metric in zip(row, COMPARED, strict=True):
            frame = table[(table["protocol"] == protocol) & (table["metric"] == metric)]
            options = {
                "x": "value",
                "y": "method",
                "hue": "method",
                "order": methods,
                "hue_order": methods,
                "ax": panel,
            }
            options |= {"palette": styles.colors, "legend": False}
            seaborn.stripplot(frame, **options, jitter=False, size=3, alpha=0.5)
            seaborn.pointplot(
                frame,
                **options,
                errorbar=error_bar,
                marker="|",
                markersize=9,
                linestyle="none",
                err_kws={"lw": 1.2},
            )
            panel.set(xlabel=f"{FINAL[metric]} (%)", ylabel="")
            panel.set_yticks(range(len(names)), names)
            panel.margins(x=0.08)
        if len(study.protocols) > 1:
            row[0].set_title(protocol, loc="left")
    several = table.groupby(["protocol", "method", "metric"], observed=True).size().max() > 2
    gray = {"color": "0.4", "ls": ""}
    handles = [
        Line2D([], [], marker="o", ms=3, label="run", **gray),
        Line2D([], [], marker="|", ms=7, mew=1, label="mean", **gray),
    ]
    legend(figure, handles + [Line2D([], [], color="0.4", label="95 % interval")] * bool(several))
    return figure
