"""What attacks tell: tables and effects of the attack study.

    Found --Evidence--> {language: Scores} of each run and attack --sections--> report

The score under attack (AUA) counts examples that are wrong without attack as wrong, so that its
denominator, all examples, is the same for all models; it is primary. The success rate (ASR) is the
share of attacked examples, those that are right without attack, that were fooled. All are means
over languages, then over targets; intervals are over items, clustered as everywhere.
"""

import math
from dataclasses import dataclass, field
from statistics import mean, median
from typing import Callable, Iterator

import numpy as np

from compare import stratified
from studies import attack_runs, effects, results, statistics
from studies.attack_runs import SEARCHES
from studies.measure import Scores, Victim
from studies.page import Section, Table
from studies.results import BASELINE, Comparison, Run
from studies.study import OFF, Found

MISSING = "missing"
UNDER = ("stronger under attack", "weaker under attack")
FIRMER = ("loses less under attack", "loses more under attack")
BOUND = "hotflip"               # told apart: it sees the weights, and meaning is not kept
CLEAN = "clean"


@dataclass(eq=False)
class Evidence:
    """What is kept of the runs of one command."""

    found: Found
    asked: attack_runs.Plan
    languages: Callable                                   # run -> those that are attacked
    known: dict = field(default_factory=dict)

    def scores(self, run: Run | None, attack: str) -> dict[str, Scores]:
        if run is None:
            return {}
        if (run.folder, attack) not in self.known:
            self.known[run.folder, attack] = attack_runs.read(run, self.asked, attack,
                                                              self.languages(run))
        return self.known[run.folder, attack]

    def of(self, arm: str, target: str, attack: str) -> dict[int, dict[str, Scores]]:
        """{seed: {language: scores}} of an arm on a target."""
        found = {seed: self.scores(run, attack)
                 for seed, run in self.found.by_seed(arm, target).items()}
        return {seed: one for seed, one in found.items() if one}

    def targets(self, attack: str) -> list[str]:
        """Targets of which anything is kept: elsewhere the attack is n/a, or missing."""
        return [target for target in self.found.targets
                if any(self.of(arm, target, attack) for arm in self.found.arms)]

    def sample(self, run: Run, lang: str):
        return Victim(run, self.found.setup.context, self.asked.items).sample(lang)

    @property
    def black_box(self) -> list[str]:
        return [attack for attack in self.asked.attacks if attack != BOUND]


# ------------------------------------------------------------------------------- from Scores


def points(one: Scores, name: str) -> np.ndarray:
    """100 for each example that is right, else 0: without attack ("clean") or after a search."""
    right = np.array(one.facts["right"], float)
    if name != CLEAN:
        right *= [not fooled for fooled in one.facts["searches"][name]["fooled"]]
    return 100 * right


def under(name: str) -> Callable:
    """{language: scores} -> mean over languages of the score after a search."""
    return lambda several: mean(points(one, name).mean() for one in several.values())


def attacked(several: dict[str, Scores], name: str, what: str) -> list:
    """A fact of all attacked examples of all languages."""
    return [value for one in several.values()
            for value in one.facts["searches"][name][what] if value is not None]


def rate(name: str) -> Callable:
    """{language: scores} -> success rate in percent; nan where nothing was right."""
    def value(several):
        fooled = attacked(several, name, "fooled")
        return 100 * sum(fooled) / len(fooled) if fooled else math.nan
    return value


def by_seed(evidence: Evidence, arm: str, attack: str, value: Callable) -> list[float]:
    """The mean over targets of a value, for each seed that has all of them. (A success rate is that
    of the targets where something was right.)"""
    kept = [evidence.of(arm, target, attack) for target in evidence.targets(attack)]
    seeds = set.intersection(*map(set, kept)) if kept else ()
    of_seeds = [[value(of_target[seed]) for of_target in kept] for seed in sorted(seeds)]
    known = [[one for one in values if not math.isnan(one)] for values in of_seeds]
    return [mean(values) for values in known if values]


