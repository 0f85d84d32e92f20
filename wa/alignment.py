"""Weight aligning: make the rows of the new classes as long, on average, as those of the old ones.

    python -m wa.alignment --trained trained.safetensors --alignment weight --output model.safetensors --report alignment.json

Zhao et al., "Maintaining Discrimination and Fairness in Class Incremental Learning", CVPR 2020, equations 7 to 9:

    gamma = mean ||w_old|| / mean ||w_new||,   w_new <- gamma w_new

Only the classifier's weights change, so this needs neither images nor torch.
"""

import argparse

import numpy as np

from wa.checkpoint import classifier, read_checkpoint, with_weight, write_checkpoint
from wa.files import program, write_json


def row_norms(weight: np.ndarray) -> np.ndarray:
    """The Euclidean norm of each row of `weight` (classes, d), in float64: (classes,)."""
    return np.linalg.norm(weight.astype(np.float64), axis=1)


def gamma(weight: np.ndarray, n_old: int) -> float:
    """The ratio of the mean norm of the n_old old rows of `weight` (classes, d) to that of the new rows."""
    norms = row_norms(weight)
    return float(norms[:n_old].mean() / norms[n_old:].mean())


def align_none(weight: np.ndarray, n_old: int) -> np.ndarray:
    """The weights as training left them."""
    return weight


def align_weight(weight: np.ndarray, n_old: int) -> np.ndarray:
    """`weight` (classes, d) with its new rows scaled by gamma, in the same dtype."""
    scale = np.ones((len(weight), 1))
    scale[n_old:] = gamma(weight, n_old)
    return (weight * scale).astype(weight.dtype)


ALIGNMENTS = {"none": align_none, "weight": align_weight}


def main() -> None:
    parser = argparse.ArgumentParser(description="Align the classifier of a trained model.")
    parser.add_argument("--trained", required=True, help="the checkpoint that training left")
    parser.add_argument("--alignment", choices=ALIGNMENTS, default="none")
    parser.add_argument("--output", required=True, help="the aligned model")
    parser.add_argument("--report", required=True, help="gamma and the norms of the rows before and after, as JSON")
    args = parser.parse_args()
    tensors, facts = read_checkpoint(args.trained)
    sizes = facts["task_sizes"]
    n_old = sum(sizes[:-1])
    alignment = args.alignment if n_old else "none"  # the base task has no old classes to align with
    weight, _ = classifier(tensors, len(sizes))
    aligned = ALIGNMENTS[alignment](weight, n_old)
    write_checkpoint(args.output, with_weight(tensors, aligned, sizes), facts | {"alignment": alignment})
    write_json(
        args.report,
        {
            "alignment": alignment,
            "gamma": gamma(weight, n_old) if n_old else None,
            "row_norms": {"trained": row_norms(weight).tolist(), "aligned": row_norms(aligned).tolist()},
        },
    )


if __name__ == "__main__":
    program(main)
