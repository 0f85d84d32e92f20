"""wa.load, wa predict, wa show and wa export, on a small study that the workflow has run."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from helpers import ROOT, program, random_checkpoint
from PIL import Image
from safetensors.numpy import save_file

import wa
from wa.__main__ import COMMANDS
from wa.checkpoint import read_checkpoint, write_checkpoint
from wa.commands import export
from wa.commands.show import harm
from wa.data.images import read_image
from wa.errors import UserError
from wa.files import read_arrays, read_json, sha256
from wa.models import classifier

RUN = "results/tiny/order-1993/seed-0/base-6/inc-2/wa"


@pytest.fixture(scope="module")
def study(finished) -> Path:
    """The folder of a finished study; RUN is one of its runs, of three tasks."""
    return finished


@pytest.fixture(scope="module")
def checkpoint(study) -> Path:
    return study / RUN / "task-2" / "model.safetensors"


@pytest.fixture
def image(study, tmp_path) -> Path:
    """A test image as a png."""
    path = tmp_path / "image.png"
    Image.fromarray(np.load(study / "results/data/digits/test_images.npy")[7, ..., 0]).save(path)
    return path


def command(*words: object) -> subprocess.CompletedProcess:
    return program("wa", *words)


def test_help_shows_every_command_and_imports_nothing_heavy():
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "wa", "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert run.returncode == 0, run.stderr
    assert all(f"    wa {name} " in run.stdout for name in COMMANDS)
    imported = {line.split("|")[-1].strip().split(".")[0] for line in run.stderr.splitlines()}
    assert "argparse" in imported and not imported & {"numpy", "torch", "PIL", "safetensors"}


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself_and_imports_no_torch_for_it(name):
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "wa", name, "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert run.returncode == 0 and f"usage: wa {name} " in run.stdout, run.stderr
    help_of = importlib.import_module(f"wa.commands.{name}").HELP
    assert help_of.split("\n")[0] in run.stdout
    imported = {line.split("|")[-1].strip() for line in run.stderr.splitlines()}
    assert "argparse" in imported and "torch" not in imported


def test_a_command_that_does_not_exist_is_refused():
    run = command("prdict")
    assert run.returncode == 2 and "invalid choice: 'prdict'" in run.stdout
    assert command().returncode == 2


def test_the_command_is_installed_and_importing_wa_is_light():
    installed = Path(sys.executable).with_name("wa")
    assert subprocess.run([installed, "--help"], capture_output=True).returncode == 0
    code = "import sys, wa; assert wa.load.__doc__; "
    code += "print('torch' in sys.modules, 'numpy' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT
        ).stdout.split()
        == ["False"] * 2
    )


def test_load_predicts_what_evaluation_predicted(study, checkpoint):
    """Each test image, saved and read again, gets the class and probability of evaluate."""
    model = wa.load(checkpoint)
    assert isinstance(model, torch.nn.Module) and not model.training
    assert (
        model.classes
        == json.loads((study / "results/tiny/order-1993/order.json").read_text())["names"]
    )
    images = np.load(study / "results/data/digits/test_images.npy")
    evaluated = read_arrays(checkpoint.with_name("predictions.npz"))
    index = read_arrays(checkpoint.with_name("features.npz"))["test_index"]
    x = torch.stack([model.preprocess(Image.fromarray(images[i, ..., 0])) for i in index])
    assert x.shape == (len(index), 1, 8, 8) and x.dtype == torch.float32
    with torch.no_grad():
        probability = model(x).softmax(dim=1)
    torch.testing.assert_close(
        probability.amax(dim=1),
        torch.from_numpy(evaluated["aligned_confidence"]),
        atol=1e-5,
        rtol=1e-4,
    )
    best = probability.topk(2).values
    clear = (best[:, 0] - best[:, 1] > 1e-4).numpy()  # where no rounding can turn the order round
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(
        probability.argmax(dim=1).numpy()[clear], evaluated["aligned"][clear]
    )


def test_predict_prints_five_classes_with_probabilities(checkpoint, image):
    run = command("predict", checkpoint, image, image)
    assert run.returncode == 0, run.stdout
    lines = run.stdout.splitlines()
    lines.remove("classifier: linear, aligned (weight)")
    assert len(lines) == 12 and lines[0] == lines[6] == str(image)
    shown = [(line.split()[2], float(line.split()[0])) for line in lines[1:6]]
    expected = wa.load(checkpoint).top(image)
    assert shown == [(name, pytest.approx(100 * p, abs=0.006)) for name, p in expected]
    assert [p for _, p in shown] == sorted((p for _, p in shown), reverse=True)


def test_predict_names_what_is_no_image_and_predicts_the_others(checkpoint, image, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    torn = tmp_path / "torn.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(torn)
    torn.write_bytes(torn.read_bytes()[:1000])
    empty = tmp_path / "empty"
    empty.mkdir()
    run = command(
        "predict", checkpoint, tmp_path / "absent.png", tmp_path / "text.png", torn, empty, image
    )
    assert run.returncode == 1
    for name, why in (
        ("absent.png", "No such file"),
        ("text.png", "not an image"),
        ("torn.png", "truncated"),
        ("empty", "there is no image in it (.bmp, .gif, .jpeg,"),
    ):
        (line,) = [
            line
            for line in run.stdout.splitlines()
            if line.startswith(f"error: {tmp_path / name}: ")
        ]
        assert why in line
    assert "error: 4 of 5 images could not be predicted" in run.stdout
    assert run.stdout.count(" %  ") == 5


def header(checkpoint: Path, **changes: object):
    """A change of a checkpoint's header."""

    def make(path: Path) -> None:
        tensors, facts = read_checkpoint(checkpoint)
        write_checkpoint(path, tensors, facts | changes)

    return make


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({"backbone": "vgg16"}, "backbone = 'vgg16', which must be one of resnet8"),
        ({"backbone": ["resnet8"]}, "backbone ="),
        ({"in_channels": 10**12}, "in_channels ="),
        ({"in_channels": 3}, "does not fit the model"),
        ({"task_sizes": [10**9]}, "its classifier has others"),
        ({"task_sizes": [6, 2, 10**30]}, "task_sizes ="),
        ({"task_sizes": [6, 2, -2, 4]}, "task_sizes ="),
        ({"task_sizes": [6.0, 2, 2]}, "task_sizes ="),
        ({"task_sizes": {"a": 1}}, "task_sizes ="),
        ({"task_sizes": [1] * 10**5}, "its classifier has others"),
        ({"bias": "yes"}, "bias ="),
        ({"bias": False}, "does not fit the model"),
        ({"classes": [1, 2]}, "classes ="),
        ({"classes": ["one"]}, "do not fit together"),
        ({"image_shape": [10**9, 10**9, 1]}, "image_shape ="),
        ({"image_shape": [8, 8, 3]}, "do not fit together"),
        ({"mean": [float("nan")]}, "mean ="),
        ({"mean": [0.1, 0.2, 0.3]}, "do not fit together"),
        ({"std": [0]}, "std ="),
        ({"std": None}, "std ="),
    ],
)
def test_an_absurd_header_is_one_clear_line(checkpoint, tmp_path, changes, complaint):
    path = tmp_path / "model.safetensors"
    header(checkpoint, **changes)(path)
    with pytest.raises(UserError) as error:
        wa.load(path)
    text = str(error.value)
    assert str(path) in text and complaint in text and "\n" not in text and len(text) < 400


