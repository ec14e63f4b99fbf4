"""Low-resource languages: zero-shot after intermediate training, or direct multilingual training.

    python -m studies lowres                      the toy world: small, minutes
    python -m studies lowres --full --model DIR --data DIR

Arms, each of --steps optimizer steps in all; of an arm with two stages the last takes --last:

    ZS        the target task in English          STILT-ZS   intermediate task, then English
    ML        all languages with training data    STILT-ML   intermediate task, then all of these
    ML-loo    as ML without the languages of one resource group, for that group's scores
    FS-n      English, then n training examples of a language, for its score; new ones for each seed

    arms, targets --designs--> runs --gather--> language -> seed -> score --effects--> by group

ML - ZS is what training data in many languages bring, ML-loo - ZS what of it comes from other
languages than those that are scored, n* how many examples of a language are worth an intermediate
task (linear in log n). Selection is on English dev in every arm. Groups are made twice, by size in
CC-100 and by Joshi's classes (languages.py); a claim about low-resource languages is made where the
first says so and the second has the same sign. Statistics: across.py.
"""

import math
from itertools import pairwise
from statistics import mean, stdev
from typing import NamedTuple

import plan
import splits
import tasks
from files import UserError
from studies import across, grid, languages, study
from studies.across import Column
from studies.page import Section, Table
from studies.results import BASELINE

WORDS = ("better", "worse")
GROUPS = ("low", "mid", "high")         # by size; "low" with the unseen ones
TOY_STEPS, FULL_STEPS = 400, 10_000


class Design(NamedTuple):
    """One run for each seed."""

    arm: str                    # "ZS", "STILT-ZS squad", "FS-100", ...
    inter: str
    target: str                 # with its steps and examples
    task: str
    languages: tuple[str, ...]  # that it is scored in; (): all


class Task(NamedTuple):
    """What a target offers."""

    name: str
    stages: int                 # rows that it is trained on, each for its share of the steps
    groups: dict[str, list[str]]                # group -> zero-shot languages
    training: dict[str, int]    # language -> training examples


# ----------------------------------------------------------------------------------- the arms


def add_flags(parser) -> None:
    add = parser.add_argument
    add("--steps", type=int, help=f"optimizer steps of an arm in all ({TOY_STEPS}; with --full "
        f"{FULL_STEPS:,})")
    add("--last", type=int, help="of these, in the last of two stages (a quarter)")
    add("--shots", help="examples of FS-n, comma-separated (10,50; with --full 10,100,1000)")
    add("--draws", type=int, default=1, help="choices of examples for each seed, which differ from "
        "seed to seed (1)")
    add("--few", choices=("low", "all"), default="low", help="languages of FS-n: low-resource ones "
        "(low) or all")


def completed(own):
    """The flags with their defaults. Raises UserError."""
    own.steps = own.steps or (FULL_STEPS if own.full else TOY_STEPS)
    own.last = own.last or own.steps // 4
    own.shots = own.shots or ("10,100,1000" if own.full else "10,50")
    if min(own.steps, own.last, own.draws) < 1 or own.last >= own.steps:
        raise UserError("lowres wants 0 < --last < --steps and --draws from 1")
    return own


def pairs(own, context, arms: list[str], targets: list[str]) -> list[tuple[str, str]]:
    """(arm, target) of all runs."""
    every = [one for target in targets for one in designs(own, context, arms, target)]
    return list(dict.fromkeys((one.inter, one.target) for one in every))


def group_of(lang: str, world: dict) -> str:
    group = languages.of(lang, world).group
    return "low" if group in languages.POOR else group


def look_up(target: str, context: plan.Context) -> Task:
    """Raises UserError for a target that names its own languages or settings."""
    if plan.parse_target(target) != [(target, (), ())]:
        raise UserError(f"lowres makes the arms of a target: --target wants no more than a task, "
                        f"not {target}")
    task = tasks.get(target)
    rows, english = [tasks.get(name) for name in task.train_on], context.world["english"]
    found = splits.languages(task, context.data, context.given.split or task.eval_split)
    groups = {}
    for lang in found:
        if lang != english:
            groups.setdefault(group_of(lang, context.world), []).append(lang)
    shared = set(found).intersection(*(splits.languages(row, context.data, "train")
                                       for row in rows)) if rows else ()
    training = {lang: min(len(splits.load(row, context.data, "train", lang).examples)
                          for row in rows) for lang in found if lang in shared}
    return Task(target, len(rows), groups, {} if task.kind == "retrieval" else training)


