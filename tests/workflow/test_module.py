"""The workflow as a module of another one: two studies of the same data, and a rule on both."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers import ROOT, small_study

# Its first rule is its default target.
OUTER = """
configfile: "outer.yaml"

onstart:
    print("The outer workflow starts")

rule first:
    output: "first.json"
    run:
        import json
        told = dict(
            config=config,
            local=sorted(workflow._localrules & {"first", "compare"}),
            report=workflow.report_text,
        )
        with open(output[0], "w") as file:
            json.dump(told, file)

module one:
    snakefile: "ROOT/workflow/Snakefile"
    config: config["one"]

use rule * from one as one_*

module two:
    snakefile: "ROOT/workflow/Snakefile"
    config: config["one"] | SECOND

use rule * from two as two_*

rule compare:
    input: rules.one_metrics.input, rules.two_metrics.input
    output: "compared.txt"
    message: "compare the two studies"
    shell: 'echo "$BASH_EXECUTION_STRING" > {output}'
"""


def write_outer(folder: Path, study: dict, second: dict) -> None:
    text = OUTER.replace("ROOT", str(ROOT)).replace("SECOND", repr(second))
    (folder / "Snakefile").write_text(text)
    config = {"own": 3, "one": study | {"experiment": "one"}}
    (folder / "outer.yaml").write_text(yaml.safe_dump(config))


@pytest.fixture(scope="module")
def outer(tmp_path_factory) -> Path:
    """The folder of another workflow that uses this one twice. A study has two trainings."""
    folder = tmp_path_factory.mktemp("outer")
    study = small_study() | {
        "protocols": [{"base": 5, "increment": 5}],
        "methods": {"finetune": {}},
    }
    write_outer(folder, study, {"experiment": "two"})
    return folder


def run_outer(folder: Path, *options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *options]
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder
    )


def jobs(output: str) -> dict[str, int]:
    """The jobs that a dry run lists: rule -> number."""
    table = output.split("Job stats:")[1].split("\n\n")[0]
    return {rule: int(n) for rule, n in re.findall(r"^(\w+)\s+(\d+)$", table, re.M)}


def test_a_dry_run_lists_the_jobs_of_both_studies(outer):
    run = run_outer(outer, "compare", "-n", "--quiet", "rules")
    of_each = {"order": 1, "train": 2, "align": 2, "evaluate": 2, "aggregate": 1, "config": 1}
    expected = {"one_prepare": 1, "compare": 1, "total": 20}  # the first packs the data of both
    for name in ("one", "two"):
        expected |= {f"{name}_{rule}": n for rule, n in of_each.items()}
    assert jobs(run.stdout) == expected


def test_the_outer_workflow_keeps_what_is_its_own(outer):
    """Its default target, its config, its handlers, its rules on the cluster, and its report."""
    run = run_outer(outer)
    assert run.returncode == 0, run.stdout
    assert "The outer workflow starts" in run.stdout
    told = json.loads((outer / "first.json").read_text())
    config = yaml.safe_load((outer / "outer.yaml").read_text())
    assert told == {"config": config, "local": [], "report": None}


@pytest.mark.slow
def test_a_real_run_makes_both_studies_and_what_depends_on_them(outer):
    run = run_outer(outer, "compare")
    assert run.returncode == 0, run.stdout
    for name in ("one", "two"):
        table = (outer / f"results/{name}/metrics.csv").read_text()
        assert table.count("\n") > 1
    assert "compare the two studies" in run.stdout
    shell = (outer / "compared.txt").read_text().split()
    assert shell == [
        "set",
        "-euo",
        "pipefail;",
        "echo",
        '"$BASH_EXECUTION_STRING"',
        ">",
        "compared.txt",
    ]
    assert "Nothing to be done" in run_outer(outer, "compare", "-n").stdout


def test_two_lists_of_classes_for_one_folder_are_refused(tmp_path):
    for split in ("train", "test"):
        for name in "abc":
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for i in range(3):
                (folder / f"{i}.png").touch()
    study = small_study() | {
        "dataset": "letters",
        "path": "images",
        "protocols": [{"base": 1, "increment": 1}],
        "methods": {"finetune": {}},
        "classes": ["a", "b"],
    }
    study["training"] |= {"batch_size": 2}
    write_outer(tmp_path, study, {"experiment": "two", "classes": ["b", "c"]})
    run = run_outer(tmp_path, "compare", "-n")
    assert run.returncode != 0
    assert "AmbiguousRuleException" in run.stdout
    assert "two_prepare: results/data/letters/" in run.stdout
