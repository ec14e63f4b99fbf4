"""XTREME-R under noisy input against clean: does intermediate training make models more robust?

    python -m studies noise                       the toy world, small defaults
    python -m studies noise --full --model DIR --data DIR --keep       the whole design
    ... --noise drop,mix --severity 1,3,5 --noise-seeds 13,17,19 --items 100
    ... --noise-field context                     of questions: noise in the context
    ... --noise natural --errors FILE             misspellings of others

    run --clean and noisy copies--> scores --> mPC, rPC, CPDR, mCE, RCE, rho, DiD

With s a score in points, b chance, n noise, v severity, 0 the baseline of the same target and seed:

    mPC   mean over n, v of s(n, v)           rPC   mPC / s(clean)
    CPDR  1 - (mPC - b) / (s(clean) - b): the drop, chance taken off; b is the commonest label's
          share of classification and choices, else 0
    mCE   100 * mean over n of [sum over v of 100 - s(n, v)] / [the same of the baseline]
    RCE   the same of the errors' rise over clean; n/a where the baseline rises by less than 0.5
    tau   mPC less the baseline's             rho   mPC less what the baseline's line gives for the
          arm's clean score; the line is fitted on logit(clean), logit(mPC) of the baseline's
          languages and seeds
    DiD   (mPC - s(clean)) less the same of the baseline, tested example by example

Means are over languages other than English, first of conditions in a language, then of languages;
ratios are of sums over seeds. An arm that raises clean and noisy scores alike has tau > 0 and
DiD = 0: it is better, not more robust. What does not apply is n/a, never a drop of zero.
"""

import math
from statistics import fmean
from typing import NamedTuple

import numpy as np

from eval import spread
from studies import effects, noisy, perturb, report, statistics, study
from studies.noisy import Cells, cells_of
from studies.page import Section, Table
from studies.results import BASELINE, Comparison
from studies.study import OFF, Found

LEAST = 0.5                     # points; ratios with less below are not told
TOY_NOISE = "drop,sub,mix"


# ------------------------------------------------------------------------------- the measures


class Summary(NamedTuple):
    """An arm on one target over the seeds that it shares with the baseline; nan: n/a."""

    clean: list[float]          # of each seed, in points
    mpc: list[float]
    rpc: float                  # %
    cpdr: float                 # %
    mce: float                  # %
    rce: float                  # %
    tau: float                  # points
    rho: float                  # points
    english: tuple[float, float]          # clean, mPC; nan where there is no English


def ratio(above: float, below: float, least: float = LEAST) -> float:
    """In percent; nan where `below` says too little to divide by."""
    return 100 * above / below if below >= least else math.nan


def summarise(arm: list[Cells], base: list[Cells]) -> Summary:
    """Of the runs of an arm and of the baseline, aligned by seed."""
    clean, mpc = means(arm)
    chance = fmean(cells.chance() for cells in arm)
    drop = 100 - ratio(fmean(mpc) - chance, fmean(clean) - chance)
    return Summary(clean, mpc, ratio(fmean(mpc), fmean(clean)), drop,
                   *corruption_errors(arm, base), fmean(mpc) - fmean(means(base)[1]),
                   effective_robustness(arm, base), in_english(arm))


def means(several: list[Cells]) -> tuple[list[float], list[float]]:
    """(clean score, mPC) of each run, over languages other than English."""
    return ([fmean(fmean(one.clean[lang].values) for lang in one.whole) for one in several],
            [fmean(one.noisy(lang).mean() for lang in one.whole) for one in several])


def in_english(several: list[Cells]) -> tuple[float, float]:
    english = several[0].run.world["english"]
    if english not in several[0].clean or several[0].noisy(english) is None:
        return math.nan, math.nan
    return (fmean(fmean(one.clean[english].values) for one in several),
            fmean(one.noisy(english).mean() for one in several))


