"""Write a study's results beside published numbers, as a Markdown table.

    python -m wa.analysis.results_table --study '{"methods": ["wa"], ...}' \
        --metrics metrics.csv --dataset cifar100 --settings '{"recipe": "pycil"}' \
        --published docs/published.yaml --output results.md

Each row is a method on a protocol: mean and standard deviation over the runs.
"""

import argparse
import json
from pathlib import Path

import pandas as pd
import yaml

from wa.analysis.figures.table import FINAL, PROTOCOL, at_the_end, mean_and_deviation, read_own
from wa.errors import program
from wa.files import writing
from wa.study.layout import add_study_option

COLUMNS = [
    "average_incremental_accuracy",
    "average_incremental_accuracy_without_first",
    "last_accuracy",
]
TOP5 = ["average_incremental_top5_accuracy", "top5_accuracy"]  # as papers report ImageNet


def published(
    numbers: list[dict], dataset: str, base: int, increment: int, method: str, key: str
) -> str:
    """The published numbers of a method on a protocol, with their sources, as text.

    A method named `wa-paper` is compared with the numbers for wa of the source `paper`.
    """
    found = [
        f"{'about ' if n.get('about') else ''}{n[key]} ({n['source']})"
        for n in numbers
        if (n["dataset"], n["base"], n["increment"]) == (dataset, base, increment)
        and method in (n["method"], f"{n['method']}-{n['source'].lower()}")
    ]
    return ", ".join(found)


def results(table: pd.DataFrame, dataset: str, known: dict) -> str:
    """The table in Markdown. table: what read_own returns. known: docs/published.yaml, parsed."""
    last = at_the_end(table)
    columns = COLUMNS + (TOP5 if dataset.startswith("imagenet") else [])
    last = last[last["metric"].isin(columns)]
    titles = [FINAL[metric] for metric in columns]
    names = [*PROTOCOL, "method", "runs", *titles, "published average", "published last"]
    lines = [
        "| " + " | ".join(names) + " |",
        "| ---: | ---: | --- |" + " ---: |" * (1 + len(columns)) + " --- | --- |",
    ]
    for (base, increment, method), rows in last.groupby([*PROTOCOL, "method"], observed=True):
        runs = rows.groupby("metric", observed=True)["value"].agg(["mean", "std", "count"])
        cells = [str(base), str(increment), method, str(runs["count"].max())]
        for mean, deviation in runs.reindex(columns)[["mean", "std"]].to_numpy():
            cells.append(mean_and_deviation(mean, deviation))
        cells += [
            published(known["results"], dataset, base, increment, method, key)
            for key in ("average", "last")
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Write a study's results beside published numbers, as Markdown."
    )
    add_study_option(parser)
    parser.add_argument("--metrics", required=True, help="metrics.csv of the study")
    parser.add_argument("--dataset", required=True, help="as docs/published.yaml names it")
    parser.add_argument(
        "--settings",
        type=json.loads,
        required=True,
        help="recipe, training and methods of the config, as JSON",
    )
    parser.add_argument("--published", required=True, help="docs/published.yaml")
    parser.add_argument("--output", required=True, help="the Markdown file to write")
    args = parser.parse_args()
    known = yaml.safe_load(Path(args.published).read_text())
    table = results(read_own(args.metrics, args.study), args.dataset, known)
    settings = yaml.safe_dump(args.settings, sort_keys=False, default_flow_style=None, width=120)
    sources = [
        f"- **{name}**: {text.strip()}"
        for name, text in known["sources"].items()
        if f"({name})" in table
    ]
    text = [
        f"# Results of the study {args.study.experiment} on {args.dataset}",
        "Accuracies on all classes seen so far, in percent: mean ± standard deviation over the runs"
        " (orders x seeds). Each method is shown with its own classifier. *average* counts the"
        " first task. *last* is the accuracy after the last task. `snakemake results_table`"
        " writes this page.",
        table,
        "The settings of the study. All others have the defaults of wa/study/settings.py.",
        f"```yaml\n{settings}```",
    ]
    if sources:
        text += ["Sources of the published numbers. Their settings may differ from those above."]
        text += ["\n".join(sources)]
    with writing(args.output) as temporary:
        temporary.write_text("\n\n".join(text) + "\n")


if __name__ == "__main__":
    program(main)
