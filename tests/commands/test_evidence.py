"""The evidence of a study is enough to draw its tables and figures again."""

import csv
import hashlib
import json
import os
import shutil
import subprocess

import yaml
from helpers import program, small_study, snakemake

from wa.study.config_file import read_config

# A figure for each kind of files that figures read.
DRAWN = ("accuracy.svg", "confusion-base-6-inc-2.svg", "curves-base-6-inc-2.svg", "cost.svg")


def evidence(folder, *options, config="study.yaml"):
    """Run `wa evidence` in the folder of a study."""
    here = os.getcwd()
    os.chdir(folder)
    try:
        return program("wa", "evidence", "--config", config, *options)
    finally:
        os.chdir(here)


def test_figures_and_tables_are_drawn_again_from_it(finished, tmp_path):
    """The figures of DRAWN are drawn. The others are planned."""
    run = evidence(finished, "--output", tmp_path)
    assert run.returncode == 0, run.stdout
    copy = tmp_path / "results/tiny"
    assert not list(copy.rglob("*.safetensors")) and not list(copy.rglob("features.npz"))

    made, first = copy / "draft", finished / "results/tiny"
    draft = ("--configfile", str(copy / "config.yaml"), "--config", "draft=True")
    drawn = [f"results/tiny/draft/figures/{name}" for name in DRAWN]
    run = snakemake(tmp_path, "metrics", "results_table", *drawn, *draft)
    assert run.returncode == 0, run.stdout
    assert (made / "metrics.csv").read_bytes() == (first / "metrics.csv").read_bytes()
    assert (made / "results.md").read_text().count("| wa |") == 2
    for name in DRAWN:
        assert (made / "figures" / name).read_bytes() == (first / "figures" / name).read_bytes()
    assert snakemake(tmp_path, "figures", "-n", *draft).returncode == 0


def test_it_names_the_hash_of_each_checkpoint_and_what_the_study_took(finished, tmp_path):
    evidence(finished, "--output", tmp_path)
    copy, first = tmp_path / "results/tiny", finished / "results/tiny"
    checked = subprocess.run(["sha256sum", "--check", "--strict", copy / "SHA256SUMS"], cwd=first)
    assert checked.returncode == 0
    sums = dict(line.split()[::-1] for line in (copy / "SHA256SUMS").read_text().splitlines())
    trained = first / "order-1993/seed-0/base-6/trained.safetensors"
    content = hashlib.sha256(trained.read_bytes()).hexdigest()
    assert sums["order-1993/seed-0/base-6/trained.safetensors"] == content
    models = [file.relative_to(first).as_posix() for file in first.rglob("*.safetensors")]
    assert set(models) <= set(sums)

    facts = json.loads((copy / "evidence.json").read_text())
    seconds = 0
    for history in first.rglob("history.csv"):
        with open(history, encoding="utf-8") as file:
            seconds += sum(float(row["seconds"]) for row in csv.DictReader(file))
    assert facts["trainings"] == facts["trainings_of_the_study"] == 7
    assert abs(facts["hours"] - seconds / 3600) < 0.01
    assert [engine["device"] for engine in facts["engines"]] == ["cpu"]
    assert len(facts["commit"].removesuffix("-dirty")) == 40 or facts["commit"] == "unknown"


def test_it_takes_the_config_that_is_given(finished, tmp_path):
    """The copy beside the results may be older, or not be there."""
    config = small_study() | {"orders": [1993, 7]}
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    run = evidence(finished, "--output", tmp_path, config=tmp_path / "more.yaml")
    assert run.returncode == 0 and "The study is not finished: 7 of 14" in run.stdout
    assert read_config(tmp_path / "results/tiny/config.yaml") == config

    config["training"] = config["training"] | {"batch_size": 50}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    run = evidence(finished, "--output", tmp_path, config=tmp_path / "other.yaml")
    assert "outdated, so the next run makes them anew: 7 trainings and 9 ev" in run.stdout


def test_it_says_what_is_missing_and_does_not_write_over_the_study(finished, tmp_path):
    run = evidence(tmp_path, "--output", "copy", config=finished / "study.yaml")
    assert run.returncode == 1
    assert (
        run.stdout
        == "error: results/tiny is not there: run this in the folder that holds results/\n"
    )
    shutil.copytree(finished / "results/tiny", tmp_path / "alone/results/tiny")
    run = evidence(tmp_path / "alone", "--output", "copy", config=finished / "study.yaml")
    assert "results/data/digits/dataset.json is not there, so the figures" in run.stdout
    run = evidence(finished, "--output", ".")
    assert run.returncode == 1 and "name another folder" in run.stdout
