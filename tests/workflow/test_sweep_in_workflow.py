"""A sweep on the validation split, from the config to the run of the best on the test images."""

import pandas as pd
import pytest
from helpers import ROOT, add_images, scheduled, small_study, snakemake

from wa.files import read_json
from wa.study.config_file import read_config


def sweeping() -> dict:
    config = small_study() | {"validation": 0.1, "protocols": [{"base": 6, "increment": 4}]}
    config["methods"] = {"wa": {"memory": 20, "alignment": "weight"}}
    config["sweep"] = {"wa": {"distillation": [0.25, 1]}}
    return config


@pytest.mark.slow
def test_a_sweep_and_its_best(tmp_path):
    config = sweeping()
    plan = scheduled(tmp_path, config)
    # Both share task 0, so three trainings. One job compares them.
    assert (plan["train"], plan["evaluate"], plan["sweep"]) == (3, 4, 1)
    run = snakemake(tmp_path, config=config)
    assert run.returncode == 0, run.stdout
    study = tmp_path / "results/tiny"
    # No test image was packed, so none can have been read.
    assert [folder.name for folder in (tmp_path / "results/data").iterdir()] == [
        "digits-validation-0.1"
    ]
    assert "| best |" in (study / "figures/sweep.md").read_text()
    table = pd.read_csv(study / "metrics.csv")
    means = table[table["metric"] == "average_incremental_accuracy"].query("own and task == 1")
    best = means.loc[means["value"].idxmax(), "method"]
    said = read_config(study / "best.yaml")
    assert f"wa-distillation-{said['methods']['wa']['distillation']:g}" == best
    command = f"snakemake -s {ROOT}/Snakefile --cores 2 --configfile results/tiny/best.yaml"
    assert command in run.stdout
    assert scheduled(tmp_path, config) == {}

    # Another value trains one method more. The data and task 0 stay.
    config["sweep"]["wa"]["distillation"] = [0.25, 0.5, 1]
    more = scheduled(tmp_path, config)
    assert (more["train"], more["evaluate"], more.get("prepare")) == (1, 2, None)

    # The best one is trained on all training images, and tested on the test images.
    final = scheduled(tmp_path, dict(said))
    assert final["prepare"] == 1 and final["train"] == 2 and "sweep" not in final


@pytest.mark.slow
def test_test_images_that_cannot_be_read_change_nothing(tmp_path):
    """With the test images of the raw folder destroyed, a study with validation runs to its end."""
    add_images(tmp_path / "pets", ["ant", "bee", "cat", "dog"])
    for file in (tmp_path / "pets/test").rglob("*.png"):
        file.write_text("no image")
    config = small_study() | {"dataset": "pets", "path": "pets", "validation": 0.25}
    config["protocols"] = [{"base": 2, "increment": 2}]
    config["methods"] = {"icarl": {"memory": 8, "classifier": "nme"}}
    run = snakemake(tmp_path, "metrics", config=config)
    assert run.returncode == 0, run.stdout
    counts = read_json(tmp_path / "results/data/pets-validation-0.25/dataset.json")
    assert counts["train_counts"] == [9] * 4 and counts["test_counts"] == [3] * 4
