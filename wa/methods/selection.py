"""Herding: rank the images of a class so that every prefix has a mean close to the class's mean.

    python -m wa.methods.selection --features features.npz --previous ../herding.npz --output herding.npz
    python -m wa.methods.selection --features features.npz --previous ../random.npz --output random.npz --selection random --seed 0

Rebuffi et al., "iCaRL: Incremental Classifier and Representation Learning", CVPR 2017, algorithm 4. With features of
length 1 the k-th exemplar is

    p_k = argmin_x || mu - (phi(x) + sum_{j<k} phi(p_j)) / k ||  =  argmax_x  phi(x) . (k mu - sum_{j<k} phi(p_j))

Each image is taken once, so the ranking goes on to the last image and a memory of any size is a prefix of it. The
scores need inner products only, hence the Gram matrix (of phi(x) - mu: symmetric, so half of it need be computed), in
float64; ties go to the lower index. A random ranking, and one by the distance from the mean, are there to compare with.
"""

import argparse
from collections.abc import Sequence

import numpy as np

from wa import identity
from wa.errors import UserError, program
from wa.files import content_sha256, read_arrays, read_arrays_header, write_arrays

Seeds = Sequence[tuple[int, int]]


def rank(features: np.ndarray, seeds: Seeds = ()) -> np.ndarray:
    """Rank the images of several classes with the same number of images.

    features: (classes, images, d), any float. Returns int64 (classes, images): the images' indices, best first.
    """
    phi = features.astype(np.float64)
    # A feature of length zero stays zero, as in continuum.
    phi /= np.linalg.norm(phi, axis=2, keepdims=True) + 1e-8
    mu = phi.mean(axis=1)
    # The score phi(x) . (k mu - sum_{j<k} phi(p_j)) for k = 1.
    score = np.einsum("cpd,cd->cp", phi, mu)
    phi -= mu[:, None]
    # fall[:, p, x]: how much the score of x falls when p is taken, up to what is the same for all x.
    fall = phi @ phi.mT
    # The diagonal: an image that was taken is never the best again.
    np.einsum("cpp->cp", fall)[:] = np.inf
    each = np.arange(len(phi))
    ranking = np.empty(phi.shape[:2], dtype=np.int64)
    for k in range(phi.shape[1]):
        best = ranking[:, k] = score.argmax(axis=1)
        score -= fall[each, best]
    return ranking


def rank_closest(features: np.ndarray, seeds: Seeds = ()) -> np.ndarray:
    """As rank, by the distance from the class's mean alone, the closest first."""
    phi = features.astype(np.float64)
    phi /= np.linalg.norm(phi, axis=2, keepdims=True) + 1e-8
    return np.linalg.norm(phi - phi.mean(axis=1, keepdims=True), axis=2).argsort(
        axis=1, kind="stable"
    )


def rank_random(features: np.ndarray, seeds: Seeds) -> np.ndarray:
    """As rank, at random: a function of (seed, class)."""
    images = features.shape[1]
    return np.stack([np.random.RandomState(seed).permutation(images) for seed in seeds])


def rank_classes(
    features: np.ndarray, labels: np.ndarray, selection: str = "herding", seed: int = 0
) -> dict[int, np.ndarray]:
    """Rank the images of every class in `labels` (n,).

    Returns class -> row numbers of `features` (n, d), best first. Rows with a label below 0 are left out.
    """
    # Rows class by class: looking for the rows of each class would take 1000 passes for 1000 classes.
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


# A ranking is a function of the features (classes, images, d) and a (seed, class) for each class. It returns
# int64 (classes, images): the indices of the images, best first. The default comes first.
RANKINGS = {"herding": rank, "closest": rank_closest, "random": rank_random}


def read_ranking(path: str) -> dict[str, np.ndarray]:
    """herding.npz: `ranking`, the images of each class one class after the other, and `counts`, how many each has."""
    herding = read_arrays(path, ranking="i:n", counts="i:c")
    ranking, counts = herding["ranking"], herding["counts"].astype(np.int64)
    if (
        counts.min() < 0
        or counts.max() > len(ranking)
        or counts.sum() != len(ranking)
        or ranking.min() < 0
    ):
        raise UserError(f"{path} cannot be used: its counts are not those of its ranking")
    return herding


def exemplars(herding: dict[str, np.ndarray], per_class: int | None) -> np.ndarray:
    """The memory: the first `per_class` images of each class's ranking (None: all), as data set indices (m,)."""
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
        "--previous", nargs="?", help="herding.npz of the task before; its classes come first"
    )
    parser.add_argument("--selection", choices=RANKINGS, default="herding")
    parser.add_argument("--seed", type=int, default=0, help="of a random ranking")
    parser.add_argument("--output", required=True)
    parser.add_argument("--code", help="digest of the code, for the header (default: found here)")
    args = parser.parse_args()
    features = read_arrays(args.features, features="f:nd", label="i:n", index="i:n")
    previous = (
        read_ranking(args.previous)
        if args.previous
        else {"ranking": np.empty(0, int), "counts": np.empty(0, int)}
    )
    index, label, first = features["index"], features["label"], len(previous["counts"])
    new = np.where(
        label >= first, label, -1
    )  # a label, not a selection: that would copy the features
    classes = np.unique(new[new >= 0])
    if not np.array_equal(classes, np.arange(first, first + len(classes))) or not len(classes):
        raise UserError(
            f"{args.features} does not follow {args.previous}: its new classes are not numbered from {first} on"
        )
    ranked = rank_classes(features["features"], new, args.selection, args.seed)
    header = read_arrays_header(args.features)
    before = read_arrays_header(args.previous) if args.previous else {}
    if args.previous and before.get("data_sha256") != header.get("data_sha256"):
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
        previous=before.get("content_sha256"),
    )
    content = {"content_sha256": content_sha256(arrays), "data_sha256": header.get("data_sha256")}
    write_arrays(args.output, made_from | content, **arrays)


if __name__ == "__main__":
    program(main)
