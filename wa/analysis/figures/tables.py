"""Tables of results, as csv, Markdown, HTML and LaTeX.

Each function makes one table. It takes the runs, the path of metrics.csv or cost.csv, the look, and
the choices of each method, which only `ablation` needs. It returns a Table, or the reason why there
is none.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import pandas as pd
from pandas.io.formats.style import Styler

from wa.analysis.figures.look import Look
from wa.analysis.figures.table import (
    COMPARED,
    FINAL,
    RUN,
    at_the_end,
    mean_and_deviation,
    read_costs,
    read_own,
)
from wa.analysis.statistics import Difference, by_run, differences
from wa.files import writing
from wa.study.layout import RunTable, protocol_name

WITH_FIRST = "average_incremental_accuracy"
WITHOUT_FIRST = "average_incremental_accuracy_without_first"
# The key first_task of a look -> the averages that tables show.
AVERAGES = {
    "both": [WITH_FIRST, WITHOUT_FIRST],
    "with": [WITH_FIRST],
    "without": [WITHOUT_FIRST],
}
LOWEST_IS_BEST = ("forgetting",)
ABSENT = (0, None, "none", "0")  # values of a choice that does nothing. 0 is False too.
CSS = (
    "body {font: 14px sans-serif; overflow-x: auto} "
    "td, th {padding: 4px 8px; text-align: right; vertical-align: bottom} "
    "td {white-space: nowrap}"  # not the titles, which are long
)
# How a cell is marked: in HTML, and as pandas.Styler writes it in LaTeX.
BEST, CLOSE = "font-weight: bold", "text-decoration: underline"
IN_LATEX = {BEST: "textbf:--rwrap", CLOSE: "underline:--rwrap", "": ""}


class Table(NamedTuple):
    """A table before it is written. The rows of all three frames are the same."""

    numbers: pd.DataFrame  # for the csv file
    words: pd.DataFrame  # for readers: every cell is text
    marks: pd.DataFrame  # BEST, CLOSE or "" for each cell of `words`
    left: set[str]  # the columns of `words` that are not numbers


class Column(NamedTuple):
    """A column of a table, and the rows of metrics.csv that it summarizes: one for each run."""

    title: str
    rows: pd.DataFrame
    best: str | None = "highest"  # or "lowest". None: no value is the best.
    spell: Callable = mean_and_deviation  # mean, deviation -> the text of a cell


def final(study: RunTable, metrics: str, look: Look, choices: dict) -> Table | str:
    """The final results of each protocol and method: mean and standard deviation over the runs."""
    last = at_the_end(read_own(metrics, study))
    names = [*AVERAGES[look.first_task], "last_accuracy", "forgetting", "backward_transfer"]
    return summary(study, final_columns(last, names), look)


def after_each_task(study: RunTable, metrics: str, look: Look, choices: dict) -> Table | str:
    """The accuracy on all classes seen, after each task, and its average over the tasks."""
    own = read_own(metrics, study)
    rows = own[own["metric"] == "accuracy"]
    if look.first_task == "without":
        rows = rows[rows["task"] > 0]
    columns = [
        Column(f"{classes} classes", rows[rows["classes"] == classes])
        for classes in sorted(rows["classes"].unique())
    ]
    return summary(study, columns + final_columns(at_the_end(own), AVERAGES[look.first_task]), look)


TOLD = {"accuracy": "", "task_aware_accuracy": ", task told"}  # metric -> the end of its title


def if_the_task_is_told(study: RunTable, metrics: str, look: Look, choices: dict) -> Table | str:
    """The averages and the last accuracy, beside the same if the task of each image is told."""
    own = read_own(metrics, study)
    if not (own["metric"] == "task_aware_accuracy").any():
        return "no task has been evaluated with its task told"
    last, of_run = at_the_end(own), [*RUN, "protocol"]
    own = own.merge(last[RUN].drop_duplicates(), on=RUN)  # of the runs that are finished
    columns = []
    for name in AVERAGES[look.first_task]:
        tasks = own if name == WITH_FIRST else own[own["task"] > 0]
        for metric, end in TOLD.items():
            rows = tasks[tasks["metric"] == metric]
            means = rows.groupby(of_run, observed=True)["value"].mean().reset_index()
            columns.append(Column(FINAL[name] + end, means))
    for metric, end in TOLD.items():
        columns.append(Column(FINAL["last_accuracy"] + end, last[last["metric"] == metric]))
    return summary(study, [column for column in columns if len(column.rows)], look)


def ablation(study: RunTable, metrics: str, look: Look, choices: dict) -> Table | str:
    """The choices in which the methods differ, and the results of each.

    choices: method -> its choices, as the config has them with all defaults.
    """
    last, reference = at_the_end(read_own(metrics, study)), study.compared_with
    names = [*AVERAGES[look.first_task], "last_accuracy"]
    found = summary(study, final_columns(last, names), look)
    if isinstance(found, str):
        return found
    methods = found.numbers["method"]
    for place, (choice, values) in enumerate(differing(choices).items()):
        found.numbers.insert(3 + place, choice, [values[method] for method in methods])
        found.words.insert(2 + place, choice, [spelled(values[method]) for method in methods])
        found.marks.insert(2 + place, choice, "")
        found.left.add(choice)
    title = f"{FINAL[names[0]]}, difference to {look.label(reference)}"
    rows = last[last["metric"] == names[0]]
    means = {}
    for protocol, of_protocol in rows.groupby("protocol", observed=True):
        if (of_protocol["method"] == reference).any():
            for each in differences(by_run(of_protocol, ["order", "seed"]), reference):
                means[protocol, each.method] = each.mean
    keys = list(zip(found.words["protocol"], methods, strict=True))
    found.numbers[title] = [round(means.get(key, float("nan")), 4) for key in keys]
    found.words[title] = [f"{means[key]:+.1f}" if key in means else "" for key in keys]
    found.marks[title] = ""
    return found


# Metrics of wa.analysis.cost: the title of their column, its unit, and what a run's value is: that
# after the last task, or the sum or the largest of all tasks.
COSTS = {
    "parameters": ("parameters (M)", 1e6, "last"),
    "flops": ("forward pass (GFLOP)", 1e9, "last"),
    "model_mb": ("model (MB)", 1, "last"),
    "memory_mb": ("exemplars (MB)", 1, "last"),
    "seconds": ("training (min)", 60, "sum"),
    "herd_seconds": ("herding (s)", 1, "sum"),
    "align_seconds": ("aligning (s)", 1, "sum"),
    "fit_seconds": ("fitting (s)", 1, "sum"),
    "evaluate_seconds": ("evaluation (s)", 1, "sum"),
    "host_gib": ("host memory (GiB)", 1, "max"),
    "gpu_gib": ("GPU memory (GiB)", 1, "max"),
    "kilojoules": ("energy (kJ)", 1, "sum"),
}


def costs(study: RunTable, costs: str, look: Look, choices: dict) -> Table | str:
    """What a run of each method costs. costs: cost.csv. Runs that are not finished are left out."""
    table = read_costs(costs, study)
    ends = {protocol_name(*each): len(study.sizes(each)) - 1 for each in study.protocols}
    of_run = [*RUN, "protocol"]
    last = table.groupby(of_run, observed=True)["task"].transform("max")
    table = table[last == table["protocol"].astype(str).map(ends)].sort_values("task")
    columns = []
    for metric, (title, unit, of_tasks) in COSTS.items():
        rows = table[table["metric"] == metric]
        if len(rows):
            values = rows.groupby(of_run, observed=True)["value"].agg(of_tasks) / unit
            columns.append(Column(title, values.reset_index(), None, three_digits))
    return summary(study, columns, look)


def three_digits(mean: float, deviation: float) -> str:
    """A cell of the table of costs: "0.0781", or "3.52 ± 0.11"."""
    if pd.isna(mean):
        return ""
    return f"{mean:.3g} ± {deviation:.2g}" if deviation > 0 else f"{mean:.3g}"


def final_columns(last: pd.DataFrame, names: list[str]) -> list[Column]:
    """A column for each metric that is there. last: what at_the_end returns."""
    found = []
    for name in names:
        rows = last[last["metric"] == name]
        if len(rows):
            best = "lowest" if name in LOWEST_IS_BEST else "highest"
            found.append(Column(FINAL[name], rows, best))
    return found


def summary(study: RunTable, columns: list[Column], look: Look) -> Table | str:
    """A row for each protocol and method: mean and standard deviation over the runs.

    The best of each column is bold in HTML and LaTeX, and so is what reads the same. Those that are
    not significantly worse are underlined, where there are runs enough to tell.
    """
    if not columns:
        return "no run is finished"
    every = pd.concat([column.rows for column in columns])
    counts = every.drop_duplicates(RUN).groupby(["protocol", "method"], observed=True).size()
    protocols, methods = zip(*counts.index, strict=True)
    by_name = {protocol_name(*each): each for each in study.protocols}
    base, increment = zip(*(by_name[name] for name in protocols), strict=True)
    numbers = pd.DataFrame({"base": base, "increment": increment, "method": methods})
    numbers["runs"] = counts.to_numpy()
    words = pd.DataFrame({"protocol": protocols, "method": [look.label(m) for m in methods]})
    words["runs"] = counts.astype(str).to_numpy()
    marks = pd.DataFrame("", index=words.index, columns=words.columns)
    for column in columns:
        groups = column.rows.groupby(["protocol", "method"], observed=True)["value"]
        found = groups.agg(["mean", "std"]).reindex(counts.index)
        numbers[f"{column.title} (mean)"] = found["mean"].round(4).to_numpy()
        numbers[f"{column.title} (std)"] = found["std"].round(4).to_numpy()
        pairs = zip(found["mean"], found["std"], strict=True)
        words[column.title] = [column.spell(*pair) for pair in pairs]
        by_row, cells = marked(column), dict(zip(counts.index, words[column.title], strict=True))
        best = {(key[0], cells[key]) for key, mark in by_row.items() if mark == BEST}
        marks[column.title] = [
            BEST
            if (protocol, cells[protocol, method]) in best
            else by_row.get((protocol, method), "")
            for protocol, method in counts.index
        ]
    return Table(numbers, words, marks, {"protocol", "method"})


def marked(column: Column) -> dict[tuple[str, str], str]:
    """(protocol, method) -> the mark of the best method, and of those not significantly worse."""
    sign, found = {"highest": 1, "lowest": -1}.get(column.best), {}
    if sign is None:
        return found
    for protocol, rows in column.rows.groupby("protocol", observed=True):
        values = by_run(rows, ["order", "seed"])
        best = (sign * values.mean()).idxmax()
        found[protocol, best] = BEST
        for each in differences(values, best):
            if each.p_holm >= 0.05:  # false where p is nan
                found[protocol, each.method] = CLOSE
    return found


def differing(choices: dict[str, dict]) -> dict[str, dict]:
    """The choices in which methods differ: choice -> method -> its value."""
    flat = {method: flattened(values) for method, values in choices.items()}
    names = dict.fromkeys(name for values in flat.values() for name in values)
    found = {}
    for name in names:
        values = {method: of_method.get(name) for method, of_method in flat.items()}
        same_for_task_0 = name.startswith("base.") and values == found.get(name[len("base.") :])
        if len({str(value) for value in values.values()}) > 1 and not same_for_task_0:
            found[name] = values
    return found


def flattened(choices: dict) -> dict:
    """The choices of a method. Those of `training`, and of its `base`, stand beside the others."""
    training = choices.get("training", {})
    base = training.get("base", {})
    found = {name: value for name, value in choices.items() if name != "training"}
    found |= {name: value for name, value in training.items() if name != "base"}
    return found | {f"base.{name}": value for name, value in base.items()}


def spelled(value: object) -> str:
    """A choice as a cell of a table."""
    if value in ABSENT:
        return "–"
    if value is True:
        return "yes"
    if isinstance(value, dict):
        return ", ".join(f"{key} {each}" for key, each in value.items()) or "–"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def differences_to_reference(
    study: RunTable, metrics: str, look: Look, choices: dict
) -> Table | str:
    """Each method's mean difference to the reference over the same runs, in points."""
    last, reference = at_the_end(read_own(metrics, study)), study.compared_with
    by_name = {protocol_name(*protocol): protocol for protocol in study.protocols}
    numbers, words = [], []
    for (protocol, metric), rows in last.groupby(["protocol", "metric"], observed=True):
        if metric not in compared(look) or not (rows["method"] == reference).any():
            continue
        for each in differences(by_run(rows, ["order", "seed"]), reference):
            key = FINAL[metric], f"{each.method} - {reference}", each.pairs
            numbers.append((*by_name[protocol], *key, *each[2:]))
            names = f"{look.label(each.method)} - {look.label(reference)}"
            words.append((protocol, FINAL[metric], names, str(each.pairs), *in_words(each)))
    if not words:
        return f"no other method has a finished run beside {reference}"
    key = ["metric", "methods", "pairs", "difference"]
    flat = pd.DataFrame(
        numbers, columns=["base", "increment", *key, "low", "high", "p", "p (Holm)"]
    ).round({"difference": 4, "low": 4, "high": 4})
    table = pd.DataFrame(words, columns=["protocol", *key, "95 % interval", "p", "p (Holm)"])
    marks = pd.DataFrame("", index=table.index, columns=table.columns)
    marks.loc[flat["p (Holm)"] < 0.05, "difference"] = BEST
    return Table(flat, table, marks, {"protocol", "metric", "methods"})


