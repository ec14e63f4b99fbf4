"""The evaluation room: prediction files and gold -> official scores and tables.

    python eval.py RUN...                         score the prediction files again and check
    python eval.py RUN_A RUN_B                    and set the two side by side: what flipped
    python eval.py RUN --example sw:12            one example's whole walk (language:row)
    python eval.py --predictions DIR --gold DIR   anyone's predictions: XTREME, XTREME-R

A score always comes from a prediction file and the gold, read by the same code that re-scores it
later. But for --example, only the standard library is imported.
"""

import argparse
import math
import sys
from collections import Counter
from itertools import accumulate, chain, islice
from pathlib import Path
from statistics import mean, stdev

import benchmark
import compare
import metrics
import splits
import submission
import tasks
from files import UserError, read_json


# --------------------------------------------------------------------- predictions and scores


def prediction_path(run: Path, task, split: str, lang: str) -> Path:
    return run / "predictions" / task.name / f"{split}-{lang}.{submission.EXTENSION[task.form]}"


def load_examples(task, folder: Path, split: str, lang: str, limit: int = 0) -> splits.Split:
    """One language's examples, at most `limit` (0 = all): for retrieval, the partners of the
    queries that are kept stay too."""
    loaded = splits.load(task, folder, split, lang)
    if not limit:
        return loaded
    if task.kind == "retrieval":
        right = {name for e in loaded.examples if e.row <= limit for name in e.gold or ()}
        return loaded._replace(examples=[e for e in loaded.examples if e.row <= limit
                                         or e.side == "candidate" and e.id in right])
    examples = iter(loaded.examples)
    members = [list(islice(examples, size)) for size in loaded.groups or (len(loaded.examples),)]
    return loaded._replace(examples=[e for part in members for e in part[:limit]],
                           groups=tuple(len(part[:limit]) for part in members))


def score_language(run: Path, task, folder: Path, split: str, lang: str, limit: int) -> dict:
    """Official values of one prediction file; {"labels": False} where the gold is withheld."""
    loaded = load_examples(task, folder, split, lang, limit)
    answers = read_predictions(run, task, split, lang, loaded.examples)
    n = sum(getattr(e, "side", "query") == "query" for e in loaded.examples)
    if not loaded.labelled:
        return {"n": n, "labels": False}
    return {"n": n, "labels": True,
            **score_groups(task, loaded.examples, answers, loaded.groups, lang)}


def score_groups(task, examples: list, answers: list, groups: tuple[int, ...], lang: str) -> dict:
    """The values of a metric; of a pooled row the plain mean over its members, `groups` of the
    examples each."""
    if len(groups) < 2:
        return metrics.score(task.metric, examples, answers, lang)
    ends = list(accumulate(groups))
    each = [metrics.score(task.metric, examples[end - size:end], answers[end - size:end], lang)
            for end, size in zip(ends, groups)]
    return {name: mean(values[name] for values in each) for name in each[0]}


def read_predictions(run: Path, task, split: str, lang: str, examples: list) -> list:
    """Answers of a prediction file, one per example; UserError if it does not fit them."""
    path = prediction_path(run, task, split, lang)
    return submission.parse_answers(task.form, submission.read_text(path), examples, path)


def collapse(task, examples: list, answers: list, values: dict) -> str:
    """Why a model has failed rather than scored low, judged on English dev; "" if it has not.

    99 % of the answers are one answer; an accuracy that the commonest label has too (for whole
    examples within 1.96 standard errors: Phang et al. 2018 and Mosbach et al. 2021 say "at or below
    majority", remembered); a QA F1 below 10, any F1 of 0. Fewer than 20 examples say nothing.
    """
    if len(examples) < 20 or task.kind == "retrieval":
        return ""
    golds, given, margins = [example[-1] for example in examples], answers, 1.96
    if task.kind == "tagging":
        golds, given, margins = list(chain(*golds)), list(chain(*answers)), 0
    answer, count = Counter(given).most_common(1)[0]
    if count >= 0.99 * len(given):
        return f"{answer!r} everywhere"
    if values.get("f1", 100) < (10 if task.kind == "span" else 1e-9):
        return f"F1 {values['f1']:.1f}"
    if task.kind == "span":
        return ""
    right = mean(gold == one for gold, one in zip(golds, given))
    majority = Counter(golds).most_common(1)[0][1] / len(golds)
    if right <= majority + margins * math.sqrt(majority * (1 - majority) / len(golds)):
        return f"accuracy {100 * right:.1f}, the commonest label has {100 * majority:.1f}"
    return ""


