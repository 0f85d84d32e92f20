"""What runs again after a change, and what does not.

For each change, the checkout and a finished study are copied. Something is changed in the copy, and
the jobs of a dry run are counted.
"""

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml
from fork_server import start
from helpers import ROOT, program, small_study

from wa.code import Code
from wa.study import layout
from wa.study.results import Results
from wa.study.study import Study

# The jobs of small_study(): task 0, and two tasks of three methods. finetune has no memory.
TRAININGS, EVALUATIONS = 1 + 2 * 3, 3 * 3
EVERYTHING = {"train": TRAININGS, "align": TRAININGS, "herd": 1 + 2 * 2, "evaluate": EVALUATIONS}
STEPS = ("prepare", "order", *EVERYTHING, "aggregate", "gamma", "accuracy", "final", "config")


def copy_checkout(to: Path) -> Path:
    for folder in ("wa", "workflow", "profiles", "config"):
        shutil.copytree(ROOT / folder, to / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (to / "docs").mkdir()
    for file in ("Snakefile", "environment.yml", "docs/published.yaml"):
        shutil.copy(ROOT / file, to / file)
    return to


class Workplace:
    """A checkout, a folder with results, and a config, all free to change."""

    def __init__(self, checkout: Path, folder: Path, config: dict):
        self.checkout, self.folder, self.config = checkout, folder, copy.deepcopy(config)

    def words(self, *options: str) -> list[str]:
        """The options of Snakemake for the study as it is now."""
        (self.folder / "study.yaml").write_text(yaml.safe_dump(self.config, sort_keys=False))
        where = ["-s", str(self.checkout / "Snakefile"), "--directory", str(self.folder)]
        return [*where, "--cores", "2", *options, "--configfile", str(self.folder / "study.yaml")]

    def snakemake(self, *options: str) -> str:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        run = start("snakemake", self.words(*options), self.folder, environment)
        assert run.returncode == 0, run.stdout
        return run.stdout

    def planned(self, *options: str) -> dict[str, int]:
        """The jobs of a dry run that STEPS name: rule -> number."""
        said = self.snakemake("-n", *options, "--quiet", "rules")
        if "Nothing to be done" in said:
            return {}
        table = said.split("Job stats:")[1].split("\n\n")[0]
        jobs = {rule: int(n) for rule, n in re.findall(r"^(\w+)\s+(\d+)$", table, re.M)}
        return {rule: jobs[rule] for rule in STEPS if rule in jobs}

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.checkout / file
        text = path.read_text()
        assert text.count(old) == 1, f"{file} has {text.count(old)} times: {old}"
        path.write_text(text.replace(old, new))

    def append(self, file: str, text: str) -> None:
        with open(self.checkout / file, "a", encoding="utf-8") as stream:
            stream.write(text)


def marked(names: Iterable[str], fast: tuple[str, ...]) -> list:
    """The cases of a table. All but the `fast` ones are slow tests."""
    assert set(fast) <= set(names)
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.fixture
def work(finished, tmp_path) -> Workplace:
    """A copy of the checkout and of the finished study. A test may change both."""
    checkout = copy_checkout(tmp_path / "checkout")
    shutil.copytree(finished, tmp_path / "folder", symlinks=True)
    return Workplace(checkout, tmp_path / "folder", small_study())


def downstream(*steps: str, **jobs: int) -> dict[str, int]:
    """The planned jobs: those given, and then the table and the figures, or those of `steps`."""
    return jobs | dict.fromkeys(steps or ("aggregate", "gamma", "accuracy", "final"), 1)


# A change of the code: (file, old, new) and what it must run again.
CODE = {
    "the schedule": (
        ("wa/training/schedule.py", "(1 + math.cos(", "(1.1 + math.cos("),
        downstream(**EVERYTHING),
    ),
    "a loss that all use": (
        ("wa/methods/loss.py", 'smoothing, reduction="none")', 'smoothing, reduction="none") * 2'),
        downstream(**EVERYTHING),
    ),
    "the network": (
        ("wa/models/resnet.py", "return torch.mean(x, dim=(2, 3))", "return torch.amax(x, (2, 3))"),
        downstream(**EVERYTHING),
    ),
    "the augmentation": (
        ("wa/data/augment.py", "def crop(images: Tensor", "def crop(images: Tensor, *_: int"),
        downstream(**EVERYTHING),
    ),
    "herding": (
        (
            "wa/methods/selection.py",
            "best = score.argmax",
            "best = score.argmin",
        ),
        # The tasks 1 and 2 of wa read rankings. Those of joint, which keeps all, do not.
        downstream(train=2, align=2, herd=5, evaluate=6),
    ),
    "an alignment": (
        (
            "wa/methods/alignment.py",
            "scale[n_old:] = gamma(weight, n_old, options.norm, options.limit)",
            "scale[n_old:] = 2 * gamma(weight, n_old, options.norm, options.limit)",
        ),
        downstream(train=1, align=2, herd=1, evaluate=2),  # wa: its task 2 starts from task 1
    ),
    "how nothing is aligned": (
        (
            "wa/methods/alignment.py",
            '"""The classifier as training left it."""\n    return weight, bias',
            '"""The classifier as training left it."""\n    return weight, 0 * bias',
        ),
        # wa and finetune start from the base's model.
        downstream(**EVERYTHING | {"herd": 2, "train": 4}),
    ),
    "a metric of a task": (
        (
            "wa/analysis/metrics.py",
            "return 100 * float((predicted",
            "return 101 * float((predicted",
        ),
        downstream(evaluate=EVALUATIONS),
    ),
    "a figure": (
        (
            "wa/analysis/figures/lines.py",
            '{"gamma": frame}, {"gamma": 1}',
            '{"gamma": frame}, {"gamma": 2}',
        ),
        downstream("gamma"),
    ),
    "a table": (
        ("wa/analysis/figures/tables.py", "font: 14px sans-serif", "font: 15px sans-serif"),
        downstream("final"),
    ),
    "how arrays are read": (
        (
            "wa/files.py",
            "array = arrays.get(name, np.empty(0, object))",
            "array = arrays.get(name, np.empty(0, object))[:]",
        ),
        downstream(**EVERYTHING),
    ),
    "how many exemplars a class has": (
        ("wa/data/memory.py", "self.total // n_classes", "self.total // n_classes // 2"),
        downstream(**EVERYTHING | {"herd": 5}),
    ),
    "how data are packed": (
        (
            "wa/data/datasets.py",
            "np.round(digits.images * (255 / 16))",
            "np.floor(digits.images * (255 / 16))",
        ),
        {"prepare": 1, "order": 1} | downstream(**EVERYTHING),
    ),
}


@pytest.mark.parametrize("name", marked(CODE, ("the schedule", "an alignment", "a figure")))
def test_code_that_means_something_else_runs_again(work, name):
    change, jobs = CODE[name]
    work.edit(*change)
    assert work.planned() == jobs


def test_a_changed_default_runs_again(work):
    work.edit(
        "wa/study/settings.py",
        "momentum: float = setting(\n        0.9",
        "momentum: float = setting(\n        0.5",
    )
    work.edit("workflow/schemas/config.schema.yaml", "default: 0.9", "default: 0.5")
    assert work.planned()["train"] == TRAININGS


def import_mine(work: Workplace) -> Path:
    """Have the loss use a module of one's own. Returns the module."""
    work.edit("wa/methods/loss.py", "import torch\n", "import torch\nfrom mine import factor\n")
    work.edit(
        "wa/methods/loss.py",
        'smoothing, reduction="none")',
        'smoothing, reduction="none") * factor',
    )
    mine = work.checkout / "mine.py"
    mine.write_text("factor = 1.0\nunused = 1\n")
    return mine


def test_a_module_of_ones_own_that_is_imported_counts(work):
    mine = import_mine(work)
    assert work.planned()["train"] == TRAININGS

    def digest() -> str:
        return Code(work.checkout).digest("wa.training.train", ["resnet8", "crop", "softmax"])

    before = digest()
    mine.write_text("factor = 1.0  # a comment\nunused = 2\n")
    assert digest() == before
    mine.write_text("factor = 2.0\nunused = 1\n")
    assert digest() != before


@pytest.mark.slow
def test_a_study_with_a_module_of_ones_own(work):
    mine = import_mine(work)
    work.snakemake()
    assert work.planned() == {}
    mine.write_text("factor = 1.0  # a comment\nunused = 2\n")
    assert work.planned() == {}
    mine.write_text("factor = 2.0\nunused = 1\n")
    assert work.planned()["train"] == TRAININGS


@pytest.mark.parametrize(
    "change, jobs",
    [
        ({"epochs": 2}, EVERYTHING),
        ({"base": {"lr": 0.1}}, EVERYTHING),
    ],
    ids=["of all", "of the base"],
)
def test_settings_run_again_what_depends_on_them(work, change, jobs):
    work.config["training"] |= change
    assert work.planned() == downstream(**jobs) | {"config": 1}


def test_choices_of_a_method_run_only_that_method_again(work):
    work.config["methods"]["wa"]["distillation"] = 0.6
    assert work.planned() == downstream(train=2, align=2, herd=2, evaluate=2) | {"config": 1}
    second = downstream(train=1, align=2, herd=1, evaluate=2) | {"config": 1}
    work.config["methods"]["wa"] |= {"distillation": "dynamic", "alignment": "unit"}
    assert work.planned() == second
    work.config["methods"]["wa"] |= {"alignment": "weight", "classifier": "nme"}
    assert work.planned() == second
    assert "classifier was linear, is nme" in work.snakemake("metrics")
    assert work.planned("metrics") == {}
    del work.config["methods"]["wa"]["classifier"]
    assert "align" in work.planned("metrics")


@pytest.mark.slow
def test_what_figures_show_is_apart_from_what_the_study_has(work):
    table = (work.folder / "results/tiny/metrics.csv").read_text()
    work.config["show"] = ["joint", "wa"]
    drawn = downstream("gamma", "accuracy", "final") | {"config": 1}
    assert work.planned() == drawn
    assert "will not list them" not in work.snakemake()
    assert (work.folder / "results/tiny/metrics.csv").read_text() == table
    final = (work.folder / "results/tiny/figures/final.csv").read_text().splitlines()
    assert [line.split(",")[2] for line in final[1:]] == ["joint", "wa"]
    assert work.planned() == {}
    work.config["methods"]["another"] = {"memory": 10}
    assert not {"gamma", "accuracy", "final"} - set(work.planned())  # metrics.csv is new


@pytest.mark.slow
def test_a_table_that_was_edited_is_written_again_and_never_drawn(work):
    table = work.folder / "results/tiny/metrics.csv"
    before = table.read_text()
    table.write_text(before.replace("accuracy,", "accuracy,1"))
    said = work.snakemake("final")
    lines = [line for line in said.splitlines() if "was edited after" in line]
    why = "it was edited after the study wrote it."
    assert lines == [f"results/tiny/metrics.csv is made anew: {why}"]
    assert table.read_text() == before
    assert work.planned() == {}


@pytest.mark.slow
def test_methods_that_leave_the_config_are_named_before_metrics_csv_loses_them(work):
    del work.config["methods"]["joint"], work.config["methods"]["finetune"]
    (said,) = [line for line in work.snakemake("-n").splitlines() if "will not list" in line]
    assert "not in the config: finetune, joint." in said and "set `show`" in said


def test_jobs_do_not_run_again_to_be_measured(work):
    """Earlier versions measured the time of trainings only."""
    measured = list(work.folder.rglob("*.benchmark.tsv"))
    others = [file for file in measured if file.name != "train.benchmark.tsv"]
    assert len(others) == EVALUATIONS + TRAININGS + 5  # evaluate, align, herd
    for file in others:
        file.unlink()
    assert work.planned() == {}


def change_a_label(work: Workplace) -> None:
    labels = work.folder / "results/data/digits/train_labels.npy"
    data = bytearray(labels.read_bytes())
    data[-8] ^= 1
    labels.write_bytes(data)


def test_a_label_in_a_packed_array_is_noticed(work):
    change_a_label(work)
    assert work.planned() == {"prepare": 1, "order": 1} | downstream(**EVERYTHING)


def test_what_was_made_of_the_features_of_other_images_is_not_wanted(finished, monkeypatch):
    """A training on other images may leave the same weights, for instance if its lr is 0."""
    monkeypatch.chdir(finished)
    results = Results(Study(small_study()))
    run = next(run for run in results.study.runs() if run[0].method == "wa")
    read = results.header

    def trained_on_other_images(file: str) -> dict:
        return read(file) | ({"data_sha256": {}} if file.endswith(layout.TRAINED) else {})

    path = run[1].path
    assert (results.ranked(path, "herding"), results.aligned(path)) == ("", "")
    assert results.evaluated(run[1]) == ""
    results = Results(results.study)
    results.header = trained_on_other_images
    other = "it was made from another data"
    assert (results.ranked(path, "herding"), results.aligned(path)) == (other, other)
    assert results.evaluated(run[1]) == other


@pytest.mark.slow
def test_the_features_of_another_model_are_made_anew(work):
    """A kill between two writes can leave them beside a checkpoint."""
    run = work.folder / "results/tiny/order-1993/seed-0/base-6/inc-2"
    before = contents(run / "joint", "*.npz") | contents(run / "joint", "trained.safetensors")
    shutil.copy(run / "wa/task-2/features.npz", run / "joint/task-2/features.npz")
    assert work.planned() == downstream(train=1, align=1, herd=1, evaluate=1)
    work.snakemake("metrics")
    after = contents(run / "joint", "*.npz") | contents(run / "joint", "trained.safetensors")
    assert after == before
    assert work.planned("metrics") == {}


@pytest.mark.slow
def test_arrays_that_are_packed_again_to_the_same_bytes_train_nothing_again(work):
    change_a_label(work)
    before = contents(work.folder, "trained.safetensors")
    said = work.snakemake("metrics")
    assert "train_labels.npy is not the array that was packed" in said
    assert contents(work.folder, "trained.safetensors") == before
    assert {log.read_text().splitlines()[-1] for log in work.folder.rglob("train.log")} == {
        "exactly this training is finished: its results are kept"
    }
    assert work.planned("metrics") == {}


def contents(folder: Path, name: str) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob(name))}