def corruption_errors(arm: list[Cells], base: list[Cells]) -> tuple[float, float]:
    """(mCE, RCE) in percent: means over the functions that apply."""
    functions = dict.fromkeys(c.function for c in arm[0].by_condition if c.function)
    each, rises = [], []
    for function in functions:
        own, other = errors(arm, function), errors(base, function)
        if own:
            each.append(ratio(own[0], other[0]))
            rises.append(ratio(own[0] - own[1], other[0] - other[1]))
    return mean_or_nan(each), mean_or_nan(rises)


def errors(several: list[Cells], function: str) -> tuple[float, float] | None:
    """(error under a noise, error on clean input of the same languages), mean over runs and
    severities; None where it applies nowhere."""
    noisy_errors, clean_errors = [], []
    for one in several:
        for lang in one.whole:
            found = one.noisy(lang, lambda condition: condition.function == function)
            if found is not None:
                noisy_errors.append(100 - found.mean())
                clean_errors.append(100 - fmean(one.clean[lang].values))
    return (fmean(noisy_errors), fmean(clean_errors)) if noisy_errors else None


def mean_or_nan(values: list[float]) -> float:
    """The mean of those that can be told."""
    told = [value for value in values if not math.isnan(value)]
    return fmean(told) if told else math.nan


def logit(points: float) -> float:
    """Of a score in points, held off 0 and 100 by half a point."""
    share = min(max(points, 0.5), 99.5) / 100
    return math.log(share / (1 - share))


def effective_robustness(arm: list[Cells], base: list[Cells]) -> float:
    """rho in points, mean over runs and languages; nan where the baseline's runs give no line."""
    xs, ys = (np.array(part) for part in zip(*line_points(base)))
    if len(xs) < 3 or np.ptp(xs) < 0.1:
        return math.nan
    slope, height = np.polyfit(xs, ys, 1)
    return fmean(100 / (1 + math.exp(-y)) - 100 / (1 + math.exp(-(slope * x + height)))
                 for x, y in line_points(arm))


def line_points(several: list[Cells]) -> list[tuple[float, float]]:
    return [(logit(fmean(one.clean[lang].values)), logit(one.noisy(lang).mean()))
            for one in several for lang in one.whole]


# --------------------------------------------------------------------------------- the report


def write(found: Found) -> list[Section]:
    targets = noisy.answered(found, found.targets)
    told = [effect for arm in found.compared
            for effect in noisy.effects_of(found, arm, targets, arm)]
    return [answer("Is an arm better, is it more robust?", told, targets),
            measure_section(found), task_section(found),
            *(grid_section(found, target) for target in found.targets), script_section(found)]


def answer(title: str, told: list[effects.Effect], targets: list[str]) -> Section:
    """What may be said of each arm, by the rule of effects.py."""
    concluded = effects.conclude(told)
    notes = effects.lines(concluded) or ["There is no arm but the baseline: nothing to compare."]
    return effects.section(title, concluded, [*notes, scope(targets)])


def scope(targets: list[str]) -> str:
    """What a conclusion is about, and how not to read it."""
    return (f"Mean over {', '.join(targets) or 'no target'}, languages other than English, all "
            "noise. An arm that gains alike on clean and noisy input is better, not more robust; "
            "one that loses on clean input has less to lose under noise, so look at its rPC and "
            "CPDR before its difference in differences.")


def shared(found: Found, arm: str, target: str) -> tuple[list[Cells], list[Cells]]:
    """Cells of an arm and of the baseline, of the seeds that both have."""
    cells = cells_of(found)
    seeds = [seed for seed in found.seeds
             if (arm, target, seed) in cells and (BASELINE, target, seed) in cells]
    return tuple([cells[name, target, seed] for seed in seeds] for name in (arm, BASELINE))