def task_score(task, values: dict) -> float:
    """The score of one language: a QA score is (F1 + EM) / 2, others have one main value."""
    return mean(values[key] for key in metrics.MAIN[task.metric])


def summarise(task, languages: dict[str, dict], english: str) -> dict:
    """Means over labelled languages: XTREME's own (English included) and the zero-shot one."""
    scores = {lang: task_score(task, v) for lang, v in languages.items() if v["labels"]}
    other = [s for lang, s in scores.items() if lang != english]
    return {"official": mean(scores.values()) if scores else None,
            "zero_shot": mean(other) if other else None}


def leaked(trained, task, split: str, folder: Path, languages, limit: int) -> int:
    """Evaluation examples whose text also stands in the training data of the same language."""
    def texts(examples) -> list[tuple]:
        return [tuple(compare.visible(example).values()) for example in examples]

    count = 0
    for lang in languages:
        if splits.find(task, folder, split, lang):
            seen = set(texts(load_examples(trained, folder, "train", lang, limit).examples))
            evaluated = texts(load_examples(task, folder, split, lang, limit).examples)
            count += sum(one in seen for one in evaluated)
    return count


# ------------------------------------------------------------------------------------ tables


def markdown_table(task, split: str, runs: list[dict]) -> str:
    """Languages as columns, one row per arm; mean and SD over seeds.

    runs: metrics.json dicts of one target. A dagger marks arms with degenerate runs, which are
    counted with them and without; (R) XTREME-R's own languages.
    """
    languages, keys = list(runs[0]["languages"]), metrics.MAIN[task.metric]
    names = [f"{lang} (R)" if lang in task.xtreme_r else lang for lang in languages]
    header = ["intermediate", "seeds", *names, "mean", "zero-shot mean"]
    n = "/".join(str(v["n"]) for v in runs[0]["languages"].values())
    limited = f", LIMITED to {runs[0]['limited']}" if runs[0]["limited"] else ""
    lines = [f"{runs[0]['target']}, {split}, {' / '.join(keys)}, n = {n}{limited}", "",
             "| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for inter in dict.fromkeys(map(arm, runs)):
        found = [r for r in runs if arm(r) == inter]
        lines.append(table_row(inter, found, languages, keys))
        sound = [r for r in found if not r["degenerate"]]
        if 0 < len(sound) < len(found):
            lines.append(table_row(f"{inter} without \u2020", sound, languages, keys))
    return "\n".join(lines)


def arm(run: dict) -> str:
    """What a run is called in tables: the intermediate tasks, and how it was trained robustly."""
    return ", ".join(filter(None, (run["inter"], run.get("robust"))))


def table_row(inter: str, runs: list[dict], languages, keys) -> str:
    mark = "\u2020" if any(r["degenerate"] for r in runs) else ""
    cells = [inter + mark, ",".join(str(r["seed"]) for r in runs)]
    for lang in languages:
        values = [spread([r["languages"][lang].get(k) for r in runs]) for k in keys]
        cells.append(" / ".join(dict.fromkeys(values) if "no labels" in values else values))
    cells += [spread([r[k] for r in runs]) for k in ("official", "zero_shot")]
    return "| " + " | ".join(cells) + " |"


def spread(values: list) -> str:
    """`71.3`, over several seeds `71.3 ± 0.8` (sample SD), or `no labels`."""
    if any(v is None for v in values):
        return "no labels"
    text = f"{mean(values):.1f}"
    return text if len(values) == 1 else f"{text} ± {stdev(values):.1f}"


# --------------------------------------------------------------------------- the second look


def rescore(run: Path) -> dict:
    """A run's metrics.json, its prediction files scored again; UserError if they say otherwise."""
    recorded, config = read_run(run)
    task, folder = tasks.get(recorded["task"]), Path(config["paths"]["data"])
    english = splits.world(folder)["english"]
    for name, again in summarise(task, recorded["languages"], english).items():
        if recorded[name] != again:
            raise UserError(f"{name}: recorded {recorded[name]}, its languages give {again}",
                            run / "metrics.json")
    for lang, values in recorded["languages"].items():
        again = score_language(run, task, folder, recorded["split"], lang, recorded["limited"])
        if again != values:
            raise UserError(f"{lang}: recorded {values}, the prediction file gives {again}",
                            run / "metrics.json")
    return recorded


def side_by_side(runs: list[Path], flips: int) -> str:
    """Two runs language by language: differences, what flipped, some of the texts.

    Raises UserError unless both answered the same examples.
    """
    (recorded, config), (_, other) = map(read_run, runs)
    different = [name for name in ("world", "task", "split", "limit", "gold")
                 if config["key"].get(name) != other["key"].get(name)]
    if different:
        what = f"cannot be compared with {runs[0]}: another {', '.join(different)}"
        raise UserError(what, runs[1])
    task, folder = tasks.get(recorded["task"]), Path(config["paths"]["data"])
    split, limit, pairs = recorded["split"], recorded["limited"], []
    for lang in [lang for lang, values in recorded["languages"].items() if values["labels"]]:
        loaded = load_examples(task, folder, split, lang, limit)
        answers = [read_predictions(run, task, split, lang, loaded.examples) for run in runs]
        pairs.append(compare.pair(task, loaded, answers, lang))
    head = f"\n{task.name}, {split}: A = {runs[0]}, B = {runs[1]}\n\n"
    return head + compare.report(task, pairs, splits.world(folder)["english"], flips)


def target_training(task, config: dict) -> list[dict]:
    """The values of a run's target stages without their origins: arms with others differ in more
    than the arm."""
    stages = config.get("stages", [])[-len(task.train_on):] if task.train_on else []
    return [{name: value for name, (value, _) in fields.items()}
            for stage in stages for fields in stage["values"].values()]


def read_run(run: Path) -> tuple[dict, dict]:
    """metrics.json and config.json of a finished run; UserError for any other folder."""
    recorded, config = read_json(run / "metrics.json"), read_json(run / "config.json")
    needed = {"inter", "task", "target", "split", "seed", "limited", "languages", "official",
              "degenerate"}
    whole = (type(recorded) is type(config) is dict and needed <= set(recorded)
             and type(config.get("key")) is type(config.get("paths")) is dict
             and type(recorded["languages"]) is dict
             and all(type(values) is dict for values in recorded["languages"].values()))
    if not whole:
        raise UserError("not a finished run of this program", run)
    return recorded, config


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("runs", nargs="*", type=Path, metavar="RUN", help="folders of finished runs, each scored "
        "again; exactly two are also compared and must be of one task, split and limit")
    add("--flips", type=int, default=5, metavar="N",
        help="texts of flipped examples to show per language when two runs are compared (5)")
    add("--example", metavar="LANG:ROW", help="show one example's walk instead")
    add("--predictions", type=Path, metavar="DIR", help="score TASK/test-LANG.* in this folder")
    add("--gold", type=Path, metavar="DIR", help="against the same files with the gold")
    add("--benchmark", choices=("xtreme", "xtreme-r"), default="xtreme", help="(xtreme)")
    add("--json", type=Path, metavar="FILE", help="also write the scores here, in full precision")
    given = parser.parse_args(arguments)
    if bool(given.runs) == bool(given.predictions) or bool(given.predictions) != bool(given.gold):
        parser.error("expected runs, or --predictions and --gold")
    if given.flips < 0:
        parser.error("--flips cannot be negative")
    try:
        if given.runs:
            show_runs(given.runs, given.example, given.flips)
        if given.predictions:
            result = benchmark.score_folders(given.predictions, given.gold, given.benchmark)
            print(benchmark.report(result))
            if given.json:
                benchmark.write_result(result, given.json)
    except UserError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    return 0


def show_runs(runs: list[Path], example: str, flips: int) -> None:
    """Print each run's scores or one example, two runs also side by side; a toy world's notice
    stands first and last."""
    folders = {Path(read_run(run)[1]["paths"]["data"]) for run in runs}
    notices = sorted({splits.world(folder).get("notice", "") for folder in folders} - {""})
    print("\n".join(notices), end="\n" if notices else "")
    for run in runs:
        recorded = None if example else rescore(run)
        print(walk(run, example) if example else
              markdown_table(tasks.get(recorded["task"]), recorded["split"], [recorded]))
    if len(runs) == 2 and not example:
        print(side_by_side(runs, flips))
    print("\n".join(notices), end="\n" if notices else "")


def walk(run: Path, where: str) -> str:
    import predict  # the one look that needs torch

    return predict.example_walk(run, where)


if __name__ == "__main__":
    sys.exit(main())
