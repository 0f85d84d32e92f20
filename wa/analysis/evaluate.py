"""Evaluate a task: every classifier that a checkpoint offers, on the test images of all classes seen so far.

    python -m wa.analysis.evaluate --features features.npz --trained trained.safetensors --model model.safetensors \
        --alignment alignment.json --ranking herding.npz --memory 2000 --predictions predictions.npz --metrics metrics.json

The classifiers: `trained`, the heads as training left them; `aligned`, those of a method that aligns; `nme`, the
nearest mean of exemplars (Rebuffi et al., CVPR 2017, algorithm 1), of a method that keeps a memory.
"""

import argparse

import numpy as np

from wa import identity
from wa.analysis.metrics import task_metrics, top_k
from wa.checkpoint import classifier, read_checkpoint
from wa.data.memory import Memory
from wa.errors import UserError, program
from wa.files import read_arrays, read_arrays_header, read_json, write_arrays, write_json
from wa.methods.alignment import REPORT
from wa.methods.selection import exemplars, read_ranking


def unit(x: np.ndarray) -> np.ndarray:
    """The rows of x (n, d) scaled to length 1."""
    return x / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-8)


def logits(weight: np.ndarray, bias: np.ndarray, features: np.ndarray) -> np.ndarray:
    """The scores of a linear classifier, weight (classes, d) and bias (classes,), for features (n, d): (n, classes)."""
    return features @ weight.T + bias


def nearest_mean(
    features: np.ndarray, exemplar_features: np.ndarray, exemplar_labels: np.ndarray
) -> np.ndarray:
    """Minus half the squared distance, up to a constant, of unit features (n, d) to each class's unit mean: (n, classes)."""
    phi = unit(exemplar_features.astype(np.float64))
    means = np.stack(
        [phi[exemplar_labels == c].mean(axis=0) for c in range(exemplar_labels.max() + 1)]
    )
    return unit(features.astype(np.float64)) @ unit(means).T


def confidence(scores: np.ndarray) -> np.ndarray:
    """The softmax probability of the class with the highest score (n, classes): float32 (n,)."""
    return (1 / np.exp(scores - scores.max(axis=1, keepdims=True)).sum(axis=1)).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Predictions and metrics of every classifier after a task."
    )
    parser.add_argument("--features", required=True)
    parser.add_argument("--trained", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--alignment", required=True, help="alignment.json")
    parser.add_argument("--ranking", nargs="?", help="the ranking of all images learned so far")
    parser.add_argument(
        "--memory",
        type=Memory.parse,
        default=Memory(),
        help="exemplars in total (2000), for each class (20/class), or all; 0: none",
    )
    parser.add_argument("--predictions", required=True, help="to write: predictions.npz")
    parser.add_argument("--metrics", required=True, help="to write: metrics.json")
    parser.add_argument("--code", help="digest of the code, for the header (default: found here)")
    args = parser.parse_args()

    wanted = {
        "features": "f:nd",
        "label": "i:n",
        "index": "i:n",
        "test_features": "f:md",
        "test_label": "i:m",
    }
    arrays = read_arrays(args.features, **wanted)
    alignment = read_json(args.alignment, REPORT)
    tensors, trained = read_checkpoint(args.trained)
    aligned_tensors, header = read_checkpoint(args.model)
    ranking = read_arrays_header(args.ranking) if args.ranking else {}
    for path, said in (
        (args.features, read_arrays_header(args.features)),
        (args.model, header),
        *([(args.ranking, ranking)] if args.ranking else []),
    ):
        if said.get("from_trained") != trained.get("content_sha256"):
            raise UserError(f"{path} was made from another model than {args.trained}")

    test, label = arrays["test_features"].astype(np.float32), arrays["test_label"]
    weight, bias = classifier(tensors, trained, args.trained)
    for labels in (label, arrays["label"]):
        if labels.min() < 0 or labels.max() >= len(weight):
            raise UserError(
                f"{args.features} has labels of classes that {args.trained} does not know"
            )
    if weight.shape[1] != test.shape[1]:
        raise UserError(
            f"{args.trained} classifies {weight.shape[1]} features, but there are {test.shape[1]}"
        )
    scores = {"trained": logits(weight, bias, test)}
    aligned = classifier(aligned_tensors, header, args.model)
    if alignment["alignment"] != "none":
        scores["aligned"] = logits(*aligned, test)
    if args.memory.keeps:
        herding = read_ranking(args.ranking)
        kept = exemplars(herding, args.memory.per_class(len(herding["counts"])))
        row = np.searchsorted(arrays["index"], kept).clip(max=len(arrays["index"]) - 1)
        if (arrays["index"][row] != kept).any():
            raise UserError(f"{args.ranking} ranks images that {args.features} lacks")
        scores["nme"] = nearest_mean(test, arrays["features"][row], arrays["label"][row])

    top = {name: top_k(s, 5) for name, s in scores.items()}
    confidences = {name: confidence(s) for name, s in scores.items() if name != "nme"}
    write_arrays(
        args.predictions,
        label=label,
        **{name: t[:, 0].astype(np.int32) for name, t in top.items()},
        **{f"{name}_confidence": values for name, values in confidences.items()},
    )
    metrics = {}
    for name, best in top.items():
        metrics[name] = task_metrics(
            best,
            label,
            header["task_sizes"],
            confidences.get(name),
            alignment["row_norms"].get(name, ()),
            alignment["gamma"] if name == "trained" else None,
        )
    made_from = identity.evaluating(
        code=args.code or identity.code_of("wa.analysis.evaluate"),
        memory=str(args.memory),
        trained=trained.get("content_sha256"),
        model=header.get("content_sha256"),
        ranking=ranking.get("content_sha256"),
    )
    write_json(args.metrics, {"header": made_from} | metrics)


if __name__ == "__main__":
    program(main)
