"""The table of results: each method on each protocol, mean and standard deviation over runs, beside published numbers.

    python -m wa.analysis.results_table --study '{"methods": ["wa"], ...}' --metrics metrics.csv --dataset cifar100 \
        --settings '{"recipe": "pycil"}' --published docs/published.yaml --output results.md
"""

import argparse
import json
from pathlib import Path

import pandas as pd
import yaml

from wa.analysis.figures.table import PROTOCOL, at_the_end, own_classifier, read
from wa.errors import program
from wa.files import writing

COLUMNS = {
    "average_incremental_accuracy": "average",
    "average_incremental_accuracy_without_first": "average without first",
    "last_accuracy": "last",
}
TOP5 = {
    "average_incremental_top5_accuracy": "average top-5",
    "top5_accuracy": "last top-5",
}  # as papers report ImageNet


def published(
    numbers: list[dict], dataset: str, base: int, increment: int, method: str, key: str
) -> str:
    """What was published for a method on a protocol, with its sources; a method `wa-paper` is compared with `paper`'s wa."""
    found = [
        f"{'about ' if n.get('about') else ''}{n[key]} ({n['source']})"
        for n in numbers
        if (n["dataset"], n["base"], n["increment"]) == (dataset, base, increment)
        and method in (n["method"], f"{n['method']}-{n['source'].lower()}")
    ]
    return ", ".join(found)


def results(table: pd.DataFrame, dataset: str, known: dict) -> str:
    """The table in Markdown. table: metrics.csv, each method's own classifier; known: docs/published.yaml."""
    last = at_the_end(table)
    columns = COLUMNS | (TOP5 if dataset.startswith("imagenet") else {})
    last = last[last["metric"].isin(columns)]
    names = [*PROTOCOL, "method", "runs", *columns.values(), "published average", "published last"]
    lines = [
        "| " + " | ".join(names) + " |",
        "| ---: | ---: | --- |" + " ---: |" * (1 + len(columns)) + " --- | --- |",
    ]
    for (base, increment, method), rows in last.groupby([*PROTOCOL, "method"], observed=True):
        runs = rows.groupby("metric", observed=True)["value"].agg(["mean", "std", "count"])
        cells = [str(base), str(increment), method, str(runs["count"].max())]
        for metric in columns:
            mean, deviation, count = (
                runs.loc[metric] if metric in runs.index else (float("nan"), 0, 0)
            )
            cells.append(
                "" if not count else f"{mean:.1f}" + (f" ± {deviation:.1f}" if count > 1 else "")
            )
        cells += [
            published(known["results"], dataset, base, increment, method, key)
            for key in ("average", "last")
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Write the table of results beside published numbers, as Markdown."
    )
    parser.add_argument(
        "--study",
        type=json.loads,
        required=True,
        help="the table of runs, as wa.study.Study.table() gives it",
    )
    parser.add_argument("--metrics", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument(
        "--settings",
        type=json.loads,
        required=True,
        help="what the config says of recipe, training and methods",
    )
    parser.add_argument(
        "--published", required=True, help="published numbers and their sources, as YAML"
    )
    parser.add_argument("--output", required=True)
    args = parser.parse_args()
    known = yaml.safe_load(Path(args.published).read_text())
    table = results(own_classifier(read(args.metrics, args.study)), args.dataset, known)
    settings = yaml.safe_dump(args.settings, sort_keys=False, default_flow_style=None, width=120)
    sources = [
        f"- **{name}**: {text.strip()}"
        for name, text in known["sources"].items()
        if f"({name})" in table
    ]
    text = [
        f"# Results of the study {args.study['experiment']} on {args.dataset}",
        "Accuracies on all classes seen, in per cent, each by the method's own classifier: mean ± standard deviation over the"
        " runs (orders x seeds). The average counts the first task; *last* is after the last task. Written by"
        " the workflow's target `results_table`.",
        table,
        "What was run (everything else has the defaults of wa/study/settings.py):",
        f"```yaml\n{settings}```",
    ]
    if sources:
        text += [
            "Where the published numbers come from; what they were run with and the lines above do not have, differs:"
        ]
        text += ["\n".join(sources)]
    with writing(args.output) as temporary:
        temporary.write_text("\n\n".join(text) + "\n")


if __name__ == "__main__":
    program(main)
