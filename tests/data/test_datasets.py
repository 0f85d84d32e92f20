"""Packing of each kind of data set, and the errors for data that cannot be packed."""

import contextlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT, add_images, program, small_study
from PIL import Image

from wa.data import datasets
from wa.data.datasets import mean_and_std, survey
from wa.data.folders import class_folders, fingerprints, listing
from wa.data.images import read_image
from wa.errors import UserError
from wa.study.study import Study

SPLITS = ("train", "test")


def write_noise(folder: Path, count: int) -> None:
    """Images of noise, 16 x 16 pixels."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")


def folder_of_images(path: Path, classes=("ant", "bee"), size=(8, 6), held_out="test") -> Path:
    """Images of noise: 4 for training and 2 for testing in each class. size: width, height."""
    rng = np.random.default_rng(0)
    for split, n in (("train", 4), (held_out, 2)):
        for name in classes:
            (path / split / name).mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(0, 256, (*size[::-1], 3), np.uint8)
                Image.fromarray(pixels).save(path / split / name / f"{i}.png")
    return path


def pack(dataset: str, path: Path, output: Path, *options: object):
    where = ["--path", path, "--output", output]
    return program("wa.data.datasets", "--dataset", dataset, *where, *options)


def packed_arrays(folder: Path) -> tuple[np.ndarray, np.ndarray, dict]:
    """The training images, their labels, and dataset.json."""
    facts = json.loads((folder / "dataset.json").read_text())
    return np.load(folder / "train_images.npy"), np.load(folder / "train_labels.npy"), facts


def test_a_packing_goes_on_only_with_the_code_that_began_it(tmp_path, monkeypatch):
    """The code that makes pixels lies in other modules too."""
    add_images(tmp_path / "pets", ["ant", "bee"])
    codes = []

    def pack(files, output, shape, read, code, processes):
        codes.append(code)
        return ["stopped"], []

    monkeypatch.setattr(datasets, "pack", pack)
    for digest in ("one", "two"):
        monkeypatch.setattr(datasets.identity, "code_of", lambda program, digest=digest: digest)
        with pytest.raises(UserError, match="stopped"):
            datasets.read_folder(tmp_path / "out", "pets", tmp_path / "pets", 16, [], 1)
    assert [code.split()[0] for code in codes] == ["one", "one", "two", "two"]


def test_digits(digits):
    images, labels, facts = packed_arrays(digits)
    assert facts["image_shape"] == [8, 8, 1] and images.dtype == np.uint8 and images.max() == 255
    assert sum(facts["train_counts"]) == len(images) == len(labels)
    assert sum(facts["test_counts"]) == 1797 - len(images)
    assert facts["mean"] == pytest.approx([images.mean() / 255])
    assert facts["std"] == pytest.approx([images.std() / 255])
    assert survey("digits", "nowhere") == facts["train_counts"]


@pytest.mark.parametrize("held_out", ["test", "val"])
def test_a_folder_of_images_in_the_order_of_names(tmp_path, held_out):
    data = folder_of_images(tmp_path / "data", held_out=held_out)
    Image.new("L", (8, 6), 77).save(data / "train" / "bee" / "1.png")  # greyscale becomes RGB
    assert survey("insects", data) == [4, 4]
    run = pack("insects", data, tmp_path / "packed")
    assert run.returncode == 0, run.stdout
    images, labels, facts = packed_arrays(tmp_path / "packed")
    assert images.shape == (8, 6, 8, 3) and labels.tolist() == [0] * 4 + [1] * 4
    assert (images[5] == 77).all()
    assert (images[2] == np.asarray(Image.open(data / "train/ant/2.png"))).all()
    assert facts["classes"] == ["ant", "bee"]


# The folder, the training files, the test file, the file of names, the key of the labels,
# and the key of the names.
CIFAR = {
    "cifar10": (
        "cifar-10-batches-py",
        [f"data_batch_{i}" for i in range(1, 6)],
        "test_batch",
        "batches.meta",
        "labels",
        "label_names",
    ),
    "cifar100": (
        "cifar-100-python",
        ["train"],
        "test",
        "meta",
        "fine_labels",
        "fine_label_names",
    ),
}


@pytest.mark.parametrize("dataset, classes", [("cifar10", 10), ("cifar100", 100)])
def test_cifar_in_torchvisions_format(tmp_path, monkeypatch, dataset, classes):
    """Small files in CIFAR's format are read as the real ones. Only their checksums are not."""
    from torchvision.datasets import cifar

    folder, training, test, meta, labels_key, names_key = CIFAR[dataset]
    rng = np.random.default_rng(0)
    (note,) = datasets.before_packing(dataset, tmp_path)
    assert f"{dataset} is not in {str(tmp_path)!r}. It will be downloaded into it: 1" in note
    (tmp_path / folder).mkdir()
    assert datasets.before_packing(dataset, tmp_path) == []
    labels = [*range(classes), *range(classes)]
    pixels = {}
    for name in (*training, test):
        pixels[name] = rng.integers(0, 256, (2 * classes, 3072), np.uint8)
        content = {"data": pixels[name], labels_key: labels}
        (tmp_path / folder / name).write_bytes(pickle.dumps(content))
    names = [f"class {i}" for i in range(classes)]
    (tmp_path / folder / meta).write_bytes(pickle.dumps({names_key: names}))
    options = ["--dataset", dataset, "--path", tmp_path, "--output", tmp_path / "packed"]
    monkeypatch.setattr(cifar, "check_integrity", lambda *_: True)
    monkeypatch.setattr(sys, "argv", ["datasets", *map(str, options)])
    datasets.main()
    images, read_labels, facts = packed_arrays(tmp_path / "packed")
    assert images.shape == (2 * classes * len(training), 32, 32, 3)
    assert read_labels.tolist() == labels * len(training)
    expected = pixels[training[0]][3].reshape(3, 32, 32).transpose(1, 2, 0)
    assert (images[3] == expected).all()
    assert facts["classes"] == names


