"""What methods do in a training, and every method in the workflow on the digits."""

import csv
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from helpers import ROOT, program, small_study, snakemake

from wa.analysis.figures.table import read_own
from wa.checkpoint import read_checkpoint, write_checkpoint
from wa.data.packed import hashes
from wa.errors import UserError
from wa.files import read_arrays, read_json, write_arrays
from wa.methods.selection import rank_classes
from wa.models.model import CilClassifier, CilModel
from wa.study.layout import RunTable
from wa.training import train
from wa.training.engine import Trainer


@pytest.fixture(scope="module")
def base(digits, tmp_path_factory):
    """An untrained model of the first 4 classes, and a ranking of their images."""
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    dataset = read_json(digits / "dataset.json")
    order = read_json(digits / "order.json")
    facts = {"backbone": "resnet8", "in_channels": 1, "task_sizes": [4], "bias": True}
    facts |= {"input_size": [8, 8], "classes": order["names"][:4], "data_sha256": hashes(dataset)}
    write_checkpoint(folder / "model.safetensors", CilModel("resnet8", 1, [4]).tensors(), facts)
    position = np.argsort(order["order"])
    label = position[np.load(digits / "train_labels.npy")]
    rows = [np.flatnonzero(label == c) for c in range(4)]
    write_arrays(
        folder / "herding.npz",
        {"data_sha256": hashes(dataset)},
        ranking=np.concatenate(rows),
        counts=np.array([len(r) for r in rows]),
    )
    return folder


@pytest.fixture
def trainer(digits, base, tmp_path):
    """A function from options of wa.training.train to a Trainer of the second task, 2 classes."""

    def make(*options: object) -> Trainer:
        files = [
            "--data",
            digits,
            "--order",
            digits / "order.json",
            "--output",
            tmp_path,
            "--model",
            base / "model.safetensors",
        ]
        files += [
            "--ranking",
            base / "herding.npz",
            "--tasks",
            4,
            2,
            "--backbone",
            "resnet8",
            "--augmentation",
            "crop-1",
        ]
        files += ["--batch-size", 64, "--epochs", 1, "--device", "cpu", "--precision", "float32"]
        return train.prepare(*train.parse([str(o) for o in (*files, *options)]))

    return make


@pytest.fixture
def unaligned(base, tmp_path):
    """The model of `base` before its classifier was aligned: its rows are twice as long."""
    tensors, header = read_checkpoint(base / "model.safetensors")
    heads = {k: 2 * v for k, v in tensors.items() if k.startswith("classifier")}
    write_checkpoint(tmp_path / "trained.safetensors", tensors | heads, header)
    return tmp_path / "trained.safetensors"


def test_start_trained_goes_on_from_the_model_before_aligning(trainer, base, unaligned):
    made = trainer("--start", "trained", "--unaligned", unaligned, "--distillation", 0.5)
    aligned = read_checkpoint(base / "model.safetensors")[0]["classifier.heads.0.weight"]
    assert (made.model.classifier.heads[0].weight.detach().numpy() == 2 * aligned).all()
    assert (made.teacher.classifier.heads[0].weight.float().numpy() == aligned).all()
    with pytest.raises(UserError, match="--start trained needs --unaligned"):
        trainer("--start", "trained")


def test_redraw_at_the_start_draws_the_old_rows_anew_too(trainer, base):
    made = trainer("--redraw-classifier", "start", "--distillation", 0.5)
    old = read_checkpoint(base / "model.safetensors")[0]["classifier.heads.0.weight"]
    kept = trainer("--distillation", 0.5)
    assert (kept.model.classifier.heads[0].weight.detach().numpy() == old).all()
    assert (made.model.classifier.heads[0].weight.detach().numpy() != old).all()
    assert (made.teacher.classifier.heads[0].weight.float().numpy() == old).all()
    backbones = made.model.backbone.state_dict(), kept.model.backbone.state_dict()
    assert all(torch.equal(backbones[0][name], value) for name, value in backbones[1].items())


@pytest.mark.parametrize("divided", [True, False])
def test_weight_decay_of_the_second_task_is_halved(trainer, divided):
    options = ["--divide-weight-decay"] if divided else []
    made = trainer("--weight-decay", 0.01, *options)
    assert made.optimizer.param_groups[0]["weight_decay"] == (0.005 if divided else 0.01)