def not_ours(path: Path) -> None:
    save_file({"a": np.zeros(3)}, path)


@pytest.mark.parametrize(
    "make, complaint",
    [
        (lambda path: path.write_bytes(b""), "is damaged, or of another kind"),
        (
            lambda path: path.write_text("PK not safetensors " * 10),
            "is damaged, or of another kind",
        ),
        (
            lambda path: torch.save({"weight": torch.zeros(3)}, path),
            "is damaged, or of another kind",
        ),
        (lambda path: save_file({"a": np.zeros(3)}, path, {"wa": "[1]"}), "no JSON object"),
        (not_ours, "is no checkpoint of this program"),
        (lambda path: path.mkdir(), "model.safetensors"),
        (lambda path: None, "No such file"),
    ],
)
def test_what_is_no_checkpoint_is_one_clear_line(tmp_path, make, complaint):
    path = tmp_path / "model.safetensors"
    make(path)
    with pytest.raises((UserError, OSError)) as error:
        wa.load(path)
    assert complaint in str(error.value) and "\n" not in str(error.value)


def test_a_torn_checkpoint_is_one_clear_line_of_each_command(checkpoint, image, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(checkpoint.read_bytes()[:-100])
    for words in (
        ("predict", path, image),
        ("export", path, tmp_path / "model.onnx"),
        ("show", path),
    ):
        run = command(*words)
        assert (
            run.returncode == 1 and run.stdout.startswith("error: ") and "damaged" in run.stdout
        ), run.stdout
        assert len(run.stdout.splitlines()) == 1 and "Traceback" not in run.stdout
    assert not (tmp_path / "model.onnx").exists()


# A method whose own classifier is the nearest mean of exemplars.


@pytest.fixture(scope="module")
def nearest_mean(checkpoint, tmp_path_factory) -> Path:
    """The checkpoint of the run, aligned for a method with `classifier: nme`."""
    here, there = checkpoint.parent, tmp_path_factory.mktemp("nme")
    options = ["--trained", here / "trained.safetensors", "--features", here / "features.npz"]
    options += ["--alignment", "weight", "--classifier", "nme", "--memory", 20]
    options += ["--ranking", here / "herding.npz", "--report", there / "alignment.json"]
    made = program("wa.methods.alignment", *options, "--output", there / "model.safetensors")
    assert made.returncode == 0, made.stdout
    return there / "model.safetensors"


def test_a_model_predicts_with_the_methods_own_classifier(study, checkpoint, nearest_mean):
    """The file alone, in another folder, predicts what the table counts for `nme`."""
    model = wa.load(nearest_mean)
    assert (model.own, model.measure) == ("nme", "similarity")
    assert wa.load(checkpoint).own == "linear"
    images = np.load(study / "results/data/digits/test_images.npy")
    evaluated = read_arrays(checkpoint.with_name("predictions.npz"))
    index = read_arrays(checkpoint.with_name("features.npz"))["test_index"]
    x = torch.stack([model.preprocess(Image.fromarray(images[i, ..., 0])) for i in index])
    with torch.no_grad():
        scores = model(x)
    best = scores.topk(2).values
    clear = (best[:, 0] - best[:, 1] > 1e-5).numpy()
    assert clear.mean() > 0.9 and best.max() <= 1 + 1e-5
    predicted = scores.argmax(dim=1).numpy()
    np.testing.assert_array_equal(predicted[clear], evaluated["nme"][clear])
    assert (predicted != evaluated["aligned"]).any()


def test_predict_and_export_say_and_use_the_nearest_mean(
    study, nearest_mean, image, tmp_path, capsys
):
    run = command("predict", nearest_mean, image)
    assert "classifier: nme, the nearest mean of exemplars" in run.stdout and "%" not in run.stdout
    best = wa.load(nearest_mean).top(image)
    shown = [line.split() for line in run.stdout.splitlines() if line.startswith(" ")]
    assert shown == [[f"{value:.4f}", name] for name, value in best]
    export.export(nearest_mean, tmp_path / "model.onnx")
    assert "classifier nme" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert session.get_modelmeta().custom_metadata_map["classifier"] == "nme"
    images = np.load(study / "results/data/digits/test_images.npy")[:50]
    (served,) = session.run(["similarity"], {"image": images})
    model = wa.load(nearest_mean)
    x = torch.stack([model.preprocess(Image.fromarray(i[..., 0])) for i in images])
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(served), model(x), atol=1e-5, rtol=1e-4)


