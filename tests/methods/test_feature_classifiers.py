"""Each classifier on features against its paper's equations, in loops and float64."""

import numpy as np
import pytest

from wa.errors import UserError
from wa.methods import algorithm
from wa.methods.feature_classifier import Learned, sums_by_class

SIZES, D = [3, 2, 2], 6


@pytest.fixture
def tasks():
    """Features and labels of three tasks. The later ones have two exemplars of each old class."""
    rng = np.random.default_rng(0)
    centre = rng.normal(size=(sum(SIZES), D)) + 1.5
    found = []
    for task in range(len(SIZES)):
        n_old, n_seen = sum(SIZES[:task]), sum(SIZES[: task + 1])
        label = np.concatenate([np.repeat(np.arange(n_old), 2), rng.integers(n_old, n_seen, 60)])
        features = np.abs(centre[label] + rng.normal(size=(len(label), D))).astype(np.float32)
        weight, bias = rng.normal(size=(n_seen, D)), rng.normal(size=n_seen)
        found.append(Learned(features, label, SIZES[: task + 1], weight, bias, {}))
    return found


def learn(name: str, tasks: list[Learned], options: dict | None = None):
    """The classifier of an algorithm after all tasks, and what it keeps."""
    own = algorithm.with_defaults(name, options or {})
    classifier = algorithm.load(name, "FeatureClassifier")(own, 0)
    state = {}
    for learned in tasks:
        state = classifier.fit(learned, state)
        assert all(isinstance(array, np.ndarray | np.generic) for array in state.values())
    return classifier, state


def images_of(tasks: list[Learned]) -> dict[int, np.ndarray]:
    """The images of each class, of the task that brought it: float64 (n, d)."""
    found = {}
    for learned in tasks:
        for c in range(learned.n_old, sum(learned.sizes)):
            found[c] = learned.features[learned.label == c].astype(np.float64)
    return found


def test_sums_by_class_may_have_gaps():
    features, label = np.arange(8.0).reshape(4, 2), np.array([2, 0, 2, 3])
    expected = [features[label == c].sum(axis=0) for c in range(4)]
    np.testing.assert_array_equal(sums_by_class(features, label, 0, 4), expected)
    np.testing.assert_array_equal(sums_by_class(features, label, 2, 4), expected[2:])


def test_simplecil(tasks):
    classifier, state = learn("simplecil", tasks)
    test = tasks[0].features[:20]
    found = classifier.scores(test, state)
    for x, row in zip(test.astype(np.float64), found, strict=True):
        for c, images in images_of(tasks).items():
            mean = sum(images) / len(images)
            cosine = x @ mean / np.sqrt((x @ x) * (mean @ mean))
            assert row[c] == pytest.approx(cosine, rel=1e-5)


def test_slda(tasks):
    classifier, state = learn("slda", tasks, {"shrinkage": 0.01})
    images = images_of(tasks)
    scatter, count = np.zeros((D, D)), 0
    for of_class in images.values():
        mean = sum(of_class) / len(of_class)
        for x in of_class:
            scatter += np.outer(x - mean, x - mean)
            count += 1
    inverse = np.linalg.inv(0.99 * scatter / count + 0.01 * np.eye(D))
    test = tasks[1].features[:20]
    found = classifier.scores(test, state)
    for x, row in zip(test.astype(np.float64), found, strict=True):
        for c, of_class in images.items():
            mean = of_class.mean(axis=0)
            assert row[c] == pytest.approx(x @ inverse @ mean - mean @ inverse @ mean / 2)


def test_fecam(tasks):
    classifier, state = learn("fecam", tasks)
    test = tasks[1].features[:20]
    found = classifier.scores(test, state)
    for c, images in images_of(tasks).items():
        covariance = np.cov(np.sqrt(images).T)
        for _ in range(2):
            variance = np.mean([covariance[i, i] for i in range(D)])
            beside = np.mean([covariance[i, j] for i in range(D) for j in range(D) if i != j])
            for i in range(D):
                for j in range(D):
                    covariance[i, j] += variance if i == j else beside
        correlation = np.empty((D, D))
        for i in range(D):
            for j in range(D):
                root = np.sqrt(covariance[i, i] * covariance[j, j])
                correlation[i, j] = covariance[i, j] / root
        inverse = np.linalg.pinv(correlation)
        mean = np.sqrt(images.mean(axis=0))
        mean /= np.linalg.norm(mean)
        for x, row in zip(test.astype(np.float64), found, strict=True):
            x = np.sqrt(x / np.linalg.norm(x))
            apart = x / np.linalg.norm(x) - mean
            assert row[c] == pytest.approx(-(apart @ inverse @ apart), rel=1e-3)


