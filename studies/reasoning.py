"""Does intermediate training make zero-shot reasoning better or more robust outside of English?

    python -m studies reasoning                   the toy world, small defaults
    python -m studies reasoning --full --model DIR --data DIR --keep          the whole design

    run --clean and noisy copies--> scores --> clean gain, difference in differences,
                                               worst language, SD over languages and seeds

XTREME only says that its tasks need reasoning about syntax and semantics, so here is what is meant.
Core: natural language inference and paraphrase under word scrambling (rows marked "reasoning:core"
in tasks.py: XNLI, PAWS-X). Extended: questions on a text (XQuAD, MLQA, TyDiQA). Causal choice
(XCOPA, a task of XTREME-R alone) is printed apart and is in no mean. The headline is the mean over
core targets, of languages other than English; English is printed beside it.

XCOPA's files ask a wrong question in some languages (questions.py): that is looked for, warned
about, and the score with the question of the consensus stands beside that of the files as shipped.
Noise is that of the study of noise, whose measurements are shared.
"""

import math
from pathlib import Path
from statistics import fmean

import plan
import splits
import tasks
from checkpoints import file_sha256, log
from eval import spread
from studies import measure, noise, noisy, questions, report, statistics, study
from studies.measure import Scores, Victim
from studies.noisy import Cells
from studies.page import Section, Table
from studies.results import Run
from studies.study import OFF, Found, Setup

CORE, EXTENDED, APART = "reasoning:core", "reasoning:extended", "reasoning:apart"
CONSENSUS = "consensus"                 # the condition with the question that most languages ask
TOY_NOISE = "mix"


def part(targets: list[str], mark: str) -> list[str]:
    """Those of the targets whose row has a mark."""
    return [target for target in targets if plan.parse_target(target)[-1].name in study.of(mark)]


# ---------------------------------------------------------------------------------- measuring


def is_choice(task) -> bool:
    """Whether its questions can be compared between languages."""
    return task.kind == "multiple_choice" and task.parallel


def check(setup: Setup) -> None:
    """Warns of questions that differ between languages. Raises UserError as noisy.check."""
    noisy.check(setup)
    context = setup.context
    for name in dict.fromkeys(plan.parse_target(target)[-1].name for _, target in setup.pairs):
        task = tasks.get(name)
        split = context.given.split or task.eval_split
        if is_choice(task):
            loaded = {lang: splits.load(task, context.data, split, lang).examples
                      for lang in splits.languages(task, context.data, split)}
            for lang, rows in questions.wrong(loaded).items():
                log(f"warning: {name} {split} {lang}: {len(rows)} of {len(loaded[lang])} items ask "
                    "another question than most languages; both scores will be told")


def measure_run(setup: Setup, run: Run) -> None:
    noisy.measure_run(setup, run)
    victim = Victim(run, setup.context, setup.own.items)
    if is_choice(victim.task):
        measure.keep(run, setup.kept_as, CONSENSUS, deciders(setup),
                     lambda: with_consensus(victim))


def deciders(setup: Setup) -> tuple:
    return setup.own.items, file_sha256(Path(questions.__file__))


def with_consensus(victim: Victim) -> dict[str, Scores]:
    """Scores of the languages that ask a wrong question somewhere, with the right one."""
    whole = {lang: victim.sample(lang).whole for lang in victim.languages}
    majority, bad = questions.consensus(whole), questions.wrong(whole)
    changed = {lang: questions.corrected(victim.sample(lang).examples, majority) for lang in bad}
    answers = victim.answers(changed) if changed else {}
    return {lang: victim.score(lang, answers[lang], wrong=len(bad[lang]), of=len(whole[lang]))
            for lang in changed}


# --------------------------------------------------------------------------------- the report


def write(found: Found) -> list[Section]:
    core, extended = part(found.targets, CORE), part(found.targets, EXTENDED)
    sections = [headline(found, core, "Core: better, more robust?")]
    if extended:
        sections.append(headline(found, core + extended, "Core and extended"))
    sections += [target_section(found), noise.task_section(found)]
    apart = part(found.targets, APART)
    if apart:
        sections += [headline(found, apart, "Apart, in no mean"), question_section(found, apart)]
    return sections + [noise.grid_section(found, target) for target in found.targets]


def headline(found: Found, targets: list[str], title: str) -> Section:
    there = noisy.answered(found, targets)
    told = [effect for arm in found.compared
            for effect in noisy.effects_of(found, arm, there, arm)]
    return noise.answer(title, told, there)