def spread(values: list[float], without: str = MISSING) -> str:
    """`12.3 ± 4.5`, of one value without SD; without: what stands where there is none."""
    if not values:
        return without
    middle, sd = statistics.mean_sd(values)
    return f"{middle:.1f}" + (f" ± {sd:.1f}" if len(values) > 1 else "")


def with_ends(values: list, clusters: list) -> str:
    """A mean with its interval over items; n/a where nothing was attacked."""
    if not values:
        return OFF
    found = statistics.paired_interval(values, clusters)
    if math.isnan(found.low):
        return f"{found.mean:.1f}"
    return f"{found.mean:.1f} ({found.low:.1f} to {found.high:.1f})"


# --------------------------------------------------------------------------------- effects


def difference(sides: list[tuple[Evidence, str]], attack: str, change: Callable,
               ) -> Comparison | None:
    """The tests of an effect. sides: (evidence, arm) of what is compared; change: their scores of
    one language -> a value for each example."""
    first = sides[0][0]
    parts = [_of_target(sides, target, attack, change) for target in first.targets(attack)]
    parts = [part for part in parts if part]
    seeds = sorted(set.intersection(*map(set, parts))) if parts else []
    runs = {seed: [part[seed][0] for part in parts] for seed in seeds}
    values = [{lang: np.stack([part[seed][1][lang] for seed in seeds])
               for lang in part[seeds[0]][1]} for part in parts if seeds]
    clusters = [{lang: first.sample(several[0], lang).clusters for lang in of_target}
                for several, of_target in zip(runs[seeds[0]], values)] if seeds else []
    return effects.difference(runs, values, clusters)


def _of_target(sides: list[tuple[Evidence, str]], target: str, attack: str, change: Callable,
               ) -> dict[int, tuple[tuple, dict[str, np.ndarray]]]:
    """{seed: (runs of all sides, {language: values})} of the seeds that all sides have."""
    kept = [side.of(arm, target, attack) for side, arm in sides]
    found = {}
    for seed in set.intersection(*map(set, kept)):
        several = [one[seed] for one in kept]
        common = [lang for lang in several[0] if all(lang in one for one in several)]
        found[seed] = (tuple(side.found.runs[arm, target, seed] for side, arm in sides),
                       {lang: change(*(one[lang] for one in several)) for lang in common})
    return found


def gain(name: str) -> Callable:
    return lambda one, other: points(one, name) - points(other, name)


def saved(name: str) -> Callable:
    """Difference in differences: what the first loses less under attack."""
    return lambda one, other: gain(name)(one, other) - gain(CLEAN)(one, other)


def against_baseline(evidence: Evidence) -> list[effects.Told]:
    """All effects of all arms, told together."""
    listed = []
    for arm in evidence.found.compared:
        for target in evidence.found.targets:
            evidence.found.paired(arm, target)            # which checks that they may be compared
        sides = [(evidence, arm), (evidence, BASELINE)]
        for attack in evidence.black_box:
            listed += [
                effects.Effect(arm, f"score under {attack}", UNDER,
                               difference(sides, attack, gain(attack))),
                effects.Effect(arm, f"difference in differences under {attack}", FIRMER,
                               difference(sides, attack, saved(attack)))]
        if evidence.black_box:
            listed.append(effects.Effect(arm, "clean gain", effects.GAIN, difference(
                sides, evidence.black_box[0], gain(CLEAN))))
    return effects.conclude([one for one in listed if one.found])


# -------------------------------------------------------------------------------- sections


def sections(evidence: Evidence) -> list[Section]:
    told = against_baseline(evidence)
    listed = [answer(evidence, told),
              effects.section("Against the baseline", told, [RULE])]
    for attack in evidence.black_box:
        listed += [outcomes(evidence, attack), both_right(evidence, attack),
                   transfers(evidence, attack)]
    listed.append(by_language(evidence))
    if BOUND in evidence.asked.attacks:
        listed.append(outcomes(evidence, BOUND))
    return listed


RULE = ("Effects are told by the rule of studies/effects.py: the interval over seeds and items "
        "leaves out 0 and p after Holm, over all effects of this table, is below .05. An arm that "
        "gains alike with and without attack is stronger under attack, but loses no less under it.")


