"""Evaluate a task: every classifier of a checkpoint, on the test images of all classes seen so far.

    python -m wa.analysis.evaluate --features features.npz --trained trained.safetensors \
        --model model.safetensors --alignment alignment.json --ranking herding.npz --memory 2000 \
        --predictions predictions.npz --metrics metrics.json

The classifiers are:

    trained   the classifier as training left it
    aligned   the same after aligning, of a method that aligns
    nme       the nearest mean of exemplars (wa/methods/nearest_mean.py), of a method that keeps a
              memory
    fitted    what the method's algorithm fits to features (wa/methods/feature_classifier.py)

The first two are linear, unless the algorithm trains another kind, such as the cosines of lucir.
"""

import argparse

import numpy as np

from wa import identity
from wa.analysis.metrics import (
    CLASSES,
    best_of_own_task,
    count_by_class,
    task_metrics,
    top_k,
)
from wa.checkpoint import classifier, model_of, read_checkpoint
from wa.code import Code
from wa.data.memory import Memory
from wa.errors import UserError, program
from wa.files import read_arrays, read_arrays_header, read_json, write_arrays, write_json
from wa.methods.algorithm import STANDARD
from wa.methods.alignment import REPORT
from wa.methods.feature_classifier import FeatureClassifier, Learned
from wa.methods.fit import make
from wa.methods.nearest_mean import means_of, similarities

LOGITS = ("trained", "aligned")  # the classifiers whose scores are logits


def logits(weight: np.ndarray, bias: np.ndarray, features: np.ndarray) -> np.ndarray:
    """The scores of a linear classifier: (n, classes).

    weight: (classes, d). bias: (classes,). features: (n, d).
    """
    return features @ weight.T + bias


def scores_of(
    checkpoint: tuple[dict[str, np.ndarray], dict],
    path: str,
    arrays: dict[str, np.ndarray],
    own: FeatureClassifier | None,
) -> np.ndarray:
    """The logits of the classifier in a checkpoint, for the test images: (n, classes).

    checkpoint, path: its tensors and header, and the file. arrays: as from read_features. own: what
    the method's algorithm fits, if it fits anything. It knows a trained classifier that is not
    linear.
    """
    tensors, header = checkpoint
    weight, bias = classifier(tensors, header, path)
    test = arrays["test_features"].astype(np.float32)
    found = None
    if own:
        label, sizes = arrays["label"], header["task_sizes"]
        learned = Learned(arrays["features"], label, sizes, weight, bias, model_of(tensors))
        found = own.logits(learned, test)
    return logits(weight, bias, test) if found is None else found


def confidence(scores: np.ndarray) -> np.ndarray:
    """The softmax probability of the class with the highest score: float32 (n,).

    scores: (n, classes).
    """
    return (1 / np.exp(scores - scores.max(axis=1, keepdims=True)).sum(axis=1)).astype(np.float32)


def check_origin(path: str, header: dict, trained: dict, trained_path: str) -> None:
    """Raise UserError unless the header of the file `path` names the trained model."""
    if header.get("from_trained") != trained.get("content_sha256"):
        raise UserError(f"{path} was made from another model than {trained_path}")


def read_features(path: str) -> dict[str, np.ndarray]:
    """The arrays of features.npz that are needed here. Raises UserError if one is absent."""
    return read_arrays(
        path,
        features="f:nd",
        label="i:n",
        index="i:n",
        test_features="f:md",
        test_label="i:m",
    )


def check_features(
    arrays: dict[str, np.ndarray], weight: np.ndarray, path: str, trained_path: str
) -> None:
    """Raise UserError unless the features of the file `path` fit the classifier's rows `weight`."""
    for labels in (arrays["test_label"], arrays["label"]):
        if labels.min() < 0 or labels.max() >= len(weight):
            raise UserError(f"{path} has labels of classes that {trained_path} does not know")
    width = arrays["test_features"].shape[1]
    if weight.shape[1] != width:
        raise UserError(
            f"{trained_path} classifies {weight.shape[1]} features, but {path} has {width}"
        )