# What means the same.
SAME = {
    "a comment": (
        "wa/training/train.py",
        "def main() -> None:\n",
        "# Once more.\ndef main() -> None:\n",
    ),
    "a docstring": (
        "wa/methods/loss.py",
        '"""-log softmax(logits)[label].',
        '"""Minus log softmax(logits)[label].',
    ),
    "formatting": (
        "wa/methods/loss.py",
        "def distillation_weight(distillation: float | str, n_old: int, n_seen: int) -> float:",
        "def distillation_weight(\n    distillation,\n    n_old,\n    n_seen,\n):",
    ),
    "an error's text": (
        "wa/training/engine.py",
        "the loss is not finite at epoch",
        "the loss is infinite or no number at epoch",
    ),
    "a help text": ("wa/analysis/evaluate.py", "to write: metrics.json", "the metrics to write"),
    "a preset": (
        "wa/study/published.py",
        '    "none": {"training": {}, "method": {}},\n',
        '    "none": {"training": {}, "method": {}},\n'
        '    "mine": {"training": {"lr": 0.05}, "method": {}},\n',
    ),
    "what the screen shows": ("wa/training/live.py", "= now + 1\n", "= now + 5\n"),
    "what the log warns of": ("wa/training/cores.py", "MUCH = 0.2", "MUCH = 0.3"),
    "who waits for whom": ("wa/locks.py", "import os\n", "import os\nimport time\n"),
}