def answer(evidence: Evidence, told: list[effects.Told]) -> Section:
    """Score under attack and what chance reaches, by arm."""
    header, rows = ["intermediate"], []
    for attack in evidence.black_box:
        header += [f"{attack}: clean", "under attack", "under random tries", "success rate"]
    for arm in evidence.found.arms:
        row = [arm]
        for attack in evidence.black_box:
            own, *_, control = SEARCHES[attack]
            row += [spread(by_seed(evidence, arm, attack, value))
                    for value in (under(CLEAN), under(own), under(control), rate(own))]
        rows.append(row)
    asked = evidence.asked
    notes = ["Mean ± SD over seeds, in points; zero-shot languages; examples a language: at most "
             f"{asked.items or 'all'}; {asked.budget} queries an example; hashes of seed "
             f"{asked.seed}. Right is: the label, an exact match, a whole sentence's tags.",
             *(f"{attack}: {', '.join(evidence.targets(attack)) or 'no target'}; random tries: "
               f"{SEARCHES[attack][-1]}." for attack in evidence.black_box),
             *effects.lines(told)]
    return Section("Under attack", notes, [Table(header, rows)])


OUTCOMES = ["target", "intermediate", "examples", "attacked", "clean", "under attack",
            "points left", "success rate", "random", "random-Q", "search adds", "queries, mean",
            "median", "ran out, %", "words", "clusters"]


def outcomes(evidence: Evidence, attack: str) -> Section:
    notes = ["Intervals: 95 % over items, of the mean over these seeds. Points left: of questions "
             "F1, of tags the share of right words. Queries, those that ran out of their budget: "
             "of attacked examples; words and clusters that were edited: of those that were "
             "fooled. Search adds: success rate less that of random tries of the same budget."]
    if attack == "langswap":
        notes.append("All other languages are asked, so random tries of the same budget would be "
                     "the same; random: one language drawn by hash. Under attack is the share that "
                     "is right in every language.")
    if attack == BOUND:
        notes.append("WHITE-BOX BOUND: the search sees the weights and does not keep the meaning.")
    rows = [outcome_row(evidence, attack, target, arm) for target in evidence.targets(attack)
            for arm in evidence.found.arms]
    return Section(f"{attack}: outcomes", notes, [Table(OUTCOMES, rows)])


def outcome_row(evidence: Evidence, attack: str, target: str, arm: str) -> list[str]:
    kept = evidence.of(arm, target, attack)
    if not kept:
        return [target, arm, *[MISSING] * (len(OUTCOMES) - 2)]
    own, once, *best = SEARCHES[attack]
    pooled = {(seed, lang): one for seed, of_seed in kept.items() for lang, one in of_seed.items()}
    hits = attacked(pooled, own, "fooled")

    def over_seeds(value):
        return [one for one in map(value, kept.values()) if not math.isnan(one)]

    def of_fooled(what):
        numbers = [n for n, hit in zip(attacked(pooled, own, what), hits) if hit]
        return f"{mean(numbers):.1f}" if numbers else OFF

    adds = [a - b for a, b in zip(over_seeds(rate(own)), over_seeds(rate(best[0])))] if best else []
    queries = attacked(pooled, own, "queries")
    left = [mean(mean(one.facts["searches"][own]["points"]) for one in of_seed.values())
            for of_seed in kept.values()]
    return [target, arm, str(sum(len(one.values) for one in next(iter(kept.values())).values())),
            str(len(hits)), spread(over_seeds(under(CLEAN))),
            interval_under(evidence, kept, arm, target, own), spread(left),
            interval_rate(evidence, kept, arm, target, own), spread(over_seeds(rate(once)), OFF),
            spread(over_seeds(rate(best[0])), OFF) if best else OFF, spread(adds, OFF),
            f"{mean(queries):.1f}" if queries else OFF, f"{median(queries):g}" if queries else OFF,
            f"{100 * mean(attacked(pooled, own, 'ran_out')):.1f}" if queries else OFF,
            *([OFF, OFF] if attack == "langswap" else map(of_fooled, ("words", "clusters")))]


