"""Controls of the toy world: what its scores must be compared with before they mean anything.

    python toy/controls.py                     run all for seeds 1 to 5, write controls.json
    python stilts.py --target tydiqa --controls          run those of one command

never pretrained   the same settings from the encoder that pretraining began with
same steps         no intermediate task, the target trained for as many steps as both stages have
guess              what is scored without reading: the commonest label, tag or place of the English
                   training data, the commonest tag of each word; a pair's label by lengths, overlap
                   and new words; the longest choice, the one closest to the context; any phrase of
                   the asked type, no answer; any sentence
"""

import argparse
import hashlib
import json
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from statistics import mean

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import eval as evaluation  # noqa: E402
import metrics  # noqa: E402
import plan  # noqa: E402
import splits  # noqa: E402
import tasks  # noqa: E402
import weights  # noqa: E402
from files import read_json  # noqa: E402
from toy import make  # noqa: E402
from toy import world as w  # noqa: E402

RECORD = HERE / "controls.json"
SEEDS = "1,2,3"
TARGETS = ("tydiqa", "udpos", "xnli", "panx", "tatoeba")            # all seeds; others: the first
MORE_TARGETS = ("pawsx", "xquad", "mlqa", "xcopa", "bucc2018", "lareqa", "lareqa_untrained")
ALONE = ("squad", "squad2", "mnli", "anliplus", "snli", "anli1", "anli2", "anli3", "qqp",
         "cosmosqa", "commonsenseqa", "hellaswag", "ccg", "siqa", "copa", "upos", "deprel", "chunk",
         "cola", "semtag", "supersense")                            # nothing comes before these
NEVER, SAME = "never pretrained", "none, same steps"


# ---- controls that are trained


def run(inter: str, target: str, seeds: str, out: Path, data: Path, model: Path,
        settings=()) -> list[dict]:
    """metrics.json of one arm for each seed, with its folder. settings: as for --set."""
    make.command("--inter", inter, "--target", target, "--seed", seeds, "--out", out,
                 "--data", data, "--model", model,
                 *(f"--set={setting}" for setting in settings))
    folders = [out / f"toy--{inter}--{target}--s{seed}" for seed in seeds.split(",")]
    return [evaluation.read_run(folder)[0] | {"folder": str(folder)} for folder in folders]


def steps_of(run_folder: Path) -> list[int]:
    """Optimizer steps of each stage of a finished run."""
    stages = read_json(run_folder / "config.json")["key"]["stages"]
    logs = [run_folder.parent / "stages" / key / "train.jsonl" for key in stages]
    return [json.loads(log.read_text(encoding="utf-8").splitlines()[-1])["step"] for log in logs]


def trained(inter: str, target: str, seeds: str, out: Path, data: Path, model: Path,
            settings=()) -> list[dict]:
    """Rows of never-pretrained encoder and step-matched baseline; `out` has the arm's runs."""
    folder = out / "controls"
    random = folder / "random"
    make.random_encoder(random, (model / "world.json").read_text(encoding="utf-8"),
                        model / weights.TOKENIZER, splits.world(model)["seed"])
    rows = {NEVER: run("none", target, seeds, folder / "never", data, random, settings)}
    task = tasks.get(plan.parse_target(target)[-1].name)
    if inter != "none" and task.train_on:
        seed = seeds.split(",")[0]
        first, *_, last = steps_of(out / f"toy--{inter}--{target}--s{seed}")
        row = task.name if len(task.train_on) == 1 else task.train_on[-1]       # of the last stage
        rows[SAME] = run("none", target, seeds, folder / f"same-{first + last}", data, model,
                         [*settings, f"{row}.steps={first + last}"])
    return [row | {"inter": name} for name, found in rows.items() for row in found]


# ---- controls that only guess: answers of readers who do not read, or the score to expect of them


def guesses(target: str, data: Path) -> list[dict]:
    """Rows like those of runs, one for each rule of the target's kind."""
    task, world = tasks.get(target), splits.world(data)
    rules = RULES[task.kind] | (REFUSAL if task.unanswerable else {})
    rows = []
    for name, rule in rules.items():
        languages = {}
        for lang in splits.languages(task, data, task.eval_split):
            loaded = splits.load(task, data, task.eval_split, lang)
            score = rule(task, data, lang, loaded)
            n = sum(getattr(e, "side", "query") == "query" for e in loaded.examples)
            languages[lang] = {"n": n, "labels": True, **score}
        rows.append({"inter": name, "seed": "-", "task": target, "split": task.eval_split,
                     "limited": 0, "languages": languages, "degenerate": "",
                     **evaluation.summarise(task, languages, world["english"])})
    return rows


def english_training(task, data: Path) -> list:
    """What the target's head is trained on, last if on several."""
    source = tasks.get(task.train_on[-1])
    return splits.load(source, data, "train", w.ENGLISH).examples


