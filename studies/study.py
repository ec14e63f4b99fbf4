"""What all studies share: flags, the plan, training and measuring, the report of what was found.

    arguments --prepare--> Setup --work--> run folders, each with its measured conditions
                                 --collect--> Found --Study.report--> sections --> OUT/NAME/

A study is a Study below and a call of main(STUDY, arguments). Every flag of stilts.py holds, with
the study's own defaults for --inter (arms, comma-separated), --target and --seed. Killed at any
moment, the same command goes on; --shard I/N lets N processes share one folder, each beginning
with its own share and then helping the others. Data that are missing cost their arm or target
alone: it is listed as skipped, with the path that was expected.
"""

import argparse
import csv
import gzip
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

import plan
import runs
import splits
import stilts
import tasks
import weights
from checkpoints import log, write_file
from files import UserError
from studies import estimate, grid, measure, page, report, results
from studies.page import Section, Table
from studies.results import BASELINE, Run
from train import Stopped

LONG = ["study", "task", "language", "arm", "seed", "condition", "severity", "noise_seed",
        "example", "cluster", "score", "degenerate", "world", "run"]
EMPTY = ("missing", "")                 # cells that count as not filled
OFF = "n/a"                             # cells that cannot be filled: they count on neither side


@dataclass(frozen=True)
class Study:
    """One command. Toy defaults are small; `full` ones hold with --full."""

    name: str                           # of the command and of its folders
    title: str
    doc: str                            # its module's docstring: what --help prints
    inter: str                          # default arms
    target: str                         # default targets
    full_inter: str
    full_target: str
    report: Callable                    # Found -> list[Section]; the first one holds the answer
    conditions: Callable = lambda setup: 0              # Setup -> how many a run has, to be told
    measure: Callable = lambda setup, run: None         # (Setup, Run): keep all its conditions
    kept: Callable | None = None        # (Setup, Run) -> how many are kept, if not all files there
    long: Callable = lambda found: ()                   # Found -> rows of LONG from the task on
    add_flags: Callable | None = None                   # (parser): flags of its own
    check: Callable = lambda setup: None                # (Setup): raises UserError
    asks_models: bool = True                            # whether encoders of targets must be kept
    kept_as: str = ""                                   # folder in a run, if not the name
    pairs: Callable | None = None       # (flags, context, arms, targets) -> (arm, target) pairs


@dataclass(frozen=True)
class Setup:
    """One command's plan."""

    study: Study
    own: argparse.Namespace             # the study's flags
    context: plan.Context               # .given: those of stilts.py
    pairs: list[tuple[str, str]]        # (arm, target)
    skipped: dict[tuple[str, str], str]           # pair -> what is missing

    @property
    def folder(self) -> Path:
        return self.context.out / self.study.name

    @property
    def notice(self) -> str:
        return self.context.world.get("notice", "")

    @property
    def kept_as(self) -> str:
        return self.study.kept_as or self.study.name


@dataclass(frozen=True, eq=False)
class Found:
    """What is there when a report is written."""

    setup: Setup
    runs: dict[tuple[str, str, int], Run | None]
    failed: dict[str, str]
    scores: dict = field(default_factory=dict)    # for a study to keep what it has read

    @property
    def arms(self) -> list[str]:
        return list(dict.fromkeys(arm for arm, _, _ in self.runs))

    @property
    def compared(self) -> list[str]:
        return [arm for arm in self.arms if arm != BASELINE]

    @property
    def targets(self) -> list[str]:
        return list(dict.fromkeys(target for _, target, _ in self.runs))

    @property
    def seeds(self) -> list[int]:
        return self.setup.context.given.seed

    def by_seed(self, arm: str, target: str) -> dict[int, Run]:
        """{seed: run} of those that are done."""
        return {seed: self.runs[arm, target, seed] for seed in self.seeds
                if self.runs.get((arm, target, seed))}

    def paired(self, arm: str, target: str, other: str = BASELINE) -> dict[int, tuple[Run, Run]]:
        """{seed: (run of the arm, run of the other)} of seeds that have both, checked to differ in
        the arm alone."""
        one, two = self.by_seed(arm, target), self.by_seed(other, target)
        pairs = {seed: (one[seed], two[seed]) for seed in one if seed in two}
        if pairs:
            results.check_alike(list(pairs.values()))
        return pairs


# ------------------------------------------------------------------------------------- the plan


def of(mark: str) -> list[str]:
    """Names of the tasks whose row says that they belong to a study, as "reasoning:core"."""
    return [task.name for task in tasks.TASKS.values() if mark in task.studies]


