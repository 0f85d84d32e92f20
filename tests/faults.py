"""Faults: what a study does when it is killed or damaged, or when it is started twice.

    python tests/faults.py        (make faults, about 45 minutes on two busy cores)

It prints a table: the fault, what was seen, and how it ended. A study must end in the same bits as
the undisturbed one, or in one clear error. Each row is a test here or in
tests/training/test_resume.py.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import (
    ROOT,
    program,
    scheduled,
    second_task,
    small_study,
    snakemake,
    snakemake_command,
)
from training.test_resume import processes_of, small_disk  # noqa: F401 (a fixture)

BASE = "results/tiny/order-1993/seed-0/base-6"
SECOND = f"{BASE}/inc-4/wa/task-1"
DAY = 86400
EPOCHS = 30
MOMENTS = random.Random(0)


@pytest.fixture(scope="session")
def config() -> dict:
    """A study of two trainings. Each is so long that a random moment is often in one of them."""
    study = small_study() | {"device": "cpu", "protocols": [{"base": 6, "increment": 4}]}
    study["methods"] = {"wa": study["methods"]["wa"]}
    study["training"] |= {"epochs": EPOCHS}
    return study


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, config) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    run = snakemake(folder, "metrics", config=config)
    assert run.returncode == 0, run.stdout
    return folder


@pytest.fixture
def done(undisturbed, tmp_path) -> Path:
    """A copy of the undisturbed study.

    It lies as deep as that, because a relative path names the code, an input of the rules.
    """
    return shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)


def start(folder: Path, config: dict) -> subprocess.Popen:
    command = snakemake_command(folder, "metrics", config=config)
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for(condition, process: subprocess.Popen):
    """What the condition returns, as soon as it is true. None if the process ends earlier."""
    while process.poll() is None:
        if value := condition():
            return value
        time.sleep(0.01)


def errors(output: str) -> list[str]:
    """The errors of the programs of wa/, each once."""
    assert "Traceback" not in output, output
    return list(dict.fromkeys(re.findall(r"^\s*error: (.*)", output, re.M)))


def assert_same(folder: Path, undisturbed: Path) -> None:
    """Everything that a study leaves has the same bits, except for times."""
    kinds, times = (".safetensors", ".npz", ".npy", ".json", ".csv"), ("history.csv",)
    files = [
        p.relative_to(undisturbed)
        for p in undisturbed.glob("results/**/*")
        if p.suffix in kinds and p.name not in times
    ]
    assert len(files) > 15
    assert [f for f in files if (folder / f).read_bytes() != (undisturbed / f).read_bytes()] == []


def finish(folder: Path, config: dict, undisturbed: Path) -> None:
    """The same command, run again, succeeds and gives the same bits."""
    run = snakemake(folder, "metrics", config=config)
    assert run.returncode == 0, run.stdout
    assert_same(folder, undisturbed)


@pytest.mark.parametrize("number", range(10))
def test_sigkill_of_a_training(undisturbed, config, tmp_path, number, record_property):
    tables = [undisturbed / folder / "train.benchmark.tsv" for folder in (BASE, SECOND)]
    moment = MOMENTS.uniform(
        0, sum(float(table.read_text().split("\n")[1].split()[0]) for table in tables)
    )
    run = start(tmp_path, config)
    wait_for((tmp_path / BASE / "train.log").exists, run)
    time.sleep(moment)
    killed = wait_for(
        lambda: (
            processes_of(tmp_path, "wa.training.train")
            or processes_of(tmp_path, "wa.training.launch")
        ),
        run,
    )
    for pid in killed or []:
        os.kill(pid, signal.SIGKILL)
    run.communicate()
    logs = [tmp_path / folder / "train.log" for folder in (BASE, SECOND)]
    log = [file for file in logs if file.exists()][-1]
    epochs = re.findall(r"^epoch [0-9/]+", log.read_text(), re.M)
    said = f"{log.parent.name}: {epochs[-1] if epochs else 'before its first epoch'}"
    assert not killed or run.returncode
    finish(tmp_path, config, undisturbed)
    what = f"SIGKILL of a training, {moment:.1f} s after the first began"
    record_property("row", (what, said if killed else "none was running any more", "same bits"))


def test_a_read_only_file_system(digits, base, small_disk, record_property):  # noqa: F811
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    run = program("wa.training.train", *second_task(digits, base, small_disk / "output"))
    said = errors(run.stdout)
    assert run.returncode == 1 and len(said) == 1 and "Read-only file system" in said[0], run.stdout
    record_property("row", ("a read-only file system", said[0], "one error"))


@pytest.mark.parametrize("how", ["truncated", "with a flipped bit"])
@pytest.mark.parametrize(
    "name",
    [
        f"{BASE}/model.safetensors",
        f"{BASE}/trained.safetensors",
        f"{BASE}/features.npz",
        f"{BASE}/herding.npz",
        "results/data/digits/train_images.npy",
    ],
)
def test_a_damaged_file(undisturbed, config, done, name, how, record_property):
    data = bytearray((done / name).read_bytes())
    if how == "truncated":
        del data[len(data) // 2 :]
    else:
        data[len(data) * 2 // 3] ^= 4
    (done / name).write_bytes(data)
    run = snakemake(done, "metrics", config=config)
    said = errors(run.stdout)
    assert (
        run.returncode
        and len(said) == 1
        and f"{name} is damaged" in said[0]
        and "run again" in said[0]
    ), run.stdout
    (done / name).unlink()  # as the error says
    finish(done, config, undisturbed)
    record_property(
        "row",
        (
            f"{Path(name).name} {how}",
            said[0].replace(f"{BASE}/", ""),
            "one error; deleted, same bits",
        ),
    )


@pytest.mark.parametrize(
    "name", ["order-1993/order.json", f"{BASE.partition('tiny/')[2]}/alignment.json"]
)
def test_a_truncated_text(undisturbed, config, done, name, record_property):
    file = done / "results/tiny" / name
    file.write_text(file.read_text()[:-20])
    run = snakemake(done, "metrics", config=config)
    said = errors(run.stdout)
    assert run.returncode and len(said) == 1 and f"{name} is damaged" in said[0], run.stdout
    file.unlink()
    finish(done, config, undisturbed)
    record_property(
        "row",
        (
            f"{file.name} truncated",
            said[0].replace(f"{BASE}/", ""),
            "one error; deleted, same bits",
        ),
    )


def test_the_clock_set_back(undisturbed, config, tmp_path, record_property):
    """The clock goes back by a day in a study, so earlier results have a date of tomorrow."""
    run = snakemake(tmp_path, f"{BASE}/model.safetensors", f"{BASE}/herding.npz", config=config)
    assert run.returncode == 0, run.stdout
    before = {
        p: (p.read_bytes(), p.stat().st_mtime)
        for p in tmp_path.glob("results/**/[!.]*")
        if p.is_file()
    }

    def shift(seconds: int) -> None:
        for file, (_, made) in before.items():
            os.utime(file, (made + seconds, made + seconds))

    shift(DAY)
    run = snakemake(tmp_path, "metrics", config=config)
    said = re.findall(r"Output \S+ has older modification time|clock skew", run.stdout)
    assert run.returncode and said and "Traceback" not in run.stdout, run.stdout
    assert all(file.read_bytes() == data for file, (data, _) in before.items())
    shift(0)
    finish(tmp_path, config, undisturbed)
    ending = "one error, what the present job made is lost; with the clock right, same bits"
    record_property(
        "row",
        ("the clock set back by a day", f"Snakemake: {said[0]} than input ... clock skew", ending),
    )


def test_two_snakemakes(undisturbed, config, tmp_path, record_property):
    both = [start(tmp_path, config), start(tmp_path, config)]
    outputs = [process.communicate()[0] for process in both]
    refused = [output for process, output in zip(both, outputs, strict=True) if process.returncode]
    assert (
        len(refused) == 1
        and "another Snakemake runs this study" in refused[0]
        and "Traceback" not in refused[0]
    ), outputs
    assert_same(tmp_path, undisturbed)
    said = re.search(r"another Snakemake.*", refused[0])[0]
    record_property(
        "row",
        (
            "two Snakemakes at once",
            re.sub(r"process \d+ on [^:\s]+", "process N on HOST", said),
            "one error, same bits",
        ),
    )


def test_a_config_changed_under_a_running_study(undisturbed, config, tmp_path, record_property):
    run = start(tmp_path, config)
    wait_for((tmp_path / BASE / "train.log").exists, run)
    text = (tmp_path / "study.yaml").read_text()
    (tmp_path / "study.yaml").write_text(text.replace(f"epochs: {EPOCHS}", f"epochs: {EPOCHS + 1}"))
    output, _ = run.communicate()
    assert run.returncode == 0, output
    assert_same(tmp_path, undisturbed)
    changed = config | {"training": config["training"] | {"epochs": EPOCHS + 1}}
    assert scheduled(tmp_path, changed, "metrics")["train"] == 2
    record_property(
        "row",
        (
            "the config changed meanwhile",
            "the run goes on; the next one trains both tasks",
            "same bits",
        ),
    )


class Table:
    """A plugin of pytest that prints the rows."""

    def __init__(self):
        self.rows: list[tuple[str, str, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.rows += [
            row
            for name, row in report.user_properties
            if name == "row" and report.when == "call" and report.passed
        ]

    def __str__(self) -> str:
        lines = [("fault", "what was seen", "how it ended"), ("---", "---", "---"), *self.rows]
        return "\n".join(
            f"| {' | '.join(text.replace(str(ROOT), '.') for text in row)} |" for row in lines
        )


if __name__ == "__main__":
    table = Table()
    status = pytest.main(
        ["-q", __file__, str(ROOT / "tests/training/test_resume.py")], plugins=[table]
    )
    print(re.sub(r"/tmp/pytest-\S+?/(?=output|disk|results|file)", "", str(table)))
    sys.exit(status)