def designs(own, context, arms: list[str], target: str) -> list[Design]:
    """All runs of a target; few-shot ones first, which share their first stage."""
    own, task = completed(own), look_up(target, context)
    found = [*few_shot(task, own), Design("ZS", BASELINE, at(task, own.steps), target, ())]
    if len(task.training) > 1:
        found.append(Design("ML", BASELINE, at(task, own.steps, "@all"), target, ()))
        found += leave_out(task, own, context.world["english"])
    for arm in [arm for arm in arms if arm != BASELINE]:
        first = own.steps - own.last if task.stages else own.steps
        inter = "+".join(f"{part}:steps={first}" for part in spelled_out(arm))
        found.append(Design(f"STILT-ZS {arm}", inter, at(task, own.last), target, ()))
        if len(task.training) > 1:
            found.append(Design(f"STILT-ML {arm}", inter, at(task, own.last, "@all"), target, ()))
    return found


def spelled_out(arm: str) -> list[str]:
    return [part for text in arm.split("+")
            for part in (tasks.INTERMEDIATE if text == "all" else [text])]


def at(task: Task, steps: int, more: str = "") -> str:
    """A step of a target with its optimizer steps; a task that is not trained has none."""
    return f"{task.name}{more}:steps={max(1, steps // task.stages)}" if task.stages else task.name


def few_shot(task: Task, own) -> list[Design]:
    """FS-n of each language that has so many training examples."""
    found = []
    for group, members in task.groups.items():
        for lang in members if own.few == "all" or group == "low" else ():
            for n in study.whole_numbers("--shots", own.shots):
                for draw in range(own.draws) if n <= task.training.get(lang, 0) else ():
                    more = f"@{lang}:examples={n}" + (f":draw={draw}" if draw else "")
                    steps = f"{at(task, own.steps - own.last)}~{at(task, own.last, more)}"
                    found.append(Design(f"FS-{n}", BASELINE, steps, task.name, (lang,)))
    return found


def leave_out(task: Task, own, english: str) -> list[Design]:
    """ML without one group, as long as more than English is left."""
    found = []
    for members in task.groups.values():
        left = [lang for lang in task.training if lang not in members]
        if len(left) > 1 and english in left and len(left) < len(task.training):
            target = at(task, own.steps, f"@{','.join(left)}")
            found.append(Design("ML-loo", BASELINE, target, task.name, tuple(members)))
    return found


# --------------------------------------------------------------------------------- the scores


class Scores(NamedTuple):
    """Of one target: arm -> columns of its zero-shot languages, with and without degenerate runs,
    and of English."""

    task: Task
    every: dict[str, Column]
    sound: dict[str, Column]
    english: dict[str, Column]


def gather(found) -> list[Scores]:
    """Scores of each target, in the order of the arms."""
    setup = found.setup
    arms, targets = grid.arms_and_targets(setup.context.given)
    return [scores_of(found, look_up(target, setup.context),
                      designs(setup.own, setup.context, arms, target)) for target in targets]


def scores_of(found, task: Task, every: list[Design]) -> Scores:
    scores, english = Scores(task, {}, {}, {}), [found.setup.context.world["english"]]
    for arm in sorted({one.arm for one in every}, key=place):
        mine = [(found.by_seed(one.inter, one.target), one.languages or None) for one in every
                if one.arm == arm]
        scores.every[arm] = pooled([across.column(runs, "", False, names) for runs, names in mine])
        scores.sound[arm] = pooled([across.column(runs, "", True, names) for runs, names in mine])
        scores.english[arm] = pooled([across.column(runs, "", False, english)
                                      for runs, _ in mine])
    return scores


def place(arm: str) -> tuple:
    """ZS, intermediate arms, ML, FS by their n."""
    kinds = ("ZS", "STILT-ZS", "ML", "ML-loo", "STILT-ML")
    kind = arm.partition(" ")[0]
    return (kinds.index(kind), arm) if kind in kinds else (len(kinds), int(kind[3:]))


def pooled(columns: list[Column]) -> Column:
    """Runs of an arm together: of other languages or, of the same language and seed, their mean
    (other draws)."""
    lists = {}
    for one in columns:
        for lang, values in one.items():
            for seed, score in values.items():
                lists.setdefault(lang, {}).setdefault(seed, []).append(score)
    return {lang: {seed: mean(scores) for seed, scores in values.items()}
            for lang, values in lists.items()}


# ------------------------------------------------------------------------------- the contrasts


