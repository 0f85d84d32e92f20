"""Hostile inputs: every file is read, or refused at once in one clear line.

    python tests/fuzz/hostile.py --inputs 100000 --seed 1        (make fuzz, some minutes)

Inputs are valid files with changed bytes, and files that are made to do harm: pickles, shapes and
counts beyond any memory, zip bombs, names that lead out of a folder, YAML tags and aliases, and
JSON of any kind in place of numbers and names.

The readers of the programs, and small programs that read nothing else, get the inputs in this
process. Its memory is limited. An audit hook stops everything that would run a program, unpickle,
or write elsewhere.
"""

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import pickle
import resource
import struct
import sys
import tempfile
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from wa.analysis import evaluate
from wa.analysis.metrics import read_metrics
from wa.checkpoint import read_checkpoint, write_checkpoint
from wa.data.packed import read_dataset
from wa.data.scenario import read_order
from wa.errors import UserError
from wa.files import content_sha256, write_arrays, write_json
from wa.methods import alignment, selection
from wa.models.classifier import Classifier
from wa.study.config_file import read_config
from wa.study.study import Study

MEMORY = 2**29  # bytes that reading one input may take. A valid one needs far less.
CLASSES, TASKS = 4, [2, 2]
FOLDER = Path()  # where the inputs lie. Nothing may be written elsewhere.
guarded = False


def guard(event: str, arguments: tuple) -> None:
    """Audit hook: while an input is read, nothing may run, unpickle, or write elsewhere."""
    if not guarded:
        return
    if event in (
        "os.system",
        "subprocess.Popen",
        "os.exec",
        "os.posix_spawn",
        "os.fork",
        "pickle.find_class",
        "socket.connect",
    ):
        raise AssertionError(f"an input made the program do {event} {arguments}")
    if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
        writes = (
            arguments[2] & (os.O_WRONLY | os.O_RDWR) if isinstance(arguments[2], int) else False
        )
        if writes and not os.path.realpath(os.fsdecode(arguments[0])).startswith(f"{FOLDER}/"):
            raise AssertionError(f"an input made the program write {arguments[0]}")


def refused_or_fine(read: Callable, *arguments: object) -> bool:
    """Call a reader. Returns whether it took the input.

    A UserError must be one line of modest length. Any other error is a failure.
    """
    global guarded
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
    guarded = True
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            read(*arguments)
        return True
    except UserError as error:
        text = str(error)
        assert text and "\n" not in text and len(text) < 800, text[:2000]
        return False
    finally:
        guarded = False
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def run(program: Callable, *options: object) -> None:
    """A program of wa/, in this process."""
    sys.argv = ["program", *map(str, options)]
    program()


# Valid files.

