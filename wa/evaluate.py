"""Evaluate a task: every classifier that a checkpoint offers, on the test images of all classes seen so far.

    python -m wa.evaluate --features features.npz --trained trained.safetensors --model model.safetensors \
        --alignment alignment.json --herding herding.npz --memory 2000 --predictions predictions.npz --metrics metrics.json

The classifiers: `trained`, the heads as training left them; `aligned`, those of a method that aligns; `nme`, the
nearest mean of exemplars (Rebuffi et al., CVPR 2017, algorithm 1), of a method that keeps a memory.
"""

import argparse

import numpy as np

from wa.checkpoint import classifier, read_checkpoint
from wa.files import program, read_arrays, read_json, write_arrays, write_json
from wa.herding import exemplars
from wa.metrics import task_metrics, top_k
from wa.scenario import memory_per_class


def unit(x: np.ndarray) -> np.ndarray:
    """The rows of x (n, d) scaled to length 1."""
    return x / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-8)


def logits(checkpoint: str, features: np.ndarray) -> np.ndarray:
    """The scores of the classifier in a checkpoint for features (n, d): (n, classes)."""
    tensors, facts = read_checkpoint(checkpoint)
    weight, bias = classifier(tensors, len(facts["task_sizes"]))
    return features @ weight.T + bias


def nearest_mean(features: np.ndarray, exemplar_features: np.ndarray, exemplar_labels: np.ndarray) -> np.ndarray:
    """Minus half the squared distance, up to a constant, of unit features (n, d) to each class's unit mean: (n, classes)."""
    phi = unit(exemplar_features.astype(np.float64))
    means = np.stack([phi[exemplar_labels == c].mean(axis=0) for c in range(exemplar_labels.max() + 1)])
    return unit(features.astype(np.float64)) @ unit(means).T


def confidence(scores: np.ndarray) -> np.ndarray:
    """The softmax probability of the class with the highest score (n, classes): float32 (n,)."""
    return (1 / np.exp(scores - scores.max(axis=1, keepdims=True)).sum(axis=1)).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description="Predictions and metrics of every classifier after a task.")
    parser.add_argument("--features", required=True)
    parser.add_argument("--trained", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--alignment", required=True, help="alignment.json")
    parser.add_argument("--herding", nargs="?")
    parser.add_argument("--memory", default="0", help="exemplars in total, a class (20/class), or `all`")
    parser.add_argument("--predictions", required=True, help="to write: predictions.npz")
    parser.add_argument("--metrics", required=True, help="to write: metrics.json")
    args = parser.parse_args()

    arrays = read_arrays(args.features)
    alignment = read_json(args.alignment)
    test, label = arrays["test_features"].astype(np.float32), arrays["test_label"]
    scores = {"trained": logits(args.trained, test)}
    if alignment["alignment"] != "none":
        scores["aligned"] = logits(args.model, test)
    if args.memory != "0":
        herding = read_arrays(args.herding)
        kept = exemplars(herding, memory_per_class(args.memory, len(herding["counts"])))
        row = np.searchsorted(arrays["index"], kept)
        scores["nme"] = nearest_mean(test, arrays["features"][row], arrays["label"][row])

    _, facts = read_checkpoint(args.model)
    top = {name: top_k(s, 5) for name, s in scores.items()}
    write_arrays(
        args.predictions,
        label=label,
        **{name: t[:, 0].astype(np.int32) for name, t in top.items()},
        **{f"{name}_confidence": confidence(s) for name, s in scores.items() if name != "nme"},
    )
    metrics = {name: task_metrics(t, label, facts["task_sizes"]) for name, t in top.items()}
    for name in metrics.keys() - {"nme"}:
        metrics[name] |= {f"row_norm_{c}": norm for c, norm in enumerate(alignment["row_norms"][name])}
    if alignment["gamma"] is not None:
        metrics["trained"]["gamma"] = alignment["gamma"]
    write_json(args.metrics, metrics)


if __name__ == "__main__":
    program(main)
