"""Paired statistics over runs: how much better is one method than another?

All methods of a study share class orders, seeds and task 0. So two methods are compared run by run,
and what makes an order hard for both drops out. The runs of one class order count as independent.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

FEWEST = 6  # pairs: with fewer, no permutation of signs can reach p < 0.05
CHOICES = 2**16  # of signs: all of them for up to 16 pairs, and as many random ones for more


class Difference(NamedTuple):
    """A method compared with the reference, over the pairs of runs that both have."""

    method: str
    pairs: int
    mean: float  # of method - reference
    low: float  # of the 95 % interval of the mean (Student's t); nan for one pair
    high: float
    p: float  # two-sided; nan for fewer than FEWEST pairs
    p_holm: float  # corrected for the number of methods


def interval(values: np.ndarray | pd.Series) -> tuple[float, float]:
    """The 95 % confidence interval of the mean (Student's t) of values (n,); nan for n < 2."""
    if len(values) < 2:
        return np.nan, np.nan
    mean, error = values.mean(), stats.sem(values)
    if error == 0:
        return mean, mean
    low, high = stats.t.interval(0.95, len(values) - 1, mean, error)
    return float(low), float(high)


def sign_test(differences: np.ndarray) -> float:
    """The two-sided p-value that differences (n,) have a mean of 0: Fisher's permutation of signs.

    If both methods are alike, each difference could as well have the other sign. p is the share of
    all 2^n choices of signs whose sum is at least as far from 0. Of more than 2^16 choices, that
    many are drawn. nan for n < FEWEST. (scipy's permutation_test gives the same, ten times slower.)
    """
    n = len(differences)
    if n < FEWEST:
        return np.nan
    exact, rng = 2**n <= CHOICES, np.random.default_rng(0)
    total, as_far = 2**n if exact else CHOICES, 0
    rounding = 1e-12 * np.abs(differences).sum()
    observed = abs(differences.sum()) - rounding
    for start in range(0, total, 2**12):  # so that many differences need little memory
        rows = np.arange(start, min(start + 2**12, total))
        drawn = rows[:, None] >> np.arange(n) if exact else rng.integers(0, 2, (len(rows), n))
        sums = (1 - 2 * (drawn & 1)) @ differences
        as_far += np.count_nonzero(np.abs(sums) >= observed)
    return as_far / total if exact else (as_far + 1) / (total + 1)


def holm(p: np.ndarray) -> np.ndarray:
    """The p-values (m,) corrected for their number (Holm, 1979). nan stays and does not count."""
    corrected = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known])]
    factors = len(order) - np.arange(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(factors * p[order]), 1)
    return corrected


def by_run(rows: pd.DataFrame, runs: list[str]) -> pd.DataFrame:
    """The values of a metric: a row for each run, a column for each method.

    rows: of one metric, as read_own returns them. runs: the columns that name a run.
    """
    table = rows.pivot(index=runs, columns="method", values="value")
    return table[[method for method in rows["method"].cat.categories if method in table]]


def differences(values: pd.DataFrame, reference: str) -> list[Difference]:
    """Each other method compared with the reference. values: what by_run returns."""
    found = []
    for method in values.columns.drop(reference):
        d = (values[method] - values[reference]).dropna().to_numpy()
        mean = float(d.mean()) if len(d) else np.nan
        found.append(Difference(method, len(d), mean, *interval(d), sign_test(d), np.nan))
    corrected = holm(np.array([each.p for each in found]))
    return [each._replace(p_holm=float(p)) for each, p in zip(found, corrected, strict=True)]


class Ranks(NamedTuple):
    """The ranks of several methods over the same runs (Demsar, JMLR 2006)."""

    mean: dict[str, float]  # method -> its mean rank; 1 is the best
    runs: int
    p: float  # of Friedman's test that all methods are alike
    critical: float  # two mean ranks that differ by more differ significantly (Nemenyi, 5 %)


def ranks(values: pd.DataFrame) -> Ranks:
    """Rank the methods within each run that all of them have. values: (runs, methods >= 3)."""
    values = values.dropna()
    n, k = values.shape
    mean = stats.rankdata(-values.to_numpy(), axis=1).mean(axis=0)
    p = stats.friedmanchisquare(*values.to_numpy().T).pvalue
    q = stats.studentized_range.ppf(0.95, k, np.inf) / np.sqrt(2)
    critical = q * np.sqrt(k * (k + 1) / (6 * n))
    return Ranks(
        dict(zip(values.columns, mean.tolist(), strict=True)), n, float(p), float(critical)
    )
