"""Files that do harm, and damaged files, are refused in one clear line before they cost memory."""

import io
import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from helpers import ROOT

from wa.checkpoint import read_checkpoint, write_checkpoint
from wa.data.scenario import read_order
from wa.errors import UserError
from wa.files import read_arrays, read_json, write_arrays, write_json
from wa.study.config_file import read_config
from wa.study.study import Study


@pytest.mark.slow
def test_a_thousand_hostile_inputs():
    """A small part of `make fuzz`."""
    command = [
        sys.executable,
        ROOT / "tests/fuzz/hostile.py",
        "--inputs",
        "1000",
        "--seed",
        "0",
        "--processes",
        "1",
    ]
    run = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    )
    assert run.returncode == 0, run.stdout[-5000:]
    read, refused = map(int, re.search(r"total +(\d+) +(\d+)", run.stdout).groups())
    assert read >= 1000 and read / 2 < refused < read


def member(shape: tuple, descr: str = "<f8") -> bytes:
    """An npy file whose header says that it holds so much. It holds nothing."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": descr, "fortran_order": False, "shape": shape}
    )
    return stream.getvalue()


def npz(path, data: bytes, compression: int = zipfile.ZIP_STORED, size: int | None = None) -> None:
    """An archive of one array, whose directory may lie about the size of the array."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.npy", data, compression)
        file.infolist()[0].compress_size = size or file.infolist()[0].compress_size


@pytest.mark.parametrize(
    "make",
    [
        lambda path: npz(path, member((10**12,))),
        lambda path: npz(path, member((2**62, 2**62))),
        lambda path: npz(path, member((1,), "|V2000000000")),
        lambda path: npz(path, member((3,), "|O")),
        lambda path: npz(path, bytes(2**26), zipfile.ZIP_DEFLATED),
        lambda path: npz(path, member((3,)) + bytes(24), size=2**31),
        lambda path: np.savez(path, a=np.array([print], object)),
        lambda path: path.write_bytes(b"PK"),
    ],
)
def test_an_archive_that_lies(tmp_path, make):
    make(tmp_path / "a.npz")
    with pytest.raises(
        UserError,
        match=r"^\S*a.npz is damaged, or of another kind \(.*\)\."
        r" If a run made it, delete it and run again\.$",
    ):
        read_arrays(tmp_path / "a.npz")


def test_what_is_wanted_is_there(tmp_path):
    write_arrays(tmp_path / "a.npz", a=np.zeros((3, 2)), b=np.zeros(4, int))
    assert read_arrays(tmp_path / "a.npz", a="f:nd", b="i:m").keys() == {"a", "b"}
    for wanted, complaint in (("i:nd", "integers"), ("f:n", "floating"), ("f:md", "floating")):
        with pytest.raises(UserError, match=f"it must hold a, {complaint}"):
            read_arrays(tmp_path / "a.npz", b="i:m", a=wanted)
    with pytest.raises(UserError, match=r"it must hold c, truth values \(n\)"):
        read_arrays(tmp_path / "a.npz", c="b:n")


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("!!python/object/apply:os.system ['exit']", "apply:os.system is not possible"),
        ("a: !!python/name:os.system x", "name:os.system is not possible"),
        ("experiment: ../elsewhere", "experiment: '../elsewhere' is not a valid name"),
        ("experiment: 'name\n\n'", "cannot be printed"),
        (
            "training: {epochs: 1000000000000}",
            "1000000000000 is greater than the maximum of 1000000",
        ),
        ("training: {lr: .nan}", "training.lr: nan is not a number above 0, at most 100"),
        ("training: {lr: -.inf}", "training.lr: -inf is not a number above 0, at most 100"),
        ("training: {epochs: .inf}", "training.epochs: inf is not an integer from 0 to 1000000"),
        ("training: {weight_decay: 1e30}", "1e+30 is not a number at least 0, below 1e15"),
        ("methods: {wa: {distillation: .nan}}", "nan is not a valid value. Possible: a number at"),
        ("methods: {wa: {algorithm: ewc, options: {strength: .inf}}}", "inf is not a number"),
        (f"seeds: [1{'0' * 4000}]", "seeds.0: a number has at most 100 digits"),
        (
            "methods: {wa: {distillation: 1}}\nvalidation: 0.1\nsweep: {wa: {training: {lr: [.nan,"
            " .inf]}}}",
            "lr: inf is not a number above 0",
        ),
        ("seeds: [1.0]", "seeds.0: 1.0 is not an integer"),
        (
            "protocols: [{base: 6.0, increment: 2}]",
            "protocols.0.base: 6.0 is not an integer",
        ),
        ("training: {augmentation: [crop-1000000000]}", "unknown augmentation 'crop-1000000000'"),
        ("a: &a [1, *a]", "levels"),
        ("a: &a [1, 1, 1]\nb: &b [*a, *a, *a]\nc: [" + "*b, " * 50_000 + "*b]", "values"),
        (
            "orders: [1, 2]\nprotocols: [{base: 1, increment: 1}]\nseeds: ["
            + ", ".join(map(str, range(30_000)))
            + "]",
            "are too many to plan at once",
        ),
    ],
)
def test_a_config_that_lies(config, tmp_path, text, complaint):
    file = tmp_path / "study.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as error:
        changes = read_config(file)
        Study(config | changes, str(tmp_path))
    assert (
        complaint in str(error.value)
        and "\n" not in str(error.value)
        and len(str(error.value)) < 500
    )


def test_a_file_of_text_that_is_too_large(tmp_path):
    with open(tmp_path / "a.json", "w", encoding="utf-8") as file:
        file.truncate(2**40)
    with pytest.raises(UserError, match=r"a.json is larger than 16 MiB"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("order", [[2, 0, 1.0], [2, 0, True], [0, 1, 1], [0, 1], 3])
def test_a_class_order_that_is_none(tmp_path, order):
    write_json(tmp_path / "order.json", {"order": order, "names": ["c", "a", "b"]})
    with pytest.raises(UserError, match="must be each class of the data set once"):
        read_order(tmp_path / "order.json", ["a", "b", "c"])


def test_a_flipped_bit_is_found_wherever_it_is(tmp_path):
    """A changed file is refused, unless the change is in bytes that nobody reads."""
    draw = np.random.default_rng(0)
    tensors = {"a": draw.normal(size=(7, 5)), "b": draw.normal(size=3).astype("f2")}
    write_checkpoint(
        tmp_path / "valid.safetensors", tensors, {"classes": ["eins", "zwei"], "mean": [0.25, 1e-7]}
    )
    write_arrays(tmp_path / "valid.npz", **tensors)

    def content(file):
        arrays, facts = (
            read_checkpoint(file) if file.suffix == ".safetensors" else (read_arrays(file), {})
        )
        facts = {k: v for k, v in facts.items() if k in ("classes", "mean")}
        return facts, {
            name: (array.dtype.str, array.shape, array.tobytes()) for name, array in arrays.items()
        }

    found = 0
    for valid in (tmp_path / "valid.safetensors", tmp_path / "valid.npz"):
        damaged, data = valid.with_stem("damaged"), valid.read_bytes()
        for bit in draw.choice(8 * len(data), 1500, replace=False):
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            damaged.write_bytes(changed)
            try:
                assert content(damaged) == content(valid), f"bit {bit} of {valid.name}"
            except UserError:
                found += 1
    assert found > 2000
