"""What tests share: run the workflow or a program, and a small study."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml
from fork_server import start
from PIL import Image

# As Snakemake sets it. The suite uses several cores by running several tests at once.
os.environ["OMP_NUM_THREADS"] = "1"

ROOT = Path(__file__).parents[1]


def snakemake_command(folder: Path, *options: str, config: dict | None = None) -> list[str]:
    """The command that runs this checkout's Snakefile with results in `folder`."""
    command = [sys.executable, *["-m", "snakemake", "--cores", "2", "--snakefile"]]
    command += [str(ROOT / "Snakefile"), "--directory", str(folder), *options]
    if config is not None:
        file = folder / "study.yaml"
        file.write_text(yaml.safe_dump(config, sort_keys=False))
        command += ["--configfile", str(file)]
    return command


def snakemake(
    folder: Path, *options: str, config: dict | None = None
) -> subprocess.CompletedProcess:
    """Run that command. stdout has stderr too."""
    _, _, module, *words = snakemake_command(folder, *options, config=config)
    return start(module, words, folder, dict(os.environ))


def scheduled(folder: Path, config: dict, *options: str) -> dict[str, int]:
    """The jobs that a dry run lists: rule -> number."""
    run = snakemake(folder, "-n", *options, "--quiet", "rules", config=config)
    assert run.returncode == 0, run.stdout
    if "Nothing to be done" in run.stdout:
        return {}
    table = run.stdout.split("Job stats:")[1].split("\n\n")[0]
    return {
        rule: int(n)
        for rule, n in re.findall(r"^(\w+)\s+(\d+)$", table, re.M)
        if rule not in ("total", "all", "metrics", "figures")
    }


def program(module: str, *options: object, **environment: str) -> subprocess.CompletedProcess:
    """Run one of the programs of wa/."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return start(module, [str(option) for option in options], Path.cwd(), environment)


def small_study() -> dict:
    """The config of a small study of the digits."""
    return {
        "experiment": "tiny",
        "dataset": "digits",
        "orders": [1993],
        "seeds": [0],
        "protocols": [{"base": 6, "increment": 2}],
        "methods": {
            "finetune": {},
            "wa": {"memory": 20, "distillation": "dynamic", "alignment": "weight"},
            "joint": {"memory": "all", "start": "scratch"},
        },
        "training": {
            "backbone": "resnet8",
            "epochs": 1,
            "batch_size": 64,
            "lr": 0.05,
            "augmentation": ["crop-1"],
        },
    }


RECIPE = [
    "--backbone",
    "resnet8",
    "--epochs",
    "3",
    "--batch-size",
    "64",
    "--lr",
    "0.05",
    "--augmentation",
    "crop-1",
]


def task_options(digits, output, *tasks):
    """The options of wa.training.train for these tasks, by default [4], of the digits."""
    files = ["--data", digits, "--order", digits / "order.json", "--output", output]
    return [*files, "--tasks", *(tasks or [4]), *RECIPE]


def second_task(digits, base, output):
    """The options of wa.training.train for task 1, after the task 0 in the folder `base`."""
    previous = ["--model", base / "model.safetensors", "--ranking", base / "herding.npz"]
    more = ["--memory", "20", "--distillation", "0.5"]
    return [*task_options(digits, output, 4, 2), *previous, *more]


def random_checkpoint(path: Path, seed: int = 0, backbone: str = "resnet8", size: int = 8) -> Path:
    """Write a checkpoint with random weights. It knows 10 classes of colour images, in 3 tasks."""
    import torch

    from wa.checkpoint import write_checkpoint
    from wa.models.model import CilModel

    torch.manual_seed(seed)
    sizes, channels = [4, 3, 3], 3
    model = CilModel(backbone, channels, sizes, size=(size, size))
    header = {"backbone": backbone, "in_channels": channels, "bias": True, "task_sizes": sizes}
    header |= {"classes": [f"class {c}" for c in range(sum(sizes))]}
    header |= {"image_shape": [size, size, channels], "mean": [0.5] * 3, "std": [0.25] * 3}
    write_checkpoint(path, model.tensors(), header)
    return path


def add_images(folder: Path, names: list[str], count: int = 12, tests: int = 5) -> None:
    """Add classes to a folder of images of 16 x 16 pixels. Each has a pattern of its own.

    count, tests: of each class. The images of `fox` are grey.
    """
    for name in names:
        rng = np.random.RandomState(sum(map(ord, name)))
        pattern = rng.randint(0, 256, (4, 4, 3)).repeat(4, 0).repeat(4, 1)
        for split, number in (("train", count), ("test", tests)):
            place = folder / split / name
            place.mkdir(parents=True)
            for i in range(number):
                noisy = np.clip(pattern + rng.normal(0, 40, pattern.shape), 0, 255)
                image = Image.fromarray(noisy.astype(np.uint8))
                (image.convert("L") if name == "fox" else image).save(place / f"{i}.png")
