"""What scoring conventions decide: the gain of every intermediate arm under each of them.

    python -m studies conventions RUNS...

    runs below RUNS --collect--> Run, ... --gains--> {(arm, target, seed): gain} --> tables

Stored predictions are scored again, nothing is trained. A gain is a run's score minus the
baseline's of the same target, split, seed and layer; an arm's is the mean over targets. The first
convention is XTREME's (on each target's own split: its row's eval_split); each of the others
changes it in one place and is set beside it on the same targets, seeds and, between splits,
languages. Worlds, encoders, limited and whole runs are never mixed. What is degenerate was judged
on English dev in training.
"""

import argparse
import sys
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import eval as evaluation
import metrics
import splits
import tasks
from files import UserError
from studies.statistics import mean_sd

XTREME = {"runs": "all runs", "split": "own split", "languages": "with English",
          "targets": "with retrieval", "answers": "(F1 + EM) / 2", "tags": "chunk F1",
          "layer": "default layer"}


class Run(NamedTuple):
    path: Path
    task: tasks.Task
    arm: str
    target: str                 # the task, and the languages it was trained in where not English
    seed: int
    split: str
    layer: int | str            # of retrieval; 0: the default, "14c": centred
    english: str
    degenerate: str
    languages: dict[str, dict]  # language -> values of every metric
    same: tuple                 # what runs of one target and split must share


# ---- runs


def collect(folders: list[Path]) -> dict[tuple, list[Run]]:
    """Finished, labelled runs, scored again: never mixed: {(world, limit, encoder,
    robust training): runs}.

    Raises UserError: none found, one run twice, one target with different gold or row, and what
    evaluation.rescore raises.
    """
    groups = {}
    found = {path.parent for top in folders for path in top.rglob("metrics.json")
             if "controls" not in path.relative_to(top).parts}      # the toy world's --controls
    for path in sorted(found):
        if not (path / "DONE").exists():
            print(f"{path}: not finished, left out", file=sys.stderr)
            continue
        group, run = read_finished(path)
        for other in groups.setdefault(group, []):
            check_pair(other, run)
        groups[group] += [run] if run.languages else []
    if not any(groups.values()):
        raise UserError("no finished run with labels below this folder", folders[0])
    return groups


def read_finished(path: Path) -> tuple[tuple, Run]:
    recorded, (_, config) = evaluation.rescore(path), evaluation.read_run(path)
    task, key = tasks.get(recorded["task"]), config["key"]
    world = splits.world(Path(config["paths"]["data"]))
    languages = {lang: values for lang, values in recorded["languages"].items() if values["labels"]}
    return (world.get("notice", world["world"]), recorded["limited"], key.get("weights"),
            key.get("robust", "")), Run(
        path, task, recorded["inter"], recorded["target"], recorded["seed"],
        recorded["split"], key.get("layer", 0), world["english"], recorded["degenerate"], languages,
        (key.get("gold"), key.get("row"), evaluation.target_training(task, config)))


def check_pair(one: Run, other: Run) -> None:
    """Raises UserError where two runs are the same or do not belong into one table."""
    if (one.target, one.split) != (other.target, other.split):
        return
    if one.same != other.same:
        raise UserError(f"other gold, row values or training than {one.path}", other.path)
    if (one.arm, one.seed, one.layer) == (other.arm, other.seed, other.layer):
        raise UserError(f"the same run as {one.path}", other.path)


# ---- conventions


def choices(runs: list[Run]) -> dict[str, list[str]]:
    """What may be chosen for these runs, XTREME's choice first: {what: [choice, ...]}."""
    kinds = {run.task.kind for run in runs}
    others = {
        "runs": ["without degenerate runs"] if any(run.degenerate for run in runs) else [],
        "split": sorted({split_of(run) for run in runs} - {XTREME["split"]}),
        "languages": ["without English"],
        "targets": ["without retrieval"] if {"retrieval"} < kinds else [],
        "answers": ["F1", "EM"] if "span" in kinds else [],
        "tags": ["accuracy of tags"] if any(run.task.metric == "chunk_f1" for run in runs) else [],
        "layer": [layer_of(layer) for layer in sorted({run.layer for run in runs} - {0}, key=str)]}
    return {field: [usual, *others[field]] for field, usual in XTREME.items()}


def split_of(run: Run) -> str:
    return XTREME["split"] if run.split == run.task.eval_split else run.split


def layer_of(layer: int | str) -> str:
    return f"layer {layer}" if layer else XTREME["layer"]


def belongs(run: Run, convention: dict[str, str]) -> bool:
    if run.degenerate and convention["runs"] != XTREME["runs"]:
        return False
    if run.task.kind == "retrieval" and (convention["targets"] != XTREME["targets"]
                                         or convention["layer"] != layer_of(run.layer)):
        return False
    return split_of(run) == convention["split"]


def main_values(task: tasks.Task, convention: dict[str, str]) -> tuple[str, ...]:
    """Names of the values whose mean is the task's score."""
    main = metrics.MAIN[task.metric]
    if task.kind == "span":                     # ("f1", "exact_match") or ("f1", "exact")
        return {"F1": main[:1], "EM": main[1:]}.get(convention["answers"], main)
    if task.metric == "chunk_f1" and convention["tags"] == "accuracy of tags":
        return ("accuracy",)
    return main


def score(run: Run, convention: dict[str, str]) -> float | None:
    """The mean over languages, None where none is left."""
    names = main_values(run.task, convention)
    chosen = [fmean(values[name] for name in names) for lang, values in run.languages.items()
              if lang != run.english or convention["languages"] == XTREME["languages"]]
    return fmean(chosen) if chosen else None


