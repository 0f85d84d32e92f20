"""Copy the evidence of a study: the small files that its tables and figures are drawn from.

    wa evidence --config config/cifar100.yaml --output docs

The copy has the layout of the results folder, without images, checkpoints, rankings and features.
`SHA256SUMS` names those that stay behind, so that anybody who has them can verify them with
`sha256sum --check`. `evidence.json` says at which commit the study was run, on what, and for how
long.
"""

import argparse
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from wa import __version__
from wa.checkpoint import read_header
from wa.commands.status import outdated, told
from wa.errors import UserError, command, counted
from wa.files import sha256, write_json, writing
from wa.identity import CHECKOUT
from wa.study import layout
from wa.study.config_file import read_config
from wa.study.study import Study
from wa.training.history import epoch_seconds
from wa.training.meter import read_spent

HELP = f"""Copy the evidence of a study: the small files that its tables and figures are drawn from.

Run it in the folder that holds results/. The copy is OUTPUT/results/STUDY. To draw its figures and
its table again:

    {command("snakemake")} --directory OUTPUT --cores 2 all results_table \\
        --configfile OUTPUT/results/STUDY/config.yaml --config draft=True
"""

OF_STUDY = (layout.TABLE, layout.CLASS_TABLE, layout.COST_TABLE, "results.md")
OF_TRAINING = (layout.HISTORY, layout.ALIGNMENT, layout.BENCHMARK, layout.METER)
SUMS = "SHA256SUMS"
EVIDENCE = "evidence.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        default="config/config.yaml",
        help="the study's config (default: config/config.yaml)",
    )
    parser.add_argument("--output", type=Path, required=True, help="the folder to copy to")


def small_files(study: Study) -> Iterator[Path]:
    """The files of a study that figures and tables are drawn from, as far as they exist."""
    root = Path(study.root)
    files = [root / name for name in OF_STUDY]
    files += [part.file for part in study.parts]
    files += [root / f"order-{order}" / layout.ORDER for order in study.orders]
    for task in study.tasks.values():
        files += [Path(task.path, name) for name in (*OF_TRAINING, layout.METRICS)]
        if sum(task.sizes) == study.n_classes:
            files.append(Path(task.path, layout.PREDICTIONS))
    return (file for file in files if file.exists())


def checkpoints(study: Study) -> list[Path]:
    """The checkpoints and rankings of a study, as far as they exist."""
    folders = sorted({task.learned for task in study.tasks.values()})
    found = []
    for folder in map(Path, folders):
        rankings = [file for file in folder.glob("*.npz") if file.name != layout.FEATURES]
        files = [folder / layout.TRAINED, folder / layout.MODEL, *sorted(rankings)]
        found += [file for file in files if file.exists() and file.name != layout.PREDICTIONS]
    return found


def commit() -> str:
    """The commit of this checkout. It ends in `-dirty` if files differ from it."""
    command = ["git", "-C", str(CHECKOUT), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        found = subprocess.run([*command, "--exclude=*"], capture_output=True, encoding="utf-8")
    except OSError:
        return "unknown"
    return found.stdout.strip() or "unknown"


def summary(study: Study) -> dict:
    """What was run: the commit, the engines, the hours of training, the most memory."""
    trainings = [Path(folder) for folder in sorted({t.learned for t in study.tasks.values()})]
    done = [folder for folder in trainings if (folder / layout.TRAINED).exists()]
    engines = []
    for folder in done:
        header = read_header(folder / layout.TRAINED)
        for engine in [header.get("engine"), *header.get("earlier_engines", [])]:
            if engine and engine not in engines:
                engines.append(engine)
    peaks = [read_spent(folder).host_mib for folder in done]
    return {
        "commit": commit(),
        "version": __version__,
        "date": time.strftime("%Y-%m-%d"),
        "trainings": len(done),
        "trainings_of_the_study": len(trainings),
        "hours": round(sum(sum(epoch_seconds(f / layout.HISTORY)) for f in done) / 3600, 2),
        "peak_memory_mb": max((peak for peak in peaks if peak is not None), default=None),
        "engines": engines,
    }


def main(args: argparse.Namespace) -> None:
    study = Study(read_config(args.config))
    if not Path(study.root).is_dir():
        raise UserError(f"{study.root} is not there: run this in the folder that holds results/")
    target = args.output / study.root
    if target.resolve() == Path(study.root).resolve():
        raise UserError(f"--output {args.output} is where the study lies: name another folder")
    for part in study.parts:
        if not part.file.exists():
            print(f"{part.file} is not there, so the figures of the copy need the images")
    if any(old := outdated(study)):
        print(told(study, old))
    copied = list(small_files(study))
    for file in copied:
        with writing(args.output / file) as temporary:
            shutil.copyfile(file, temporary)
    with writing(target / layout.CONFIG) as temporary:
        temporary.write_text(study.as_file(), encoding="utf-8")
    kept = checkpoints(study)
    with writing(target / SUMS) as temporary, open(temporary, "w", encoding="utf-8") as sums:
        for file in tqdm(kept, "hashing", disable=None, leave=False):
            sums.write(f"{sha256(file)}  {file.relative_to(study.root)}\n")
    facts = summary(study)
    write_json(target / EVIDENCE, facts)
    print(f"{target}: {len(copied) + 1} files, {len(kept)} hashes of checkpoints and rankings")
    if facts["trainings"] < facts["trainings_of_the_study"]:
        wanted = counted(facts["trainings_of_the_study"], "training")
        print(f"The study is not finished: {facts['trainings']} of {wanted} are done.")
    hours, peak = facts["hours"], facts["peak_memory_mb"]
    memory = "" if peak is None else f", at most {peak:.0f} MiB of memory"
    print(f"Commit {facts['commit']}, {hours} hours of training{memory}")
