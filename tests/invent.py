"""Invented data and finished runs with known answers, for what reads run folders."""

import json
from pathlib import Path

import eval as evaluation
import splits
import submission
import tasks


def plant_data(data: Path, n: int = 12, languages=("en", "de", "sw"), splits_=("test",)) -> Path:
    """xnli, xquad, udpos and tatoeba with n examples a language, the same in each."""
    for lang in languages:
        for split in splits_:
            write(data / f"xnli/{split}-{lang}.tsv", "".join(
                f"{lang} premise {i}\t{lang} hypothesis {i}\t{LABELS[i % 3]}\n" for i in range(n)))
            write(data / f"udpos/{split}-{lang}.tsv", "\n".join(
                "".join(f"{lang}{i}\t{tag}\n" for tag in TAGS) for i in range(n)))
        write(data / f"xquad/xquad.{lang}.json", json.dumps({"data": [{"paragraphs": [
            {"context": f"{lang}{i} one two three", "qas": [
                {"id": f"q{i}", "question": f"{lang} question {i}?",
                 "answers": [{"text": f"{lang}{i} one two three", "answer_start": 0}]}]}
            for i in range(n)]}]}))
        if lang != "en":
            code = tasks.get("tatoeba").codes[lang]
            write(data / f"tatoeba/v1/tatoeba.{code}-eng.eng",
                  "".join(f"sentence {i:03}\n" for i in range(n)))
            write(data / f"tatoeba/v1/tatoeba.{code}-eng.{code}",
                  "".join(f"{lang} sentence {i:03}\n" for i in range(n)))
    return data


LABELS = tasks.get("xnli").labels
TAGS = ("NOUN",) * 9 + ("VERB",)


def gold_of(task, example):
    if task.kind == "span":
        return example.answers[0][0]
    if task.kind == "retrieval":
        return example.gold[0] if example.side == "query" else None
    return example[-1]


def plant_run(out: Path, data: Path, inter: str, name: str, answer, seed: int = 1,
              split: str = "test", layer: int = 0, limit: int = 0, degenerate: str = "",
              **key) -> Path:
    """A finished run whose answer to an example is answer(lang, place, example, gold)."""
    task = tasks.get(name)
    run = out / f"{inter}--{name}--s{seed}--{split}--layer{layer}--limit{limit}"
    languages = splits.languages(task, data, split)
    for lang in languages:
        examples = evaluation.load_examples(task, data, split, lang, limit).examples
        golds = [gold_of(task, example) for example in examples]
        answers = [gold if getattr(e, "side", "") == "candidate" else answer(lang, i, e, gold)
                   for i, (e, gold) in enumerate(zip(examples, golds))]
        path = evaluation.prediction_path(run, task, split, lang)
        write(path, submission.format_answers(task.form, examples, answers))
    config = {"paths": {"data": str(data)}, "key": {
        "world": "real", "target": name, "task": name, "split": split, "limit": limit, "gold": "g",
        "weights": "w", "layer": layer, "row": {}} | key}
    write(run / "config.json", json.dumps(config))
    values = {lang: evaluation.score_language(run, task, data, split, lang, limit)
              for lang in languages}
    write(run / "metrics.json", json.dumps({
        "inter": inter, "target": name, "task": name, "split": split, "seed": seed,
        "limited": limit, "languages": values, "degenerate": degenerate,
        **evaluation.summarise(task, values, splits.world(data)["english"])}))
    write(run / "DONE", "")
    return run


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
