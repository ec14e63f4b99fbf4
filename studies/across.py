"""Differences over languages: the language is the unit, its seeds are averaged first.

    runs --column--> language -> seed -> score --combine--> differences --effect--> Effect
    Effect, Effect, ... --conclude--> Told, Told, ... --lines, table--> report

A column holds scores, or differences of scores, in points. Whether a difference holds for languages
is asked of the languages: their mean has a t interval with standard errors clustered by family
(CR2, statistics.paired_interval), and its p comes from flipping the signs of whole families. The p
of flipping languages stands beside it and decides nothing: where relatives are alike it finds what
is not there (in the 49 languages of XTREME-R, families varying as much as the languages in them:
43 % of 1,000 true nulls below .05; flips of families 5 %, intervals without 0 7 %). How much a run
differs from another by chance is inside: seeds are averaged, and what is left of their noise
spreads the languages.

**The rule.** All effects that one conclusion tells of are corrected together (Holm). An effect
counts as up or down where its interval leaves out 0 and its adjusted p is below .05; else we cannot
tell, and the smallest difference that so many languages would have shown with 80 % power stands
beside it. Below six families nothing can be told.
"""

import math
from collections.abc import Iterator
from statistics import mean
from typing import NamedTuple

import numpy as np

from studies import report, statistics
from studies.effects import UNTOLD
from studies.languages import Language
from studies.page import Table

Column = dict[str, dict[int, float]]    # language -> seed -> points


class Effect(NamedTuple):
    """One difference over languages."""

    label: str                          # of what: an arm, a group
    what: str                           # the contrast
    words: tuple[str, str]              # for up and down
    languages: dict[str, float]         # language -> difference, mean over seeds
    by_seed: list[float]                # mean over languages, of the seeds that all of them have
    sound: float                        # the mean without degenerate runs; nan: none is left
    interval: statistics.Interval       # n: families
    p: float                            # sign flips over languages
    p_families: float                   # ... over families
    detectable: float
    certain: int                        # languages that differ, each tested over its seeds


class Told(NamedTuple):
    effect: Effect
    p: float                            # Holm over all effects told together
    words: str


# ---------------------------------------------------------------------------------- columns


def column(runs: dict, key: str = "", sound: bool = False, languages=None) -> Column:
    """Scores of finished runs (results.Run by seed) in their zero-shot languages, or in those that
    are named; key: a value of metrics.json instead of the main score, left out where there is
    none; sound: without degenerate runs."""
    found = {}
    for seed, run in runs.items():
        if sound and run.degenerate:
            continue
        for lang in languages if languages is not None else run.zero_shot():
            values = run.record["languages"].get(lang, {})
            if values.get("labels") and (not key or key in values):
                score = values[key] if key else run.score(lang)
                found.setdefault(lang, {})[seed] = score
    return found


def combine(*terms: tuple[float, Column]) -> Column:
    """The sum of weight times column, for languages and seeds that all of them have."""
    columns = [one for _, one in terms]
    shared = [lang for lang in columns[0] if all(lang in one for one in columns)]
    found = {}
    for lang in shared:
        seeds = sorted(set.intersection(*(set(one[lang]) for one in columns)))
        if seeds:
            found[lang] = {seed: math.fsum(weight * one[lang][seed] for weight, one in terms)
                           for seed in seeds}
    return found


def average(columns: list[Column]) -> Column:
    return combine(*((1 / len(columns), one) for one in columns)) if columns else {}


def means(one: Column) -> dict[str, float]:
    """language -> mean over its seeds."""
    return {lang: mean(values.values()) for lang, values in one.items()}


def only(one: Column, languages) -> Column:
    return {lang: values for lang, values in one.items() if lang in languages}


# ---------------------------------------------------------------------------------- effects


def effect(label: str, what: str, words: tuple[str, str], values: Column, sound: Column,
           facts: dict[str, Language]) -> Effect | None:
    """The tests of a column of differences; sound: the same without degenerate runs. None without
    a language."""
    if not values:
        return None
    languages = means(values)
    points, families = list(languages.values()), [facts[lang].family for lang in languages]
    return Effect(
        label, what, words, languages, by_seed(values),
        mean(means(sound).values()) if sound else math.nan,
        statistics.paired_interval(points, families), statistics.sign_flip(points),
        statistics.sign_flip(points, families), statistics.detectable(points, families),
        count_certain([list(each.values()) for each in values.values()]))