def test_a_class_without_a_mean_is_never_predicted(tmp_path, capsys):
    """Neither by wa.load nor in ONNX, though all cosines with other means are negative."""
    tensors, facts = read_checkpoint(random_checkpoint(tmp_path / "model.safetensors"))
    means = -np.random.default_rng(0).uniform(0.1, 1, (10, 64)).astype(np.float32)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    means[3] = 0
    file = tmp_path / "nme.safetensors"
    write_checkpoint(file, tensors | {"exemplar_means": means}, facts | {"classifier": "nme"})
    images = np.random.default_rng(1).integers(0, 256, (20, 8, 8, 3), np.uint8)
    model = wa.load(file)
    scores = model.measured_images(images)
    assert (scores[:, 3] == -2).all() and (scores.argmax(dim=1) != 3).all()
    assert scores.max() < 0
    export.export(file, tmp_path / "model.onnx")
    capsys.readouterr()
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (served,) = session.run(["similarity"], {"image": images})
    np.testing.assert_allclose(served, scores, atol=1e-5)
    Image.fromarray(images[0]).save(tmp_path / "image.png")
    lines = command("predict", file, tmp_path / "image.png", "--top", 10).stdout.splitlines()
    assert lines[-1].split() == ["-2.0000", "class", "3"]


def test_class_means_that_were_lost_or_changed_are_noticed(nearest_mean, checkpoint, tmp_path):
    tensors, facts = read_checkpoint(nearest_mean)
    assert facts["content_sha256"] == read_checkpoint(checkpoint)[1]["content_sha256"]
    lost = {name: array for name, array in tensors.items() if name != "exemplar_means"}
    write_checkpoint(tmp_path / "lost.safetensors", lost, facts)
    with pytest.raises(UserError, match="no class means"):
        wa.load(tmp_path / "lost.safetensors")
    data = nearest_mean.read_bytes()
    means = tensors["exemplar_means"].tobytes()
    assert data.count(means) == 1
    changed = data.replace(means, means[:-1] + bytes([means[-1] ^ 1]))
    (tmp_path / "changed.safetensors").write_bytes(changed)
    with pytest.raises(UserError, match="SHA-256"):
        wa.load(tmp_path / "changed.safetensors")


