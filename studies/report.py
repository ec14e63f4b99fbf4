"""The report of a grid: report.md, report.html and report.csv in the results folder.

    {(arm, target, seed): Run or None} --write--> what is there and missing, where it comes from

Each cell of the first table leads to its test, the test to its runs, a run to its prediction files
and to the hashes of data, weights and code. A dagger marks cells with a degenerate run. Results of
a toy world say so in every title and are drawn in another way than the paper's table.
"""

import csv
import io
import math
from pathlib import Path
from statistics import mean

from checkpoints import write_file
from eval import spread
from files import UserError
from studies import page, results, statistics
from studies.page import Link, Section, Table
from studies.results import BASELINE

TONES = (0.5, 2, 5, 15)         # points from which on a cell's colour is one step stronger
METHOD = [
    "A cell is the difference to the baseline (no intermediate task) with the same seed, in points "
    "of the task's score (question answering: the mean of F1 and EM), as the mean over the "
    "languages other than English; ± is the SD over seeds, a dagger (\u2020) marks cells with a "
    "degenerate run.",
    "Tests have parallel items as units (a question and its translations are one; else the "
    "paragraph, the sentence, the row). The first interval is over items, of the mean over these "
    "seeds; the second over seeds and items. p: sign-flip test over items; Holm: corrected for all "
    "cells. A gain or loss is told where the second interval leaves out 0 and p (Holm) is below "
    ".05, which takes two seeds and six units. Detectable: the smallest difference that so many "
    "items show with 80 % power."]


class Grid:
    """Runs by arm, target and seed, and the comparison of each arm with the baseline."""

    def __init__(self, found: dict[tuple, results.Run | None], notice: str, failed: dict[str, str]):
        self.found, self.failed, self.notice = found, dict(failed), notice
        self.arms, self.targets, self.seeds = (list(dict.fromkeys(names)) for names in zip(*found))
        self.cells = {}
        for arm, target in ((a, t) for a in self.arms for t in self.targets if a != BASELINE):
            try:
                pair = [self.by_seed(arm, target)], [self.by_seed(BASELINE, target)]
                self.cells[arm, target] = results.against(*pair)
            except UserError as problem:
                self.failed[f"{arm} -> {target}"] = str(problem)
                self.cells[arm, target] = None
        told = [key for key, cell in self.cells.items() if cell]
        self.holm = dict(zip(told, statistics.holm([self.cells[key].p for key in told])))

    @property
    def compared(self) -> list[str]:
        return [arm for arm in self.arms if arm != BASELINE]

    @property
    def banner(self) -> str:
        """What pictures of a world that is not real say: the notice up to its first comma."""
        return self.notice.partition(",")[0]

    @property
    def runs(self) -> list[results.Run]:
        return [run for run in self.found.values() if run]

    def by_seed(self, arm: str, target: str) -> dict[int, results.Run]:
        return {seed: self.found[arm, target, seed] for seed in self.seeds
                if self.found.get((arm, target, seed))}

    def anchor(self, kind: str, *names) -> str:
        """A name without signs that a page could misread."""
        places = [axis.index(name) + 1 for axis, name in
                  zip((self.arms, self.targets, self.seeds), names)]
        return "-".join([kind, *map(str, places)])


def write(found: dict, out: Path, notice: str, failed: dict[str, str]) -> str:
    """Write report.md, .html and .csv and, where the first section has pictures, difference.svg;
    returns what the command prints. failed: job -> why."""
    grid = Grid(found, notice, failed)
    limited = "LIMITED. " if any(run.record["limited"] for run in grid.runs) else ""
    title = f"{'TOY. ' if notice else ''}{limited}Intermediate tasks and their targets"
    sections = [difference_section(grid), state_section(grid), score_section(grid),
                test_section(grid), *language_sections(grid), curve_section(grid),
                run_section(grid), file_section(grid)]
    write_file(out / "report.md", page.markdown(title, notice, sections))
    write_file(out / "report.html", page.html(title, notice, sections))
    write_file(out / "report.csv", long_table(grid))
    if pictures := sections[0].tables[0].pictures:
        write_file(out / "difference.svg", page.sheet(pictures))
    return (page.markdown(title, notice, sections[:2])
            + f"\nwritten: {out / 'report.html'}, report.md, report.csv")


