"""The workflow as a whole: a small study from nothing to figures, and what reruns when something changes."""

import copy
import csv
import shutil
import time
from pathlib import Path

import pytest
from conftest import ROOT, scheduled, small_study, snakemake

from wa.aggregate import COLUMNS


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> tuple[Path, dict]:
    """A finished study: its folder and its config."""
    folder, config = tmp_path_factory.mktemp("study"), small_study()
    run = snakemake(folder, config=config)
    assert run.returncode == 0, run.stdout
    return folder, config


@pytest.fixture
def variant(study) -> tuple[Path, dict]:
    return study[0], copy.deepcopy(study[1])


def rows(folder: Path) -> list[dict]:
    with open(folder / "results/tiny/metrics.csv") as file:
        return list(csv.DictReader(file))


def test_results_lie_where_they_should(study):
    folder = study[0] / "results"
    run = folder / "tiny/order-1993/seed-0/base-6/inc-2"
    for file in (
        folder / "data/digits/dataset.json",
        folder / "tiny/order-1993/seed-0/base-6/model.safetensors",
        run / "wa/task-2/herding.npz",
        run / "wa/task-0/metrics.json",
        folder / "tiny/figures/accuracy.svg",
        folder / "tiny/figures/accuracy.png",
        folder / "tiny/figures/final.csv",
        folder / "tiny/figures/final.md",
    ):
        assert file.stat().st_size > 0
    assert not (run / "finetune/task-1/herding.npz").exists()  # no memory, no herding
    assert not list(folder.rglob(".resume"))


def test_the_table_is_tidy_and_whole(study):
    table = rows(study[0])
    assert tuple(table[0]) == COLUMNS
    keys = [tuple(v for k, v in row.items() if k != "value") for row in table]
    assert len(keys) == len(set(keys))
    have = {(r["method"], r["task"], r["classifier"], r["metric"]) for r in table}
    for metric in (
        *("accuracy", "top5_accuracy", "accuracy_old", "accuracy_new", "accuracy_task_0", "accuracy_task_2", "last_accuracy"),
        *("average_incremental_accuracy", "average_incremental_accuracy_without_first", "forgetting", "backward_transfer"),
    ):
        for classifier in ("trained", "aligned", "nme"):
            assert ("wa", "2", classifier, metric) in have
    assert ("wa", "2", "trained", "gamma") in have and ("wa", "2", "aligned", "row_norm_9") in have
    assert ("finetune", "2", "nme", "accuracy") not in have and ("finetune", "2", "aligned", "accuracy") not in have
    last = [r for r in table if (r["method"], r["task"], r["classifier"]) == ("wa", "2", "aligned")]
    norms = [float(r["value"]) for r in last if r["metric"].startswith("row_norm")]
    assert len(norms) == 10
    assert sum(norms[:8]) / 8 == pytest.approx(sum(norms[8:]) / 2, rel=1e-4)
    joint = [float(r["value"]) for r in table if r["method"] == "joint" and r["metric"] == "last_accuracy"]
    assert all(v > 15 for v in joint)  # one epoch, but ten classes


def test_nothing_is_done_twice(variant):
    folder, config = variant
    started = time.monotonic()
    run = snakemake(folder, config=config)
    assert "Nothing to be done" in run.stdout, run.stdout
    assert time.monotonic() - started < 60  # 4 s on an idle machine
    assert scheduled(folder, config, "figures") == {}


@pytest.mark.parametrize(
    "change, trains",
    [
        ({"seeds": [0, 1]}, 1 + 3 * 2),
        ({"orders": [1993, "natural"]}, 1 + 3 * 2),
        ({"protocols": [{"base": 6, "increment": 2}, {"base": 6, "increment": 4}]}, 3),
        ({"protocols": [{"base": 6, "increment": 2}, {"base": 8, "increment": 2}]}, 1 + 3),
    ],
    ids=["seed", "order", "increment", "base"],
)
def test_an_addition_schedules_only_what_is_new(variant, change, trains):
    folder, config = variant
    jobs = scheduled(folder, config | change)
    assert jobs["train"] == jobs["align"] == trains and "prepare" not in jobs
    assert jobs.get("order", 0) == (1 if "orders" in change else 0)