def test_names_cannot_steer_the_terminal(checkpoint, image, tmp_path):
    path = tmp_path / "model.safetensors"
    header(checkpoint, classes=[f"\x1b[31m{c}" for c in range(10)])(path)
    run = command("predict", path, image)
    assert run.returncode == 0 and "\x1b" not in run.stdout and "?[31m" in run.stdout


# Reading images.


def test_images_of_any_mode_are_read_alike(tmp_path):
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    plain = Image.fromarray(grey)
    as_palette = plain.convert("RGB").quantize(64)
    for picture in (
        plain,
        plain.convert("RGB"),
        plain.convert("RGBA"),
        plain.convert("LA"),
        as_palette,
    ):
        np.testing.assert_array_equal(read_image(picture, 1)[..., 0], grey)
        np.testing.assert_array_equal(read_image(picture, 3), np.stack([grey] * 3, axis=2))
    deep = tmp_path / "deep.png"
    Image.fromarray(grey.astype(np.uint16) * 256 + 255).save(deep)  # 16 bits a pixel
    np.testing.assert_array_equal(read_image(deep, 1)[..., 0], grey)
    with pytest.raises(UserError, match="mode F"):
        read_image(Image.fromarray(grey.astype(np.float32)), 1)


@pytest.mark.parametrize(
    "image, said",
    [
        (np.zeros((0, 0), np.uint8), "an array of uint8 (0, 0): give one of uint8"),
        (np.zeros((0, 5, 3), np.uint8), "an array of uint8 (0, 5, 3): give"),
        (np.zeros((5, 0), np.uint8), "with at least one pixel"),
        (np.zeros(5, np.uint8), "an array of uint8 (5,): give one of uint8, (H, W) or (H, W, C)"),
        (np.zeros((), np.uint8), "an array of uint8 (): give"),
        (np.zeros((2, 8, 8, 3), np.uint8), "an array of uint8 (2, 8, 8, 3): give"),
        (np.zeros((8, 8, 7), np.uint8), "at most four channels"),
        (np.zeros((3, 8, 8), np.uint8), "an array of uint8 (3, 8, 8): give"),
        (np.zeros((8, 8)), "an array of float64 (8, 8): give one of uint8"),
        (np.zeros((8, 8), bool), "an array of bool (8, 8): give"),
        (Image.new("RGB", (0, 3)), "an image of 0 x 3 pixels"),
    ],
)
def test_an_image_without_pixels_and_other_arrays_are_refused(checkpoint, image, said):
    with pytest.raises(UserError) as error:
        wa.load(checkpoint).top(image)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_what_a_model_reads_it_takes(checkpoint):
    """An image of one channel, (8, 8, 1), as `read` returns it and as the packed arrays have it."""
    model = wa.load(checkpoint)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 1), dtype=np.uint8)
    assert model.top(pixels) == model.top(pixels[..., 0])
    np.testing.assert_array_equal(model.read(pixels), pixels)


