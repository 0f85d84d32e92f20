"""The workflow as a whole: a small study from nothing to figures, and what runs again."""

import copy
import csv
import json
import re
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from helpers import ROOT, scheduled, small_study, snakemake, snakemake_command

import wa
from wa.analysis.aggregate import COLUMNS
from wa.analysis.figures.catalog import FIGURES, TABLES
from wa.commands.evidence import commit
from wa.files import read_json, write_json

FIGURE_JOBS = dict.fromkeys([*FIGURES, *TABLES], 1)


@pytest.fixture
def variant(study) -> tuple[Path, dict]:
    return study[0], copy.deepcopy(study[1])


def rows(folder: Path) -> list[dict]:
    with open(folder / "results/tiny/metrics.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_results_lie_where_they_should(study):
    folder = study[0] / "results"
    run = folder / "tiny/order-1993/seed-0/base-6/inc-2"
    for file in (
        folder / "data/digits/dataset.json",
        folder / "tiny/order-1993/seed-0/base-6/model.safetensors",
        run / "wa/task-2/herding.npz",
        run / "wa/task-0/metrics.json",
        folder / "tiny/figures/accuracy.svg",
        folder / "tiny/figures/accuracy.png",
        folder / "tiny/figures/norms-base-6-inc-2.pdf",
        folder / "tiny/figures/final.csv",
        folder / "tiny/figures/final.md",
    ):
        assert file.stat().st_size > 0
    assert not (run / "finetune/task-1/herding.npz").exists()  # no memory, no herding
    assert not list(folder.rglob(".resume"))


@pytest.mark.skipif(find_spec("wandb") is not None, reason="wandb is installed here")
def test_a_missing_tracker_is_named_before_anything_runs(tmp_path, study, config):
    config["wandb"] = True
    run = snakemake(tmp_path, config=config)
    assert run.returncode == 1 and "\nwandb: true needs the package wandb" in run.stdout
    assert not (tmp_path / "results/data").exists()
    assert not set(scheduled(study[0], config)) - {"config"}  # a finished study needs no tracker


def test_the_table_is_tidy_and_whole(study):
    table = rows(study[0])
    assert tuple(table[0]) == COLUMNS
    keys = [tuple(v for k, v in row.items() if k != "value") for row in table]
    own = {(r["method"], r["task"], r["classifier"]) for r in table if r["own"] == "true"}
    assert own == {
        *(("finetune", task, "trained") for task in "012"),
        *(("joint", task, "trained") for task in "012"),
        ("wa", "0", "trained"),
        ("wa", "1", "aligned"),
        ("wa", "2", "aligned"),
    }
    assert {(r["task"], r["classes"]) for r in table} == {("0", "6"), ("1", "8"), ("2", "10")}
    assert len(keys) == len(set(keys))
    have = {(r["method"], r["task"], r["classifier"], r["metric"]) for r in table}
    for metric in (
        *(
            "accuracy",
            "top5_accuracy",
            "accuracy_old",
            "accuracy_new",
            "accuracy_task_0",
            "accuracy_task_2",
            "last_accuracy",
        ),
        *(
            "average_incremental_accuracy",
            "average_incremental_accuracy_without_first",
            "average_incremental_top5_accuracy",
        ),
        *("forgetting", "backward_transfer"),
    ):
        for classifier in ("trained", "aligned", "nme"):
            assert ("wa", "2", classifier, metric) in have
    assert ("wa", "2", "trained", "gamma") in have and ("wa", "2", "aligned", "row_norm_9") in have
    assert ("finetune", "2", "nme", "accuracy") not in have and (
        "finetune",
        "2",
        "aligned",
        "accuracy",
    ) not in have
    last = [r for r in table if (r["method"], r["task"], r["classifier"]) == ("wa", "2", "aligned")]
    norms = [float(r["value"]) for r in last if r["metric"].startswith("row_norm")]
    assert len(norms) == 10
    assert sum(norms[:8]) / 8 == pytest.approx(sum(norms[8:]) / 2, rel=1e-4)
    joint = [
        float(r["value"])
        for r in table
        if r["method"] == "joint" and r["metric"] == "last_accuracy"
    ]
    assert all(v > 15 for v in joint)  # one epoch, but ten classes


def test_nothing_is_done_twice(variant):
    folder, config = variant
    started = time.monotonic()
    run = snakemake(folder, "all", "figures", config=config)
    assert "Nothing to be done" in run.stdout, run.stdout
    assert time.monotonic() - started < 60  # 4 s on an idle machine


@pytest.mark.parametrize(
    "change, trains",
    [
        ({"seeds": [0, 1]}, 1 + 3 * 2),
        ({"orders": [1993, "natural"]}, 1 + 3 * 2),
        ({"protocols": [{"base": 6, "increment": 2}, {"base": 6, "increment": 4}]}, 3),
        ({"protocols": [{"base": 6, "increment": 2}, {"base": 8, "increment": 2}]}, 1 + 3),
    ],
    ids=["seed", "order", "increment", "base"],
)
def test_an_addition_schedules_only_what_is_new(variant, change, trains):
    folder, config = variant
    jobs = scheduled(folder, config | change)
    assert jobs["train"] == jobs["align"] == trains and "prepare" not in jobs
    assert jobs.get("order", 0) == (1 if "orders" in change else 0)


def test_a_new_method_schedules_only_itself(variant):
    folder, config = variant
    config["methods"]["kd"] = {"memory": 20, "distillation": "dynamic"}
    assert scheduled(folder, config) == {
        "add_up_costs": 1,
        "train": 2,
        "align": 2,
        "herd": 2,
        "evaluate": 3,
        "aggregate": 1,
        "config": 1,
        **FIGURE_JOBS,
    }


@pytest.mark.slow
def test_figures_come_from_results_alone_and_byte_for_byte(variant):
    folder, config = variant
    figures = folder / "results/tiny/figures"
    kinds = (".svg", ".csv", ".md", ".html", ".tex")
    before = {p.name: p.read_bytes() for p in figures.iterdir() if p.suffix in kinds}
    assert len(before) == len(FIGURES) + 4 * len(TABLES)  # svgs, and tables in four forms
    shutil.rmtree(figures)
    assert scheduled(folder, config, "figures") == FIGURE_JOBS
    run = snakemake(folder, "figures", config=config)
    assert run.returncode == 0, run.stdout
    assert {p.name: p.read_bytes() for p in figures.iterdir() if p.suffix in kinds} == before


@pytest.mark.slow
def test_a_draft_draws_what_is_there_and_says_what_is_missing(variant, tmp_path):
    folder, config = variant
    shutil.copytree(folder / "results", tmp_path / "results")
    runs = tmp_path / "results/tiny/order-1993/seed-0/base-6/inc-2"
    (runs / "wa/task-1/metrics.json").unlink()
    shutil.rmtree(runs / "joint/task-2")
    kept = (tmp_path / "results/tiny/metrics.csv").read_bytes()
    run = snakemake(tmp_path, "--config", "draft=True", config=config)
    assert run.returncode == 0, run.stdout
    assert "Draft of results/tiny: 2 of 3 runs are not finished." in run.stdout
    assert "inc-2/wa: 1 of 3 tasks" in run.stdout and "inc-2/joint: 2 of 3 tasks" in run.stdout
    jobs = set(re.findall(r"^Job \d+: (\w+)", run.stdout, re.M))
    assert "accuracy" in jobs and not {"train", "evaluate"} & jobs
    draft = tmp_path / "results/tiny/draft"
    assert {p.name for p in (draft / "figures").glob("*.svg")} == {
        p.name for p in (folder / "results/tiny/figures").glob("*.svg")
    }
    with open(draft / "metrics.csv", encoding="utf-8") as file:
        have = {(r["method"], r["task"]) for r in csv.DictReader(file)}
    assert have == {*(("finetune", t) for t in "012"), ("wa", "0"), ("joint", "0"), ("joint", "1")}
    assert (tmp_path / "results/tiny/metrics.csv").read_bytes() == kept
    other = config | {"experiment": "other", "dataset": "cifar10", "path": "none"}
    assert "It will be downloaded" in snakemake(tmp_path, "-n", config=other).stdout
    run = snakemake(tmp_path, "--config", "draft=True", config=other)
    assert run.returncode == 1 and "It will be downloaded" not in run.stdout
    assert (
        "results/other: no task has been evaluated yet, so there is nothing to draw" in run.stdout
    )


def test_a_draft_of_a_finished_study_says_so(variant):
    folder, config = variant
    run = snakemake(folder, "-n", "--config", "draft=True", config=config)
    assert "Draft of results/tiny: all 3 runs are finished.\n" in run.stdout
    config["methods"] = {"wa": config["methods"]["wa"]}
    run = snakemake(folder, "-n", "--config", "draft=True", config=config)
    assert "Draft of results/tiny: its run is finished.\n" in run.stdout


@pytest.fixture(scope="module")
def report(study) -> Path:
    folder, config = study
    run = snakemake(folder, "--report", "report.html", config=config)
    assert run.returncode == 0, run.stdout
    return folder / "report.html"


def test_the_report_holds_every_figure_with_its_caption_the_tables_and_what_was_run(report):
    html = report.read_text()
    results = json.loads(re.search(r"^ *var results = (\{.*\});?$", html, re.M).group(1))
    shown = {Path(path).stem.split("-base")[0]: entry for path, entry in results.items()}
    assert set(shown) == {*FIGURE_JOBS, "config"}
    for name, entry in shown.items():
        first = (
            (ROOT / f"workflow/report/{name}.rst")
            .read_text()
            .split(".")[0]
            .split("*")[0]
            .split("`")[0]
        )
        assert " ".join(first.split())[:40] in entry["caption"].replace("\n", " "), name
        assert (
            name == "config"
            or "base 6, increment 2; class orders 1993; seeds 0; 1 run of" in entry["caption"]
        ), name
        assert entry["labels"]["figure"] and entry["labels"]["protocol"] in ("all", "base-6-inc-2")
    for word in ("Study tiny", "3 methods", "resnet8", "snakemake 9.27"):
        assert word in html


def test_the_front_page_says_by_what_program_and_of_what_data(report, study):
    text = re.search(r'^ *var workflow_desc = (".*");?$', report.read_text(), re.M).group(1)
    front = " ".join(re.sub("<[^>]*>", " ", json.loads(text)).split())
    assert f"wa {wa.__version__} (commit {commit()}), snakemake 9.27" in front
    packed = read_json(study[0] / "results/data/digits/dataset.json")
    for name in ("train_images", "test_labels"):
        assert f"{name}.npy {packed[f'{name}_sha256'][:12]}" in front
    assert "That is 3 runs, 1 of each method and protocol." in front


def test_the_front_page_has_the_result_in_one_table_and_one_figure(report):
    text = re.search(r'^ *var workflow_desc = (".*");?$', report.read_text(), re.M).group(1)
    front = json.loads(text)
    table = front[front.index("<table") :]
    final = (report.parent / "results/tiny/figures/final.md").read_text().splitlines()
    for cell in final[2].strip("| ").split(" | "):
        assert re.search(f"<td[^>]*>{re.escape(cell)}</td>", table), cell
    assert front.count("<svg") == 1 and "How to read it" in front
    assert front.index("The question") < front.index("dataframe") < front.index("What was run")
    assert "system-message" not in front  # what docutils could not read


def test_the_report_opens_in_a_browser_and_shows_a_figure(report, tmp_path):
    chromium = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if not chromium:
        pytest.skip("there is no chromium")
    figure = "results/tiny/figures/accuracy.svg"
    view = f"{{content: 'img', contentPath: results['{figure}'].data_uri, resultPath: '{figure}'}}"
    script = f"app.showCategory('Accuracy'); setTimeout(() => app.setView({view}), 500);"
    widths = "[...document.images].map(i => i.naturalWidth).join()"
    script += f" setTimeout(() => document.title = {widths}, 1500)"
    page = tmp_path / "report.html"
    page.write_text(report.read_text() + f"<script>setTimeout(() => {{{script}}}, 500)</script>")
    options = "--headless --no-sandbox --disable-gpu --no-first-run"
    options += " --disable-background-networking --disable-component-update"
    command = [
        chromium,
        *options.split(),
        "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=9000",
    ]
    run = subprocess.run(
        [*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120
    )
    widths = re.search(r"<title>([\d,]*)</title>", run.stdout)
    assert widths and "317" in widths.group(1).split(",")  # 3.3 inches
    assert (
        "accuracy against classes seen" in run.stdout and "final comparison" in run.stdout
    )  # the category's list


@pytest.mark.slow
def test_bases_are_shared_by_methods_and_protocols(tmp_path):
    config = yaml.safe_load((ROOT / "config/cifar100.yaml").read_text())
    config["orders"], config["seeds"] = [1993, 1994, 1995], [0, 1, 2]
    config["protocols"] = [{"base": 50, "increment": increment} for increment in (10, 5, 2)]
    del config["methods"]["icarl"], config["methods"]["joint"]
    run = snakemake(tmp_path, "-n", config=config)
    assert run.returncode == 0, run.stdout
    trained = re.findall(r"^Job \d+: train task=(\S+)$", run.stdout, re.M)
    assert len(trained) == 9 + 9 * 5 * (
        5 + 10 + 25
    )  # 5 methods x 3 orders x 3 seeds, increments 10, 5 and 2: 135 runs
    assert sum("inc-" not in path for path in trained) == 9


@pytest.mark.slow
def test_a_study_has_one_snakemake(tmp_path, config):
    config["training"]["epochs"] = 30
    first = subprocess.Popen(
        snakemake_command(tmp_path, config=config),
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (tmp_path / "results/tiny/order-1993/seed-0").exists():
        assert first.poll() is None
        time.sleep(0.05)
    second = snakemake(tmp_path, config=config)
    assert second.returncode == 1 and "another Snakemake runs this study" in second.stdout, (
        second.stdout
    )
    assert first.wait(timeout=300) == 0


def test_a_study_whose_lock_cannot_be_written_says_so(tmp_path, config):
    (tmp_path / "results/tiny/.lock").mkdir(parents=True)
    run = snakemake(tmp_path, config=config)
    assert run.returncode == 1 and "another Snakemake" not in run.stdout
    assert "results/tiny/.lock cannot be written (Is a directory)" in run.stdout
    assert "Traceback" not in run.stdout


def test_what_is_lost_is_made_again_though_the_table_is_there(variant, tmp_path):
    folder, config = variant
    shutil.copytree(
        folder, tmp_path, dirs_exist_ok=True
    )  # as deep, for the code is an input by a relative path
    runs = tmp_path / "results/tiny/order-1993/seed-0/base-6/inc-2"
    (runs / "wa/task-1/features.npz").unlink()
    assert scheduled(tmp_path, config) == {}
    (runs / "joint/task-1/metrics.json").unlink()
    assert scheduled(tmp_path, config, "metrics") == {"evaluate": 1, "aggregate": 1}
    (runs / "joint/task-2/model.safetensors").unlink()
    assert scheduled(tmp_path, config, "metrics") == {"align": 1, "evaluate": 2, "aggregate": 1}


def test_many_results_that_are_made_anew_are_not_all_named(variant):
    folder, config = variant
    config["training"]["lr"] = 0.2
    run = snakemake(folder, "-n", "metrics", config=config)
    assert run.stdout.count(" is made anew: ") == 5
    assert run.stdout.count("... and more.") == 1


@pytest.mark.slow
def test_from_another_folder_it_runs_as_in_its_own(finished, tmp_path):
    """With the profile of the checkout, and with hints that name the Snakefile."""
    shutil.copytree(finished / "results", tmp_path / "results", symlinks=True)
    own = "class Own(Learner):\n    def losses(self, *a): 1 / 0\n"
    own = f"from wa.methods.learner import Learner\n{own}"
    (tmp_path / "own.py").write_text(own, encoding="utf-8")
    config = small_study()
    config["methods"]["own"] = {"algorithm": "own.py", "memory": 20}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    main = f"{ROOT}/workflow/Snakefile"
    command = [sys.executable, "-m", "snakemake", "-s", main, "metrics", "--cores", "2"]
    command += ["--configfile", "mine.yaml"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8")
    assert run.returncode == 1
    assert f"Using workflow specific profile {ROOT}/workflow/profiles/default" in run.stderr
    assert "ZeroDivisionError" in run.stderr  # the profile shows the log of a failed job
    mine = f"{tmp_path}/mine.yaml"
    assert f"wa status --config {mine}" in run.stderr
    hint = f"snakemake -s {main} --cores 2 --configfile {mine} --config draft=True"
    assert hint in run.stderr


def test_a_cluster_gets_the_packing_and_the_trainings_only(tmp_path, config):
    (tmp_path / "Snakefile").write_text(
        f'include: "{ROOT}/workflow/Snakefile"\n'
        "made = {rule.name for rule in workflow.rules if rule.output}\n"
        'print("submitted:", *sorted(made - workflow._localrules))\n'
    )
    command = snakemake_command(tmp_path, "-n", config=config)
    command[command.index(str(ROOT / "Snakefile"))] = "Snakefile"
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "submitted: prepare train\n" in run.stdout, run.stdout + run.stderr


def test_the_default_limit_of_jobs_per_second_is_off(tmp_path, config):
    """With it, the scheduler looks for jobs once more a second for each job that has ended."""
    (tmp_path / "Snakefile").write_text(
        f'include: "{ROOT}/workflow/Snakefile"\n'
        "import atexit\n"
        "def tell():\n"
        "    limit = workflow.scheduler.job_rate_limiter\n"
        '    print("limit:", limit and limit.max_jobs)\n'
        "atexit.register(tell)\n"
    )
    order = "results/tiny/order-1993/order.json"
    for options, limit in (((), "None"), (("--max-jobs-per-timespan", "5/1s"), "5")):
        command = snakemake_command(tmp_path, order, "--force", *options, config=config)
        command[command.index(str(ROOT / "Snakefile"))] = "Snakefile"
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert f"limit: {limit}\n" in run.stdout, run.stdout + run.stderr


def test_figures_that_the_config_no_longer_makes_are_named(finished, tmp_path, config):
    """A format, a figure, a protocol and a sweep left the config. Each stem is named once."""
    shutil.copytree(finished / "results", tmp_path / "results", symlinks=True)
    figures = tmp_path / "results/tiny/figures"
    shutil.rmtree(figures)
    figures.mkdir()
    config["figures"] = {"formats": ["pdf"], "draw": ["norms", "accuracy"]}
    stay = ["norms-base-6-inc-2.svg", "accuracy.pdf", "accuracy.log", "final.tex", "mine.png"]
    gone = ("gamma", "norms-base-5-inc-1")
    go = [f"{stem}.{kind}" for stem in gone for kind in ("svg", "pdf", "log")]
    go += ["accuracy.png", "norms-base-6-inc-2.png", "sweep.csv"]
    for name in (*stay, *go):
        (figures / name).touch()
    run = snakemake(tmp_path, "results/tiny/config.yaml", config=config)
    assert run.returncode == 0 and "no longer makes" not in run.stdout  # it draws nothing
    run = snakemake(tmp_path, "results/tiny/figures/final.md", config=config)
    assert run.returncode == 0, run.stdout
    (line,) = [line for line in run.stdout.splitlines() if "no longer makes" in line]
    command = line.partition("To delete them: ")[2]
    start = "results/tiny/figures/"
    assert command == (
        f"rm {start}{{accuracy,norms-base-6-inc-2}}.png"
        f" {start}{{gamma,norms-base-5-inc-1}}{{.log,.pdf,.svg}} {start}sweep.csv"
    )
    made = {f"final.{kind}" for kind in ("md", "tex", "csv", "html", "log")}
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
    assert {file.name for file in figures.glob("[!.]*")} == {*stay, *made}
    run = snakemake(tmp_path, "results/tiny/figures/final.md", config=config)
    assert run.returncode == 0 and "no longer makes" not in run.stdout


def test_the_screen_shows_a_line_a_job_and_errors_whole(tmp_path, config):
    config |= {"protocols": [{"base": 10, "increment": 1}], "methods": {"finetune": {}}}  # one task
    run = snakemake(tmp_path, "results/data/digits/dataset.json", config=config)
    assert run.returncode == 0 and re.search(r"^Job 0: prepare", run.stdout, re.M), run.stdout
    assert not re.search("^ *(input|output|reason):", run.stdout, re.M | re.I), run.stdout
    (tmp_path / "not.safetensors").write_text("not weights")
    config["training"]["pretrained"] = "not.safetensors"
    run = snakemake(tmp_path, "metrics", config=config)
    assert run.returncode == 1 and re.search(
        r"^Job \d+: train task=order-1993/seed-0/base-10$", run.stdout, re.M
    ), run.stdout
    log = (tmp_path / "results/tiny/order-1993/seed-0/base-10/train.log").read_text()
    assert "error: " in log and all(line in run.stdout for line in log.splitlines())
    assert "Error in rule train:" in run.stdout and " output: results/tiny/" in run.stdout


def test_a_bad_config_is_one_message_before_anything_runs(tmp_path, config):
    config["training"]["epoch"] = 3
    run = snakemake(tmp_path, config=config)
    assert run.returncode == 1
    message = r"study.yaml:\d+:3: training: unknown key 'epoch'; did you mean 'epochs'\?"
    assert re.search(message, run.stdout)
    assert "Traceback" not in run.stdout and "common.smk" not in run.stdout
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_the_configs_that_are_shipped_are_right(tmp_path):
    packed = {"imagenet100-256": (100, 256), "imagenet1000-256": (1000, 256)}
    packed["tiny-imagenet-20"] = (20, 64)
    for name, (n, size) in packed.items():
        facts = {  # as if they were packed
            "dataset": name,
            "classes": [f"n{c}" for c in range(n)],
            "train_counts": [250] * n,
            "image_shape": [size, size, 3],
            "mean": [0.5] * 3,
            "std": [0.2] * 3,
        }
        write_json(tmp_path / "results/data" / name / "dataset.json", facts)
    for file in sorted((ROOT / "config").glob("*.yaml")):
        run = snakemake(tmp_path, "-n", "--quiet", "rules", "--configfile", str(file))
        assert run.returncode == 0, f"{file}: {run.stdout}"