DRAW = np.random.default_rng(0)
FACTS = {
    "dataset": "digits",
    "classes": ["a", "b", "c", "d"],
    "task_sizes": TASKS,
    "backbone": "resnet8",
    "bias": True,
    "in_channels": 1,
    "image_shape": [8, 8, 1],
    "mean": [0.3],
    "std": [0.2],
}
DATASET = {k: FACTS[k] for k in ("dataset", "classes", "image_shape", "mean", "std")} | {
    "train_counts": [140] * CLASSES
}
ORDER = {"order": [2, 0, 1, 3], "names": ["c", "a", "b", "d"]}
REPORT = {
    "alignment": "weight",
    "gamma": 0.9,
    "row_norms": {"trained": [1.0] * CLASSES, "aligned": [1.0] * CLASSES},
}
METRICS = {"trained": {"accuracy": 90.0, "row_norm_0": 1.0}, "nme": {"accuracy": 80.0}}
METRICS |= {"classes": {"images": [5, 5], "trained": [4, 5], "nme": [4, 4]}}
CONFIG = {
    "experiment": "tiny",
    "dataset": "digits",
    "orders": [1993, "mine"],
    "class_orders": {"mine": [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]},
    "seeds": [0, 1],
    "protocols": [{"base": 4, "increment": 2}],
    "methods": {
        "wa": {
            "memory": 20,
            "distillation": "dynamic",
            "alignment": "weight",
            "training": {"epochs": 2},
        }
    },
    "training": {
        "backbone": "resnet8",
        "epochs": 1,
        "batch_size": 64,
        "augmentation": ["crop-1"],
        "base": {"lr": 0.1},
    },
}
HEAD = {
    f"classifier.heads.{t}.{k}": DRAW.normal(size=s).astype("f4")
    for t in (0, 1)
    for k, s in (("weight", (2, 6)), ("bias", 2))
}
FEATURES = {
    "index": np.arange(12),
    "label": np.repeat(np.arange(CLASSES), 3),
    "features": DRAW.normal(size=(12, 6)).astype("f4"),
    "test_index": np.arange(8),
    "test_label": np.repeat(np.arange(CLASSES), 2),
    "test_features": DRAW.normal(size=(8, 6)).astype("f4"),
    "held_out": np.arange(12) % 3 == 0,
}
HERDING = {"ranking": np.arange(6, dtype="i4"), "counts": np.array([3, 3], "i4")}
MADE_FROM = {"from_trained": content_sha256(HEAD), "data_sha256": {}}
FACTS |= MADE_FROM
MADE_FROM = {"header": np.frombuffer(json.dumps(MADE_FROM).encode(), np.uint8)}
NPZ = {"features.npz": FEATURES | MADE_FROM, "herding.npz": HERDING | MADE_FROM}
TREES = {
    "dataset.json": DATASET,
    "order.json": ORDER,
    "alignment.json": REPORT,
    "metrics.json": METRICS,
}


def write_valid() -> dict[str, bytes]:
    from wa.models.model import CilModel

    write_checkpoint(FOLDER / "model.safetensors", CilModel("resnet8", 1, TASKS).tensors(), FACTS)
    write_checkpoint(FOLDER / "head.safetensors", HEAD, FACTS)
    for name, arrays in NPZ.items():
        write_arrays(FOLDER / name, **arrays)
    for name, value in TREES.items():
        write_json(FOLDER / name, value)
    (FOLDER / "study.yaml").write_text(yaml.safe_dump(CONFIG))
    return {file.name: file.read_bytes() for file in FOLDER.iterdir()}


# What is made of them.


class Exploit:
    def __reduce__(self):
        return os.system, ("touch /tmp/exploited",)


HUGE = [2**31, 10**12, 2**63, 10**30, -1, 0, 1, 3, 1.0, 2.0, float("nan"), float("inf"), 1e308]
NAMES = [
    "../../x",
    "/etc/passwd",
    "..",
    "a\nb",
    "$(touch x)",
    "; touch x",
    "\x1b[31m",
    "x" * 5000,
    "",
    "wa",
    "CON",
    "'",
    "{task}",
]
SCALARS = st.one_of(
    st.sampled_from(HUGE),
    st.sampled_from(NAMES),
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
)
JSON = st.recursive(
    SCALARS,
    lambda v: st.lists(v, max_size=4) | st.dictionaries(st.text(max_size=6), v, max_size=4),
    max_leaves=8,
)


@st.composite
def changed_bytes(draw, valid: bytes) -> bytes:
    """Some bytes changed, removed or put in."""
    data = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        what = draw(st.sampled_from(("flip", "cut", "insert", "number")))
        if what == "flip" and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif what == "cut":
            del data[at : at + draw(st.sampled_from((1, 8, 100, 10**9)))]
        elif what == "insert":
            data[at:at] = draw(st.binary(max_size=16))
        elif what == "number":
            number = draw(st.sampled_from((0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)))
            data[at : at + 8] = struct.pack("<Q", number)
    return bytes(data)


