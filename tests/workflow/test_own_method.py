"""A method in a file of one's own: the one of docs/methods.md, in the workflow."""

import csv
import re

import pytest
import yaml
from helpers import ROOT, scheduled, small_study, snakemake

from wa.files import read_json


def example() -> tuple[str, dict]:
    """The file and the methods of docs/methods.md."""
    text = (ROOT / "docs/methods.md").read_text().split("## A method in a file of your own")[1]
    code, methods = (
        re.search(rf"```{kind}\n(.*?)```", text, re.S)[1] for kind in ("python", "yaml")
    )
    return code, yaml.safe_load(methods)


@pytest.mark.slow
def test_the_file_of_the_documentation_runs_and_an_edit_reruns_it_alone(tmp_path):
    code, methods = example()
    assert len(code.splitlines()) < 40
    file = tmp_path / "balanced.py"
    file.write_text(code)
    config = small_study() | {"protocols": [{"base": 6, "increment": 2}]} | methods
    run = snakemake(tmp_path, "metrics", config=config)
    assert run.returncode == 0, run.stdout
    said = "methods.balanced.algorithm: the jobs of this method run the Python code of balanced.py"
    assert said in run.stdout
    assert run.stdout.index(said) < run.stdout.index("train task=")

    runs = tmp_path / "results/tiny/order-1993/seed-0/base-6/inc-2"
    losses = {}
    for method in ("replay", "balanced"):
        with open(runs / method / "task-1/history.csv", encoding="utf-8") as rows:
            losses[method] = float(list(csv.DictReader(rows))[-1]["loss"])
        assert "trained" in read_json(runs / method / "task-2/metrics.json")
    assert losses["replay"] != losses["balanced"]

    assert scheduled(tmp_path, config, "metrics") == {}
    file.write_text(code.replace("class Balanced", "# A comment.\nclass Balanced"))
    assert scheduled(tmp_path, config, "metrics") == {}
    file.write_text(code.replace(".clamp(min=1).log()", ".clamp(min=2).log()"))
    planned = scheduled(tmp_path, config, "metrics")
    assert planned["train"] == 2 and planned["evaluate"] == 2  # tasks 1 and 2 of this method
