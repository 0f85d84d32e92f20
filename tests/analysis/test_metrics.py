"""Metrics against cases worked out by hand, and against continuum's Logger where it has them."""

import json

import numpy as np
import pytest

from wa.analysis.evaluate import confidence
from wa.analysis.metrics import (
    accuracy,
    best_of_own_task,
    calibration,
    count_by_class,
    expected_calibration_error,
    metrics_over_tasks,
    own_classifier,
    read_evaluation,
    read_metrics,
    run_metrics,
    task_metrics,
    top_k,
)
from wa.errors import UserError
from wa.methods.nearest_mean import class_means, similarities

# Three tasks of 2, 1 and 1 classes. R, worked out by hand below.
R = np.array([[80.0, np.nan, np.nan], [60.0, 90.0, np.nan], [50.0, 95.0, 70.0]])
A = np.array([80.0, 70.0, 66.25])


def test_run_metrics_by_hand():
    metrics = run_metrics(A, R)
    assert metrics["average_incremental_accuracy"] == pytest.approx((80 + 70 + 66.25) / 3)
    assert metrics["average_incremental_accuracy_without_first"] == pytest.approx((70 + 66.25) / 2)
    assert metrics["forgetting"] == pytest.approx(((80 - 50) + (90 - 95)) / 2)
    assert metrics["backward_transfer"] == pytest.approx(((50 - 80) + (95 - 90)) / 2)
    assert run_metrics(A[:1], R[:1, :1]) == {"average_incremental_accuracy": 80.0}


def test_a_method_is_shown_with_the_classifier_it_names_else_the_aligned_one():
    offered = ["trained", "aligned", "nme"]
    assert own_classifier(offered) == "aligned"
    assert own_classifier(offered, "nme") == "nme"
    # Task 0, or a method that does not align.
    assert own_classifier(["trained", "nme"]) == "trained"


def test_metrics_over_tasks_count_the_trained_classifier_where_none_is_aligned():
    first = {"trained": {"accuracy": 80.0, "accuracy_task_0": 80.0, "top5_accuracy": 90.0}}
    second = {
        "trained": {"accuracy": 10.0, "accuracy_task_0": 20.0, "accuracy_task_1": 0.0},
        "aligned": {
            "accuracy": 60.0,
            "accuracy_task_0": 50.0,
            "accuracy_task_1": 70.0,
            "top5_accuracy": 70.0,
        },
    }
    metrics = metrics_over_tasks([first, second], "aligned", finished=True)
    assert metrics["average_incremental_accuracy"] == 70
    assert metrics["average_incremental_top5_accuracy"] == 80
    assert (metrics["forgetting"], metrics["backward_transfer"]) == (30, -30)
    assert metrics["last_accuracy"] == 60
    assert "last_accuracy" not in metrics_over_tasks([first, second], "aligned", finished=False)


def test_task_metrics_add_what_only_some_classifiers_have():
    top, label = np.array([[0], [1]]), np.array([0, 1])
    plain = task_metrics(top, label, [2])
    more = task_metrics(top, label, [2], np.array([0.5, 1.0]), [1.5, 2.5], 0.7)
    added = {"ece": 25.0, "row_norm_0": 1.5, "row_norm_1": 2.5, "gamma": 0.7}
    assert more == plain | added


def test_images_are_counted_class_by_class():
    label = np.array([0, 0, 0, 2, 2])  # class 1 has no test images
    predicted = {"trained": np.array([0, 1, 0, 0, 2]), "nme": np.array([2, 2, 2, 2, 2])}
    assert count_by_class(predicted, label, 4) == {
        "images": [3, 0, 2, 0],
        "trained": [2, 0, 1, 0],
        "nme": [0, 0, 2, 0],
    }