def scored(task, loaded, answers: list, lang: str) -> dict:
    return evaluation.score_groups(task, loaded.examples, answers, loaded.groups, lang)


def commonest(task, data: Path, lang: str, loaded) -> dict:
    """The commonest label, tag or place of the right choice in the English training data."""
    training, examples = english_training(task, data), loaded.examples
    if task.kind == "tagging":
        tag = most(tag for e in training for tag in e.tags)
        return scored(task, loaded, [(tag,) * len(e.words) for e in examples], lang)
    return scored(task, loaded, [most(e.label for e in training)] * len(examples), lang)


def most(items):
    """The most frequent of some items, the first of equals."""
    return Counter(items).most_common(1)[0][0]


def tag_of_the_word(task, data: Path, lang: str, loaded) -> dict:
    """The commonest tag that the word has in the English training data, else of all words."""
    votes, overall = defaultdict(Counter), Counter()
    for example in english_training(task, data):
        for word, tag in zip(example.words, example.tags):
            votes[word][tag] += 1
            overall[tag] += 1
    answers = [tuple(votes.get(word, overall).most_common(1)[0][0] for word in e.words)
               for e in loaded.examples]
    return scored(task, loaded, answers, lang)


def surface(example) -> tuple:
    """What a reader of lengths, overlap and new words sees of a pair."""
    a, b = example.text_a.split(), example.text_b.split()
    return len(a), len(b), len(set(a) & set(b)), len(set(b) - set(a))


def feature_rule(task, data: Path, lang: str, loaded) -> dict:
    """The commonest label of English training pairs that look the same."""
    votes, overall = defaultdict(Counter), Counter()
    for example in english_training(task, data):
        votes[surface(example)][example.label] += 1
        overall[example.label] += 1
    answers = [votes.get(surface(e), overall).most_common(1)[0][0] for e in loaded.examples]
    return scored(task, loaded, answers, lang)


def longest_choice(task, data: Path, lang: str, loaded) -> dict:
    answers = [best(len(ending.split()) for ending in e.endings) for e in loaded.examples]
    return scored(task, loaded, answers, lang)


def closest_choice(task, data: Path, lang: str, loaded) -> dict:
    """The choice most of whose words stand in the context."""
    answers = [best(sum(word in e.context.split() for word in ending.split())
                    for ending in e.endings) for e in loaded.examples]
    return scored(task, loaded, answers, lang)


def best(values) -> int:
    """The place of the highest value, the first of equals."""
    values = list(values)
    return values.index(max(values))


def any_sentence(task, data: Path, lang: str, loaded) -> dict:
    """Expected score of one who takes any candidate (ranked: puts all in any order)."""
    queries = [e for e in loaded.examples if e.side == "query"]
    count = len(loaded.examples) - len(queries)
    if task.search == "pairs":
        return {"accuracy": 100 / count}
    golds = sum(len(e.gold) for e in queries)
    if task.search == "mining":
        return {"f1": 100 * 2 * golds / count / (golds + len(queries))}
    count = sum(e.side == "candidate" for each in splits.languages(task, data, task.eval_split)
                for e in splits.load(task, data, task.eval_split, each).examples)
    return {"map@20": 100 * mean(expected_precision(len(e.gold), count) for e in queries)}


def expected_precision(golds: int, count: int, k: int = 20) -> float:
    """Mean average precision at k over all orders of `count` candidates of which `golds` are right:
    one is right at rank r with chance golds / count; each before it then with (golds - 1) / (count
    - 1)."""
    before = (golds - 1) / (count - 1)
    hits = sum(golds / count * (1 + (rank - 1) * before) / rank for rank in range(1, k + 1))
    return hits / min(golds, k)


def no_answer(task, data: Path, lang: str, loaded) -> dict:
    return scored(task, loaded, [""] * len(loaded.examples), lang)


def type_guess(task, data: Path, lang: str, loaded) -> dict:
    """Expected score of one who knows the type of the answer and takes any phrase of it."""
    world = w.World(splits.world(data)["seed"])
    scores = []
    for example in loaded.examples:
        asked = asked_type(world, lang, example.question)
        found = [metrics.score(task.metric, [example], [phrase], lang) for phrase in
                 phrases(world, lang, asked, example.context)]
        scores.append({key: mean(f[key] for f in found) for key in metrics.MAIN[task.metric]})
    return {key: mean(s[key] for s in scores) for key in metrics.MAIN[task.metric]}


RULES = {
    "span": {"type guess": type_guess},
    "retrieval": {"any sentence": any_sentence},
    "tagging": {"commonest tag": commonest, "tag of the word": tag_of_the_word},
    "classification": {"commonest label": commonest, "feature rule": feature_rule},
    "multiple_choice": {"commonest place": commonest, "longest choice": longest_choice,
                        "closest choice": closest_choice},
}
REFUSAL = {"no answer": no_answer}