# ------------------------------------------------------------------- arms against the baseline


def difference_section(grid: Grid) -> Section:
    """The table of differences, intermediate x target; in a toy world turned, with dots."""
    rows = []
    for arm in grid.compared:
        cells = [grid.cells[arm, target] for target in grid.targets]
        rows.append([arm, *(difference_cell(grid, arm, target) for target in grid.targets),
                     mean_of_targets([cell.by_seed if cell else [] for cell in cells]),
                     mean_of_targets([cell.sound if cell else [] for cell in cells])])
    header = ["intermediate", *grid.targets, "mean of targets", "mean without \u2020 runs"]
    title = "Difference to the baseline"
    if grid.notice:
        turned = [list(row) for row in zip(header, *rows)]
        pictures = [interval_dots(grid, target) for target in grid.targets]
        return Section(title, METHOD[:1],
                       [Table(turned[0], turned[1:], pictures=[p for p in pictures if p])])
    legend = f"Blue is a gain, orange a loss, stronger from {TONES} points on."
    return Section(title, [*METHOD[:1], legend], [Table(header, rows)])


def difference_cell(grid: Grid, arm: str, target: str) -> Link | str:
    cell = grid.cells[arm, target]
    if not cell:
        return "missing"
    few = f" ({len(cell.by_seed)}/{len(grid.seeds)})" if len(cell.by_seed) < len(grid.seeds) else ""
    return Link(signed(cell.by_seed) + dagger(cell) + few, grid.anchor("test", arm, target),
                "" if grid.notice else colour(cell.value))


def colour(value: float) -> str:
    """n4 to n1 for losses, z0, p1 to p4 for gains, by TONES."""
    strength = sum(abs(value) >= edge for edge in TONES)
    return f"{'p' if value > 0 else 'n'}{strength}" if strength else "z0"


def dagger(cell: results.Comparison) -> str:
    return "\u2020" if len(cell.sound) < len(cell.by_seed) else ""


def signed(values: list[float]) -> str:
    """`+1.2 ± 0.4`, of one value without SD."""
    middle, sd = statistics.mean_sd(values)
    return f"{middle:+.1f}" + (f" ± {sd:.1f}" if len(values) > 1 else "")


def mean_of_targets(values: list[list[float]]) -> str:
    """Mean of the targets' means; targets without values are left out and counted."""
    means = [mean(of_seeds) for of_seeds in values if of_seeds]
    few = f" ({len(means)}/{len(values)} targets)" if len(means) < len(values) else ""
    return f"{mean(means):+.1f}{few}" if means else "missing"


def interval_dots(grid: Grid, target: str) -> str:
    """All arms of one target with their intervals."""
    rows = [(arm, cell.value, cell.both.low, cell.both.high) for arm in grid.compared
            if (cell := grid.cells[arm, target])]
    return page.dots(f"{target}: difference to none", grid.banner, rows, domain(rows), 340) \
        if rows else ""


def domain(rows: list[tuple]) -> tuple[float, float]:
    """Ends of an axis that holds 0, all values and all bars, with a tenth of room."""
    values = [0.0, *(v for row in rows for v in row[1:] if not math.isnan(v))]
    room = max((max(values) - min(values)) / 10, 0.5)
    return min(values) - room, max(values) + room