def test_a_new_method_schedules_only_itself(variant):
    folder, config = variant
    config["methods"]["kd"] = {"memory": 20, "distillation": "dynamic"}
    assert scheduled(folder, config) == {
        "train": 2,
        "align": 2,
        "herd": 2,
        "evaluate": 3,
        "aggregate": 1,
        "accuracy": 1,
        "final": 1,
    }


def test_what_changes_the_result_runs_again(variant):
    folder, config = variant
    config["training"]["epochs"] = 2
    assert scheduled(folder, config)["train"] == 7
    config["training"] |= {"epochs": 1, "base": {"epochs": 2}}
    assert scheduled(folder, config)["train"] == 7  # base, then all that follows from it
    del config["training"]["base"]
    config["methods"]["wa"]["alignment"] = "none"
    jobs = scheduled(folder, config)
    assert (jobs["align"], jobs["train"]) == (2, 1)  # task 2 starts from another model
    config["methods"]["wa"] |= {"alignment": "weight", "temperature": 3}
    assert scheduled(folder, config)["train"] == 2


def test_where_it_runs_changes_nothing(variant):
    folder, config = variant
    assert scheduled(folder, config, "--cores", "1", "--set-threads", "train=2") == {}
    assert scheduled(folder, config | {"processes": 2}) == {}
    assert scheduled(folder, config | {"device": "cpu"}) == {}
    config["methods"]["wa"] |= {"selection": "herding", "held_out": 0, "classifier": "linear", "training": {}}  # the defaults
    assert scheduled(folder, config | {"recipe": "none"}) == {}
    shuffled = {k: config[k] for k in reversed(config)}
    assert scheduled(folder, shuffled) == {}


def test_figures_come_from_the_table_alone_and_byte_for_byte(variant):
    folder, config = variant
    figures = folder / "results/tiny/figures"
    before = {p.name: p.read_bytes() for p in figures.iterdir() if p.suffix in (".svg", ".csv", ".md")}
    shutil.rmtree(figures)
    assert scheduled(folder, config, "figures") == {"accuracy": 1, "final": 1}
    run = snakemake(folder, "figures", config=config)
    assert run.returncode == 0, run.stdout
    assert {p.name: p.read_bytes() for p in figures.iterdir() if p.suffix in (".svg", ".csv", ".md")} == before


def test_bases_are_shared_by_methods_and_protocols(tmp_path):
    run = snakemake(tmp_path, "-n", "--configfile", str(ROOT / "config/cifar100-b50.yaml"))
    assert run.returncode == 0, run.stdout
    trained = [line.split()[1] for line in run.stdout.splitlines() if line.strip().startswith("output:") and "trained" in line]
    assert len(trained) == 9 + 9 * 5 * (5 + 10 + 25)  # 5 methods x 3 orders x 3 seeds, increments 10, 5 and 2: 135 runs
    assert sum("inc-" not in path for path in trained) == 9


def test_a_bad_config_is_one_message_before_anything_runs(tmp_path, config):
    config["training"]["epoch"] = 3
    run = snakemake(tmp_path, config=config)
    assert run.returncode == 1
    assert "config: training: unknown key 'epoch'; did you mean 'epochs'?" in run.stdout
    assert "Traceback" not in run.stdout and not (tmp_path / "results").exists()


def test_the_configs_that_are_shipped_are_right(tmp_path):
    for file in sorted({*(ROOT / "config").glob("*.yaml")} - {ROOT / "config/cifar100-b50.yaml"}):  # that one is above
        run = snakemake(tmp_path, "-n", "--quiet", "rules", "--configfile", str(file))
        assert run.returncode == 0, f"{file}: {run.stdout}"