def measure_section(found: Found) -> Section:
    header = ["target, arm", "seeds", "clean", "mPC", "rPC %", "CPDR %", "mCE %", "RCE %", "tau",
              "rho", "DiD, 95 % over seeds and items", "English clean", "English mPC"]
    rows = []
    for target in found.targets:
        for arm in found.arms:
            one, other = shared(found, arm, target)
            label = f"{target}, {arm}" + mark(one)
            if not one:
                rows.append([label, *["missing"] * (len(header) - 1)])
            elif not one[0].whole:
                rows.append([label, str(len(one)), *[OFF] * (len(header) - 2)])
            else:
                rows.append([label, str(len(one)), *measure_cells(summarise(one, other)),
                             did_cell(found, arm, target), *english_cells(one)])
    return Section("Measures of robustness", [
        "Clean and mPC: mean and SD over seeds, over languages other than English; the definitions "
        "stand in the help of the command. \u2020: with a degenerate run.", *sound_notes(found)],
        [Table(header, rows)])


def measure_cells(found: Summary) -> list[str]:
    numbers = [found.rpc, found.cpdr, found.mce, found.rce]
    return [spread(found.clean), spread(found.mpc), *map(shown, numbers),
            shown(found.tau, "+.1f"), shown(found.rho, "+.1f")]


def shown(value: float, form: str = ".1f") -> str:
    return OFF if math.isnan(value) else format(value, form)


def english_cells(several: list[Cells]) -> list[str]:
    return [shown(value) for value in in_english(several)]


def mark(several: list[Cells]) -> str:
    return "\u2020" if any(one.run.degenerate for one in several) else ""


def sound_notes(found: Found) -> list[str]:
    """clean -> mPC of arms with degenerate runs, without these."""
    notes = []
    for target in found.targets:
        for arm in found.arms:
            several = shared(found, arm, target)[0]
            sound = [one for one in several if not one.run.degenerate and one.whole]
            if sound and len(sound) < len(several):
                clean, mpc = means(sound)
                notes.append(f"{target}, {arm} without \u2020 runs ({len(sound)} of "
                             f"{len(several)}): clean {spread(clean)}, mPC {spread(mpc)}")
    return notes


def did_cell(found: Found, arm: str, target: str) -> str:
    """The difference in differences with its interval; the baseline has none."""
    if arm == BASELINE:
        return OFF
    one = noisy.compare_arms(found, arm, [target], noisy.saved)
    return f"{report.signed(one.by_seed)} ({report.ends(one.both)})" if one else OFF


def task_section(found: Found) -> Section:
    """The two effects on each target, corrected together."""
    told = [effect for target in found.targets for arm in found.compared
            for effect in noisy.effects_of(found, arm, [target], f"{arm} -> {target}")]
    return effects.section("Each target by itself", effects.conclude(told), [])


# ---- the grid of noise


def grid_section(found: Found, target: str) -> Section:
    """A row for each function and severity: how noisy it was, the scores, what the arms save."""
    own = found.setup.own
    kinds = [(function, severity) for function in noisy.functions(own)
             for severity in noisy.severities(own)]
    saves = {(kind, arm): noisy.compare_arms(found, arm, [target], only_saved(*kind))
             for kind in kinds for arm in found.compared}
    keys = list(saves)
    adjusted = dict(zip(keys, statistics.benjamini_hochberg(
        [saves[key].p if saves[key] else math.nan for key in keys])))
    header = ["noise, severity", "target rate %", "rate % (least to most)", "changed %",
              "changed after normalisation %", "new pieces %", "ceiling", *found.arms,
              *(f"DiD {arm}, p (BH)" for arm in found.compared)]
    rows = [[f"{function} {severity}", f"{100 * perturb.RATES[severity]:.0f}",
             *noise_cells(found, target, function, severity),
             *(score_cell(found, arm, target, function, severity) for arm in found.arms),
             *(save_cell(found, target, arm, saves[(function, severity), arm],
                         adjusted[(function, severity), arm]) for arm in found.compared)]
            for function, severity in kinds]
    return Section(f"{target} under each noise", [
        "Shares are means over languages and noise seeds, English included; scores are means over "
        "languages other than English, with the SD over seeds. DiD: points saved against the "
        "baseline; p: sign flips, Benjamini and Hochberg over this table."],
        [Table(header, rows)])


