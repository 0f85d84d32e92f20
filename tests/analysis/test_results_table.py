"""The table of results: statistics over runs, and published numbers where they belong."""

import pandas as pd
import pytest
import yaml
from helpers import ROOT, program

from wa.analysis.aggregate import COLUMNS
from wa.analysis.figures.table import mean_and_deviation
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
        (
            50,
            10,
            "about 64 (PyCIL) | about 56 (PyCIL)",
            "about 61 (PyCIL) | about 52 (PyCIL)",
            ["PyCIL"],
        ),
        (
            20,
            20,
            "about 69 (PyCIL), 70.0 (paper) | about 58 (PyCIL), 59.2 (paper)",
            None,
            ["PyCIL", "paper"],
        ),
        (50, 25, " | ", " | ", []),
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
    assert icarl is None or rows[0].endswith(f"| {icarl} |")
    assert [name for name in KNOWN["sources"] if f"- **{name}**" in text] == sources
    assert "recipe: pycil" in text


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
    header, line, _, wa = (
        line for line in (tmp_path / "r.md").read_text().splitlines() if line.startswith("|")
    )
    assert "| last | average top-5 | last top-5 | published average |" in header and header.count(
        "|"
    ) == line.count("|")
    assert wa == "| 10 | 10 | wa | 2 | 60.0 ± 0.0 |  | 51.5 ± 2.1 | 90.0 ± 0.0 | 80.0 ± 0.0 |  |  |"


def test_published_numbers_have_sources_and_methods_are_right(tmp_path):
    methods = yaml.safe_load(
        (ROOT / "docs/methods.md")
        .read_text()
        .split("## The methods\n\n```yaml\n")[1]
        .split("```")[0]
    )
    config = {
        "experiment": "x",
        "dataset": "cifar100",
        "protocols": [{"base": 50, "increment": 10}],
    }
    assert len(list(Study(config | methods, str(tmp_path)).runs())) == 11
    for entry in KNOWN["results"]:
        assert entry["source"] in KNOWN["sources"] and entry["method"] in methods["methods"]
        assert 0 < entry["last"] <= entry["average"] < 100 and entry["base"] >= entry["increment"]


def test_the_documentation_names_every_choice():
    schema = yaml.safe_load(SCHEMA.read_text())["properties"]["methods"]["additionalProperties"][
        "properties"
    ]
    text = (ROOT / "docs/methods.md").read_text()
    for key in schema:
        assert f"`{key}`" in text, key


def test_a_cell_leaves_out_what_is_missing():
    nan = float("nan")
    assert mean_and_deviation(51.52, 2.13) == "51.5 ± 2.1"
    assert mean_and_deviation(51.52, nan) == "51.5"
    assert mean_and_deviation(nan, nan) == ""
