"""Does the toy world illustrate the method? The frozen recipe on worlds it was not chosen on.

    python toy/effect.py --worlds 100,101 --out DIR     make the worlds, run all arms
    python toy/effect.py --report DIR/effect-*.jsonl    tables as Markdown, picture effect.svg

effect-WORLD.jsonl holds one row for each (arm, target, seed): scores by language and, for question
answering, by type of answer. Everything printed is computed from it.
"""

import argparse
import json
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))


import eval as evaluation  # noqa: E402
import predict  # noqa: E402
import metrics  # noqa: E402
import splits  # noqa: E402
import tasks  # noqa: E402
from eval import spread  # noqa: E402
from files import read_json  # noqa: E402
from toy import controls, make  # noqa: E402
from toy import world as w  # noqa: E402

PICTURE = HERE / "effect.svg"
WORLDS, SEEDS = "100,101", "1,2,3,4,5"
ARMS = ("none", "squad", "squad+mlm")
QA, OTHERS, RETRIEVAL = "tydiqa", ("udpos", "xnli", "panx"), "tatoeba"
T_975 = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}


# ---- running


def run_world(seed: int, out: Path, seeds: str) -> list[dict]:
    """All rows of one world; whatever is there already is not made or trained again."""
    folder, runs = out / f"world-{seed}", out / f"runs-{seed}"
    if not (folder / "DONE").exists():
        make.make_world(seed, folder, is_data_only=False)
        (folder / "recipe.json").write_bytes((HERE / "recipe.json").read_bytes())
        (folder / "DONE").touch()
    data, model = folder / "data", folder / "encoder"
    rows = []
    for arm in ARMS:
        rows += controls.run(arm, QA, seeds, runs, data, model)
    rows += controls.trained("squad", QA, seeds, runs, data, model)
    for row in rows:
        row["types"] = by_type(Path(row["folder"]), data, w.World(seed))
    for target in OTHERS:
        rows += controls.run("none", target, seeds, runs, data, model)
        rows += controls.run("squad", target, seeds, runs, data, model)
        rows += controls.trained("none", target, seeds, runs, data, model)
    for target in (QA, *OTHERS, RETRIEVAL):
        rows += controls.guesses(target, data)
    rows += by_layer(data, model, runs, seeds) + stage_scores(runs, seeds)
    return [slim(row) | {"world": seed} for row in rows]


def slim(row: dict) -> dict:
    """What effect.json keeps of a row: one score a language."""
    kept = ("inter", "task", "seed", "zero_shot", "layer", "types")
    return {key: row[key] for key in kept if key in row} | {
        "languages": {lang: round(evaluation.task_score(tasks.get(row["task"]), values), 2)
                      for lang, values in row["languages"].items()}}


def by_type(run: Path, data: Path, world: w.World) -> dict:
    """language -> wh-word -> [exact matches, questions] of a run's predictions."""
    task, found = tasks.get(QA), {}
    for lang in w.LANGUAGES:
        examples = splits.load(task, data, task.eval_split, lang).examples
        answers = evaluation.read_predictions(run, task, task.eval_split, lang, examples)
        counts = found.setdefault(lang, {wh: [0, 0] for wh in w.WH})
        for example, answer in zip(examples, answers):
            count = counts[controls.asked_type(world, lang, example.question)]
            right = metrics.score(task.metric, [example], [answer], lang)["exact_match"]
            count[0] += right == 100
            count[1] += 1
    return found


def by_layer(data: Path, model: Path, runs: Path, seeds: str) -> list[dict]:
    """Retrieval at every layer: of the pretrained encoder, one that never was, and after the
    intermediate stage of each arm."""
    folders = [("none", "-", model), (controls.NEVER, "-", runs / "controls/random")]
    for arm in ARMS[1:]:
        for seed in seeds.split(","):
            config = read_json(runs / f"toy--{arm}--{QA}--s{seed}" / "config.json")
            folders.append((arm, seed, runs / "stages" / config["key"]["stages"][0] / "best"))
    task = replace(tasks.get(RETRIEVAL), **read_json(data.parent / "recipe.json")[RETRIEVAL])
    rows = []

    def load(split, lang):
        return splits.load(task, data, split, lang).examples

    for arm, seed, folder in folders:
        encoder, tokenizer = predict.load_model(folder, "", task, 0)
        for layer in range(1, encoder.encoder.config.num_layers + 1):
            languages = {}
            answered = predict.answer_languages(
                task, load, lambda examples: predict.predict(
                    encoder, "", task, examples, tokenizer, (), predict.CPU, layer),
                task.eval_split, splits.languages(task, data, task.eval_split))
            for lang, answers in answered:
                values = metrics.score(task.metric, load(task.eval_split, lang), answers, lang)
                languages[lang] = values | {"labels": True}
            rows.append({"inter": arm, "task": RETRIEVAL, "seed": seed, "layer": layer,
                         **evaluation.summarise(task, languages, w.ENGLISH),
                         "languages": languages})
    return rows


