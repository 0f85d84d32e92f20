"""Compare the methods of each sweep on the validation images, and name the best of each.

    python -m wa.analysis.sweep --study '{"root": "results/mine", ...}' \
        --metrics results/mine/metrics.csv --config mine.json --best results/mine/best.yaml \
        --output sweep.svg sweep.png sweep.pdf sweep.md sweep.csv sweep.html sweep.tex

The best method has the highest average incremental accuracy, as the mean over all its runs. If two
are equal, the first in the config is the best. `best.yaml` is the config of the study with the best
methods in place of the sweeps, and with all training images. It is evaluated on the test images.
"""

import argparse
import json
from collections.abc import Container
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from wa.analysis.figures import drawing
from wa.analysis.figures.drawing import Styles, grid, nothing
from wa.analysis.figures.look import Look
from wa.analysis.figures.table import FINAL, at_the_end, mean_and_deviation, read_own
from wa.analysis.figures.tables import BEST, Table, write
from wa.errors import UserError, command, program
from wa.files import writing
from wa.study.config_file import dump
from wa.study.layout import RunTable, add_study_option
from wa.study.sweep import swept

BY = "average_incremental_accuracy"  # the metric that the best is chosen by
SHOWN = (BY, "last_accuracy")
TABLES = (".md", ".csv", ".html", ".tex")


class Point(NamedTuple):
    """A method that a sweep made."""

    sweep: str  # the method that is swept
    name: str
    values: str  # what the name adds to that of the sweep, such as `distillation-0.5`
    runs: dict[str, pd.Series]  # a metric of SHOWN -> its values, one for each finished run


def read_points(study: RunTable, metrics: str) -> list[Point]:
    """The methods of all sweeps that have a finished run, in the order of the config."""
    table = at_the_end(read_own(metrics, study))
    points = []
    for sweep, names in study.sweeps.items():
        for name in names:
            rows = table[table["method"] == name]
            if len(rows):
                runs = {metric: rows.loc[rows["metric"] == metric, "value"] for metric in SHOWN}
                points.append(Point(sweep, name, name.removeprefix(f"{sweep}-"), runs))
    return points


def best_of(points: list[Point]) -> dict[str, Point]:
    """The best method of each sweep."""
    best: dict[str, Point] = {}
    for point in points:
        mean = point.runs[BY].mean()
        if point.sweep not in best or mean > best[point.sweep].runs[BY].mean():
            best[point.sweep] = point
    return best


def draw(points: list[Point], styles: Styles) -> Figure:
    """The accuracy of each point: its mean, filled if it is the best, and its runs as lines."""
    if not points:
        return nothing("no run of a sweep is finished")
    best = best_of(points)
    sweeps = {sweep: [point for point in points if point.sweep == sweep] for sweep in best}
    heights = [0.35 + 0.16 * len(of_sweep) for of_sweep in sweeps.values()]
    mean = sum(heights) / len(heights)
    figure, panels = grid(len(best), 1, mean, sharex=True, height_ratios=heights)
    for [panel], (sweep, of_sweep) in zip(panels, sweeps.items(), strict=True):
        for y, point in enumerate(of_sweep):
            color, values = styles.colors[point.name], point.runs[BY]
            panel.plot(values, [y] * len(values), "|", color=color)
            face = color if point is best[sweep] else "w"
            panel.plot(values.mean(), y, "o", color=color, mfc=face, mew=1)
        panel.set_yticks(range(len(of_sweep)), [point.values for point in of_sweep])
        panel.set_ylim(len(of_sweep) - 0.5, -0.5)
        panel.set_title(sweep, loc="left")
    # Steps of 0.25 would have long labels, which nearly touch.
    panels[-1][0].xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10]))
    panels[-1][0].set_xlabel(f"{FINAL[BY]}, validation images (%)")
    return figure


