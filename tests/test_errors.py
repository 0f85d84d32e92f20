"""How messages name a program."""

import sys

import pytest

from wa.errors import command


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A checkout with spaces in its path, whose .venv has snakemake."""
    folder = tmp_path / "my checkout/.venv/bin"
    folder.mkdir(parents=True)
    (folder / "snakemake").touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path / "my checkout")
    return tmp_path


def test_a_program_is_named_as_the_user_must_call_it(place, monkeypatch):
    assert command("snakemake") == ".venv/bin/snakemake"
    monkeypatch.chdir(place)
    assert command("snakemake") == "'my checkout/.venv/bin/snakemake'"
    (place / "elsewhere").mkdir()
    monkeypatch.chdir(place / "elsewhere")
    assert command("snakemake") == f"'{place}/my checkout/.venv/bin/snakemake'"


def test_a_program_that_the_shell_finds_has_its_name(place, monkeypatch):
    (place / "snakemake").touch(mode=0o755)  # another one
    assert command("snakemake") == ".venv/bin/snakemake"
    monkeypatch.setenv("PATH", ".venv/bin")
    assert command("snakemake") == "snakemake"
    assert command("another") == "another"  # not beside this Python