def stage_scores(runs: Path, seeds: str) -> list[dict]:
    """English dev score of the squad stage: the best that train.jsonl tells of."""
    rows = []
    for seed in seeds.split(","):
        key = read_json(runs / f"toy--squad--{QA}--s{seed}" / "config.json")["key"]["stages"][0]
        log = (runs / "stages" / key / "train.jsonl").read_text(encoding="utf-8").splitlines()
        best = max(line["dev"]["squad"] for line in map(json.loads, log) if "dev" in line)
        values = {"f1": best, "exact_match": best, "labels": True}
        rows.append({"inter": "squad", "task": "squad", "seed": int(seed), "zero_shot": None,
                     "languages": {w.ENGLISH: values}})
    return rows


# ---- telling


def select(rows, **wanted) -> list[dict]:
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def differences(rows, arm: str, other: str) -> list[float]:
    """Zero-shot mean of an arm minus another's with the same world and seed."""
    base = {(row["world"], row["seed"]): row["zero_shot"]
            for row in select(rows, task=QA, inter=other)}
    return [row["zero_shot"] - base[row["world"], row["seed"]]
            for row in select(rows, task=QA, inter=arm)]


def interval(values: list[float]) -> tuple[float, float]:
    """95 % t-interval of the mean over runs (two worlds: their encoders are two, not ten)."""
    half = T_975[len(values) - 1] * stdev(values) / len(values) ** 0.5
    return mean(values) - half, mean(values) + half


def table(header: list[str], lines: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |"
                     for cells in [header, ["---"] * len(header), *lines])


def score_table(rows, task: str) -> str:
    """Mean and SD over seeds, one line for each world and arm or control."""
    lines = []
    for arm in dict.fromkeys(row["inter"] for row in select(rows, task=task)):
        for world in worlds_of(rows):
            found = select(rows, task=task, inter=arm, world=world)
            cells = [spread([row["languages"][lang] for row in found]) for lang in w.LANGUAGES]
            lines.append([arm, str(world), str(len(found)), *cells,
                          spread([row["zero_shot"] for row in found])])
    return table([task, "world", "n", *w.LANGUAGES, "zero-shot mean"], lines)


def worlds_of(rows) -> list[int]:
    return sorted({row["world"] for row in rows})


def type_table(rows, arm: str) -> str:
    lines = []
    for lang in w.LANGUAGES:
        count = defaultdict(lambda: [0, 0])
        for row in select(rows, task=QA, inter=arm):
            for wh, (right, total) in row["types"][lang].items():
                count[wh][0] += right
                count[wh][1] += total
        lines.append([lang, *(f"{100 * count[wh][0] / count[wh][1]:.0f}" for wh in w.WH)])
    return table([f"{arm}: exact match", *w.WH], lines)


def layer_table(rows) -> str:
    found = select(rows, task=RETRIEVAL)
    layers = sorted({row["layer"] for row in found if "layer" in row})
    lines = [[arm, *(spread([row["zero_shot"] for row in select(found, inter=arm, layer=layer)])
                     for layer in layers)]
             for arm in (controls.NEVER, *ARMS)]
    return table(["retrieval, zero-shot mean", *(f"layer {n}" for n in layers)], lines)


def gain_table(rows) -> str:
    lines = []
    for arm in ARMS[1:]:
        for other in ("none", controls.SAME, controls.NEVER):
            gains = differences(rows, arm, other)
            low, high = interval(gains)
            verdict = "illustrates" if low > 0 else "does not illustrate"
            lines.append([f"{arm} - {other}", spread(gains), f"{low:.1f} to {high:.1f}",
                          f"{sum(g > 0 for g in gains)} of {len(gains)}", verdict])
    return table(["tydiqa, zero-shot mean", "gain", "95 % interval", "positive", "the effect"],
                 lines)


