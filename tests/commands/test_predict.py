"""wa predict on many files, and a model that is used by a program: batches, threads, version."""

import csv
import hashlib
import io
import json
import os
import pty
import subprocess
import sys
import termios
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT, random_checkpoint
from PIL import Image

import wa
from wa.commands import predict
from wa.errors import UserError
from wa.models import classifier


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return random_checkpoint(tmp_path_factory.mktemp("model") / "model.safetensors")


@pytest.fixture(scope="module")
def model(checkpoint):
    return wa.load(checkpoint)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """150 images of many sizes in two folders, a greyscale one, and files that are none."""
    folder, draw = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    (folder / "später am Tag").mkdir()
    for i in range(150):
        pixels = draw.integers(0, 256, (8 + i % 7, 8 + i % 5, 3), dtype=np.uint8)
        name = f"später am Tag/{i:03d}.JPG" if i % 3 else f"{i:03d}.png"
        Image.fromarray(pixels[..., 0] if i == 6 else pixels).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_text("no image")
    return folder


def run(capsys, checkpoint, *words, kind="text", top=5) -> tuple[str, str]:
    """What wa predict prints on stdout, and on stderr. Its UserError is the last line there."""
    try:
        predict.predict(str(checkpoint), [str(word) for word in words], kind, top)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
    return capsys.readouterr()


def test_a_folder_in_batches_gives_what_each_image_gives_alone(model, checkpoint, photos, capsys):
    out, err = run(capsys, checkpoint, photos, kind="json", top=3)
    rows = [json.loads(line) for line in out.splitlines()]
    files = sorted(str(file) for file in photos.rglob("[0-9]*"))
    assert [row["path"] for row in rows] == files and len(files) == 150 > classifier.BATCH
    assert err.splitlines() == ["classifier: linear, as trained"]
    for row in rows[::10]:
        alone = model.top(row["path"], 3)
        assert [best["class"] for best in row["top"]] == [name for name, _ in alone]
        values = [best["probability"] for best in row["top"]]
        assert values == pytest.approx([value for _, value in alone], abs=1e-6)


def test_csv_has_the_same_columns_whatever_is_predicted(model, checkpoint, photos, capsys):
    out, _ = run(capsys, checkpoint, photos / "000.png", photos / "003.png", kind="csv", top=2)
    header, *rows = csv.reader(io.StringIO(out))
    assert header == ["path", "class_1", "probability_1", "class_2", "probability_2"]
    assert [row[0] for row in rows] == [str(photos / "000.png"), str(photos / "003.png")]
    (first, p), (second, q) = model.top(photos / "000.png", 2)
    assert rows[0][1::2] == [first, second]
    assert [float(value) for value in rows[0][2::2]] == pytest.approx([p, q], abs=1e-6)
    out, _ = run(capsys, checkpoint, photos / "000.png", kind="csv", top=999)
    assert len(out.splitlines()[0].split(",")) == 1 + 2 * len(model.classes)


def test_files_that_cannot_be_read_do_not_stop_the_rest(checkpoint, photos, tmp_path, capsys):
    torn = tmp_path / "torn.png"
    torn.write_bytes((photos / "000.png").read_bytes()[:60])
    empty = tmp_path / "empty"
    empty.mkdir()
    words = [torn, photos / "000.png", tmp_path / "absent.png", empty, photos / "notes.txt"]
    out, err = run(capsys, checkpoint, *words, photos / "003.png", kind="json")
    assert [json.loads(line)["path"] for line in out.splitlines()] == [
        str(photos / "000.png"),
        str(photos / "003.png"),
    ]
    _, *errors, last = err.splitlines()
    for line, file in zip(errors, [torn, words[2], empty, words[4]], strict=True):
        why = "there is no image in it (" if file is empty else "cannot be read ("
        assert line.startswith(f"error: {file}: {why}")
    assert last == "error: 4 of 6 images could not be predicted"


def test_a_folder_without_images_alone_is_one_line(checkpoint, tmp_path, capsys):
    out, err = run(capsys, checkpoint, tmp_path)
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert not out and line.startswith(f"error: {tmp_path}: there is no image in it (.bmp, ")


