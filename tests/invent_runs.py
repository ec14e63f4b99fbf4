"""Invented results folders of known truth, in the form in which runs leave them."""

import json
from pathlib import Path

import numpy as np

import eval as evaluation
import metrics
import submission
import tasks
from studies import results


def invent_run(out: Path, inter: str, target: str, seed: int, scores: dict[str, np.ndarray],
               clusters: dict[str, np.ndarray], split: str = "test", layer="", dev: float = 50.0,
               degenerate: str = "", data: Path | None = None, **changed) -> Path:
    """One finished run. scores: language -> score of each example in percent; clusters: language ->
    number of each example's cluster; dev: best English dev score of its last stage; data: its data
    folder (default: one without world.json, of the real world); changed: fields of config's key."""
    task, data = tasks.get(target), data or out / "data"
    world = json.loads((data / "world.json").read_text())["world"] if data.exists() else "real"
    folder = out / (("" if world == "real" else f"{world}--") + f"{inter}--{target}--s{seed}"
                    + ("" if split == task.eval_split else f"--{split}")
                    + (f"--layer{layer}" if layer else ""))
    (folder / "predictions" / target).mkdir(parents=True)
    for lang, values in scores.items():
        name = f"{split}-{lang}.{submission.EXTENSION[task.form]}"
        (folder / "predictions" / target / name).write_text("\n".join(map(str, values[:500])))
    stages = ([f"{inter}-{seed}"] if inter != "none" else []) + (
        [f"{inter}-{target}-{seed}"] if task.train_on else [])
    for key in stages:
        invent_stage(out / "stages" / key, dev if key.endswith(f"-{target}-{seed}") else 50.0)
    languages = {lang: {"n": len(values), "labels": True}
                 | {name: float(values.mean()) for name in metrics.MAIN[task.metric]}
                 for lang, values in scores.items()}
    english = "en" if world == "real" else "toy-en"
    record = {"inter": inter, "task": target, "target": target, "split": split, "seed": seed, "limited": 0,
              "world": world, "languages": languages,
              **evaluation.summarise(task, languages, english), "degenerate": degenerate}
    key = {"inter": inter, "target": target, "split": split, "seed": seed, "stages": stages,
           "gold": f"gold of {target}", "weights": "0" * 64, "layer": layer or 0, "limit": 0,
           "world": world} | changed
    config = {"key": key, "paths": {"data": str(data), "model": "xlmr.large"},
              "files": {f"data/{target}/{lang}": "f" * 64 for lang in scores},
              "recorded": {"commit": "c" * 40, "torch": "2", "device": "cpu"}}
    (folder / "metrics.json").write_text(json.dumps(record))
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "DONE").touch()
    run = results.load(folder)
    packed = {lang: (scores[lang], clusters[lang].astype(np.int32)) for lang in scores}
    (folder / results.CACHE).write_bytes(results.pack(packed, results.origin_of(run)))
    return folder


def invent_stage(folder: Path, best: float) -> None:
    """A finished stage: a hundred logged steps, ten dev scores that rise to the best."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(1, 101):
        rows.append({"step": 10 * i, "task": "task", "loss": 1 / i, "seconds": 0.2 * i})
        if i % 10 == 0:
            rows.append({"step": 10 * i, "dev": {"task": best * i / 100}, "seconds": 0.2 * i})
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "DONE").touch()


def parallel_items(seed: int, languages, items: int, effect: float = 0.0, level: float = 50.0):
    """(scores, clusters): items whose difficulty is the same in all languages and all runs with
    as many, noise of the run, and an effect; the mean is level + effect within sampling error."""
    difficulty = np.random.default_rng(0).normal(0, 20, items)
    noise = np.random.default_rng(seed)
    scores = {lang: level + effect + difficulty + noise.normal(0, 10, items) for lang in languages}
    return scores, {lang: np.arange(items) for lang in languages}
