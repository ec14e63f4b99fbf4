"""XTREME and XTREME-R from anyone's prediction folders: the scores of the official evaluate.py.

    labels/TASK/test-LANG.EXT + predictions/TASK/test-LANG.EXT --score_folders--> scores --report-->

A task is scored when both folders hold it, and then in every language of the benchmark. Task score:
mean over languages of the main value, for question answering of (F1 + EM) / 2. XTREME's total is
the mean of its nine task scores. XTREME-R's ten tasks have no official total (evaluate.py has none
without LAReQA and fails with it): here it is the mean of the ten task scores, made the same way.

Intervals are ours: every score is a ratio sum(a) / sum(b) over examples, whose standard error the
delta method gives; +- is 1.96 of them. Of a mean over languages it is the mean of theirs, as if
their errors moved together: most items are translations of each other, so it is at most that wide.
Only the standard library is imported.
"""

import json
from pathlib import Path
from statistics import mean

import metrics
import readers
import submission
from compare import f1_unit, margin, units
from files import UserError, parse_json
from tasks import TASKS, Task

GROUPS = {"classification": ("classification",), "tagging": ("tagging",), "span": ("qa",),
          "retrieval": ("retrieval",), "multiple_choice": ("classification", "multi_choice")}


def benchmark_languages(task: Task, benchmark: str) -> tuple[str, ...]:
    return task.languages + (task.xtreme_r if benchmark == "xtreme-r" else ())


# ---- one pair of files: texts -> (official values, (a, b) of each example)
# Below, a is what an example adds to the numerator of the main value, b to its denominator.


def score_labels(task, lang, gold: str, prediction: str, paths):
    if task.kind == "multiple_choice":
        golds, answers = map(submission.read_choices, (gold, prediction), paths)
    else:
        golds, answers = map(submission.read_labels, (gold, prediction))
    return metrics.accuracy(golds, answers), [(a == b, 1) for a, b in zip(golds, answers)]


def score_tags(task, lang, gold: str, prediction: str, paths):
    golds, answers = submission.read_tags(gold), submission.read_tags(prediction)
    values = metrics.chunk_f1(golds, answers)
    del values["accuracy"]                      # no official value
    return values, [f1_unit(metrics.chunks([one]), metrics.chunks([other]))
                    for one, other in zip(golds, answers)]


def score_spans(task, lang, gold: str, prediction: str, paths):
    examples = list(readers.parse_squad(parse_json(gold, paths[0]), paths[0]))
    answers = submission.parse_answers(task.form, prediction, examples, paths[1])
    [each] = units(task, examples, answers, lang)
    return metrics.score(task.metric, examples, answers, lang), each


def score_pairs(task, lang, gold: str, prediction: str, paths):
    golds, answers = submission.read_pairs(gold), submission.read_pairs(prediction)
    each = [f1_unit(golds & {pair}, answers & {pair}) for pair in golds | answers]
    return metrics.set_f1(golds, answers), each


def score_rankings(task, lang, gold: str, prediction: str, paths):
    golds, answers = (submission.read_rankings(text, path)
                      for text, path in zip((gold, prediction), paths))
    examples = [readers.Sentence(row, name, "", "query", tuple(right))
                for row, (name, right) in enumerate(golds.items(), start=1)]
    ranked = [tuple(answers.get(example.id, ())) for example in examples]
    [each] = units(task, examples, ranked, lang)
    return metrics.score(task.metric, examples, ranked, lang), each


SCORE = {"classification": score_labels, "multiple_choice": score_labels, "tagging": score_tags,
         "span": score_spans, "pairs": score_labels, "mining": score_pairs,
         "ranked": score_rankings}


# ---- folders


def score_folders(predictions: Path, gold: Path, benchmark: str) -> dict:
    """{"overall": {total and groups}, "tasks": {task: {"avg", "languages", "margins", "margin"}}}.

    "avg" has evaluate.py's names (avg_f1, ..., avg_metric). Raises UserError for a language whose
    file is missing on either side, and for whatever the official script cannot score.
    """
    if not gold.is_dir() or not predictions.is_dir():
        raise UserError("no such folder", predictions if gold.is_dir() else gold)
    rows = [task for task in TASKS.values() if benchmark in task.benchmarks]
    found = {task.name: score_task(task, predictions / task.name, gold / task.name, benchmark)
             for task in rows
             if (predictions / task.name).is_dir() and (gold / task.name).is_dir()}
    if not found:
        names = ", ".join(task.name for task in rows)
        raise UserError(f"no folder of a task of {benchmark} on both sides ({names})", predictions)
    return {"benchmark": benchmark, "overall": overall(rows, found), "tasks": found}


def score_task(task: Task, predictions: Path, gold: Path, benchmark: str) -> dict:
    values, margins = {}, {}
    for lang in benchmark_languages(task, benchmark):
        paths = [folder / f"test-{lang}.{submission.EXTENSION[task.form]}"
                 for folder in (gold, predictions)]
        texts = [submission.read_text(path) for path in paths]
        try:
            values[lang], each = SCORE[task.form](task, lang, *texts, paths)
        except UserError as problem:       # what concerns both files is said of the prediction
            raise problem if problem.path else UserError(problem.what, paths[1]) from None
        margins[lang] = margin(each)
    names = next(iter(values.values()))
    average = {f"avg_{name}": mean(one[name] for one in values.values()) for name in names}
    average["avg_metric"] = mean(average[f"avg_{name}"] for name in metrics.MAIN[task.metric])
    return {"avg": average, "languages": values, "margins": margins,
            "margin": mean(margins.values())}


def overall(rows: list[Task], found: dict) -> dict[str, float]:
    """The total, where every task is there, and the mean of each group whose tasks all are."""
    score = {name: result["avg"]["avg_metric"] for name, result in found.items()}
    values = {"all_task": mean(score.values())} if len(score) == len(rows) else {}
    for group in dict.fromkeys(group for task in rows for group in GROUPS[task.kind]):
        members = [task for task in rows if group in GROUPS[task.kind]]
        if all(task.name in score for task in members if task.official):
            values[group] = mean(score[task.name] for task in members if task.name in score)
    return values


def report(result: dict) -> str:
    """Markdown: totals, then a table of tasks, then one of languages for each task."""
    lines = [f"{result['benchmark']}, in percent; +- half a 95 % interval over examples", ""]
    missing = [task.name for task in TASKS.values()
               if result["benchmark"] in task.benchmarks and task.name not in result["tasks"]]
    if missing:
        lines += [f"no total: {', '.join(missing)} not in both folders", ""]
    lines += [f"{name}: {value:.2f}" for name, value in result["overall"].items()]
    lines += ["", "| task | score | +- | languages |", "|---|---|---|---|"]
    for name, task in result["tasks"].items():
        lines.append(f"| {name} | {task['avg']['avg_metric']:.2f} | {task['margin']:.2f} "
                     f"| {len(task['languages'])} |")
    for name, task in result["tasks"].items():
        keys = list(next(iter(task["languages"].values())))
        lines += ["", f"| {name} | {' | '.join(keys)} | +- |", "|---" * (len(keys) + 2) + "|"]
        for lang, values in task["languages"].items():
            cells = " | ".join(f"{values[key]:.2f}" for key in keys)
            lines.append(f"| {lang} | {cells} | {task['margins'][lang]:.2f} |")
    return "\n".join(lines)


def write_result(result: dict, path: Path) -> None:
    text = json.dumps(result, indent=1).replace(": NaN", ": null")
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as problem:
        raise UserError(f"cannot write ({problem.strerror})", path) from None
