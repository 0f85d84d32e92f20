"""The figure `anytime`: what accuracy costs, in epochs of training and in stored megabytes."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from wa.analysis.figures.drawing import Figure, Styles, count_runs, grid, legend, nothing
from wa.analysis.figures.table import RUN, at_the_end, read_costs, read_own
from wa.study.layout import TABLE, RunTable

TASK = [*RUN, "task"]


def anytime(study: RunTable, costs: str, styles: Styles) -> Figure:
    """The accuracy after each task against the epochs so far, and the average against memory.

    costs: cost.csv. metrics.csv is beside it.
    """
    table, own = read_costs(costs, study), read_own(str(Path(costs).with_name(TABLE)), study)
    by_epochs = joined(own[own["metric"] == "accuracy"], epochs_so_far(table))
    if by_epochs.empty:
        return nothing("no task has been evaluated whose epochs are known")
    last = at_the_end(own)
    last = last[last["metric"] == "average_incremental_accuracy"]
    by_memory = joined(last, stored(table))
    protocols = [p for p in own["protocol"].cat.categories if (by_epochs["protocol"] == p).any()]
    finished = [p for p in protocols if (by_memory["protocol"] == p).any()]
    figure, panels = grid(len(protocols), 2 if finished else 1, 1.5, sharey=True)
    figure.get_layout_engine().set(wspace=0.08)  # the labels of neighbours would nearly touch
    for row, protocol in zip(panels, protocols, strict=True):
        rows = by_epochs[by_epochs["protocol"] == protocol]
        styles.line(rows, row[0])
        lines = [protocol] if len(study.protocols) > 1 else []
        row[0].set(xlabel="epochs of training", xlim=room(rows), ylim=(0, 102))
        row[0].set_ylabel("\n".join([*lines, "accuracy (%)"]))
        if protocol in finished:
            rows = by_memory[by_memory["protocol"] == protocol]
            draw_points(study, row[1], rows, styles)
            row[1].set(xlabel="model and exemplars (MB)", xlim=room(rows))
        for empty in row[1:] if protocol not in finished else ():
            empty.remove()
    for panel, title in zip(panels[0], ("after each task", "average over tasks"), strict=False):
        panel.set_title(title)
    counts = count_runs(by_epochs)
    handles = [styles.handle(m, f" ({counts[m]})") for m in study.methods if m in counts]
    legend(figure, handles, styles.line_means(counts))
    return figure


def room(rows: pd.DataFrame) -> tuple[float, float]:
    """Where the x axis begins and ends, so that the last marker is whole."""
    return 0, 1.08 * rows["x"].max() or 1


def epochs_so_far(table: pd.DataFrame) -> pd.DataFrame:
    """The epochs of all trainings of a run up to each task. table: of cost.csv."""
    rows = table[table["metric"] == "epochs"].sort_values("task")
    return rows.assign(x=rows.groupby(RUN, observed=True)["value"].cumsum())


def stored(table: pd.DataFrame) -> pd.DataFrame:
    """The megabytes of the model and the exemplars after each task. table: of cost.csv."""
    rows = table[table["metric"].isin(["model_mb", "memory_mb"])]
    both = rows.groupby(TASK, observed=True)["value"].agg(["sum", "count"]).reset_index()
    return both[both["count"] == 2].rename(columns={"sum": "x"})


def joined(accuracies: pd.DataFrame, x: pd.DataFrame) -> pd.DataFrame:
    """Accuracies as y, each with the x of its run and task."""
    found = accuracies.rename(columns={"value": "y"}).merge(x[[*TASK, "x"]], on=TASK)
    return found.astype({"method": accuracies["method"].dtype})


def draw_points(study: RunTable, panel: Axes, rows: pd.DataFrame, styles: Styles) -> None:
    """Draw a point for each method, the mean of its runs. A line joins the methods of a sweep."""
    means = rows.groupby("method", observed=True)[["x", "y"]].mean()
    for names in study.sweeps.values():
        of_sweep = means[means.index.isin(names)].sort_values("x")
        panel.plot(of_sweep["x"], of_sweep["y"], color="0.6", lw=0.8, zorder=1)
    for method, (x, y) in means.iterrows():
        panel.plot(x, y, **styles.of(method) | {"ls": ""})