def test_section(grid: Grid) -> Section:
    """One row for each cell: interval, p, what could have been seen, and the runs."""
    rows, anchors = [], []
    for (arm, target), cell in grid.cells.items():
        if cell:
            p, by_seed = grid.holm[arm, target], dict(zip(cell.pairs, cell.by_seed))
            rows.append([f"{arm} -> {target}", signed(cell.by_seed) + dagger(cell),
                         ends(cell.items), ends(cell.both), f"{cell.clusters:,}",
                         f"{cell.p:.4f}", f"{p:.4f}", f"{cell.detectable:.2f}",
                         statistics.verdict(cell.both, p),
                         *(Link(f"{by_seed[seed]:+.2f}", grid.anchor("run", arm, target, seed))
                           if seed in by_seed else "missing" for seed in grid.seeds)])
            anchors.append(grid.anchor("test", arm, target))
    header = ["arm -> target", "difference", "95 % over items", "95 % over seeds and items",
              "units", "p", "p (Holm)", "detectable", "verdict",
              *(f"seed {number}" for number in grid.seeds)]
    return Section("Tests", METHOD[1:], [Table(header, rows, anchors)])


def ends(interval: statistics.Interval) -> str:
    if math.isnan(interval.low):
        return "cannot tell"
    return f"{interval.low:+.2f} to {interval.high:+.2f}"


def score_section(grid: Grid) -> Section:
    """Scores themselves, the baseline's too: mean and SD over seeds."""
    rows = [[arm, *(score_cell(grid.by_seed(arm, target).values()) for target in grid.targets)]
            for arm in grid.arms]
    table = [["intermediate", *grid.targets], *rows]
    if grid.notice:
        table = [list(row) for row in zip(*table)]
    return Section("Scores, mean over the languages other than English", [],
                   [Table(table[0], table[1:])])


def score_cell(found) -> str:
    found = list(found)
    mark = "\u2020" if any(run.degenerate for run in found) else ""
    return spread([run.record["zero_shot"] for run in found]) + mark if found else "missing"


# -------------------------------------------------------------------- languages and curves


def language_sections(grid: Grid) -> list[Section]:
    return [language_section(grid, target) for target in grid.targets
            if any(grid.cells.get((arm, target)) for arm in grid.compared)]


def language_section(grid: Grid, target: str) -> Section:
    cells = {arm: cell for arm in grid.compared if (cell := grid.cells[arm, target])}
    languages = list(next(iter(cells.values())).languages)
    rows = [[lang, *(signed(cell.languages[lang]) for cell in cells.values())]
            for lang in languages]
    shown = {arm: [language_row(lang, cell.languages[lang]) for lang in languages]
             for arm, cell in cells.items()}
    ends = domain([row for part in shown.values() for row in part])
    pictures = [page.dots(arm, grid.banner, part, ends, 168) for arm, part in shown.items()]
    return Section(f"{target} by language, difference to the baseline",
                   ["Mean and SD over seeds; the bars are the SD."],
                   [Table(["language", *cells], rows, pictures=pictures)])


def language_row(lang: str, values: list[float]) -> tuple[str, float, float, float]:
    middle, sd = statistics.mean_sd(values)
    return lang, middle, middle - sd, middle + sd


def curve_section(grid: Grid) -> Section:
    """English dev score over steps: one picture for each intermediate arm and each target stage."""
    panels = {}
    for (arm, target, seed), run in grid.found.items():
        for name, key in stage_names(run, arm, target) if run else ():
            panel = panels.setdefault(name, {})
            if key not in panel:
                panel[key] = arm, seed, results.dev_points(run.folder.parent / "stages" / key)
    panels = {name: {key: stage for key, stage in panel.items() if stage[2]}
              for name, panel in panels.items()}
    return Section("Learning curves, English dev score", [],
                   [curve_table(grid, *panel) for panel in panels.items() if panel[1]])


def stage_names(run: results.Run, arm: str, target: str) -> list[tuple[str, str]]:
    """(name of a panel, key) of each stage of a run."""
    keys = list(run.config["key"]["stages"])
    first = [(f"intermediate: {arm}", keys.pop(0))] if arm != BASELINE else []
    return first + [(f"target: {target}" + (f", stage {i}" if len(keys) > 1 else ""), key)
                    for i, key in enumerate(keys, start=1)]