@st.composite
def changed_value(draw, valid: object) -> object:
    """A value somewhere in a tree of JSON replaced, removed, or put in."""
    tree = json.loads(json.dumps(valid))
    inner, depth = tree, draw(st.integers(0, 3))
    while True:
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        if not keys or (draw(st.integers(0, 9)) == 0):
            key = draw(st.text(max_size=6) | st.sampled_from(NAMES))
            if isinstance(inner, dict):
                inner[key] = draw(JSON)
            else:
                inner.append(draw(JSON))
            return tree
        key = draw(st.sampled_from(keys))
        if depth == 0 or not isinstance(inner[key], (dict, list)) or not inner[key]:
            if draw(st.booleans()):
                inner[key] = draw(JSON)
            elif isinstance(inner, dict):
                del inner[key]
            else:
                inner[key] = inner[draw(st.sampled_from(keys))]
            return tree
        inner, depth = inner[key], depth - 1


SHAPES = st.one_of(
    st.just(None),
    st.lists(
        st.sampled_from((0, 1, 2, 3, 6, 12, -1, 2**31, 10**12, 2**63, 10**30)), max_size=4
    ).map(tuple),
)
DTYPES = st.sampled_from(
    (
        None,
        "|O",
        "<f4",
        "<f8",
        ">f4",
        "<i8",
        "|b1",
        "|V0",
        "|S0",
        "<U1000000",
        "<f4,<i8",
        "|V2000000000",
        "x",
    )
)


@st.composite
def npy(draw, array: np.ndarray) -> bytes:
    """An npy file whose header may lie about what follows it, or a pickle."""
    what = draw(st.sampled_from(("valid", "array", "header", "pickle", "raw")))
    stream = io.BytesIO()
    if what == "valid":
        np.save(stream, array)
    elif what == "array":  # honest, but not the array that is wanted
        shape = draw(st.lists(st.integers(0, 4), max_size=3))
        dtype = draw(
            st.sampled_from((np.float32, np.int64, np.uint8, np.bool_, np.complex64, "U3", "M8[s]"))
        )
        numbers = np.array(
            draw(st.lists(st.sampled_from((0, 1, 2, 3, -1, 2**31, 2**62)), min_size=1, max_size=3))
        )
        np.save(
            stream, np.resize(numbers, shape).astype(array.dtype if draw(st.booleans()) else dtype)
        )
    elif what == "header":
        shape, dtype = draw(SHAPES), draw(DTYPES)
        order = draw(st.sampled_from((False, True, 10**12, "'")))
        header = {
            "descr": np.lib.format.dtype_to_descr(array.dtype) if dtype is None else dtype,
            "fortran_order": order,
            "shape": array.shape if shape is None else shape,
        }
        text = (repr(header) + "(" * draw(st.sampled_from((0, 0, 9000)))).encode()
        version = draw(st.sampled_from(((1, 0), (2, 0), (3, 0), (9, 9))))
        size = struct.pack("<H" if version == (1, 0) else "<I", len(text) % 2**16)
        stream.write(b"\x93NUMPY" + bytes(version) + size + text + array.tobytes())
    elif what == "pickle":
        np.save(stream, np.array([Exploit()], object), allow_pickle=True)
    else:
        stream.write(draw(st.binary(max_size=40) | st.just(pickle.dumps(Exploit()))))
    return stream.getvalue()


ZEROS = zlib.compress(bytes(2**24))  # 16 KiB


@st.composite
def npz(draw, arrays: dict[str, np.ndarray]) -> bytes:
    """An npz file of such arrays.

    Some are absent, have other names, are compressed, or are larger than they say.
    """
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name, array in arrays.items():
            if (kind := draw(st.integers(0, 15))) == 0:
                continue
            data = draw(npy(array)) if kind < 6 else None
            if data is None:
                np.save(valid := io.BytesIO(), array)
                data = valid.getvalue()
            name = (
                draw(st.sampled_from(("../" + name, name.upper(), "/" + name)))
                if kind == 6
                else name
            )
            deflated = kind == 7
            file.writestr(
                f"{name}.npy", data, zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
            )
        if draw(st.integers(0, 9)) == 0:
            file.writestr("bomb.npy", zlib.decompress(ZEROS), zipfile.ZIP_DEFLATED)
    return (
        draw(changed_bytes(stream.getvalue()))
        if draw(st.integers(0, 7)) == 0
        else stream.getvalue()
    )


