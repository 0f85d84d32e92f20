"""Write a study's results beside published numbers, as a Markdown table.

    python -m wa.analysis.results_table --study '{"methods": ["wa"], ...}' \
        --metrics metrics.csv --dataset cifar100 --settings '{"recipe": "pycil"}' \
        --published docs/published.yaml --output results.md

Each row is a method on a protocol: mean and standard deviation over the runs.
"""

import argparse
import json
import math
from pathlib import Path

import pandas as pd
import yaml

from wa.analysis.figures.table import (
    FINAL,
    PROTOCOL,
    at_the_end,
    mean_and_deviation,
    protocol_name,
    read_own,
)
from wa.errors import program
from wa.files import writing
from wa.study.layout import add_study_option

# The columns of the table: the metric, and the key of docs/published.yaml for the same number.
COLUMNS = {
    "average_incremental_accuracy": "average",
    "average_incremental_accuracy_without_first": None,
    "last_accuracy": "last",
}
TOP5 = {  # as papers report ImageNet
    "average_incremental_top5_accuracy": "average_top5",
    "top5_accuracy": "last_top5",
}


def published(known: dict, dataset: str, protocol: tuple[int, int], method: str) -> list[dict]:
    """The published entries for a method on a protocol.

    known: docs/published.yaml, parsed. A method named `wa-paper` has the entries of wa from the
    source `paper` alone.
    """
    return [
        entry
        for entry in known["results"]
        if entry["dataset"] == dataset
        # An increment is text beside protocols of unequal tasks.
        and [str(entry["base"]), str(entry["increment"])] == [*map(str, protocol)]
        and method in (entry["method"], f"{entry['method']}-{entry['source']}")
    ]


def numbers(entries: list[dict], key: str) -> str:
    """The published numbers of a key, with their sources: "67.09 (survey), 69.46 (der)"."""
    return ", ".join(f"{entry[key]} ({entry['source']})" for entry in entries if key in entry)


def markdown(header: list[str], rows: list[list[str]], left: set[str]) -> str:
    """A table in Markdown. left: the columns of words; the others are numbers."""
    rule = ["---" if name in left else "---:" for name in header]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, rule, *rows])


def final_results(table: pd.DataFrame, dataset: str, known: dict) -> str:
    """Average and last accuracy of each method on each protocol, beside the published ones."""
    last = at_the_end(table)
    columns = COLUMNS | (TOP5 if dataset.startswith("imagenet") else {})
    last = last[last["metric"].isin(columns)]
    keys = {f"published {FINAL[metric]}": key for metric, key in columns.items() if key}
    rows = []
    for (*protocol, method), runs in last.groupby([*PROTOCOL, "method"], observed=True):
        values = runs.groupby("metric", observed=True)["value"].agg(["mean", "std", "count"])
        cells = [*map(str, protocol), method, str(values["count"].max())]
        for mean, deviation in values.reindex(list(columns))[["mean", "std"]].to_numpy():
            cells.append(mean_and_deviation(mean, deviation))
        entries = published(known, dataset, tuple(protocol), method)
        rows.append(cells + [numbers(entries, key) for key in keys.values()])
    titles = [FINAL[metric] for metric in columns]
    return markdown([*PROTOCOL, "method", "runs", *titles, *keys], rows, {"method", *keys})


def accuracy_after_each_task(table: pd.DataFrame, dataset: str, known: dict) -> str:
    """For each protocol: the mean accuracy of each method after each task, and published ones."""
    parts = []
    table = table[table["metric"] == "accuracy"]
    for protocol, rows in table.groupby(PROTOCOL, observed=True):
        classes = sorted(rows["classes"].unique())
        lines = []
        for method, runs in rows.groupby("method", observed=True):
            means = runs.groupby("classes")["value"].mean().reindex(classes)
            lines.append([method, *(mean_and_deviation(mean, math.nan) for mean in means)])
            for entry in published(known, dataset, protocol, method):
                if "tasks" in entry:
                    cells = [f"{value:.1f}" for value in entry["tasks"][: len(classes)]]
                    cells += [""] * (len(classes) - len(cells))
                    lines.append([f"{method} ({entry['source']})", *cells])
        title = f"{protocol_name(*protocol)}, accuracy by classes seen:"
        parts.append(f"{title}\n\n" + markdown(["method", *map(str, classes)], lines, {"method"}))
    return "\n\n".join(parts)


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
    known = yaml.safe_load(Path(args.published).read_text(encoding="utf-8"))
    own = read_own(args.metrics, args.study)
    table = final_results(own, args.dataset, known)
    tasks = accuracy_after_each_task(own, args.dataset, known)
    settings = yaml.safe_dump(args.settings, sort_keys=False, default_flow_style=None, width=120)
    sources = [
        f"- **{name}**: {text.strip()}"
        for name, text in known["sources"].items()
        if f"({name})" in table + tasks
    ]
    text = [
        f"# Results of the study {args.study.experiment} on {args.dataset}",
        "Accuracies on all classes seen so far, in percent: mean ± standard deviation over the runs"
        " (orders x seeds). Each method is shown with its own classifier. *average* counts the"
        " first task. *last* is the accuracy after the last task. The target"
        " `results_table` writes this page.",
        table,
        tasks,
        "The settings of the study. All others have the defaults of wa/study/settings.py.",
        f"```yaml\n{settings}```",
    ]
    if sources:
        text += ["Sources of the published numbers. Their settings may differ from those above."]
        text += ["\n".join(sources)]
    with writing(args.output) as temporary:
        temporary.write_text("\n\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    program(main)