def test_what_is_transparent_is_white(tmp_path):
    picture = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    picture.putpixel((1, 2), (10, 20, 30, 255))
    for save in ({"suffix": "png"}, {"suffix": "webp", "lossless": True, "exact": True}):
        path = tmp_path / f"image.{save.pop('suffix')}"
        picture.save(path, **save)
        pixels = read_image(path, 3)
        assert pixels[2, 1].tolist() == [10, 20, 30]
        assert (np.delete(pixels.reshape(16, 3), 9, axis=0) == 255).all()


def test_photographs_are_turned_upright(tmp_path):
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "photo.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "photo.png", 3), np.rot90(pixels, -1))


def test_an_image_of_another_size_is_resized_as_a_whole(checkpoint):
    model = wa.load(checkpoint)
    small = np.zeros((8, 8), np.uint8)
    small[:, 4:] = 200
    large = Image.fromarray(np.kron(small, np.ones((6, 10), np.uint8)))  # 80 x 48
    x, exact = model.preprocess(large), model.preprocess(Image.fromarray(small))
    assert x.shape == (1, 8, 8)
    columns = [0, 1, 2, 5, 6, 7]  # at the edge, neighbours are mixed
    torch.testing.assert_close(x[..., columns], exact[..., columns])


# wa show


def accuracy_of(study, task: int, classifier: str) -> float:
    metrics = json.loads((study / RUN / f"task-{task}" / "metrics.json").read_text())
    return metrics[classifier]["accuracy"]


def test_show_says_when_aligning_did_harm():
    metrics = [{"trained": {"accuracy": 90.0}}]
    for trained, aligned in ((50.0, 49.0), (40.0, 44.0), (30.0, 29.9)):
        metrics.append({"trained": {"accuracy": trained}, "aligned": {"accuracy": aligned}})
    assert list(harm(metrics)) == ["Aligning lowered the accuracy after task 1, 3."]
    assert not list(harm(metrics[:1]))


def test_show_prints_metrics_and_verifies_the_chain(study):
    run = command("show", study / RUN)
    assert run.returncode == 0, run.stdout
    assert "digits: 10 of 10 classes learned" in run.stdout
    rows = [line.split() for line in run.stdout.splitlines()]
    columns = next(r for r in rows if r[:1] == ["task"])
    for t in range(3):
        shown = dict(zip(columns, next(r for r in rows if r[:1] == [str(t)]), strict=True))
        metrics = json.loads((study / RUN / f"task-{t}" / "metrics.json").read_text())
        assert shown["classes"] == str(6 + 2 * t)
        assert float(shown["trained"]) == pytest.approx(metrics["trained"]["accuracy"], abs=0.006)
        if t:
            assert float(shown["aligned"]) == pytest.approx(
                metrics["aligned"]["accuracy"], abs=0.006
            )
            assert float(shown["gamma"]) == pytest.approx(metrics["trained"]["gamma"], abs=6e-5)
    lower = [
        t for t in (1, 2) if accuracy_of(study, t, "aligned") < accuracy_of(study, t, "trained")
    ]
    said = f"Aligning lowered the accuracy after task {', '.join(map(str, lower))}."
    assert (said in run.stdout) == bool(lower)
    assert rows[rows.index(columns) + 4][0] == "average"
    averages = dict(zip(columns[2:-1], rows[rows.index(columns) + 4][1:], strict=True))
    table = (study / "results/tiny/metrics.csv").read_text().splitlines()
    for line in [line for line in table if ",wa," in line]:
        *_, task, _classes, classifier, _own, metric, value = line.split(",")
        if (task, metric) == ("2", "average_incremental_accuracy"):
            assert float(averages.pop(classifier)) == pytest.approx(float(value), abs=0.006)
    assert not averages
    files = {
        Path(os.path.abspath(row[-1])): row[-2]
        for row in rows
        if len(row) > 2 and re.fullmatch("[0-9a-f]{12}", row[-2])
    }
    base = study / os.path.normpath(f"{RUN}/../..")
    assert "The method's own classifier is `aligned`, the linear one after aligning." in run.stdout
    assert files == {
        path: sha256(path)[:12]
        for path in (
            *(
                study / RUN / f"task-{t}" / f"{name}.safetensors"
                for t in (1, 2)
                for name in ("model", "trained")
            ),
            *(base / name for name in ("model.safetensors", "trained.safetensors", "herding.npz")),
            study / RUN / "task-1" / "herding.npz",
            *(
                study / "results/data/digits" / f"{s}_{a}.npy"
                for s in ("train", "test")
                for a in ("images", "labels")
            ),
        )
    }