@st.composite
def safetensors(draw, name: str) -> bytes:
    """A checkpoint whose facts, or whose header of tensors, are changed."""
    valid = VALID[name]
    (size,) = struct.unpack("<Q", valid[:8])
    header, tensors = json.loads(valid[8 : 8 + size]), valid[8 + size :]
    if draw(st.booleans()):
        facts = draw(changed_value(FACTS))
        # Without a SHA-256, which would be the reason to refuse it.
        header["__metadata__"] = {"wa": json.dumps(facts)}
        if draw(st.integers(0, 30)) == 0:
            header["__metadata__"] = {
                "wa": draw(st.sampled_from(("[" * 10**5, "{}", "[1]", "nul", "9" * 5000)))
            }
    else:
        header["__metadata__"] = {"wa": json.dumps(FACTS)}
        header = draw(changed_value(header))
    text = json.dumps(header).encode()
    size = (
        draw(st.sampled_from((0, 1, 2**40, 2**64 - 1)))
        if draw(st.integers(0, 30)) == 0
        else len(text)
    )
    return struct.pack("<Q", size) + text + tensors


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{k}: &{k} [{', '.join(['*' + previous] * 9)}]\n"
    for previous, k in zip("abcdefgh", "bcdefghi", strict=True)
)
YAML = (
    "!!python/object/apply:os.system ['touch /tmp/exploited']",
    "!!python/name:os.system",
    "!!python/object/new:os.system []",
    "&a [*a]",
    "&a {a: *a}",
    "2020-01-01",
    "2020-99-99",
    "!!binary aGVsbG8=",
    "!!set {a, b}",
    "!!timestamp x",
    "!!int ''",
    "!!bool x",
    "1:60:60",
    "9" * 5000,
    "[" * 3000,
    "? [a]\n: b",
    BOMB.replace("\n", "\n  "),
    "x" * 10**5,
    ".inf",
    "1e12",
    "10" * 6,
)


@st.composite
def config(draw) -> bytes:
    what = draw(st.sampled_from(("tree", "tree", "yaml", "bytes")))
    if what == "tree":
        return json.dumps(draw(changed_value(CONFIG))).encode()  # YAML reads it
    text = VALID["study.yaml"]
    if what == "yaml":
        lines = text.decode().splitlines()
        at = draw(st.integers(0, len(lines) - 1))
        key = lines[at].partition(":")[0]
        lines[at] = f"{key}: {draw(st.sampled_from(YAML))}"
        return "\n".join(lines).encode()
    return draw(changed_bytes(text))


# The targets: a strategy for the bytes of a file, and what reads it.

VALID: dict[str, bytes] = {}


def study(path: Path) -> None:
    Study(read_config(path), str(FOLDER / "results"))


def herd(path: Path) -> None:
    run(selection.main, "--features", path, "--output", FOLDER / "out.npz")


def herd_after(path: Path) -> None:
    run(
        selection.main,
        "--features",
        FOLDER / "features.npz",
        "--previous",
        path,
        "--output",
        FOLDER / "out.npz",
    )


def align(path: Path) -> None:
    report = ("--output", FOLDER / "out.safetensors", "--report", FOLDER / "out.json")
    run(alignment.main, "--trained", path, "--alignment", "weight", *report)


def fit_bias(path: Path) -> None:
    options = ("--trained", FOLDER / "head.safetensors", "--alignment", "bias", "--features", path)
    run(
        alignment.main,
        *options,
        "--output",
        FOLDER / "out.safetensors",
        "--report",
        FOLDER / "out.json",
    )


def evaluated_with(option: str) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        files = {
            "--features": "features.npz",
            "--trained": "head.safetensors",
            "--model": "head.safetensors",
            "--alignment": "alignment.json",
            "--ranking": "herding.npz",
        }
        options = [
            word
            for key, name in files.items()
            for word in (key, path if key == option else FOLDER / name)
        ]
        run(
            evaluate.main,
            *options,
            "--memory",
            "4",
            "--predictions",
            FOLDER / "out.npz",
            "--metrics",
            FOLDER / "out.json",
        )

    return read


