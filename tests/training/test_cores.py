"""A training says that it waits for processor cores."""

import os
import subprocess
import sys
import time

import pytest

from wa.training import cores

SPIN = "while True: pass"


@pytest.fixture
def one_core():
    """This process has one core for itself, until the test ends."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def spin(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def test_waiting_for_a_core_is_said_once(one_core):
    others = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(3)]
    try:
        time.sleep(0.3)  # until they spin
        found = cores.Cores()
        spin(1)
        assert "% of its time for a processor core" in found.warning()
        spin(0.5)
        assert found.warning() == ""
    finally:
        for other in others:
            other.kill()
            other.wait()


def test_a_training_that_does_not_wait_says_nothing():
    found = cores.Cores()
    time.sleep(0.5)  # it does not want a core
    assert found.warning() == ""


@pytest.mark.parametrize("text", [None, "", "12 words 3"])
def test_a_system_that_cannot_tell_is_silent(tmp_path, monkeypatch, text):
    file = tmp_path / "schedstat"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr(cores, "WAITS", file)
    assert cores.waited() == 0.0 and cores.Cores().warning() == ""
