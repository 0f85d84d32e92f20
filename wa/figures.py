"""Figures and tables from metrics.csv alone.

    python -m wa.figures accuracy --metrics metrics.csv --methods finetune wa --output accuracy.svg accuracy.png
    python -m wa.figures final --metrics metrics.csv --methods finetune wa --output final.csv final.md

A method's own classifier is the one it names (iCaRL: nme), else the aligned one if it aligns, else the one that training left.
"""

import argparse
from pathlib import Path

import pandas as pd

from wa.files import program, writing

PROTOCOL = ["base", "increment"]
RUN = ["order", "seed", *PROTOCOL, "method"]


def read(path: str, methods: list[str]) -> pd.DataFrame:
    """metrics.csv with the own classifier of each of the methods; methods are ordered as given."""
    table = pd.read_csv(path, dtype={"order": str}, keep_default_na=False)
    table = table[table["method"].isin(methods)]
    aligning = table.loc[table["classifier"] == "aligned", "method"].unique()
    # At task 0 nothing has been aligned: the classifier as trained is the method's own.
    own = table["method"].isin(aligning).map({True: "aligned", False: "trained"}).where(table["task"] > 0, "trained")
    named = table[table["metric"] == "own_classifier"].drop_duplicates("method").set_index("method")["classifier"]
    own = table["method"].map(named).fillna(own)
    table = table[(table["classifier"] == own) | (table["classifier"] == "")].copy()
    table["method"] = pd.Categorical(table["method"], methods, ordered=True)
    return table


def save(figure, outputs: list[str]) -> None:
    """Write a figure in the formats that the names ask for; the same data give the same bytes."""
    for output in outputs:
        kind = Path(output).suffix[1:]
        metadata = {"Date": None} if kind == "svg" else {"CreationDate": None} if kind == "pdf" else None
        with writing(output) as temporary:
            figure.savefig(temporary, format=kind, metadata=metadata, dpi=200, bbox_inches="tight")


def accuracy(table: pd.DataFrame, outputs: list[str]) -> None:
    """Top-1 accuracy against the classes seen: a panel a protocol, a line a method, with the spread over orders and seeds."""
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams["svg.hashsalt"] = "wa"  # else the identifiers in an svg are new each time
    import seaborn

    keys = [*RUN, "task"]
    wide = table[table["metric"].isin(["accuracy", "classes_seen"])]
    wide = wide.pivot_table(index=keys, columns="metric", values="value", observed=True).reset_index()
    wide["protocol"] = [f"base {b}, increment {i}" for b, i in zip(wide["base"], wide["increment"], strict=True)]
    runs = wide.groupby(["protocol", "method"], observed=True).apply(lambda g: len(g[["order", "seed"]].drop_duplicates())).max()
    seaborn.set_theme(context="paper", style="whitegrid")
    grid = seaborn.relplot(
        wide,
        x="classes_seen",
        y="accuracy",
        hue="method",
        style="method",
        col="protocol",
        col_wrap=min(3, wide["protocol"].nunique()),
        kind="line",
        errorbar="sd",
        markers=True,
        dashes=False,
        palette="colorblind",
        height=3.2,
        aspect=1.2,
        facet_kws={"sharex": False},
    )
    grid.set_axis_labels("classes seen", "accuracy on all classes seen (%)").set_titles("{col_name}")
    grid.set(ylim=(0, 102))
    for axes in grid.axes.flat:
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    grid.legend.set_title(f"mean and sd\nof {runs} run{'s' if runs > 1 else ''}")
    save(grid.figure, outputs)


def final(table: pd.DataFrame, outputs: list[str]) -> None:
    """The final results of each protocol and method: mean and standard deviation over runs, as csv and Markdown."""
    columns = {
        "average_incremental_accuracy": "average",
        "average_incremental_accuracy_without_first": "average without first",
        "last_accuracy": "last",
        "forgetting": "forgetting",
        "backward_transfer": "backward transfer",
    }
    last = table[table["task"] == table.groupby(RUN, observed=True)["task"].transform("max")]
    last = last[last["metric"].isin(columns)].assign(metric=lambda t: t["metric"].map(columns))
    groups = last.groupby([*PROTOCOL, "method", "metric"], observed=True)["value"]
    statistics = groups.agg(["mean", "std", "count"]).unstack("metric")
    names = [c for c in columns.values() if c in statistics["mean"].columns]
    runs = statistics["count"].max(axis=1).astype(int).rename("runs")
    flat = pd.concat([runs, *(statistics[s][n].rename(f"{n} ({s})") for n in names for s in ("mean", "std"))], axis=1)
    lines = [
        "| " + " | ".join([*PROTOCOL, "method", "runs", *names]) + " |",
        "|" + " ---: |" * 2 + " --- |" + " ---: |" * (1 + len(names)),
    ]
    for key, row in flat.iterrows():
        cells = [f"{row[f'{n} (mean)']:.1f}" + (f" ± {row[f'{n} (std)']:.1f}" if row["runs"] > 1 else "") for n in names]
        lines.append("| " + " | ".join([*map(str, key), str(int(row["runs"])), *cells]) + " |")
    for output in outputs:
        text = "\n".join(lines) + "\n" if output.endswith(".md") else flat.round(4).to_csv(lineterminator="\n")
        with writing(output) as temporary:
            temporary.write_text(text)


FIGURES = {"accuracy": accuracy, "final": final}


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw a figure, or write a table, from metrics.csv.")
    parser.add_argument("figure", choices=FIGURES)
    parser.add_argument("--metrics", required=True)
    parser.add_argument("--methods", nargs="+", required=True, help="the methods to show, in this order")
    parser.add_argument("--output", nargs="+", required=True)
    args = parser.parse_args()
    FIGURES[args.figure](read(args.metrics, args.methods), args.output)


if __name__ == "__main__":
    program(main)
