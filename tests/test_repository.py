"""The repository is in step with itself."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from helpers import ROOT, program

import wa


def pins() -> dict[str, set[str]]:
    lines = re.findall(r"^([a-z0-9-]+)==([^\s;]+)", (ROOT / "requirements.txt").read_text(), re.M)
    found: dict[str, set[str]] = {}
    for name, version in lines:
        found.setdefault(name, set()).add(version)
    return found


def wanted() -> list[str]:
    """What pyproject.toml asks for; Slurm is apart."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return (
        project["dependencies"]
        + project["optional-dependencies"]["train"]
        + project["optional-dependencies"]["onnx"]
        + project["optional-dependencies"]["serve"]
        + project["optional-dependencies"]["dev"]
    )


def test_requirements_pin_what_pyproject_asks_for_and_name_no_registry():
    for requirement in wanted():
        name, version = re.match(r"([\w-]+)(?:==([\w.]+))?", requirement).groups()
        assert name in pins(), name
        assert version is None or pins()[name] == {version}
    assert int(next(iter(pins()["pillow"])).split(".")[0]) < 13
    assert not re.search(r"://|index-url|find-links", (ROOT / "requirements.txt").read_text())


def test_environment_is_requirements():
    python, _, pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert python == "python=3.11"
    assert [p.split("==")[0] for p in pip["pip"]] == [
        re.match(r"[\w-]+", requirement).group() for requirement in wanted()
    ]
    for name, version in (p.split("==") for p in pip["pip"]):
        assert version in pins()[name], name


LIGHT = (
    "methods.selection",
    "methods.alignment",
    "analysis.evaluate",
    "analysis.metrics",
    "analysis.aggregate",
    "data.scenario",
    "data.datasets",
    "study.study",
    "study.settings",
    "code",
    "identity",
    "training.launch",
)
HEAVY = {
    "torch",
    "torchvision",
    "continuum",
    "pandas",
    "seaborn",
    "matplotlib",
    "sklearn",
    "snakemake",
    "PIL",
    "timm",
}


@pytest.mark.parametrize(
    "module, allowed",
    [
        ("commands.show", set()),
        ("commands.predict", {"torch"}),
        ("commands.export", {"torch"}),
        *((module, set()) for module in LIGHT),
        ("training.train", {"torch"}),
        ("analysis.figures.__main__", set()),
        ("analysis.figures.catalog", set()),
        ("training.progress", set()),
        ("training.history", set()),
        ("commands.status", set()),
        ("analysis.figures.tables", {"pandas"}),
        ("analysis.results_table", {"pandas"}),
    ],
)
def test_no_program_imports_more_than_it_needs(module, allowed):
    code = f"import sys, wa.{module}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    assert not (set(run.stdout.split()) & HEAVY) - allowed


def test_every_program_explains_itself():
    for file in sorted((ROOT / "wa").rglob("*.py")):
        if 'if __name__ == "__main__"' in file.read_text():
            module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            module = module.removesuffix(".__main__")
            run = program(module, "--help")
            assert run.returncode == 0 and "usage:" in run.stdout, f"{file}: {run.stdout}"


def test_no_path_of_a_machine():
    files = subprocess.run(
        ["git", "ls-files"], capture_output=True, text=True, cwd=ROOT
    ).stdout.split()
    kinds = (".py", ".smk", ".yaml", ".md", ".toml", ".txt", ".yml", "")
    for file in files:
        if (ROOT / file).suffix in kinds and (ROOT / file).is_file():
            assert "/ho" + "me/" not in (ROOT / file).read_text(), file


def test_the_version_stands_in_one_place_and_heads_the_changelog():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" in project["dynamic"] and "version" not in project
    newest = re.search(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)[1]
    assert newest == wa.__version__
    run = subprocess.run(
        [sys.executable, "-m", "wa", "--version"], capture_output=True, text=True, cwd=ROOT
    )
    assert run.stdout == f"wa {wa.__version__}\n"


def test_the_citation_has_what_the_format_demands():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)
    licence = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"]
    assert citation["license"] == licence
    assert (ROOT / "LICENSE").read_text().startswith(f"{licence} License")
    for reference in citation["references"]:
        assert {"type", "title", "authors"} <= set(reference)
        assert all({"given-names", "family-names"} <= set(a) for a in reference["authors"])


def test_git_keeps_the_explanation_of_results_and_no_result():
    names = ["results/README.md", "results/digits/metrics.csv", "results/data/digits/dataset.json"]
    run = subprocess.run(
        ["git", "check-ignore", "--no-index", *names], capture_output=True, text=True, cwd=ROOT
    )
    assert run.stdout.splitlines() == names[1:]


@pytest.fixture
def made(tmp_path) -> Path:
    """A checkout whose set-up is done, as far as make can tell. Its path has a space."""
    folder = tmp_path / "my checkout"
    (folder / ".venv/bin").mkdir(parents=True)
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    (folder / ".venv/bin/python").symlink_to(sys.executable)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    (folder / ".venv/made-for").write_text(f"{folder} with Python {version}\n")
    (folder / ".venv/done").touch()
    return folder


