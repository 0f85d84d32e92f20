"""A method in a file of one's own: the one of docs/methods.md, in the workflow."""

import csv
import re

import numpy as np
import pytest
import yaml
from helpers import ROOT, scheduled, small_study, snakemake
from sklearn.naive_bayes import GaussianNB

from wa.files import read_json
from wa.methods import algorithm
from wa.methods.feature_classifier import Learned


def blocks(kind: str) -> list[str]:
    """The code of a kind in a section of docs/methods.md."""
    text = (ROOT / "docs/methods.md").read_text().split("## A method in a file of your own")[1]
    return re.findall(rf"```{kind}\n(.*?)```", text, re.S)


def test_the_feature_classifier_of_the_documentation(tmp_path):
    """With one mean for each class and one variance, it is a naive Bayes of equal variances."""
    (tmp_path / "scaled.py").write_text(blocks("python")[2])
    draw = np.random.default_rng(0)
    label = np.repeat(np.arange(4), 50)
    features = draw.normal(size=(4, 8))[label] + draw.normal(size=(200, 8))
    file = str(tmp_path / "scaled.py")
    method = algorithm.load(file, "FeatureClassifier")({"least": 0.0}, 0)
    state, sizes = {}, [2, 2]
    for task in range(2):
        seen = label < sum(sizes[: task + 1])
        learned = Learned(features[seen], label[seen], sizes[: task + 1], None, None, {})
        state = method.fit(learned, state)
    bayes = GaussianNB(priors=np.full(4, 0.25)).fit(features, label)
    bayes.var_[:] = bayes.var_.mean(axis=0)
    unseen = draw.normal(size=(500, 8))
    assert (method.scores(unseen, state).argmax(axis=1) == bayes.predict(unseen)).all()
    assert algorithm.facts(file).choices["freeze"]


@pytest.mark.slow
def test_the_file_of_the_documentation_runs_and_an_edit_reruns_it_alone(tmp_path):
    code, methods = blocks("python")[0], yaml.safe_load(blocks("yaml")[0])
    assert len(code.splitlines()) < 40
    file = tmp_path / "balanced.py"
    file.write_text(code)
    (tmp_path / "scaled.py").write_text(blocks("python")[2])
    methods["methods"]["scaled"] = {"algorithm": "scaled.py"}
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
    assert "fitted" in read_json(runs / "scaled/task-2/metrics.json")

    # `least` matters to the scores alone. The evaluations notice it after an interruption too.
    config["methods"]["scaled"]["options"] = {"least": 1e6}
    fitted = [f"{runs.relative_to(tmp_path)}/scaled/task-{task}/fitted.npz" for task in range(3)]
    run = snakemake(tmp_path, *fitted, config=config)
    assert run.returncode == 0 and run.stdout.count(": fit task=") == 3, run.stdout
    assert scheduled(tmp_path, config, "metrics")["evaluate"] == 3
    assert snakemake(tmp_path, "metrics", config=config).returncode == 0

    assert scheduled(tmp_path, config, "metrics") == {}
    file.write_text(code.replace("class Balanced", "# A comment.\nclass Balanced"))
    assert scheduled(tmp_path, config, "metrics") == {}
    file.write_text(code.replace(".clamp(min=1).log()", ".clamp(min=2).log()"))
    planned = scheduled(tmp_path, config, "metrics")
    assert planned["train"] == 2 and planned["evaluate"] == 2  # tasks 1 and 2 of this method
