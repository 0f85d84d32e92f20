"""Fit the classifier of a method's algorithm to the features of a task.

    python -m wa.methods.fit --algorithm simplecil --features features.npz \
        --trained trained.safetensors --previous ../task-0/fitted.npz --output fitted.npz

An algorithm with a FeatureClassifier needs this (wa/methods/feature_classifier.py). It reads no
images.
"""

import argparse

import numpy as np

from wa import identity
from wa.checkpoint import classifier, model_of, read_checkpoint
from wa.code import Code
from wa.errors import UserError, program
from wa.files import content_sha256, read_arrays, read_arrays_header, write_arrays
from wa.methods import algorithm
from wa.methods.feature_classifier import FeatureClassifier, Learned


def make(name: str, options: list[str], seed: int) -> FeatureClassifier:
    """The classifier of an algorithm. options: as the settings hold them."""
    cls = algorithm.load(name, "FeatureClassifier")
    return cls(algorithm.from_words(tuple(options)), seed)


def read_learned(features: str, trained: str) -> tuple[Learned, dict]:
    """What a task left, and the header of its checkpoint.

    Raises UserError if the features were made from another checkpoint.
    """
    tensors, header = read_checkpoint(trained)
    arrays = read_arrays(features, features="f:nd", label="i:n")
    if read_arrays_header(features).get("from_trained") != header.get("content_sha256"):
        raise UserError(f"{features} was made from another model than {trained}")
    weight, bias = classifier(tensors, header, trained)
    learned = Learned(
        arrays["features"],
        arrays["label"],
        header["task_sizes"],
        weight,
        bias,
        model_of(tensors),
    )
    return learned, header


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Fit a method's own classifier to features.")
    add = parser.add_argument
    add("--algorithm", required=True, help="its name, or a Python file")
    add("--options", nargs="*", default=[], metavar="NAME=VALUE", help="of the algorithm")
    add("--seed", type=int, default=0, help="that of the run (default: 0)")
    add("--features", required=True, help="features.npz of the task")
    add("--trained", required=True, help="trained.safetensors")
    add("--previous", nargs="?", help="fitted.npz of the task before")
    add("--output", required=True, help="to write: what the algorithm keeps")
    add("--code", help="digest of the code, for the header (default: found here)")
    return parser.parse_args()


def main() -> None:
    args = parse()
    learned, header = read_learned(args.features, args.trained)
    before, before_header = {}, {}
    if args.previous:
        before, before_header = read_arrays(args.previous), read_arrays_header(args.previous)
    state = make(args.algorithm, args.options, args.seed).fit(learned, before)
    arrays = {name: np.ascontiguousarray(array) for name, array in state.items()}
    made_from = identity.fitting(
        code=args.code or identity.fitting_code(Code(identity.CHECKOUT), args.algorithm),
        name=args.algorithm,
        options=args.options,
        seed=args.seed,
        trained=header.get("content_sha256"),
        data=header.get("data_sha256"),
        previous=before_header.get("content_sha256"),
    )
    write_arrays(args.output, made_from | {"content_sha256": content_sha256(arrays)}, **arrays)


if __name__ == "__main__":
    program(main)
