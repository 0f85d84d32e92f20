"""Herding: rank the images of a class so that every prefix has a mean close to the class's mean.

    python -m wa.methods.selection --features features.npz --previous ../herding.npz \
        --output herding.npz
    python -m wa.methods.selection --features features.npz --previous ../random.npz \
        --output random.npz --selection random --seed 0

Rebuffi et al., "iCaRL: Incremental Classifier and Representation Learning", CVPR 2017, algorithm 4.
With features of length 1 the k-th exemplar is

    p_k = argmin_x || mu - (phi(x) + sum_{j<k} phi(p_j)) / k ||
        = argmax_x  phi(x) . (k mu - sum_{j<k} phi(p_j))

Each image is taken once, so the ranking goes on to the last image. A memory of any size is a prefix
of it. The scores need inner products only, so they come from the Gram matrix of phi(x) - mu, in
float64. Of equal scores, the lower index comes first. A random ranking, and one by the distance
from the mean, serve as comparisons.
"""

import argparse
from collections.abc import Sequence

import numpy as np

from wa import identity
from wa.data.packed import goes_on
from wa.errors import UserError, program
from wa.files import content_sha256, read_arrays, read_arrays_header, write_arrays

Seeds = Sequence[tuple[int, int]]


def rank(features: np.ndarray, seeds: Seeds = ()) -> np.ndarray:
    """Rank the images of several classes with the same number of images.

    features: (classes, images, d), any float. Returns int64 (classes, images): the indices of each
    class's images, best first.
    """
    phi = features.astype(np.float64)
    # A feature of length zero stays zero, as in continuum.
    phi /= np.linalg.norm(phi, axis=2, keepdims=True) + 1e-8
    mu = phi.mean(axis=1)
    # The score phi(x) . (k mu - sum_{j<k} phi(p_j)) for k = 1.
    score = np.einsum("cpd,cd->cp", phi, mu)
    phi -= mu[:, None]
    # fall[:, p, x]: how much the score of x falls when p is taken, up to a constant for all x.
    fall = phi @ phi.mT
    # On the diagonal, so that an image that was taken is never the best again.
    np.einsum("cpp->cp", fall)[:] = np.inf
    each = np.arange(len(phi))
    ranking = np.empty(phi.shape[:2], dtype=np.int64)
    for k in range(phi.shape[1]):
        best = score.argmax(axis=1)
        ranking[:, k] = best
        score -= fall[each, best]
    return ranking


def rank_closest(features: np.ndarray, seeds: Seeds = ()) -> np.ndarray:
    """As rank, but by the distance from the class's mean, the closest first."""
    phi = features.astype(np.float64)
    phi /= np.linalg.norm(phi, axis=2, keepdims=True) + 1e-8
    distance = np.linalg.norm(phi - phi.mean(axis=1, keepdims=True), axis=2)
    return distance.argsort(axis=1, kind="stable")


def rank_random(features: np.ndarray, seeds: Seeds) -> np.ndarray:
    """As rank, but at random. The order of a class depends on its (seed, class) only."""
    images = features.shape[1]
    return np.stack([np.random.RandomState(seed).permutation(images) for seed in seeds])


