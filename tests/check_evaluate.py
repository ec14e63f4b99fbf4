"""Score prediction folders with XTREME's own evaluate.py, unchanged, and compare with our scorer.

    python tests/check_evaluate.py XTREME [--runs RUN...] [--trees FILE] [--record FILE]

XTREME: a checkout of google-research/xtreme. seqeval 0.0.5 to 0.0.13 is needed (`pip install
--no-deps seqeval==0.0.12`): later ones count other chunks than XTREME's published numbers. Trees:

    mock        mock_test_data of the checkout, where it is there
    recorded    complete trees in a JSON file, {"cases": [{"input": {"labels", "predictions"}}]}
    invented    gold and answers drawn from a seed in every task and language, written by our writer
    runs        predictions of finished runs (runs/...), labels from the gold of their data

A tree that others wrote is scored twice: as it is, and with every prediction file read by our
parser and written by our writer. Of a run, evaluate.py wants every language of a task: those
without data take the files of one that has them. --record keeps what was said of each tree, and
all of evaluate.py's numbers of the invented ones, with which tests/test_benchmark.py compares our
scorer. Exit code 1 where any number differs.
"""

import argparse
import hashlib
import importlib.metadata
import json
import math
import platform
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import benchmark  # noqa: E402
import eval as evaluation  # noqa: E402
import predict  # noqa: E402
import readers  # noqa: E402
import submission  # noqa: E402
import tasks  # noqa: E402
from files import UserError, parse_json  # noqa: E402
from readers import Classification, MultipleChoice, Sentence, Span, Tagging  # noqa: E402

TEXTS = ("the", "The", "a", "an", "Haus", "das", "des", "la", "las casas", "những", "của", "الكتاب",
         "ال", "घर", "中文", "文", "บ้าน", "x-ray", "U.S.", "«ja»", "。", ",", "1,000", "ß", "É", "ｆｕ")


# ------------------------------------------------------------- labels and trees of our own making


def label_text(form: str, examples: list) -> str:
    """The label file of some examples, as XTREME's: SQuAD JSON, or the gold in place of answers."""
    if form == "span":
        questions = [{"id": e.id, "question": e.question, "answers": [
            {"text": text, "answer_start": start} for text, start in e.answers]} for e in examples]
        return json.dumps({"version": "1.1", "data": [{"title": "", "paragraphs": [
            {"context": "", "qas": questions}]}]}, ensure_ascii=False)
    return submission.format_answers(form, examples, [gold_of(e, form) for e in examples])


def gold_of(example, form: str):
    """The right answer, in the form of a prediction."""
    if form not in ("pairs", "mining", "ranked"):
        return example[-1]
    if example.side == "candidate" or not example.gold:
        return None
    return example.gold if form == "ranked" else example.gold[0]


def invent(form: str, labels, draw: random.Random) -> tuple[list, list]:
    """A few examples and answers to them, half of them right."""
    if form in ("classification", "multiple_choice"):
        golds = [draw.choice(labels or (0, 1)) for _ in range(draw.randint(2, 9))]
        make = Classification if labels else MultipleChoice
        examples = [make(row, "", "", gold) for row, gold in enumerate(golds, 1)]
        return examples, [draw.choice((gold, draw.choice(labels or (0, 1)))) for gold in golds]
    if form == "tagging":
        golds = [tuple(draw.choices(labels, k=draw.randint(1, 9)))
                 for _ in range(draw.randint(1, 5))]
        examples = [Tagging(row, ("x",) * len(gold), gold) for row, gold in enumerate(golds, 1)]
        return examples, [tuple(draw.choice((tag, draw.choice(labels))) for tag in gold)
                          for gold in golds]
    if form == "span":
        examples = [Span(row, f"q{row}", "", "", tuple(
            (phrase(draw), 0) for _ in range(draw.randint(1, 3)))) for row in range(1, 7)]
        return examples, [blur(draw, e.answers[-1][0]) for e in examples]
    return invent_retrieval(form, draw)


def phrase(draw) -> str:
    return " ".join(draw.choices(TEXTS, k=draw.randint(1, 4)))


def blur(draw, text: str) -> str:
    """A right answer, or one that is nearly or not at all right."""
    return draw.choice((text, text.upper(), f" {text}.", text.partition(" ")[2], phrase(draw)))


def invent_retrieval(form: str, draw) -> tuple[list, list]:
    count = draw.randint(3, 30)
    names = [str(row) if form == "pairs" else f"en-{row:04}" for row in range(count)]
    golds = draw.sample(names, count)
    examples = [Sentence(row, f"xx-{row:04}", "", "query", (gold,))
                for row, gold in enumerate(golds, 1)]
    if form == "mining":
        examples = [e if draw.random() < 0.6 else e._replace(gold=()) for e in examples]
    answers = [draw.choice((gold, draw.choice(names))) for gold in golds]
    if form == "mining":
        answers = [draw.choice((answer, None)) for answer in answers]
    if form == "ranked":
        answers = [tuple(draw.sample(names, min(count, 25))) for _ in golds]
    candidates = [Sentence(row, name, "", "candidate", ()) for row, name in enumerate(names, 1)]
    return examples + candidates, answers + [None] * count