@pytest.mark.parametrize("name", marked(SAME, ("a comment", "a docstring", "a preset")))
def test_code_that_means_the_same_runs_nothing_again(work, name):
    work.edit(*SAME[name])
    assert work.planned() == {}


def test_a_new_function_and_its_entry_run_nothing_again(work):
    for file, last, entry in (
        ("wa/methods/loss.py", "DISTILLATION = {", '"new": distillation, '),
        ("wa/methods/selection.py", "RANKINGS = {", '"new": rank_closest, '),
        ("wa/methods/alignment.py", "ALIGNMENTS = {", '"new": align_unit, '),
    ):
        work.edit(file, last, f"def another(*_):\n    return 0\n\n\n{last}{entry}")
    assert work.planned() == {}


def test_other_words_for_the_same_config_run_nothing_again(work):
    work.config = {key: work.config[key] for key in reversed(work.config)}
    work.config["methods"] = dict(reversed(work.config["methods"].items()))
    planned = work.planned()
    # Only figures: their colours follow the order of the methods.
    assert not set(planned) & {"train", *EVERYTHING, "prepare", "order"}
    work.config["methods"] = dict(reversed(work.config["methods"].items()))
    work.config["training"] |= {
        "lr": 0.05,
        "momentum": 0.9,
        "weight_decay": 0.0005,
        "label_smoothing": 0,
    }
    work.config["methods"]["wa"] |= {"temperature": 2, "selection": "herding", "held_out": 0}
    work.config["methods"]["wa"] |= {"classifier": "linear", "training": {}}
    work.config["recipe"] = "none"
    assert work.planned() == {"config": 1}  # the copy of the config beside the results