def by_seed(values: Column) -> list[float]:
    """The mean over languages of each seed that all languages have."""
    seeds = sorted(set.intersection(*(set(one) for one in values.values())))
    return [mean(one[seed] for one in values.values()) for seed in seeds]


def count_certain(samples: list[list[float]], alpha: float = 0.05) -> int:
    """How many languages have a difference, as a number that is too large in at most 5 % of all
    studies (the partial conjunction count of Dror et al. 2017 by Bonferroni, which asks no
    independence): t tests over the seeds of each language, Holm's steps."""
    sizes = [size for values in samples if (size := t_size(values)) is not None]
    count = 0
    for place, (t, df) in enumerate(sorted(sizes, reverse=True)):
        if t < statistics.t_quantile(1 - alpha / 2 / (len(sizes) - place), df):
            break
        count += 1
    return count


def t_size(values: list[float]) -> tuple[float, int] | None:
    """(|t| of the mean, degrees of freedom); None below two seeds. Seeds that all say the same
    difference are as certain as can be, those that all say 0 not at all."""
    if len(values) < 2:
        return None
    centre, sd = statistics.mean_sd(values)
    error = sd / math.sqrt(len(values))
    if not error:
        return math.inf if centre else 0.0, len(values) - 1
    return abs(centre) / error, len(values) - 1


def conclude(effects: list[Effect]) -> list[Told]:
    """The rule, on effects that are told together."""
    ps = statistics.holm([one.p_families for one in effects])
    return [Told(one, p, words_for(one, p)) for one, p in zip(effects, ps)]


def words_for(one: Effect, p: float) -> str:
    told = statistics.verdict(one.interval, p)
    return {"gain": one.words[0], "loss": one.words[1]}.get(told, UNTOLD)


# ------------------------------------------------------------------------------ what is printed


HEADER = ["of", "contrast", "mean", "over seeds", "without \u2020 runs", "95 % by family",
          "languages", "families", "languages that differ", "p (languages)", "p (families)",
          "p (Holm)", "detectable", "told"]


def table(told: list[Told]) -> Table:
    return Table(HEADER, [row(one) for one in told])


def row(one: Told) -> list[str]:
    found = one.effect
    return [found.label, found.what, f"{found.interval.mean:+.1f}",
            report.signed(found.by_seed) if found.by_seed else "missing", signed(found.sound),
            report.ends(found.interval), str(len(found.languages)), str(found.interval.n),
            str(found.certain), f"{found.p:.4f}", f"{found.p_families:.4f}", f"{one.p:.4f}",
            number(found.detectable), one.words]


def signed(value: float) -> str:
    return "none is left" if math.isnan(value) else f"{value:+.1f}"


def number(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.1f}"


def lines(told: list[Told]) -> list[str]:
    """One sentence for each effect: the words, then the numbers that they rest on."""
    return [f"{one.effect.label}: {sentence(one)}" for one in told]


def sentence(one: Told) -> str:
    found = one.effect
    words = one.words if one.words != UNTOLD else f"{UNTOLD} whether {' or '.join(found.words)}"
    return (f"{words} ({found.what} {found.interval.mean:+.1f}, 95 % {report.ends(found.interval)},"
            f" p {one.p:.3f} after Holm, {len(found.languages)} languages of {found.interval.n} "
            f"families, detectable {number(found.detectable)})")


def spread(values: dict[int, float]) -> str:
    """`71.3 ± 0.8` over seeds."""
    centre, sd = statistics.mean_sd(list(values.values()))
    return f"{centre:.1f}" if math.isnan(sd) else f"{centre:.1f} \u00b1 {sd:.1f}"


def example_rows(found) -> Iterator[list]:
    """study.LONG without its first column: each example of each finished run."""
    for (arm, target, seed), run in found.runs.items():
        for lang, (scores, clusters) in (run.examples if run else {}).items():
            for place, (score, cluster) in enumerate(zip(scores, np.asarray(clusters).tolist())):
                yield [target, lang, arm, seed, "clean", 0, "", place, cluster, f"{score:.6g}",
                       run.degenerate, run.record["world"], run.folder.name]
