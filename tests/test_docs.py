"""The documents are in step with the program: commands run, quoted lines and links are there.

The commands are run in the order of the documents. They run in a copy of this checkout whose
default study trains for one epoch.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers import ROOT

from wa.study.study import Study

NAMES = (
    "README.md",
    "config/README.md",
    "profiles/slurm/README.md",
    "docs/tutorial.md",
    "docs/methods.md",
    "docs/results.md",
    "docs/comparing.md",
    "CONTRIBUTING.md",
    "results/README.md",
)
OTHERS = ("config", "measurements", "faults", "serving", "growing", "choosing", "papers")
DOCUMENTS = [ROOT / name for name in NAMES]


def falls_and_rises(output: str) -> bool:
    """docs/forgetting.py: the old classes are forgotten and the new ones learned."""
    rows = [[float(x) for x in re.findall(r"([\d.]+) %", line)] for line in output.splitlines()[1:]]
    return rows[0][0] > 90 and rows[0][1] < 10 and rows[-1][0] < 10 and rows[-1][1] > 80


def is_better_aligned(output: str) -> bool:
    """docs/aligning.py: gamma is below 1, then the mean norms are alike and accuracy is higher."""
    norms = [
        [float(x) for x in re.findall(r"\d\.\d\d", line)] for line in output.splitlines()[1:11]
    ]
    before, after = (float(x) for x in re.findall(r"all +([\d.]+) %", output))
    gap = sum(row[1] for row in norms[:5]) - sum(row[1] for row in norms[5:])
    return (
        float(re.search(r"gamma = ([\d.]+)", output)[1]) < 1 and abs(gap) < 0.1 and after > before
    )


def no_factor_is_best(output: str) -> bool:
    """docs/factors.py: 0.5 is better than gamma with 2 images per class, and worse with all."""
    rows = [line.split() for line in output.splitlines()[1:]]
    gained = {"2": [], "20": [], "all": []}
    for memory, _, _, _, *percent in rows:
        by_half, by_gamma = float(percent[3]), float(percent[5])
        gained[memory].append(by_half - by_gamma)
    return len(rows) == 12 and min(gained["2"]) > 0 > max(gained["all"])


def keeps_old_classes(output: str) -> bool:
    """docs/loop.py: four tasks, and at the end far more is known than the two newest classes."""
    aligned = [float(x) for x in re.findall(r"aligned +([\d.]+) %", output)]
    return len(aligned) == 4 and aligned[0] > 90 and 50 < aligned[3] < 95


# Three things for each command of the documents: a regular expression that matches it, the command
# that the test runs (\g<0> is the same command), and a check of the output, or None. A command that
# nothing here matches fails the test.
COMMANDS = [
    # The environment that runs this test needs no set-up.
    (
        r"make (run|images|report|draft|reference)( CONFIG=.*)?",
        r"make --old-file=.venv/done \1\2",
        None,
    ),
    # CI does set-up, lint and tests.
    (
        r"make (setup|test|test-all|test-gpu|lint|slurm|test-slurm|fuzz|faults|clean)",
        r"make --dry-run \1",
        None,
    ),
    # tests/slurm runs it.
    (r"snakemake --profile profiles/slurm", "make --dry-run test-slurm", None),
    (r"cp config/config.yaml config/mine.yaml", r"\g<0>", None),
    (r"(\.venv/bin/)?snakemake .*cifar.*", r"\g<0> --dry-run", None),  # needs a GPU, and a download
    (r"snakemake .*digits-authors.*", r"\g<0> --dry-run", None),  # half an hour
    (r"(\.venv/bin/)?snakemake .*", r"\g<0>", None),
    (r"\.venv/bin/python -m pytest tests/\S+", r"\g<0> --collect-only -q", None),
    (r"\.venv/bin/python docs/forgetting.py", r"\g<0>", falls_and_rises),
    (r"\.venv/bin/python docs/aligning.py", r"\g<0>", is_better_aligned),
    (r"\.venv/bin/python docs/factors.py", r"\g<0>", no_factor_is_best),
    (r"\.venv/bin/python docs/loop.py", r"\g<0>", keeps_old_classes),
    (r"\.venv/bin/wa predict .*", r"\g<0>", lambda output: output.count(" %  ") == 5),
    (r"\.venv/bin/wa status .*", r"\g<0>", lambda output: "tasks evaluated" in output),
    (r"\.venv/bin/wa doctor", r"\g<0>", lambda output: "cores" in output),
    (r"\.venv/bin/wa show .*", r"\g<0>", lambda output: "10 of 10 classes learned" in output),
    (
        r"\.venv/bin/wa compare .*",
        r"\g<0>",
        lambda output: re.search(r"agreement on old classes +\d", output) is not None,
    ),
    (
        r"\.venv/bin/wa export .*",
        r"\g<0>",
        lambda output: "differs from PyTorch's by at most" in output,
    ),
]


def blocks(document: Path, language: str) -> list[tuple[str, str]]:
    """(the line above, the text) of each block of code in a language."""
    text = document.read_text(encoding="utf-8")
    found = re.findall(rf"^([^\n]*)\n```{language}\n(.*?)^```$", text, re.M | re.S)
    assert len(found) == text.count(f"```{language}\n"), (
        f"a block of {language} in {document} is not found"
    )
    return found


def commands() -> list[tuple[str, str]]:
    """(document, command) of each command in a block marked sh, and of each between backticks.

    Between backticks, a command begins with make, snakemake or .venv/bin/.
    """
    found = []
    for document in DOCUMENTS:
        name = str(document.relative_to(ROOT))
        for _, block in blocks(document, "sh"):
            lines = (
                re.sub(r"\s+#.*", "", line).strip()
                for line in block.replace("\\\n", " ").splitlines()
            )
            found += [(name, line) for line in lines if line]
        prose = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.M | re.S)
        found += [
            (name, command)
            for command in re.findall(r"`((?:make|snakemake|\.venv/bin/\w+) [^`]+)`", prose)
        ]
    return list(dict.fromkeys(found))


def files() -> list[str]:
    """The files of this checkout, those not committed yet included."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(
        listing, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [name for name in names if (ROOT / name).exists()]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of this checkout with this Python as its .venv, and a default study that is small."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in files():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)
    (copy / ".venv").symlink_to(sys.prefix)
    config = yaml.safe_load((copy / "config/config.yaml").read_text())
    config["orders"], config["methods"] = config["orders"][:1], {"wa": config["methods"]["wa"]}
    config["training"]["epochs"] = 1
    (copy / "config/config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    # config/README.md's name for any other config.
    shutil.copy(copy / "config/config.yaml", copy / "config/other.yaml")
    return copy


def run(checkout: Path, command: str) -> str:
    """What a command prints. The command must succeed."""
    path = f"{checkout}/.venv/bin:{os.environ['PATH']}"
    done = subprocess.run(
        command,
        shell=True,
        cwd=checkout,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_every_command_is_known():
    known = [pattern for pattern, _, _ in COMMANDS]
    for document, command in commands():
        assert any(re.fullmatch(pattern, command) for pattern in known), (
            f"{document} has the command `{command}`, which COMMANDS in {__file__} does not know: "
            "say there how to run it"
        )


@pytest.mark.slow
@pytest.mark.parametrize("document, command", commands())
def test_command(checkout, document, command):
    pattern, instead, check = next(c for c in COMMANDS if re.fullmatch(c[0], command))
    output = run(checkout, re.sub(pattern, instead, command, count=1))
    assert check is None or check(output), output


QUOTE = re.compile(r"\[([\w./]+)\]\(([\w./]+)\)")  # the line above a quotation: a link to its file


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: str(d.relative_to(ROOT)))
def test_python_is_quoted_from_the_file_that_is_linked_above(document):
    for above, text in blocks(document, "python"):
        if link := QUOTE.fullmatch(above):
            file = ROOT / link[1]
            assert os.path.normpath(document.parent / link[2]) == str(file), (
                f"{document}: {above} links another file"
            )
            assert text in file.read_text(), (
                f"{file} no longer has these lines. Quote in {document} what it has now:\n{text}"
            )


@pytest.mark.slow  # it uses what the commands have made
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: str(d.relative_to(ROOT)))
def test_python_that_is_not_quoted_runs(checkout, document):
    for above, text in blocks(document, "python"):
        if not QUOTE.fullmatch(above):
            (checkout / "example.py").write_text(text)
            run(checkout, ".venv/bin/python example.py")