def curve_table(grid: Grid, name: str, stages: dict[str, tuple]) -> Table:
    lines, rows = [], []
    for arm in grid.arms:
        found = [(seed, points) for a, seed, points in stages.values() if a == arm]
        if found:
            best = [max(points, key=lambda point: point[1]) for _, points in found]
            rows.append([arm, ", ".join(str(seed) for seed, _ in found),
                         spread([score for _, score in best]),
                         ", ".join(f"{step:,}" for step, _ in best)])
        for seed, points in found:
            lines.append((arm, points) if name.startswith("target") else (f"seed {seed}", points))
    return Table([name, "seeds", "best English dev score", "at step"], rows,
                 pictures=[page.curves(name, grid.banner, lines)])


# ------------------------------------------------------------------------------ origins


def state_section(grid: Grid) -> Section:
    """How much is there, and everything that is missing, failed or degenerate."""
    rows = [[f"{arm} -> {target}, seed {seed}", "missing", ""]
            for (arm, target, seed), run in grid.found.items() if not run]
    rows += [[name, "failed", why] for name, why in grid.failed.items()]
    rows += [[run.folder.name, "degenerate", run.degenerate] for run in grid.runs if run.degenerate]
    limited = {run.record["limited"] for run in grid.runs} - {0}
    notes = [f"{len(grid.runs)} of {len(grid.found)} runs are there."]
    if limited:
        notes.append(f"LIMITED to {min(limited)} examples of each file: no results.")
    if BASELINE not in grid.arms:
        notes.append("There is no baseline among the arms (--inter none,...): no differences.")
    tables = [Table(["run", "state", "why"], rows)] if rows else []
    return Section("What is there", notes, tables)


def run_section(grid: Grid) -> Section:
    header = ["run", "zero-shot", "official mean", "degenerate", "baseline", "prediction files",
              "sha256 of predictions and gold", "weights", "stages", "commit", "torch", "device"]
    rows, anchors = [], []
    for (arm, target, seed), run in grid.found.items():
        if run:
            key, recorded = run.config["key"], run.config["recorded"]
            baseline = grid.found.get((BASELINE, target, seed))
            rows.append([
                run.folder.name, number(run.record["zero_shot"]), number(run.record["official"]),
                run.degenerate, Link(BASELINE, grid.anchor("run", BASELINE, target, seed))
                if baseline else "", f"{run.folder.name}/predictions/{run.task.name}",
                run.digest[:16], key["weights"][:16], " ".join(key["stages"]),
                recorded["commit"][:12], recorded["torch"], recorded["device"]])
            anchors.append(grid.anchor("run", arm, target, seed))
    return Section("Runs", ["Whole hashes stand in report.csv and in each run's config.json, with "
                            "every setting and its origin."], [Table(header, rows, anchors)])


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def file_section(grid: Grid) -> Section:
    """Training and gold files of all runs, each once."""
    files = sorted({pair for run in grid.runs for pair in run.config["files"].items()})
    return Section("Data files", [], [Table(["file", "sha256"], [list(pair) for pair in files])])


def long_table(grid: Grid) -> str:
    """CSV: one row for each run, language and value of its metric."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["inter", "target", "seed", "split", "language", "metric", "value", "n",
                     "degenerate", "limited", "world", "run", "predictions", "gold", "weights",
                     "commit"])
    for (arm, target, seed), run in grid.found.items():
        if not run:
            continue
        record, key = run.record, run.config["key"]
        for lang, values in record["languages"].items():
            measured = {k: v for k, v in values.items() if k not in ("n", "labels")}
            for name, value in measured.items():
                writer.writerow([
                    arm, target, seed, record["split"], lang, name, value, values["n"],
                    run.degenerate, record["limited"], record["world"], run.folder.name, run.digest,
                    key["gold"], key["weights"], run.config["recorded"]["commit"]])
    return text.getvalue()
