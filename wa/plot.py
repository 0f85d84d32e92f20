"""The figures of a study in a notebook, or in a program of yours.

    import wa.plot

    axes = wa.plot.accuracy("results/digits")
    axes.set_title("Digits")

Each figure of a study has a function here: `accuracy`, `comparison`, `paired`, and so on.
`dir(wa.plot)` lists them. They are the functions with which the workflow draws. All take the same
arguments as `figure`, without the first.
"""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from wa.analysis.figures.catalog import FIGURES, READS, function_of
from wa.analysis.figures.look import Look
from wa.errors import UserError, command
from wa.study import layout
from wa.study.config import check_figures
from wa.study.config_file import read_config
from wa.study.study import Study


def figure(
    name: str,
    study: str | Path,
    methods: list[str] | str | None = None,
    protocol: tuple[int, int | str] | None = None,
    **look: object,
):
    """Draw the figure `name` of a study, and return its axes.

        wa.plot.figure("accuracy", "results/digits", methods=["wa", "replay"], font_size=9)

    study: the folder of the study, which holds its config.yaml. methods: those to show, in this
    order, or the name of one. By default those that the config shows. protocol: (base, increment),
    for figures of one protocol. By default the first. look: keys of the section `figures` of a
    config, over those of the study: labels, colors, columns, font_size.

    Returns a matplotlib Axes, or an array of them if the figure has several panels. `axes.figure`
    is the figure. Raises wa.errors.UserError if the folder holds no study, if something is not in
    it, or if there is nothing to draw.
    """
    from wa.analysis.figures.drawing import Styles, plt, theme  # imports seaborn, which is slow

    folder = Path(study)
    planned = plan(folder)
    config = planned.config
    entry = FIGURES[name]
    shown = [methods] if isinstance(methods, str) else list(methods or planned.show)
    check_known("method", shown, list(config["methods"]))
    check_known("key", list(look), list(Look._fields))
    check_figures(look)
    for key in ("labels", "colors"):
        check_known("method", list(look.get(key, {})), list(config["methods"]))
    one = protocol or (planned.protocols[0] if entry.per_protocol else None)
    if one:
        check_known("protocol", [tuple(one)], planned.protocols)
    runs = planned.run_table(tuple(one) if one else None, names=shown)
    table = str(folder / READS[entry.reads]) if entry.reads in READS else None
    wanted = Look.of(config["figures"] | look)
    with theme(wanted):
        drawn = function_of(name)(runs, table, Styles(runs, wanted))
        if not drawn.axes:
            plt.close(drawn)
            why = " ".join(drawn.texts[0].get_text().split())
            raise UserError(f"there is no figure {name}: {why}")
        drawn.canvas.draw()  # makes the labels of the ticks while the theme holds
    plt.figure(drawn)  # the current figure, for plt.title and so on
    panels = np.array(drawn.axes)
    return panels[0] if len(panels) == 1 else panels


def plan(folder: Path) -> Study:
    """The study in a folder of results, which may have been renamed."""
    file = folder / layout.CONFIG
    if not file.is_file():
        raise UserError(
            f"{file} does not exist. Name the folder of a study, for instance results/digits. If"
            f" its figures were never drawn, run `{command('snakemake')}` first"
        )
    config = read_config(file)
    folder = Path(os.path.abspath(folder))  # a link stays, and `.` gets a name
    config["experiment"] = folder.name
    return Study(config, str(folder.parent))


def check_known(what: str, names: list, known: list) -> None:
    """Raise UserError for a name that is not known."""
    for name in names:
        if name not in known:
            raise UserError(f"there is no {what} {name!r}. Known: {', '.join(map(str, known))}")


@cache
def function(name: str) -> Callable:
    """The function that draws one figure, with help of its own."""

    def draw(study, methods=None, protocol=None, **look):
        return figure(name, study, methods, protocol, **look)

    draw.__name__ = draw.__qualname__ = name
    draw.__annotations__ = {k: v for k, v in figure.__annotations__.items() if k != "name"}
    _, start, arguments = figure.__doc__.partition("    study: ")
    draw.__doc__ = f"""Draw the figure `{name}` of a study: {FIGURES[name].title}.

        wa.plot.{name}("results/digits", methods=["wa", "replay"], font_size=9)

{start}{arguments}"""
    return draw


def __getattr__(name: str):
    """The function of a figure."""
    if name in FIGURES:
        return function(name)
    raise AttributeError(f"module 'wa.plot' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *FIGURES])