def scored(name: str) -> list:
    """The tasks of a benchmark that evaluate.py scores."""
    return [task for task in tasks.TASKS.values() if name in task.benchmarks and task.official]


def place(root: Path, side: str, task, lang: str) -> Path:
    path = root / side / task.name / f"test-{lang}.{submission.EXTENSION[task.form]}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_invented(root: Path, name: str, seed: int) -> str:
    """A whole tree from a seed, written by our writer; returns the hash of its texts."""
    whole = hashlib.sha256()
    for task in scored(name):
        labels = () if task.form == "multiple_choice" else task.labels
        for lang in benchmark.benchmark_languages(task, name):
            draw = random.Random(f"{seed} {task.name} {lang}")
            examples, answers = invent(task.form, labels, draw)
            texts = {"labels": label_text(task.form, examples),
                     "predictions": submission.format_answers(task.form, examples, answers)}
            for side, text in texts.items():
                place(root, side, task, lang).write_text(text, encoding="utf-8")
                whole.update(text.encode())
    return whole.hexdigest()


def write_runs(root: Path, runs: list[Path], name: str) -> list[str]:
    """The prediction files of finished runs and labels from their gold; languages without data take
    the files of the first that has some. Returns "task: languages" of what is real."""
    real = []
    for run in runs:
        recorded, config = evaluation.read_run(run)
        task, _, _, _ = predict.trained_task(run, config)
        if task.name not in [other.name for other in scored(name)]:
            continue
        split, limit = recorded["split"], recorded["limited"]
        found = []
        for lang, values in recorded["languages"].items():
            if values["labels"]:
                loaded = evaluation.load_examples(task, Path(config["paths"]["data"]), split, lang,
                                                  limit)
                text = label_text(task.form, loaded.examples)
                place(root, "labels", task, lang).write_text(text, encoding="utf-8")
                shutil.copy(evaluation.prediction_path(run, task, split, lang),
                            place(root, "predictions", task, lang))
                found.append(lang)
        for lang in benchmark.benchmark_languages(task, name) if found else ():
            for side in ("labels", "predictions") if lang not in found else ():
                shutil.copy(place(root, side, task, found[0]), place(root, side, task, lang))
        real += [f"{task.name}: {' '.join(found)}"] if found else []
    return real


# ----------------------------------------------------------------------- reading and writing again


def stand_ins(form: str, gold: str, prediction: str) -> list:
    """Examples that our parser and writer need, from the two files alone."""
    if form == "span":
        return list(readers.parse_squad(parse_json(gold, None), None))
    if form == "tagging":
        return [Tagging(row, ("x",) * len(tags), tags)
                for row, tags in enumerate(submission.read_tags(gold), 1)]
    if form in ("classification", "multiple_choice"):
        return [Classification(row, "", "", None)
                for row, _ in enumerate(submission.read_labels(gold), 1)]
    if form == "pairs":
        queries = [(str(row), "") for row, _ in enumerate(submission.read_labels(gold))]
        candidates = dict.fromkeys(submission.read_labels(prediction))
    elif form == "mining":
        pairs = [line.split("\t") for line in submission.read_labels(prediction)]
        queries, candidates = pairs, dict.fromkeys(pair[1] for pair in pairs)
    else:
        queries, candidates = [(name, "") for name in submission.read_rankings(gold, None)], ()
    return [*(Sentence(row, pair[0], "", "query", None) for row, pair in enumerate(queries, 1)),
            *(Sentence(row, name, "", "candidate", ()) for row, name in enumerate(candidates, 1))]


def rewrite(root: Path, name: str, into: Path) -> list[str]:
    """The tree with every prediction file read by our parser and written by our writer. Files that
    the writer would never write (an answer is missing, a query stands twice) stay as they are, and
    are returned."""
    shutil.copytree(root, into, dirs_exist_ok=True)
    kept = []
    for task in scored(name):
        for path in sorted((into / "predictions" / task.name).glob("test-*")):
            gold = submission.read_text(into / "labels" / task.name / path.name)
            prediction = submission.read_text(path)
            try:
                examples = stand_ins(task.form, gold, prediction)
                answers = submission.parse_answers(task.form, prediction, examples)
                text = submission.format_answers(task.form, examples, answers)
                path.write_text(text, encoding="utf-8")
            except UserError as problem:
                kept.append(f"{task.name}/{path.name}: {problem}")
    return kept


# ------------------------------------------------------------------------------------- both scorers