def test_mean_and_std_of_channels():
    images = np.random.default_rng(0).integers(0, 256, (10, 4, 5, 3), np.uint8)
    mean, std = mean_and_std(images)
    np.testing.assert_allclose(mean, images.mean(axis=(0, 1, 2)) / 255)
    np.testing.assert_allclose(std, images.std(axis=(0, 1, 2)) / 255)


def test_unreadable_and_odd_images_are_named_all_at_once(tmp_path):
    data = folder_of_images(tmp_path / "data")
    (data / "train/ant/1.png").write_bytes(b"no image")
    (data / "test/bee/0.png").write_bytes((data / "test/bee/0.png").read_bytes()[:60])
    Image.new("RGB", (9, 6)).save(data / "train/bee/3.png")
    run = pack("insects", data, tmp_path / "packed")
    assert run.returncode == 1
    assert f"error: {data}: 3 of its images cannot be used" in run.stdout
    assert "ant/1.png: cannot be read" in run.stdout
    assert "bee/0.png: cannot be read" in run.stdout
    assert "bee/3.png: 9x6 pixels, and not 8x6" in run.stdout
    assert not (tmp_path / "packed/dataset.json").exists()


def test_one_odd_image_is_named_and_not_the_others(tmp_path):
    """Also if it is the first, and if it is of a task that comes later."""
    data = folder_of_images(tmp_path / "data", classes=("ant", "bee", "cow"))
    Image.new("RGB", (9, 6)).save(data / "train/ant/0.png")
    run = pack("insects", data, tmp_path / "packed")
    assert f"error: {data}: 1 of its images cannot be used" in run.stdout
    assert "ant/0.png: 9x6 pixels, and not 8x6" in run.stdout
    (data / "train/ant/0.png").unlink()
    assert pack("insects", data, tmp_path / "task-0").returncode == 0
    later = folder_of_images(tmp_path / "later")
    Image.new("RGB", (9, 6)).save(later / "train/ant/0.png")
    like = ("--like", tmp_path / "task-0/dataset.json")
    run = pack("insects", later, tmp_path / "task-1", *like)
    assert f"error: {later}: 1 of its images cannot be used" in run.stdout
    assert "all tasks have the size of task 0, so resize these images" in run.stdout


