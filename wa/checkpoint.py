"""Checkpoints: safetensors files whose header says what the tensors are and what they were made from.

Neither reading nor writing one needs torch. The header is JSON. It holds the backbone, the classes in the order
in which they were learned, the classes of each task, how to preprocess images, the settings of the training, and
what the training started from (wa/identity.py). It also holds two hashes. `content_sha256` is that of the
tensors, whatever the header says. `sha256` is that of the header itself. Both are verified when a checkpoint is
read.
"""

import hashlib
import json
import reprlib
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from wa.errors import UserError
from wa.files import LARGEST_TEXT, check, content_sha256, damaged, is_count, writing

HASHES = ("sha256", "content_sha256")


def digest(header: dict) -> str:
    return hashlib.sha256(json.dumps(header).encode()).hexdigest()


def write_checkpoint(path: str | Path, tensors: dict[str, np.ndarray], header: dict) -> None:
    """Write a checkpoint. Its header gets `content_sha256`, of the tensors, and `sha256`, of all it says."""
    arrays = {k: np.array(v, order="C") for k, v in tensors.items()}
    header = {k: v for k, v in header.items() if k not in HASHES}
    header = {"content_sha256": content_sha256(arrays)} | header
    text = json.dumps({"sha256": digest(header)} | header)
    with writing(path) as temporary:
        try:
            save_file(
                arrays, temporary, {"wa": text}
            )  # of several entries safetensors would choose the order by chance
        except SafetensorError as error:  # a full disk comes as this, without its number
            raise OSError(str(error).rpartition("error: ")[2]) from None


def parse_header(text: str) -> dict:
    """The header from its JSON. A ValueError if it is none, or not what was written."""
    if len(text) > LARGEST_TEXT:
        raise ValueError(f"its header is larger than {LARGEST_TEXT >> 20} MiB")
    header = json.loads(text)
    if not isinstance(header, dict):
        raise ValueError("the entry `wa` of its header is no JSON object")
    said = header.pop("sha256", None)
    # Earlier versions had no content_sha256, and another kind of sha256: their checkpoints are not verified.
    if "content_sha256" in header and said != digest(header):
        raise ValueError("its header is not the one that was written with its SHA-256")
    return header


def read_header(path: str | Path) -> dict:
    """The header of a checkpoint, without its tensors: fast, for plans that look at thousands.

    Raises UserError if the file is no checkpoint, FileNotFoundError if it does not exist.
    """
    try:
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > LARGEST_TEXT:
                raise ValueError(f"its header is larger than {LARGEST_TEXT >> 20} MiB")
            return parse_header(json.loads(file.read(size))["__metadata__"]["wa"])
    except FileNotFoundError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        raise damaged(path, error) from None


def read_checkpoint(path: str | Path) -> tuple[dict[str, np.ndarray], dict]:
    """The tensors by name, and the header.

    Raises UserError if the file is no checkpoint or is damaged, FileNotFoundError if it does not exist.
    """
    if Path(path).is_dir():
        some = next(Path(path).rglob("model.safetensors"), "a model.safetensors")
        raise UserError(f"{path} is a folder: name a checkpoint in it, for instance {some}")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if "wa" not in metadata:
                raise UserError(
                    f"{path} is no checkpoint of this program: its header lacks the entry `wa`"
                )
            header = parse_header(metadata["wa"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            content = content_sha256(tensors)
            if header.get("content_sha256", content) != content:
                raise ValueError("its tensors do not have the SHA-256 that its header names")
            return tensors, header
    except FileNotFoundError:
        raise
    except (
        SafetensorError,
        ValueError,
        TypeError,
        AttributeError,
        RecursionError,
        OSError,
    ) as error:
        raise damaged(path, error) from None


TASK_SIZES = {
    "task_sizes": (
        lambda v: isinstance(v, list) and v and all(map(is_count, v)),
        "a list of numbers of classes",
    )
}


def classifier(
    tensors: dict[str, np.ndarray], header: dict, path: str | Path
) -> tuple[np.ndarray, np.ndarray]:
    """The heads of all tasks as one weight matrix (classes, d) and one vector of biases (classes,), zero if there are none.

    A UserError if the header's task_sizes are not those of the heads in the file `path`.
    """
    check(header, TASK_SIZES, path)
    sizes = header["task_sizes"]
    names = [f"classifier.heads.{t}" for t in range(min(len(sizes), len(tensors)))]
    weights, biases = (
        [tensors.get(f"{name}.{k}", np.empty(0)) for name in names] for k in ("weight", "bias")
    )
    width = weights[0].shape[1:] if weights else ()
    fit = (
        [w.shape for w in weights] == [(n, *width) for n in sizes]
        and len(width) == 1
        and 0 not in width
    )
    fit = fit and [b.shape for b in biases] in ([(n,) for n in sizes], [(0,)] * len(sizes))
    if not fit or any(array.dtype.kind != "f" for array in weights + biases):
        raise UserError(
            f"{path} cannot be used: it says task_sizes = {reprlib.repr(sizes)}, its classifier differs"
        )
    weight = np.concatenate(weights)
    return weight, np.concatenate(biases) if biases[0].size else np.zeros(len(weight), weight.dtype)


def with_classifier(
    tensors: dict[str, np.ndarray], weight: np.ndarray, bias: np.ndarray, task_sizes: list[int]
) -> dict[str, np.ndarray]:
    """The tensors with another weight matrix (classes, d) and other biases (classes,) in the heads."""
    has_biases = "classifier.heads.0.bias" in tensors
    if bias.any() and not has_biases:
        raise UserError(
            "the classifier was trained without biases, so it cannot be given any: train with bias"
        )
    arrays = {"weight": weight} | ({"bias": bias} if has_biases else {})
    ends = np.cumsum(task_sizes)[:-1]
    return tensors | {
        f"classifier.heads.{t}.{k}": part
        for k, v in arrays.items()
        for t, part in enumerate(np.split(v, ends))
    }
