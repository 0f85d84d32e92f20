"""The best of each sweep, and the config that runs it on the test images."""

import json
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import yaml
from helpers import program, small_study

from wa.analysis.aggregate import COLUMNS
from wa.analysis.figures.drawing import Styles, on_paper
from wa.analysis.figures.look import Look
from wa.analysis.sweep import BY, Point, best_config, best_of, draw, read_points
from wa.errors import command
from wa.study.layout import RunTable
from wa.study.study import Study

# The accuracies of two runs. The best means are those of wa-memory-30, and of kd-clip, which ties.
RUNS = {
    "wa-memory-20": (70, 71),
    "wa-memory-30": (60, 90),
    "wa-memory-40": (72, 73),
    "kd-clip": (50, 60),
    "kd-no-clip": (55, 55),
    "finetune": (99, 99),
}
SWEEPS = {"wa": [f"wa-memory-{n}" for n in (20, 30, 40)], "kd": ["kd-clip", "kd-no-clip"]}


def invented(folder: Path, left_out: str = "") -> RunTable:
    """metrics.csv of RUNS. left_out: a method whose second run is not finished."""
    table = RunTable(str(folder), "x", ["1"], [0, 1], [(5, 5)], list(RUNS), 10, sweeps=SWEEPS)
    rows = []
    for run in table.runs():
        if run.method == left_out and run.seed == 1:
            continue
        for metric in ("average_incremental_accuracy", "last_accuracy"):
            value = RUNS[run.method][run.seed]
            rows.append(("x", *run[:5], 1, 10, "trained", "true", metric, value))
    pd.DataFrame(rows, columns=COLUMNS).to_csv(folder / "metrics.csv", index=False)
    return table


def config() -> dict:
    study = small_study() | {"validation": 0.1, "reference": "wa-memory-20"}
    study["methods"] = {
        "finetune": {},
        "wa": {"memory": 99, "alignment": "weight"},
        "kd": {"memory": 20, "distillation": 1},
    }
    study["sweep"] = {
        "wa": {"memory": [20, 30, 40]},
        "kd": [{"training": {"clip": True}}, {"training": {"clip": False}}],
    }
    return study


def test_the_best_has_the_highest_mean_and_the_first_wins_a_tie(tmp_path):
    points = read_points(invented(tmp_path), str(tmp_path / "metrics.csv"))
    assert {sweep: point.name for sweep, point in best_of(points).items()} == {
        "wa": "wa-memory-30",
        "kd": "kd-clip",
    }


def test_the_config_of_the_best_has_no_sweep_and_no_validation(tmp_path):
    written = config() | {"figures": {"columns": 2, "labels": {"wa-memory-20": "a", "kd": "b"}}}
    new = best_config(written, {"wa": "wa-memory-30", "kd": "kd-clip"})
    assert new["figures"] == {"columns": 2, "labels": {"kd": "b"}}
    assert new["experiment"] == "tiny-best" and new["reference"] == "wa"
    assert not {"validation", "sweep"} & set(new)
    assert new["methods"] == {
        "finetune": {},
        "wa": {"memory": 30, "alignment": "weight"},
        "kd": {"memory": 20, "distillation": 1, "training": {"clip": True}},
    }
    study = Study(new, str(tmp_path))
    assert study.parts[0].folder == f"{tmp_path}/data/digits"


def test_ticks_have_room_between_them():
    """Runs that are close together need digits, and long names leave little room."""
    values = [20 * "x" + str(n) for n in range(3)]
    points = [
        Point("wa", f"wa-{each}", each, {BY: pd.Series([90 + n / 20, 90.025 + n / 20])})
        for n, each in enumerate(values)
    ]
    names = [point.name for point in points]
    table = RunTable("x", "x", ["1"], [0], [(5, 5)], names, 10, sweeps={"wa": names})
    with on_paper(Look()):
        figure = draw(points, Styles(table, Look()))
        figure.canvas.draw()
        boxes = [tick.get_window_extent() for tick in figure.axes[-1].get_xticklabels()]
        plt.close(figure)
    gaps = [(b.x0 - a.x1) * 72 / figure.dpi for a, b in pairwise(boxes)]
    assert gaps and min(gaps) > 4  # points: the width of a letter


def run(folder: Path, table: RunTable, *options: object):
    files = [folder / f"sweep.{kind}" for kind in ("svg", "md", "csv", "html", "tex")]
    files_and_study = ["--study", table.to_json(), "--metrics", folder / "metrics.csv"]
    more = ["--config", json.dumps(config()), *options, "--output", *files]
    return program("wa.analysis.sweep", *files_and_study, *more)


def test_the_program_writes_the_figure_the_table_and_the_config(tmp_path):
    done = run(tmp_path, invented(tmp_path), "--best", tmp_path / "best.yaml")
    assert done.returncode == 0, done.stdout
    text = (tmp_path / "best.yaml").read_text()
    assert "#   wa: memory-30 (75.0 %, mean of 2 runs)" in text
    assert f"#   {command('snakemake')} --cores 2 --configfile {tmp_path}/best.yaml" in text
    assert yaml.safe_load(text)["methods"]["wa"]["memory"] == 30
    lines = (tmp_path / "sweep.md").read_text().splitlines()
    assert lines[3] == "| wa | memory-30 | 2 | 75.0 ± 21.2 | 75.0 ± 21.2 | best |"
    assert [line.endswith("| best |") for line in lines[2:]] == [False, True, False, True, False]
    assert "textbf" in (tmp_path / "sweep.tex").read_text()
    assert (tmp_path / "sweep.svg").exists()


@pytest.mark.parametrize("left_out", ["wa-memory-20", "kd-no-clip"])
def test_the_best_is_not_named_before_all_runs_are_finished(tmp_path, left_out):
    done = run(tmp_path, invented(tmp_path, left_out), "--best", tmp_path / "best.yaml")
    assert done.returncode == 1 and f"{left_out} has 1 of 2 runs finished" in done.stdout
    assert run(tmp_path, invented(tmp_path, left_out)).returncode == 0  # as for a draft