@pytest.mark.parametrize("kept, feature", [(1, 1.0), (5, 0.0), (5, -1.0), (0, 1.0)])
def test_fecam_refuses_a_class_without_a_covariance(tasks, kept, feature):
    """One image, features that are all zero or negative, or no image."""
    last = tasks[2]
    rows = np.flatnonzero(last.label == 6)[:kept]
    others = np.flatnonzero(last.label != 6)
    features = np.concatenate([last.features[others], feature * np.abs(last.features[rows])])
    label = np.concatenate([last.label[others], last.label[rows]])
    with pytest.raises(UserError, match=rf"Class 6 of the class order.* has {kept} images"):
        learn("fecam", [*tasks[:2], last._replace(features=features, label=label)])


def test_ranpac(tasks, monkeypatch):
    classifier, state = learn("ranpac", tasks, {"projections": 30})
    images, classes = images_of(tasks), sum(SIZES)
    gram, sums = np.zeros((30, 30)), np.zeros((30, classes))
    for c, of_class in images.items():
        for x in of_class:
            h = classifier.projected(x[None])[0].astype(np.float64)
            gram += np.outer(h, h)
            sums[:, c] += h
    np.testing.assert_allclose(np.tril(state["gram"]), np.tril(gram), rtol=1e-4)
    np.testing.assert_allclose(state["sums"], sums, rtol=1e-4)
    last = tasks[-1]
    new = last.label >= last.n_old
    h = classifier.projected(last.features[new])
    y = np.eye(SIZES[-1], dtype="f4")[last.label[new] - last.n_old]
    ridge = float(classifier.ridge(h, y))
    expected = np.linalg.inv(gram + ridge * np.eye(30)) @ sums
    scores = classifier.scores(last.features, state)
    naive = classifier.projected(last.features).astype(np.float64) @ expected
    np.testing.assert_allclose(scores, naive, rtol=0.02, atol=0.02)

    order = np.random.default_rng(0).permutation(len(h))
    fitted, held = order[: int(0.8 * len(h))], order[int(0.8 * len(h)) :]
    errors = []
    for each in 10.0 ** np.arange(-8, 9):
        f = h[fitted].astype(np.float64)
        w = np.linalg.solve(f.T @ f + each * np.eye(30), f.T @ y[fitted])
        errors.append(np.square(h[held] @ w - y[held]).mean())
    assert errors[int(np.log10(ridge)) + 8] <= min(errors) * 1.01


def test_ranpac_takes_a_larger_lambda_if_float32_has_no_room_for_it(tasks, monkeypatch):
    classifier, _ = learn("ranpac", tasks, {"projections": 300})
    monkeypatch.setattr(classifier, "ridge", lambda h, y: 1e-8)
    state = classifier.fit(tasks[0], {})  # 60 images, so the matrix has a rank of 60
    scores = classifier.scores(tasks[0].features, state)
    assert np.abs(scores).max() < 10
    assert (scores.argmax(axis=1) == tasks[0].label).mean() > 0.9


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits)
    return powers / powers.sum()


def test_il2m(tasks):
    classifier, state = learn("il2m", tasks)

    def mean_score(learned: Learned, c: int) -> float:
        rows = learned.features[learned.label == c].astype(np.float64)
        return np.mean([softmax(learned.weight @ x + learned.bias)[c] for x in rows])

    def confidence(learned: Learned) -> float:
        rows = learned.features[learned.label >= learned.n_old].astype(np.float64)
        return np.mean([softmax(learned.weight @ x + learned.bias).max() for x in rows])

    last, test = tasks[-1], tasks[0].features[:30]
    found = classifier.scores(test, state)
    changed = 0
    for x, row in zip(test.astype(np.float64), found, strict=True):
        expected = softmax(last.weight @ x + last.bias)
        if expected.argmax() >= last.n_old:
            changed += 1
            for c in range(last.n_old):
                first = tasks[0] if c < 3 else tasks[1]
                expected[c] *= mean_score(first, c) / mean_score(last, c)
                expected[c] *= confidence(last) / confidence(first)
        np.testing.assert_allclose(row, expected)
    assert 0 < changed < 30


def test_il2m_needs_exemplars(tasks):
    new = tasks[1].label >= tasks[1].n_old
    without = tasks[1]._replace(features=tasks[1].features[new], label=tasks[1].label[new])
    with pytest.raises(UserError, match="il2m needs a memory"):
        learn("il2m", [tasks[0], without])
