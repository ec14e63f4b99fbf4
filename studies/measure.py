"""What a study asks a finished run: its model on changed examples, and the scores that it keeps.

    run --Victim--> answers to any examples --score--> Scores of each language
                    --kept--> RUN/STUDY/CONDITION-HASH.json

A condition is one way of asking: a name of letters, digits, "-", "_" and ".", as "clean" or
"drop-3-13". Its file is written in one durable step when all languages are done, so that a process
that is killed loses one condition at most. The hash is that of all that decides the scores: the
run's key, answers and gold, how many items, whatever else the study names, and the code that
predicts and scores; a file with another hash is another file and is never read.
"""

import hashlib
import json
import re
import time
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Callable, NamedTuple

import torch

import compare
import data
import eval as evaluation
import metrics
import model
import plan
import predict
import runs
import search
import splits
import tasks
import weights
from checkpoints import file_sha256, write_file
from files import UserError, read_json
from studies.results import Run
from train import Stopped

ROOMS = (compare, data, metrics, model, predict, search)      # whose code decides scores
CONDITION = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}"


class Sample(NamedTuple):
    """The examples of one language that a study looks at. Of retrieval `examples` holds the chosen
    queries and all candidates; names and clusters are those of what counts, the queries."""

    whole: list                     # all examples of the file
    examples: list
    groups: tuple[int, ...]         # of a pooled row: how many examples each member brings
    names: list[str]                # id, else row
    clusters: list[str]             # what errs alike (compare.cluster_ids), the same in all runs
    chance: float                   # the commonest answer's share where there are choices, in %


class Scores(NamedTuple):
    """One condition in one language: the score of each example that counts, in percent, whose mean
    is the score; and what else is known of it, as {"rate": 0.1}."""

    values: list[float]
    facts: dict


# ------------------------------------------------------------------------------- what is asked


@lru_cache(maxsize=64)
def sample(name: str, folder: Path, split: str, lang: str, limit: int, items: int) -> Sample:
    """At most `items` examples (0: all), chosen by a hash of task, language and example, so that
    they are the same for all runs and a smaller choice is part of a larger one."""
    task = tasks.get(name)
    loaded = evaluation.load_examples(task, folder, split, lang, limit)
    counted = [e for e in loaded.examples if compare.is_query(e)]
    order = sorted(range(len(counted)), key=lambda i: rank_of(name, lang, counted[i]))
    chosen = sorted(order[:items or None])
    kept = {id(counted[i]) for i in chosen}
    clusters = compare.cluster_ids(task, loaded.examples, lang)
    is_whole = len(chosen) == len(counted)
    if len(loaded.groups) > 1 and not is_whole:
        raise UserError(f"--items: {name} pools several data sets, which only count whole")
    return Sample(
        loaded.examples, [e for e in loaded.examples if id(e) in kept or not compare.is_query(e)],
        loaded.groups if is_whole else (), [str(name_of(counted[i])) for i in chosen],
        [short(clusters[i]) for i in chosen], chance(task, counted))


def name_of(example):
    """What an example is called in its file: its id or, where there is none, its row."""
    return getattr(example, "id", example.row)


def rank_of(task: str, lang: str, example) -> str:
    key = repr((task, lang, name_of(example), example.row))
    return hashlib.sha256(key.encode()).hexdigest()


def short(cluster) -> str:
    """A cluster's name: an id stays, a paragraph or a place becomes a hash."""
    if isinstance(cluster, str):
        return cluster
    return hashlib.sha256(repr(cluster).encode()).hexdigest()[:16]


def chance(task, examples: list) -> float:
    """The share of the commonest label in percent where answers are labels, else 0."""
    if task.kind not in ("classification", "multiple_choice"):
        return 0.0
    golds = [metrics.known(example) for example in examples]
    return 100 * max(map(golds.count, set(golds))) / len(golds)


