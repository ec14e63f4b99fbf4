"""Syntactic against semantic intermediate tasks, for targets of sequence labelling.

    python -m studies syntax                      the toy world: small, minutes
    python -m studies syntax --full --model DIR --data DIR        full-size sets, too

Four cells, by what a row says of itself: its kind (tagging: token; classification and multiple
choice: sentence) and its group (syntactic, semantic). What else could make a difference is kept
equal: every intermediate set is cut to the size of the smallest one, each run takes --steps
optimizer steps in the intermediate stage, and the target's training is the same. Sets smaller than
--least stand apart: they are shown and in no mean. The control has one token task's texts and tags,
but each word's tag is drawn by chance (draws.random_tags): the format without the content.

    arms --sized--> runs --gains--> language -> seed -> score less no intermediate's
         --effects--> Delta = syntactic - semantic at token and at sentence level, their interaction

An intermediate task that is trained on the target's sentences is marked: with the same labels it is
the same task and in no mean; with others it is in the means, which are told without it, too. The
language is the unit (across.py), seeds are averaged first. Differences below a few points need many
languages: what could have been detected stands beside each.
"""

from statistics import mean
from typing import NamedTuple

import plan
import splits
import tasks
from files import UserError
from studies import across, grid, languages, study
from studies.across import Column
from studies.page import Section, Table
from studies.report import signed
from studies.results import BASELINE

FORMATS = {"tagging": "token", "classification": "sentence", "multiple_choice": "sentence"}
CONTENTS = ("syntactic", "semantic")
MATCHED, FULL = "matched", "full size"
CONTROL = "random tags"
TOY_STEPS, FULL_STEPS = 300, 5000
DELTA = ("syntactic is better", "semantic is better")
INTERACTION = ("content matters more in tokens", "content matters more in sentences")
GAIN = ("better", "worse")


class Arm(NamedTuple):
    """One intermediate task in one condition."""

    label: str                  # the task's name; CONTROL and a name
    inter: str                  # with its examples and steps
    size: str                   # MATCHED or FULL
    cell: str                   # "token, syntactic"; "control"; "apart"
    examples: int


# ----------------------------------------------------------------------------------- the arms


def add_flags(parser) -> None:
    add = parser.add_argument
    add("--steps", type=int, help=f"optimizer steps of an intermediate stage ({TOY_STEPS}; with "
        f"--full {FULL_STEPS:,})")
    add("--least", type=int, help="training examples below which a set stands apart (0; with "
        "--full 5000)")


def completed(own):
    own.steps = own.steps or (FULL_STEPS if own.full else TOY_STEPS)
    own.least = (5000 if own.full else 0) if own.least is None else own.least
    if own.steps < 1 or own.least < 0:
        raise UserError("syntax wants --steps from 1 and --least from 0")
    return own


def cell_of(name: str) -> str:
    """"token, syntactic" and the like; "apart" for a task of another kind or group."""
    row = tasks.get(name)
    is_in = row.kind in FORMATS and row.group in CONTENTS
    return f"{FORMATS[row.kind]}, {row.group}" if is_in else "apart"


def training_size(name: str, context: plan.Context) -> int:
    """Examples of an intermediate task's training set; 0 where it is missing."""
    task, english = tasks.get(name), context.world["english"]
    if english not in splits.languages(task, context.data, "train"):
        return 0
    return len(splits.load(task, context.data, "train", english).examples)


def sized(own, context: plan.Context, names: list[str]) -> list[Arm]:
    """The arms: each task cut to the common size and, with --full, whole; the control. Raises
    UserError for an arm that is not one task's name."""
    own, sizes = completed(own), {}
    for name in (name for name in names if name != BASELINE):
        if plan.parse_arm(name) != [(name, (), ())]:
            raise UserError(f"syntax wants single tasks in --inter, not {name}")
        sizes[name] = training_size(name, context)
    large = {name: size for name, size in sizes.items()
             if size >= max(own.least, 1) and cell_of(name) != "apart"}
    common, found = min(large.values(), default=0), []
    steps = f"steps={own.steps}"
    for name, size in sizes.items():
        cell, kept = cell_of(name) if name in large else "apart", min(size, common)
        found.append(Arm(name, f"{name}:examples={kept}:{steps}", MATCHED, cell, kept))
        if own.full:
            found.append(Arm(name, f"{name}:{steps}", FULL, cell, size))
    if name := control_of(large):
        inter = f"{name}:random_tags=1:examples={common}:{steps}"
        found.append(Arm(f"{CONTROL} ({name})", inter, MATCHED, "control", common))
    return found


def control_of(names) -> str:
    """The task whose tags are drawn: of the token tasks the first semantic one, whose texts no
    target has, else the first one."""
    token = [name for name in names if cell_of(name).startswith("token")]
    semantic = [name for name in token if cell_of(name).endswith(CONTENTS[1])]
    return [*semantic, *token, ""][0]