def test_folders_that_are_not_folders_of_images(tmp_path):
    with pytest.raises(UserError, match="'insects' is not built in"):
        survey("insects", tmp_path / "missing")
    (tmp_path / "a/train").mkdir(parents=True)
    with pytest.raises(UserError, match=r"a has no test/ \(or val/\)\. It needs both"):
        survey("insects", tmp_path / "a")
    (tmp_path / "a/val").mkdir()
    with pytest.raises(UserError, match="train is empty"):
        survey("insects", tmp_path / "a")
    data = folder_of_images(tmp_path / "b")
    (data / "train/cow").mkdir()
    with pytest.raises(UserError, match="cow holds no images"):
        survey("insects", data)
    Image.new("RGB", (8, 6)).save(data / "train/cow/0.png")
    with pytest.raises(UserError, match=r"hold different classes: only one of them has \['cow'\]"):
        survey("insects", data)
    # The test images of classes that were learned before may stay when the others are deleted.
    shutil.rmtree(data / "train/cow")
    (data / "test/cow").mkdir()
    assert survey("insects", data, class_folders(data / "train")) == [4, 4]


def photographs(
    path: Path, sizes=((40, 30), (30, 44), (100, 90), (24, 24)), classes=("cat", "dog")
) -> Path:
    """Smooth pictures of several sizes as JPEGs, as many in val as in train."""
    rng = np.random.default_rng(1)
    for split in ("train", "val"):
        for name in classes:
            (path / split / name).mkdir(parents=True)
            for i, size in enumerate(sizes):
                coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
                picture = coarse.resize(size, Image.Resampling.BICUBIC)
                picture.save(path / split / name / f"{i}.JPEG", quality=95)
    return path


