"""Checkpoints: safetensors files whose header says what the tensors are. No torch needed to read or write one.

The facts in the header are JSON: the backbone, the classes (position -> name), the classes of each task, how to
preprocess images, how it was trained, and the SHA-256 of the checkpoint that the training started from.
"""

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from wa.files import UserError, writing


def write_checkpoint(path: str | Path, tensors: dict[str, np.ndarray], facts: dict) -> None:
    with writing(path) as temporary:
        try:
            save_file({k: np.array(v, order="C") for k, v in tensors.items()}, temporary, {"wa": json.dumps(facts)})
        except SafetensorError as error:  # a full disk comes as this, without its number
            raise OSError(str(error).rpartition("error: ")[2]) from None


def read_checkpoint(path: str | Path) -> tuple[dict[str, np.ndarray], dict]:
    """Returns the tensors by name and the facts."""
    try:
        with safe_open(path, framework="numpy") as file:
            facts = json.loads((file.metadata() or {})["wa"])
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118 (it is no dict)
    except FileNotFoundError:
        raise
    except KeyError:
        raise UserError(f"{path} is no checkpoint of this program: its header lacks the entry `wa`") from None
    except (SafetensorError, ValueError, OSError) as error:
        raise UserError(f"{path} is damaged or no checkpoint ({error}); delete it and run again") from None


def classifier(tensors: dict[str, np.ndarray], n_tasks: int) -> tuple[np.ndarray, np.ndarray]:
    """The heads of all tasks as one weight matrix (classes, d) and one vector of biases (classes,), zero if there are none."""
    weight = np.concatenate([tensors[f"classifier.heads.{t}.weight"] for t in range(n_tasks)])
    biases = [tensors.get(f"classifier.heads.{t}.bias") for t in range(n_tasks)]
    return weight, np.zeros(len(weight), weight.dtype) if biases[0] is None else np.concatenate(biases)


def with_classifier(
    tensors: dict[str, np.ndarray], weight: np.ndarray, bias: np.ndarray, task_sizes: list[int]
) -> dict[str, np.ndarray]:
    """The tensors with another weight matrix (classes, d) and other biases (classes,) in the heads."""
    has_biases = "classifier.heads.0.bias" in tensors
    if bias.any() and not has_biases:
        raise UserError("the classifier was trained without biases, so it cannot be given any: train with bias")
    arrays = {"weight": weight} | ({"bias": bias} if has_biases else {})
    ends = np.cumsum(task_sizes)[:-1]
    return tensors | {f"classifier.heads.{t}.{k}": part for k, v in arrays.items() for t, part in enumerate(np.split(v, ends))}