def test_memory_formats_differ_in_rounding_only(trainer):
    losses = {}
    for memory_format in ("channels_last", "contiguous"):
        made = trainer("--memory-format", memory_format)
        assert made.engine()["memory_format"] == memory_format
        rows = torch.arange(8)
        x = made.inputs(rows, next(made.augmented([rows], torch.tensor(0))))
        last = x.is_contiguous(memory_format=torch.channels_last)
        weight = made.model.backbone.layer1[0].conv1.weight
        assert weight.is_contiguous() == (memory_format == "contiguous")
        assert last or memory_format == "contiguous"
        losses[memory_format] = made.losses(x, made.task.train.label[rows])[0].detach()
    torch.testing.assert_close(losses["contiguous"], losses["channels_last"])


def test_memory_in_total_and_per_class(trainer):
    for memory, each in (("20", 5), ("7/class", 7), ("1000/class", None)):
        counts = np.bincount(trainer("--memory", memory).task.train.label)
        assert counts[:4].tolist() == [each] * 4 if each else counts[:4].min() > 100
        assert counts[4:].min() > 100


def test_held_out_images(trainer):
    task = trainer("--memory", "40", "--held-out", "0.2").task
    held = task.held_out
    assert (
        np.bincount(task.images.label[held]).tolist() == [2] * 6
    )  # a fifth of 10, of old and new classes alike
    assert (
        sorted([*task.train.index.tolist(), *task.images.index[held].tolist()])
        == task.images.index.tolist()
    )
    assert not set(task.train.index.tolist()) & set(task.images.index[held].tolist())
    again = trainer("--memory", "40", "--held-out", "0.2").task
    other = trainer("--memory", "40", "--held-out", "0.2", "--seed", "1").task
    assert (again.held_out == held).all() and (other.held_out != held).any()
    assert not trainer("--memory", "40").task.held_out.any()
    with pytest.raises(UserError, match="at least 2 exemplars for each class"):
        trainer("--memory", "4", "--held-out", "0.2")


def test_a_frozen_backbone_stays_to_the_last_statistic(trainer):
    before = {}
    for options in ((), ("--freeze",)):
        one = trainer("--memory", "20", *options)
        before = {k: v.clone() for k, v in one.model.state_dict().items()}
        one.epoch(0)
        after = one.model.state_dict()
        same = {
            k: torch.equal(before[k], after[k])
            for k in before
            if k.startswith("backbone") and "num_batches" not in k
        }
        assert all(same.values()) if options else not any(same.values())
        assert not any(
            torch.equal(before[k], after[k]) for k in before if k.startswith("classifier")
        )


def test_clipping_keeps_the_weights_non_negative(trainer):
    one = trainer("--memory", "20", "--clip")
    assert min(head.weight.min() for head in one.model.classifier.heads) < 0
    one.epoch(0)
    for head in one.model.classifier.heads:
        assert head.weight.min() == 0 < head.weight.max()
    assert min(head.bias.min() for head in one.model.classifier.heads) < 0  # the weights only


def test_the_step_has_the_methods_losses(trainer):
    one = trainer(
        "--memory",
        "20",
        "--distillation",
        "1",
        "--classification-loss",
        "separated",
        "--distillation-loss",
        "taskwise",
    )
    x, label = torch.randn(8, 1, 8, 8), torch.tensor([0, 1, 2, 3, 4, 5, 4, 0])
    loss, ce, _, _ = one.losses(x, label)
    with torch.no_grad():
        logits, old = one.model(x), one.teacher(x)
    new, separated = label >= 4, torch.empty(8)
    separated[new] = -logits[new][:, 4:].log_softmax(1)[torch.arange(new.sum()), label[new] - 4]
    separated[~new] = -logits[~new][:, :4].log_softmax(1)[torch.arange((~new).sum()), label[~new]]
    p, q = (old / 2).softmax(1), (logits[:, :4] / 2).log_softmax(1)
    torch.testing.assert_close(ce, separated)
    torch.testing.assert_close(
        loss, separated + 4 * (p * (p.log() - q)).sum(1)
    )  # one old task: its classes are all old ones


def test_redrawing_is_in_place_and_a_function_of_the_seed():
    classifier = CilClassifier(8)
    classifier.grow(5)
    classifier.grow(2)
    addresses = [p.data_ptr() for p in classifier.parameters()]
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        classifier.redraw()
        drawn.append(torch.cat([p.detach().flatten() for p in classifier.parameters()]))
    assert [p.data_ptr() for p in classifier.parameters()] == addresses
    assert torch.equal(drawn[0], drawn[1]) and not (drawn[0] == drawn[2]).any()
    assert drawn[0].abs().max() <= 8**-0.5


