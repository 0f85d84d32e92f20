"""Aligning: what is done to the classifier after training, against its preference for the new classes.

    python -m wa.methods.alignment --trained trained.safetensors --alignment weight --output model.safetensors --report alignment.json

Only the classifier changes, so this needs neither images nor torch. An alignment is a function

    align(weight, bias, n_old, options) -> weight, bias

of the classifier's rows, float (classes, d), its biases, float (classes,), and the number of old
classes. The Options hold what only some alignments need. To add an alignment, write it and put it
into ALIGNMENTS.
"""

import argparse
from typing import NamedTuple

import numpy as np

from wa import identity
from wa.checkpoint import classifier, read_checkpoint, with_classifier, write_checkpoint
from wa.data.packed import are_numbers
from wa.errors import UserError, program
from wa.files import read_arrays, write_json

Classifier = tuple[np.ndarray, np.ndarray]
HeldOut = tuple[np.ndarray, np.ndarray] | None


class Options(NamedTuple):
    """What some alignments need beside the classifier."""

    held_out: HeldOut = None  # features (n, d) and labels (n,) of images that were not trained on
    norm: int = 2  # of a row, in gamma: the sum of |w| (1), or the Euclidean norm (2)
    limit: float | None = None  # the largest gamma


DEFAULT = Options()


def row_norms(weight: np.ndarray, norm: int = 2) -> np.ndarray:
    """The norm of each row of `weight` (classes, d), in float64: (classes,). Euclidean by default."""
    return np.linalg.norm(weight.astype(np.float64), ord=norm, axis=1)


def gamma(weight: np.ndarray, n_old: int, norm: int = 2, limit: float | None = None) -> float:
    """The mean norm of the old rows, divided by that of the new rows.

    weight: (classes, d), whose first n_old rows are the old ones. limit: gamma is at most this.
    """
    norms = row_norms(weight, norm)
    if not norms[n_old:].any():
        raise UserError(
            "the classifier's rows for the new classes are all zero: there is nothing to align"
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
    """Negative weights set to 0, then as align_weight: the paper's non-negative classifier, where training did not clip."""
    return align_weight(np.maximum(weight, 0), bias, n_old, options)


def align_unit(
    weight: np.ndarray, bias: np.ndarray, n_old: int, options: Options = DEFAULT
) -> Classifier:
    """Every row scaled to length 1 (a row of zeros stays)."""
    return (weight / np.maximum(row_norms(weight), 1e-12)[:, None]).astype(weight.dtype), bias


def align_bias(
    weight: np.ndarray, bias: np.ndarray, n_old: int, options: Options = DEFAULT
) -> Classifier:
    """The new logits o corrected to alpha o + beta, alpha and beta fitted on held-out images (Wu et al., BiC, CVPR 2019).

    alpha (w x + b) + beta = (alpha w) x + (alpha b + beta): the correction folds into the rows and the biases.
    """
    if options.held_out is None:
        raise UserError(
            "alignment bias is fitted on held-out images: give the method held_out, for instance 0.1"
        )
    features, label = options.held_out
    alpha, beta = fit_bias(features @ weight.T.astype(np.float64) + bias, label, n_old)
    scale = np.where(np.arange(len(weight)) < n_old, 1.0, alpha)
    shift = np.where(np.arange(len(weight)) < n_old, 0.0, beta)
    return (weight * scale[:, None]).astype(weight.dtype), (bias * scale + shift).astype(bias.dtype)


def fit_bias(logits: np.ndarray, label: np.ndarray, n_old: int, ridge: float = 1e-4) -> np.ndarray:
    """(alpha, beta) that minimise the mean cross-entropy of [old, alpha new + beta] + ridge/2 ((alpha - 1)^2 + beta^2).

    logits: (n, classes), float64; label: (n,). Convex: Newton's method, each step halved until the loss falls. The ridge
    keeps the minimum finite when the images can be told apart without an error.
    """
    x = np.zeros((2, *logits.shape))  # d logits / d (alpha, beta)
    x[0, :, n_old:], x[1, :, n_old:] = logits[:, n_old:], 1
    fixed = np.where(np.arange(logits.shape[1]) < n_old, logits, 0)
    rows, start = np.arange(len(label)), np.array([1.0, 0.0])

    def at(theta: np.ndarray) -> tuple[float, np.ndarray]:
        z = fixed + np.einsum("i,inc->nc", theta, x)
        z -= z.max(axis=1, keepdims=True)
        log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        return -log_p[rows, label].mean() + ridge / 2 * ((theta - start) ** 2).sum(), np.exp(log_p)

    theta = start
    loss, p = at(theta)
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
        while (new := at(theta - size * step))[0] > loss and size > 1e-9:
            size /= 2
        theta, (loss, p) = theta - size * step, new
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


def held_out_images(path: str) -> HeldOut:
    """The features (n, d) and labels (n,) of the images that the training held out, if any."""
    arrays = read_arrays(path, features="f:nd", label="i:n")
    if "held_out" not in arrays:
        return None
    if (held_out := arrays["held_out"]).dtype != bool or held_out.shape != arrays["label"].shape:
        raise UserError(f"{path} cannot be used: held_out must hold a truth value an image")
    return arrays["features"][held_out].astype(np.float64), arrays["label"][held_out]


def main() -> None:
    parser = argparse.ArgumentParser(description="Align the classifier of a trained model.")
    parser.add_argument("--trained", required=True, help="the checkpoint that training left")
    parser.add_argument("--alignment", choices=ALIGNMENTS, default="none")
    parser.add_argument(
        "--features",
        nargs="?",
        help="features.npz of the task: its held-out images, for alignment bias",
    )
    parser.add_argument(
        "--gamma-norm", type=int, choices=(1, 2), default=2, help="norm of a row (default: 2)"
    )
    parser.add_argument("--gamma-limit", type=float, help="the largest gamma (default: none)")
    parser.add_argument("--output", required=True, help="the aligned model")
    parser.add_argument(
        "--report", required=True, help="gamma and the norms of the rows before and after, as JSON"
    )
    parser.add_argument("--code", help="digest of the code, for the header (default: found here)")
    args = parser.parse_args()
    tensors, header = read_checkpoint(args.trained)
    weight, bias = classifier(tensors, header, args.trained)
    sizes = header["task_sizes"]
    n_old = sum(sizes[:-1])
    alignment = args.alignment if n_old else "none"  # the first task has no old classes
    held_out = held_out_images(args.features) if args.features else None
    options = Options(held_out, args.gamma_norm, args.gamma_limit)
    aligned, biases = ALIGNMENTS[alignment](weight, bias, n_old, options)
    made_from = identity.aligning(
        code=args.code or identity.code_of("wa.methods.alignment", [args.alignment, "none"]),
        alignment=args.alignment,
        gamma_norm=args.gamma_norm,
        gamma_limit=args.gamma_limit,
        trained=header.get("content_sha256"),
    )
    tensors = with_classifier(tensors, aligned, biases, sizes)
    write_checkpoint(args.output, tensors, header | made_from)
    report = {
        "alignment": alignment,
        "gamma": gamma(weight, n_old, options.norm, options.limit) if n_old else None,
        "row_norms": {
            "trained": row_norms(weight).tolist(),
            "aligned": row_norms(aligned).tolist(),
        },
    }
    write_json(args.report, report)


if __name__ == "__main__":
    program(main)
