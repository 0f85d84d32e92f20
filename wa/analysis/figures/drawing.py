"""What all figures share: their width, their colours, and how they are written.

A figure is as wide as a column of a paper and has text of 7 points. So a paper shows it unscaled.
"""

import itertools
import math
import textwrap
from pathlib import Path

import matplotlib
import pandas as pd

matplotlib.use("agg")

import matplotlib.pyplot as plt
import seaborn
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from wa.files import writing
from wa.study.layout import RunTable

WIDTH = 3.3  # inches
MARKERS = "os^Dv<>ph*"
TEXT = dict.fromkeys(
    ["font.size", "axes.labelsize", "axes.titlesize", "xtick.labelsize", "ytick.labelsize"], 7
)
TEXT |= dict.fromkeys(["legend.fontsize", "legend.title_fontsize"], 7)
LINES = {
    "lines.linewidth": 1.1,
    "lines.markersize": 3.2,
    "lines.markeredgewidth": 0.3,
    "grid.linewidth": 0.4,
    "axes.linewidth": 0.6,
}
TICKS = {
    f"{axis}.{key}": value
    for axis in ("xtick", "ytick")
    for key, value in (("major.pad", 2), ("major.size", 2))
}
# Without the salt, the identifiers in an svg would be new each time.
seaborn.set_theme(
    "paper",
    "whitegrid",
    rc=TEXT | LINES | TICKS | {"axes.labelpad": 2, "axes.titlepad": 3, "svg.hashsalt": "wa"},
)


class Styles:
    """The colour, marker and dashes of each method.

    They follow from its place in the study, so that it looks the same in all figures.
    """

    def __init__(self, study: RunTable):
        names = study.methods
        self.colors = dict(
            zip(names, itertools.cycle(seaborn.color_palette("colorblind", 10)), strict=False)
        )
        self.markers = dict(zip(names, itertools.cycle(MARKERS), strict=False))
        # More methods than colours: the second ten are dashed, the third ten dotted.
        self.dashes = {name: [(), (4, 1.5), (1, 1)][i // 10 % 3] for i, name in enumerate(names)}

    def of(self, method: str, marker: bool = True) -> dict:
        """The options of a matplotlib line."""
        dashes = (0, self.dashes[method]) if self.dashes[method] else "-"
        return {
            "color": self.colors[method],
            "ls": dashes,
            "marker": self.markers[method] if marker else "",
            "mec": "w",
        }

    def handle(self, method: str, label: str, marker: bool = True) -> Line2D:
        """An entry of a legend."""
        return Line2D([], [], label=label, **self.of(method, marker))

    def line(self, frame: pd.DataFrame, axes: plt.Axes, markers: bool = True, **options) -> None:
        """Draw y against x with a line for each method.

        The line is the mean of the runs, the band their standard deviation.
        """
        points = frame.groupby("method", observed=True)["x"].nunique().max()
        seaborn.lineplot(
            frame,
            x="x",
            y="y",
            hue="method",
            style="method",
            palette=self.colors,
            markers=self.markers if markers else False,
            dashes=self.dashes,
            markevery=max(1, round(points / 10)),  # 50 markers would hide the line
            ax=axes,
            legend=False,
            **{"errorbar": "sd", "err_kws": {"linewidth": 0, "alpha": 0.18}} | options,
        )


def count_runs(frame: pd.DataFrame) -> dict[str, str]:
    """The number of runs of each method, as text: "3", or "1 to 3" if protocols differ."""
    counts = (
        frame.drop_duplicates(["protocol", "method", "order", "seed"])
        .groupby(["method", "protocol"], observed=True)
        .size()
    )
    low, high = (
        counts.groupby("method", observed=True).min(),
        counts.groupby("method", observed=True).max(),
    )
    return {m: f"{low[m]}" if low[m] == high[m] else f"{low[m]} to {high[m]}" for m in low.index}


def grid(
    rows: int, columns: int, height: float, **options
) -> tuple[plt.Figure, list[list[plt.Axes]]]:
    """A figure of rows x columns panels, each row `height` inches high."""
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(WIDTH, rows * height),
        squeeze=False,
        layout="constrained",
        **options,
    )
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03)
    return figure, axes


def flow(panels: int, height: float, xlabel: str, ylabel: str) -> tuple[plt.Figure, list[plt.Axes]]:
    """A figure of panels with common axes, two in each row."""
    columns = min(2, panels)
    figure, axes = grid(math.ceil(panels / columns), columns, height, sharex=True, sharey=True)
    for left_over in axes.flat[panels:]:
        left_over.remove()
    for i, panel in enumerate(axes.flat[:panels]):
        if i + columns >= panels:  # no panel is below it
            panel.set_xlabel(xlabel)
            panel.tick_params(labelbottom=True)
        if i % columns == 0:
            panel.set_ylabel(ylabel)
    return figure, list(axes.flat[:panels])


def wrapped(method: str) -> str:
    """A method's name, in lines that fit the title of one of two panels in a row."""
    return textwrap.fill(method, 26)


def integers(axis: matplotlib.axis.Axis, most: int = 6) -> None:
    """Put at most `most` ticks on the axis, at integers."""
    axis.set_major_locator(MaxNLocator(most, integer=True, min_n_ticks=1))


def colorbar(
    figure: plt.Figure, image: plt.cm.ScalarMappable, axes: list[plt.Axes], label: str
) -> None:
    """Add one bar of colours below all panels."""
    bar = figure.colorbar(
        image, ax=axes, label=label, location="bottom", shrink=0.8, aspect=40, pad=0.02
    )
    bar.outline.set_visible(False)


def legend(figure: plt.Figure, handles: list[Line2D], title: str | None = None) -> None:
    """Add a legend below the panels, in as many columns as fit. The figure grows in height."""
    width = 0.4 + 0.055 * max(len(handle.get_label()) for handle in handles)  # inches
    columns = max(1, min(len(handles), int(WIDTH / width)))
    lines = math.ceil(len(handles) / columns) + bool(title)
    figure.set_figheight(figure.get_figheight() + 0.14 * lines)
    figure.legend(
        handles=handles,
        title=title,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        borderpad=0,
        labelspacing=0.25,
        handlelength=1.8,
        handletextpad=0.5,
        columnspacing=1,
    )


def save(figure: plt.Figure, outputs: list[str]) -> None:
    """Write a figure to each file, in the format that its suffix names."""
    no_date = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    for output in outputs:
        kind = Path(output).suffix[1:]
        with writing(output) as temporary:
            figure.savefig(temporary, format=kind, metadata=no_date.get(kind), dpi=300)


def nothing(why: str, outputs: list[str]) -> None:
    """Write the reason in place of a figure that cannot be drawn."""
    print(f"nothing to draw: {why}")
    figure = plt.figure(figsize=(WIDTH, 0.6))
    figure.text(0.5, 0.5, textwrap.fill(why, 50), ha="center", va="center")
    save(figure, outputs)
