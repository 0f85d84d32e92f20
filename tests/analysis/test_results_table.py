"""The table of results: statistics over runs, and published numbers where they belong."""

import re

import pandas as pd
import pytest
import yaml
from helpers import ROOT, program

from wa.analysis.aggregate import COLUMNS
from wa.analysis.figures.table import mean_and_deviation, without_norms
from wa.analysis.results_table import published
from wa.study.config import SCHEMA
from wa.study.layout import RunTable
from wa.study.study import Study

KNOWN = yaml.safe_load((ROOT / "docs/published.yaml").read_text())


def metrics(folder, base: int, increment: int):
    """Write metrics.csv: wa's two runs end at 50 and 53 (aligned), iCaRL's at 40 (nme)."""
    rows = []
    for method, seed, classifier, last in (
        ("wa", 0, "aligned", 50.0),
        ("wa", 1, "aligned", 53.0),
        ("icarl", 0, "nme", 40.0),
    ):
        key = ("x", "1993", seed, base, increment, method)
        for task, classes in ((0, base), (1, base + increment)):
            trained = (*key, task, classes, "trained", "false")
            rows.append((*trained, "average_incremental_accuracy", 1.0))
            rows.append(
                (*key, task, classes, classifier, "true", "accuracy", last + 30 * (not task))
            )
        own = (*key, 1, base + increment, classifier, "true")
        rows += [
            (*trained, "last_accuracy", 2.0),
            (*own, "last_accuracy", last),
            (*own, "average_incremental_accuracy", 60.0),
            (*own, "average_incremental_top5_accuracy", 90.0),
            (*own, "top5_accuracy", 80.0),
        ]
    pd.DataFrame(rows, columns=COLUMNS).to_csv(folder / "metrics.csv", index=False)


def table_of(base: int, increment: int) -> str:
    methods = ["icarl", "wa"]
    return RunTable("results/x", "x", ["1993"], [0], [(base, increment)], methods, 100).to_json()


@pytest.mark.parametrize(
    "base, increment, wa, icarl, sources",
    [
        (50, 10, "64.32 (survey) | 55.85 (survey)", "61.29 (survey) | 52.04 (survey)", ["survey"]),
        (
            20,
            20,
            "68.51 (survey), 72.81 (der), 70.0 (paper) | 57.97 (survey), 60.84 (der), 59.2 (paper)",
            None,
            ["survey", "der", "paper"],
        ),
        (30, 25, " | ", " | ", []),
    ],
)
def test_table(tmp_path, base, increment, wa, icarl, sources):
    metrics(tmp_path, base, increment)
    study = table_of(base, increment)
    options = ["--study", study, "--metrics", tmp_path / "metrics.csv", "--dataset", "cifar100"]
    options += [
        "--settings",
        '{"recipe": "pycil"}',
        "--published",
        ROOT / "docs/published.yaml",
        "--output",
        tmp_path / "r.md",
    ]
    run = program("wa.analysis.results_table", *options)
    assert run.returncode == 0, run.stdout
    text = (tmp_path / "r.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith(f"| {base} |")]
    assert rows[1] == f"| {base} | {increment} | wa | 2 | 60.0 ± 0.0 |  | 51.5 ± 2.1 | {wa} |"
    assert rows[0].startswith(f"| {base} | {increment} | icarl | 1 | 60.0 |  | 40.0 | ")
    assert ("| wa (paper) | 83.5 | 75.5 |" in text) == ("paper" in sources)
    assert icarl is None or rows[0].endswith(f"| {icarl} |")
    assert [name for name in KNOWN["sources"] if f"- **{name}**" in text] == sources
    assert "recipe: pycil" in text


def test_an_increment_may_be_text():
    """It is, in a table that has a protocol of unequal tasks too."""
    found = published(KNOWN, "cifar100", ("10", "10"), "wa")
    assert found and found == published(KNOWN, "cifar100", (10, 10), "wa")
    assert published(KNOWN, "cifar100", ("20", "30-50"), "wa") == []


def test_of_imagenet_the_five_best_count_too(tmp_path):
    metrics(tmp_path, 10, 10)
    study = table_of(10, 10)
    options = [
        "--study",
        study,
        "--metrics",
        tmp_path / "metrics.csv",
        "--dataset",
        "imagenet100",
        "--settings",
        "{}",
    ]
    run = program(
        "wa.analysis.results_table",
        *options,
        "--published",
        ROOT / "docs/published.yaml",
        "--output",
        tmp_path / "r.md",
    )
    assert run.returncode == 0, run.stdout
    _, final, tasks = re.split(r"\n\n(?=\|)", (tmp_path / "r.md").read_text())
    header, line, _, wa = final.split("\n\n")[0].splitlines()
    assert "| last | average top-5 | last top-5 | published average |" in header and header.count(
        "|"
    ) == line.count("|")
    assert wa == (
        "| 10 | 10 | wa | 2 | 60.0 ± 0.0 |  | 51.5 ± 2.1 | 90.0 ± 0.0 | 80.0 ± 0.0 |  |  "
        "| 91.0 (dytox) | 84.1 (dytox) |"
    )
    per_task = tasks.split("\n")
    assert per_task[0] == "| method | 10 | 20 |"
    assert per_task[3] == "| wa | 81.5 | 51.5 |"


def test_published_numbers_have_sources_and_methods_are_right(tmp_path):
    page = (ROOT / "docs/methods.md").read_text()

    def block(start: str) -> dict:
        return yaml.safe_load(page.split(start)[1].split("```yaml\n")[1].split("```")[0])

    methods = block("## The methods\n")
    names = methods["methods"] | block("## Algorithms\n")["methods"]
    config = {
        "experiment": "x",
        "dataset": "cifar100",
        "protocols": [{"base": 50, "increment": 10}],
    }
    assert len(list(Study(config | methods, str(tmp_path)).runs())) == 11
    for entry in KNOWN["results"]:
        assert entry["source"] in KNOWN["sources"] and entry["method"] in names
        assert entry["base"] >= entry["increment"]
        for suffix in ("", "_top5"):
            last, average = entry.get(f"last{suffix}", 1), entry.get(f"average{suffix}", 99)
            assert 0 < last <= average < 100
        if "tasks" in entry:
            assert entry["tasks"][-1] == entry["last"]
            assert sum(entry["tasks"]) / len(entry["tasks"]) == pytest.approx(entry["average"])


def test_the_documentation_names_every_choice():
    schema = yaml.safe_load(SCHEMA.read_text())["properties"]["methods"]["additionalProperties"][
        "properties"
    ]
    text = (ROOT / "docs/methods.md").read_text()
    for key in schema:
        assert f"`{key}`" in text, key


def test_only_the_norms_of_rows_are_left_out(tmp_path):
    """A method or a class may be named row_norm_1 too."""
    norm = "x,1993,0,10,10,wa,0,10,trained,true,row_norm_1,0.5\n"
    kept = "x,1993,0,10,10,row_norm_1,0,10,trained,true,accuracy,50.0\n"
    kept += "x,1993,0,10,10,wa,0,10,trained,true,row_norm_1,50,20.0\n"  # of classes.csv
    (tmp_path / "metrics.csv").write_text(norm + kept + norm, encoding="utf-8")
    assert without_norms(str(tmp_path / "metrics.csv")).read().decode() == kept


def test_a_cell_leaves_out_what_is_missing():
    nan = float("nan")
    assert mean_and_deviation(51.52, 2.13) == "51.5 ± 2.1"
    assert mean_and_deviation(51.52, nan) == "51.5"
    assert mean_and_deviation(nan, nan) == ""
