"""Leases of GPUs: two trainings never share a slot, and no slot is lost when one is killed.

No GPU is needed: the names are made up.
"""

import errno
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from itertools import pairwise
from pathlib import Path

import pytest
from helpers import ROOT, program, task_options

from wa.errors import UserError
from wa.training import gpu_lease
from wa.training.gpu_lease import lease

# A launcher and its worker. The worker has a session of its own, as torchrun's workers have. It
# notes when it begins and ends.
JOB = """
import os, subprocess, sys
from wa.training.launch import use_gpus
use_gpus(int(sys.argv[1]), int(sys.argv[2]))
subprocess.run([sys.executable, "-S", "-c", '''
import os, sys, time
def note(what):
    names = os.environ["CUDA_VISIBLE_DEVICES"]
    words = (what, os.getpid(), os.getppid(), time.monotonic(), names)
    os.write(events, (" ".join(map(str, words)) + "\\\\n").encode())
events = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
note("begin")
time.sleep(float(sys.argv[2]))
note("end")
''', sys.argv[3], sys.argv[4]], start_new_session=True)
"""


@pytest.fixture
def names() -> list[str]:
    """Four GPUs that nobody else has."""
    mark = uuid.uuid4().hex[:8]
    return [f"GPU-{mark}-{i}" for i in range(4)]


def start(
    names: list[str], events: Path, count: int, seconds: float, runs_per_gpu: int = 1
) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ",".join(names)}
    command = [sys.executable, "-c", JOB, *map(str, (count, runs_per_gpu, events, seconds))]
    return subprocess.Popen(command, env=environment)


def read(events: Path) -> list[list[str]]:
    return (
        [line.split() for line in events.read_text(encoding="utf-8").splitlines()]
        if events.exists()
        else []
    )


@pytest.mark.slow
def test_forty_trainings_on_four_gpus_some_killed(names, tmp_path):
    draw, events = random.Random(0), tmp_path / "events"
    counts = [draw.choice([1, 1, 1, 2, 3]) for _ in range(40)]
    processes = [start(names, events, count, draw.uniform(0.05, 0.4)) for count in counts]
    killed: dict[str, float] = {}  # worker -> when it was sent a SIGKILL
    leaders = set()
    while any(p.poll() is None for p in processes):
        time.sleep(0.1)
        lines = read(events)
        ended = {line[1] for line in lines if line[0] == "end"}
        for _, worker, parent, *_ in [
            line for line in lines if line[0] == "begin" and line[1] not in ended
        ]:
            chance = draw.random()
            if parent not in leaders and int(parent) in {p.pid for p in processes} and chance < 0.4:
                leaders.add(parent)
                os.kill(int(parent), signal.SIGKILL)  # the worker goes on alone
                if chance < 0.2:
                    killed[worker] = time.monotonic()
                    os.kill(int(worker), signal.SIGKILL)
        waiting = [
            p
            for p in processes
            if p.poll() is None and str(p.pid) not in {line[2] for line in lines}
        ]
        if waiting and draw.random() < 0.1:
            draw.choice(waiting).kill()  # at the gate, or before it
    assert leaders and killed
    time.sleep(0.5)  # workers that go on alone

    lines = read(events)
    began = {line[1]: float(line[3]) for line in lines if line[0] == "begin"}
    end = {line[1]: float(line[3]) for line in lines if line[0] == "end"} | killed
    assert began.keys() == end.keys()
    launchers_killed = sum(p.returncode == -signal.SIGKILL for p in processes)
    assert len(began) + launchers_killed >= 40  # nobody waited for ever
    for name in names:
        holders = sorted(
            (began[line[1]], end[line[1]])
            for line in lines
            if line[0] == "begin" and name in line[4].split(",")
        )
        assert len(holders) > 4
        for (_, before), (after, _) in pairwise(holders):
            assert before < after, f"two on {name}"
    assert start(names, events, 4, 0).wait(timeout=20) == 0  # no slot is lost


def test_several_runs_share_a_gpu_and_spread_first(names, tmp_path):
    held = [lease(names[:2], 1, 2, tmp_path) for _ in range(4)]
    assert [n for _, n in held] == [names[:1], names[1:2]] * 2
    os.close(held[1][0])
    assert lease(names[:2], 1, 2, tmp_path)[1] == names[1:2]


def test_a_slurm_job_asks_for_its_own_gpus_only(names, tmp_path, monkeypatch):
    kept = lease(names, 4, 1, tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "7")  # its GPU 0 need not be that of the job beside it
    assert lease(names, 4, 1, tmp_path)[1] == kept[1] == names


def test_too_few_gpus_is_one_error(names, digits, tmp_path):
    with pytest.raises(UserError, match="needs 5 whole GPUs, but only 4 can be seen"):
        lease(names, 5, 1, tmp_path)
    options = ["--processes", 2, "--", *task_options(digits, tmp_path)]
    run = program("wa.training.launch", *options, CUDA_VISIBLE_DEVICES="0")
    assert run.returncode == 1 and run.stdout.startswith(
        "error: a training of 2 processes needs 2 whole GPUs, but only 1"
    )


def test_several_gpus_are_whole_ones(tmp_path):
    """CUDA shows a process one slice, so two processes could not use two of them."""
    devices = ["0", "MIG-a", "MIG-b"]
    assert lease(devices[1:], 1, 1, tmp_path)[1] == ["MIG-a"]
    with pytest.raises(UserError, match="needs 2 whole GPUs, but only 1 can be seen here"):
        lease(devices, 2, 1, tmp_path)


def test_a_folder_that_is_not_ones_own_is_refused(names, tmp_path):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(OSError):
        lease(names, 1, 1, tmp_path / "link")
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(UserError, match="not yours alone"):
        lease(names, 1, 1, tmp_path / "open")
    (tmp_path / "victim").write_text("content")
    (tmp_path / "real" / "gpus").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError):
        lease(names, 1, 1, tmp_path / "real")


def test_a_file_system_without_locks(names, tmp_path, monkeypatch, capsys):
    def without(file, command, argument):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(gpu_lease.fcntl, "fcntl", without)
    _, taken = lease(names, 2, 1, tmp_path / "slots")
    assert taken == names[:2]
    assert f"{tmp_path / 'slots/gpus'}: its file system has no locks" in capsys.readouterr().out
