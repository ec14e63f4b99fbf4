"""Noise asked of finished runs: conditions, noisy copies of what they are asked, scores read back.

    Condition --copy_of--> Copy of a language --Victim--> answers --> Scores (measure.py)
    kept Scores --read--> Cells of a run --gain, saved--> differences [S, E] --> effects.py

A condition is "clean" or one function at one severity with one noise seed. Noise lies on all that a
model reads of an example but for questions, where --noise-field says on which side: by default the
question; "context" maps each predicted span back to the clean context and scores it clean against
clean. In retrieval it lies on the side that is not English (of Tatoeba, whose queries are English,
the candidates). A language where a function does not apply has no score there: "n/a" in every
table and in no mean, never a drop of zero.
"""

from collections import Counter
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np

import plan
from checkpoints import file_sha256
from files import UserError
from studies import effects, measure, perturb, scripts
from studies.measure import Scores, Victim
from studies.results import BASELINE, Comparison, Run
from studies.study import Found, Setup, whole_numbers

HEADLINE = "swap,drop,dup,sub,marks,case,space,mix"
FIELDS = ("question", "context")
HELD_MOST = 200_000                     # noisy examples that are held for the next run
HELD: dict[tuple, "Copy | None"] = {}
CLEAN = "clean"


class Condition(NamedTuple):
    """One kind of noise; function "" is clean input."""

    function: str
    severity: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.function}-{self.severity}-{self.seed}" if self.function else CLEAN


class Copy(NamedTuple):
    """A language's examples with noise, aligned with the sample, and how noisy they are."""

    examples: list
    edits: list[dict]
    facts: dict                         # shares: "rate" (of clusters), "changed", "visible" after
    #                                     the tokenizer's normalisation, "pieces" that are new


# ---------------------------------------------------------------------------- flags, conditions


def add_flags(parser, noise: str, full_noise: str) -> None:
    add = parser.add_argument
    add("--noise", metavar="NAMES", help=f"functions of {', '.join(perturb.FUNCTIONS)} (default "
        f"{noise}; with --full {full_noise})")
    add("--severity", metavar="N,N", help="1 to 5: 1, 2, 4, 6, 10 %% of the letters (default "
        "1,3,5; with --full all)")
    add("--noise-field", choices=FIELDS, default="question",
        help="of questions: which text is noised (question)")
    add("--errors", type=Path, metavar="FILE", help="for `natural`: a word and its misspellings on "
        "each line")
    parser.set_defaults(default_noise=noise, full_noise=full_noise)


def check(setup: Setup) -> None:
    """Raises UserError for what conditions() or copy_of() could not use."""
    own = setup.own
    unknown = [name for name in functions(own) if name not in perturb.FUNCTIONS]
    if unknown:
        raise UserError(f"--noise {unknown[0]}: expected some of {', '.join(perturb.FUNCTIONS)}")
    if not all(1 <= severity <= 5 for severity in severities(own)):
        raise UserError(f"--severity {own.severity}: expected numbers from 1 to 5")
    if ("natural" in functions(own)) != bool(own.errors):
        raise UserError("--noise natural and --errors FILE belong together")
    if own.errors:
        perturb.read_errors(own.errors)


def functions(own) -> list[str]:
    return (own.noise or (own.full_noise if own.full else own.default_noise)).split(",")


def severities(own) -> list[int]:
    return whole_numbers("--severity", own.severity or ("1,2,3,4,5" if own.full else "1,3,5"))


def conditions(setup: Setup) -> list[Condition]:
    own = setup.own
    return [Condition("", 0, 0)] + [
        Condition(function, severity, seed) for function in functions(own)
        for severity in severities(own) for seed in own.noise_seeds]


def count(setup: Setup) -> int:
    return len(conditions(setup))


def kept(setup: Setup, run: Run) -> int:
    """How many conditions of a run are kept."""
    return sum(measure.file_of(run, setup.kept_as, condition.name,
                               deciders(run.task, condition, setup.own)).exists()
               for condition in conditions(setup))


def field_of(task, own) -> str:
    """"question" or "context" for questions, else ""."""
    return own.noise_field if task.kind == "span" else ""


def deciders(task, condition: Condition, own) -> tuple:
    """What decides scores under noise beside the run: items, field, misspellings, this code."""
    if not condition.function:
        return own.items, code_digest()
    listed = file_sha256(own.errors) if condition.function == "natural" else ""
    return own.items, field_of(task, own), listed, code_digest()


def code_digest() -> str:
    rooms = (perturb.__file__, scripts.__file__, __file__)
    return plan.digest([plan.sha256(Path(room)) for room in rooms])


# ---------------------------------------------------------------------------------- measuring


def measure_run(setup: Setup, run: Run) -> None:
    """Keep all conditions of a run."""
    victim = Victim(run, setup.context, setup.own.items)
    for condition in conditions(setup):
        measure.keep(run, setup.kept_as, condition.name,
                     deciders(victim.task, condition, setup.own),
                     lambda: scores(victim, condition, setup.own))