# ---- gains


def gains(runs: list[Run], convention: dict[str, str]) -> dict[tuple, float]:
    """{(arm, target, seed): gain over the baseline}, where there are both."""
    scores = {(run.arm, run.target, run.seed): score(run, convention)
              for run in runs if belongs(run, convention)}
    scores = {name: value for name, value in scores.items() if value is not None}
    return {(arm, *cell): value - scores["none", *cell] for (arm, *cell), value in scores.items()
            if arm != "none" and ("none", *cell) in scores}


def by_seed(found: dict[tuple, float], arm: str, target: str = "") -> dict[int, float]:
    """{seed: gain} of an arm on one target or, without one, the mean over targets; of seeds that
    have all of the arm's targets."""
    cells = {(name, seed): gain for (by, name, seed), gain in found.items()
             if by == arm and target in ("", name)}
    names, seeds = ({cell[place] for cell in cells} for place in (0, 1))
    return {seed: fmean(cells[name, seed] for name in names) for seed in sorted(seeds)
            if all((name, seed) in cells for name in names)}


def contrasts(runs: list[Run], options: dict[str, list[str]]) -> list[tuple[str, str, dict, dict]]:
    """(XTREME's choice, another, gains under both) for every choice but XTREME's. The gains are of
    the same targets and seeds, but where leaving some out is the choice; of layers, only of arms
    that have both."""
    found, kinds = [], {run.target: run.task.kind for run in runs}
    for field, (usual, *others) in options.items():
        chosen = in_all_splits(runs) if field == "split" else runs
        before = gains(chosen, XTREME)
        for name in others:
            after = gains(chosen, XTREME | {field: name})
            arms = {arm for arm, target, _ in after
                    if field != "layer" or kinds[target] == "retrieval"}
            keys = set(before) if field in ("runs", "targets") else before.keys() & after.keys()
            shared = [{key: gain for key, gain in one.items() if key in keys and key[0] in arms}
                      for one in (before, after)]
            found.append((usual, name, *shared))
    return found


def in_all_splits(runs: list[Run]) -> list[Run]:
    """The runs with those languages alone that every split of their task has."""
    shared = {}
    for run in runs:
        name = run.task.name
        shared[name] = shared.get(name, run.languages.keys()) & run.languages.keys()
    return [run._replace(languages={lang: values for lang, values in run.languages.items()
                                    if lang in shared[run.task.name]}) for run in runs]


# ---- what is printed


def report(runs: list[Run]) -> list[str]:
    """Markdown: every arm's gain by convention, the signs that flip, the range of all together."""
    options = choices(runs)
    reference = gains(runs, XTREME)
    arms = sorted({arm for arm, _, _ in reference})
    if not arms:
        return ["no run has a baseline (--inter none) of the same target, split, seed and layer"]
    lines = [f"{arm}: {', '.join(sorted({t for by, t, _ in reference if by == arm}))}; seeds "
             + ", ".join(map(str, by_seed(reference, arm))) for arm in arms]
    lines += ["", f"| convention | {' | '.join(arms)} |", "|---" * (len(arms) + 1) + "|",
              row(", ".join(names[0] for names in options.values() if len(names) > 1),
                  [shown(by_seed(reference, arm)) for arm in arms])]
    changes = contrasts(runs, options)
    for _, name, before, after in changes:
        lines.append(row(name, [f"{shown(by_seed(before, arm))} → {shown(by_seed(after, arm))}"
                                for arm in arms]))
    return [*lines, "", "Signs that flip (mean and SD over seeds):", *(flips(changes) or ["none"]),
            "", "All combinations of these:", *ranges(runs, options, arms)]


def row(name: str, cells: list[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"


def shown(by: dict[int, float]) -> str:
    """`+7.1 ± 0.4`: mean and SD over seeds."""
    if not by:
        return "-"
    centre, sd = mean_sd(list(by.values()))
    return f"{centre:+.1f}" + (f" ± {sd:.1f}" if len(by) > 1 else "")


def flips(changes: list[tuple[str, str, dict, dict]]) -> list[str]:
    """A line for each arm and target, or mean over targets, whose gain changes its sign."""
    lines = []
    for usual, name, before, after in changes:
        findings = {(arm, target) for arm, target, _ in after} | {(arm, "") for arm, _, _ in after}
        for arm, target in sorted(findings):
            values = [by_seed(found, arm, target) for found in (before, after)]
            if all(values) and fmean(values[0].values()) * fmean(values[1].values()) < 0:
                lines.append(f"{arm}, {target or 'mean over targets'}: "
                             f"{shown(values[0])} ({usual}), {shown(values[1])} ({name})")
    return lines


def ranges(runs: list[Run], options: dict[str, list[str]], arms: list[str]) -> list[str]:
    """The least and the largest gain of each arm, each combination over the targets it has."""
    found = [gains(runs, dict(zip(options, chosen))) for chosen in product(*options.values())]
    lines = []
    for arm in arms:
        means = [fmean(by.values()) for one in found if (by := by_seed(one, arm))]
        lines.append(f"{arm}: {len(means)} with results, gains from {min(means):+.1f} to "
                     f"{max(means):+.1f}, above 0 in {sum(value > 0 for value in means)}")
    return lines


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m studies conventions", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUNS",
                        help="folders with finished runs, at any depth")
    found = collect(parser.parse_args(arguments).runs)
    for (world, limited, weights, methods), runs in found.items():
        marks = [world] + ([f"LIMITED to {limited}"] if limited else [])
        marks += [f"trained by {methods}"] if methods else []
        print("\n".join([*marks, f"encoder {weights}", "", *report(runs), *marks, ""]))
    return 0