def pairs(own, context, arms: list[str], targets: list[str]) -> list[tuple[str, str]]:
    """(arm, target) of all runs."""
    for target in targets:
        if plan.parse_target(target) != [(target, (), ())]:
            raise UserError(f"syntax wants tasks in --target, not {target}")
    inters = [BASELINE, *(arm.inter for arm in sized(own, context, arms))]
    return [(inter, target) for inter in inters for target in targets]


def overlap(name: str, target: str, context: plan.Context) -> str:
    """Whether an intermediate task is trained on a target's own sentences: "", "same sentences",
    "same task" (and the same labels)."""
    english = context.world["english"]
    found = [{path for row in rows for path in splits.find(tasks.get(row), context.data, "train",
                                                           english)}
             for rows in ([name], tasks.get(target).train_on)]
    if not found[0] & found[1]:
        return ""
    same = tasks.get(name).labels == tasks.get(target).labels
    return "same task" if same else "same sentences"


# --------------------------------------------------------------------------------- the effects


class Gains(NamedTuple):
    """Of one target in one condition: what each arm gains over no intermediate task."""

    target: str
    size: str
    key: str                            # "" for the main score, or a value of metrics.json
    arms: list[Arm]
    every: dict[str, Column]            # label -> gain
    sound: dict[str, Column]            # without degenerate runs
    marks: dict[str, str]               # label -> overlap


def gains(found, arms: list[Arm], target: str, size: str, key: str = "") -> Gains:
    result = Gains(target, size, key, [arm for arm in arms if arm.size == size], {}, {}, {})
    base = found.by_seed(BASELINE, target)
    for arm in result.arms:
        for kept, sound in ((result.every, False), (result.sound, True)):
            kept[arm.label] = across.combine(
                (1, across.column(found.by_seed(arm.inter, target), key, sound)),
                (-1, across.column(base, key, sound)))
        result.marks[arm.label] = "" if arm.cell == "control" else overlap(
            arm.label, target, found.setup.context)
    return result


def cell_column(one: Gains, cell: str, kept: dict[str, Column], avoided: set[str]) -> Column:
    """The mean gain of a cell's tasks, without those whose mark is to be avoided; {} where a task
    has no runs yet or none is left."""
    return across.average([kept[arm.label] for arm in one.arms
                           if arm.cell == cell and one.marks[arm.label] not in avoided])


def contrast(one: Gains, form: str, kept, avoided: set[str]) -> Column:
    """Delta: syntactic less semantic in one format; {} where a cell is empty."""
    sides = [cell_column(one, f"{form}, {content}", kept, avoided) for content in CONTENTS]
    return across.combine((1, sides[0]), (-1, sides[1])) if all(sides) else {}


def columns(one: Gains, kept, avoided: set[str]) -> dict[str, tuple[Column, tuple[str, str]]]:
    """Every difference that is told: name -> (column, words)."""
    token, sentence = (contrast(one, form, kept, avoided) for form in ("token", "sentence"))
    found = {"Delta, token": (token, DELTA), "Delta, sentence": (sentence, DELTA)}
    if token and sentence:
        found["interaction"] = across.combine((1, token), (-1, sentence)), INTERACTION
    control = across.average([kept[arm.label] for arm in one.arms if arm.cell == "control"])
    for content in CONTENTS:
        cell = cell_column(one, f"token, {content}", kept, avoided)
        if cell and control:
            found[f"token, {content} - control"] = across.combine((1, cell), (-1, control)), GAIN
    if control:
        found["control - none"] = control, GAIN
    return {name: pair for name, pair in found.items() if pair[0]}


def effects_of(one: Gains, facts: dict, avoided) -> list[across.Effect]:
    sound = columns(one, one.sound, avoided)
    found = [across.effect(f"{one.target}, {one.size}{one.key and f', {one.key}'}", name, words,
                           column, sound[name][0] if name in sound else {}, facts)
             for name, (column, words) in columns(one, one.every, avoided).items()]
    return [effect for effect in found if effect]


# ---------------------------------------------------------------------------------- the report


def report(found) -> list[Section]:
    setup = found.setup
    names, targets = grid.arms_and_targets(setup.context.given)
    arms = sized(setup.own, setup.context, names)
    every = [gains(found, arms, target, size)
             for size in dict.fromkeys(arm.size for arm in arms) for target in targets]
    others = [gains(found, arms, target, MATCHED, "accuracy") for target in targets]
    facts = {lang: languages.of(lang, setup.context.world) for lang in members(every)}
    apart = told_of([one for one in every if any(one.marks.values())], facts,
                    {"same task", "same sentences"})
    return [answer(told_of(every, facts), setup.own, arms), arm_section(every),
            *(language_section(one, facts) for one in every),
            Section("Breakdown", ["Means of Delta over the languages of a kind; no tests."],
                    [breakdown(one, facts) for one in every]),
            table_section("Accuracy instead of F1 over chunks", told_of(others, facts)),
            table_section("Without tasks on the target's sentences", apart)]


