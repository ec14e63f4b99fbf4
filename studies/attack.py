"""Adversarial input in the languages that were not trained on: does intermediate training help?

    python -m studies attack                                # toy world: chars and langswap
    python -m studies attack --robust freelb                # crossed with robust training
    python -m studies attack --full --model DIR --data DIR --keep

    runs --attack_runs.assail--> RUN/attack/*.json --attack_report--> OUT/attack/report.md, .html

Every run is attacked by itself, within a budget of queries for each example, always beside random
tries of the same number of edits and of the same budget (search_attack.py). First comes the score
under attack, whose denominator is the same for all models; then the success rate, on the examples
that a model has right, on those that both models have right, and what random tries reach of it;
then how well the inputs made against one model fool the other. hotflip sees the weights: it is a
bound, told apart, and only asked with --full or --attacks.

--robust METHOD trains and attacks everything twice, the target's stages plainly and by a method of
robust training; its report, in OUT/attack-METHOD, sets both side by side. "freelb,radius=0.1" also
changes a number of the method.

Hashes decide with the first of --noise-seeds. Left out: distractors for questions, which need their
own windows, and code-mixing, which needs a dictionary. Not asked: bitext mining and ranked
retrieval, which have no nearest candidate to lose.
"""

import argparse
from dataclasses import replace

import runs
import tasks
from files import UserError
from plan import parse_task
from studies import attack_report, attack_runs, measure, results, study
from studies.measure import Victim
from studies.results import BASELINE, Run
from studies.study import Found, Setup

BLACK_BOX = ("chars", "langswap")
QUERIES = 200
FEW = 30                        # in worlds that are not real: sentences of eight words, 45 edits


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--attacks", default="", metavar="NAME,NAME",
        help="chars, langswap, hotflip (default chars,langswap; with --full all)")
    add("--queries", type=int, default=0, metavar="N",
        help=f"budget of each example, forward passes ({QUERIES}, "
             f"in the toy world {FEW})")
    add("--robust", default="", metavar="METHOD",
        help="also train the targets by rs-rp, rs-da, adv or freelb (off)")


def check(setup: Setup) -> None:
    """Raises UserError for bad flags and for targets that no attack is defined for."""
    unknown = set(attacks(setup)) - set(attack_runs.ATTACKS)
    if unknown:
        raise UserError(f"--attacks {','.join(sorted(unknown))}: expected "
                        f"{', '.join(attack_runs.ATTACKS)}")
    if queries(setup) < 2:
        raise UserError("--queries: a budget of less than two asks nothing but the clean example")
    for _, target in setup.pairs:
        task = tasks.get(parse_task(target)[0])
        if not any(attack_runs.applies(attack, task) for attack in attacks(setup)):
            raise UserError(f"--target {target}: none of {', '.join(attacks(setup))} is defined "
                            "for it")


def attacks(setup: Setup) -> list[str]:
    default = attack_runs.ATTACKS if setup.own.full else BLACK_BOX
    asked = setup.own.attacks.split(",") if setup.own.attacks else default
    return list(dict.fromkeys(asked))


def queries(setup: Setup) -> int:
    is_real = setup.context.world["world"] == "real"
    return setup.own.queries or (QUERIES if is_real else FEW)


def asked_of(setup: Setup) -> attack_runs.Plan:
    own = setup.own
    return attack_runs.Plan(attacks(setup), own.items, own.noise_seeds[0], queries(setup),
                            setup.kept_as)


def languages(setup: Setup, run: Run) -> list[str]:
    """Those that are attacked: not the trained one, but with --full."""
    return run.labelled() if setup.own.full else run.zero_shot()


def conditions(setup: Setup) -> int:
    """Attacks times languages of a run, in the mean over targets."""
    counts = []
    for target in {target for _, target in setup.pairs}:
        task = tasks.get(parse_task(target)[0])
        found = len(measure.splits.languages(task, setup.context.data, task.eval_split))
        counts.append(found * sum(attack_runs.applies(one, task) for one in attacks(setup)))
    return round(sum(counts) / max(len(counts), 1))