def compared(look: Look) -> tuple[str, ...]:
    """The metrics that are compared, with the average that the look asks for."""
    without = {WITH_FIRST: WITHOUT_FIRST} if look.first_task == "without" else {}
    return tuple(without.get(metric, metric) for metric in COMPARED)


def in_words(each: Difference) -> tuple[str, str, str, str]:
    """The cells of a Difference: its mean, its interval, and both p-values."""
    interval = f"{each.low:+.1f} to {each.high:+.1f}" if each.pairs > 1 else "one pair"
    if pd.isna(each.p):
        return f"{each.mean:+.1f}", interval, "too few runs", "too few runs"
    return f"{each.mean:+.1f}", interval, f"{each.p:.2g}", f"{each.p_holm:.2g}"


def markdown(table: Table) -> str:
    header = list(table.words.columns)
    rule = ["---" if name in table.left else "---:" for name in header]
    lines = [header, rule, *table.words.to_numpy().tolist()]
    text = ""
    for line in lines:
        cells = [cell.replace("|", "\\|") for cell in line]
        text += f"| {' | '.join(cells)} |\n"
    return text


def styled(table: Table, escape: str) -> Styler:
    """The table with its marks. escape: `html` or `latex`."""
    marks = table.marks.map(IN_LATEX.get) if escape == "latex" else table.marks
    styler = table.words.style.hide(axis="index").set_uuid("table").format(escape=escape)
    styler = styler.set_table_attributes('class="dataframe"').format_index(escape=escape, axis=1)
    return styler.apply(lambda _: marks, axis=None)


def html(table: Table) -> str:
    return f"<meta charset='utf-8'><style>{CSS}</style>\n{styled(table, 'html').to_html()}"


def latex(table: Table) -> str:
    """The table for a paper. It needs the package booktabs, and no other."""
    columns = "".join("l" if name in table.left else "r" for name in table.words)
    text = styled(table, "latex").to_latex(hrules=True, column_format=columns)
    text = re.sub(r"(?<=[\s{])-(?=\d)", "$-$", text)  # a minus, and no hyphen
    return "% \\usepackage{booktabs}\n" + text.replace("±", "$\\pm$")


def csv(table: Table) -> str:
    return table.numbers.to_csv(index=False, lineterminator="\n")


FORMATS = {"csv": csv, "md": markdown, "html": html, "tex": latex}  # by the suffix of the file


def write(table: Table | str, outputs: list[str]) -> None:
    """Write a table in the format of each suffix. table: or the reason why there is none."""
    for output in outputs:
        is_table = isinstance(table, Table)
        text = FORMATS[output.rsplit(".", 1)[1]](table) if is_table else table + "\n"
        with writing(output) as temporary:
            temporary.write_text(text, encoding="utf-8")