def targets() -> dict[str, tuple[str, st.SearchStrategy[bytes], Callable[[Path], object]]]:
    """Name -> a valid file, what is made of it, what reads it."""
    model, head = (
        safetensors(name) | changed_bytes(VALID[name])
        for name in ("model.safetensors", "head.safetensors")
    )
    features, ranking = (npz(arrays) | changed_bytes(VALID[name]) for name, arrays in NPZ.items())
    texts = {
        name: changed_value(value).map(lambda v: json.dumps(v).encode())
        | changed_bytes(VALID[name])
        for name, value in TREES.items()
    }
    return {
        "checkpoint, read": ("head.safetensors", head, read_checkpoint),
        "checkpoint, used": ("model.safetensors", model, Classifier),
        "checkpoint, aligned": ("head.safetensors", head, align),
        "checkpoint, evaluated": ("head.safetensors", head, evaluated_with("--model")),
        "features, herded": ("features.npz", features, herd),
        "features, for a bias": ("features.npz", features, fit_bias),
        "features, evaluated": ("features.npz", features, evaluated_with("--features")),
        "ranking, gone on from": ("herding.npz", ranking, herd_after),
        "ranking, evaluated": ("herding.npz", ranking, evaluated_with("--ranking")),
        "dataset.json": ("dataset.json", texts["dataset.json"], read_dataset),
        "order.json": (
            "order.json",
            texts["order.json"],
            lambda path: read_order(path, FACTS["classes"]),
        ),
        "alignment.json": (
            "alignment.json",
            texts["alignment.json"],
            evaluated_with("--alignment"),
        ),
        "metrics.json": ("metrics.json", texts["metrics.json"], read_metrics),
        "config": ("study.yaml", config(), study),
    }


TARGETS = (
    "checkpoint, read",
    "checkpoint, used",
    "checkpoint, aligned",
    "checkpoint, evaluated",
    "features, herded",
    "features, for a bias",
    "features, evaluated",
    "ranking, gone on from",
    "ranking, evaluated",
    "dataset.json",
    "order.json",
    "alignment.json",
    "metrics.json",
    "config",
)


def fuzz(name: str, inputs: int, seed: int) -> Counter:
    """Have a target read this many inputs. Returns the numbers that it read and refused.

    An AssertionError, or any error but a UserError, shows an input that was neither.
    """
    global FOLDER
    counts: Counter = Counter()
    with tempfile.TemporaryDirectory() as folder:
        FOLDER = Path(os.path.realpath(folder))
        VALID.update(write_valid())
        valid, strategy, read = targets()[name]
        # This also imports what the reader imports late.
        assert refused_or_fine(read, FOLDER / valid), f"{name}: {valid} is refused"

        @seeded(seed)
        @settings(
            max_examples=inputs, deadline=None, database=None, suppress_health_check=HealthCheck
        )
        @given(strategy)
        def hostile(data: bytes) -> None:
            (FOLDER / "input").write_bytes(data)
            counts[refused_or_fine(read, FOLDER / "input")] += 1

        hostile()
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description="Read hostile inputs.")
    parser.add_argument(
        "--inputs",
        type=int,
        default=100_000,
        help="number of inputs, of all kinds together (default: 100000)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=int(time.time()),
        help="seed of the inputs (default: a new one each time)",
    )
    parser.add_argument(
        "--processes",
        type=int,
        default=os.cpu_count(),
        help="processes that read (default: one for each core)",
    )
    args = parser.parse_args()
    each = -(-args.inputs // len(TARGETS))
    print(f"seed {args.seed}\n{'':24}{'inputs':>10}{'refused':>10}", flush=True)
    total: Counter = Counter()
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        jobs = {name: pool.apply_async(fuzz, (name, each, args.seed)) for name in TARGETS}
        for name, job in jobs.items():
            counts = job.get()
            total += counts
            print(f"{name:24}{counts.total():10}{counts[False]:10}", flush=True)
    print(f"{'total':24}{total.total():10}{total[False]:10}")


sys.addaudithook(guard)

if __name__ == "__main__":
    main()
