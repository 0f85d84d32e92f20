"""What all figures share: their width, their colours, and how they are written.

A figure is as wide as a column of a paper and has text of 7 points. So a paper shows it unscaled. A
figure of many panels is as wide as the page. The section `figures` of a config changes that.
"""

import itertools
import math
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
import seaborn
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from wa.analysis.figures.look import Look
from wa.files import writing
from wa.study.layout import RunTable

COLUMN = 3.3  # inches: a column of a paper
PAGE = 6.9  # inches: both columns, for figures of many panels
FONT = 7  # points: the heights of rows, and all distances below, are for text of this size
LINE = 8.1  # points: the distance of two names on an axis
BANDS = 4  # methods: the bands of more would hide each other
MARKERS = "os^Dv<>ph*"
TEXTS = (
    "font.size",
    "axes.labelsize",
    "axes.titlesize",
    "xtick.labelsize",
    "ytick.labelsize",
    "legend.fontsize",
    "legend.title_fontsize",
)
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


@contextmanager
def theme(look: Look) -> Iterator[None]:
    """Draw in this look. Afterwards matplotlib draws as before, for instance in a notebook."""
    rc = dict.fromkeys(TEXTS, look.font_size) | LINES | TICKS
    rc |= {"axes.labelpad": 2, "axes.titlepad": 3}
    rc |= {"figure.figsize": (PAGE if look.columns == 2 else COLUMN, COLUMN)}
    rc |= {"text.parse_math": False}  # names of methods and classes may have a $
    rc |= {"svg.hashsalt": "wa"}  # without it, the identifiers in an svg would be new each time
    with plt.rc_context():
        seaborn.set_theme("paper", "whitegrid", color_codes=False, rc=rc)
        yield


@contextmanager
def on_paper(look: Look) -> Iterator[None]:
    """As theme, for figures that go to files. No window opens, and no screen is needed."""
    plt.switch_backend("agg")
    with theme(look):
        yield


def width() -> float:
    """The width of a figure in the theme, in inches."""
    return plt.rcParams["figure.figsize"][0]


def scale() -> float:
    """How much larger the text of the theme is than FONT."""
    return plt.rcParams["font.size"] / FONT


class Styles:
    """The label, colour, marker and dashes of each method.

    They follow from its place in the study, so that it looks the same in all figures. A look can
    change labels and colours.
    """

    def __init__(self, study: RunTable, look: Look):
        names = study.methods
        palette = itertools.cycle(seaborn.color_palette("colorblind", 10))
        self.labels = {name: look.label(name) for name in names}
        self.colors = dict(zip(names, palette, strict=False)) | look.colors
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
            "mfc": "none",  # a marker hides no other
            "mew": 0.8,
        }

    def handle(self, method: str, more: str = "", marker: bool = True) -> Line2D:
        """An entry of a legend: the method's label, and more behind it."""
        return Line2D([], [], label=self.labels[method] + more, **self.of(method, marker))

    def line(self, frame: pd.DataFrame, axes: plt.Axes) -> None:
        """Draw y against x with a line for each method, the mean of its runs.

        With few methods, each has a band, the standard deviation of its runs.
        """
        groups = frame.groupby("method", observed=True)
        for method, rows in groups:
            runs = rows.groupby("x")["y"]
            mean, deviation = runs.mean(), runs.std().fillna(0)
            every = max(1, round(len(mean) / 10))  # 50 markers would hide the line
            axes.plot(mean, markevery=every, **self.of(method))
            if len(self.markers) <= BANDS:
                low, high = mean - deviation, mean + deviation
                color = self.colors[method]
                axes.fill_between(mean.index, low, high, color=color, alpha=0.18, lw=0)

    def line_means(self, counts: dict[str, str]) -> str:
        """What `line` draws, for the title of a legend. counts: as count_runs returns them."""
        if set(counts.values()) == {"1"}:
            return "method (runs)"
        band = ", band: standard deviation" if len(self.markers) <= BANDS else ""
        return f"method (runs); line: mean{band}"


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
    rows: int, columns: int, height: float, page: bool = False, **options
) -> tuple[Figure, list[list[plt.Axes]]]:
    """A figure of rows x columns panels, each row `height` inches high for text of FONT points.

    page: it takes the width of the page, whatever the look is.
    """
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(PAGE if page else width(), rows * height * scale()),
        squeeze=False,
        layout="constrained",
        **options,
    )
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03)
    return figure, axes


def flow(
    panels: int, height: float, xlabel: str, ylabel: str, wide: bool = False
) -> tuple[Figure, list[plt.Axes], plt.Axes | None]:
    """A figure of panels with common axes, row by row.

    Up to four panels stand two in each row. More of them, or `wide`, take the width of the page.
    Returns the figure, the panels, and an empty place after the last panel, if there is one. The
    legend or the bar of colours goes there.
    """
    wide = wide or panels > 4
    columns = min(2, panels)
    if wide:
        columns = panels if panels <= 4 else min((4, 3), key=lambda n: -panels % n)
    rows = math.ceil(panels / columns)
    figure, axes = grid(rows, columns, height, wide, sharex=True, sharey=True)
    spare = axes.flat[panels] if panels < rows * columns else None
    for left_over in axes.flat[panels + 1 :]:
        left_over.remove()
    if spare is not None:
        spare.set_axis_off()  # legend or colorbar removes it
    for i, panel in enumerate(axes.flat[:panels]):
        if i + columns >= panels:  # no panel is below it
            panel.set_xlabel(xlabel)
            panel.tick_params(labelbottom=True)
        if i % columns == 0:
            panel.set_ylabel(ylabel)
    return figure, list(axes.flat[:panels]), spare