@pytest.mark.slow
def test_one_and_one_point_nought_are_the_same(work):
    work.config["methods"]["wa"]["distillation"] = 1
    work.snakemake("metrics")
    work.config["methods"]["wa"]["distillation"] = 1.0
    assert not set(work.planned()) & set(EVERYTHING)


def test_where_it_runs_changes_nothing(work):
    work.config |= {"processes": 2, "device": "cpu", "runs_per_gpu": 2, "test_every": 1}
    work.config |= {"tensorboard": True, "wandb": True}
    work.config["path"] = "elsewhere"  # of the raw data
    assert work.planned("--cores", "1", "--set-threads", "train=2") == {}


def test_another_reference_only_draws_again(work):
    work.config["reference"] = "wa"
    said = work.snakemake("-n", "--quiet", "rules")
    assert re.search(r"^differences +1$", said, re.M)
    assert not re.search("^(aggregate|add_up_costs) ", said, re.M)


def test_another_look_only_draws_again(work):
    figures = {"gamma": 1, "accuracy": 1, "config": 1}
    work.config["figures"] = {"colors": {"wa": "#000000"}, "font_size": 8}
    assert work.planned() == figures
    work.config["figures"] = {"labels": {"wa": "WA (ours)"}}
    assert work.planned() == figures | {"final": 1}
    work.config["figures"] = {"draw": ["accuracy"], "formats": ["pdf"]}
    assert work.planned() == {"config": 1}  # the files are there