def only_saved(function: str, severity: int):
    def value(arm: Cells, base: Cells, lang: str):
        return noisy.saved(arm, base, lang, lambda c: c[:2] == (function, severity))
    return value


def noise_cells(found: Found, target: str, function: str, severity: int) -> list[str]:
    """rate, changed, visible, pieces, ceiling."""
    several = [one for (_, name, _), one in cells_of(found).items() if name == target]
    if not several:
        return ["missing"] * 5
    facts = {name: several[0].facts(name, lambda c: c[:2] == (function, severity))
             for name in ("rate", "changed", "visible", "pieces", "ceiling")}
    rates = facts["rate"]
    cells = [f"{100 * fmean(rates):.2f} ({100 * min(rates):.2f} to {100 * max(rates):.2f})"
             if rates else OFF]
    cells += [f"{100 * fmean(facts[name]):.0f}" if facts[name] else OFF
              for name in ("changed", "visible", "pieces")]
    return [*cells, f"{fmean(facts['ceiling']):.1f}" if facts["ceiling"] else OFF]


def score_cell(found: Found, arm: str, target: str, function: str, severity: int) -> str:
    several = shared(found, arm, target)[0]
    if not several:
        return "missing"
    values = []
    for one in several:
        by_lang = [scores.mean() for lang in one.whole if (scores := one.noisy(
            lang, lambda c: c[:2] == (function, severity))) is not None]
        values += [fmean(by_lang)] if by_lang else []
    return spread(values) + mark(several) if values else OFF


def save_cell(found: Found, target: str, arm: str, one: Comparison | None, p: float) -> str:
    if one is None:
        return OFF if shared(found, arm, target)[0] else "missing"
    return f"{report.signed(one.by_seed)}, {p:.3f}"


# ---- scripts


def script_section(found: Found) -> Section:
    """A row for each target and script: clean score and what noise takes, in each arm."""
    rows = []
    for target in found.targets:
        cells = {arm: shared(found, arm, target)[0] for arm in found.arms}
        first = next((several[0] for several in cells.values() if several), None)
        if first is None:
            rows.append([f"{target}", *["missing"] * (1 + len(found.arms))])
            continue
        scripts = {}
        for lang in first.whole:
            scripts.setdefault(first.clean[lang].facts["script"], []).append(lang)
        rows += [[f"{target}, {script}", " ".join(langs),
                  *(script_cell(cells[arm], langs) for arm in found.arms)]
                 for script, langs in sorted(scripts.items())]
    return Section("By script", ["Score on clean input, mean change under noise: over languages "
                                 "other than English, with SDs over seeds."],
                   [Table(["target, script", "languages", *found.arms], rows)])


def script_cell(several: list[Cells], langs: list[str]) -> str:
    if not several:
        return "missing"
    clean = [fmean(fmean(one.clean[lang].values) for lang in langs) for one in several]
    drops = [fmean(one.noisy(lang).mean() for lang in langs) - middle
             for one, middle in zip(several, clean)]
    return f"{spread(clean)}, {report.signed(drops)}{mark(several)}"


STUDY = study.Study(
    name="noise", title="Noisy input against clean", doc=__doc__,
    inter="none,mnli,squad", target=",".join(study.of("noise:core")),
    full_inter="none,mnli,squad,all", full_target="xtreme-r",
    report=write, long=noisy.rows,
    conditions=noisy.count, measure=noisy.measure_run, kept=noisy.kept,
    add_flags=lambda parser: noisy.add_flags(parser, TOY_NOISE, noisy.HEADLINE),
    check=noisy.check)


def main(arguments: list[str]) -> int:
    return study.main(STUDY, arguments)