def make(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess:
    outer = ("PYTHON", "CORES", "MAKEFLAGS", "MAKELEVEL")  # of the make that runs these tests
    kept = {name: value for name, value in os.environ.items() if name not in outer}
    return subprocess.run(
        ["make", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env=kept | environment,
    )


def fake_python(file: Path, version: str, is_new_enough: bool) -> Path:
    """A program that answers the two questions that the Makefile asks a Python."""
    status = 0 if is_new_enough else 1
    answer = f'case "$2" in *print*) echo {version};; *) exit {status};; esac'
    file.write_text(f"#!/bin/sh\n{answer}\n", encoding="utf-8")
    file.chmod(0o755)
    return file


def test_make_sets_up_again_if_the_python_differs_or_the_checkout_moved(made):
    setup = ("--dry-run", "setup")
    assert "Nothing to be done" in make(made, *setup).stdout
    assert "Nothing to be done" in make(made, *setup, f"PYTHON={sys.executable}").stdout
    other = fake_python(made / "python9", "3.99", is_new_enough=True)
    assert f"{other.name} -m venv .venv" in make(made, *setup, f"PYTHON=./{other.name}").stdout
    moved = made.rename(made.with_name("moved"))
    assert "rm -rf .venv" in make(moved, *setup).stdout


def test_make_says_which_python_it_needs(made):
    old = fake_python(made / "python2", "2.7", is_new_enough=False)
    for python in (f"./{old.name}", "./none"):
        run = make(made, "setup", f"PYTHON={python}")
        said, end = run.stdout.splitlines()
        assert said.startswith(f"{python} must be Python 3.11 or newer.")
        assert end.startswith("make: ***") and run.returncode == 2
        assert (made / ".venv/done").exists()


def test_make_takes_a_config_with_a_space():
    run = make(ROOT, "--dry-run", "--old-file=.venv/done", "run", "CONFIG=my x.yaml", CORES="2")
    assert run.stdout.endswith("\n.venv/bin/snakemake --cores 2 --configfile 'my x.yaml'\n")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, " does not exist. Give the path of a config"),
        (b"methods:\n\twa: {}\n", ":2:1: this is not valid YAML"),
        ("experiment: mine\n".encode("utf-16"), ":1:1: the byte 0xff is not UTF-8"),
        (b"", ":1:1: this holds no keys"),
        (b"seeds: !!python/object/apply:os.system [exit]\n", ":1:8: the tag tag:yaml.org"),
    ],
)
def test_make_says_in_one_line_that_a_config_cannot_be_read(tmp_path, content, said):
    file = tmp_path / "my x.yaml"
    if content is not None:
        file.write_bytes(content)
    for target in ("run", "draft", "report"):
        words = (target, f"CONFIG={file}", f"BIN={Path(sys.executable).parent}")
        run = make(ROOT, "--old-file=.venv/done", *words)
        first, end = run.stdout.splitlines()
        assert first.startswith(f"error: {file}{said}"), run.stdout
        assert end.startswith("make: ***") and run.returncode == 2


def test_the_report_lies_in_the_folder_of_the_study_whatever_the_config(tmp_path):
    for name, words in (("digits", []), ("mine", [f"CONFIG={tmp_path / 'my x.yaml'}"])):
        text = (ROOT / "config/config.yaml").read_text()
        (tmp_path / "my x.yaml").write_text(
            text.replace("experiment: digits", f"experiment: {name}")
        )
        run = make(
            ROOT,
            *("--dry-run", "--old-file=.venv/done", "report"),
            *words,
            f"BIN={Path(sys.executable).parent}",
        )
        assert f"--report 'results/{name}/report.html'" in run.stdout
        assert f"--report 'results/{name}/report.zip'" in run.stdout
    assert (ROOT / re.search(r"--report-stylesheet (\S+)", run.stdout)[1]).is_file()


def test_make_counts_cores_whatever_the_number_of_openmp_threads(made):
    for threads in ("1", "7"):
        run = make(made, "--dry-run", "run", OMP_NUM_THREADS=threads)
        cores = re.search(r"--cores (\d+)", run.stdout)[1]
        assert int(cores) == len(os.sched_getaffinity(0))


def test_make_clean_keeps_results(made):
    result = made / "results/digits/metrics.csv"
    result.parent.mkdir(parents=True)
    result.touch()
    (made / ".snakemake").mkdir()
    for package in ("wa", "tests"):
        (made / package / "__pycache__").mkdir(parents=True)
    run = make(made, "clean")
    assert run.returncode == 0 and "results/ and .snakemake/ stay" in run.stdout
    assert result.exists() and (made / ".snakemake").exists()
    assert not (made / ".venv").exists() and not (made / "wa/__pycache__").exists()
