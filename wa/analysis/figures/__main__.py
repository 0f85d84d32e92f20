"""Draw a figure of a study from its results, or write its final table.

    python -m wa.analysis.figures accuracy --study '{"root": "results/digits", ...}' \
        --metrics results/digits/metrics.csv --output accuracy.svg accuracy.pdf

--study is the JSON that RunTable.to_json() in wa.study.layout returns. It says which runs to show,
and in which order. The order of the methods decides their colours. The same results give the same
bytes, except in png and pdf files.
"""

import argparse
import importlib

from wa.analysis.figures.catalog import FIGURES, TABLES
from wa.errors import program
from wa.study.layout import add_study_option

MODULES = {name: figure.module for name, figure in FIGURES.items()}
MODULES |= {name: "tables" for name in TABLES}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m wa.analysis.figures",
        description="Draw a figure of a study, or write its final table.",
    )
    parser.add_argument("figure", choices=MODULES, metavar="figure", help=", ".join(MODULES))
    add_study_option(parser)
    parser.add_argument(
        "--metrics", nargs="?", help="metrics.csv or classes.csv, if the figure reads it"
    )
    parser.add_argument(
        "--output", nargs="+", required=True, help="files to write, whose suffixes set the formats"
    )
    args = parser.parse_args()
    module = importlib.import_module(f"wa.analysis.figures.{MODULES[args.figure]}")
    draw = getattr(module, TABLES.get(args.figure, args.figure))
    draw(args.study, args.metrics, args.output)


if __name__ == "__main__":
    program(main)