def test_each_line_of_the_table_from_the_paper_is_in_its_file():
    rows = [
        re.fullmatch(r"\| .+ \| \[(\S+)\]\((\S+)\) \| `(.+)` \|", line)
        for line in (ROOT / "docs/tutorial.md").read_text().splitlines()
        if re.match(r"\| .* \| \[\S+\]\(\S+\) \| ", line)
    ]
    assert len(rows) >= 12
    for row in rows:
        assert row, "a row of the table is not `| what | [file](link) | `line` |`"
        file, link, quoted = row.groups()
        assert link == f"../{file}", f"docs/tutorial.md: {file} links another file, {link}"
        lines = (ROOT / file).read_text().splitlines()
        assert any(quoted in line for line in lines), (
            f"{file} no longer has the line `{quoted}`: write in docs/tutorial.md what it has now"
        )


def test_the_commented_protocols_of_a_config_are_right(tmp_path):
    text = (ROOT / "config/cifar100.yaml").read_text()
    config = yaml.safe_load(text.replace("# - {base", "- {base"))
    study = Study(config, str(tmp_path))
    assert study.protocols == [(10, 10), (5, 5), (20, 20), (50, 10), (50, 5), (50, 2)]


def test_the_first_config_of_the_page_on_configs_is_right(tmp_path):
    _, text = blocks(ROOT / "config/README.md", "yaml")[0]
    assert len(list(Study(yaml.safe_load(text), str(tmp_path)).runs())) == 2


