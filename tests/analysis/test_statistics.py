"""Paired statistics against calculations by hand, and against scipy's tests of another kind."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from wa.analysis.statistics import by_run, differences, holm, interval, ranks, sign_test


def test_the_permutation_of_signs_counts_all_choices():
    d = np.array([1.0, 2.0, -0.5, 3.0, 0.25, 1.5, 0.1])
    choices = itertools.product((1, -1), repeat=len(d))
    means = np.array([abs(np.mean(d * signs)) for signs in choices])
    expected = np.mean(means >= abs(d.mean()) - 1e-12)
    assert sign_test(d) == pytest.approx(expected)
    assert sign_test(np.full(6, 2.0)) == 2 / 64  # the smallest p of six pairs
    assert np.isnan(sign_test(np.full(5, 2.0)))


@pytest.mark.parametrize("pairs", [6, 10, 25])
def test_it_agrees_with_scipys_permutation_test(pairs):
    d = np.random.default_rng(pairs).normal(0.4, 1, pairs)
    theirs = stats.permutation_test(
        (d,),
        lambda x, axis: x.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**16,
        rng=np.random.default_rng(1),
    )
    assert sign_test(d) == pytest.approx(theirs.pvalue, abs=0.005 if pairs > 16 else 1e-12)


def test_it_agrees_with_students_test_on_many_normal_differences():
    d = np.random.default_rng(0).normal(0.4, 1, 40)
    assert sign_test(d) == pytest.approx(stats.ttest_1samp(d, 0).pvalue, abs=0.01)


def test_the_interval_is_students():
    d = np.array([1.0, 2.0, 4.0])
    half = 4.302653 * d.std(ddof=1) / np.sqrt(3)  # t of 2 degrees of freedom, from a table
    assert interval(d) == pytest.approx((d.mean() - half, d.mean() + half), rel=1e-6)
    assert interval(np.full(3, 2.0)) == (2, 2) and np.isnan(interval(d[:1])).all()


def test_holm_by_hand():
    p = np.array([0.01, 0.04, np.nan, 0.03])
    np.testing.assert_allclose(holm(p), [0.03, 0.06, np.nan, 0.06])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1, 1])


@pytest.fixture
def rows() -> pd.DataFrame:
    """Ten runs of three methods. b is 2 better than a in each run, c is as good as a."""
    rng = np.random.default_rng(1)
    found = []
    for order, seed in itertools.product("12345", (0, 1)):
        hard = rng.normal(60, 5)
        for method, gain in (("a", 0), ("b", 2), ("c", 0)):
            found.append((order, seed, method, hard + gain + rng.normal(0, 0.3)))
    frame = pd.DataFrame(found, columns=["order", "seed", "method", "value"])
    frame["method"] = pd.Categorical(frame["method"], ["a", "b", "c"], ordered=True)
    return frame


def test_pairs_are_runs_of_the_same_order_and_seed(rows):
    values = by_run(rows, ["order", "seed"])
    b, c = differences(values, "a")
    assert (b.method, b.pairs, c.method) == ("b", 10, "c")
    assert b.low < 2 < b.high and b.high - b.low < 1 and b.p == 2 / 2**10
    assert b.p_holm == 2 * b.p and c.p_holm == c.p > 0.05
    theirs = stats.ttest_rel(values["b"], values["a"]).confidence_interval()
    assert (b.low, b.high) == pytest.approx(tuple(theirs))
    unpaired = stats.ttest_ind(values["b"], values["a"], equal_var=False).confidence_interval()
    assert (unpaired.high - unpaired.low) / (b.high - b.low) > 5


def test_a_run_that_one_method_lacks_is_no_pair(rows):
    values = by_run(rows[~((rows["method"] == "b") & (rows["order"] == "3"))], ["order", "seed"])
    b, c = differences(values, "a")
    assert (b.pairs, c.pairs) == (8, 10)
    assert ranks(values).runs == 8


def test_ranks_and_their_critical_difference(rows):
    found = ranks(by_run(rows, ["order", "seed"]))
    assert found.mean["b"] == 1 and sum(found.mean.values()) == pytest.approx(6)
    # Demsar (2006), table 5: q is 2.343 for three methods.
    assert found.critical == pytest.approx(2.343 * np.sqrt(3 * 4 / (6 * 10)), rel=1e-3)
    assert found.p < 0.001 and found.runs == 10
