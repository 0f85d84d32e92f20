"""Draw a figure, or write a table, of a study from its results; the same results give the same bytes (but for png and pdf).

    python -m wa.analysis.figures accuracy --study '{"root": "results/digits", ...}' --metrics metrics.csv --output accuracy.svg

The study is what wa.study.Study.table() gives: which runs to show, and the order, and so the colours, of the methods.
"""

import argparse
import importlib
import json

from wa.errors import program

# The figures of each module: a function (study, metrics, outputs) each.
FIGURES = {
    "tables": ["final"],
    "comparison": ["comparison"],
    "lines": ["accuracy", "forgetting", "old_new", "new_share", "gamma"],
    "panels": ["matrix", "norms"],
    "predictions": ["confusion", "calibration"],
    "training": ["curves", "cost"],
}


def main() -> None:
    modules = {figure: module for module, figures in FIGURES.items() for figure in figures}
    parser = argparse.ArgumentParser(
        prog="python -m wa.analysis.figures",
        description="Draw a figure, or write a table, of a study.",
    )
    parser.add_argument("figure", choices=modules)
    parser.add_argument(
        "--study",
        type=json.loads,
        required=True,
        help="the table of runs, as wa.study.Study.table() gives it",
    )
    parser.add_argument("--metrics", nargs="?", help="metrics.csv, for a figure that reads it")
    parser.add_argument(
        "--output", nargs="+", required=True, help="files to write; their suffixes say the formats"
    )
    args = parser.parse_args()
    module = importlib.import_module(f"wa.analysis.figures.{modules[args.figure]}")
    getattr(module, args.figure)(args.study, args.metrics, args.output)


if __name__ == "__main__":
    program(main)