@pytest.mark.parametrize(
    "file, line",
    [
        ("results/data/digits/train_labels.npy", "data"),
        (f"{RUN}/task-1/herding.npz", "memory"),
        (f"{RUN}/../../herding.npz", "memory"),
    ],
)
def test_show_finds_what_was_changed_or_lost(study, tmp_path, file, line):
    copy = tmp_path / "copy"
    shutil.copytree(study, copy)
    changed = bytearray((copy / file).read_bytes())
    changed[len(changed) // 2] ^= 1
    (copy / file).write_bytes(changed)
    run = command("show", copy / RUN)
    assert run.returncode == 1 and "error: 1 of these files" in run.stdout
    (found,) = [x for x in run.stdout.splitlines() if "DIFFERS" in x]
    assert line in found and found.endswith(Path(file).name)
    (copy / file).unlink()
    run = command("show", copy / RUN)
    assert run.returncode == 1 and [
        line in x for x in run.stdout.splitlines() if "absent" in x and "error" not in x
    ] == [True]


def test_show_finds_a_model_made_again(study, tmp_path):
    """Task 1's checkpoint gets another header, then another backbone. Show finds both.

    With the header it is not what task 2 started from. With the backbone it is not as trained.
    """
    copy = tmp_path / "copy"
    shutil.copytree(study, copy)
    path = copy / RUN / "task-1" / "model.safetensors"
    tensors, facts = read_checkpoint(path)
    write_checkpoint(path, tensors | {"backbone.bn1.bias": tensors["backbone.bn1.bias"] + 1}, facts)
    run = command("show", copy / RUN)
    assert run.returncode == 1
    assert sorted(x.split()[0] for x in run.stdout.splitlines() if "DIFFERS" in x) == [
        "parent",
        "trained",
    ]
    path.write_bytes(path.read_bytes()[:-1])
    run = command("show", copy / RUN)
    assert (
        run.returncode == 1
        and "model.safetensors is damaged" in run.stdout
        and len(run.stdout.splitlines()) == 1
    )


def test_the_version_of_a_model_is_that_of_what_was_read(study, tmp_path, monkeypatch):
    """Although its file is replaced while it is read."""
    old, new, file = (tmp_path / name for name in ("old", "new", "model.safetensors"))
    for task, copied in ((1, file), (2, new)):
        shutil.copy(study / RUN / f"task-{task}/model.safetensors", copied)
    read = classifier.read_checkpoint

    def replaced(path):
        found = read(path)
        if new.exists():
            file.rename(old)
            new.rename(file)
        return found

    monkeypatch.setattr(classifier, "read_checkpoint", replaced)
    model = wa.load(file)
    assert len(model.classes) == 10 and model.version == sha256(file) != sha256(old)


def test_show_takes_a_task_a_checkpoint_or_an_unfinished_run(study, tmp_path):
    for name, classes in (
        (f"{RUN}/task-1", 8),
        (f"{RUN}/task-2/model.safetensors", 10),
        (f"{RUN}/../..", 6),
    ):
        run = command("show", study / name)
        assert run.returncode == 0 and f"{classes} of 10 classes learned" in run.stdout, run.stdout
    trained = read_json(study / RUN / "task-0/metrics.json")["trained"]["accuracy"]
    assert run.stdout.splitlines()[4].split() == ["0", "6", f"{trained:.2f}", "-"]
    copy = tmp_path / "copy"
    shutil.copytree(study, copy)
    for name in ("model.safetensors", "trained.safetensors", "alignment.json", "metrics.json"):
        (copy / RUN / "task-2" / name).unlink()
    (copy / RUN / "task-1" / "metrics.json").unlink()
    run = command("show", copy / RUN)
    assert run.returncode == 0 and "8 of 10 classes learned" in run.stdout, run.stdout
    rows = [line.split() for line in run.stdout.splitlines()]
    assert ["2", "-", "-", "-", "-"] in rows and not any(r[:1] == ["average"] for r in rows)
    # Tasks from new weights may be trained in any order.
    (copy / RUN / "task-1" / "model.safetensors").unlink()
    shutil.copytree(study / RUN / "task-2", copy / RUN / "task-2", dirs_exist_ok=True)
    run = command("show", copy / RUN)
    assert (
        run.returncode == 1
        and "10 of 10 classes learned" in run.stdout
        and "error: 1 of these files" in run.stdout
    )
    link = tmp_path / "current"
    link.symlink_to(study / RUN / "task-2/model.safetensors")
    run = command("show", link)
    assert run.returncode == 0 and "10 of 10 classes learned" in run.stdout, run.stdout
    for name in (study / "nothing", study, study / "results/tiny"):
        run = command("show", name)
        assert (
            run.returncode == 1
            and run.stdout.startswith(f"error: {name} ")
            and len(run.stdout.splitlines()) == 1
        )


# wa export


def test_the_onnx_file_predicts_what_the_model_predicts(study, checkpoint, tmp_path):
    run = command("export", checkpoint, tmp_path / "model.onnx")
    assert run.returncode == 0 and "differs from PyTorch's by at most" in run.stdout, run.stdout
    assert len(run.stdout.splitlines()) == 3 and os.listdir(tmp_path) == ["model.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    said = session.get_modelmeta().custom_metadata_map
    model = wa.load(checkpoint)
    assert json.loads(said["classes"]) == model.classes
    assert json.loads(said["image_shape"]) == [8, 8, 1]
    assert said["checkpoint_sha256"] == sha256(checkpoint) and said["dataset"] == "digits"
    assert said["classifier"] == "linear"
    assert f"prepare images so: {said['prepare']}\n" in run.stdout
    images = np.load(study / "results/data/digits/test_images.npy")
    for batch in (1, 3, 100):
        (served,) = session.run(["probability"], {"image": images[:batch]})
        x = torch.stack(
            [model.preprocess(Image.fromarray(image[..., 0])) for image in images[:batch]]
        )
        with torch.no_grad():
            torch.testing.assert_close(
                torch.from_numpy(served), model(x).softmax(dim=1), atol=1e-5, rtol=1e-4
            )
    # No paths of this machine.
    assert str(ROOT).encode() not in (tmp_path / "model.onnx").read_bytes()


@pytest.mark.parametrize(
    "shape, facts, side",
    [((8, 6, 1), {}, None), ((32, 32, 3), {"cache_size": 32}, 24)],
)
def test_a_reader_who_prepares_images_as_export_says_gets_what_predict_gets(shape, facts, side):
    """The steps in words, done by hand with Pillow, on an image of another size."""
    from wa.models.classifier import Classifier

    model = Classifier.__new__(Classifier)
    torch.nn.Module.__init__(model)
    model.image_shape, model.header = shape, facts
    model.input_size = (side, side) if side else shape[:2]
    model.mean, model.std = torch.zeros(shape[2]), torch.ones(shape[2])
    mode = "L" if shape[2] == 1 else "RGB"
    noise = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).convert(mode)
    said = export.preparation(model)
    if not side:
        assert "resize the whole image to height 8, width 6 (Pillow's BILINEAR" in said
        by_hand = np.asarray(picture.resize((6, 8), Image.Resampling.BILINEAR))
    else:
        assert "shorter side to 32 (Pillow's BILINEAR" in said
        assert "keep the centre 32 x 32; resize the shorter side to 27 (Pillow's" in said
        assert said.endswith("keep the centre 24 x 24")
        square = picture.resize((32, 41), Image.Resampling.BILINEAR).crop((0, 4, 32, 36))
        again = square.resize((27, 27), Image.Resampling.BILINEAR)
        by_hand = np.asarray(again)[2:26, 2:26]
    expected = by_hand.reshape(*model.input_size, shape[2]).astype(np.float32)
    np.testing.assert_allclose(
        model.preprocess(picture).permute(1, 2, 0) * 255, expected, rtol=0, atol=1.001
    )


def test_export_overwrites_no_checkpoint(checkpoint):
    before = checkpoint.read_bytes()
    run = command("export", checkpoint, checkpoint)
    assert (
        run.returncode == 1
        and "name a file *.onnx" in run.stdout
        and checkpoint.read_bytes() == before
    )


def test_export_asks_for_a_folder_that_exists(checkpoint, tmp_path):
    run = command("export", checkpoint, tmp_path / "absent/model.onnx")
    assert run.returncode == 1 and "make the folder first" in run.stdout
    assert not os.listdir(tmp_path)


def test_a_folder_is_no_checkpoint(checkpoint):
    run = command("predict", checkpoint.parents[1], "image.png")
    named = run.stdout.strip().removeprefix(
        f"error: {checkpoint.parents[1]} is a folder. Name a checkpoint in it, for instance "
    )
    assert run.returncode == 1 and Path(named).is_file(), run.stdout


def test_export_writes_nothing_when_onnxruntime_disagrees(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "difference", lambda *_: 0.5)
    with pytest.raises(UserError, match="not written"):
        export.export(checkpoint, tmp_path / "model.onnx")
    assert not os.listdir(tmp_path)


def test_export_says_what_is_missing(checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    export.export(checkpoint, tmp_path / "model.onnx")
    assert "not verified" in capsys.readouterr().out and (tmp_path / "model.onnx").exists()
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match="needs onnxscript"):
        export.export(checkpoint, tmp_path / "model.onnx")


def test_an_image_comes_in_many_forms_and_an_error_never_holds_its_bytes(tmp_path):
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    path = tmp_path / "image.png"
    Image.fromarray(grey).save(path)
    data = path.read_bytes()
    with open(path, "rb") as file:
        for image in (path, str(path), data, bytearray(data), file, grey, Image.open(path)):
            np.testing.assert_array_equal(read_image(image, 1)[..., 0], grey)
    for image, said in (
        (data[:20], "an image of type bytes: cannot be read"),
        (grey.astype(float), r"an array must be uint8 \(H, W\) or \(H, W, C\), not float64"),
        ([1, 2], "an image of type list: cannot be read .give a path, bytes"),
        (None, "an image of type NoneType: cannot be read"),
        (tmp_path / "none.png", "none.png: cannot be read .No such file"),
    ):
        with pytest.raises(UserError, match=said) as error:
            read_image(image, 1)
        assert len(str(error.value)) < 200 + len(str(tmp_path))


# What `pip install .` leaves out: pyproject.toml has it under `train`.
STUDIES_ONLY = (
    *("snakemake", "torchvision", "continuum", "six", "timm", "pandas", "sklearn", "scipy"),
    *("seaborn", "matplotlib", "jsonschema", "psutil", "yaml", "pygments"),
)
WITHOUT = f"""
import sys
sys.modules.update(dict.fromkeys({STUDIES_ONLY}))
from wa.__main__ import main
"""


def without(*commands: tuple) -> subprocess.CompletedProcess:
    """Run `wa` where only the packages for prediction are installed, once for each command."""
    code = WITHOUT
    for words in commands:
        code += f"sys.argv[1:] = {[str(word) for word in words]}\nmain()\n"
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    )