def test_photographs_of_all_sizes_and_modes_become_squares(tmp_path):
    """The squares are those of torchvision's Resize and CenterCrop.

    If libjpeg shrinks a large photograph first, its square differs by a few grey levels.
    """
    from torchvision.transforms import CenterCrop, Compose, Resize

    data = photographs(tmp_path / "data")
    cat = data / "train/cat"
    colour = Image.open(cat / "0.JPEG").copy()
    colour.convert("CMYK").save(cat / "4.JPEG")
    colour.convert("L").save(cat / "5.JPEG")
    colour.convert("P").save(cat / "6.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it by 90 degrees
    colour.save(cat / "7.JPEG", exif=exif)
    run = pack("pets", data, tmp_path / "p", "--cache-size", 24, "--processes", 2)
    assert run.returncode == 0, run.stdout
    images, _, facts = packed_arrays(tmp_path / "p")
    assert images.shape == (12, 24, 24, 3)
    theirs = Compose([Resize(24), CenterCrop(24)])
    files = [*(cat / f"{i}.JPEG" for i in range(6)), cat / "6.png"]
    for i, (image, file) in enumerate(zip(images, files, strict=False)):
        expected = np.asarray(theirs(Image.open(file).convert("RGB"))).astype(int)
        most = 8 if i == 2 else 0  # number 2 has 100 x 90 pixels and is decoded at half its size
        assert np.abs(image - expected).max() <= most, file
    turned = theirs(Image.open(cat / "7.JPEG").transpose(Image.Transpose.ROTATE_270))
    assert (images[7] == np.asarray(turned)).all()
    assert facts["cache_size"] == 24 and facts["dataset"] == "pets-24"
    assert facts["image_shape"] == [24, 24, 3]


def test_the_array_is_the_one_that_numpy_would_save(tmp_path):
    data = folder_of_images(tmp_path / "data")
    assert pack("insects", data, tmp_path / "packed").returncode == 0
    images = np.stack([np.asarray(Image.open(f)) for f in sorted(data.glob("train/*/*.png"))])
    np.save(tmp_path / "saved.npy", images)
    packed = tmp_path / "packed"
    assert (packed / "train_images.npy").read_bytes() == (tmp_path / "saved.npy").read_bytes()
    hidden = [file.name for file in packed.glob(".*")]
    assert hidden in ([], [".lock"])


def slow(image: str) -> np.ndarray:
    time.sleep(0.02)
    return read_image(image, 3, square=16)


# Small chunks, journalled often.
PACK_SLOWLY = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_datasets import slow
from wa.data import packing
packing.CHUNK, packing.SYNC = 4000, 0.1
print(packing.pack(sys.argv[3:], Path(sys.argv[2]), (16, 16, 3), slow, "code", 2))
"""


def running(text: str) -> bool:
    """Whether a process has this text in its command line."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            if text.encode() in file.read_bytes():
                return True
    return False


@pytest.mark.slow
def test_a_killed_packing_goes_on(tmp_path):
    """No decoder is left, nothing looks whole, and only the missing chunks are decoded later."""
    data = photographs(tmp_path / "data", [(20, 16)] * 60)
    files, output = sorted(map(str, data.glob("train/*/*.JPEG"))), tmp_path / "out/images.npy"
    command = [sys.executable, "-c", PACK_SLOWLY, Path(__file__).parent, output, *files]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    process = subprocess.Popen(command, env=environment)
    journal = output.with_name(".images.npy.journal")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if journal.exists() and len(journal.read_text().splitlines()) > 4:
            break
        time.sleep(0.02)
    process.kill()
    process.wait()
    finished = len(journal.read_text().splitlines()) - 1
    assert 4 <= finished < 24 and not output.exists()
    with pytest.raises(ValueError):
        np.load(output.with_name(".images.npy.part"), allow_pickle=False)
    time.sleep(0.2)
    assert not running(str(output))

    before = [read_image(file, 3, square=16) for file in files]
    # This file changes. So its chunk must be decoded again.
    Path(files[0]).write_bytes(Path(files[1]).read_bytes())
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert f"going on, {finished - 1} of 24 chunks are there" in run.stdout
    assert "([], [])" in run.stdout
    assert (np.load(output) == np.stack([before[1], *before[1:]])).all() and not journal.exists()


def imagenet(path: Path, classes: int, flat=False) -> Path:
    """ImageNet's layout, with one tiny picture in each class. flat: `val` has no folders."""
    (path / "val").mkdir(parents=True)
    Image.new("RGB", (4, 4), "red").save(path / "one.png")
    for c in range(classes):
        name = f"n{c:08d}"
        for split in ("train",) if flat else ("train", "val"):
            (path / split / name).mkdir(parents=True)
            os.link(path / "one.png", path / split / name / "a.png")
        if flat:
            os.link(path / "one.png", path / f"val/ILSVRC2012_val_{c + 1:08d}.JPEG")
    return path


def test_imagenet_100_is_the_first_hundred_classes(tmp_path):
    path = imagenet(tmp_path / "imagenet", 1000)
    assert survey("imagenet1000", path) == [1] * 1000 and survey("imagenet100", path) == [1] * 100
    train, val = listing("imagenet100", path)
    assert list(train) == list(val) == [f"n{c:08d}" for c in range(100)]
    chosen, _ = listing("imagenet100", path, ["n00000700", "n00000003"])
    assert list(chosen) == ["n00000700", "n00000003"]
    wrong = r"no folder for 1 of the classes that the config lists: 'n0009' \(did you mean 'n0"
    with pytest.raises(UserError, match=wrong):
        survey("imagenet100", path, ["n0009", "n00000003"])
    with pytest.raises(UserError, match="holds 60 classes, but imagenet100 needs 100 or 1000"):
        survey("imagenet100", imagenet(tmp_path / "sixty", 60))
    with pytest.raises(UserError, match="does not hold imagenet1000: it must hold train/WNID"):
        survey("imagenet1000", tmp_path)


def test_imagenet_100_of_seed_1993_is_drawn_from_the_thousand(tmp_path):
    path = imagenet(tmp_path / "imagenet", 1000)
    train, val = listing("imagenet100-1993", path)
    np.random.seed(1993)
    expected = [f"n{c:08d}" for c in sorted(np.random.permutation(1000)[:100])]
    assert list(train) == list(val) == expected and survey("imagenet100-1993", path) == [1] * 100
    assert len(set(expected) & {f"n{c:08d}" for c in range(100)}) == 9

    # A folder of a hundred classes is taken for them.
    path = imagenet(tmp_path / "hundred", 100)
    assert len(listing("imagenet100-1993", path)[0]) == 100


def test_a_flat_val_is_read_by_its_annotations(tmp_path):
    from scipy.io import savemat

    path = imagenet(tmp_path / "flat", 3, flat=True)
    message = (
        r"val has no folder for each class. Put ILSVRC2012_devkit_t12/.* or sort its images: cd "
    )
    with pytest.raises(UserError, match=message):
        survey("any", path)

    def by_class() -> list[str]:
        """The number of the image of each class."""
        _, val = listing("any", path)
        return [os.path.basename(files[0])[15:-5] for files in val.values()]

    lines = [f"ILSVRC2012_val_{i:08d},n{c:08d} 1 2 3 4" for i, c in ((1, 2), (2, 0), (3, 1))]
    (path / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *lines, ""]))
    assert by_class() == ["00000002", "00000003", "00000001"]
    line = "ILSVRC2012_val_00000001.JPEG\tn00000000\t0\n"
    (path / "val/val_annotations.txt").write_text(line)
    with pytest.raises(UserError, match=r"val_annotations.txt does not say the class of 2 images"):
        by_class()
    data = path / "ILSVRC2012_devkit_t12/data"
    data.mkdir(parents=True)
    synsets = np.array(
        [(2, "n00000000"), (1, "n00000001"), (3, "n00000002")],
        [("ILSVRC2012_ID", "O"), ("WNID", "O")],
    )
    savemat(data / "meta.mat", {"synsets": synsets})
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text("3\n1\n2\n")
    assert by_class() == ["00000003", "00000002", "00000001"]


