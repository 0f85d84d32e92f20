"""The workflow on a Slurm cluster of two emulated nodes.

Run by `make test-slurm`, as root, with Debian's slurm-wlm and munge.
"""

import re
import subprocess
import time
from pathlib import Path

import cluster
import pytest
from helpers import ROOT, scheduled, small_study, snakemake, snakemake_command

from wa.checkpoint import read_checkpoint

# As a user starts it, but for smaller jobs, and asking the cluster more often.
SLURM = [
    *("--profile", str(ROOT / "profiles/slurm")),
    *["--slurm-status-command", "squeue", "--latency-wait", "10"],
    *["--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "2"],
    *["--set-threads", "train=1", "prepare=1"],
    *["--set-resources", "train:mem_mb=2000", "train:runtime=10"],
    *["prepare:mem_mb=2000", "prepare:runtime=10"],
]
BASE = "results/tiny/order-1993/seed-0/base-6"


@pytest.fixture(scope="session", autouse=True)
def slurm():
    cluster.up()
    yield
    cluster.down()


@pytest.fixture(scope="session")
def config() -> dict:
    study = small_study() | {"protocols": [{"base": 6, "increment": 4}]}
    study["methods"] = {"wa": study["methods"]["wa"]}
    study["training"] |= {"epochs": 20}
    return study


@pytest.fixture(scope="session")
def here(tmp_path_factory, config) -> Path:
    """The same study, run on this machine without disturbance."""
    folder = tmp_path_factory.mktemp("here")
    run = snakemake(folder, "metrics", config=config)
    assert run.returncode == 0, run.stdout
    return folder


@pytest.fixture
def start():
    """Run `snakemake`, with its output in folder/log, and do not wait."""
    started = []

    def start(folder: Path, *options: str, config: dict) -> subprocess.Popen:
        command = snakemake_command(folder, *options, config=config)
        with open(folder / "log", "w", encoding="utf-8") as log:
            started.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=folder))
        return started[-1]

    yield start
    for process in started:
        process.kill()


def squeue(what: str) -> list[str]:
    return subprocess.run(
        ["squeue", "-h", "-t", "running", "-o", what], capture_output=True, text=True, check=True
    ).stdout.split()


def wait_for(condition, seconds: float = 300):
    """What the condition returns, as soon as that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError("waited in vain")


def test_a_study_that_a_cancelled_job_interrupts_ends_in_the_same_bits(
    config, tmp_path, start, request
):
    run = start(tmp_path, *SLURM, config=config)
    log, state = tmp_path / BASE / "train.log", tmp_path / BASE / ".resume" / "state.safetensors"
    wait_for(lambda: state.exists() and "epoch 5/20" in log.read_text())
    subprocess.run(["scancel", *squeue("%i")], check=True)
    here = request.getfixturevalue("here")  # meanwhile, because Snakemake asks Slurm seldom
    assert run.wait(timeout=300) == 0, (tmp_path / "log").read_text()
    assert "going on after epoch" in log.read_text()
    said = (tmp_path / "log").read_text()
    jobs = re.findall(r"submitted with SLURM jobid|SLURM jobid \d+", said)
    assert len(jobs) == 4, said  # the packing, and two trainings, one of them twice
    files = sorted(
        p.relative_to(here)
        for p in here.glob("results/tiny/**/*")
        if p.suffix in (".safetensors", ".npz", ".json")
    )
    assert len(files) > 10
    for file in files:
        assert (tmp_path / file).read_bytes() == (here / file).read_bytes(), file


def test_a_study_begun_on_one_machine_goes_on_in_slurm(here, config):
    assert scheduled(here, config, "metrics", *SLURM) == {}
    assert scheduled(here, config | {"nodes": 2}, "metrics", *SLURM) == {}


def test_two_nodes_share_a_training(config, tmp_path, start):
    """As two processes of one machine do, to the bit."""
    target = f"{BASE}/trained.safetensors"
    (tmp_path / "two").mkdir(), (tmp_path / "one").mkdir()
    config = config | {"training": config["training"] | {"epochs": 3}}
    run = start(tmp_path / "two", target, *SLURM, config=config | {"nodes": 2})
    wait_for(lambda: "2,wa[1-2],gres:gpu:1" in squeue("%D,%N,%b"))  # after the job that packs
    assert run.wait(timeout=300) == 0, (tmp_path / "two" / "log").read_text()
    run = snakemake(tmp_path / "one", target, config=config | {"processes": 2})
    assert run.returncode == 0, run.stdout
    one, two = (read_checkpoint(tmp_path / name / target) for name in ("one", "two"))
    assert one[1] == two[1] and two[1]["engine"]["processes"] == 2
    assert all((one[0][name] == two[0][name]).all() for name in one[0])