@pytest.mark.parametrize(
    "counts",
    [
        [],
        {"trained": [1]},
        {"images": [2], "trained": [1, 1]},
        {"images": [2.0], "trained": [1]},
        {"images": [2], "trained": [-1]},
        {"images": 2, "trained": 1},
        {"images": [[2]], "trained": [[1]]},
    ],
)
def test_damaged_counts_are_one_clear_line(tmp_path, counts):
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({"trained": {"accuracy": 50.0}, "classes": counts}))
    with pytest.raises(UserError, match="`classes` must be lists of numbers of images"):
        read_metrics(path)


def test_metrics_of_earlier_versions_have_no_counts(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({"header": {}, "trained": {"accuracy": 50.0}}))
    assert read_evaluation(path) == ({"trained": {"accuracy": 50.0}}, {}, [])


def test_task_metrics_by_hand():
    label = np.array([0, 0, 1, 2, 2, 3])
    scores = np.eye(4)[[0, 1, 1, 2, 3, 3]] * 10 + np.arange(4) / 10  # second best: class 3, or 2
    metrics = task_metrics(top_k(scores, 5), label, [2, 1, 1])
    assert metrics["accuracy"] == pytest.approx(100 * 4 / 6)
    assert metrics["top5_accuracy"] == 100
    assert [metrics[f"accuracy_task_{j}"] for j in range(3)] == pytest.approx([200 / 3, 50, 100])
    assert metrics["accuracy_new"] == 100
    assert metrics["accuracy_old"] == pytest.approx(60)


def test_top_k_ties_go_to_the_lower_class():
    assert top_k(np.array([[1.0, 3.0, 3.0, 0.0]]), 3).tolist() == [[1, 2, 0]]
    assert accuracy(np.array([[1, 2], [0, 3]]), np.array([2, 1])) == 50


def test_nearest_mean_against_its_definition():
    rng = np.random.default_rng(0)
    features, exemplars, labels = (
        rng.normal(size=(50, 8)),
        rng.normal(size=(30, 8)),
        np.arange(30) % 3,
    )
    unit = lambda x: x / np.linalg.norm(x)  # noqa: E731
    means = [unit(np.mean([unit(e) for e in exemplars[labels == c]], axis=0)) for c in range(3)]
    naive = [int(np.argmin([np.linalg.norm(unit(f) - m) for m in means])) for f in features]
    scores = similarities(features, class_means(exemplars, labels))
    assert scores.argmax(axis=1).tolist() == naive


def test_a_class_without_exemplars_is_never_the_nearest():
    """Features with signs can point away from every mean."""
    exemplars, labels = np.array([[1.0, 0.1], [1, -0.1], [1, 0]]), np.array([0, 2, 2])
    means = class_means(exemplars, labels)
    assert not means[1].any()
    scores = similarities(np.array([[-1.0, 0.3], [-1, -0.3]]), means)
    assert scores[:, [0, 2]].max() < 0
    assert scores.argmax(axis=1).tolist() == [0, 2] and (scores[:, 1] < -1).all()


def test_confidence_is_the_softmax_of_the_best():
    scores = np.random.default_rng(0).normal(size=(5, 4)) * 100
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    np.testing.assert_allclose(
        confidence(scores), (e / e.sum(axis=1, keepdims=True)).max(axis=1), rtol=1e-6
    )


