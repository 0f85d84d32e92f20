"""Tables of results, as csv, Markdown, HTML and LaTeX."""

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from wa.analysis.figures.table import FINAL, PROTOCOL, at_the_end, mean_and_deviation, read_own
from wa.analysis.statistics import Difference, by_run, differences
from wa.files import writing
from wa.study.layout import RunTable

# The columns of the table of final results. True: the highest is the best.
COLUMNS = {
    "average_incremental_accuracy": True,
    "average_incremental_accuracy_without_first": True,
    "last_accuracy": True,
    "forgetting": False,
    "backward_transfer": True,
}
COMPARED = ("average_incremental_accuracy", "last_accuracy")  # in the table of differences
CSS = (
    "body {font: 14px sans-serif; overflow-x: auto} "
    "td, th {padding: 4px 8px; text-align: right; vertical-align: bottom} "
    "td {white-space: nowrap}"  # not the titles, which are long
)
# How a cell is marked: in HTML, and as pandas.Styler writes it in LaTeX.
BEST, CLOSE = "font-weight: bold", "text-decoration: underline"
IN_LATEX = {BEST: "textbf:--rwrap", CLOSE: "underline:--rwrap", "": ""}


def final(study: RunTable, metrics: str, outputs: list[str]) -> None:
    """The final results of each protocol and method: mean and standard deviation over the runs.

    The best of each column is bold in HTML and LaTeX. Those that are not significantly worse are
    underlined, where there are runs enough to tell.
    """
    last = at_the_end(read_own(metrics, study))
    last = last[last["metric"].isin(COLUMNS)]
    if last.empty:
        return write("no run is finished", outputs)
    groups = last.groupby([*PROTOCOL, "method", "metric"], observed=True)["value"]
    statistics = groups.agg(["mean", "std", "count"]).unstack("metric")
    shown = [metric for metric in COLUMNS if metric in statistics["mean"].columns]
    runs = statistics["count"].max(axis=1).astype(int).rename("runs")
    flat = {"runs": runs}
    for metric in shown:
        for name in ("mean", "std"):
            flat[f"{FINAL[metric]} ({name})"] = statistics[name, metric]
    cells = pd.DataFrame({"runs": runs.astype(str)}, index=statistics.index)
    marks = pd.DataFrame("", index=statistics.index, columns=["runs", *map(FINAL.get, shown)])
    for metric in shown:
        pairs = zip(statistics["mean", metric], statistics["std", metric], strict=True)
        cells[FINAL[metric]] = [mean_and_deviation(*pair) for pair in pairs]
        mark(marks, last[last["metric"] == metric], metric)
    write(texts(pd.DataFrame(flat).round(4), cells, marks), outputs)


def mark(marks: pd.DataFrame, rows: pd.DataFrame, metric: str) -> None:
    """Mark the best method of each protocol, and those not significantly worse, in place.

    marks: (base, increment, method) x columns. rows: of the metric.
    """
    sign = 1 if COLUMNS[metric] else -1
    for protocol, of_protocol in rows.groupby(PROTOCOL, observed=True):
        values = by_run(of_protocol, ["order", "seed"])
        best = (sign * values.mean()).idxmax()
        marks.loc[(*protocol, best), FINAL[metric]] = BEST
        for each in differences(values, best):
            if each.p_holm >= 0.05:  # false where p is nan
                marks.loc[(*protocol, each.method), FINAL[metric]] = CLOSE


def differences_to_reference(study: RunTable, metrics: str, outputs: list[str]) -> None:
    """Each method's mean difference to the reference over the same runs, in points."""
    last = at_the_end(read_own(metrics, study))
    reference = study.compared_with
    rows, numbers = [], []
    for (*protocol, metric), found in last.groupby([*PROTOCOL, "metric"], observed=True):
        if metric not in COMPARED or not (found["method"] == reference).any():
            continue
        for each in differences(by_run(found, ["order", "seed"]), reference):
            key = (*protocol, FINAL[metric], f"{each.method} - {reference}", each.pairs)
            numbers.append((*key, each.mean, each.low, each.high, each.p, each.p_holm))
            rows.append((*key, *in_words(each)))
    if not rows:
        return write(f"no other method has a finished run beside {reference}", outputs)
    index = [*PROTOCOL, "metric", "methods", "pairs"]
    flat = pd.DataFrame(numbers, columns=[*index, "difference", "low", "high", "p", "p (Holm)"])
    columns = [*index, "difference", "95 % interval", "p", "p (Holm)"]
    cells = pd.DataFrame(rows, columns=columns).astype(str).set_index(index)
    marks = pd.DataFrame("", index=cells.index, columns=cells.columns)
    significant = np.flatnonzero(flat["p (Holm)"] < 0.05)
    marks.iloc[significant, 0] = BEST
    write(texts(flat.set_index(index).round(4), cells, marks), outputs)


def in_words(each: Difference) -> tuple[str, str, str, str]:
    """The cells of a Difference: its mean, its interval, and both p-values."""
    interval = f"{each.low:+.1f} to {each.high:+.1f}" if each.pairs > 1 else "one pair"
    if np.isnan(each.p):
        return f"{each.mean:+.1f}", interval, "too few runs", "too few runs"
    return f"{each.mean:+.1f}", interval, f"{each.p:.2g}", f"{each.p_holm:.2g}"


def texts(flat: pd.DataFrame, cells: pd.DataFrame, marks: pd.DataFrame) -> dict[str, str]:
    """A table in each format, by suffix. flat: its numbers. cells: its words. marks: as in BEST."""
    words = cells.reset_index().astype(str)
    first = words.shape[1] - cells.shape[1]  # columns that name the row
    header = list(words.columns)
    rule = ["---" if name in ("method", "methods", "metric") else "---:" for name in header]
    lines = [header, rule, *words.to_numpy().tolist()]

    def styled(translation: dict[str, str] | None) -> Styler:
        props = marks.map(translation.get) if translation else marks
        styles = pd.DataFrame("", index=words.index, columns=words.columns)
        styles.iloc[:, first:] = props.to_numpy()
        escape = "latex" if translation else "html"
        styler = words.style.hide(axis="index").set_uuid("table").format(escape=escape)
        styler = styler.set_table_attributes('class="dataframe"')
        return styler.format_index(escape=escape, axis=1).apply(lambda _: styles, axis=None)

    return {
        "csv": flat.to_csv(lineterminator="\n"),
        "md": "".join(f"| {' | '.join(line)} |\n" for line in lines),
        "html": f"<meta charset='utf-8'><style>{CSS}</style>\n{styled(None).to_html()}",
        "tex": latex(styled(IN_LATEX), rule),
    }


def latex(styler: Styler, rule: list[str]) -> str:
    """The table for a paper. It needs the package booktabs, and no other."""
    columns = "".join("l" if each == "---" else "r" for each in rule)
    text = styler.to_latex(hrules=True, column_format=columns)
    return "% \\usepackage{booktabs}\n" + text.replace("±", "$\\pm$").replace("−", "$-$")


def write(text: dict[str, str] | str, outputs: list[str]) -> None:
    """Write a table. text: suffix -> content, or one line for all files."""
    for output in outputs:
        content = text[output.rsplit(".", 1)[1]] if isinstance(text, dict) else text + "\n"
        with writing(output) as temporary:
            temporary.write_text(content, encoding="utf-8")