def rank_classes(
    features: np.ndarray, labels: np.ndarray, selection: str = "herding", seed: int = 0
) -> dict[int, np.ndarray]:
    """Rank the images of every class.

    features: (n, d). labels: integers (n,). Rows with a label below 0 are left out. selection: a
    key of RANKINGS. Returns class -> its row numbers, best first.
    """
    # One sort gives the rows of all classes. A search for each of 1000 classes takes 1000 passes.
    order = labels.argsort(kind="stable")
    classes, starts = np.unique(labels[order], return_index=True)
    rows = {int(c): r for c, r in zip(classes, np.split(order, starts[1:]), strict=True) if c >= 0}
    by_size: dict[int, list[int]] = {}
    for c, r in rows.items():
        by_size.setdefault(len(r), []).append(c)
    ranked = {}
    for size, classes in by_size.items():
        # Gram matrices of at most 32 MB at a time stay in the cache.
        step = max(1, 2**22 // size**2)
        for start in range(0, len(classes), step):
            some = classes[start : start + step]
            together = features[np.stack([rows[c] for c in some])]
            ranking = RANKINGS[selection](together, [(seed, c) for c in some])
            ranked |= {c: rows[c][r] for c, r in zip(some, ranking, strict=True)}
    return {c: ranked[c] for c in sorted(ranked)}


# A ranking is a function of the features (classes, images, d), and a (seed, class) for each class.
# It returns int64 (classes, images): the indices of the images, best first. The default is the
# first of the table.
RANKINGS = {"herding": rank, "closest": rank_closest, "random": rank_random}


def read_ranking(path: str) -> dict[str, np.ndarray]:
    """Read a ranking, such as herding.npz.

    Returns `ranking`, the images of the first class, then of the second, and so on, integers (n,).
    Returns `counts`, the number of images of each class, integers (classes,). Raises UserError if
    the file is damaged, FileNotFoundError if it does not exist.
    """
    herding = read_arrays(path, ranking="i:n", counts="i:c")
    ranking, counts = herding["ranking"], herding["counts"].astype(np.int64)
    if (
        counts.min() < 0
        or counts.max() > len(ranking)
        or counts.sum() != len(ranking)
        or ranking.min() < 0
    ):
        raise UserError(f"{path} cannot be used: its counts do not fit its ranking")
    return herding


def exemplars(herding: dict[str, np.ndarray], per_class: int | None) -> np.ndarray:
    """The memory: the first `per_class` images of each class, or all if that is None.

    herding: what read_ranking returns. Returns indices into the data set, integers (m,).
    """
    ends = np.cumsum(herding["counts"])
    starts = ends - herding["counts"]
    ends = ends if per_class is None else np.minimum(ends, starts + per_class)
    return np.concatenate([herding["ranking"][a:b] for a, b in zip(starts, ends, strict=True)])


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Rank the images of the classes that a task brought."
    )
    parser.add_argument("--features", required=True, help="features.npz of the task")
    parser.add_argument(
        "--previous", nargs="?", help="herding.npz of the task before, whose classes come first"
    )
    parser.add_argument("--selection", choices=RANKINGS, default="herding")
    parser.add_argument("--seed", type=int, default=0, help="seed of a random ranking (default: 0)")
    parser.add_argument("--output", required=True, help="to write: the ranking")
    parser.add_argument("--code", help="digest of the code, for the header (default: found here)")
    args = parser.parse_args()
    features = read_arrays(args.features, features="f:nd", label="i:n", index="i:n")
    previous = {"ranking": np.empty(0, int), "counts": np.empty(0, int)}
    if args.previous:
        previous = read_ranking(args.previous)
    index, label = features["index"], features["label"]
    first = len(previous["counts"])
    # The label -1 leaves old images out. To select the new ones would copy the features.
    new = np.where(label >= first, label, -1)
    classes = np.unique(new[new >= 0])
    if not np.array_equal(classes, np.arange(first, first + len(classes))) or not len(classes):
        raise UserError(
            f"{args.features} does not follow {args.previous}:"
            f" its new classes are not numbered from {first} on"
        )
    ranked = rank_classes(features["features"], new, args.selection, args.seed)
    header = read_arrays_header(args.features)
    before = read_arrays_header(args.previous) if args.previous else {}
    if args.previous and not goes_on(before.get("data_sha256"), header.get("data_sha256")):
        raise UserError(f"{args.previous} ranks images of other data than {args.features}")
    lengths = [len(r) for r in ranked.values()]
    arrays = {
        "ranking": np.concatenate([previous["ranking"], *(index[r] for r in ranked.values())]),
        "counts": np.concatenate([previous["counts"], lengths]),
    }
    arrays = {name: array.astype(np.int32) for name, array in arrays.items()}
    made_from = identity.selecting(
        code=args.code or identity.code_of("wa.methods.selection", [args.selection]),
        selection=args.selection,
        seed=args.seed if args.selection == "random" else None,
        trained=header.get("from_trained"),
        data=header.get("data_sha256"),
        previous=before.get("content_sha256"),
    )
    write_arrays(args.output, made_from | {"content_sha256": content_sha256(arrays)}, **arrays)


if __name__ == "__main__":
    program(main)