@pytest.mark.slow
def test_a_moved_folder_and_a_renamed_checkout_change_nothing(work, tmp_path):
    deeper = tmp_path / "a/b"
    deeper.mkdir(parents=True)
    for name in ("results", ".snakemake"):
        shutil.move(work.folder / name, deeper / name)
    work.folder = deeper
    assert work.planned() == {}
    work.checkout = work.checkout.rename(tmp_path / "another name")
    assert work.planned() == {}


@pytest.mark.slow
def test_a_copy_without_snakemakes_records_is_as_done_as_it_was(work, tmp_path):
    copied = tmp_path / "copied"
    shutil.copytree(work.folder / "results", copied / "results", copy_function=shutil.copyfile)
    for number, file in enumerate(sorted(copied.rglob("*.*"), reverse=True)):
        os.utime(file, (number, number))  # dates in an order that says nothing
    work.folder = copied
    assert not set(work.planned()) & {"prepare", "order", *EVERYTHING}
    work.config["training"]["epochs"] = 2
    assert work.planned()["train"] == TRAININGS


def test_a_renamed_study_keeps_its_trainings_and_does_not_hide_other_settings(work):
    (work.folder / "results/tiny").rename(work.folder / "results/new")
    work.config["experiment"] = "new"
    assert not set(work.planned()) & {"prepare", "order", *EVERYTHING}
    assert work.planned()["aggregate"] == 1  # the table names the study
    work.config["training"]["epochs"] = 3
    work.config["seeds"] = [0, 1]
    jobs = work.planned()
    assert jobs["train"] == 2 * TRAININGS and jobs["aggregate"] == jobs["final"] == 1


