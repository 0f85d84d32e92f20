"""Checkpoints: safetensors files whose header describes the tensors and their origin.

Neither reading nor writing one needs torch. The header is JSON. It holds the backbone, the classes
in the order of learning, the number of classes of each task, and how to preprocess images. It also
holds the settings of the training and what the training started from (wa/identity.py).

The header has two hashes. `content_sha256` is that of the model's tensors alone. `sha256` is that
of the rest of the header. Both are verified when a checkpoint is read.

A method whose own classifier is the nearest mean of exemplars has the class means in the checkpoint
too. They are the tensor MEANS, float32 (classes, d), with a hash of their own, `means_sha256`. The
next task does not start from them, so `content_sha256` leaves them out.

What an algorithm computes at the end of a task for the next one stands there too, under names that
begin with STATE. The next task starts from it, so `content_sha256` counts it.
"""

import errno
import hashlib
import json
import os
import reprlib
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from wa.errors import UserError
from wa.files import LARGEST_TEXT, check, content_sha256, damaged, is_count, writing

MEANS = "exemplar_means"
STATE = "state."  # begins the names of what an algorithm hands to the next task
HASHES = ("sha256", "content_sha256", "means_sha256")


def digest(header: dict) -> str:
    return hashlib.sha256(json.dumps(header).encode()).hexdigest()


def hashes(tensors: dict[str, np.ndarray]) -> dict[str, str]:
    """The hashes of a checkpoint's tensors, as its header names them."""
    model = {name: array for name, array in tensors.items() if name != MEANS}
    found = {"content_sha256": content_sha256(model)}
    if MEANS in tensors:
        found["means_sha256"] = content_sha256({MEANS: tensors[MEANS]})
    return found


def write_checkpoint(path: str | Path, tensors: dict[str, np.ndarray], header: dict) -> None:
    """Write a checkpoint, with all hashes in its header.

    tensors: arrays of any shape, by name. Raises OSError if the file cannot be written.
    """
    arrays = {k: np.array(v, order="C") for k, v in tensors.items()}
    header = {k: v for k, v in header.items() if k not in HASHES}
    header = hashes(arrays) | header
    text = json.dumps({"sha256": digest(header)} | header)
    with writing(path) as temporary:
        try:
            # One entry only: safetensors would write several in a random order.
            save_file(arrays, temporary, {"wa": text})
        except SafetensorError as error:  # a full disk is this error, without an error number
            raise OSError(str(error).rpartition("error: ")[2]) from None


def parse_header(text: str) -> dict:
    """The header from its JSON. Raises ValueError if it is not JSON, or was changed."""
    if len(text) > LARGEST_TEXT:
        raise ValueError(f"its header is larger than {LARGEST_TEXT >> 20} MiB")
    header = json.loads(text)
    if not isinstance(header, dict):
        raise ValueError("the entry `wa` of its header is no JSON object")
    said = header.pop("sha256", None)
    # Earlier versions had no content_sha256 and another kind of sha256. Their checkpoints are not
    # verified.
    if "content_sha256" in header and said != digest(header):
        raise ValueError("its header does not have the SHA-256 that stands in it")
    return header


def read_header(path: str | Path) -> dict:
    """The header of a checkpoint. It reads no tensors, because a plan looks at thousands of files.

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

    Raises UserError if the file is damaged or no checkpoint, FileNotFoundError if it does not
    exist.
    """
    if Path(path).is_dir():
        found = [*Path(path).rglob("model.safetensors")]
        some = max(found, key=lambda file: file.stat().st_mtime, default="a model.safetensors")
        raise UserError(f"{path} is a folder. Name a checkpoint in it, for instance {some}")
    if not Path(path).exists():  # safetensors would not say it in the common form
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if "wa" not in metadata:
                raise UserError(
                    f"{path} is no checkpoint of this program. Its header lacks the entry `wa`."
                )
            header = parse_header(metadata["wa"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            for name, found in hashes(tensors).items():
                if header.get(name, found) != found:
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


def state_of(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What an algorithm handed to the next task, by name."""
    return {k.removeprefix(STATE): v for k, v in tensors.items() if k.startswith(STATE)}


def model_of(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The parameters and buffers of the model alone."""
    return {k: v for k, v in tensors.items() if k != MEANS and not k.startswith(STATE)}


def classifier(
    tensors: dict[str, np.ndarray], header: dict, path: str | Path
) -> tuple[np.ndarray, np.ndarray]:
    """The heads of all tasks together: the weight matrix (classes, d) and the biases (classes,).

    The biases are zero if the heads have none. path: the file, for errors. Raises UserError if the
    header's task_sizes do not fit the heads.
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
            f"{path} cannot be used: its header says task_sizes = {reprlib.repr(sizes)},"
            " but its classifier has others"
        )
    weight = np.concatenate(weights)
    return weight, np.concatenate(biases) if biases[0].size else np.zeros(len(weight), weight.dtype)


def with_classifier(
    tensors: dict[str, np.ndarray], weight: np.ndarray, bias: np.ndarray, task_sizes: list[int]
) -> dict[str, np.ndarray]:
    """The tensors with other heads. weight: (classes, d). bias: (classes,).

    Raises UserError if the heads have no biases, but `bias` is not zero.
    """
    has_biases = "classifier.heads.0.bias" in tensors
    if bias.any() and not has_biases:
        raise UserError(
            "the classifier was trained without biases, so it cannot get any. Train with bias."
        )
    arrays = {"weight": weight} | ({"bias": bias} if has_biases else {})
    ends = np.cumsum(task_sizes)[:-1]
    return tensors | {
        f"classifier.heads.{t}.{k}": part
        for k, v in arrays.items()
        for t, part in enumerate(np.split(v, ends))
    }
