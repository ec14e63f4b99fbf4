"""Intervals and tests: scipy's values, enumeration by hand, invariances, and simulations.

    python -m pytest -q -s -m slow tests/test_statistics.py      2,000 simulations a cell: a table
"""

import itertools
import math
import random

import numpy as np
import pytest

from conftest import ROOT
from files import read_json
from studies import statistics
from studies.statistics import (Interval, benjamini_hochberg, detectable, holm, mean_sd,
                                paired_interval, sign_flip, t_quantile, two_level_interval, verdict)

RECORDED = read_json(ROOT / "tests/fixtures/scipy_statistics.json")
VALUES = [3.0, -1.0, 2.5, 0.0, 4.0, -2.0, 1.0, 1.5, 6.0, 0.5, -0.5, 2.0, 1.0, 3.5]
GROUPS = list("abcdefgaabbcga")


def test_mean_sd():
    assert mean_sd([1, 2, 4]) == pytest.approx((7 / 3, math.sqrt(7 / 3)))
    mean, sd = mean_sd([5])
    assert mean == 5 and math.isnan(sd)


def test_t_quantiles_are_scipys():
    for p, df, expected in RECORDED["t_quantile"]:
        assert t_quantile(p, df) == pytest.approx(expected, rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("sample", RECORDED["samples"])
def test_without_clusters_interval_and_test_are_scipys(sample):
    found = paired_interval(sample["values"], level=0.9)
    assert (found.low, found.high) == pytest.approx((sample["low_90"], sample["high_90"]))
    assert sign_flip(sample["values"]) == pytest.approx(sample["p"])


def test_the_interval_of_clusters_by_matrices():
    """CR2 and Satterthwaite's degrees of freedom as defined, with the whole hat matrix."""
    names = sorted(set(GROUPS))
    member = np.array([[group == name for name in names] for group in GROUPS], dtype=float)
    n = len(VALUES)
    adjust = np.zeros((n, n))
    for column in member.T:
        own = np.flatnonzero(column)
        block = np.eye(len(own)) - np.ones((len(own), len(own))) / n
        values, vectors = np.linalg.eigh(block)
        adjust[np.ix_(own, own)] = vectors @ np.diag(values ** -0.5) @ vectors.T
    residuals = np.eye(n) - np.ones((n, n)) / n
    weights = [residuals @ adjust @ (column / n) for column in member.T]    # of each cluster's part
    gram = np.array([[a @ b for b in weights] for a in weights])
    error = math.sqrt(sum((w @ VALUES) ** 2 for w in weights))
    df = np.trace(gram) ** 2 / np.trace(gram @ gram)
    found = paired_interval(VALUES, GROUPS)
    half = error * t_quantile(0.975, df)
    assert found == pytest.approx((np.mean(VALUES), np.mean(VALUES) - half, np.mean(VALUES) + half,
                                   len(names)))
    assert detectable(VALUES, GROUPS) == pytest.approx(2.8 * error)


def test_equal_clusters_are_as_their_means():
    values = [1.0, 3.0, 2.0, 6.0, -1.0, 1.0, 0.0, 1.0, 5.0, 4.0, 2.0, 2.0]
    means = [2.0, 4.0, 0.0, 0.5, 4.5, 2.0]
    clusters = [i // 2 for i in range(12)]
    assert paired_interval(values, clusters) == pytest.approx(paired_interval(means))
    assert sign_flip(values, clusters) == sign_flip(means)


def test_invariances():
    base = paired_interval(VALUES, GROUPS)
    order = list(range(len(VALUES)))
    random.Random(1).shuffle(order)
    shuffled = [VALUES[i] for i in order], [GROUPS[i] for i in order]
    assert paired_interval(*shuffled) == pytest.approx(base)
    assert sign_flip(*shuffled) == sign_flip(VALUES, GROUPS)
    assert sign_flip([-v for v in VALUES], GROUPS) == sign_flip(VALUES, GROUPS)
    shifted = paired_interval([10 + 2 * v for v in VALUES], GROUPS)
    assert shifted[:3] == pytest.approx([10 + 2 * value for value in base[:3]])
    mirrored = paired_interval([-v for v in VALUES], GROUPS)
    assert mirrored[:3] == pytest.approx([-base.mean, -base.high, -base.low])
    assert sign_flip([1000 * v for v in VALUES], GROUPS) == sign_flip(VALUES, GROUPS)
    assert sign_flip([*VALUES, 0.0], [*GROUPS, "new"]) == sign_flip(VALUES, GROUPS)


def test_sign_flips_by_enumeration():
    sums = {name: sum(v for v, g in zip(VALUES, GROUPS) if g == name) for name in set(GROUPS)}
    totals = [abs(sum(sign * v for sign, v in zip(signs, sums.values())))
              for signs in itertools.product((1, -1), repeat=len(sums))]
    expected = sum(total >= abs(sum(VALUES)) - 1e-9 for total in totals) / len(totals)
    assert sign_flip(VALUES, GROUPS) == pytest.approx(expected)
    assert sign_flip([1.0] * 6) == 2 / 64 and sign_flip([0.0] * 9) == 1


def test_drawn_sign_flips_are_near_the_exact_p(monkeypatch):
    exact = sign_flip(VALUES)
    monkeypatch.setattr(statistics, "EXACT", 2)
    drawn = sign_flip(VALUES, seed=3, draws=20_000)
    assert drawn == sign_flip(VALUES, seed=3, draws=20_000) != sign_flip(VALUES, seed=4)
    assert abs(drawn - exact) < 4 * math.sqrt(exact * (1 - exact) / 20_000)
    assert sign_flip([1.0] * 40, draws=99) == 1 / 100


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    adjusted = holm([0.01, math.nan, 0.4, 0.4])
    assert math.isnan(adjusted[1])
    assert [adjusted[i] for i in (0, 2, 3)] == pytest.approx([0.03, 0.8, 0.8])
    assert holm([]) == [] and holm([0.9, 0.8]) == [1, 1]


def test_benjamini_hochberg_is_scipys():
    for ps, expected in RECORDED["benjamini_hochberg"]:
        assert benjamini_hochberg(ps) == pytest.approx(expected)
    assert benjamini_hochberg([0.02, math.nan, 0.01])[::2] == pytest.approx([0.02, 0.02])


@pytest.mark.parametrize("units", range(1, 8))
def test_below_six_units_one_cannot_tell(units):
    found = paired_interval([5.0 + i / 10 for i in range(units)])
    assert found.n == units and found.mean == pytest.approx(5 + (units - 1) / 20)
    assert math.isnan(found.low) == math.isnan(found.high) == (units < 6)
    p = sign_flip([5.0 + i / 10 for i in range(units)])
    assert (p < 0.05) == (units >= 6)
    assert verdict(found, p) == ("gain" if units >= 6 else "cannot tell")


def test_verdicts():
    up, down, across = (Interval(m, m - 1, m + 1, 9) for m in (2.0, -2.0, 0.5))
    assert [verdict(one, 0.01) for one in (up, down, across)] == ["gain", "loss", "cannot tell"]
    assert verdict(up, 0.06) == verdict(up, math.nan) == "cannot tell"


def test_one_cluster_holds_everything():
    assert math.isnan(paired_interval(VALUES, ["a"] * len(VALUES)).low)
    assert math.isnan(detectable(VALUES, ["a"] * len(VALUES))) and math.isnan(detectable([1.0]))
    assert sign_flip(VALUES, ["a"] * len(VALUES)) == 1


def test_nothing_and_nan_say_nothing():
    assert all(math.isnan(value) for value in paired_interval([])[:3]) and sign_flip([]) == 1
    unknown = [1.0] * 9 + [math.nan]
    assert math.isnan(sign_flip(unknown)) and math.isnan(paired_interval(unknown).low)
    assert verdict(paired_interval(unknown), sign_flip(unknown)) == "cannot tell"


def test_equal_runs_differ_by_nothing():
    found = paired_interval([0.0] * 30)
    assert found == Interval(0, 0, 0, 30) and verdict(found, sign_flip([0.0] * 30)) == "cannot tell"


def test_two_levels():
    """Seeds that agree: the clusters' interval; seeds that differ: not narrower than theirs."""
    clusters = np.array([1.0, 4.0, -2.0, 0.5, 3.0, 2.0, 5.0])
    agreed = two_level_interval([clusters] * 3)
    assert agreed == pytest.approx(paired_interval(list(clusters)))
    apart = two_level_interval([clusters - 80, clusters, clusters + 80])
    assert apart.mean == pytest.approx(agreed.mean) and apart.n == 7
    half = 80 / math.sqrt(3) * t_quantile(0.975, 2)
    assert apart.high - apart.mean == pytest.approx(half, rel=0.01)
    assert math.isnan(two_level_interval([clusters]).low)
    assert math.isnan(two_level_interval([clusters[:5]] * 3).low)
    assert two_level_interval(np.zeros((3, 8))) == Interval(0, 0, 0, 8)


# ------------------------------------------------------------------------------- simulations

SIZES = {"20 each": lambda rng, n: np.full(n, 20),
         "uneven, mean 9": lambda rng, n: 1 + rng.geometric(1 / 8, n),
         "heavy tail, mean 12": lambda rng, n: np.exp(rng.normal(2, 1, n)).round().clip(1).astype(int)}


def flips(rng, n, mean):
    """Right before and after: 0; gained: 1; lost: -1."""
    return rng.choice([1.0, 0.0, -1.0], n, p=[0.1 + mean / 2, 0.8, 0.1 - mean / 2])


DIFFERENCES = {     # (differences of one cluster of n examples, their expectation)
    "normal": (lambda rng, n: rng.normal(0, 1, n), 0.0),
    "normal, alike in a cluster": (lambda rng, n: rng.normal(0, 1) + rng.normal(0, 1, n), 0.0),
    "-1, 0, 1, no effect": (lambda rng, n: flips(rng, n, 0.0), 0.0),
    "-1, 0, 1, an effect": (lambda rng, n: flips(rng, n, 0.1), 0.1),
    "0, 1, alike in a cluster": (lambda rng, n: (rng.random(n) < rng.beta(3, 3)) * 1.0, 0.5)}


def simulate(differences: str, sizes: str, units: int, rng, times: int) -> tuple[float, float]:
    """Shares in percent: intervals that hold the truth, sign-flip tests below .05 of the truth."""
    draw, truth = DIFFERENCES[differences]
    held = rejected = 0
    for _ in range(times):
        parts = [draw(rng, n) for n in SIZES[sizes](rng, units)]
        clusters = [place for place, part in enumerate(parts) for _ in part]
        values = np.concatenate(parts)
        found = paired_interval(values, clusters)
        held += found.low <= truth <= found.high
        rejected += sign_flip(values - truth, clusters, draws=999) < 0.05
    return 100 * held / times, 100 * rejected / times


def show(capsys, *cells) -> None:
    """A row of README's tables."""
    with capsys.disabled():
        print(f"\n| {' | '.join(map(str, cells))} |", end=" ")


@pytest.mark.slow
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("differences", DIFFERENCES)
def test_coverage_and_rejection(differences, sizes, monkeypatch, capsys):
    monkeypatch.setattr(statistics, "FEWEST", 2)
    rng = np.random.default_rng(0)
    found = {n: simulate(differences, sizes, n, rng, 2000) for n in (5, 10, 20, 48)}
    show(capsys, differences, sizes,
         *(f"{held:.1f} / {rejected:.1f}" for held, rejected in found.values()))
    least = 93 if sizes.startswith("heavy tail") else 93.5
    assert all(least <= held <= 97 and rejected <= 6 for held, rejected in found.values())


def other_intervals(parts: list, rng) -> dict[str, tuple[float, float]]:
    """What paired_interval might have been: 999 draws of clusters, or t with clusters - 1."""
    sums, counts = (np.array([of(part) for part in parts]) for of in (np.sum, len))

    def fit(rows):
        total = counts[rows].sum(-1)
        centre = sums[rows].sum(-1) / total
        squares = (sums[rows] - centre[..., None] * counts[rows]) ** 2
        return centre, np.sqrt(squares.sum(-1) * len(parts) / (len(parts) - 1)) / total

    (centre, error), (drawn, errors) = fit(np.arange(len(parts))), fit(
        rng.integers(0, len(parts), (999, len(parts))))
    low, high = np.quantile((drawn - centre)[errors > 0] / errors[errors > 0], [0.025, 0.975])
    half = t_quantile(0.975, len(parts) - 1) * error
    return {"t, clusters - 1": (centre - half, centre + half),
            "percentile bootstrap": tuple(np.quantile(drawn, [0.025, 0.975])),
            "bootstrap-t": (centre - high * error, centre - low * error)}


@pytest.mark.slow
@pytest.mark.parametrize("sizes", SIZES)
def test_other_intervals_cover_less(sizes, monkeypatch, capsys):
    monkeypatch.setattr(statistics, "FEWEST", 2)
    rng, table = np.random.default_rng(0), {}
    draw, _ = DIFFERENCES["normal, alike in a cluster"]
    for column, units in enumerate((5, 10, 20, 48)):
        for _ in range(2000):
            parts = [draw(rng, n) for n in SIZES[sizes](rng, units)]
            clusters = [place for place, part in enumerate(parts) for _ in part]
            ours = paired_interval(np.concatenate(parts), clusters)
            for name, (low, high) in {"paired_interval": ours[1:3],
                                      **other_intervals(parts, rng)}.items():
                table.setdefault(name, [0] * 4)[column] += low <= 0 <= high
    for name, held in table.items():
        show(capsys, name, sizes, *(f"{count / 20:.1f}" for count in held))
    off = {name: max(abs(count / 20 - 95) for count in held) for name, held in table.items()}
    assert off["paired_interval"] == min(off.values()) or sizes == "20 each"


def two_level_bootstrap(table, rng, draws: int = 400) -> tuple[float, float]:
    seeds, clusters = table.shape
    rows, columns = (rng.multinomial(n, [1 / n] * n, draws) for n in (seeds, clusters))
    return tuple(np.quantile((rows @ table * columns).sum(1) / table.size, [0.025, 0.975]))


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("clusters", [20, 100])
def test_coverage_of_seeds_and_clusters(seeds, clusters, capsys):
    """The SD of a seed's effect varies, beside 0.5 of a cluster's and 1 of the rest."""
    rng, cells = np.random.default_rng(0), []
    for spread in (0, 0.1, 0.3, 1):
        held = [0, 0]
        for _ in range(2000):
            table = (rng.normal(0, 1, (seeds, clusters)) + rng.normal(0, 0.5, clusters)
                     + rng.normal(0, spread, (seeds, 1)))
            intervals = two_level_interval(table)[1:3], two_level_bootstrap(table, rng)
            held = [count + (low <= 0 <= high) for count, (low, high) in zip(held, intervals)]
        cells.append([count / 20 for count in held])
    show(capsys, seeds, clusters, *(f"{ours:.1f} / {bootstrap:.1f}" for ours, bootstrap in cells))
    assert all(92.5 <= ours <= 98.5 for ours, _ in cells)