def official(xtreme: Path, root: Path, name: str) -> dict:
    """What evaluate.py writes for a tree: {group: score, task: {metric: {lang: value}, avg_...}}.
    Raises UserError with the last line of what it printed where it fails."""
    output = root / "official.json"
    command = [sys.executable, "evaluate.py", "--prediction_folder", root / "predictions",
               "--label_folder", root / "labels", "--xtreme_version", name, "--output_file", output]
    done = subprocess.run(command, cwd=xtreme, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"evaluate.py: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(output.read_text(encoding="utf-8"))


def ours(root: Path, name: str) -> dict:
    """Our scorer's numbers of a tree, in evaluate.py's form."""
    result = benchmark.score_folders(root / "predictions", root / "labels", name)
    table = dict(result["overall"])
    for task, values in result["tasks"].items():
        names = next(iter(values["languages"].values()))
        table[task] = {key: {lang: one[key] for lang, one in values["languages"].items()}
                       for key in names} | values["avg"]
    return table


def numbers(value, path: str = ""):
    """(path, number) of every number in nested dicts."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers(inner, f"{path}/{key}")
    else:
        yield path, value


def differences(theirs: dict, own: dict) -> list[str]:
    """Numbers of evaluate.py that ours lacks or gives otherwise, and those that it lacks. Its total
    is a sum over a set, whose last bits vary from run to run."""
    theirs, own = dict(numbers(theirs)), dict(numbers(own))
    wrong = [f"{path}: {value}, ours {own.get(path)}" for path, value in theirs.items()
             if path not in own or not math.isclose(value, own[path], rel_tol=1e-12, abs_tol=1e-12)]
    return wrong + [f"{path}: ours alone" for path in sorted(own.keys() - theirs.keys())]


def compare(xtreme: Path, root: Path, name: str, what: str, said: list[str]) -> tuple[dict, bool]:
    """evaluate.py's numbers of a tree, and whether ours are the same; says so in a line."""
    theirs = official(xtreme, root, name)
    wrong = differences(theirs, ours(root, name))
    averages = [f"{task} {values['avg_metric']:.2f}" for task, values in theirs.items()
                if isinstance(values, dict)]
    say(said, f"{what}, {name}: {len(dict(numbers(theirs)))} numbers, {len(wrong)} differ "
              f"({', '.join(averages)})", *wrong[:5])
    return theirs, not wrong


def say(said: list[str], line: str, *details: str) -> None:
    """Print a line, and keep it for the record; details are printed only."""
    said.append(line)
    print(line, *(f"    {detail}" for detail in details), sep="\n")


def foreign_trees(given, folder: Path):
    """(what it is, folder, benchmark) of every tree that others wrote."""
    mock = given.XTREME / "mock_test_data"
    if mock.is_dir():
        yield "mock tree", mock, "xtreme"
    cases = json.loads(given.trees.read_text(encoding="utf-8"))["cases"] if given.trees else ()
    for case in cases:
        if "error" in case["output"]:
            continue
        root = folder / case["id"]
        for side in ("labels", "predictions"):
            for path, text in case["input"][side].items():
                (root / side / path).parent.mkdir(parents=True, exist_ok=True)
                (root / side / path).write_text(text, encoding="utf-8", newline="")
            for path in case["input"]["empty_dirs"]:
                (root / side / path).mkdir(parents=True, exist_ok=True)
        yield case["id"], root, case["input"]["xtreme_version"]


def circumstances(xtreme: Path) -> dict:
    return {"evaluate.py": hashlib.sha256((xtreme / "evaluate.py").read_bytes()).hexdigest(),
            "seqeval": importlib.metadata.version("seqeval"), "python": platform.python_version()}


def check_all(given, folder: Path) -> bool:
    agree, said = [], []
    for number, (what, root, name) in enumerate(foreign_trees(given, folder)):
        copies = [folder / f"{number}-as-it-is", folder / f"{number}-rewritten"]
        shutil.copytree(root, copies[0])
        kept = rewrite(root, name, copies[1])
        before, is_same = compare(given.XTREME, copies[0], name, f"{what}, as it is", said)
        after, is_same_again = compare(given.XTREME, copies[1], name, f"{what}, rewritten", said)
        changed = differences(before, after)
        say(said, f"rewriting {what} changes {len(changed)} numbers; "
                  f"{len(kept)} files not rewritten", *kept[:3])
        agree += [is_same, is_same_again, not changed]
    record = {"made by": "tests/check_evaluate.py XTREME --record FILE", "seed": 0,
              **circumstances(given.XTREME), "said": said, "trees": {}}
    for name in ("xtreme", "xtreme-r"):
        root = folder / f"invented-{name}"
        digest = write_invented(root, name, record["seed"])
        theirs, is_same = compare(given.XTREME, root, name, "invented tree", said)
        record["trees"][name] = {"sha256": digest, "official": theirs}
        agree.append(is_same)
        if given.runs:
            real = write_runs(folder / f"runs-{name}", given.runs, name)
            what = f"runs with data for {'; '.join(real)}"
            agree.append(compare(given.XTREME, folder / f"runs-{name}", name, what, said)[1])
    if given.record and all(agree):
        given.record.write_text(json.dumps(record) + "\n", encoding="utf-8")
    return all(agree)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("XTREME", type=Path)
    parser.add_argument("--runs", type=Path, nargs="+", default=[])
    parser.add_argument("--trees", type=Path)
    parser.add_argument("--record", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            is_good = check_all(given, Path(folder))
        except UserError as problem:
            print(f"error: {problem}", file=sys.stderr)
            return 2
    print("all numbers agree" if is_good else "NOT all numbers agree")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
