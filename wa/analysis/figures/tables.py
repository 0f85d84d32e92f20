"""The table of final results."""

import pandas as pd

from wa.analysis.figures.table import FINAL, PROTOCOL, at_the_end, mean_and_deviation, read_own
from wa.files import writing
from wa.study.layout import RunTable

COLUMNS = [
    "average_incremental_accuracy",
    "average_incremental_accuracy_without_first",
    "last_accuracy",
    "forgetting",
    "backward_transfer",
]
CSS = (
    "body {font: 14px sans-serif} "
    "td, th {padding: 4px 10px; text-align: right; white-space: nowrap}"
)


def final(study: RunTable, metrics: str, outputs: list[str]) -> None:
    """The final results of each protocol and method, as csv, Markdown and HTML.

    Each cell is the mean and the standard deviation over the runs.
    """
    last = at_the_end(read_own(metrics, study))
    last = last[last["metric"].isin(COLUMNS)].assign(
        metric=lambda t: t["metric"].map(FINAL).astype(str)
    )
    if last.empty:
        return write("no run is finished", outputs)
    groups = last.groupby([*PROTOCOL, "method", "metric"], observed=True)["value"]
    statistics = groups.agg(["mean", "std", "count"]).unstack("metric")
    names = [FINAL[metric] for metric in COLUMNS if FINAL[metric] in statistics["mean"].columns]
    runs = statistics["count"].max(axis=1).astype(int).rename("runs")
    flat = pd.concat(
        [runs, *(statistics[s][n].rename(f"{n} ({s})") for n in names for s in ("mean", "std"))],
        axis=1,
    )
    rows = []
    for key, row in flat.iterrows():
        cells = [*map(str, key), str(int(row["runs"]))]
        for name in names:
            cells.append(mean_and_deviation(row[f"{name} (mean)"], row[f"{name} (std)"]))
        rows.append(cells)
    columns = [*PROTOCOL, "method", "runs", *names]
    html = pd.DataFrame(rows, columns=columns).to_html(index=False, border=0)
    alignment = ["---:", "---:", "---", *["---:"] * (1 + len(names))]
    text = {
        "csv": flat.round(4).to_csv(lineterminator="\n"),
        "md": "".join(f"| {' | '.join(cells)} |\n" for cells in [columns, alignment, *rows]),
        "html": f"<meta charset='utf-8'><style>{CSS}</style>\n{html}",
    }
    write(text, outputs)


def write(text: dict[str, str] | str, outputs: list[str]) -> None:
    """Write a table. text: suffix -> content, or one line for all files."""
    for output in outputs:
        content = text[output.rsplit(".", 1)[1]] if isinstance(text, dict) else text + "\n"
        with writing(output) as temporary:
            temporary.write_text(content, encoding="utf-8")
