"""Every algorithm in the workflow, in one study of the digits."""

import csv
from pathlib import Path

import numpy as np
import pytest
from helpers import program, scheduled, small_study, snakemake
from PIL import Image

from wa.checkpoint import read_checkpoint
from wa.files import read_arrays, read_json
from wa.methods.algorithm import NAMES, facts

METHODS = {
    "ewc": {"algorithm": "ewc"},
    "lucir": {"algorithm": "lucir", "memory": 20},
    "il2m": {"algorithm": "il2m", "memory": 20},
    "eeil": {"algorithm": "eeil", "memory": 20, "options": {"fine_tuning_epochs": 2}},
    "podnet": {"algorithm": "podnet", "memory": 20, "options": {"fine_tuning_epochs": 2}},
    "gdumb": {"algorithm": "gdumb", "memory": 20},
    "der": {
        **{"algorithm": "der", "memory": 20, "alignment": "weight"},
        "options": {"fine_tuning_epochs": 2},
    },
    "memo": {"algorithm": "memo", "memory": 20},
    "foster": {"algorithm": "foster", "memory": 20, "options": {"compression_epochs": 2}},
    "simplecil": {"algorithm": "simplecil"},
    "slda": {"algorithm": "slda"},
    "fecam": {"algorithm": "fecam"},
    "ranpac": {"algorithm": "ranpac", "options": {"projections": 50}},
    "probe": {"freeze": True, "memory": "all"},
}


def shown_by(name: str) -> set[str]:
    """The classifiers that tables show for a method, over all tasks."""
    found = facts(METHODS[name].get("algorithm", "standard"))
    if found.classifier:
        return {"fitted"}
    aligns = (found.choices | METHODS[name]).get("alignment")
    return {"trained", "aligned"} if aligns else {"trained"}


@pytest.mark.slow
def test_every_algorithm_runs_in_the_workflow(tmp_path):
    assert {m.get("algorithm", "standard") for m in METHODS.values()} == set(NAMES)
    config = small_study() | {"methods": METHODS, "protocols": [{"base": 6, "increment": 2}]}
    run = snakemake(tmp_path, config=config)  # with all figures
    assert run.returncode == 0, run.stdout
    root = tmp_path / "results/tiny/order-1993/seed-0"
    assert {p.name for p in root.iterdir()} == {
        *("base-6", "base-6-ewc", "base-6-lucir", "base-6-podnet")
    }

    with open(tmp_path / "results/tiny/metrics.csv", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "accuracy"]
    shown = {(r["method"], r["task"]): r["classifier"] for r in rows if r["own"] == "true"}
    for name in METHODS:
        folder = next(root.glob(f"*/inc-2/{name}/task-2"))
        assert {shown[name, str(task)] for task in range(3)} == shown_by(name)
        epochs = len((folder / "history.csv").read_text().splitlines()) - 1
        frozen = name in ("simplecil", "slda", "fecam", "ranpac")
        assert epochs == (
            0 if frozen else 3 if name in ("eeil", "podnet", "der", "foster") else 1
        ), name
        metrics = read_json(folder / "metrics.json")
        assert all(metrics[kind]["accuracy"] > 5 for kind in shown_by(name)), name
    assert scheduled(tmp_path, config) == {}

    before, _ = read_checkpoint(root / "base-6/trained.safetensors")
    after, _ = read_checkpoint(root / "base-6/inc-2/slda/task-2/model.safetensors")
    assert all((before[k] == after[k]).all() for k in before if k.startswith("backbone"))
    assert len(read_arrays(root / "base-6/inc-2/slda/task-2/fitted.npz")["means"]) == 10
    fisher, _ = read_checkpoint(root / "base-6-ewc/inc-2/ewc/task-1/model.safetensors")
    assert fisher["state.classifier.heads.1.weight"].shape == (2, 64)
    assert np.max(fisher["state.backbone.conv1.weight"]) <= 2e-4
    check_growth(root / "base-6/inc-2/der", "network", 3)
    check_growth(root / "base-6/inc-2/memo", "stage", 3)
    with open(tmp_path / "results/tiny/cost.csv", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "parameters"]
    parameters = {(r["method"], int(r["task"])): int(float(r["value"])) for r in rows}
    one = parameters["gdumb", 0] - 6 * 65
    assert parameters["der", 2] == 3 * one + 10 * (3 * 64 + 1)
    assert one < parameters["memo", 2] - 10 * (3 * 64 + 1) < 3 * one
    assert parameters["foster", 2] == parameters["gdumb", 2] == one + 10 * 65

    names = read_json(tmp_path / "results/tiny/order-1993/order.json")["names"]
    image = tmp_path / "seven.png"
    Image.fromarray(np.load(tmp_path / "results/data/digits/test_images.npy")[0, :, :, 0]).save(
        image
    )
    for name in METHODS:
        model = next(root.glob(f"*/inc-2/{name}/task-2/model.safetensors"))
        link = tmp_path / f"{name}.safetensors"
        link.symlink_to(model)  # what was fitted lies beside the model, not beside the link
        run = program("wa", "predict", link, image, "--top", 1)
        assert run.returncode == 0, f"{name}: {run.stdout}"
        assert ("classifier: fitted to features" in run.stdout) == (shown_by(name) == {"fitted"})
        said = program("wa", "show", model).stdout
        assert f"own classifier is `{min(shown_by(name))}`" in said, f"{name}: {said}"
        predicted = read_arrays(model.with_name("predictions.npz"))[min(shown_by(name))]
        assert len(predicted) and names[predicted[0]] in run.stdout, name
    run = program("wa", "export", model.parents[2] / "slda/task-2/model.safetensors", "x.onnx")
    assert run.returncode == 1 and "cannot be exported" in run.stdout


def check_growth(run: Path, part: str, branches: int) -> None:
    """The last model of a run has branches, and it is aligned, shown and exported with them."""
    folder = run / "task-2"
    trained, header = read_checkpoint(folder / "trained.safetensors")
    aligned, same = read_checkpoint(folder / "model.safetensors")
    for each in (header, same):
        assert (each["grown"], each["branches"]) == (part, branches)
    assert read_arrays(folder / "features.npz")["features"].shape[1] == branches * 64
    assert not any("auxiliary" in name for name in trained)
    heads = [
        np.concatenate([t[f"classifier.heads.{i}.weight"] for i in range(3)])
        for t in (trained, aligned)
    ]
    assert heads[0].shape == (10, branches * 64)
    norms = [np.linalg.norm(head.astype(float), axis=1) for head in heads]
    assert (
        norms[1][8:].mean() == pytest.approx(norms[1][:8].mean())
        and (heads[0][:8] == heads[1][:8]).all()
    )
    first, _ = read_checkpoint(run / "task-1/trained.safetensors")
    kept = [name for name in first if name.startswith("backbone") and "branches.0" in name]
    assert kept and all((first[name] == trained[name]).all() for name in kept)
    run = program("wa", "show", folder)
    assert run.returncode == 0 and "damaged" not in run.stdout, run.stdout
    run = program("wa", "export", folder / "model.safetensors", folder / "x.onnx")
    assert run.returncode == 0 and "differs from PyTorch's by at most" in run.stdout, run.stdout