def test_what_is_ignored_is_named_and_broken_links_too(tmp_path):
    data = folder_of_images(tmp_path / "data")
    ant = data / "train/ant"
    (ant / "._0.png").write_bytes(b"of macOS")
    (ant / "Thumbs.db").write_bytes(b"of Windows")
    (ant / "notes.txt").touch()
    (ant / "more").mkdir()
    os.mkfifo(ant / "pipe.png")  # whoever opened it would wait for ever
    Image.open(ant / "0.png").save(ant / "5.gif")
    shutil.copy(ant / "0.png", data / "train/stray.png")
    run = pack("insects", data, tmp_path / "packed")
    assert run.returncode == 0, run.stdout
    assert f"{ant}: 3 files or folders are ignored: more/, notes.txt, pipe.png\n" in run.stdout
    stray = f"{data}/train: images in no class's folder are ignored (1): stray.png"
    assert stray in run.stdout
    assert "Thumbs" not in run.stdout and "._0" not in run.stdout
    assert "9 training" in run.stdout
    for name in ("a.png", "b.png"):
        (ant / name).symlink_to("/nowhere/at/all.png")
    run = pack("insects", data, tmp_path / "other")
    assert run.returncode == 1 and "ant/a.png" in run.stdout and "ant/b.png" in run.stdout


