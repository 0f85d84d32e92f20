"""The repository is in step with itself."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]


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
        + project["optional-dependencies"]["onnx"]
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
    "study.code",
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
            command = [sys.executable, "-m", module, "--help"]
            run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
            assert run.returncode == 0 and "usage:" in run.stdout, f"{file}: {run.stderr}"


def test_no_path_of_a_machine():
    files = subprocess.run(
        ["git", "ls-files"], capture_output=True, text=True, cwd=ROOT
    ).stdout.split()
    for file in files:
        if (ROOT / file).suffix in (".py", ".smk", ".yaml", ".md", ".toml", ".txt", ".yml", ""):
            assert "/ho" + "me/" not in (ROOT / file).read_text(), file