def wrapped(name: str, width: int = 22) -> str:
    """A name, in lines that fit the title of a panel."""
    return textwrap.fill(name, width)


def shortened(name: str, length: int = 16) -> str:
    """A name without its middle, if it is longer than `length` characters."""
    half = length // 2
    return name if len(name) <= length else f"{name[: half - 1]}…{name[-half:]}"


def pair_name(true: str, predicted: str) -> str:
    """Images of one class that are taken for another, as a name of a row."""
    return f"{shortened(true, 12)} → {shortened(predicted, 12)}"


def name_rows(panel: plt.Axes, names: list[str]) -> None:
    """Name the rows of a panel, or as many of them as there is room for."""
    panel.set_yticks([0], [max(map(shortened, names), key=len)])
    panel.figure.canvas.draw()  # places the panel, beside the longest name
    height = panel.get_window_extent().height * 72 / panel.figure.dpi
    step = math.ceil(len(names) * LINE * scale() / height)
    rows = range(0, len(names), step)
    panel.set_yticks(rows, [shortened(names[row]) for row in rows])


def integers(axis: matplotlib.axis.Axis, most: int = 6) -> None:
    """Put at most `most` ticks on the axis, at integers."""
    axis.set_major_locator(MaxNLocator(most, integer=True, min_n_ticks=1))


def from_zero(panel: plt.Axes) -> None:
    """Let the y axis begin at 0, and leave room above the highest point for its marker."""
    panel.set_ylim(0, 1.05 * panel.get_ylim()[1])


def vacated(spare: plt.Axes) -> Bbox:
    """Remove an empty panel. Returns its place, as shares of the figure."""
    spare.figure.canvas.draw()  # places the panels
    place = spare.get_position()
    spare.remove()
    return place


def colorbar(
    figure: Figure,
    image: plt.cm.ScalarMappable,
    axes: list[plt.Axes],
    label: str,
    spare: plt.Axes | None = None,
) -> None:
    """Add one bar of colours: in the empty place `spare`, or below all panels."""
    if spare is not None:
        place = vacated(spare)
        left, low = place.x0 + 0.1 * place.width, place.y0 + 0.5 * place.height
        size = 0.8 * place.width, 0.1 / figure.get_figheight()
        options = {"cax": figure.add_axes((left, low, *size))}
    else:
        options = {"ax": axes, "shrink": 0.8, "aspect": 40, "pad": 0.02, "location": "bottom"}
    bar = figure.colorbar(image, orientation="horizontal", **options)
    bar.set_label(textwrap.fill(label, 22) if spare is not None else label)
    bar.outline.set_visible(False)


def legend(
    figure: Figure,
    handles: list[Line2D],
    title: str | None = None,
    spare: plt.Axes | None = None,
) -> None:
    """Add a legend: in the empty place `spare`, or below the panels, in as many columns as fit.

    Below the panels, the figure grows in height.
    """
    options = {"frameon": False, "borderpad": 0, "labelspacing": 0.25, "handlelength": 1.8}
    options |= {"handles": handles, "title": title, "handletextpad": 0.5, "columnspacing": 1}
    if spare is not None:
        place = vacated(spare)
        middle = (place.x0 + place.x1) / 2, (place.y0 + place.y1) / 2
        figure.legend(loc="center", bbox_to_anchor=middle, **options)
        return
    longest = max(len(handle.get_label()) for handle in handles)
    entry = scale() * (0.4 + 0.055 * longest)  # inches
    columns = max(1, min(len(handles), int(figure.get_figwidth() / entry)))
    lines = math.ceil(len(handles) / columns) + bool(title)
    figure.set_figheight(figure.get_figheight() + scale() * 0.14 * lines)
    figure.legend(loc="outside lower center", ncols=columns, **options)


def nothing(why: str) -> Figure:
    """A figure that says why there is nothing to draw."""
    print(f"nothing to draw: {why}")
    figure = plt.figure(figsize=(width(), 0.6 * scale()))
    figure.text(0.5, 0.5, textwrap.fill(why, 50), ha="center", va="center")
    return figure


def save(figure: Figure, outputs: list[str]) -> None:
    """Write a figure to each file, in the format that its suffix names."""
    no_date = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    for output in outputs:
        kind = Path(output).suffix[1:]
        with writing(output) as temporary:
            figure.savefig(temporary, format=kind, metadata=no_date.get(kind), dpi=300)


def write(
    function: Callable, study: RunTable, table: str | None, look: Look, outputs: list[str]
) -> None:
    """Draw a figure by its function, see catalog.py, and write it to each file."""
    with on_paper(look):
        save(function(study, table, Styles(study, look)), outputs)
