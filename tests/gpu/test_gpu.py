"""What only a GPU can show: recorded steps, memory, streams, and the same bits again.

make test-gpu                     on a machine with a GPU
WA_TEST_DEVICE=cpu make test-gpu  rehearse on a CPU the tests that can run there
"""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from helpers import ROOT, add_images, program, second_task, small_study, snakemake, task_options

from wa.checkpoint import read_checkpoint
from wa.data import batches
from wa.data.augment import Augment
from wa.errors import UserError
from wa.files import read_json, sha256, write_json
from wa.methods import algorithm
from wa.randomness import key
from wa.training import engine, train
from wa.training.failures import in_words
from wa.training.gpus import gpus

DEVICE = os.environ.get("WA_TEST_DEVICE", "cuda")
pytestmark = pytest.mark.gpu
needs_gpu = pytest.mark.skipif(DEVICE == "cpu", reason="nothing to rehearse on a CPU")
needs_two = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
AUGMENTATION = ["flip", "rand-m9-mstd0.5-inc1", "erase-0.25"]


@pytest.fixture(autouse=True)
def device():
    if DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    yield
    if DEVICE == "cuda":
        torch.cuda.empty_cache()


@pytest.fixture
def options(digits, base, tmp_path):
    """A second task with a teacher, in batches of 128, 128 and 54 images."""
    more = ["--epochs", 8, "--batch-size", 128, "--device", DEVICE]
    more += ["--augmentation", "crop-1", "erase-0.25"]
    return [*second_task(digits, base, tmp_path / "out"), *more]


def trainer_of(options) -> engine.Trainer:
    return train.prepare(*train.parse([str(option) for option in options]))


def trained(*options) -> dict[str, np.ndarray]:
    """Run a training anew. Returns its tensors."""
    file = options[options.index("--output") + 1] / "trained.safetensors"
    file.unlink(missing_ok=True)
    run = program("wa.training.train", *options)
    assert run.returncode == 0, run.stdout
    return read_checkpoint(file)[0]