def target_section(found: Found) -> Section:
    header = ["target, arm", "seeds", "clean", "under noise", "clean gain", "DiD",
              "worst language, clean", "worst language, noise", "SD over languages",
              "SD over seeds", "English clean", "English noise"]
    rows = []
    for target in found.targets:
        for arm in found.arms:
            several = noise.shared(found, arm, target)[0]
            label = f"{target}, {arm}{noise.mark(several)}"
            cells = target_cells(found, arm, target, several) if several else \
                ["missing"] * (len(header) - 1)
            rows.append([label, *cells])
    return Section("Each target and arm", [
        "Means over languages other than English and over seeds, with the SD over seeds; noise: "
        "mean over all conditions. Gain and DiD are against no intermediate task. Worst: the "
        "language with the lowest mean over seeds. SD over languages: of these means, clean. "
        "\u2020: with a degenerate run.", *noise.sound_notes(found)], [Table(header, rows)])


def target_cells(found: Found, arm: str, target: str, several: list[Cells]) -> list[str]:
    if not several[0].whole:
        return [str(len(several)), *[OFF] * 10]
    clean, noisy_means = noise.means(several)
    by_lang = {lang: fmean(fmean(one.clean[lang].values) for one in several)
               for lang in several[0].whole}
    under = {lang: fmean(one.noisy(lang).mean() for one in several) for lang in by_lang}
    changes = [noisy.compare_arms(found, arm, [target], value) if arm in found.compared else None
               for value in (noisy.clean_gain, noisy.saved)]
    return [str(len(several)), spread(clean), spread(noisy_means),
            *(report.signed(one.by_seed) if one else OFF for one in changes),
            worst(by_lang), worst(under), sd(list(by_lang.values())), sd(clean),
            *noise.english_cells(several)]


def worst(by_lang: dict[str, float]) -> str:
    lang = min(by_lang, key=by_lang.get)
    return f"{by_lang[lang]:.1f} {lang}"


def sd(values: list[float]) -> str:
    found = statistics.mean_sd(values)[1]
    return OFF if math.isnan(found) else f"{found:.1f}"


def question_section(found: Found, targets: list[str]) -> Section:
    """Both scores of the languages that ask another question than most."""
    rows = []
    for target in targets:
        kept = {arm: consensus_scores(found, arm, target) for arm in found.arms}
        first = next((several[0][1] for several in kept.values() if several), {})
        for lang, one in first.items():
            rows.append([f"{target}, {lang}", f"{one.facts['wrong']} of {one.facts['of']}",
                         *(question_cell(kept[arm], lang) for arm in found.arms)])
    notes = ["Items whose question differs from that of most languages: score as shipped -> score "
             "with the question of the consensus."]
    return Section("Wrong questions", notes if rows else ["No language asks another question than "
                                                          "most do."],
                   [Table(["target, language", "items", *found.arms], rows)] if rows else [])


def consensus_scores(found: Found, arm: str, target: str) -> list[tuple[Cells, dict]]:
    """(cells, scores with the consensus' question) of each seed."""
    setup = found.setup
    several = noise.shared(found, arm, target)[0]
    kept = [(one, measure.kept(one.run, setup.kept_as, CONSENSUS, deciders(setup)))
            for one in several]
    return [(one, scores) for one, scores in kept if scores is not None]


def question_cell(kept: list[tuple[Cells, dict]], lang: str) -> str:
    if not kept:
        return "missing"
    return (spread([fmean(one.clean[lang].values) for one, _ in kept]) + " -> "
            + spread([fmean(scores[lang].values) for _, scores in kept]))


STUDY = study.Study(
    name="reasoning", title="Reasoning outside of English", doc=__doc__,
    inter="none,mnli,squad", target=",".join(study.of(CORE)),
    full_inter="none,mnli,squad,hellaswag,all",
    full_target=",".join(study.of(CORE) + study.of(EXTENDED) + study.of(APART)),
    report=write, conditions=noisy.count, measure=measure_run, kept=noisy.kept, long=noisy.rows,
    add_flags=lambda parser: noisy.add_flags(parser, TOY_NOISE, noisy.HEADLINE),
    check=check, kept_as=noise.STUDY.name)


def main(arguments: list[str]) -> int:
    return study.main(STUDY, arguments)
