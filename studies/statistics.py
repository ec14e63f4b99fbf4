"""Means, intervals and tests of paired differences.

    differences, clusters --paired_interval--> Interval ──┐
                          --sign_flip--> p --holm--> p ───┴─verdict--> gain | loss | cannot tell

A difference is score of arm minus score of baseline on one example (compare.example_scores), of the
same seed. Examples that err alike (translations of one item, questions on one paragraph) form a
cluster (compare.cluster_ids); clusters are the units of every error. All functions are pure.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from compare import FEWEST, by_cluster, standard_error

EXACT = 16                      # most units whose sign patterns, 2**EXACT, are all gone through
NODES, WEIGHTS = np.polynomial.legendre.leggauss(64)


class Interval(NamedTuple):
    """A mean and its confidence interval; n counts units. Below compare.FEWEST units low and high
    are nan: cannot tell."""

    mean: float
    low: float
    high: float
    n: int


def mean_sd(values) -> tuple[float, float]:
    """Mean and sample SD (n - 1); the SD of one value is nan."""
    values = np.asarray(values, dtype=float)
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else math.nan


# ---- intervals


def t_quantile(p: float, df: float) -> float:
    """The value below which a share p (0 < p < 1) of Student's t lies; df >= 1, fractions allowed.

    With t = sqrt(df) tan(u) the density is that of cos(u)^(df - 1), which Gauss's rule integrates;
    relative error below 1e-8 for p from .0005 to .9995. The distribution function is concave above
    0, so Newton's steps from the normal quantile rise to the solution and never pass it.
    """
    if p < 0.5:
        return -t_quantile(1 - p, df)
    scale = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(math.pi)
    t = NormalDist().inv_cdf(p)
    for _ in range(100):
        angle = math.atan(t / math.sqrt(df))
        mass = scale * angle / 2 * WEIGHTS @ np.cos(angle / 2 * (NODES + 1)) ** (df - 1)
        density = scale / math.sqrt(df) * (1 + t * t / df) ** (-(df + 1) / 2)
        step = (p - 0.5 - mass) / density
        t += step
        if abs(step) <= 1e-12 * abs(t):
            break
    return float(t)


def t_interval(mean: float, error: float, df: float, n: int, level: float) -> Interval:
    if n < FEWEST or math.isnan(error):
        return Interval(mean, math.nan, math.nan, n)
    half = error * t_quantile((1 + level) / 2, df)
    return Interval(mean, mean - half, mean + half, n)


def units_of(differences, clusters) -> list[tuple[float, int]]:
    """(sum, count) of each cluster; without clusters each difference is its own."""
    return by_cluster(differences, range(len(differences)) if clusters is None else clusters)


def paired_interval(differences: Sequence[float], clusters: Sequence | None = None,
                    level: float = 0.95) -> Interval:
    """The mean difference with its clustered t interval.

    The standard error is compare.standard_error's (CR2), the degrees of freedom Satterthwaite's for
    it under equal variance (Bell and McCaffrey 2002): clusters - 1 when all are equally large, less
    when a few hold most examples. It serves for any number of clusters: from about 50 on the
    percentile bootstrap gives the same but needs draws; below it covers too little, as do a t with
    clusters - 1 and the bootstrap-t where sizes differ (README, "Statistics").
    """
    column = units_of(differences, clusters)
    total = sum(n for _, n in column)
    if not total:
        return Interval(math.nan, math.nan, math.nan, 0)
    shares = np.array([n for _, n in column]) / total
    leverage = shares ** 2 / (1 - shares) if len(column) > 1 else np.ones(1)
    df = 1 / (shares @ shares + leverage.sum() ** 2 - leverage @ leverage)
    mean = math.fsum(a for a, _ in column) / total
    return t_interval(mean, standard_error(column), df, len(column), level)


def two_level_interval(table: Sequence[Sequence[float]], level: float = 0.95) -> Interval:
    """The mean of differences [seeds, clusters], as a draw of both seeds and clusters; n: clusters.

    Two-way random effects: the variance of the mean is (seeds' + clusters' - residual mean square)
    / size, at least the larger of the first two, with Satterthwaite's degrees of freedom, at least
    seeds - 1. A two-level bootstrap of 3 to 5 seeds covers 76 to 99 % instead of 95 (README,
    "Statistics"). One seed says nothing about seeds: cannot tell.
    """
    table = np.asarray(table, dtype=float)
    seeds, clusters = table.shape
    mean = table.mean()
    if seeds < 2 or clusters < 2:
        return Interval(float(mean), math.nan, math.nan, clusters)
    rows, columns = table.mean(1) - mean, table.mean(0) - mean
    residuals = table - mean - rows[:, None] - columns
    seed_square = clusters * (rows @ rows) / (seeds - 1)
    cluster_square = seeds * (columns @ columns) / (clusters - 1)
    residual_square = (residuals ** 2).sum() / ((seeds - 1) * (clusters - 1))
    square = max(seed_square + cluster_square - residual_square, seed_square, cluster_square)
    spread = seed_square ** 2 / (seeds - 1) + cluster_square ** 2 / (clusters - 1)
    df = max(seeds - 1, square ** 2 / spread) if spread else seeds - 1
    return t_interval(float(mean), math.sqrt(square / table.size), df, clusters, level)


def detectable(differences: Sequence[float], clusters: Sequence | None = None) -> float:
    """The smallest true difference that a two-sided test at .05 would find in 80 % of samples like
    this one: 2.8 standard errors (1.96 + 0.84)."""
    return 2.8 * standard_error(units_of(differences, clusters))


# ---- tests


def sign_flip(differences: Sequence[float], clusters: Sequence | None = None, seed: int = 0,
              draws: int = 10_000) -> float:
    """Two-sided p of no difference: how often the mean is as far from 0 when each cluster's
    differences keep or change their signs together, at random.

    Exact over all patterns for at most EXACT clusters whose sum is not 0 (others change nothing);
    else (1 + hits) / (draws + 1) of so many draws. nan where a difference is.
    """
    sums = np.array([a for a, _ in units_of(differences, clusters)])
    sums = sums[sums != 0]
    observed = abs(sums.sum()) * (1 - 1e-9)     # sums in another order may differ in the last bits
    if math.isnan(observed):
        return math.nan
    if len(sums) <= EXACT:
        totals = np.zeros(1)
        for one in sums:
            totals = np.concatenate([totals + one, totals - one])
        return float((abs(totals) >= observed).mean())
    rng, hits = np.random.default_rng(seed), 0
    for block in range(0, draws, 1000):         # 1,000 draws at a time: memory
        keep = rng.integers(0, 2, (min(1000, draws - block), len(sums)), dtype=bool)
        hits += int((abs(2 * (keep @ sums) - sums.sum()) >= observed).sum())
    return (1 + hits) / (draws + 1)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given; nan stays nan and counts as no test."""
    known = sorted((p, place) for place, p in enumerate(ps) if not math.isnan(p))
    adjusted, least = [math.nan] * len(ps), 0.0
    for rank, (p, place) in enumerate(known):
        least = adjusted[place] = max(least, min(1.0, (len(known) - rank) * p))
    return adjusted


def benjamini_hochberg(ps: Sequence[float]) -> list[float]:
    """Adjusted p-values for the false discovery rate; order and nan as in holm."""
    known = sorted((p, place) for place, p in enumerate(ps) if not math.isnan(p))
    adjusted, most = [math.nan] * len(ps), 1.0
    for rank, (p, place) in reversed(list(enumerate(known, start=1))):
        most = adjusted[place] = min(most, len(known) * p / rank)
    return adjusted


def verdict(interval: Interval, adjusted_p: float) -> str:
    """"gain" (interval above 0 and p after Holm below .05), "loss" or "cannot tell"."""
    if adjusted_p < 0.05 and interval.low > 0:
        return "gain"
    if adjusted_p < 0.05 and interval.high < 0:
        return "loss"
    return "cannot tell"
