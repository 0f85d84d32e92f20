"""docs/growing.md: every command of the page is run, on small images."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers import ROOT, add_images

from wa.checkpoint import read_header

PAGE = (ROOT / "docs/growing.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(yaml|sh)\n(.*?)^```$", PAGE, re.M | re.S)


def link_programs(folder: Path) -> None:
    """`snakemake` and `wa` as the page calls them: of this checkout."""
    folder.mkdir()
    for name, options in (("snakemake", f"snakemake --snakefile {ROOT}/Snakefile"), ("wa", "wa")):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -m {options} "$@"\n')
        script.chmod(0o755)


@pytest.mark.slow
def test_the_story_of_the_page(tmp_path):
    """The config has its images before it is run. A block may say that it fails."""
    link_programs(tmp_path / "bin")
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}
    config, released = {}, []
    for language, text in BLOCKS:
        if language == "yaml":
            config |= yaml.safe_load(text)
            (tmp_path / "shop.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
            for name in config["tasks"][-1]:
                if not (tmp_path / "shop/test" / name).exists():
                    add_images(tmp_path / "shop", [name], 40, 20)
            continue
        run = subprocess.run(
            ["bash", "-ec", text],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert run.returncode == ("exit status 1" in text), f"{text}\n{run.stdout}"
        if "ln -sfn" in text:
            released.append(read_header(tmp_path / "current")["classes"])
    assert list(map(len, released)) == [8, 10, 12, 10]
    assert released[2][-2:] == ["fox", "wolf"]