def contrasts(arms) -> list[tuple[str, str]]:
    """(arm, other arm) of those that are there."""
    names = [arm.partition(" ")[2] for arm in arms if arm.startswith("STILT-ZS")]
    wanted = [*((f"STILT-ZS {name}", "ZS") for name in names), ("ML", "ZS"), ("ML-loo", "ZS"),
              *((f"STILT-ZS {name}", "ML") for name in names),
              *((f"STILT-ML {name}", "ML") for name in names)]
    return [(one, other) for one, other in wanted if one in arms and other in arms]


def effects_in(scores: Scores, label: str, members, facts: dict) -> list[across.Effect]:
    """All contrasts over some languages."""
    found = []
    for one, other in contrasts(scores.every):
        every, sound = (across.only(across.combine((1, kept[one]), (-1, kept[other])), members)
                        for kept in (scores.every, scores.sound))
        found.append(across.effect(f"{scores.task.name}, {label}", f"{one} - {other}", WORDS,
                                   every, sound, facts))
    return [one for one in found if one]


def agreed(one: across.Told, second: dict[tuple[str, str], across.Effect]) -> str:
    """The words of a claim about low-resource languages by size, unless Joshi's key says no."""
    if one.words == across.UNTOLD:
        return one.words
    other = second.get((one.effect.label, one.effect.what))
    if not other:
        return f"{one.words} (one key only)"
    same = other.interval.mean * one.effect.interval.mean > 0
    return one.words if same else f"{across.UNTOLD}: the two keys differ in sign"


def break_even(points: dict[int, float], goal: float) -> float:
    """The number of examples n at which few-shot scores {n: score} reach the goal, linear in log n
    between two; the smallest n where that one reaches it, inf where none does."""
    known = sorted(points.items())
    if known[0][1] >= goal:
        return known[0][0]
    for (few, low), (many, high) in pairwise(known):
        if high >= goal:
            share = (goal - low) / (high - low)
            return math.exp(math.log(few) + share * math.log(many / few))
    return math.inf


def told_number(n: float, points: dict[int, float]) -> str:
    if n == math.inf:
        return f"> {max(points)}"
    return f"<= {n:g}" if n == min(points) else f"{n:.0f}"


# ---------------------------------------------------------------------------------- the report


def report(found) -> list[Section]:
    world, gathered = found.setup.context.world, gather(found)
    facts = {lang: languages.of(lang, world) for scores in gathered
             for members in scores.task.groups.values() for lang in members}
    by_size = {group: [lang for lang in facts if group_of(lang, world) == group]
               for group in GROUPS}
    by_class = {group: [lang for lang, one in facts.items() if one.joshi_group == group]
                for group in ("low", "high")}
    told, second = (told_of(gathered, groups, facts) for groups in (by_size, by_class))
    return [answer(told, second, found.setup.own),
            Section("By size of pretraining text", ["All effects here are corrected together."],
                    [across.table(told)]),
            Section("By Joshi's classes", ["low: classes 0 to 2." if second else
                                           "These languages have no class."],
                    [across.table(second)] if second else []),
            group_section(gathered), even_section(gathered, found.setup.own),
            score_section(gathered, facts)]


def told_of(gathered: list[Scores], groups: dict[str, list[str]], facts: dict):
    """All effects in all groups, corrected together."""
    return across.conclude([one for scores in gathered for label, members in groups.items()
                            for one in effects_in(scores, label, members, facts)])


def answer(told: list[across.Told], second: list[across.Told], own) -> Section:
    """What is said of low-resource languages."""
    other = {(one.effect.label, one.effect.what): one.effect for one in second}
    notes = [f"Every arm takes {own.steps:,} optimizer steps, of two stages the last {own.last:,}; "
             "selection on English dev."]
    mine = [one._replace(words=agreed(one, other)) for one in told
            if one.effect.label.endswith(", low")]
    notes += across.lines(mine) or ["No low-resource language has two arms to compare."]
    return Section("Low-resource languages", notes, [across.table(mine)] if mine else [])


def group_section(gathered: list[Scores]) -> Section:
    rows = [[scores.task.name, arm, *measures(scores, arm)]
            for scores in gathered for arm in scores.every]
    header = ["task", "arm", *(f"mean, {group}" for group in GROUPS), "worst language",
              "SD over languages", "transfer gap", "low gap"]
    return Section("Group measures", [
        "Means over seeds, then over languages. Transfer gap: English less the mean of the others; "
        "low gap: mean of high less mean of low. FS-n has scores of its own languages alone, each "
        "ML-loo run of the group that it was not trained in."], [Table(header, rows)])