def test_the_sweeps_of_the_page_on_choosing_are_right(tmp_path):
    first, *others = [yaml.safe_load(text) for _, text in blocks(ROOT / "docs/choosing.md", "yaml")]
    config = yaml.safe_load((ROOT / "config/digits-sweep.yaml").read_text())
    assert first.items() <= config.items()
    for sweep, methods in zip(others, (4, 2), strict=True):
        study = Study(config | sweep, str(tmp_path))
        assert len(study.config["methods"]) == 1 + methods
        assert "wa-distillation-0.5" in "".join(study.config["methods"])


def test_the_sections_of_the_page_on_papers_are_right(tmp_path):
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    sections = [yaml.safe_load(text) for _, text in blocks(ROOT / "docs/papers.md", "yaml")]
    assert len(sections) == 2
    for section in sections:
        study = Study(config | section, str(tmp_path))
        assert section["figures"].items() <= study.config["figures"].items()


def headings(document: Path) -> set[str]:
    """The anchors that GitHub gives to a document's headings."""
    titles = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_and_images_are_there_and_are_in_the_repository():
    known = {ROOT / name for name in files()}
    known |= {parent for name in known for parent in name.parents}
    for document in [*DOCUMENTS, *(ROOT / f"docs/{name}.md" for name in OTHERS)]:
        for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
            if target.startswith("https://"):
                continue
            path, _, anchor = target.partition("#")
            file = Path(os.path.normpath(document.parent / path)) if path else document
            assert file in known, f"{document} links {target}, which is not there"
            assert not anchor or anchor in headings(file), (
                f"{document} links {target}: there is no such heading"
            )