def parse(study: Study, arguments: list[str]):
    """(the study's flags, stilts.py's)."""
    def add_flags(parser) -> None:
        add = parser.add_argument
        add("--full", action="store_true", help="the whole design instead of the small defaults")
        add("--items", type=int, metavar="N", help="examples a language, the same for all runs "
            "(0: all; default 100, with --full all)")
        add("--noise-seeds", default="13,17,19", metavar="N,N", help="seeds of noise (13,17,19)")
        if study.add_flags:
            study.add_flags(parser)

    def defaults(own) -> list[str]:
        chosen = (study.full_inter, study.full_target) if own.full else (study.inter, study.target)
        return ["--inter", chosen[0], "--target", chosen[1], "--seed", "1,2,3,4,5"]

    own, given = grid.parse(arguments, study.name, study.doc, add_flags, defaults)
    own.items = (0 if own.full else 100) if own.items is None else own.items
    if own.items < 0:
        raise UserError("--items cannot be negative")
    own.noise_seeds = whole_numbers("--noise-seeds", own.noise_seeds)
    return own, given


def whole_numbers(flag: str, text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise UserError(f"{flag} {text}: expected different whole numbers, as in 13,17")
    return [int(part) for part in parts]


def prepare(study: Study, arguments: list[str]) -> Setup:
    """Raises UserError for mistakes; data that are missing are noted."""
    own, given = parse(study, arguments)
    arms, targets = grid.arms_and_targets(given)
    context = stilts.make_context(given)
    every = [(arm, target) for arm in arms for target in targets]
    wanted = study.pairs(own, context, arms, targets) if study.pairs else every
    skipped = {pair: why for pair in wanted if (why := lacking(*pair, context))}
    pairs = [pair for pair in wanted if pair not in skipped]
    if not pairs:
        raise UserError(f"nothing can be run: {next(iter(skipped.values()))}", context.data)
    setup = Setup(study, own, context, pairs, skipped)
    stilts.check_runs(given, pairs, context)
    if study.asks_models and not own.report_only:
        measure.check_kept(list(dict.fromkeys(target for _, target in pairs)), context)
    study.check(setup)
    return setup


def lacking(arm: str, target: str, context: plan.Context) -> str:
    """What is not on disk of an arm's or a target's data, with the path that was expected; ""."""
    steps = plan.parse_target(target)
    task = tasks.get(steps[-1].name)
    split = context.given.split or task.eval_split
    if not splits.languages(task, context.data, split):
        return f"{task.name} {split}: no file (expected {', '.join(task.files.get(split, ()))})"
    try:
        for one in [*plan.parse_arm(arm), *(step._replace(name=name) for step in steps
                                            for name in task.train_on)]:
            plan.training_languages(tasks.get(one.name), one.languages, context)
    except UserError as problem:
        return problem.what
    return ""


# ------------------------------------------------------------------------------------- the work


def work(setup: Setup, jobs: list[grid.Job]) -> dict[str, str]:
    """Train and measure; what failed. Raises Stopped."""
    def do(job: grid.Job, context: plan.Context) -> None:
        grid.do(job, context)
        if job.target:
            measure_run(setup, results.load(
                runs.run_folder(job.inter, job.target, job.seed, context)))

    return grid.work(grid.for_shard(jobs, *setup.own.shard), setup.context, do)


def measure_run(setup: Setup, run: Run) -> None:
    """All conditions of a run that are not kept yet, one process at a time."""
    with runs.locked(run.folder / setup.kept_as):
        setup.study.measure(setup, run)


def collect(setup: Setup, failed: dict[str, str]) -> Found:
    found = {(arm, target, seed): results.load(runs.run_folder(arm, target, seed, setup.context))
             for arm, target in setup.pairs for seed in setup.context.given.seed}
    return Found(setup, found, failed)


def plan_lines(setup: Setup, jobs: list[grid.Job]) -> list[str]:
    """What the grid says of training; what is skipped; how much is to be measured and how long
    that takes, where some of it has been measured before."""
    lines = grid.plan_lines(jobs, setup.context)
    lines += [f"skipped: {arm} -> {target}: {why}" for (arm, target), why in setup.skipped.items()]
    total = setup.study.conditions(setup) * sum(bool(job.target) for job in jobs)
    if total:
        done = [run for run in collect(setup, {}).runs.values() if run]
        left = total - sum((setup.study.kept or kept_count)(setup, run) for run in done)
        each = measure.seconds_each(done, setup.kept_as)
        lines.append(f"{left:,} of {total:,} conditions of runs to measure" + (
            f", about {grid.duration(each * left)} in one process" if each else ""))
    if setup.own.full or setup.context.given.dry_run:
        lines += estimate.lines(setup, jobs, setup.study.conditions(setup))
    return lines


def kept_count(setup: Setup, run: Run) -> int:
    return len(list((run.folder / setup.kept_as).glob("*.json")))


# ----------------------------------------------------------------------------------- the report


def common_sections(found: Found) -> list[Section]:
    """What is missing, failed, skipped, degenerate; the runs that everything was read from."""
    setup = found.setup
    rows = [[f"{arm} -> {target}", "skipped", why] for (arm, target), why in setup.skipped.items()]
    rows += [[f"{arm} -> {target}, seed {seed}", "missing", "not trained yet"]
             for (arm, target, seed), run in found.runs.items() if not run]
    rows += [[name, "failed", why] for name, why in found.failed.items()]
    done = [run for run in found.runs.values() if run]
    rows += [[run.folder.name, "degenerate \u2020", run.degenerate] for run in done
             if run.degenerate]
    tables = [Table(["what", "state", "why"], rows)] if rows else []
    notes = [f"{len(done)} of {len(found.runs)} runs are there, "
             f"{sum(bool(run.degenerate) for run in done)} of them degenerate (judged on English "
             "dev; every aggregate is told with and without them)."]
    return [Section("What is there", notes, tables), run_section(setup, done)]


def run_section(setup: Setup, done: list[Run]) -> Section:
    rows = [[run.folder.name, report.number(run.record["zero_shot"]), run.degenerate,
             str(kept_count(setup, run)), run.digest[:16], run.config["key"]["weights"][:16],
             " ".join(run.config["key"]["stages"]), run.config["recorded"]["commit"][:12],
             run.config["recorded"]["torch"], run.config["recorded"]["device"],
             str(run.config["key"]["precision"])] for run in done]
    header = ["run", "zero-shot", "degenerate", "kept", "sha256 of predictions and gold",
              "weights", "stages", "commit", "torch", "device", "precision"]
    return Section("Runs", [f"Folders in {setup.context.out}; kept: files of this study in the "
                            f"run's folder {setup.kept_as}."], [Table(header, rows)])


def filled(sections: list[Section]) -> tuple[int, int, int]:
    """(cells filled, cells, cells that do not apply) of all tables; a row's first cell, its name,
    is none."""
    texts = [page.plain(cell) for section in sections for table in section.tables
             for row in table.rows for cell in row[1:]]
    off = texts.count(OFF)
    return len(texts) - off - sum(text in EMPTY for text in texts), len(texts) - off, off


def write_report(found: Found) -> str:
    """Write report.md, report.html, report.csv.gz below OUT/NAME; what the command prints."""
    setup, study = found.setup, found.setup.study
    own = study.report(found)
    done, count, off = filled(own)
    own.append(Section("Cells", [f"{done} of {count} cells are filled "
                                 f"({100 * done / max(count, 1):.0f} %); {off} more do not apply "
                                 f"({OFF}); {len(setup.skipped)} of "
                                 f"{len(setup.skipped) + len(setup.pairs)} pairs of arm and target "
                                 "are skipped for want of data."], []))
    sections = own + common_sections(found)
    limited = "LIMITED. " if setup.context.given.limit else ""
    title = f"{'TOY. ' if setup.notice else ''}{limited}{study.title}"
    with grid.waiting(setup.folder):
        write_file(setup.folder / "report.md", page.markdown(title, setup.notice, sections))
        write_file(setup.folder / "report.html", page.html(title, setup.notice, sections))
        weights.write_bytes(setup.folder / "report.csv.gz", [long_table(found)])
    shown = [own[0], own[-1]]
    return (page.markdown(title, "", shown)         # main() prints the notice around it
            + f"\nwritten: {setup.folder / 'report.html'}, report.md, report.csv.gz")


def long_table(found: Found) -> bytes:
    """gzip of a CSV with one row for each score of an example: for anyone's own statistics."""
    content = io.BytesIO()
    with gzip.GzipFile(fileobj=content, mode="wb", mtime=0, compresslevel=6) as packed:
        with io.TextIOWrapper(packed, encoding="utf-8", newline="") as text:
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(LONG)
            for one in found.setup.study.long(found):
                writer.writerow([found.setup.study.name, *one])
    return content.getvalue()


def main(study: Study, arguments: list[str]) -> int:
    """Exit code 0, 2 if a run failed, 130 or 143 stopped by a signal. Raises UserError."""
    setup = prepare(study, arguments)
    print(setup.notice, end="\n" if setup.notice else "")
    jobs = []
    if not setup.own.report_only:
        jobs = grid.plan_jobs(setup.pairs, setup.context)
        print("\n".join(plan_lines(setup, jobs)), flush=True)
    failed = {}
    if not setup.context.given.dry_run:
        stilts.own_folder(setup.context.out)
        try:
            failed = work(setup, jobs)
        except Stopped as stopped:
            log("saved; the same command goes on from here")
            return stopped.args[0]
        print(write_report(collect(setup, failed)))
    print(setup.notice, end="\n" if setup.notice else "")
    return 2 if failed else 0
