"""Alignments: changes of the classifier after training, against its preference for new classes.

    python -m wa.methods.alignment --trained trained.safetensors --alignment weight \
        --output model.safetensors --report alignment.json

Only the classifier changes, so this needs neither images nor torch. If the method's own classifier
is the nearest mean of exemplars, the class means are written into the checkpoint too
(wa/methods/nearest_mean.py). An alignment is a function

    align(weight, bias, n_old, options) -> weight, bias

weight: the classifier's rows, float (classes, d). bias: its biases, float (classes,). n_old: the
number of old classes. The Options hold what only some alignments need. To add an alignment, write
the function and put it into ALIGNMENTS.
"""

import argparse
from typing import NamedTuple

import numpy as np

from wa import identity
from wa.checkpoint import MEANS, classifier, read_checkpoint, with_classifier, write_checkpoint
from wa.data.memory import Memory
from wa.data.packed import are_numbers
from wa.errors import UserError, program
from wa.files import read_arrays, read_arrays_header, write_json
from wa.methods.nearest_mean import CLASSIFIERS

Classifier = tuple[np.ndarray, np.ndarray]
HeldOut = tuple[np.ndarray, np.ndarray] | None


class Options(NamedTuple):
    """What some alignments need beside the classifier."""

    held_out: HeldOut = None  # features (n, d) and labels (n,) of images that were not trained on
    norm: int = 2  # of a row, in gamma: the sum of |w| (1), or the Euclidean norm (2)
    limit: float | None = None  # the largest gamma


DEFAULT = Options()


def row_norms(weight: np.ndarray, norm: int = 2) -> np.ndarray:
    """The norm of each row of `weight` (classes, d), in float64: (classes,). norm: 1 or 2."""
    return np.linalg.norm(weight.astype(np.float64), ord=norm, axis=1)


def gamma(weight: np.ndarray, n_old: int, norm: int = 2, limit: float | None = None) -> float:
    """The mean norm of the old rows, divided by that of the new rows.

    weight: (classes, d), whose first n_old rows are the old ones. limit: gamma is at most this.
    Raises UserError if all new rows are zero.
    """
    norms = row_norms(weight, norm)
    if not norms[n_old:].any():
        raise UserError(
            "the classifier's rows for the new classes are all zero, so they cannot be aligned"
        )
    ratio = float(norms[:n_old].mean() / norms[n_old:].mean())
    return ratio if limit is None else min(ratio, limit)


def align_none(
    weight: np.ndarray, bias: np.ndarray, n_old: int, options: Options = DEFAULT
) -> Classifier:
    """The classifier as training left it."""
    return weight, bias


def align_weight(
    weight: np.ndarray, bias: np.ndarray, n_old: int, options: Options = DEFAULT
) -> Classifier:
    """The new rows scaled by gamma: Zhao et al., CVPR 2020, equations 7 to 9.

    gamma = mean ||w_old|| / mean ||w_new||,   w_new <- gamma w_new
    """
    scale = np.ones((len(weight), 1))
    scale[n_old:] = gamma(weight, n_old, options.norm, options.limit)
    return (weight * scale).astype(weight.dtype), bias


def align_weight_clipped(
    weight: np.ndarray, bias: np.ndarray, n_old: int, options: Options = DEFAULT
) -> Classifier:
    """Negative weights set to 0, then as align_weight.

    This makes the paper's non-negative classifier when the training did not clip.
    """
    return align_weight(np.maximum(weight, 0), bias, n_old, options)


def align_unit(
    weight: np.ndarray, bias: np.ndarray, n_old: int, options: Options = DEFAULT
) -> Classifier:
    """Every row scaled to length 1. A row of zeros stays."""
    norms = np.maximum(row_norms(weight), 1e-12)
    return (weight / norms[:, None]).astype(weight.dtype), bias