def interval_under(evidence, kept, arm: str, target: str, name: str) -> str:
    """The score under attack, each example's mean over seeds."""
    first = next(iter(kept))
    run, parts, names = evidence.found.runs[arm, target, first], [], []
    for lang in kept[first]:
        of_seeds = [points(of_seed[lang], name) for of_seed in kept.values()]
        parts.append(np.mean(of_seeds, 0).tolist())
        names += evidence.sample(run, lang).clusters
    return with_ends(stratified(parts), names)


def interval_rate(evidence, kept, arm: str, target: str, name: str) -> str:
    values, names = [], []
    for seed, of_seed in kept.items():
        run = evidence.found.runs[arm, target, seed]
        for lang, one in of_seed.items():
            fooled = one.facts["searches"][name]["fooled"]
            values += [100.0 * hit for hit in fooled if hit is not None]
            names += [cluster for cluster, hit in zip(evidence.sample(run, lang).clusters, fooled)
                      if hit is not None]
    return with_ends(values, names)


def pairs_of(evidence: Evidence, attack: str) -> Iterator[tuple[str, str, list[tuple]]]:
    """(target, arm, [(arm's run, its scores, baseline's run, its scores)]) of common seeds."""
    for target in evidence.targets(attack):
        base = evidence.of(BASELINE, target, attack)
        for arm in evidence.found.compared:
            own = evidence.of(arm, target, attack)
            yield target, arm, [
                (evidence.found.runs[arm, target, seed], own[seed],
                 evidence.found.runs[BASELINE, target, seed], base[seed])
                for seed in own if seed in base]


def both_right(evidence: Evidence, attack: str) -> Section:
    """Success rates on the examples that both models have right."""
    rows = []
    for target, arm, pairs in pairs_of(evidence, attack):
        hits = [(a, b) for _, one, _, other in pairs for lang in one
                for a, b in zip(one[lang].facts["searches"][attack]["fooled"],
                                other[lang].facts["searches"][attack]["fooled"])
                if a is not None and b is not None]
        shares = [100 * mean(column) for column in zip(*hits)] or [math.nan] * 2
        cells = [f"{one:.1f}" for one in (*shares, shares[0] - shares[1])] if hits else [OFF] * 3
        rows.append([target, arm, str(len(hits)), *cells])
    header = ["target", "intermediate", "both right", "success rate", f"of {BASELINE}",
              "difference"]
    return Section(f"{attack}: where both are right", ["All seeds and languages together."],
                   [Table(header, rows)])


def transfers(evidence: Evidence, attack: str) -> Section:
    """Inputs that were made against one model, shown to the other."""
    header = ["target", "intermediate", "made against it", f"made against {BASELINE}",
              f"{BASELINE}'s fool it, %", f"{BASELINE}: made against itself",
              f"{BASELINE}: made against the arm", f"the arm's fool {BASELINE}, %"]
    rows = []
    for target, arm, pairs in pairs_of(evidence, attack):
        there = [_transfer(evidence, attack, one[0], one[2], one[1], one[3]) for one in pairs]
        back = [_transfer(evidence, attack, one[2], one[0], one[3], one[1]) for one in pairs]
        rows.append([target, arm, *_transfer_cells(there), *_transfer_cells(back)])
    notes = ["The strongest input of each example that the other model had right is a static test "
             "set. Score under it; and, of the inputs that fooled their own model and whose clean "
             "example this one has right, the share that fools it."]
    return Section(f"{attack}: transfer", notes, [Table(header, rows)])


def _transfer(evidence, attack: str, run: Run, other: Run, own: dict, theirs: dict):
    """(score under attack, under the other's inputs, [fooled] of inputs that can transfer)."""
    crossed = attack_runs.read_crossed(run, other, evidence.asked, attack, list(theirs))
    common = [lang for lang in own if lang in crossed and lang in theirs]
    if not common:
        return None
    fooled = [value < 50 for lang in common for value, is_right, hit in
              zip(crossed[lang].values, own[lang].facts["right"],
                  theirs[lang].facts["searches"][attack]["fooled"]) if is_right and hit]
    return (under(attack)(own), mean(mean(crossed[lang].values) for lang in common), fooled)


