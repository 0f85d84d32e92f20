"""The tables for papers: what is bold, what is underlined, and whether TeX can read them."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from wa.analysis.aggregate import COLUMNS
from wa.analysis.figures.look import Look
from wa.analysis.figures.tables import (
    ablation,
    after_each_task,
    differences_to_reference,
    final,
    if_the_task_is_told,
    write,
)
from wa.study.layout import RunTable

PLAIN = Look()
CHOICES = {
    "kd_1": {"memory": 20, "distillation": 0.5, "alignment": "none", "training": {"epochs": 20}},
    "wa": {"memory": 20, "distillation": 0.5, "alignment": "weight", "training": {"epochs": 20}},
    "alike": {"memory": 20, "distillation": 0.5, "alignment": "none", "training": {"epochs": 30}},
    "replay": {"memory": 20, "distillation": 0.0, "alignment": "none", "training": {"epochs": 20}},
}
METHODS = {"kd_1": -3.0, "wa": 0.0, "alike": -0.01, "replay": -8.0}


def study(folder: Path, orders: int) -> RunTable:
    """metrics.csv of one protocol, whose methods differ by the points in METHODS."""
    rng, rows = np.random.default_rng(0), []
    names = [str(order) for order in range(orders)]
    table = RunTable(str(folder), "x", names, [0, 1], [(10, 10)], list(METHODS), 100)
    for run in table.runs():
        hard = 60 + int(run.order) + run.seed
        for metric, sign in (("average_incremental_accuracy", 1), ("forgetting", -1)):
            value = hard + sign * (METHODS[run.method] + rng.normal(0, 0.3))
            rows.append(("x", *run[:5], 9, 100, "trained", "true", metric, value))
        rows.append(("x", *run[:5], 9, 100, "trained", "true", "last_accuracy", hard))
    pd.DataFrame(rows, columns=COLUMNS).to_csv(folder / "metrics.csv", index=False)
    return table


def written(function, table: RunTable, folder: Path, look: Look = PLAIN) -> dict[str, str]:
    """The table by suffix."""
    files = {kind: folder / f"table.{kind}" for kind in ("csv", "md", "html", "tex")}
    made = function(table, str(folder / "metrics.csv"), look, CHOICES)
    write(made, list(map(str, files.values())))
    return {kind: file.read_text() for kind, file in files.items()}


def row(text: str, method: str) -> str:
    return next(line for line in text.splitlines() if f" {method} " in line)


def test_the_best_is_bold_and_what_is_not_worse_underlined(tmp_path):
    table = study(tmp_path, orders=5)
    flat = pd.read_csv(tmp_path / "metrics.csv")
    flat.loc[(flat["method"] == "alike") & (flat["metric"] == "forgetting"), "value"] += 0.1
    flat.to_csv(tmp_path / "metrics.csv", index=False)
    text = written(final, table, tmp_path)["tex"]
    best, alike, worse = (row(text, name) for name in ("wa", "alike", "replay"))
    assert best.count("textbf") >= 2 and r"\underline{62.6" in alike.rpartition("&")[2]
    # The lowest forgetting is the best. The last accuracies are all the same.
    assert worse.count("textbf") + worse.count("underline") <= 1
    assert r"kd\_1" in text and r"$\pm$" in text and r"\toprule" in text


def test_all_that_read_the_same_as_the_best_are_bold(tmp_path):
    table = study(tmp_path, orders=1)
    flat = pd.read_csv(tmp_path / "metrics.csv")
    values = {"kd_1": 70.04, "wa": 70.01, "alike": 69.96, "replay": 69.94}  # 70.0 or 69.9
    flat["value"] = flat["method"].map(values)
    flat[flat["seed"] == 0].to_csv(tmp_path / "metrics.csv", index=False)
    text = written(final, replace(table, seeds=[0]), tmp_path)
    same = r"\textbf{70.0} & \textbf{70.0} & 70.0"
    assert all(same in row(text["tex"], name) for name in (r"kd\_1", "wa", "alike"))
    assert r"& 69.9 & 69.9 & \textbf{69.9}" in row(text["tex"], "replay")  # forgets least
    bold = "row0_col3, #T_table_row0_col4, #T_table_row1_col3, #T_table_row1_col4, #T_table_row2"
    assert bold in text["html"]


def test_with_few_runs_nothing_is_underlined(tmp_path):
    text = written(final, study(tmp_path, orders=2), tmp_path)["tex"]
    assert "underline" not in text and "textbf" in text


def test_the_numbers_are_in_the_csv(tmp_path):
    table = study(tmp_path, orders=5)
    flat = pd.read_csv(tmp_path / "metrics.csv")
    wa = flat[(flat["method"] == "wa") & (flat["metric"] == "average_incremental_accuracy")][
        "value"
    ]
    written(final, table, tmp_path)
    read = pd.read_csv(tmp_path / "table.csv").set_index("method")
    assert read.loc["wa", "average (mean)"] == pytest.approx(wa.mean(), abs=1e-4)
    assert read.loc["wa", "average (std)"] == pytest.approx(wa.std(), abs=1e-4)
    assert read.loc["wa", "runs"] == 10


def test_paired_intervals_are_narrower_than_unpaired_ones(tmp_path):
    from scipy import stats

    table = study(tmp_path, orders=5)
    text = written(differences_to_reference, table, tmp_path)
    read = pd.read_csv(tmp_path / "table.csv")
    read = read[read["metric"] == "average"].set_index("methods")
    wa = read.loc["wa - kd_1"]  # the first method is the reference
    assert wa["difference"] == pytest.approx(3, abs=0.3) and wa["p (Holm)"] < 0.05
    flat = pd.read_csv(tmp_path / "metrics.csv")
    flat = flat[flat["metric"] == "average_incremental_accuracy"]
    values = [flat[flat["method"] == name]["value"] for name in ("wa", "kd_1")]
    unpaired = stats.ttest_ind(*values, equal_var=False).confidence_interval()
    assert (unpaired.high - unpaired.low) > 1.5 * (wa["high"] - wa["low"])
    assert "too few" not in text["md"]
    written(differences_to_reference, study(tmp_path, orders=10), tmp_path)
    read = pd.read_csv(tmp_path / "table.csv")
    assert read["p"].min() > 0 and read["p"].round(4).min() == 0  # no p is 0
    few = written(differences_to_reference, study(tmp_path, orders=2), tmp_path)["md"]
    assert few.count("too few runs") == 2 * 2 * 3


def test_the_accuracies_after_each_task(tmp_path):
    table = study(tmp_path, orders=5)
    flat = pd.read_csv(tmp_path / "metrics.csv")
    first, second = (flat[flat["metric"] == "last_accuracy"].copy() for _ in range(2))
    first["task"], first["classes"] = 0, 10
    both = pd.concat([first, second]).assign(metric="accuracy")
    both.loc[both["task"] == 9, "value"] -= 5
    pd.concat([flat, both]).to_csv(tmp_path / "metrics.csv", index=False)
    header, _, *rows = written(after_each_task, table, tmp_path)["md"].splitlines()
    assert header == "| protocol | method | runs | 10 classes | 100 classes | average |"
    cells = row("\n".join(rows), "wa").strip("| ").split(" | ")
    last = second[second["method"] == "wa"]["value"]
    assert cells[:3] == ["base 10, increment 10", "wa", "10"]
    assert cells[3:5] == [f"{last.mean() - less:.1f} ± {last.std():.1f}" for less in (0, 5)]
    without = written(after_each_task, table, tmp_path, Look(first_task="without"))["md"]
    assert "10 classes" not in without.replace("100 classes", "") and "100 classes" in without


def test_the_accuracies_if_the_task_is_told(tmp_path):
    """Averages are those that the aggregation writes, but for the task 0 that it always counts."""
    table, rows = study(tmp_path, orders=5), []
    for number, run in enumerate(table.runs()):
        for task, told in enumerate((90, 80 + number, 70 - number)):
            key = "x", *run[:5], task, 10 * (task + 1), "trained", "true"
            rows += [(*key, "accuracy", told / 2), (*key, "task_aware_accuracy", told)]
        rows.append((*key, "last_accuracy", told / 2))
    pd.DataFrame(rows, columns=COLUMNS).to_csv(tmp_path / "metrics.csv", index=False)
    header, _, *_ = written(if_the_task_is_told, table, tmp_path)["md"].splitlines()
    titles = ["average", "average without first", "last"]
    columns = [title + end for title in titles for end in ("", ", task told")]
    assert header == f"| protocol | method | runs | {' | '.join(columns)} |"
    read = pd.read_csv(tmp_path / "table.csv").set_index("method").loc["wa"]
    for title, value in zip(titles, (80, 75, 70 - np.mean(range(1, 40, 4))), strict=True):
        assert read[f"{title}, task told (mean)"] == pytest.approx(value)
        assert read[f"{title} (mean)"] == pytest.approx(value / 2)
    without = written(if_the_task_is_told, table, tmp_path, Look(first_task="without"))["md"]
    assert "| runs | average without first | average without first, task told |" in without


def test_no_table_where_no_task_was_told(tmp_path):
    text = written(if_the_task_is_told, study(tmp_path, orders=2), tmp_path)["md"]
    assert text == "no task has been evaluated with its task told\n"


def test_the_ablation_has_the_choices_that_differ(tmp_path):
    table = study(tmp_path, orders=5)
    text = written(ablation, table, tmp_path, Look(labels={"wa": "WA & ours"}))
    header, _, *rows = text["md"].splitlines()
    assert header.startswith("| protocol | method | distillation | alignment | epochs | runs | av")
    assert header.endswith("| last | average, difference to kd_1 |")
    assert rows[1].startswith("| base 10, increment 10 | WA & ours | 0.5 | weight | 20 | 10 |")
    assert rows[3].startswith("| base 10, increment 10 | replay | – | – | 20 | 10 |")
    read = pd.read_csv(tmp_path / "table.csv").set_index("method")
    values = read["average (mean)"]
    difference = read["average, difference to kd_1"]
    assert difference["replay"] == pytest.approx(values["replay"] - values["kd_1"], abs=1e-3)
    assert np.isnan(difference["kd_1"]) and rows[0].endswith("|  |")
    assert r"WA \& ours" in text["tex"] and "WA &amp; ours" in text["html"]


def test_the_first_task_counts_or_not(tmp_path):
    table = study(tmp_path, orders=2)
    flat = pd.read_csv(tmp_path / "metrics.csv")
    more = flat[flat["metric"] == "average_incremental_accuracy"].copy()
    more["metric"] += "_without_first"
    pd.concat([flat, more]).to_csv(tmp_path / "metrics.csv", index=False)
    for first_task, names in (
        ("both", ["average", "average without first"]),
        ("with", ["average"]),
        ("without", ["average without first"]),
    ):
        look = Look(first_task=first_task)
        header = written(final, table, tmp_path, look)["md"].splitlines()[0]
        assert f"| runs | {' | '.join(names)} | last |" in header
        compared = written(differences_to_reference, table, tmp_path, look)["md"]
        assert ("average without first" in compared) == (first_task == "without")


def test_tasks_by_name_are_named_so(tmp_path):
    table = study(tmp_path, orders=2)
    flat = pd.read_csv(tmp_path / "metrics.csv").assign(increment="named")
    flat.to_csv(tmp_path / "metrics.csv", index=False)
    named = replace(table, protocols=[(10, "named")], named=[["a"] * 10] * 10)
    for function in (final, differences_to_reference):
        assert "| tasks by name |" in written(function, named, tmp_path)["md"]


def has_tex() -> bool:
    """Whether TeX and booktabs are installed."""
    if not (shutil.which("pdflatex") and shutil.which("kpsewhich")):
        return False
    return subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True).returncode == 0


@pytest.mark.skipif(not has_tex(), reason="there is no TeX with booktabs here")
@pytest.mark.parametrize("function", [final, after_each_task, ablation, differences_to_reference])
def test_tex_reads_it(function, tmp_path):
    text = written(function, study(tmp_path, orders=5), tmp_path)["tex"]
    page = r"\documentclass{article}\usepackage{booktabs}\begin{document}" + text
    (tmp_path / "page.tex").write_text(page + r"\end{document}")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "page.tex"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-2000:]
    assert not re.search("(Missing|Undefined)", run.stdout)
