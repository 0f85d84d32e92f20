"""Every algorithm in the workflow, in one study of the digits."""

import csv

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
    "simplecil": {"algorithm": "simplecil"},
    "slda": {"algorithm": "slda"},
    "fecam": {"algorithm": "fecam"},
    "ranpac": {"algorithm": "ranpac", "options": {"projections": 50}},
    "probe": {"freeze": True, "memory": "all"},
}


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
    for name, method in METHODS.items():
        folder = next(root.glob(f"*/inc-2/{name}/task-2"))
        fits = facts(method.get("algorithm", "standard")).classifier
        assert {shown[name, str(task)] for task in range(3)} == {"fitted" if fits else "trained"}
        epochs = len((folder / "history.csv").read_text().splitlines()) - 1
        frozen = name in ("simplecil", "slda", "fecam", "ranpac")
        assert epochs == (0 if frozen else 3 if name in ("eeil", "podnet") else 1), name
        metrics = read_json(folder / "metrics.json")
        assert metrics["fitted" if fits else "trained"]["accuracy"] > 5, name
    assert scheduled(tmp_path, config) == {}

    before, _ = read_checkpoint(root / "base-6/trained.safetensors")
    after, _ = read_checkpoint(root / "base-6/inc-2/slda/task-2/model.safetensors")
    assert all((before[k] == after[k]).all() for k in before if k.startswith("backbone"))
    assert len(read_arrays(root / "base-6/inc-2/slda/task-2/fitted.npz")["means"]) == 10
    fisher, _ = read_checkpoint(root / "base-6-ewc/inc-2/ewc/task-1/model.safetensors")
    assert fisher["state.classifier.heads.1.weight"].shape == (2, 64)
    assert np.max(fisher["state.backbone.conv1.weight"]) <= 2e-4

    names = read_json(tmp_path / "results/tiny/order-1993/order.json")["names"]
    image = tmp_path / "seven.png"
    Image.fromarray(np.load(tmp_path / "results/data/digits/test_images.npy")[0, :, :, 0]).save(
        image
    )
    for name in METHODS:
        model = next(root.glob(f"*/inc-2/{name}/task-2/model.safetensors"))
        run = program("wa", "predict", model, image, "--top", 1)
        assert run.returncode == 0, f"{name}: {run.stdout}"
        fits = facts(METHODS[name].get("algorithm", "standard")).classifier
        assert ("classifier: fitted to features" in run.stdout) == bool(fits), run.stdout
        predicted = read_arrays(model.with_name("predictions.npz"))["fitted" if fits else "trained"]
        assert len(predicted) and names[predicted[0]] in run.stdout, name
    run = program("wa", "export", model.parents[2] / "slda/task-2/model.safetensors", "x.onnx")
    assert run.returncode == 1 and "cannot be exported" in run.stdout
