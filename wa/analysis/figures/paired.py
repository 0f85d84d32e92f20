"""Figures of paired comparisons: differences to a reference, and ranks over all runs."""

import pandas as pd

from wa.analysis.figures.drawing import Figure, Line2D, Styles, grid, integers, legend, nothing
from wa.analysis.figures.table import COMPARED, FINAL, UNFINISHED, at_the_end, read_own
from wa.analysis.statistics import FEWEST, by_run, differences, ranks
from wa.study.layout import RunTable, protocol_name


def finished(study: RunTable, metrics: str) -> pd.DataFrame:
    """The rows of the metrics in COMPARED of all finished runs."""
    table = at_the_end(read_own(metrics, study))
    return table[table["metric"].isin(COMPARED)]


def paired(study: RunTable, metrics: str, styles: Styles) -> Figure:
    """Each method's mean difference to the reference over the same runs, with its interval."""
    table, reference = finished(study, metrics), study.compared_with
    with_reference = table.loc[table["method"] == reference, "protocol"].unique()
    protocols = [protocol_name(*protocol) for protocol in study.protocols]
    protocols = [name for name in protocols if name in set(with_reference)]
    others = [m for m in study.methods if m != reference and (table["method"] == m).any()]
    if not protocols or not others:
        return nothing(f"no other method has a finished run beside {reference}")
    figure, panels = grid(len(protocols), 2, 0.5 + 0.16 * len(others), sharey=True)
    for row, protocol in zip(panels, protocols, strict=True):
        for panel, metric in zip(row, COMPARED, strict=True):
            rows = table[(table["protocol"] == protocol) & (table["metric"] == metric)]
            for each in differences(by_run(rows, ["order", "seed"]), reference):
                y = others.index(each.method)
                color = styles.colors[each.method]
                panel.plot([each.low, each.high], [y, y], color=color)
                face = color if each.p_holm < 0.05 else "w"
                panel.plot(each.mean, y, "o", color=color, mfc=face, mew=1)
            panel.axvline(0, color="0.4", ls=":", zorder=1)
            panel.set(xlabel=f"{FINAL[metric]} (points)", yticks=range(len(others)))
            panel.set_yticklabels([styles.labels[other] for other in others])
        row[0].set_ylim(len(others) - 0.5, -0.5)
        if len(study.protocols) > 1:
            row[0].set_title(protocol, loc="left")
    gray = {"color": "0.4", "marker": "o", "ls": "", "mew": 1}
    handles = [
        Line2D([], [], **gray, label="p < 0.05"),
        Line2D([], [], **gray, mfc="w", label="not significant, or too few runs"),
    ]
    legend(figure, handles, f"mean difference to {styles.labels[reference]}, 95 % interval")
    return figure


def mean_ranks(study: RunTable, metrics: str, styles: Styles) -> Figure:
    """The mean rank of each method over all runs, with half the critical difference each side."""
    table = finished(study, metrics)
    if table.empty:
        return nothing(UNFINISHED)
    columns = {}
    for metric in COMPARED:
        values = by_run(table[table["metric"] == metric], ["base", "increment", "order", "seed"])
        columns[metric] = values.dropna()
    smallest = min(columns.values(), key=len)
    if smallest.shape[1] < 3 or len(smallest) < FEWEST:
        why = f"ranks need three methods, and {FEWEST} runs that all of them have finished"
        return nothing(why)
    figure, panels = grid(2, 1, 0.6 + 0.16 * smallest.shape[1])
    for [panel], (metric, values) in zip(panels, columns.items(), strict=True):
        found = ranks(values)
        names = sorted(found.mean, key=found.mean.get)
        for y, name in enumerate(names):
            low, high = (found.mean[name] + sign * found.critical / 2 for sign in (-1, 1))
            panel.plot([low, high], [y, y], color=styles.colors[name])
            panel.plot(found.mean[name], y, "o", color=styles.colors[name])
        panel.set(xlabel=f"mean rank, {FINAL[metric]}", yticks=range(len(names)))
        panel.set_yticklabels([styles.labels[name] for name in names])
        panel.set_ylim(len(names) - 0.5, -0.5)
        panel.set_title(f"{found.runs} runs, Friedman p {p_value(found.p)}", loc="left")
        integers(panel.xaxis, 10)
    return figure


def p_value(p: float) -> str:
    """A p-value as text: "= 0.031", or "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"
