"""Checkpoints: safetensors files whose header says what the tensors are. No torch needed to read or write one.

The header in the header are JSON: the backbone, the classes (position -> name), the classes of each task, how to
preprocess images, how it was trained, and the SHA-256 of the checkpoint that the training started from. The first of them is
the SHA-256 of all others and the tensors, which is verified whenever the checkpoint is read.
"""

import hashlib
import json
import reprlib
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from wa.errors import UserError
from wa.files import LARGEST_TEXT, check, damaged, is_count, writing


def digest(tensors: dict[str, np.ndarray], header: dict) -> str:
    together = hashlib.sha256(json.dumps(header).encode())
    for name, tensor in sorted(tensors.items()):
        together.update(f"{name} {tensor.dtype.str} {tensor.shape} ".encode())
        together.update(tensor.data if tensor.size else b"")
    return together.hexdigest()


def write_checkpoint(path: str | Path, tensors: dict[str, np.ndarray], header: dict) -> None:
    arrays = {k: np.array(v, order="C") for k, v in tensors.items()}
    text = json.dumps({"sha256": digest(arrays, header)} | header)
    with writing(path) as temporary:
        try:
            save_file(
                arrays, temporary, {"wa": text}
            )  # of several entries safetensors would choose the order by chance
        except SafetensorError as error:  # a full disk comes as this, without its number
            raise OSError(str(error).rpartition("error: ")[2]) from None


def read_checkpoint(path: str | Path) -> tuple[dict[str, np.ndarray], dict]:
    """Returns the tensors by name and the header."""
    if Path(path).is_dir():
        some = next(Path(path).rglob("model.safetensors"), "a model.safetensors")
        raise UserError(f"{path} is a folder: name a checkpoint in it, for instance {some}")
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            if "wa" not in header:
                raise UserError(
                    f"{path} is no checkpoint of this program: its header lacks the entry `wa`"
                )
            if len(header["wa"]) > LARGEST_TEXT:
                raise ValueError(f"its header is larger than {LARGEST_TEXT >> 20} MiB")
            header = json.loads(header["wa"])
            if not isinstance(header, dict):
                raise ValueError("the entry `wa` of its header is no JSON object")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
            said = header.pop("sha256", None)  # those of earlier versions have none
            if said is not None and said != digest(tensors, header):
                raise ValueError("its SHA-256 is not the one that its header says")
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