def measures(scores: Scores, arm: str) -> list[str]:
    values = across.means(scores.every[arm])
    if not values:
        return ["missing"] * (len(GROUPS) + 4)
    by_group = {group: [values[lang] for lang in scores.task.groups.get(group, ())
                        if lang in values] for group in GROUPS}
    centres = [f"{mean(of):.1f}" if of else "n/a" for of in by_group.values()]
    worst = min(values, key=values.get)
    spread = f"{stdev(values.values()):.1f}" if len(values) > 1 else "n/a"
    english = list(across.means(scores.english[arm]).values())
    is_whole = len(values) == sum(map(len, scores.task.groups.values()))
    gap = f"{english[0] - mean(values.values()):+.1f}" if english and is_whole else "n/a"
    low_gap = (f"{mean(by_group['high']) - mean(by_group['low']):+.1f}"
               if by_group["high"] and by_group["low"] else "n/a")
    return [*centres, f"{worst} {values[worst]:.1f}", spread, gap, low_gap]


def even_section(gathered: list[Scores], own) -> Section:
    """How many examples are worth an intermediate task, for each language and for the mean of a
    group's languages that have all FS-n."""
    rows = [row for scores in gathered for row in even_rows(scores)]
    notes = ["n*: the smallest number of training examples of the language with which FS-n is at "
             "least STILT-ZS, linear in log n. FS-n exists where a language has n examples."]
    for scores in gathered:
        wanted = [f"FS-{n}" for n in study.whole_numbers("--shots", own.shots)]
        if none := [arm for arm in wanted if arm not in scores.every]:
            notes.append(f"{scores.task.name}: no language has examples for {', '.join(none)}.")
    header = ["task", "languages", "intermediate", "STILT-ZS", "FS-n", "n*"]
    return Section("Break-even", notes, [Table(header, rows)] if rows else [])


def even_rows(scores: Scores) -> list[list[str]]:
    shots = {int(arm[3:]): across.means(one) for arm, one in scores.every.items()
             if arm.startswith("FS-") and one}
    there = sorted(set().union(*shots.values()))
    whole = [lang for lang in there if all(lang in values for values in shots.values())]
    named = [*((lang, [lang]) for lang in there), (f"mean of {len(whole)}", whole)]
    goals = {arm: across.means(one) for arm, one in scores.every.items()
             if arm.startswith("STILT-ZS")}
    return [[scores.task.name, name, arm.partition(" ")[2], *even_cells(shots, values, members)]
            for arm, values in goals.items() for name, members in named
            if members and set(members) <= set(values)]


def even_cells(shots: dict[int, dict[str, float]], goals: dict[str, float],
               members: list[str]) -> list[str]:
    """Of the mean over some languages: the goal, what FS-n reaches, n*."""
    goal = mean(goals[lang] for lang in members)
    points = {n: mean(values[lang] for lang in members) for n, values in sorted(shots.items())
              if set(members) <= set(values)}
    return [f"{goal:.1f}", ", ".join(f"{n}: {value:.1f}" for n, value in points.items()),
            told_number(break_even(points, goal), points)]


def score_section(gathered: list[Scores], facts: dict) -> Section:
    """Every score, mean and SD over seeds."""
    tables = []
    for scores in gathered:
        members = [lang for group in scores.task.groups.values() for lang in group]
        rows = [[arm, *(cell(scores, arm, lang) for lang in members)] for arm in scores.every]
        header = [scores.task.name, *(f"{lang} ({facts[lang].group})" for lang in members)]
        tables.append(Table(header, rows))
    return Section("Scores", [], tables)


def cell(scores: Scores, arm: str, lang: str) -> str:
    """n/a where the arm has no run for a language; missing where it is not done."""
    values = scores.every[arm].get(lang)
    if values:
        return across.spread(values)
    is_whole = not arm.startswith(("FS-", "ML-loo"))
    return "missing" if is_whole or not scores.every[arm] else "n/a"


STUDY = study.Study(
    name="lowres", title="Low-resource languages and direct multilingual fine-tuning",
    doc=__doc__, inter=",".join([BASELINE, *study.of("lowres:inter")]),
    target=",".join(study.of("lowres:core")),
    full_inter=",".join([BASELINE, *study.of("lowres:inter")]),
    full_target=",".join(study.of("lowres:core") + study.of("lowres:more")),
    report=report, long=across.example_rows, add_flags=add_flags, asks_models=False, pairs=pairs)


def main(arguments: list[str]) -> int:
    return study.main(STUDY, arguments)