def members(every: list[Gains]) -> list[str]:
    """The languages of which anything is known."""
    return list(dict.fromkeys(lang for one in every for column in one.every.values()
                              for lang in column))


def told_of(every: list[Gains], facts: dict, avoided=frozenset({"same task"})) -> list[across.Told]:
    """All effects, corrected together."""
    return across.conclude([effect for one in every for effect in effects_of(one, facts, avoided)])


def table_section(title: str, told: list[across.Told]) -> Section:
    return Section(title, ["Corrected apart from the answer."],
                   [across.table(told)] if told else [])


def answer(told: list[across.Told], own, arms: list[Arm]) -> Section:
    sizes = {arm.examples for arm in arms if arm.size == MATCHED and arm.cell != "apart"}
    notes = [f"Every intermediate stage takes {own.steps:,} optimizer steps; matched: on "
             f"{max(sizes, default=0):,} training examples each. The cells' means leave out what "
             "is the same task as the target."]
    notes += across.lines([one for one in told if one.effect.what.startswith(("Delta", "inter"))])
    return Section("Syntactic against semantic", notes, [across.table(told)] if told else [])


def arm_section(every: list[Gains]) -> Section:
    """The gain of each arm over no intermediate task: mean over languages, SD over seeds."""
    tables = []
    for one in every:
        rows = [[arm.label, arm.cell, f"{arm.examples:,}", one.marks[arm.label] or "no",
                 *gain_cells(one, arm.label)] for arm in one.arms]
        tables.append(Table([f"{one.target}, {one.size}", "cell", "examples", "overlap",
                             "gain over none", "without \u2020 runs"], rows))
    return Section("Gains of the arms", [
        "Mean over zero-shot languages, mean and SD over seeds. Overlap: of the intermediate "
        "training sentences with the target's. Apart: too small, or of another kind; in no mean."],
        tables)


def gain_cells(one: Gains, label: str) -> list[str]:
    cells = []
    for kept, empty in ((one.every, "missing"), (one.sound, "none is left")):
        by_seed = {}
        for values in kept[label].values():
            for seed, value in values.items():
                by_seed.setdefault(seed, []).append(value)
        cells.append(signed([mean(values) for values in by_seed.values()]) if by_seed else empty)
    return cells


def deltas(one: Gains) -> dict[str, dict[str, float]]:
    """"token" and "sentence" -> language -> Delta, seeds averaged."""
    return {form: across.means(contrast(one, form, one.every, {"same task"}))
            for form in ("token", "sentence")}


def language_section(one: Gains, facts: dict) -> Section:
    """Delta of each language, with the cells' gains."""
    cells = [f"{form}, {content}" for form in ("token", "sentence") for content in CONTENTS]
    by_cell = {cell: across.means(cell_column(one, cell, one.every, {"same task"}))
               for cell in cells}
    by_form = deltas(one)
    rows = []
    for lang in members([one]):
        known = facts[lang]
        rows.append([lang, known.family, known.script, known.order, known.group,
                     *(cell_text(by_cell[cell], lang) for cell in cells),
                     *(cell_text(values, lang) for values in by_form.values())])
    header = ["language", "family", "script", "order", "group", *cells,
              *(f"Delta, {form}" for form in by_form)]
    return Section(f"Languages: {one.target}, {one.size}", [], [Table(header, rows)])


def cell_text(values: dict[str, float], lang: str) -> str:
    return f"{values[lang]:+.1f}" if lang in values else "missing"


def breakdown_rows(one: Gains, facts: dict) -> list[list[str]]:
    rows = []
    for what in ("script", "family", "group", "order"):
        kinds = {}
        for lang in members([one]):
            kinds.setdefault(getattr(facts[lang], what), []).append(lang)
        for kind, alike in sorted(kinds.items()):
            known = [[values[lang] for lang in alike if lang in values]
                     for values in deltas(one).values()]
            rows.append([what, kind, str(len(alike)),
                         *(f"{mean(some):+.1f}" if some else "missing" for some in known)])
    return rows


def breakdown(one: Gains, facts: dict) -> Table:
    header = [f"{one.target}, {one.size}: by", "kind", "languages", "Delta, token",
              "Delta, sentence"]
    return Table(header, breakdown_rows(one, facts))


CORE = [BASELINE, *study.of("syntax:core")]
STUDY = study.Study(
    name="syntax", title="Syntactic and semantic intermediate tasks", doc=__doc__,
    inter=",".join(CORE), target=",".join(study.of("syntax:target")),
    full_inter=",".join([*CORE, *study.of("syntax:more")]),
    full_target=",".join(study.of("syntax:target")),
    report=report, long=across.example_rows, add_flags=add_flags, asks_models=False, pairs=pairs)


def main(arguments: list[str]) -> int:
    return study.main(STUDY, arguments)
