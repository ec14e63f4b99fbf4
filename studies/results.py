"""What runs leave, read together: scores by example, differences between arms, their origin.

    run folder --load--> Run --example_scores--> one value an example --against--> Comparison

A difference is the mean over languages of the mean over examples of (arm - baseline), each with
the same seed. Languages are fixed; items are clustered: a question and its translations count as
one. Two intervals are made: over items, of the mean over the seeds that there are; and over seeds
and items, which is wider and decides.
"""

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean

import numpy as np

import compare
import eval as evaluation
import metrics
import splits
import tasks
import weights
from checkpoints import file_sha256, log
from files import UserError, parse_json
from studies import statistics

CACHE = "examples.npz"          # in a run folder: scores by example and what they were made from
BASELINE = "none"
POOL = 400                      # most clusters that tests go through one by one
ALIKE = ("target", "split", "gold", "weights", "limit", "layer", "world", "precision", "row")


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run: metrics.json and config.json."""

    folder: Path
    record: dict
    config: dict

    @property
    def degenerate(self) -> str:
        """Why the run counts as degenerate, or ""."""
        return self.record["degenerate"]

    @cached_property
    def task(self):
        return tasks.get(self.record["task"])

    @cached_property
    def world(self) -> dict:
        """world.json of its data. Raises UserError where the data are gone."""
        data = Path(self.config["paths"]["data"])
        found = splits.world(data)
        if found["world"] != self.record["world"]:
            raise UserError(f"made in the world {self.record['world']!r}, its data folder "
                            f"{data} is not there or of another", self.folder)
        return found

    def score(self, lang: str) -> float:
        return evaluation.task_score(self.task, self.record["languages"][lang])

    def labelled(self) -> list[str]:
        """Languages with gold."""
        return [lang for lang, values in self.record["languages"].items() if values["labels"]]

    def zero_shot(self) -> list[str]:
        return [lang for lang in self.labelled() if lang != self.world["english"]]

    def official(self) -> list[str]:
        """XTREME's languages, English included; not those that XTREME-R adds."""
        return [lang for lang in self.labelled() if lang in self.task.languages]

    @cached_property
    def predictions(self) -> dict[str, str]:
        """Prediction file, relative to the run's folder -> sha256."""
        return {path.relative_to(self.folder).as_posix(): file_sha256(path)
                for path in sorted((self.folder / "predictions").glob("*/*"))}

    @cached_property
    def examples(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """language -> (score of each example, number of its cluster): example_scores()."""
        return example_scores(self)

    @cached_property
    def digest(self) -> str:
        """Hash of all prediction files and of the gold they are scored against."""
        content = json.dumps([self.predictions, self.config["key"]["gold"]], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


def load(folder: Path) -> Run | None:
    """A finished run; None for a folder without one. Raises UserError for a broken one."""
    if not (folder / "DONE").exists():
        return None
    return Run(folder, *evaluation.read_run(folder))


def read_journal(stage: Path) -> list[dict]:
    """train.jsonl of a stage, [] where there is none; a last line that was cut off is left out."""
    path = stage / "train.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [parse_json(line, path, number) for number, line in enumerate(lines, start=1)]


def dev_points(stage: Path) -> list[tuple[int, float]]:
    """(step, mean English dev score of its tasks), by which the best step was chosen."""
    return [(row["step"], mean(row["dev"].values())) for row in read_journal(stage)
            if row.get("dev")]


# ------------------------------------------------------------------------ scores by example


def example_scores(run: Run) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """language -> (score of each example float64 [E], number of its cluster int32 [E]).

    Their mean is the language's score, which is checked against metrics.json (UserError). They are
    computed once and kept in the run's folder, with the hash of what they were made from: answers,
    gold and the code that scores.
    """
    if not run.labelled():
        return {}
    path, origin = run.folder / CACHE, origin_of(run)
    found = unpack(path, origin) if path.exists() else None
    if found is None:
        found = compute_scores(run)
        try:
            weights.write_bytes(path, [pack(found, origin)])
        except OSError as problem:                      # a folder that is only to be read
            log(f"warning: {path} is not kept ({problem.strerror})")
    for lang in run.labelled():
        if lang not in found or abs(found[lang][0].mean() - run.score(lang)) > 1e-6:
            raise UserError(f"{lang}: the scores of its examples do not give metrics.json's "
                            f"{run.score(lang)}", run.folder)
    return found


def origin_of(run: Run) -> str:
    """Hash of all that decides the scores by example."""
    code = [file_sha256(Path(room.__file__)) for room in (compare, metrics)]
    return hashlib.sha256(" ".join([run.digest, *code]).encode()).hexdigest()


def compute_scores(run: Run) -> dict:
    """From prediction files and gold. Clusters are numbered through all languages."""
    numbers, found = {}, {}
    for lang in run.labelled():
        split = run.record["split"]
        loaded = evaluation.load_examples(run.task, Path(run.config["paths"]["data"]), split, lang,
                                          run.record["limited"])
        answers = evaluation.read_predictions(run.folder, run.task, split, lang, loaded.examples)
        scores = compare.example_scores(run.task, loaded.examples, answers, lang, loaded.groups)
        clusters = [numbers.setdefault(name, len(numbers))
                    for name in compare.cluster_ids(run.task, loaded.examples, lang)]
        found[lang] = np.array(scores, np.float64), np.array(clusters, np.int32)
    return found


def pack(scores: dict, origin: str) -> bytes:
    """The bytes of a .npz file; few arrays, because each costs a file inside it."""
    content = io.BytesIO()
    np.savez_compressed(
        content, origin=np.array(origin), languages=np.array(list(scores)),
        sizes=np.array([len(values) for values, _ in scores.values()]),
        scores=np.concatenate([values for values, _ in scores.values()]),
        clusters=np.concatenate([clusters for _, clusters in scores.values()]))
    return content.getvalue()


def unpack(path: Path, origin: str) -> dict | None:
    """What pack() packed, or None if it was made from other files or is damaged."""
    try:
        with np.load(path, allow_pickle=False) as found:
            if str(found["origin"]) != origin:
                return None
            cuts = np.cumsum(found["sizes"])[:-1]
            parts = zip(np.split(found["scores"], cuts), np.split(found["clusters"], cuts))
            return dict(zip(found["languages"].tolist(), parts))
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return None


# ---------------------------------------------------------------------------- differences


@dataclass(frozen=True, eq=False)
class Comparison:
    """An arm against another on one target or on the mean of several, over the same seeds."""

    pairs: dict[int, list[tuple[Run, Run]]]     # seed -> (run, other run) of each target
    by_seed: list[float]                        # difference of each seed
    languages: dict[str, list[float]]           # of a single target: language -> of each seed
    clusters: int                               # test items that are independent
    items: statistics.Interval                  # for these seeds, over test items
    both: statistics.Interval                   # over seeds and items
    p: float                                    # sign-flip test over items
    detectable: float                           # smallest difference found with 80 % power (items)

    @property
    def value(self) -> float:
        return mean(self.by_seed)

    @cached_property
    def sound(self) -> list[float]:
        """Differences of the seeds without a degenerate run on either side."""
        return [value for value, pairs in zip(self.by_seed, self.pairs.values())
                if not any(run.degenerate for pair in pairs for run in pair)]


def against(arm: list[dict[int, Run]], other: list[dict[int, Run]],
            languages=Run.zero_shot) -> Comparison | None:
    """Compare two arms over targets (each a dict seed -> Run); None without a common seed.

    languages: a run -> those that count. Raises UserError for runs that differ in more than the
    arm: data, encoder, split, row.
    """
    seeds = sorted(set.intersection(*map(set, arm), *map(set, other)))
    if not seeds:
        return None
    targets = [[(a[seed], b[seed]) for seed in seeds] for a, b in zip(arm, other)]
    for pairs in targets:
        check_alike(pairs)
    return compared(dict(zip(seeds, zip(*targets))),
                    [differences(pairs, languages) for pairs in targets],
                    [{lang: run.examples[lang][1] for lang in languages(run)}
                     for (run, _), *_ in targets])


def compared(pairs: dict[int, list[tuple[Run, Run]]], parts: list[dict[str, np.ndarray]],
             clusters: list[dict[str, np.ndarray]]) -> Comparison:
    """The tests of differences that are computed already.

    pairs: seed -> (run, other run) of each target; parts: of each target, language -> difference of
    each seed and example [S, E]; clusters: likewise, what each example belongs to [E].
    """
    stacked = [stratified(list(by_language.values())) for by_language in parts]
    ids, last = [], -1
    for by_language in clusters:                       # of different targets: never the same
        found = np.unique(np.concatenate(list(by_language.values())), return_inverse=True)[1]
        ids.append(found + last + 1)
        last = int(ids[-1].max())
    values, ids = stratified(stacked), np.concatenate(ids)
    count, table = last + 1, cluster_table(values, ids)
    units = (table.mean(0), None) if count > POOL else (values.mean(0), ids)
    return Comparison(
        pairs, values.mean(1).tolist(),
        {lang: part.mean(1).tolist() for lang, part in parts[0].items()}
        if len(parts) == 1 else {}, count,
        statistics.paired_interval(*units), statistics.two_level_interval(table),
        statistics.sign_flip(*units), statistics.detectable(*units))


def differences(pairs: list[tuple[Run, Run]], languages) -> dict[str, np.ndarray]:
    """language -> run minus other run, of each seed and example [S, E]."""
    first = pairs[0][0]
    if not languages(first):
        raise UserError("no language with gold to compare", first.folder)
    return {lang: np.stack([run.examples[lang][0] - other.examples[lang][0]
                            for run, other in pairs]) for lang in languages(first)}


def stratified(parts: list[np.ndarray]) -> np.ndarray:
    """compare.stratified for arrays [S, E]: their mean is the mean of the parts' means, and how
    far these differ adds no variance. Parts are languages, or targets."""
    total = sum(part.shape[1] for part in parts)
    centres = [part.mean(1, keepdims=True) for part in parts]
    middle = sum(centres) / len(parts)
    return np.concatenate([(part - centre) * (total / len(parts) / part.shape[1]) + middle
                           for part, centre in zip(parts, centres)], axis=1)


def cluster_table(values: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """One value for each seed and cluster [S, C] with the same mean and, by the delta method, the
    same standard error as the clustered values [S, E]. More than POOL clusters are pooled into so
    many groups, each from all over the data: tests then take milliseconds, and an interval is as
    wide within 1 / sqrt(2 POOL), 4 %."""
    groups = clusters % POOL
    sizes = np.bincount(groups)
    middle = values.mean(1, keepdims=True)
    sums = np.stack([np.bincount(groups, row) for row in values - middle])
    return middle + sums * (len(sizes) / len(groups))


def training_of(run: Run) -> list[dict]:
    return evaluation.target_training(run.task, run.config)


def check_alike(pairs: list[tuple[Run, Run]]) -> None:
    first = pairs[0][0]
    for run in (run for pair in pairs for run in pair):
        other = [name for name in ALIKE
                 if run.config["key"].get(name) != first.config["key"].get(name)]
        if not other and training_of(run) != training_of(first):
            other = ["training of the target"]
        if other:
            raise UserError(f"cannot be compared with {first.folder.name}: another "
                            f"{', '.join(other)}", run.folder)