@pytest.mark.slow
def test_a_model_that_is_aligned_again_with_the_same_bytes_trains_nothing_again(work):
    models = contents(work.folder, "model.safetensors")
    for model in work.folder.rglob("model.safetensors"):
        model.unlink()
    trained = contents(work.folder, "trained.safetensors")
    work.snakemake("metrics")
    assert contents(work.folder, "model.safetensors") == models
    assert contents(work.folder, "trained.safetensors") == trained
    for method in ("finetune", "wa"):  # joint starts from no model
        log = work.folder / f"results/tiny/order-1993/seed-0/base-6/inc-2/{method}/task-2/train.log"
        assert log.read_text().endswith("this training is finished: its results are kept\n")
    assert not set(work.planned()) & {"prepare", "order", *EVERYTHING}


@pytest.mark.slow
def test_deleted_arrays_are_packed_again(work):
    shutil.rmtree(work.folder / "results/data/digits")
    assert work.planned("figures") == {}  # a finished study draws its figures without them
    assert work.planned()["prepare"] == 1
    work.snakemake("metrics")
    assert (work.folder / "results/data/digits/train_images.npy").exists()
    assert work.planned("metrics") == {}


def test_a_ranking_of_other_data_is_refused(work):
    """Otherwise row numbers of exemplars would mean other images in the new arrays."""
    data, base = (
        work.folder / "results/data/digits",
        work.folder / "results/tiny/order-1993/seed-0/base-6",
    )
    dataset = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps(dataset | {"train_labels_sha256": "0" * 64}))
    options = [
        "--data",
        data,
        "--order",
        base.parents[1] / "order.json",
        "--tasks",
        6,
        2,
        "--memory",
        20,
    ]
    options += ["--model", base / "model.safetensors", "--ranking", base / "herding.npz"]
    run = program(
        "wa.training.train", *options, "--backbone", "resnet8", "--output", work.folder / "out"
    )
    assert run.returncode == 1 and run.stdout.count("\n") == 1
    assert "train_labels.npy" in run.stdout or "was made from other data" in run.stdout


def test_jobs_import_nothing_from_the_folder_where_snakemake_runs(work):
    (work.folder / "random.py").write_text('raise SystemExit("my own script")\n')
    (work.folder / "wa").mkdir()
    (work.folder / "wa/__init__.py").write_text('raise SystemExit("another checkout")\n')
    work.config["orders"] = ["natural"]
    order = "results/tiny/order-natural/order.json"
    command = [Path(sys.executable).with_name("snakemake"), *work.words(order)]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    run = subprocess.run(command, cwd=work.folder, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert (work.folder / order).exists()
