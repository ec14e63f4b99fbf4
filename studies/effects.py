"""From differences to words: what may be said of an arm, by a rule that was written down before.

    Effect, Effect, ... --conclude--> Told, Told, ... --lines, table--> report

**The rule.** An effect is a difference over the same seeds and examples: the clean gain of an arm
(its clean score less the baseline's), or its difference in differences (its noisy less its clean
score, less the same of the baseline: the drop that it saves). All effects that one conclusion tells
of are corrected together (Holm). An effect counts as up or down where its 95 % interval over seeds
and items leaves out 0 and its adjusted p is below .05; else we cannot tell with this n, and the
smallest effect that so many items would have shown with 80 % power stands beside it. A clean gain
that is up is "better", a difference in differences that is up "more robust"; down is "worse" and
"less robust". An arm that gains alike on clean and on noisy input is better, not more robust.
Below two seeds or six independent items nothing can be told.
"""

import math
from typing import NamedTuple

import numpy as np

from studies import report, results, statistics
from studies.page import Section, Table
from studies.results import Comparison

GAIN = ("better", "worse")
ROBUST = ("more robust", "less robust")
UNTOLD = "cannot tell with this n"


class Effect(NamedTuple):
    """One difference that is to be told: of what, and the words for up and down."""

    label: str                          # "squad", "squad -> tydiqa": the words refer to it
    what: str                           # "clean gain", "difference in differences", ...
    words: tuple[str, str]
    found: Comparison | None            # None: missing


class Told(NamedTuple):
    effect: Effect
    p: float                            # Holm over all effects told together
    words: str


def difference(pairs: dict[int, list], values: list[dict[str, np.ndarray]],
               clusters: list[dict[str, list[str]]]) -> Comparison | None:
    """The tests of an effect. pairs: seed -> (run, other run) of each target; values: of each
    target, language -> differences [S, E] in points; clusters: likewise names [E]. None without
    seeds, targets or languages."""
    kept = [place for place, by_language in enumerate(values) if by_language]
    if not pairs or not kept:
        return None
    return results.compared(
        {seed: [several[place] for place in kept] for seed, several in pairs.items()},
        [values[place] for place in kept],
        [{lang: np.array(clusters[place][lang]) for lang in values[place]} for place in kept])


def conclude(effects: list[Effect]) -> list[Told]:
    """The rule, on effects that are told together."""
    ps = [effect.found.p if effect.found else math.nan for effect in effects]
    return [Told(effect, p, words_for(effect, p))
            for effect, p in zip(effects, statistics.holm(ps))]


def words_for(effect: Effect, p: float) -> str:
    if not effect.found:
        return "missing"
    told = statistics.verdict(effect.found.both, p)
    return {"gain": effect.words[0], "loss": effect.words[1]}.get(told, UNTOLD)


# ------------------------------------------------------------------------------ what is printed


def lines(told: list[Told]) -> list[str]:
    """One line for each label: the words, then the numbers that they rest on."""
    return [f"{label}: " + "; ".join(sentence(one) for one in told if one.effect.label == label)
            for label in dict.fromkeys(one.effect.label for one in told)]


def sentence(one: Told) -> str:
    """`better (clean gain +3.2 ± 0.5, ...)`, `cannot tell with this n whether better or worse`."""
    effect, found = one.effect, one.effect.found
    if not found:
        return f"{effect.what}: missing"
    words = one.words if one.words != UNTOLD else f"{UNTOLD} whether {' or '.join(effect.words)}"
    return (f"{words} ({effect.what} {report.signed(found.by_seed)}{report.dagger(found)}, 95 % "
            f"{report.ends(found.both)}, p {one.p:.3f} after Holm, {len(found.by_seed)} seeds, "
            f"{found.clusters:,} units, detectable {found.detectable:.1f})")


HEADER = ["of", "effect", "difference", "without \u2020 runs", "95 % over items",
          "95 % over seeds and items", "units", "p", "p (Holm)", "detectable", "told"]


def table(told: list[Told]) -> Table:
    """One row for each effect, with and without the seeds that have a degenerate run."""
    return Table(HEADER, [row(one) for one in told])


def row(one: Told) -> list[str]:
    effect, found = one.effect, one.effect.found
    if not found:
        return [effect.label, effect.what, *["missing"] * (len(HEADER) - 2)]
    sound = f"{report.signed(found.sound)} ({len(found.sound)})" if found.sound else "none is left"
    return [effect.label, effect.what, report.signed(found.by_seed) + report.dagger(found),
            sound, report.ends(found.items), report.ends(found.both), f"{found.clusters:,}",
            f"{found.p:.4f}", f"{one.p:.4f}", f"{found.detectable:.2f}", one.words]


def section(title: str, told: list[Told], notes: list[str]) -> Section:
    return Section(title, notes, [table(told)])