def measure_run(setup: Setup, run: Run) -> None:
    """All attacks on a run and, where its counterparts have been attacked, the transfer."""
    asked, chosen = asked_of(setup), languages(setup, run)
    attack_runs.assail(Victim(run, setup.context, asked.items), asked, chosen)
    for other in counterparts(setup, run):
        transfer(setup, run, other)


def counterparts(setup: Setup, run: Run) -> list[Run]:
    """The finished runs of the same target and seed that a run exchanges inputs with: an arm with
    the baseline, the baseline with every arm."""
    key = run.config["key"]
    arms = [arm for arm, target in setup.pairs
            if target == key["target"] and (arm == BASELINE) != (key["inter"] == BASELINE)]
    found = [results.load(runs.run_folder(arm, key["target"], key["seed"], setup.context))
             for arm in arms]
    return [other for other in found if other]


def transfer(setup: Setup, one: Run, two: Run) -> None:
    """Both ways, as far as attacks are kept."""
    asked = asked_of(setup)
    for run, other in ((one, two), (two, one)):
        victim = Victim(run, setup.context, asked.items)
        attack_runs.cross(victim, other, asked, languages(setup, run))


def report(found: Found) -> list:
    """The sections; first the transfers that no process could make while it measured, because the
    other run was not there yet."""
    setup = found.setup
    if not setup.own.report_only:
        for run in filter(None, found.runs.values()):
            for other in counterparts(setup, run):
                transfer(setup, run, other)
    whole = attack_report.Evidence(found, asked_of(setup), lambda run: languages(setup, run))
    if not setup.own.robust:
        return attack_report.sections(whole)
    plain = study.collect(replace(setup, context=plain_context(setup)), {})
    before = attack_report.Evidence(plain, whole.asked, whole.languages)
    return attack_report.crossed_sections(setup.own.robust, before, whole)


def long_rows(found: Found):
    setup = found.setup
    return attack_report.long_rows(attack_report.Evidence(
        found, asked_of(setup), lambda run: languages(setup, run)))


STUDY = study.Study(
    name="attack", title="Adversarial input: intermediate training against plain fine-tuning",
    doc=__doc__, inter="none,mnli,squad", target=",".join(study.of("attack:core")),
    full_inter=",".join([BASELINE, *tasks.INTERMEDIATE]),
    full_target=",".join(study.of("attack:core") + study.of("attack:full")),
    report=report, conditions=conditions, measure=measure_run, long=long_rows, kept_as="attack",
    add_flags=add_flags, check=check)


# ------------------------------------------------------------------- crossed with robust training


def settings(setup: Setup, method: str) -> list[str]:
    """"freelb,radius=0.1" as --set of every row whose settings a target's stages take."""
    name, *numbers = method.split(",")
    rows = []
    for _, target in setup.pairs:
        row, _ = parse_task(target)
        trained = tasks.get(row).train_on
        rows += [row] if len(trained) == 1 else trained
    return [f"{row}.{one}" for row in dict.fromkeys(rows) for one in (f"robust={name}", *numbers)]


def plain_context(setup: Setup):
    """The same command without its robust training."""
    given = argparse.Namespace(**vars(setup.context.given))
    added = {tuple(one.partition("=")[::2]) for one in settings(setup, setup.own.robust)}
    given.set = [(row, name, value) for row, name, value in given.set
                 if (f"{row}.{name}", value) not in added]
    return replace(setup.context, given=given)


def main(arguments: list[str]) -> int:
    """Exit code as of study.main; the first that is not 0 where everything is done twice."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--robust", default="")
    own, plain = parser.parse_known_args(arguments)
    code = study.main(STUDY, plain)
    if code or not own.robust:
        return code
    added = settings(study.prepare(STUDY, plain), own.robust)
    name = f"attack-{own.robust.partition(',')[0]}"
    sets = [part for one in added for part in ("--set", one)]
    return study.main(replace(STUDY, name=name), [*plain, "--robust", own.robust, *sets])