@pytest.mark.slow
def test_the_classifier_is_redrawn_after_the_warmup(digits, tmp_path):
    files = [
        "--data",
        digits,
        "--order",
        digits / "order.json",
        "--tasks",
        4,
        "--backbone",
        "resnet8",
        "--batch-size",
        64,
    ]
    heads = []
    for name, *more in (("kept",), ("redrawn", "--redraw-classifier", "after-warmup")):
        schedule = [
            "--epochs",
            2,
            "--warmup",
            1,
            "--lr",
            1e-9,
            "--augmentation",
            "crop-1",
        ]  # nothing is learned
        run = program("wa.training.train", *files, *schedule, *more, "--output", tmp_path / name)
        assert run.returncode == 0, run.stdout
        heads.append(read_checkpoint(tmp_path / name / "trained.safetensors")[0])
    kept, redrawn = heads
    np.testing.assert_allclose(
        kept["backbone.conv1.weight"], redrawn["backbone.conv1.weight"], atol=1e-5
    )
    assert (
        abs(kept["classifier.heads.0.weight"] - redrawn["classifier.heads.0.weight"]).mean() > 0.01
    )


def test_random_and_closest_rankings():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([0, 1], 30))
    features = rng.normal(size=(60, 5)) + 1
    random = rank_classes(features, labels, "random", 0)
    assert all(sorted(random[c]) == np.flatnonzero(labels == c).tolist() for c in (0, 1))
    assert random[0].tolist() != sorted(random[0])
    assert random[0].tolist() == rank_classes(features, labels, "random", 0)[0].tolist()
    assert random[0].tolist() != rank_classes(features, labels, "random", 1)[0].tolist()
    phi = features / np.linalg.norm(features, axis=1, keepdims=True)
    for c, rows in rank_classes(features, labels, "closest").items():
        mean = phi[labels == c].mean(axis=0)
        distance = [np.linalg.norm(phi[r] - mean) for r in rows]
        assert distance == sorted(distance) and len(rows) == 30