@pytest.mark.slow
def test_a_model_is_used_without_the_packages_of_studies(checkpoint, image, tmp_path):
    commands = (("predict", checkpoint, image), ("show", checkpoint.parents[1]))
    run = without(*commands, ("export", checkpoint, tmp_path / "model.onnx"))
    assert run.returncode == 0 and (tmp_path / "model.onnx").exists(), run.stdout
    assert run.stdout.startswith("".join(command(*words).stdout for words in commands))


def test_what_needs_the_packages_of_studies_says_how_to_install_them(monkeypatch):
    from wa.models.backbones import build

    run = without(("status",))
    assert run.returncode == 1
    said = r"error: \w+ is not installed. Install what studies need.*: pip install '.\[train\]'\n"
    assert re.fullmatch(said, run.stdout), run.stdout
    for name in ("timm/resnet18", "torchvision/resnet18"):
        library = name.split("/")[0]
        monkeypatch.setitem(sys.modules, library, None)
        said = rf"{name} needs {library}, which is not installed.*pip install '\.\[train\]'"
        with pytest.raises(UserError, match=said):
            build(name, 3, (32, 32))


@pytest.mark.parametrize("command", ["predict", "export"])
def test_a_checkpoint_that_does_not_exist_is_one_plain_line(command, tmp_path):
    run = program("wa", command, tmp_path / "no.safetensors", "x.onnx")
    assert run.returncode == 1
    assert run.stdout == f"error: {tmp_path}/no.safetensors does not exist\n"
    with pytest.raises(FileNotFoundError, match=r"no\.safetensors"):
        wa.load(tmp_path / "no.safetensors")
