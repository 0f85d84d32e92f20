"""Draw a figure of a study from its results, or write one of its tables.

    python -m wa.analysis.figures accuracy --study '{"root": "results/digits", ...}' \
        --metrics results/digits/metrics.csv --look '{"labels": {"wa": "WA (ours)"}}' \
        --output accuracy.svg accuracy.pdf

--study is the JSON that RunTable.to_json() in wa.study.layout returns. It says which runs to show,
and in which order. The order of the methods decides their colours. --look is the section `figures`
of the config. The same results give the same bytes, except in png and pdf files.
"""

import argparse
import json

from wa.analysis.figures.catalog import FIGURES, TABLES, function_of
from wa.analysis.figures.look import Look
from wa.errors import program
from wa.study.layout import add_study_option


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m wa.analysis.figures",
        description="Draw a figure of a study, or write one of its tables.",
    )
    names = [*FIGURES, *TABLES]
    parser.add_argument("figure", choices=names, metavar="figure", help=", ".join(names))
    add_study_option(parser)
    parser.add_argument(
        "--metrics", nargs="?", help="metrics.csv or classes.csv, if the figure reads it"
    )
    parser.add_argument(
        "--look",
        type=Look.from_json,
        default=Look(),
        metavar="JSON",
        help="labels, colors and so on, as in the section `figures` of a config",
    )
    parser.add_argument(
        "--choices",
        type=json.loads,
        default={},
        metavar="JSON",
        help="for the table `ablation`: the choices of each method",
    )
    parser.add_argument(
        "--output", nargs="+", required=True, help="files to write, whose suffixes set the formats"
    )
    args = parser.parse_args()
    function = function_of(args.figure)
    if args.figure in FIGURES:
        from wa.analysis.figures.drawing import write

        write(function, args.study, args.metrics, args.look, args.output)
    else:
        from wa.analysis.figures.tables import write

        table = function(args.study, args.metrics, args.look, args.choices)
        write(table, args.output)


if __name__ == "__main__":
    program(main)