def scores(victim: Victim, condition: Condition, own) -> dict[str, Scores]:
    """{language: scores} of the languages where the condition applies."""
    samples = {lang: victim.sample(lang) for lang in victim.languages}
    if not condition.function:
        answers = victim.answers({lang: asked.examples for lang, asked in samples.items()})
        return {lang: victim.score(lang, answers[lang], chance=asked.chance,
                                   script=script_of(asked.examples))
                for lang, asked in samples.items()}
    copies = {lang: copy for lang in samples if (copy := copy_of(victim, lang, condition, own))}
    if field_of(victim.task, own) == "context":
        return {lang: in_context(victim, lang, copy) for lang, copy in copies.items()}
    asked = {lang: copies[lang].examples if lang in copies else samples[lang].examples
             for lang in samples if lang in copies or victim.task.search == "ranked"}
    answers = victim.answers(asked) if copies else {}
    return {lang: victim.score(lang, answers[lang], **copy.facts) for lang, copy in copies.items()}


def in_context(victim: Victim, lang: str, copy: Copy) -> Scores:
    """Spans found in noisy contexts, scored as what they stand for in the clean ones; "ceiling" is
    what a model without fault would score."""
    clean = victim.sample(lang).examples
    answers = [perturb.restore(one.context, edits.get("context", ()), *span)
               for one, edits, span in zip(clean, copy.edits, victim.spans(copy.examples))]
    best = victim.score(lang, perturb.best_answers(clean, copy.edits)).values
    return victim.score(lang, answers, **copy.facts, ceiling=fmean(best))


def script_of(examples: list) -> str:
    """The commonest script of the words that noise would touch."""
    fields = perturb.FIELDS[type(examples[0])]
    counts = Counter(
        scripts.script(text[word.bounds[0]]) for example in examples[:200]
        for text in perturb.view(example, fields) for word in scripts.words(text))
    return counts.most_common(1)[0][0] if counts else "none"


def side_of(task) -> str:
    """The side of retrieval that is not English; of what is no retrieval, any."""
    return "candidate" if task.search == "pairs" else "query"


def copy_of(victim: Victim, lang: str, condition: Condition, own) -> Copy | None:
    """The noisy sample of a language, None where the condition is n/a. It is the same for all runs
    of a target and is held for the next one."""
    run, task = victim.run, victim.task
    key = (task.name, run.config["paths"]["data"], victim.split, lang, run.record["limited"],
           victim.items, condition, field_of(task, own), str(own.errors))
    if key not in HELD:
        held = sum(len(copy.examples) for copy in HELD.values() if copy)
        if held > HELD_MOST:
            HELD.clear()
        HELD[key] = make_copy(victim, lang, condition, own)
    return HELD[key]


def make_copy(victim: Victim, lang: str, condition: Condition, own) -> Copy | None:
    asked, tokenizer = victim.sample(lang), victim.loaded[1]
    calibration = calibrated(victim, lang, own)
    noisy = perturb.perturb(asked.examples, calibration, *condition,
                            normalise=tokenizer.processor.normalize)
    if noisy is None:
        return None
    noised = [pair for pair in zip(asked.examples, noisy.examples)
              if perturb.is_noised(pair[0], calibration.side)]
    facts = {"rate": noisy.rate, "changed": noisy.changed, "visible": noisy.visible,
             "pieces": new_pieces(noised, list(calibration.counts), tokenizer)}
    return Copy(noisy.examples, noisy.edits, facts)


def calibrated(victim: Victim, lang: str, own) -> perturb.Calibration:
    """Counted over the whole file, once for all conditions."""
    run, field = victim.run, field_of(victim.task, own)
    key = ("calibration", victim.task.name, run.config["paths"]["data"], victim.split, lang,
           run.record["limited"], field, str(own.errors))
    if key not in CALIBRATED:
        errors = perturb.read_errors(own.errors) if own.errors else None
        CALIBRATED[key] = perturb.calibrate(
            victim.sample(lang).whole, victim.task.name, lang, (field,) if field else None,
            side_of(victim.task), errors)
    return CALIBRATED[key]


CALIBRATED: dict[tuple, perturb.Calibration] = {}


def new_pieces(noised: list[tuple], fields: list[str], tokenizer) -> float:
    """The share of pieces, of all texts in the fields of pairs (clean, noisy), that noise has put
    there: pieces of a noisy text less those that its clean one has."""
    texts = [[text for example in side for text in perturb.view(example, fields)]
             for side in zip(*noised)]
    before, after = (tokenizer.encode(side) for side in texts)
    fresh = 0
    for i, (one, other) in enumerate(zip(*texts)):
        if one != other:
            old, new = (Counter(p.ids[p.bounds[i]:p.bounds[i + 1]].tolist())
                        for p in (before, after))
            fresh += (new - old).total()
    return fresh / max(1, len(after.ids))


# --------------------------------------------------------------------------------- reading back