def align_bias(
    weight: np.ndarray, bias: np.ndarray, n_old: int, options: Options = DEFAULT
) -> Classifier:
    """The new logits o corrected to alpha o + beta (Wu et al., BiC, CVPR 2019).

    alpha and beta are fitted on held-out images. The correction folds into rows and biases:
    alpha (w x + b) + beta = (alpha w) x + (alpha b + beta). Raises UserError without held_out.
    """
    if options.held_out is None:
        raise UserError(
            "alignment bias is fitted on held-out images. Give the method held_out, such as 0.1."
        )
    features, label = options.held_out
    logits = features @ weight.T.astype(np.float64) + bias
    alpha, beta = fit_bias(logits, label, n_old)
    is_old = np.arange(len(weight)) < n_old
    scale = np.where(is_old, 1.0, alpha)
    shift = np.where(is_old, 0.0, beta)
    return (weight * scale[:, None]).astype(weight.dtype), (bias * scale + shift).astype(bias.dtype)


def bias_loss(
    theta: np.ndarray, fixed: np.ndarray, x: np.ndarray, label: np.ndarray, ridge: float
) -> tuple[float, np.ndarray]:
    """The loss of fit_bias at theta = (alpha, beta), and the probabilities (n, classes).

    The logits are fixed (n, classes), plus alpha and beta times x (2, n, classes).
    """
    z = fixed + np.einsum("i,inc->nc", theta, x)
    z -= z.max(axis=1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    penalty = ridge / 2 * ((theta - [1.0, 0.0]) ** 2).sum()
    return -log_p[np.arange(len(label)), label].mean() + penalty, np.exp(log_p)


def fit_bias(logits: np.ndarray, label: np.ndarray, n_old: int, ridge: float = 1e-4) -> np.ndarray:
    """The (alpha, beta) with the lowest loss, float64 (2,).

    The loss is the mean cross-entropy of the logits [old, alpha new + beta], plus
    ridge/2 ((alpha - 1)^2 + beta^2). The ridge keeps the minimum finite when the images can be
    separated without an error. logits: float64 (n, classes). label: integers (n,).

    The loss is convex. Newton's method finds its minimum, and each step is halved until the loss
    falls.
    """
    x = np.zeros((2, *logits.shape))  # d logits / d (alpha, beta)
    x[0, :, n_old:] = logits[:, n_old:]
    x[1, :, n_old:] = 1
    fixed = np.where(np.arange(logits.shape[1]) < n_old, logits, 0)
    rows = np.arange(len(label))
    start = np.array([1.0, 0.0])
    theta = start
    loss, p = bias_loss(theta, fixed, x, label, ridge)
    for _ in range(100):
        mean = np.einsum("nc,inc->in", p, x)
        gradient = (mean - x[:, rows, label]).mean(axis=1) + ridge * (theta - start)
        hessian = (
            np.einsum("nc,inc,jnc->ij", p, x, x) / len(label)
            - mean @ mean.T / len(label)
            + ridge * np.eye(2)
        )
        step = np.linalg.solve(hessian, gradient)
        if gradient @ step < 1e-12:
            break
        size = 1.0
        new_loss, new_p = bias_loss(theta - step, fixed, x, label, ridge)
        while new_loss > loss and size > 1e-9:
            size /= 2
            new_loss, new_p = bias_loss(theta - size * step, fixed, x, label, ridge)
        theta = theta - size * step
        loss, p = new_loss, new_p
    return theta


ALIGNMENTS = {
    "none": align_none,
    "weight": align_weight,
    "weight-clipped": align_weight_clipped,
    "unit": align_unit,
    "bias": align_bias,
}


NORMS = ("trained", "aligned")
REPORT = {  # what stands in alignment.json
    "alignment": (lambda v: isinstance(v, str), "the name of an alignment"),
    "gamma": (lambda v: v is None or type(v) is float, "a number"),
    "row_norms": (
        lambda v: isinstance(v, dict) and all(are_numbers(v.get(name), -1) for name in NORMS),
        "the norm of each row",
    ),
}


def reported_gamma(
    alignment: str, weight: np.ndarray, n_old: int, options: Options
) -> float | None:
    """Gamma, as the report of an alignment has it.

    It is the factor that weight and weight-clipped apply. The others do not use it, and report that
    of `weight`. None: there are no old classes, or all new rows are zero.
    """
    rows = np.maximum(weight, 0) if alignment == "weight-clipped" else weight
    if not n_old or not rows[n_old:].any():
        return None
    return gamma(rows, n_old, options.norm, options.limit)


def held_out_images(path: str) -> HeldOut:
    """The features (n, d) and labels (n,) of the held-out images. None if there are none.

    path: features.npz of the task. Raises UserError if it is damaged.
    """
    arrays = read_arrays(path, features="f:nd", label="i:n")
    if "held_out" not in arrays:
        return None
    held_out = arrays["held_out"]
    if held_out.dtype != bool or held_out.shape != arrays["label"].shape:
        raise UserError(f"{path} cannot be used: held_out must be a truth value for each image")
    return arrays["features"][held_out].astype(np.float64), arrays["label"][held_out]


def check_means(
    means: np.ndarray, weight: np.ndarray, header: dict, args: argparse.Namespace
) -> None:
    """Raise UserError unless the means (classes, d) belong to the trained model.

    weight: its classifier's rows (classes, d). header: that of its checkpoint.
    """
    for file in (args.features, args.ranking):
        if read_arrays_header(file).get("from_trained") != header.get("content_sha256"):
            raise UserError(f"{file} was made from another model than {args.trained}")
    if means.shape != weight.shape:
        raise UserError(
            f"{args.ranking} gives means of shape {means.shape}, but the classifier of"
            f" {args.trained} has {weight.shape}"
        )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Align the classifier of a trained model.")
    add = parser.add_argument
    add("--trained", required=True, help="the checkpoint that training left")
    add("--alignment", choices=ALIGNMENTS, default="none")
    add(
        "--features",
        nargs="?",
        help="features.npz of the task: alignment bias needs its held-out images, and classifier"
        " nme its exemplars",
    )
    add("--gamma-norm", type=int, choices=(1, 2), default=2, help="norm of a row (default: 2)")
    add("--gamma-limit", type=float, help="the largest gamma (default: none)")
    add(
        "--classifier",
        choices=CLASSIFIERS,
        default="linear",
        help="the method's own classifier; for nme, the class means are written (default: linear)",
    )
    add("--ranking", nargs="?", help="the ranking of all images learned so far, for classifier nme")
    add(
        "--memory",
        type=Memory.parse,
        default=Memory(),
        help="the exemplars, for classifier nme: 2000 in total, 20/class, or all",
    )
    add("--output", required=True, help="to write: the aligned model")
    add(
        "--report",
        required=True,
        help="to write: gamma, and the norms of the rows before and after, as JSON",
    )
    add("--code", help="digest of the code, for the header (default: found here)")
    args = parser.parse_args()
    if args.classifier == "nme" and not (args.features and args.ranking and args.memory.keeps):
        raise UserError("--classifier nme needs --features, --ranking and a --memory")
    return args


def main() -> None:
    args = parse()
    tensors, header = read_checkpoint(args.trained)
    weight, bias = classifier(tensors, header, args.trained)
    sizes = header["task_sizes"]
    n_old = sum(sizes[:-1])
    alignment = args.alignment if n_old else "none"  # the first task has no old classes
    held_out = held_out_images(args.features) if args.features else None
    options = Options(held_out, args.gamma_norm, args.gamma_limit)
    aligned, biases = ALIGNMENTS[alignment](weight, bias, n_old, options)
    ranking = read_arrays_header(args.ranking) if args.ranking else {}
    choices = [args.alignment, "none", args.classifier]
    made_from = identity.aligning(
        code=args.code or identity.code_of("wa.methods.alignment", choices),
        alignment=args.alignment,
        gamma_norm=args.gamma_norm,
        gamma_limit=args.gamma_limit,
        trained=header.get("content_sha256"),
        data=header.get("data_sha256"),
        classifier=args.classifier,
        memory=str(args.memory),
        ranking=ranking.get("content_sha256"),
    )
    tensors = with_classifier(tensors, aligned, biases, sizes)
    means = CLASSIFIERS[args.classifier](args.features, args.ranking, args.memory)
    if means is not None:
        check_means(means, weight, header, args)
        tensors[MEANS] = means
    write_checkpoint(args.output, tensors, header | made_from)
    report = {
        "alignment": alignment,
        "gamma": reported_gamma(alignment, weight, n_old, options),
        "row_norms": {
            "trained": row_norms(weight).tolist(),
            "aligned": row_norms(aligned).tolist(),
        },
    }
    write_json(args.report, report)


if __name__ == "__main__":
    program(main)