def _transfer_cells(found: list) -> list[str]:
    found = [one for one in found if one]
    hits = [hit for _, _, fooled in found for hit in fooled]
    return [spread([one[0] for one in found]), spread([one[1] for one in found]),
            f"{100 * mean(hits):.1f}" if hits else (OFF if found else MISSING)]


def by_language(evidence: Evidence) -> Section:
    """Clean and under each attack, by target, language and arm."""
    rows = []
    for target in evidence.found.targets:
        kept = {(arm, attack): evidence.of(arm, target, attack)
                for arm in evidence.found.arms for attack in evidence.black_box}
        langs = dict.fromkeys(lang for of_arm in kept.values() for of_seed in of_arm.values()
                              for lang in of_seed)
        for lang in langs:
            rows.append([target, lang, *(_language_cell(kept, arm, evidence.black_box, lang)
                                         for arm in evidence.found.arms)])
    notes = [f"Clean / {' / '.join(evidence.black_box)}: means over seeds; {OFF}: not defined."]
    header = ["target", "language", *evidence.found.arms]
    return Section("By language", notes, [Table(header, rows)])


def _language_cell(kept: dict, arm: str, attacks: list[str], lang: str) -> str:
    clean, texts = [], []
    for attack in attacks:
        found = [of_seed[lang] for of_seed in kept[arm, attack].values() if lang in of_seed]
        clean = clean or [points(one, CLEAN).mean() for one in found]
        texts.append(f"{mean(points(one, attack).mean() for one in found):.1f}" if found else OFF)
    return " / ".join([f"{mean(clean):.1f}", *texts]) if clean else MISSING


# ----------------------------------------------------------- crossed with robust training


def crossed_sections(method: str, plain: Evidence, robust: Evidence) -> list[Section]:
    """Robust against plain training of the target, by arm; then the robust runs alone."""
    told = effects.conclude([one for one in crossed_effects(method, plain, robust) if one.found])
    header, rows = ["intermediate"], []
    for attack in robust.black_box:
        header += [f"{attack}: clean, plain", method, f"under {attack}, plain", method]
    for arm in robust.found.arms:
        rows.append([arm, *(spread(by_seed(evidence, arm, attack, under(name)))
                            for attack in robust.black_box for name in (CLEAN, attack)
                            for evidence in (plain, robust))])
    notes = [f"The target's stages were trained plainly or by {method}, the intermediate ones "
             "plainly. Interaction: what robust training adds to an arm less what it adds to "
             f"{BASELINE}.", *effects.lines(told)]
    return [Section(f"Crossed with {method}", notes, [Table(header, rows)]),
            effects.section(f"Effects of {method}", told, [RULE]), *sections(robust)]


def crossed_effects(method: str, plain: Evidence, robust: Evidence) -> Iterator[effects.Effect]:
    for arm in robust.found.arms:
        sides = [(robust, arm), (plain, arm)]
        for attack in robust.black_box:
            yield effects.Effect(arm, f"{method} under {attack}", UNDER,
                                 difference(sides, attack, gain(attack)))
            if arm != BASELINE:
                yield effects.Effect(
                    arm, f"interaction with {method} under {attack}", UNDER, difference(
                        [*sides, (robust, BASELINE), (plain, BASELINE)], attack,
                        lambda a, b, c, d: gain(attack)(a, b) - gain(attack)(c, d)))


# ----------------------------------------------------------------------------- every example


def long_rows(evidence: Evidence) -> Iterator[list]:
    """study.LONG from the task on: without attack, and after each search of each attack."""
    for (arm, target, seed), run in evidence.found.runs.items():
        for attack in evidence.asked.attacks:
            for lang, one in evidence.scores(run, attack).items():
                sample = evidence.sample(run, lang)
                for name in (CLEAN, *one.facts["searches"]):
                    condition = attack if name == attack else f"{attack}: {name}"
                    for example, cluster, score in zip(sample.names, sample.clusters,
                                                       points(one, name).tolist()):
                        yield [target, lang, arm, seed, condition, "", evidence.asked.seed,
                               example, cluster, score, run.degenerate, run.record["world"],
                               run.folder.name]