def write_results(
    args: argparse.Namespace,
    scores: dict[str, np.ndarray],
    label: np.ndarray,
    task_sizes: list[int],
    alignment: dict,
    made_from: dict,
) -> None:
    """Write predictions.npz and metrics.json.

    scores: classifier -> (n, classes). label: integers (n,). alignment: what alignment.json says.
    made_from: the header of the metrics.
    """
    top = {name: top_k(s, 5) for name, s in scores.items()}
    confidences = {name: confidence(s) for name, s in scores.items() if name in LOGITS}
    predicted = {name: best[:, 0].astype(np.int32) for name, best in top.items()}
    probabilities = {f"{name}_confidence": values for name, values in confidences.items()}
    write_arrays(args.predictions, label=label, **predicted, **probabilities)
    metrics = {CLASSES: count_by_class(predicted, label, sum(task_sizes))}
    for name, best in top.items():
        metrics[name] = task_metrics(
            best,
            label,
            task_sizes,
            confidences.get(name),
            alignment["row_norms"].get(name, ()),
            alignment["gamma"] if name == "trained" else None,
            best_of_own_task(scores[name], label, task_sizes),
        )
    write_json(args.metrics, {"header": made_from} | metrics)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Predictions and metrics of every classifier after a task."
    )
    add = parser.add_argument
    add("--features", required=True, help="features.npz of the task")
    add("--trained", required=True, help="trained.safetensors")
    add("--model", required=True, help="model.safetensors")
    add("--alignment", required=True, help="alignment.json")
    add("--ranking", nargs="?", help="the ranking of all images learned so far")
    add(
        "--memory",
        type=Memory.parse,
        default=Memory(),
        help="exemplars in total (2000), per class (20/class), or `all` (default: 0, none)",
    )
    add("--fitted", nargs="?", help="fitted.npz, of a method whose algorithm fits a classifier")
    add("--algorithm", default=STANDARD, help="the method's algorithm (default: standard)")
    add("--options", nargs="*", default=[], metavar="NAME=VALUE", help="of the algorithm")
    add("--seed", type=int, default=0, help="that of the run (default: 0)")
    add("--predictions", required=True, help="to write: predictions.npz")
    add("--metrics", required=True, help="to write: metrics.json")
    add("--code", help="digest of the code, for the header (default: found here)")
    return parser.parse_args()


def main() -> None:
    args = parse()
    arrays = read_features(args.features)
    alignment = read_json(args.alignment, REPORT)
    tensors, trained = read_checkpoint(args.trained)
    aligned_tensors, header = read_checkpoint(args.model)
    ranking = read_arrays_header(args.ranking) if args.ranking else {}
    features = read_arrays_header(args.features)
    check_origin(args.features, features, trained, args.trained)
    check_origin(args.model, header, trained, args.trained)
    if args.ranking:
        check_origin(args.ranking, ranking, trained, args.trained)

    weight, _ = classifier(tensors, trained, args.trained)
    check_features(arrays, weight, args.features, args.trained)
    test = arrays["test_features"].astype(np.float32)
    own = make(args.algorithm, args.options, args.seed) if args.fitted else None
    scores = {"trained": scores_of((tensors, trained), args.trained, arrays, own)}
    classifier(aligned_tensors, header, args.model)  # it checks the file
    if alignment["alignment"] != "none":
        scores["aligned"] = scores_of((aligned_tensors, header), args.model, arrays, own)
    if args.memory.keeps:
        means = means_of(arrays, args.memory, args.ranking, args.features)
        scores["nme"] = similarities(test, means)
    fitted = read_arrays_header(args.fitted) if args.fitted else {}
    if args.fitted:
        check_origin(args.fitted, fitted, trained, args.trained)
        scores["fitted"] = own.scores(test, read_arrays(args.fitted))

    made_from = identity.evaluating(
        code=args.code or identity.evaluating_code(Code(identity.CHECKOUT), args.algorithm),
        memory=str(args.memory),
        trained=trained.get("content_sha256"),
        data=features.get("data_sha256"),
        model=header.get("content_sha256"),
        ranking=ranking.get("content_sha256"),
        fitted=fitted.get("content_sha256"),
        options=args.options,
        seed=args.seed,
    )
    label = arrays["test_label"]
    write_results(args, scores, label, header["task_sizes"], alignment, made_from)


if __name__ == "__main__":
    program(main)
