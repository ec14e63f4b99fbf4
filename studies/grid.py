"""Every intermediate arm x every target x every seed; what several runs share is trained once.

    python -m studies grid --inter none,mnli,squad+squad2 --target tydiqa,xnli,panx --seed 1,2,3
    ... --shard 2/4        one of four processes, on one machine or on several with a shared folder
    ... --dry-run          print the plan and touch nothing
    ... --report-only      write OUT/report/report.md, .csv and .html of what is there

    plan_run --plan_jobs--> jobs --work (runs.run)--> run folders --> report.py

Every other flag is stilts.py's own. Killed at any moment, the same command goes on. A shard begins
with its share of the arms and seeds and then helps with the rest, so nothing is dropped when a
process dies; what another one has locked is left for later. A run that fails stops no other.
"""

import argparse
import itertools
import os
import re
import time
import traceback
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import mean

import data
import plan
import runs
import stilts
import weights
from checkpoints import log
from files import UserError
from studies import report, results
from train import Stopped, stage_steps

PAUSE = 5                       # seconds between two looks at what others have locked


@dataclass(frozen=True)
class Job:
    """One run or, without a target, the intermediate stages that all targets of an arm share."""

    inter: str
    target: str
    seed: int
    stages: list[plan.Stage]

    @property
    def name(self) -> str:
        return f"{self.inter} -> {self.target or 'all targets'}, seed {self.seed}"

    @property
    def group(self) -> tuple[str, int]:
        return self.inter, self.seed


# ------------------------------------------------------------------------------------ plan