def assert_same_bits(ours: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> None:
    assert ours.keys() == others.keys()
    for name, values in ours.items():
        np.testing.assert_array_equal(values, others[name], name)


def images_of(side: int, count: int, folder) -> None:
    """Write a packed data set of 4 classes of square images, and a class order."""
    random, label = np.random.default_rng(0), np.arange(count) % 4
    pixels = random.integers(0, 128, (count, side, side, 3)).astype(np.uint8)
    pixels += (label * 30).astype(np.uint8)[:, None, None, None]
    facts = {"dataset": "shapes", "classes": list("abcd"), "image_shape": [side, side, 3]}
    facts |= {"mean": [0.5] * 3, "std": [0.25] * 3}
    for split, number in (("train", count), ("test", 8)):
        for what, array in (("images", pixels), ("labels", label)):
            file = folder / f"{split}_{what}.npy"
            np.save(file, array[:number])
            facts[f"{split}_{what}_sha256"] = sha256(file)
        facts[f"{split}_counts"] = np.bincount(label[:number]).tolist()
    write_json(folder / "dataset.json", facts)
    write_json(folder / "order.json", {"order": [0, 1, 2, 3], "names": list("abcd")})


def first_task(data, output, *more) -> list:
    files = ["--data", data, "--order", data / "order.json", "--output", output, "--tasks", 4]
    return [*files, "--device", DEVICE, "--batch-size", 16, "--epochs", 1, *more]


@needs_gpu
def test_doctor_names_the_gpu():
    run = program("wa", "doctor")
    assert run.returncode == 0 and torch.cuda.get_device_name() in run.stdout, run.stdout
    assert len(gpus()) >= torch.cuda.device_count()


def test_the_same_bits_recorded_or_not_and_twice(options):
    recorded = trained(*options, "--cuda-graphs")
    assert_same_bits(recorded, trained(*options, "--cuda-graphs"))
    assert_same_bits(recorded, trained(*options, "--no-cuda-graphs"))


@pytest.mark.parametrize(
    "backbone", ["resnet8", "torchvision/efficientnet_b0", "timm/vit_tiny_patch16_224"]
)
def test_the_same_bits_with_all_augmentation_and_with_layers_that_draw(backbone, tmp_path):
    images_of(256, 80, tmp_path)
    more = ["--backbone", backbone, "--epochs", 2, "--augmentation", "resized-crop-224"]
    options = first_task(tmp_path, tmp_path / "out", *more, *AUGMENTATION)
    assert_same_bits(trained(*options, "--cuda-graphs"), trained(*options, "--no-cuda-graphs"))


def test_a_killed_training_goes_on_to_the_same_bits(options, tmp_path):
    """After the kill there are steps that run, and then a new record."""
    whole = trained(*options)
    again = [tmp_path / "killed" if option == tmp_path / "out" else option for option in options]
    command = [sys.executable, "-m", "wa.training.train", *map(str, again)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    for line in process.stdout:
        if line.startswith("epoch 4/"):
            process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert_same_bits(whole, trained(*again))


@pytest.mark.parametrize("name", ["podnet", "lucir", "der", "foster", "ewc"])
def test_methods_with_a_step_of_their_own_can_be_recorded(name, digits, base, tmp_path):
    """Two tasks, the second with what the first has stored. Second stages are recorded, too."""
    first, second = tmp_path / "first", tmp_path / "second"
    given = {key: 5 for key in algorithm.facts(name).options if key.endswith("_epochs")}
    words = algorithm.to_words(algorithm.with_defaults(name, given))
    more = ["--device", DEVICE, "--algorithm", name, "--epochs", 5, "--options", *words]
    trained(*task_options(digits, first), *more)
    shutil.copy(first / "trained.safetensors", first / "model.safetensors")
    shutil.copy(base / "herding.npz", first)
    files = trained(*second_task(digits, first, second), *more)
    assert all(np.isfinite(values).all() for values in files.values())


@pytest.mark.parametrize(
    "names", [["crop-4", *AUGMENTATION[:2]], ["rand-m9-n4-p1"], ["jitter-0.4-0.4-0.4"]]
)
def test_images_are_augmented_as_on_a_cpu(names):
    images = torch.randint(0, 256, (2000, 3, 32, 32), dtype=torch.uint8)
    index, augment = torch.arange(2000), Augment(names)
    ours, cpus = augment(images.to(DEVICE), key(7), index).cpu(), augment(images, key(7), index)
    different = (ours != cpus).flatten(1).any(1).sum().item()
    assert different == 0, f"{different} of 2,000 images"


def test_resized_crops_are_those_of_a_cpu_but_for_rounding():
    images = torch.randint(0, 256, (200, 3, 64, 64), dtype=torch.uint8)
    index, augment = torch.arange(200), Augment(["resized-crop-56"])
    ours, cpus = augment(images.to(DEVICE), key(7), index).cpu(), augment(images, key(7), index)
    assert (ours.int() - cpus.int()).abs().max() <= 1


def test_images_are_gathered_while_a_step_is_recorded(tmp_path, monkeypatch):
    """They do not fit, and a thread that is as slow as a disk pins memory for them."""
    images_of(64, 256, tmp_path)
    take = batches.take
    monkeypatch.setattr(batches, "fits", lambda size, device: False)
    monkeypatch.setattr(batches, "take", lambda *a, **k: (time.sleep(0.02), take(*a, **k))[1])
    monkeypatch.setitem(engine.AUGMENTED, DEVICE, 64 * 64 * 16)  # one batch at once
    more = ["--backbone", "torchvision/resnet18", "--augmentation", "resized-crop-56"]
    trainer = trainer_of(first_task(tmp_path, tmp_path / "out", *more))
    assert trainer.task.train.mapped and trainer.task.train.streamed == (DEVICE == "cuda")
    assert trainer.epoch(0)["loss"] > 0


def test_originals_are_decoded_while_a_step_is_recorded(tmp_path):
    """`input: timm`: a thread of DataLoader pins memory."""
    add_images(tmp_path / "raw", ["ant", "cat", "cow", "dog"], 40)
    packing = ["--dataset", "shapes", "--path", tmp_path / "raw", "--output", tmp_path]
    ordering = ["--order", "natural", "--dataset", tmp_path / "dataset.json"]
    for module, *words in (
        ("wa.data.datasets", *packing, "--cache-size", 16),
        ("wa.data.scenario", *ordering, "--output", tmp_path / "order.json"),
    ):
        assert program(module, *words).returncode == 0
    more = ["--backbone", "resnet8", "--input", "timm", "--path", tmp_path / "raw"]
    options = first_task(tmp_path, tmp_path / "out", *more, "--augmentation", "resized-crop-16")
    run = program("wa.training.train", *options, OMP_NUM_THREADS="4")
    assert run.returncode == 0, run.stdout


@needs_gpu
@pytest.mark.parametrize(
    "backbone, setting",
    [("torchvision/vgg11", "deterministic: false"), ("timm/convit_tiny", "cuda_graphs: false")],
)
def test_an_error_names_the_setting_that_a_backbone_needs(backbone, setting, tmp_path):
    images_of(224, 128, tmp_path)
    options = first_task(tmp_path, tmp_path / "out", "--backbone", backbone)
    run = program("wa.training.train", *options)
    assert run.returncode and setting in run.stdout.splitlines()[-1], run.stdout
    trained(*options, "--no-deterministic", "--no-cuda-graphs")


@needs_gpu
@pytest.mark.parametrize("graphs", ["--cuda-graphs", "--no-cuda-graphs"])
def test_a_full_gpu_is_one_line(options, graphs):
    trainer = trainer_of([*options, graphs])
    torch.cuda.empty_cache()
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction(torch.cuda.memory_reserved() / total + 1e-6)
    try:
        with pytest.raises(UserError, match="batch_size below 128"), in_words(trainer.settings):
            trainer.epoch(0)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@needs_gpu
def test_images_reach_the_gpu_without_a_copy_in_main_memory():
    """2.4 GB of images from an array of 300 MB. Before, all went through main memory at once."""
    packed, index = np.zeros((1536, 256, 256, 3), np.uint8), np.arange(1536).repeat(8)
    torch.zeros(1, device=DEVICE)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    images = batches.Images([packed], index, index, index * 0, torch.device(DEVICE))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert not images.mapped and grown < 2**20, f"{grown} KiB"


def test_a_study_runs_on_the_gpu(tmp_path):
    """With `device: auto`. Its trainings share the GPU, and cost.csv says what they took of it."""
    run = snakemake(tmp_path, config=small_study() | {"device": "auto", "runs_per_gpu": 2})
    assert run.returncode == 0, run.stdout
    tasks = list((tmp_path / "results/tiny").rglob("trained.safetensors"))
    assert tasks
    for file in tasks:
        engine_of = read_checkpoint(file)[1]["engine"]
        assert (engine_of["device"] == "cpu") == (DEVICE == "cpu")
        if DEVICE == "cuda":
            assert read_json(file.parent / "train.meter.json")["gpu_mib"] > 0


@needs_two
@pytest.mark.parametrize("more, near", [([], 0.1), (["--sync-batch-norm"], 1e-3)])
def test_two_gpus_train_what_one_does(more, near, options):
    """An epoch is one batch. Without the statistics of both GPUs, batch norm differs a little."""
    options = [*options, "--precision", "float32", "--batch-size", 310, "--epochs", 1]
    one = trainer_of(options).epoch(0)["loss"]
    launch = ["--processes", 2, "--threads", 2, "--device", "cuda", "--"]
    run = program("wa.training.launch", *launch, *options, *more)
    assert run.returncode == 0, run.stdout
    (line,) = (line for line in run.stdout.splitlines() if line.startswith("epoch 1/"))
    assert float(re.search(r"loss (\S+)", line)[1]) == pytest.approx(one, rel=near)