def test_digits_are_never_a_folder_of_images(tmp_path):
    data = folder_of_images(tmp_path / "data", [str(c) for c in range(10)])
    with pytest.raises(UserError, match=r"'digits' is scikit-learn's, but path .* holds a folder"):
        survey("digits", data)
    run = pack("digits", data, tmp_path / "out")
    assert run.returncode == 1 and "Give these images a name of their own" in run.stdout
    assert not (tmp_path / "out/dataset.json").exists()


@pytest.mark.slow
def test_a_folder_named_cifar_holds_as_many_images(tmp_path):
    folder = tmp_path / "cifar"
    for split, count in (("train", 5000), ("test", 1000)):
        for name in range(10):
            (folder / split / str(name)).mkdir(parents=True)
            for i in range(count):
                (folder / split / str(name) / f"{i}.png").touch()
    assert survey("cifar10", folder) == [5000] * 10
    with pytest.raises(UserError, match="'cifar100' has 100 classes with 500 images each"):
        survey("cifar100", folder)
    (folder / "test/3/7.png").unlink()
    with pytest.raises(UserError, match=r"'cifar10' has 10 classes with 1000 images each in test/"):
        survey("cifar10", folder)


@pytest.fixture
def insects(tmp_path) -> tuple[dict, Path]:
    """The config of a study whose images are packed, and the folder of its images."""
    raw = folder_of_images(tmp_path / "raw", ("ant", "bee", "fly"))
    run = pack("insects", raw, tmp_path / "data/insects")
    assert run.returncode == 0, run.stdout
    config = small_study() | {"dataset": "insects", "path": str(raw), "methods": {"m": {}}}
    config |= {"protocols": [{"base": 2, "increment": 1}]}
    config["training"] |= {"batch_size": 2}
    return config, raw


def test_a_folder_that_moved_or_is_gone_changes_nothing(insects, tmp_path):
    config, raw = insects
    Study(config, str(tmp_path))
    moved = raw.rename(tmp_path / "moved")
    for file in moved.rglob("*.png"):
        os.utime(file, (1, 1))
    Study(config | {"path": str(moved)}, str(tmp_path))
    Study(config, str(tmp_path))  # gone
    facts = json.loads((tmp_path / "data/insects/dataset.json").read_text())
    assert facts["files"] == fingerprints(*listing("insects", moved))


@pytest.mark.parametrize(
    "change, found",
    [
        (lambda raw: (raw / "train/ant/9.png").write_bytes(b"x"), " of ant"),
        (lambda raw: (raw / "test/bee/1.png").unlink(), " of bee"),
        (lambda raw: (raw / "train/fly/0.png").write_bytes(b"another image"), " of fly"),
        (lambda raw: (raw / "train/fly/0.png").rename(raw / "train/fly/00.png"), " of fly"),
        (
            lambda raw: [(raw / split / "fly").rename(raw / split / "gnat") for split in SPLITS],
            " of gnat, fly",
        ),
        (lambda raw: (raw / "test").rename(raw / "other"), ""),
    ],
)
def test_another_folder_of_the_same_name_is_refused(insects, tmp_path, change, found):
    config, raw = insects
    change(raw)
    with pytest.raises(UserError) as error:
        Study(config, str(tmp_path))
    assert str(error.value) == (
        f"config: path: {raw} holds other images{found} than {tmp_path}/data/insects was packed"
        " from. Give the dataset another name, set `path` to the folder that was packed, or delete"
        f" {tmp_path}/data/insects to pack anew."
    )


def test_a_built_in_data_set_that_is_packed_is_no_folder_either(digits, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/digits").symlink_to(digits)
    folder_of_images(tmp_path / "raw")
    Study(small_study(), str(tmp_path))
    with pytest.raises(UserError, match="raw holds other images than"):
        Study(small_study() | {"path": str(tmp_path / "raw")}, str(tmp_path))