@pytest.mark.slow
def test_the_example_of_the_documentation(tmp_path):
    """docs/methods.md, "An alignment of your own": the patch applies and does what it says."""
    example = (ROOT / "docs/methods.md").read_text().split("## An alignment of your own")[1]
    patch, methods = (
        re.search(rf"```{kind}\n(.*?)```", example, re.S)[1] for kind in ("diff", "yaml")
    )
    assert len((patch + methods).splitlines()) < 40
    for folder in ("wa", "workflow", "profiles", "config", "docs"):
        shutil.copytree(ROOT / folder, tmp_path / "checkout" / folder)
    for file in ("Snakefile", "environment.yml"):
        shutil.copy(ROOT / file, tmp_path / "checkout" / file)
    subprocess.run(
        ["git", "apply", "-"], input=patch, text=True, check=True, cwd=tmp_path / "checkout"
    )
    subprocess.run(
        [sys.executable, "-m", "wa.study.reference"],
        check=True,
        cwd=tmp_path / "checkout",
        env=os.environ | {"PYTHONPATH": str(tmp_path / "checkout")},
    )
    config = small_study() | {"protocols": [{"base": 6, "increment": 4}]} | yaml.safe_load(methods)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(config))
    options = [
        "metrics",
        "--cores",
        "2",
        "--directory",
        str(tmp_path),
        "--configfile",
        str(tmp_path / "study.yaml"),
    ]
    snakefile = str(tmp_path / "checkout/Snakefile")
    run = subprocess.run(
        [sys.executable, "-m", "snakemake", "-s", snakefile, *options],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    task = tmp_path / "results/tiny/order-1993/seed-0/base-6/inc-4/replay-tau/task-1"
    norms = read_json(task / "alignment.json")["row_norms"]
    np.testing.assert_allclose(norms["aligned"], np.sqrt(norms["trained"]), rtol=1e-5)


METHODS = {
    "finetune": {},
    "freeze": {"freeze": True},
    "replay": {"memory": 20},
    "replay-aligned": {"memory": 20, "alignment": "weight"},
    "replay-random": {"memory": "2/class", "selection": "random", "alignment": "unit"},
    "replay-closest": {"memory": 20, "selection": "closest", "alignment": "weight-clipped"},
    "lwf": {"distillation": 3, "temperature_squared": False, "classification_loss": "separated"},
    "kd": {"memory": 20, "distillation": "dynamic"},
    "wa": {"memory": 20, "distillation": "dynamic", "alignment": "weight"},
    "wa-paper": {"memory": 20, "distillation": "recipe", "recipe": "paper", "alignment": "weight"},
    "icarl": {"memory": 20, "distillation": 1, "temperature_squared": False, "classifier": "nme"},
    "bic": {
        "memory": 40,
        "distillation": "dynamic",
        "mix": "convex",
        "alignment": "bias",
        "held_out": 0.2,
    },
    "ss-il": {
        "memory": 20,
        "distillation": 1,
        "classification_loss": "separated",
        "distillation_loss": "taskwise",
    },
    "joint": {"memory": "all", "start": "scratch"},
}


@pytest.mark.slow
def test_every_method_runs_in_the_workflow(tmp_path):
    config = small_study() | {"methods": METHODS, "protocols": [{"base": 6, "increment": 4}]}
    run = snakemake(tmp_path, "metrics", "results_table", config=config)
    assert run.returncode == 0, run.stdout
    root = tmp_path / "results/tiny/order-1993/seed-0"
    assert sorted(p.name for p in root.iterdir()) == ["base-6", "base-6-paper"]

    def task(method):
        return (
            root / ("base-6-paper" if method == "wa-paper" else "base-6") / f"inc-4/{method}/task-1"
        )

    def history(method):
        with open(task(method) / "history.csv", encoding="utf-8") as file:
            return list(csv.DictReader(file))[-1]

    for method, choices in METHODS.items():
        assert (float(history(method)["distillation"]) > 0) == ("distillation" in choices), method
    base, frozen = (
        read_checkpoint(p / "trained.safetensors")[0] for p in (root / "base-6", task("freeze"))
    )
    assert all(
        (base[k] == frozen[k]).all()
        for k in base
        if k.startswith("backbone") and "num_batches" not in k
    )
    arrays = read_arrays(task("bic") / "features.npz")
    assert np.bincount(arrays["label"][arrays["held_out"]]).tolist() == [1] * 10
    trained, aligned = (
        read_checkpoint(task("bic") / f"{n}.safetensors")[0] for n in ("trained", "model")
    )
    shift = aligned["classifier.heads.1.bias"] - trained["classifier.heads.1.bias"]
    assert (shift != 0).all() and (
        aligned["classifier.heads.0.bias"] == trained["classifier.heads.0.bias"]
    ).all()
    assert (
        len(read_arrays(task("bic") / "herding.npz")["counts"]) == 10
    )  # what is held out may become an exemplar
    assert (
        read_checkpoint(task("wa-paper") / "trained.safetensors")[0][
            "classifier.heads.0.weight"
        ].min()
        >= 0
    )
    assert {p.name for p in (root / "base-6").glob("*.npz")} == {
        "features.npz",
        "herding.npz",
        "random.npz",
        "closest.npz",
    }

    header = read_checkpoint(task("icarl") / "model.safetensors")[1]
    assert header["classifier"] == "nme" and len(header["means_sha256"]) == 64
    assert read_checkpoint(task("wa") / "model.safetensors")[1]["classifier"] == "linear"

    study = RunTable("results/tiny", "tiny", ["1993"], [0], [(6, 4)], list(METHODS), 10)
    own = read_own(str(tmp_path / "results/tiny/metrics.csv"), study)
    own = (
        own[own["metric"] == "accuracy"]
        .groupby(["method", "task"], observed=True)["classifier"]
        .agg(list)
    )
    aligning = {m for m, choices in METHODS.items() if choices.get("alignment")}
    for method in METHODS:
        expected = "nme" if method == "icarl" else "aligned" if method in aligning else "trained"
        assert own[method, 1] == [expected] and own[method, 0] == [
            "nme" if method == "icarl" else "trained"
        ]
    table = (tmp_path / "results/tiny/results.md").read_text()
    assert [
        line.split(" | ")[2] for line in table.splitlines() if line.startswith("| 6 |")
    ] == list(METHODS)
    assert "published" in table and "PyCIL" not in table  # nothing is published for the digits