class Cells:
    """All scores of one run: condition -> language -> Scores."""

    def __init__(self, run: Run, by_condition: dict[Condition, dict[str, Scores]]):
        self.run, self.by_condition = run, by_condition
        self.clean = by_condition.get(Condition("", 0, 0), {})

    def noisy(self, lang: str, only=None) -> np.ndarray | None:
        """Mean over conditions of the score of each example [E]; None where none applies. only:
        condition -> whether it counts (default: all noise)."""
        found = [by[lang].values for condition, by in self.by_condition.items()
                 if condition.function and lang in by and (not only or only(condition))]
        return np.mean(found, axis=0) if found else None

    def facts(self, name: str, only) -> list[float]:
        """A fact of every condition that counts, in every language."""
        return [one.facts[name] for condition, by in self.by_condition.items() if only(condition)
                for one in by.values() if name in one.facts]

    @cached_property
    def whole(self) -> list[str]:
        """Languages other than English that have a clean score and a noisy one."""
        return [lang for lang in self.run.zero_shot()
                if lang in self.clean and self.noisy(lang) is not None]

    def chance(self) -> float:
        return fmean(self.clean[lang].facts["chance"] for lang in self.whole)


def read(found: Found) -> dict[tuple[str, str, int], Cells]:
    """What is kept of all runs that are there and have all of their conditions."""
    setup, wanted = found.setup, conditions(found.setup)
    cells = {}
    for key, run in found.runs.items():
        by_condition = {} if run is None else {
            condition: kept for condition in wanted
            if (kept := measure.kept(run, setup.kept_as, condition.name,
                                     deciders(run.task, condition, setup.own))) is not None}
        if len(by_condition) == len(wanted):
            cells[key] = Cells(run, by_condition)
    return cells


def cells_of(found: Found) -> dict[tuple[str, str, int], Cells]:
    if not found.scores:
        found.scores.update(read(found))
    return found.scores


# ---- differences


def clean_gain(arm: Cells, base: Cells, lang: str) -> np.ndarray:
    """Clean score of an arm less that of the baseline, of each example [E]."""
    return np.subtract(arm.clean[lang].values, base.clean[lang].values)


def saved(arm: Cells, base: Cells, lang: str, only=None) -> np.ndarray | None:
    """Difference in differences: what the arm keeps of its clean score, less what the baseline
    keeps, of each example [E]; None where it is n/a."""
    noisy = arm.noisy(lang, only), base.noisy(lang, only)
    if noisy[0] is None or noisy[1] is None:
        return None
    return noisy[0] - noisy[1] - clean_gain(arm, base, lang)


def compare_arms(found: Found, arm: str, targets: list[str], value) -> Comparison | None:
    """An arm against the baseline over targets and languages other than English; of seeds that have
    all runs on both sides. value(arm's Cells, baseline's Cells, language) -> [E] or None."""
    cells = cells_of(found)
    seeds = [seed for seed in found.seeds if targets and all(
        (name, target, seed) in cells for name in (arm, BASELINE) for target in targets)]
    pairs, values, clusters = {seed: [] for seed in seeds}, [], []
    for target in targets if seeds else ():
        found.paired(arm, target)                       # raises where more than the arm differs
        sides = [(cells[arm, target, seed], cells[BASELINE, target, seed]) for seed in seeds]
        values.append(stacked(sides, value))
        victim = Victim(sides[0][0].run, found.setup.context, found.setup.own.items)
        clusters.append({lang: victim.sample(lang).clusters for lang in values[-1]})
        for seed, (one, other) in zip(seeds, sides):
            pairs[seed].append((one.run, other.run))
    return effects.difference(pairs, values, clusters)


def stacked(sides: list[tuple[Cells, Cells]], value) -> dict[str, np.ndarray]:
    """language -> value of each seed and example [S, E], of languages where there is one."""
    found = {lang: [value(one, other, lang) for one, other in sides] for lang in sides[0][0].whole}
    return {lang: np.stack(part) for lang, part in found.items() if part[0] is not None}


def effects_of(found: Found, arm: str, targets: list[str], label: str) -> list[effects.Effect]:
    """The two effects that a study of noise tells of an arm."""
    return [effects.Effect(label, "clean gain", effects.GAIN,
                           compare_arms(found, arm, targets, clean_gain)),
            effects.Effect(label, "difference in differences", effects.ROBUST,
                           compare_arms(found, arm, targets, saved))]


def answered(found: Found, targets: list[str]) -> list[str]:
    """Targets that all arms have been measured on with a common seed."""
    cells = cells_of(found)
    return [target for target in targets if any(
        all((arm, target, seed) in cells for arm in found.arms) for seed in found.seeds)]


def rows(found: Found):
    """The rows of the long table: every score of every example."""
    items = found.setup.own.items
    for (arm, target, seed), cells in cells_of(found).items():
        victim = Victim(cells.run, found.setup.context, items)
        for condition, by in cells.by_condition.items():
            for lang, one in by.items():
                asked = victim.sample(lang)
                for name, cluster, value in zip(asked.names, asked.clusters, one.values):
                    yield (target, lang, arm, seed, condition.function or CLEAN,
                           condition.severity, condition.seed, name, cluster, f"{value:.6g}",
                           int(bool(cells.run.degenerate)), cells.run.record["world"],
                           cells.run.folder.name)