def tabulate(points: list[Point]) -> Table | str:
    """A row for each point. The best of each sweep is bold in HTML and LaTeX."""
    if not points:
        return "no run of a sweep is finished"
    best = best_of(points)
    numbers, cells, chosen = [], [], []
    for point in points:
        is_best = point is best[point.sweep]
        key = {"method": point.sweep, "values": point.values, "runs": len(point.runs[BY])}
        values = {metric: (runs.mean(), runs.std()) for metric, runs in point.runs.items()}
        numbers.append(key | {FINAL[metric]: mean for metric, (mean, _) in values.items()})
        numbers[-1]["best"] = is_best
        words = {FINAL[metric]: mean_and_deviation(*pair) for metric, pair in values.items()}
        cells.append(key | words | {"best": "best" if is_best else ""})
        chosen.append(is_best)
    words = pd.DataFrame(cells).astype(str)
    marks = pd.DataFrame("", index=words.index, columns=words.columns)
    marks.iloc[chosen, 3:] = BEST  # behind the method, its values and the runs
    return Table(pd.DataFrame(numbers).round(4), words, marks, {"method", "values", "best"})


def without(values: dict, names: Container[str]) -> dict:
    """The entries of a dict that have none of the names."""
    return {name: value for name, value in values.items() if name not in names}


def best_config(config: dict, best: dict[str, str]) -> dict:
    """The config of a study with the best methods in place of its sweeps, on the test images.

    config: as written. best: method -> the name of the best one that its sweep made.
    """
    made = swept(config)
    new = without(config, ("validation", "sweep"))
    new["experiment"] = f"{config['experiment']}-best"
    methods = config["methods"]
    new["methods"] = {
        name: made[name][best[name]] if name in best else methods[name] for name in methods
    }
    swept_by = {point: name for name, points in made.items() for point in points}
    if new.get("reference"):
        new["reference"] = swept_by.get(new["reference"], new["reference"])
    if new.get("show"):
        new["show"] = list(dict.fromkeys(swept_by.get(name, name) for name in new["show"]))
    if "figures" in new:  # labels and colours of the points
        new["figures"] = {
            key: without(value, swept_by) if isinstance(value, dict) else value
            for key, value in new["figures"].items()
        }
    return new


def write_best(study: RunTable, points: list[Point], config: dict, start: str, output: str) -> None:
    """Write best.yaml. start: the command that runs the workflow.

    Raises UserError if a run of a sweep is not finished.
    """
    runs = len(study.orders) * len(study.seeds) * len(study.protocols)
    found = {point.name: len(point.runs[BY]) for point in points}
    for names in study.sweeps.values():
        for name in names:
            if found.get(name, 0) < runs:
                raise UserError(f"{name} has {found.get(name, 0)} of {runs} runs finished")
    best = best_of(points)
    lines = [
        f"The best of each sweep of {study.experiment}, by the average incremental accuracy on"
        " the validation images:",
    ]
    for sweep, point in best.items():
        over = f"mean of {runs} run{'s' * (runs > 1)}"
        lines.append(f"  {sweep}: {point.values} ({point.runs[BY].mean():.1f} %, {over})")
    lines.append("To run it on the test images:")
    lines.append(f"  {start} --cores 2 --configfile {output}")
    text = dump(best_config(config, {sweep: point.name for sweep, point in best.items()}))
    with writing(output) as temporary:
        temporary.write_text("".join(f"# {line}\n" for line in lines) + text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the methods of each sweep.")
    add_study_option(parser)
    parser.add_argument("--metrics", required=True, help="metrics.csv of the study")
    parser.add_argument("--look", type=Look.from_json, default=Look(), metavar="JSON")
    parser.add_argument("--config", type=json.loads, help="the config as written, as JSON")
    parser.add_argument(
        "--best", nargs="?", help="to write: the config of the best (default: none)"
    )
    parser.add_argument(
        "--snakemake", default=command("snakemake"), help="the command that runs the workflow"
    )
    parser.add_argument("--output", nargs="+", required=True, help="the figures and tables")
    args = parser.parse_args()
    points = read_points(args.study, args.metrics)
    tables = [file for file in args.output if Path(file).suffix in TABLES]
    figures = [file for file in args.output if file not in tables]
    drawing.write(lambda _, __, styles: draw(points, styles), args.study, None, args.look, figures)
    write(tabulate(points), tables)
    if args.best:
        write_best(args.study, points, args.config, args.snakemake, args.best)


if __name__ == "__main__":
    program(main)
