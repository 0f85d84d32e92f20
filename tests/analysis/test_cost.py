"""What a study costs: counted by hand, and measured by a meter that tests play the machine for."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
from helpers import ROOT, program, random_checkpoint

from wa.analysis.cost import backbone_cost, exemplar_bytes, model_cost, other_jobs
from wa.analysis.figures.look import Look
from wa.analysis.figures.tables import costs
from wa.checkpoint import read_header
from wa.data.memory import Memory
from wa.files import read_json
from wa.study.layout import Run
from wa.study.study import Study
from wa.training import meter
from wa.training.history import COLUMNS, write_history
from wa.training.meter import Counter, Meter, Spent


def test_parameters_and_flops_are_those_of_the_layers(tmp_path):
    """A ResNet-8 for images of 8 x 8: 16, 32 and 64 channels, one block each, two convolutions."""
    parameters, flops = backbone_cost("resnet8", 1, (8, 8))
    layers = [(1, 16, 8), (16, 16, 8), (16, 16, 8), (16, 32, 4), (32, 32, 4)]
    layers += [(32, 64, 2), (64, 64, 2)]  # channels in, channels out, side of the output
    assert flops == sum(2 * 9 * before * after * side**2 for before, after, side in layers)
    assert parameters == sum(9 * before * after + 2 * after for before, after, _ in layers)
    file = random_checkpoint(tmp_path / "trained.safetensors")  # of 10 classes, for colour images
    parameters, flops = backbone_cost("resnet8", 3, (8, 8))
    assert model_cost(file, read_header(file)) == {
        "parameters": parameters + 10 * 65,
        "flops": flops + 2 * 10 * 64,
    }


def test_exemplars_are_as_large_as_their_pixels():
    images = {"a": 5, "b": 100, "c": 100}
    header = {"classes": ["a", "b"], "image_shape": [8, 8, 3]}
    each = 8 * 8 * 3
    for memory, count in ((0, 0), (20, 5 + 10), ("3/class", 6), ("all", 105)):
        assert exemplar_bytes(Memory.parse(memory), header, images) == count * each


def test_the_costs_of_a_finished_study(finished, config, tmp_path):
    study = Study(config, results=str(finished / "results"))
    data = finished / "results/data/digits/dataset.json"
    output = tmp_path / "cost.csv"
    runs = study.run_table()
    options = ["--study", runs.to_json(), "--data", data, "--ranked", '{"wa": "herding"}']
    run = program("wa.analysis.cost", *options, "--output", output)
    assert run.returncode == 0, run.stdout
    table = pd.read_csv(output)
    wa = table[(table["method"] == "wa") & (table["task"] == 2)].set_index("metric")["value"]
    assert wa["memory_mb"] == 20 * 64 / 1e6 and 0 < wa["model_mb"] < 1 and wa["seconds"] > 0
    assert wa["parameters"] == backbone_cost("resnet8", 1, (8, 8))[0] + 10 * 65
    joint = table[(table["method"] == "joint") & (table["metric"] == "memory_mb")]
    counts = read_json(data)["train_counts"]
    assert joint["value"].max() == sum(counts) * 64 / 1e6
    made = costs(runs, str(output), Look(), {}).words.set_index("method")
    assert made.loc["wa", "exemplars (MB)"] == "0.00128"
    whole = table[(table["method"] == "wa") & (table["metric"] == "seconds")]["value"].sum()
    assert float(made.loc["wa", "training (min)"]) == pytest.approx(whole / 60, rel=0.01)
    assert "energy (kJ)" not in made
    jobs = table[table["metric"].str.endswith("_seconds")]
    found = {name: set(rows["metric"]) for name, rows in jobs.groupby("method")}
    each = {"align_seconds", "evaluate_seconds"}
    assert found == {"wa": {*each, "herd_seconds"}, "finetune": each, "joint": each}
    own = Path(study.root, "order-1993/seed-0/base-6/inc-2/wa")
    first = float((own / "task-2/evaluate.benchmark.tsv").read_text().splitlines()[1].split()[0])
    assert wa["evaluate_seconds"] == first > 0
    assert list(jobs.groupby("method").size()) == [6, 6, 9]  # three tasks each


def test_each_run_has_the_times_of_its_own_jobs(tmp_path):
    """Two methods share task 0, where exemplars were chosen in two ways."""
    run = Run("1993", 0, 2, 2, "wa", tmp_path, [2, 2], None)
    for task, jobs in ((0, {"herding": 1, "random": 2, "align": 4}), (1, {"random": 8})):
        for job, seconds in jobs.items():
            run.learned(task).mkdir(parents=True, exist_ok=True)
            file = run.learned(task) / f"{job}.benchmark.tsv"
            file.write_text(f"s\tmax_rss\n{seconds}\t-\n")
    run.task(0).mkdir()
    (run.task(0) / "fit.benchmark.tsv").write_text("s\tmax_rss\n16\t-\n")
    of_task_0 = {"align_seconds": 4, "fit_seconds": 16}
    assert other_jobs(run, 0, "random") == of_task_0 | {"herd_seconds": 2}
    assert other_jobs(run, 0, None) == of_task_0
    assert other_jobs(run, 1, "random") == {"herd_seconds": 8}


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """The counter of a processor, and an nvidia-smi that prints a text."""
    folder = tmp_path / "sys/class/powercap"
    for name, largest, value in (("intel-rapl:0", 1000, 900), ("intel-rapl:0:0", 1000, 5)):
        (folder / name).mkdir(parents=True)
        (folder / name / "max_energy_range_uj").write_text(f"{largest}\n")
        (folder / name / "energy_uj").write_text(f"{value}\n")
    smi = tmp_path / "bin/nvidia-smi"
    smi.parent.mkdir()
    smi.write_text(f"#!/bin/sh\ncat {tmp_path}/said\n")
    smi.chmod(0o755)
    (tmp_path / "said").write_text("1000, 100.5\n500, 99.5\n")
    monkeypatch.setenv("PATH", str(smi.parent), prepend=os.pathsep)
    return tmp_path


def test_the_meter_adds_up_counters_and_power(machine, monkeypatch):
    now = iter([10.0, 12.0, 13.0])
    monkeypatch.setattr(meter.time, "monotonic", lambda: next(now))
    found = meter.counters(machine)
    assert [counter.file.parent.name for counter in found] == ["intel-rapl:0"]
    measured = Meter(found, "0,1")
    found[0].file.write_text("100\n")  # it began anew at 1000
    measured.look()
    (machine / "said").write_text("200, 50\n300, 50\n")
    measured.look()
    assert measured.peak == 1500
    assert measured.joules == pytest.approx(2 * 200 + 1 * 100 + 201 / 1e6)
    assert measured.result() == {"gpu_mib": 1500, "joules": 500.0}


@pytest.mark.parametrize("text", ["", "[N/A], [N/A]\n", "1000, [Not Supported]\n", "580.65\n"])
def test_a_gpu_that_tells_nothing_is_not_measured(machine, text):
    (machine / "said").write_text(text)
    assert meter.read_gpus("0") is None
    assert Meter([], "0").result() == {"gpu_mib": None, "joules": None}


def test_a_counter_that_may_not_be_read_is_left_out(machine):
    (machine / "sys/class/powercap/intel-rapl:0/energy_uj").unlink()
    assert meter.counters(machine) == []


def test_the_meter_ends_with_its_training(machine, tmp_path):
    """The training is a shell that becomes another program, as the launcher does."""
    code = (
        "import os, pathlib, sys; from wa.training import meter;"
        " meter.start(pathlib.Path(sys.argv[1]), ['0']); os.execvp('sleep', ['sleep', '3'])"
    )
    (tmp_path / "train.meter.json").write_text("{}")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, check=True)
    ends = time.monotonic() + 60
    while not (tmp_path / "train.meter.json").exists() and time.monotonic() < ends:
        time.sleep(0.1)
    (tmp_path / "train.benchmark.tsv").write_text("s\tmax_rss\n3.5\t-\n")
    spent = meter.read_spent(tmp_path)
    assert spent.seconds == 3.5 and spent.host_mib is None and spent.gpu_mib == 1500


def test_the_meter_ends_if_its_training_ended_before_it_began(machine, tmp_path):
    code = (
        "import os, pathlib, sys; from wa.training import meter;"
        " meter.start(pathlib.Path(sys.argv[1]), ['0']); os._exit(0)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, check=True)
    words = {"wa.training.meter", str(tmp_path)}
    every = psutil.process_iter(["cmdline"])
    found = [process for process in every if words <= set(process.info["cmdline"] or [])]
    assert len(found) == 1
    _, running = psutil.wait_procs(found, timeout=30)
    for process in running:
        process.kill()
    assert not running
    assert not (tmp_path / "train.meter.json").exists()  # it has measured nothing


@pytest.mark.parametrize(
    "job, seconds, host",
    [("9.5\t800", 9.5, 800), ("4.5\t700", 7.0, 700), ("0.5\t40", 7.0, None)],
    ids=["whole", "resumed", "kept"],
)
def test_a_job_that_did_not_train_all_epochs_is_not_the_whole_cost(job, seconds, host, tmp_path):
    epochs = [dict.fromkeys(COLUMNS, 0) | {"seconds": s} for s in (4.0, 3.0)]
    write_history(tmp_path / "history.csv", epochs)
    (tmp_path / "train.benchmark.tsv").write_text(f"s\tmax_rss\n{job}\n")
    assert meter.read_spent(tmp_path)[:2] == (seconds, host)


def test_a_training_without_epochs_has_the_seconds_of_its_job(tmp_path):
    write_history(tmp_path / "history.csv", [])
    (tmp_path / "train.benchmark.tsv").write_text("s\tmax_rss\n3.5\t700\n")
    assert meter.read_spent(tmp_path)[:2] == (3.5, 700)


def test_a_training_without_measurements_costs_nothing_known(tmp_path):
    assert meter.read_spent(tmp_path) == Spent(None, None, None, None)
    counter = Counter(tmp_path / "energy_uj", 10)
    counter.file.write_text("7\n")
    assert counter.read() == 7