class Victim:
    """A finished run that answers. Its model is loaded when it is first asked; never trained."""

    def __init__(self, run: Run, context: plan.Context, items: int = 0):
        self.run, self.context, self.items = run, context, items
        self.task, self.head, self.labels, self.folder = predict.trained_task(run.folder,
                                                                              run.config)
        self.split, self.languages = run.record["split"], run.labelled()

    def sample(self, lang: str) -> Sample:
        return sample(self.task.name, Path(self.run.config["paths"]["data"]), self.split, lang,
                      self.run.record["limited"], self.items)

    @cached_property
    def loaded(self) -> tuple[model.Model, data.Tokenizer]:
        """(model on its device, tokenizer). Raises UserError where the encoder was not kept."""
        if not (self.folder / "config.json").exists():
            raise UserError("this run kept no encoder; run the same command with --keep",
                            self.run.folder)
        found, tokenizer = predict.load_model(self.folder, self.head, self.task, len(self.labels))
        return found.to(self.context.hardware.device), tokenizer

    def poll(self) -> None:
        if code := runs.stopping(self.context):
            raise Stopped(code)

    def predict(self, examples: list) -> list:
        """What predict.predict gives: answers or, of retrieval, vectors."""
        found, tokenizer = self.loaded
        layer = self.run.config["key"]["layer"]
        depth = predict.depth_of(layer, found.encoder)
        answers = predict.predict(found, self.head, self.task, examples, tokenizer, self.labels,
                                  self.context.hardware, depth, self.poll)
        return predict.centred(examples, answers) if str(layer).endswith("c") else answers

    def spans(self, examples: list) -> list[tuple[int, int]]:
        """Of questions: (start, end) of each answer in the context as the model saw it."""
        found, tokenizer = self.loaded
        features = data.featurize(self.task, examples, tokenizer, self.labels)
        batches = predict.run_model(found, self.head, features, self.context.hardware,
                                    poll=self.poll)
        return predict.best_spans(self.task, batches, features, len(examples))

    def answers(self, changed: dict[str, list]) -> dict[str, list]:
        """{language: its examples as the model shall see them} -> {language: answers}. Retrieval
        searches as in the run itself, mining with the threshold of the clean dev split."""
        def load(split: str, lang: str) -> list:
            if split == self.split:
                return changed[lang]
            return evaluation.load_examples(self.task, Path(self.run.config["paths"]["data"]),
                                            split, lang, self.run.record["limited"]).examples

        is_bf16 = self.context.hardware.dtype is torch.bfloat16
        return dict(predict.answer_languages(self.task, load, self.predict, self.split,
                                             list(changed), is_bf16))

    def score(self, lang: str, answers: list, **facts) -> Scores:
        """Answers to the sample of a language, against its clean gold."""
        asked = self.sample(lang)
        values = compare.example_scores(self.task, asked.examples, answers, lang, asked.groups)
        return Scores(values, facts)


def check_kept(targets: list[str], context: plan.Context) -> None:
    """Raises UserError where target stages would not keep the encoder that a study must ask."""
    trained = [name for name in targets if tasks.get(plan.parse_target(name)[-1].name).train_on]
    size = 4 * sum(t.numel() for t in weights.load_encoder(context.model)[1].values())
    if trained and size > runs.KEEP_BYTES and not context.given.keep:
        raise UserError(f"this study asks trained models again: --keep is needed, which keeps "
                        f"{size / 1e9:.1f} GB for each run of {', '.join(trained)}")


# -------------------------------------------------------------------------------- what is kept


def file_of(run: Run, study: str, condition: str, deciders: tuple) -> Path:
    """Where a condition's scores are kept. deciders: what else decides them, JSON values."""
    if not re.fullmatch(CONDITION, condition):
        raise ValueError(f"bad name of a condition: {condition!r}")
    origin = plan.digest(run.config["key"], run.digest, study, condition, deciders, code_digest())
    return run.folder / study / f"{condition}-{origin[:20]}.json"


@lru_cache(maxsize=None)
def code_digest() -> str:
    return plan.digest([file_sha256(Path(room.__file__)) for room in ROOMS])


def kept(run: Run, study: str, condition: str, deciders: tuple) -> dict[str, Scores] | None:
    """The scores of a condition, {language: Scores}; None where they are not there yet."""
    path = file_of(run, study, condition, deciders)
    if not path.exists():
        return None
    found = read_json(path)
    return {lang: Scores(one["values"], one["facts"]) for lang, one in found["languages"].items()}


def keep(run: Run, study: str, condition: str, deciders: tuple,
         compute: Callable[[], dict[str, Scores]]) -> None:
    """Compute a condition's scores unless they are kept already."""
    path = file_of(run, study, condition, deciders)
    if path.exists():
        return
    start = time.perf_counter()
    languages = {lang: one._asdict() for lang, one in compute().items()}
    path.parent.mkdir(exist_ok=True)
    write_file(path, json.dumps({"seconds": round(time.perf_counter() - start, 3),
                                 "languages": languages}))


def seconds_each(runs_done: list[Run], study: str) -> float:
    """Mean seconds that a condition took in these runs' folders; 0 where none is kept."""
    files = [path for run in runs_done for path in (run.folder / study).glob("*.json")]
    seconds = [read_json(path)["seconds"] for path in files[:50]]
    return sum(seconds) / max(len(seconds), 1)