def test_against_continuums_logger():
    from continuum.metrics import Logger

    rng, sizes = np.random.default_rng(0), [4, 2, 2]
    logger, a, r = Logger(), [], np.full((3, 3), np.nan)
    label_all = np.repeat(np.arange(8), 25)
    task_all = np.repeat([0, 0, 0, 0, 1, 1, 2, 2], 25)
    for t in range(3):
        seen = task_all <= t
        label, task = label_all[seen], task_all[seen]
        predicted = np.where(
            rng.random(len(label)) < 0.6, label, rng.integers(0, sum(sizes[: t + 1]), len(label))
        )
        logger.add([predicted, label, task], subset="test")
        metrics = task_metrics(predicted[:, None], label, sizes[: t + 1])
        a.append(metrics["accuracy"])
        r[t, : t + 1] = [metrics[f"accuracy_task_{j}"] for j in range(t + 1)]
        assert a[-1] == pytest.approx(100 * logger.accuracy)
        assert r[t, : t + 1].tolist() == pytest.approx([100 * x for x in logger.accuracy_per_task])
        if t < 2:
            logger.end_task()
    ours = run_metrics(np.array(a), r)
    assert ours["average_incremental_accuracy"] == pytest.approx(
        100 * logger.average_incremental_accuracy
    )
    # continuum's sums leave out the task just before (range(k - 2) for 0..k-2, range(i - 1) for
    # 0..i-1). Its backward transfer is the mean over all pairs. From our matrix, its formulas give
    # its numbers.
    assert 100 * logger.forgetting == pytest.approx((r[0, 0] - r[2, 0]) / 2)
    assert 100 * logger.backward_transfer == pytest.approx((r[2, 0] - r[0, 0]) / 3)
    assert ours["forgetting"] == pytest.approx(
        (max(r[0, 0], r[1, 0]) - r[2, 0] + r[1, 1] - r[2, 1]) / 2
    )


def test_if_the_task_is_told_only_its_classes_count():
    sizes, rng = [2, 1, 3], np.random.default_rng(0)
    scores, label = rng.normal(size=(40, 6)), rng.integers(0, 6, 40)
    told = best_of_own_task(scores, label, sizes)
    of_task = {0: [0, 1], 1: [0, 1], 2: [2], 3: [3, 4, 5], 4: [3, 4, 5], 5: [3, 4, 5]}
    naive = [max(of_task[y], key=lambda c: s[c]) for s, y in zip(scores, label, strict=True)]
    assert told.tolist() == naive
    metrics = task_metrics(top_k(scores, 5), label, sizes, told=told)
    assert metrics["task_aware_accuracy"] == pytest.approx(100 * np.mean(told == label))
    assert metrics["task_aware_accuracy"] > metrics["accuracy"]
    assert best_of_own_task(np.zeros((1, 3)), np.array([2]), [1, 2]).tolist() == [1]  # a tie


def test_the_average_if_the_task_is_told():
    tasks = [{"trained": {"accuracy": 50.0, "task_aware_accuracy": a}} for a in (100, 70)]
    found = metrics_over_tasks(tasks, "trained", finished=True)
    assert found["average_incremental_task_aware_accuracy"] == 85
    del tasks[0]["trained"]["task_aware_accuracy"]  # of an earlier version
    found = metrics_over_tasks(tasks, "trained", finished=True)
    assert "average_incremental_task_aware_accuracy" not in found


def test_new_classes_are_predicted_more_often_than_they_occur():
    top = np.array([[2], [2], [2], [1]])
    metrics = task_metrics(top, np.array([0, 0, 2, 1]), [2, 1])
    assert (metrics["predicted_new"], metrics["occurring_new"]) == (75, 25)


def test_calibration_is_that_of_a_loop_over_bins():
    rng = np.random.default_rng(0)
    confidence = np.append(rng.random(200), [0.0, 0.2, 1.0]).astype(np.float32)
    right = rng.random(203) < confidence
    ece = 0.0
    for k in range(5):
        inside = [
            i
            for i, c in enumerate(confidence.astype(float))
            if k / 5 < c <= (k + 1) / 5 or (k == 0 and c == 0)
        ]
        ece += abs(sum(right[i] for i in inside) - sum(float(confidence[i]) for i in inside)) / 203
        assert calibration(confidence, right, 5)[0][k] == len(inside)
    assert expected_calibration_error(confidence, right, 5) == pytest.approx(100 * ece)
    assert expected_calibration_error(
        np.ones(4, np.float32), np.array([True, True, True, False])
    ) == pytest.approx(25)
