"""Figures of what training did and cost, from the files that each training leaves."""

import pandas as pd

from wa.analysis.figures.drawing import Styles, count_runs, grid, integers, legend, nothing, save
from wa.analysis.figures.lines import draw
from wa.analysis.figures.table import protocol_name
from wa.study.layout import BENCHMARK, HISTORY, RunTable


def curves(study: RunTable, metrics: None, outputs: list[str]) -> None:
    """The loss and accuracy on the training images, epoch by epoch, the mean of the runs."""
    parts = []
    for run in study.runs():
        for task, file in enumerate(run.learned_files(HISTORY)):
            history = pd.read_csv(file, usecols=["epoch", "loss", "train_accuracy"])
            parts.append(
                history.assign(
                    x=task + history["epoch"] / len(history),
                    order=run.order,
                    seed=run.seed,
                    method=run.method,
                )
            )
    if not parts:
        return nothing("no task of this protocol has been trained", outputs)
    table = pd.concat(parts).assign(protocol=protocol_name(*study.protocols[0]))
    styles, counts = Styles(study), count_runs(table)
    figure, panels = grid(2, 1, 1.4, sharex=True)
    for panel, (column, label) in zip(
        panels[:, 0],
        {"loss": "loss", "train_accuracy": "training accuracy (%)"}.items(),
        strict=True,
    ):
        styles.line(
            table.rename(columns={column: "y"}), panel, markers=False, errorbar=None, lw=0.7
        )
        panel.set(xlabel="task", ylabel=label, xlim=(0, None))
        integers(panel.xaxis)
    panels[0, 0].set_ylim(bottom=0)
    legend(
        figure,
        [
            styles.handle(m, f"{m} ({counts[m]})", marker=False)
            for m in study.methods
            if m in counts
        ],
        "method (runs)",
    )
    save(figure, outputs)


def cost(study: RunTable, metrics: None, outputs: list[str]) -> None:
    """The time and peak memory of each training, as Snakemake measured them."""
    rows = []
    for run in study.runs():
        protocol = protocol_name(run.base, run.increment)
        for task, file in enumerate(run.learned_files(BENCHMARK)):
            row = pd.read_csv(file, sep="\t").iloc[0]
            rows.append(
                (
                    protocol,
                    run.order,
                    run.seed,
                    run.method,
                    task,
                    row["s"] / 60,
                    row["max_rss"] / 1024,
                )
            )
    if not rows:
        return nothing("no training was measured", outputs)
    table = pd.DataFrame(
        rows, columns=["protocol", "order", "seed", "method", "x", "minutes", "gigabytes"]
    )
    table["protocol"] = pd.Categorical(
        table["protocol"], [protocol_name(*p) for p in study.protocols], ordered=True
    )
    columns = {
        "time (minutes)": table.rename(columns={"minutes": "y"}),
        "peak memory (GiB)": table.rename(columns={"gigabytes": "y"}),
    }
    draw(study, columns, outputs, xlabel="task", ylim=(0, None))
