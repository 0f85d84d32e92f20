"""The service of docs/serving.md: it is taken out of the page, started, asked, and switched."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from helpers import ROOT, random_checkpoint
from test_docs import blocks

import wa

PAGE = ROOT / "docs/serving.md"
IMAGE = ROOT / "docs/images/seven.png"


def commands() -> list[str]:
    """The lines of the page's blocks marked sh."""
    text = "".join(block for _, block in blocks(PAGE, "sh"))
    return [re.sub(r"\s+#.*", "", line) for line in text.splitlines()]


def links() -> list[str]:
    return [command for command in commands() if command.startswith("ln ")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with serve.py, and a checkpoint in each place that a command of the page links."""
    folder = tmp_path_factory.mktemp("service")
    ((_, code),) = blocks(PAGE, "python")
    (folder / "serve.py").write_text(code, encoding="utf-8")
    for number, target in enumerate(dict.fromkeys(command.split()[2] for command in links())):
        (folder / target).parent.mkdir(parents=True)
        random_checkpoint(folder / target, seed=number)
    return folder


def run(folder: Path, command: str) -> Path:
    """Run a command of the page. Returns the file that the link then names."""
    subprocess.run(command, shell=True, cwd=folder, check=True)
    return (folder / "current").resolve()


@pytest.fixture(scope="module")
def address(folder):
    """The service in another process, started as the page says, on a free port."""
    run(folder, links()[0])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    (start,) = [command for command in commands() if "uvicorn" in command]
    setting, program, *words = start.split()
    assert program == ".venv/bin/uvicorn"
    words[words.index("--port") + 1] = port
    name, value = setting.split("=")
    environment = os.environ | {"PYTHONPATH": str(ROOT), name: value}
    command = [sys.executable, "-m", "uvicorn", *words]
    with open(folder / "log.txt", "w", encoding="utf-8") as log:
        service = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        wait_for(service, int(port), folder / "log.txt")
        yield f"http://127.0.0.1:{port}"
    finally:
        service.terminate()
        service.wait(30)


def wait_for(service: subprocess.Popen, port: int, log: Path) -> None:
    """Wait until the service takes connections."""
    for _ in range(600):
        assert service.poll() is None, log.read_text(encoding="utf-8")
        with socket.socket() as connection:
            if connection.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise AssertionError(f"the service did not start:\n{log.read_text(encoding='utf-8')}")


def ask(url: str, data: bytes | None = None) -> tuple[int, dict]:
    """The status and the answer. data: what is posted; None: it is a GET."""
    try:
        with urllib.request.urlopen(url, data, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_the_page_shows_the_requests_that_these_tests_make():
    paths = [re.search(r"127\.0\.0\.1:8000(/\w+)", c)[1] for c in commands() if "curl" in c]
    assert paths == ["/predict", "/version"]
    ((_, code),) = blocks(PAGE, "python")
    lines = [line for line in code.splitlines() if line.strip() and '"""' not in line]
    assert len([line for line in lines if not re.match(r"import|from", line)]) <= 32


def test_an_image_gets_its_classes_and_the_version(address, folder):
    model = wa.load(folder / "current")
    status, found = ask(f"{address}/predict", IMAGE.read_bytes())
    assert status == 200 and found["version"] == model.version
    for best, (name, value) in zip(found["top"], model.top(IMAGE), strict=True):
        assert best == {"class": name, "probability": pytest.approx(value, abs=1e-6)}
    assert ask(f"{address}/version") == (200, {"version": model.version, "classes": model.classes})


def test_what_is_no_image_is_refused_in_words(address):
    status, found = ask(f"{address}/predict", b"no image")
    assert status == 400 and "it is not an image" in found["error"]
    assert ask(f"{address}/predict", IMAGE.read_bytes())[0] == 200


def test_a_new_version_answers_and_then_the_old_one_again(address, folder):
    versions = []
    for command in links():
        expected = wa.load(run(folder, command)).version
        status, found = ask(f"{address}/predict", IMAGE.read_bytes())
        assert status == 200 and found["version"] == expected
        versions.append(expected)
    first, second, third = versions
    assert first == third != second


def test_a_damaged_or_absent_version_leaves_the_old_one_in_service(address, folder):
    before = ask(f"{address}/version")
    damaged = folder / "damaged.safetensors"
    shutil.copy(folder / "current", damaged)
    damaged.write_bytes(damaged.read_bytes()[:-50])
    for target in (damaged, folder / "absent.safetensors"):
        run(folder, f"ln -sfn {target} current")
        assert ask(f"{address}/version") == before
        assert ask(f"{address}/predict", IMAGE.read_bytes())[0] == 200
    log = (folder / "log.txt").read_text(encoding="utf-8")
    assert "the old version goes on" in log and "damaged.safetensors is damaged" in log
    run(folder, links()[1])
    assert ask(f"{address}/version") != before
    run(folder, links()[0])
    assert ask(f"{address}/version") == before
