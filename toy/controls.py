"""Controls of the toy world: what its scores must be compared with before they mean anything.

    python toy/controls.py                     run all for seeds 1 to 5, write controls.json
    python stilts.py --target tydiqa --controls          run those of one command

never pretrained   the same settings from the encoder that pretraining began with
same steps         no intermediate task, the target trained for as many steps as both stages have
guess              what is scored without reading: the commonest label of the English training data;
                   any phrase of the asked type; a pair's label by lengths, overlap and new words;
                   any sentence
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
import splits  # noqa: E402
import tasks  # noqa: E402
import weights  # noqa: E402
from files import read_json  # noqa: E402
from toy import make  # noqa: E402
from toy import world as w  # noqa: E402

RECORD = HERE / "controls.json"
SEEDS = "1,2,3,4,5"
TARGETS = ("tydiqa", "udpos", "xnli", "panx", "tatoeba")
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


def steps_of(run_folder: Path) -> int:
    """Optimizer steps of all stages of a finished run."""
    stages = read_json(run_folder / "config.json")["key"]["stages"]
    logs = [run_folder.parent / "stages" / key / "train.jsonl" for key in stages]
    return sum(json.loads(log.read_text(encoding="utf-8").splitlines()[-1])["step"]
               for log in logs)


def trained(inter: str, target: str, seeds: str, out: Path, data: Path, model: Path,
            settings=()) -> list[dict]:
    """Rows of never-pretrained encoder and step-matched baseline; `out` has the arm's runs."""
    folder = out / "controls"
    random = folder / "random"
    make.random_encoder(random, (model / "world.json").read_text(encoding="utf-8"),
                        model / weights.TOKENIZER, splits.world(model)["seed"])
    rows = {NEVER: run("none", target, seeds, folder / "never", data, random, settings)}
    task = tasks.get(target.partition("@")[0])
    if inter != "none" and task.train_on:
        first = seeds.split(",")[0]
        steps = steps_of(out / f"toy--{inter}--{target}--s{first}")
        rows[SAME] = run("none", target, seeds, folder / f"same-{steps}", data, model,
                         [*settings, f"{task.name}.steps={steps}"])
    return [row | {"inter": name} for name, found in rows.items() for row in found]


# ---- controls that only guess


def guesses(target: str, data: Path) -> list[dict]:
    """Rows like those of runs, of readers who do not read."""
    task, world = tasks.get(target), splits.world(data)
    rules = {"span": {"type guess": type_guess}, "retrieval": {"any sentence": any_sentence},
             "tagging": {"commonest tag": commonest},
             "classification": {"commonest label": commonest, "feature rule": feature_rule}}
    rows = []
    for name, rule in rules.get(task.kind, {}).items():
        languages = {}
        for lang in splits.languages(task, data, task.eval_split):
            examples = splits.load(task, data, task.eval_split, lang).examples
            score = rule(task, data, lang, examples)
            languages[lang] = {"n": len(examples), "labels": True, **score}
        rows.append({"inter": name, "seed": "-", "task": target, "split": task.eval_split,
                     "limited": 0, "languages": languages, "degenerate": "",
                     **evaluation.summarise(task, languages, world["english"])})
    return rows


def english_training(task, data: Path) -> list:
    source = tasks.get(task.train_on[0])
    return splits.load(source, data, "train", w.ENGLISH).examples


def commonest(task, data: Path, lang: str, examples: list) -> dict:
    """The commonest label or tag of the English training data, always."""
    if task.kind == "tagging":
        count = Counter(tag for e in english_training(task, data) for tag in e.tags)
        answers = [(count.most_common(1)[0][0],) * len(e.words) for e in examples]
    else:
        count = Counter(e.label for e in english_training(task, data))
        answers = [count.most_common(1)[0][0]] * len(examples)
    return metrics.score(task.metric, examples, answers, "toy")


def surface(example) -> tuple:
    """What a reader of lengths, overlap and new words sees of a pair."""
    a, b = example.text_a.split(), example.text_b.split()
    return len(a), len(b), len(set(a) & set(b)), len(set(b) - set(a))


def feature_rule(task, data: Path, lang: str, examples: list) -> dict:
    """The commonest label of English training pairs that look the same."""
    votes, overall = defaultdict(Counter), Counter()
    for example in english_training(task, data):
        votes[surface(example)][example.label] += 1
        overall[example.label] += 1
    answers = [(votes.get(surface(e)) or overall).most_common(1)[0][0] for e in examples]
    return metrics.score(task.metric, examples, answers, "toy")


def any_sentence(task, data: Path, lang: str, examples: list) -> dict:
    return {"accuracy": 100 / sum(e.side == "query" for e in examples)}


def type_guess(task, data: Path, lang: str, examples: list) -> dict:
    """Expected score of one who knows the type of the answer and takes any phrase of it."""
    world = w.World(splits.world(data)["seed"])
    scores = []
    for example in examples:
        asked = asked_type(world, lang, example.question)
        found = [metrics.score(task.metric, [example], [phrase], lang) for phrase in
                 phrases(world, lang, asked, example.context)]
        scores.append({key: mean(f[key] for f in found) for key in metrics.MAIN[task.metric]})
    return {key: mean(s[key] for s in scores) for key in metrics.MAIN[task.metric]}


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
    """Run everything on toy/ and write controls.json."""
    rows, data, model = [], HERE / "data", HERE / "encoder"
    for target in TARGETS:
        run("squad", target, seeds, out, data, model)
        rows += trained("squad", target, seeds, out, data, model) + guesses(target, data)
    rows = [{key: value for key, value in row.items() if key != "folder"} for row in rows]
    text = json.dumps({"date": time.strftime("%Y-%m-%d"), "fingerprint": fingerprint(HERE),
                       "inter": "squad", "rows": rows}, indent=0, ensure_ascii=False)
    RECORD.write_text(text + "\n", encoding="utf-8")


def show(inter: str, target: str, given, context) -> str:
    """The controls of a command as a table: run when it says --controls, else as recorded."""
    task = tasks.get(target.partition("@")[0])
    split = given.split or task.eval_split
    seeds = ",".join(map(str, given.seed))
    if given.controls:
        settings = [f"{owner}.{name}={value}".lstrip(".") for owner, name, value in given.set]
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