def parse(arguments, prog: str = "grid", doc: str = __doc__, add_flags=None, defaults=None):
    """(flags of a command of studies/, flags of stilts.py with the lists split).

    add_flags(parser) adds more of the command's own; defaults(own) gives flags of stilts.py that
    hold where the command names none. Raises UserError.
    """
    parser = stilts.Parser(prog=f"python -m studies {prog}", description=doc, allow_abbrev=False,
                           formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shard", default="1/1", metavar="I/N", help="one of N processes (1/1)")
    parser.add_argument("--report-only", action="store_true", help="train nothing")
    if add_flags:
        add_flags(parser)
    own, rest = parser.parse_known_args(arguments)
    own.shard = parse_shard(own.shard)
    _, given = stilts.parse([*(defaults(own) if defaults else []), *rest])
    stilts.check_given(given)
    if os.environ.get("WORLD_SIZE", "1") != "1" or given.controls or given.missing:
        raise UserError(f"{prog} is no command for torchrun (--shard), --controls or --missing")
    if not given.target or given.target == "none" or given.layer == "all":
        raise UserError(f"{prog} wants --target with tasks, and --layer with one number")
    return own, given


def parse_shard(text: str) -> tuple[int, int]:
    shard = re.fullmatch(r"(\d{1,4})/(\d{1,4})", text)
    if not shard or not 1 <= int(shard[1]) <= int(shard[2]):
        raise UserError(f"--shard {text}: expected I/N with I from 1 to N, as in 2/4")
    return int(shard[1]), int(shard[2])


def arms_and_targets(given) -> tuple[list[str], list[str]]:
    """The lists of --inter and --target, each arm checked as stilts.py checks it."""
    arms = list(dict.fromkeys(plan.split_list(given.inter)))
    for arm in arms:
        _, targets = stilts.chosen_tasks(argparse.Namespace(**vars(given) | {"inter": arm}))
    return arms, list(dict.fromkeys(targets))


def plan_jobs(pairs: list[tuple[str, str]], context: plan.Context) -> list[Job]:
    """All jobs of pairs (arm, target) by seed and arm, shared stages before the runs that need
    them."""
    jobs = []
    for seed in context.given.seed:
        for arm in dict.fromkeys(arm for arm, _ in pairs):
            targets = [target for name, target in pairs if name == arm]
            chosen = targets if arm == "none" else ["", *targets]
            jobs += [Job(arm, target, seed, plan.plan_run(arm, target or "none", seed, context))
                     for target in chosen]
    return jobs


def for_shard(jobs: list[Job], number: int, count: int) -> list[Job]:
    """Every count-th group of one arm and seed, from the number-th (1-based), then the groups of
    the following shards; within a share, shared stages first."""
    groups = {group: i for i, group in enumerate(dict.fromkeys(job.group for job in jobs))}

    def place(job: Job) -> tuple[int, bool]:
        return (groups[job.group] + 1 - number) % count, job.target != ""

    return sorted(jobs, key=place)


def is_done(job: Job, context: plan.Context) -> bool:
    return (runs.run_folder(job.inter, job.target, job.seed, context) / "DONE").exists()


# ------------------------------------------------------------------- the plan, printed


def plan_lines(jobs: list[Job], context: plan.Context) -> list[str]:
    """Counts with and without sharing, what is left to train and how long it takes, peak disk."""
    shared = {job.group: {stage.key for stage in job.stages} for job in jobs if not job.target}
    wanted = [job for job in jobs if job.target]
    stages = {stage.key: stage for job in jobs for stage in job.stages}
    first = set().union(*shared.values())
    repeated = sum(len(shared.get(job.group, ())) for job in wanted)
    done = sum(is_done(job, context) for job in wanted)
    return [f"{len(wanted)} runs, {done} of them done",
            f"{len(first)} intermediate stages (without sharing {repeated})",
            f"{len(stages) - len(first)} target stages (without sharing "
            f"{sum(len(job.stages) for job in wanted) - repeated})", "",
            *estimate_lines(list(stages.values()), context), "",
            disk_line(len(first), len(stages) - len(first), context)]


def estimate_lines(stages: list[plan.Stage], context: plan.Context) -> list[str]:
    """Steps and, where a stage of the same settings has been trained for a while, training time."""
    alike = {}
    for stage in stages:
        settings = plan.digest(stage.members, stage.values, stage.files)
        alike.setdefault((stage.names, settings), []).append(stage)
    tokenizer = data.Tokenizer(weights.load_encoder(context.model)[2])
    lines, total, unknown = [], 0.0, 0
    for (names, _), group in alike.items():
        left = sum(not stage_done(stage, context) for stage in group)
        steps = steps_of(group, context, tokenizer)
        rates = [rate for stage in group if (rate := seconds_per_step(stage, context))]
        seconds = left * steps * mean(rates) if rates else 0.0
        is_known = bool(seconds) or not left
        total, unknown = total + seconds, unknown + (0 if is_known else left)
        lines.append(f"| {names} | {left} of {len(group)} | {f'{steps:,}' if steps else '?'} | "
                     f"{duration(seconds) if is_known else 'not measured'} |")
    return ["| stage | to train | steps each | training time |", "|---|---|---|---|", *lines, "",
            f"training time {duration(total)} in one process, evaluation not counted"
            + (f", and {unknown} stages of unknown speed" if unknown else "")]


def stage_done(stage: plan.Stage, context: plan.Context) -> bool:
    return (context.out / "stages" / stage.key / "DONE").exists()


def steps_of(group: list[plan.Stage], context: plan.Context, tokenizer) -> int:
    """Optimizer steps of stages with the same settings: as a finished one took, as set or, for
    --dry-run, counted in the data; else 0."""
    for stage in group:
        if stage_done(stage, context) and (rows := journal(stage, context)):
            return rows[-1]["step"]
    stage = group[0]
    settings = runs.stage_settings(stage)
    if settings["steps"] or not context.given.dry_run:
        return settings["steps"]
    return stage_steps({member.name: runs.load_part(member, stage, context, tokenizer)
                        for member in stage.members}, settings)


def journal(stage: plan.Stage, context: plan.Context) -> list[dict]:
    return results.read_journal(context.out / "stages" / stage.key)


def seconds_per_step(stage: plan.Stage, context: plan.Context) -> float:
    """Dev scores included; 0 without a measurement. The clock starts anew in every process."""
    rows = journal(stage, context)
    pairs = [(a, b) for a, b in zip(rows, rows[1:]) if a["seconds"] <= b["seconds"]]
    steps = sum(b["step"] - a["step"] for a, b in pairs)
    return sum(b["seconds"] - a["seconds"] for a, b in pairs) / steps if steps else 0.0


def duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def disk_line(first: int, last: int, context: plan.Context) -> str:
    """Encoders that stay, and the three checkpoints (weights, two moments) of a stage at work."""
    size = 4 * sum(tensor.numel() for tensor in weights.load_encoder(context.model)[1].values())
    kept = first + (last if context.given.keep or size <= runs.KEEP_BYTES else 0)
    return (f"peak disk about {(kept + 9) * size / 1e9:.2f} GB: {kept} encoders of "
            f"{size / 1e9:.2f} GB stay, a process needs {9 * size / 1e9:.2f} GB while it trains")


# ------------------------------------------------------------------------------------ work


def work(jobs: list[Job], context: plan.Context, do_job=None) -> dict[str, str]:
    """Do all jobs; what others have locked comes last, again and again. do_job(job, context): what
    is done for one, do() itself or more than it. Returns what failed, as job's name -> one line.
    Raises Stopped."""
    unfinished = {job.group for job in jobs if job.target and not is_done(job, context)}
    waiting, failed, told = [job for job in jobs if job.target or job.group in unfinished], {}, 0
    while waiting:
        busy = [job for job in waiting if not attempt(job, failed, context, do_job or do)]
        if busy and len(busy) != told:
            log(f"{len(busy)} jobs wait for other processes, as {busy[0].name}")
            told = len(busy)
        if busy:
            time.sleep(PAUSE)
        if code := context.stop():
            raise Stopped(code)
        waiting = busy
    return failed


def attempt(job: Job, failed: dict[str, str], context: plan.Context, do_job) -> bool:
    """Do one job or note why it failed; False if another process is at it."""
    shared = Job(job.inter, "", job.seed, []).name
    if shared in failed:
        failed[job.name] = f"its intermediate stage failed ({failed[shared]})"
        return True
    try:
        do_job(job, context)
    except runs.Busy:
        return False
    except Stopped:
        raise
    except Exception as problem:        # whatever it is, it must not cost the other runs
        if not isinstance(problem, stilts.EXPECTED):
            traceback.print_exc()
        failed[job.name] = stilts.one_line(problem) or repr(problem)
        log(f"error: {job.name}: {failed[job.name]}")
    return True


def do(job: Job, context: plan.Context) -> None:
    """Train what is missing; of a run, also score the examples for the report."""
    if job.target:
        runs.run_until_sound(job.inter, job.target, job.seed, context)
        results.example_scores(results.load(
            runs.run_folder(job.inter, job.target, job.seed, context)))
        return
    start = context.model
    for stage in job.stages:
        start = runs.run_stage(stage, start, context)


@contextmanager
def waiting(folder: Path):
    """The lock of a folder, when it is free: shards end together, each with the same report."""
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(runs.locked(folder))
                break
            except runs.Busy:
                time.sleep(1)
        yield


def main(arguments=None) -> int:
    """Exit code 0, 2 if a run failed, 130 or 143 stopped by a signal. Raises UserError."""
    own, given = parse(arguments)
    arms, targets = arms_and_targets(given)
    context, jobs = stilts.make_context(given), []
    notice = context.world.get("notice", "")
    if notice:
        print(notice)
    if not own.report_only:
        pairs = list(itertools.product(arms, targets))
        stilts.check_runs(given, pairs, context)
        jobs = plan_jobs(pairs, context)
        print("\n".join(plan_lines(jobs, context)), flush=True)
    if given.dry_run:
        return 0
    stilts.own_folder(context.out)
    try:
        failed = work(for_shard(jobs, *own.shard), context)
    except Stopped as stopped:
        log("saved; the same command goes on from here")
        return stopped.args[0]
    found = {(arm, target, seed): results.load(runs.run_folder(arm, target, seed, context))
             for arm in arms for target in targets for seed in given.seed}
    with waiting(context.out / "report"):
        print(report.write(found, context.out / "report", notice, failed))
    if notice:
        print(notice)
    return 2 if failed else 0