def asked_type(world: w.World, lang: str, question: str) -> str:
    """The wh-word of a question, as a concept."""
    forms = {world.forms[lang][wh]: wh for wh in w.WH}
    return next(forms[word] for word in question.split() if word in forms)


def phrases(world: w.World, lang: str, asked: str, context: str) -> list[str]:
    """All phrases of a passage that could answer a question of that type."""
    concept = {form: name for name, form in world.forms[lang].items()}
    for wh, ending in world.suffixes[lang].items():
        for name in {"what": w.NOUNS, "where": w.PLACES, "when": w.DAYS}[wh]:
            concept[world.forms[lang][name] + ending] = name
    forms = context.split()
    names = [concept.get(form, form) for form in forms]
    found = []
    for i, name in enumerate(names):
        left, right = names[i - 1] if i else "", names[i + 1] if i + 1 < len(names) else ""
        is_firm = right in w.FIRMS
        if asked == "who" and (name in w.PERSONS or name in w.PLACES and is_firm):
            found.append(forms[i:i + 1 + is_firm])
        elif asked == "what" and name in w.NOUNS:
            found.append(forms[i - (left in w.ADJECTIVES):i + 1 + (right in w.ADJECTIVES)])
        elif name in {"how-many": w.NUMBERS, "where": w.PLACES, "when": w.DAYS}.get(asked, ()):
            found += [] if is_firm else [[forms[i]]]
    return [" ".join(words) for words in found]


# ---- the record


def fingerprint(folder: Path) -> str:
    """Hash of what the scores depend on: data, encoder, settings."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if path.suffix not in (".py", ".pyc", ".svg") and not path.name.startswith(
                ("controls", "effect")):
            digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def record(out: Path, seeds: str) -> None:
    """Run everything on toy/ and write controls.json, after each target what there is so far."""
    rows, data, model = [], HERE / "data", HERE / "encoder"
    for target in (*TARGETS, *MORE_TARGETS, *ALONE):
        arm = "none" if target in ALONE else "squad"
        some = seeds if target in TARGETS else seeds.split(",")[0]
        run(arm, target, some, out, data, model)
        rows += trained(arm, target, some, out, data, model) + guesses(target, data)
        write_record(rows)


def write_record(rows: list[dict]) -> None:
    lines = ",\n".join(json.dumps(slim(row), ensure_ascii=False) for row in rows)
    head = json.dumps({"date": time.strftime("%Y-%m-%d"), "fingerprint": fingerprint(HERE),
                       "inter": "squad"})
    RECORD.write_text(f'{head[:-1]}, "rows": [\n{lines}\n]}}\n', encoding="utf-8")


def slim(row: dict) -> dict:
    """What the tables show of a row, a number in four places."""
    kept = ("inter", "task", "seed", "limited", "degenerate", "official", "zero_shot")
    shown = metrics.MAIN[tasks.get(row["task"]).metric]
    return {key: short(row[key]) for key in kept} | {
        "languages": {lang: {key: short(values[key]) for key in ("n", *shown)}
                      for lang, values in row["languages"].items()}}


def short(value):
    return round(value, 4) if isinstance(value, float) else value


def show(inter: str, target: str, given, context) -> str:
    """The controls of a command as a table: run when it says --controls, else as recorded."""
    task = tasks.get(plan.parse_target(target)[-1].name)
    split = given.split or task.eval_split
    seeds = ",".join(map(str, given.seed))
    if given.controls:
        settings = [f"{owner}.{name}={value}".lstrip(".") for owner, name, value in given.set
                    if owner in ("", task.name, *task.train_on)]
        rows = trained(inter, target, seeds, context.out, context.data, context.model, settings)
        rows += guesses(task.name, context.data)
        title = "Controls, run now"
    else:
        is_default = not (given.set or given.limit or given.split or given.layer)
        if not (RECORD.exists() and is_default and context.data.resolve() == HERE / "data"):
            return ""
        recorded = json.loads(RECORD.read_text(encoding="utf-8"))
        if recorded["fingerprint"] != fingerprint(HERE):
            return "Controls were recorded for other data or another encoder: use --controls.\n"
        rows = [row for row in recorded["rows"] if row["task"] == target
                and (row["inter"] != SAME or inter == recorded["inter"])]
        sha = hashlib.sha256(RECORD.read_bytes()).hexdigest()[:12]
        title = (f"Controls, recorded {recorded['date']} (controls.json, sha256 {sha}; "
                 "--controls runs them)")
    rows = [row | {"target": target} for row in rows]
    return f"{title}\n\n{evaluation.markdown_table(task, split, rows)}\n" if rows else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", default=SEEDS, help=f"comma-separated ({SEEDS})")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="results folder (runs)")
    given = parser.parse_args()
    record(given.out, given.seeds)


if __name__ == "__main__":
    main()