def command(checkpoint: Path, *words: object, **options) -> subprocess.CompletedProcess:
    program = [sys.executable, "-m", "wa", "predict", str(checkpoint), *map(str, words)]
    return subprocess.run(program, cwd=ROOT, **options)


def test_a_list_on_standard_input_and_the_exit_status(checkpoint, photos, tmp_path):
    """Names with spaces, letters beyond ASCII and bytes that are no UTF-8 are kept as they are."""
    odd = os.fsencode(tmp_path) + b"/caf\xe9.png"
    Path(os.fsdecode(odd)).write_bytes((photos / "000.png").read_bytes())
    lines = [os.fsencode(photos / "später am Tag"), b"", odd, os.fsencode(photos / "absent.png")]
    done = command(
        checkpoint, "-", "--format", "json", input=b"\n".join(lines) + b"\n", capture_output=True
    )
    paths = [os.fsencode(json.loads(line)["path"]) for line in done.stdout.splitlines()]
    assert len(paths) == 101 and paths[-1] == odd and "später".encode() in paths[0]
    assert done.returncode == 1
    assert done.stderr.endswith(b"error: 1 of 102 images could not be predicted\n")
    assert b"predicting" not in done.stderr  # no bar, because this is no terminal


def test_a_terminal_gets_a_bar_for_many_images(checkpoint, photos):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    words = [photos, photos / "absent.png", "--format", "csv"]
    done = command(checkpoint, *words, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while more := os.read(ours, 2**16):
            shown += more
    except OSError:  # the other end was closed
        pass
    os.close(ours)
    assert b"predicting" in shown and b"/151" in shown and b"absent.png: cannot be" in shown
    assert done.returncode == 1 and len(done.stdout.splitlines()) == 151  # with the header


def test_an_empty_list_is_one_clear_line(checkpoint, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n\n"), encoding="utf-8"))
    _, err = run(capsys, checkpoint, "-")
    assert (
        err.splitlines()[-1] == "error: standard input names no image: give one path on each line"
    )


def test_work_is_done_a_little_ahead_and_comes_in_order():
    asked = []

    def parts():
        for i in range(50):
            asked.append(i)
            yield i

    results = predict.ahead(lambda i: i * i, parts(), threads=2)
    assert next(results) == 0 and len(asked) < 10
    assert list(results) == [i * i for i in range(1, 50)]


def test_many_images_do_not_change_the_threads_of_torch(model, photos):
    before = torch.get_num_threads()
    assert len(list(predict.outcomes(model, [str(photos / "000.png")] * 70))) == 70
    assert torch.get_num_threads() == before


# A model in a program.


def test_predict_takes_paths_bytes_arrays_and_pictures(model, photos):
    file = photos / "000.png"
    pixels = np.asarray(Image.open(file))
    found = model.predict([file, str(file), file.read_bytes(), pixels, Image.open(file)], k=2)
    assert [[name for name, _ in best] for best in found] == [[n for n, _ in found[0]]] * 5
    assert len(found[0]) == 2 and found[0] == model.predict([file] * 5, k=2)[0]
    assert model.predict([]) == []
    with pytest.raises(UserError, match=r"absent\.png: cannot be read"):
        model.predict([file, photos / "absent.png"])


def test_the_version_is_the_hash_of_the_file_even_behind_a_link(checkpoint, tmp_path):
    link = tmp_path / "current"
    link.symlink_to(checkpoint)
    expected = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert wa.load(link).version == wa.load(checkpoint).version == expected
    other = random_checkpoint(tmp_path / "other.safetensors", seed=1)
    assert wa.load(other).version != expected


def test_several_threads_use_one_model(model, photos):
    """Each thread asks for other images, in batches of other sizes, all at the same time."""
    files = [str(file) for file in sorted(photos.glob("[0-9]*.png"))]
    alone = {file: model.top(file)[0] for file in files}

    def ask(number: int) -> list[tuple[str, tuple]]:
        some = files[number % 5 :: 1 + number % 3]
        return list(zip(some, (best[0] for best in model.predict(some)), strict=True))

    with ThreadPoolExecutor(8) as pool:
        asked = [pair for part in pool.map(ask, range(40)) for pair in part]
    assert len(asked) > 40 * 10
    for file, (name, value) in asked:
        assert name == alone[file][0] and value == pytest.approx(alone[file][1], abs=1e-6)