def report(rows) -> str:
    squad = [f"world {world}: " + spread([row["languages"][w.ENGLISH] for row in
                                          select(rows, task="squad", world=world)])
             for world in worlds_of(rows)]
    parts = [gain_table(rows), *(score_table(rows, task) for task in (QA, *OTHERS)),
             *(type_table(rows, arm) for arm in ("none", "squad")), layer_table(rows),
             f"English dev score of the squad stage, mean and SD over seeds: {', '.join(squad)}"]
    return "\n\n".join(parts)


# ---- the picture

BARS = ((controls.NEVER, "#bbbbbb"), ("none", "#88aacc"), (controls.SAME, "#5577aa"),
        ("squad", "#cc6633"))


def picture(rows) -> str:
    """Bars by language with the SD over runs, and the type-guess line, as SVG."""
    left, top, group, bar, high = 60, 70, 120, 22, 220
    width = left + group * len(w.LANGUAGES) + 20
    shapes = []
    for value in range(0, 101, 20):
        y = top + high * (1 - value / 100)
        shapes += [f'<line x1="{left}" y1="{y}" x2="{width - 20}" y2="{y}" stroke="#dddddd"/>',
                   f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{value}</text>']
    for i, lang in enumerate(w.LANGUAGES):
        x = left + group * i + 10
        shapes.append(f'<text x="{x + 2 * bar}" y="{top + high + 18}" text-anchor="middle">'
                      f'{lang}</text>')
        for arm, colour in BARS:
            values = [row["languages"][lang] for row in select(rows, task=QA, inter=arm)]
            shapes += draw_bar(x, top + high, bar, high / 100, mean(values), stdev(values), colour)
            x += bar
        guess = mean(row["languages"][lang] for row in select(rows, task=QA, inter="type guess"))
        y = top + high - high / 100 * guess
        shapes.append(f'<line x1="{x - 4 * bar - 4}" y1="{y:.1f}" x2="{x + 4}" y2="{y:.1f}" '
                      'stroke="#000000" stroke-dasharray="4 3"/>')
    legend = "".join(f'<rect x="{left + 150 * i}" y="38" width="12" height="12" fill="{colour}"/>'
                     f'<text x="{left + 18 + 150 * i}" y="48">{arm}</text>'
                     for i, (arm, colour) in enumerate(BARS))
    runs = len(select(rows, task=QA, inter="squad"))
    title = (f"TOY, invented languages: tydiqa, (F1 + EM) / 2, mean and SD of {runs} runs in "
             "unseen worlds; dashed: type guess")
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top + high + 40}" '
            f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" '
            f'fill="white"/><title>{title}</title><text x="{left}" y="22">{title}</text>{legend}'
            + "".join(shapes) + "</svg>\n")


def draw_bar(x, floor, width, scale, value, deviation, colour) -> list[str]:
    y, middle = floor - scale * value, x + width / 2 - 1
    return [f'<rect x="{x}" y="{y:.1f}" width="{width - 2}" height="{scale * value:.1f}" '
            f'fill="{colour}"/>',
            f'<line x1="{middle}" y1="{y - scale * deviation:.1f}" x2="{middle}" '
            f'y2="{y + scale * deviation:.1f}" stroke="#000000"/>']


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--worlds", default=WORLDS, help=f"comma-separated ({WORLDS})")
    parser.add_argument("--seeds", default=SEEDS, help=f"comma-separated ({SEEDS})")
    parser.add_argument("--out", type=Path, help="for worlds, runs and effect-WORLD.jsonl")
    parser.add_argument("--report", type=Path, nargs="+", metavar="FILE",
                        help="print the tables of these files, draw the picture")
    given = parser.parse_args()
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        for world in map(int, given.worlds.split(",")):
            rows = run_world(world, given.out, given.seeds)
            (given.out / f"effect-{world}.jsonl").write_text(
                "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    if given.report:
        rows = [json.loads(line) for path in given.report
                for line in path.read_text(encoding="utf-8").splitlines()]
        print(report(rows))
        PICTURE.write_text(picture(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
