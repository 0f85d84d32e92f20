"""Herding against continuum's, and against the definition."""

import numpy as np
import pytest

from wa.methods.selection import exemplars, rank, rank_classes


def by_definition(features: np.ndarray) -> list[int]:
    """iCaRL's algorithm 4 as it is printed, without inner products."""
    phi = features / np.linalg.norm(features, axis=1, keepdims=True)
    mu, chosen = phi.mean(axis=0), []
    for k in range(1, len(phi) + 1):
        total = phi[chosen].sum(axis=0)
        distance = [
            np.inf if i in chosen else np.linalg.norm(mu - (phi[i] + total) / k)
            for i in range(len(phi))
        ]
        chosen.append(int(np.argmin(distance)))
    return chosen


@pytest.mark.parametrize("seed", range(5))
def test_as_defined(seed):
    features = np.random.default_rng(seed).normal(size=(2, 40, 8)).astype(np.float32)
    assert rank(features).tolist() == [by_definition(f.astype(float)) for f in features]


def test_as_continuum_as_long_as_continuum_takes_no_image_twice():
    """The rankings agree until continuum takes an image again. Ours takes each image once."""
    from continuum.rehearsal import herd_closest_to_barycenter

    compared = 0
    for seed in range(20):
        features = np.random.default_rng(seed).normal(size=(60, 16)) + 0.5
        labels = np.zeros(60, int)
        index = np.arange(60)
        theirs = herd_closest_to_barycenter(index, labels, labels, features, 60)[0]
        ours = rank(features[None])[0]
        phi = features / np.linalg.norm(features, axis=1, keepdims=True)
        w, taken = phi.mean(axis=0), []
        while (best := int(np.argmax(phi @ w))) not in taken:  # up to continuum's first repetition
            taken.append(best)
            w = w + phi.mean(axis=0) - phi[best]
        assert ours[: len(taken)].tolist() == theirs[: len(taken)].tolist() == taken
        compared += len(taken)
    assert compared > 200


def test_every_prefix_is_the_smaller_memory_and_ties_go_to_the_lower_index():
    images = np.random.default_rng(0).normal(size=(1, 5, 4))
    features = np.repeat(images, 2, axis=1)  # every image twice
    ranking = rank(features)[0]
    assert sorted(ranking) == list(range(10))
    places = {i: place for place, i in enumerate(ranking)}
    assert all(places[2 * pair] < places[2 * pair + 1] for pair in range(5))
    assert rank(features[:, ::2])[0].tolist() == by_definition(features[0, ::2])


def test_classes_of_different_sizes():
    rng = np.random.default_rng(1)
    labels = rng.permutation(np.repeat([3, 5, 7], [10, 20, 10]))
    features = rng.normal(size=(40, 6))
    ranked = rank_classes(features, labels)
    assert list(ranked) == [3, 5, 7]
    for c, rows in ranked.items():
        own = np.flatnonzero(labels == c)
        assert rows.tolist() == own[by_definition(features[own])].tolist()
    herding = {"ranking": np.concatenate(list(ranked.values())), "counts": np.array([10, 20, 10])}
    assert (
        exemplars(herding, 4).tolist() == np.concatenate([r[:4] for r in ranked.values()]).tolist()
    )
    assert len(exemplars(herding, None)) == 40
    assert len(exemplars(herding, 15)) == 35  # a class cannot give more than it has
