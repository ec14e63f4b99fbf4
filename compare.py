"""What compares runs: the score of each example, what belongs together, and what flipped.

    examples, answers --units--> (a, b) each --linear--> a value each --standard_error--> +-

A language's score is a ratio sum(a) / sum(b) over its examples. For most metrics a is the score of
the example alone and b is 1; for F1 over chunks or pairs they are what the example adds to both
sides of the fraction. In retrieval the examples that count are the queries. Only the standard
library is imported.
"""

import math
from itertools import accumulate
from statistics import mean
from typing import NamedTuple

import metrics
from files import printable
from readers import Span, Tagging

FEWEST = 6      # units below which no test at .05 can succeed: the smallest p is 2 / 2**n
SHOWN = 400     # characters of a text that are printed
HIDDEN = ("row", "id", "label", "answers", "tags", "gold")  # fields that a model does not see


# ---- (a, b) of an example


def f1_unit(golds: set, answers: set) -> tuple[int, int]:
    return 2 * len(golds & answers), len(golds) + len(answers)


def label_unit(example, answer) -> tuple[int, int]:
    """Right or not, of 1; of a tagged sentence the right words, of all."""
    if isinstance(example, Tagging):
        pairs = list(zip(metrics.known(example), filled(example, answer)))
        return sum(gold == tag for gold, tag in pairs), len(pairs)
    return int(answer == metrics.known(example)), 1


def filled(example, answer) -> tuple:
    """A sentence's tags; a missing answer counts as O throughout, as in metrics.tagging_f1."""
    return ("O",) * len(example.words) if answer is None else answer


def positive_unit(example, answer) -> tuple[int, int]:
    return f1_unit({metrics.known(example)} & {"1"}, {answer} & {"1"})


def chunk_unit(example, answer) -> tuple[int, int]:
    return f1_unit(metrics.chunks([metrics.known(example)]),
                   metrics.chunks([filled(example, answer)]))


def pair_unit(example, answer) -> tuple[int, int]:
    return f1_unit(set(metrics.known(example)), {answer} - {None})


# metric -> a unit for each of its main values; all other metrics are means over examples
UNITS = {"accuracy": (label_unit,), "acc_and_f1": (label_unit, positive_unit),
         "chunk_f1": (chunk_unit,), "mined_f1": (pair_unit,)}


def units(task, examples: list, answers: list, lang: str) -> list[list[tuple[float, float]]]:
    """Of each main value of the task's metric: (a, b) of each example (of retrieval: query)."""

    def alone(example, answer):
        values = metrics.score(task.metric, [example], [answer], lang)
        return mean(values[name] for name in metrics.MAIN[task.metric]) / 100, 1

    metrics.check_count("examples and answers", len(examples), len(answers))
    pairs = [(e, a) for e, a in zip(examples, answers) if is_query(e)]
    return [[unit(*pair) for pair in pairs] for unit in UNITS.get(task.metric, (alone,))]


def is_query(example) -> bool:
    return getattr(example, "side", "query") == "query"


# ---- values of examples, whose mean is the score


def linear(column: list[tuple[float, float]]) -> list[float]:
    """A value for each (a, b), whose mean is 100 sum(a) / sum(b) and whose standard error is that
    of the ratio by the delta method: the ratio and the example's influence on it."""
    total, n = sum(b for _, b in column), len(column)
    if not total:
        return [0.0] * n                        # as in the metrics: what cannot be divided is 0
    ratio = sum(a for a, _ in column) / total
    return [100 * (a * n / total + ratio * (1 - b * n / total)) for a, b in column]


def stratified(parts: list[list[float]]) -> list[float]:
    """The values of several parts (languages, members of a pooled row) as one list. Its mean is the
    plain mean of the parts' means however large they are; how far these differ adds no variance."""
    means, n = [mean(part) for part in parts], sum(map(len, parts))
    weights = [n / (len(parts) * len(part)) for part in parts]
    return [weight * value + (mean(means) - weight * centre)
            for part, centre, weight in zip(parts, means, weights) for value in part]


def example_scores(task, examples: list, answers: list, lang: str, groups=()) -> list[float]:
    """A value for each example, in percent, whose mean is the score of the language.

    groups: how many examples each member of a pooled row brings (splits.Split.groups). The values
    of chunk F1 and mined F1 may lie outside of 0 to 100; in retrieval candidates have none.
    """
    parts, sizes = [], groups or (len(examples),)
    for end, size in zip(accumulate(sizes), sizes):
        columns = units(task, examples[end - size:end], answers[end - size:end], lang)
        parts.append([mean(values) for values in zip(*map(linear, columns))])
    return stratified(parts)


def cluster_ids(task, examples: list, lang: str) -> list:
    """What each example (query) belongs to: errors are alike within it, independent between.

    In parallel data the item, the same in all languages: its id or, where there is none, its place.
    Else the paragraph of a question, and of anything else each example by itself.
    """
    queries = [example for example in examples if is_query(example)]
    if task.parallel:                           # read_lareqa adds the language to the id
        return [getattr(e, "id", str(place)).removesuffix(f"_{lang}")
                for place, e in enumerate(queries)]
    if task.kind == "span":
        return [(lang, example.context) for example in queries]
    return [(lang, place) for place in range(len(queries))]


# ---- errors of scores


def by_cluster(values: list[float], clusters: list) -> list[tuple[float, int]]:
    """(sum, count) of each cluster: units whose ratio is the mean over all values."""
    sums = {}
    for value, name in zip(values, clusters, strict=True):
        total, n = sums.get(name, (0.0, 0))
        sums[name] = total + value, n + 1
    return list(sums.values())


def standard_error(column: list[tuple[float, float]]) -> float:
    """Of sum(a) / sum(b) over independent units, by the delta method; nan where one holds all of b.

    Each squared residual is divided by 1 - b / sum(b), which removes the bias under equal variance
    (CR2 of Bell and McCaffrey 2002); for equal b that is the usual n / (n - 1).
    """
    total = sum(b for _, b in column)
    if max((b for _, b in column), default=0) >= total:
        return math.nan
    ratio = sum(a for a, _ in column) / total
    return math.sqrt(sum((a - ratio * b) ** 2 / (1 - b / total) for a, b in column)) / total


def margin(column: list[tuple[float, float]]) -> float:
    """Half the 95 % interval of 100 sum(a) / sum(b), by the normal distribution."""
    return 100 * 1.96 * standard_error(column)


# ---- two runs side by side


class Pair(NamedTuple):
    """Two runs in one language; a list of two holds A's and B's."""

    lang: str
    queries: list                   # examples that count, with their clusters:
    clusters: list
    answers: list[list]             # [run][query]
    scores: list[list[float]]       # [run][query]
    right: list[list[bool]]         # [run][query]
    texts: dict[str, str]           # of retrieval: candidate's id -> text


def pair(task, loaded, answers: list[list], lang: str) -> Pair:
    """loaded: splits.Split; answers: A's and B's. Right is an example that scores all it can."""
    examples = loaded.examples
    return Pair(
        lang, [e for e in examples if is_query(e)], cluster_ids(task, examples, lang),
        [[answer for e, answer in zip(examples, given) if is_query(e)] for given in answers],
        [example_scores(task, examples, given, lang, loaded.groups) for given in answers],
        [are_right(task, examples, given, lang) for given in answers],
        {e.id: e.text for e in examples if not is_query(e)})


def are_right(task, examples: list, answers: list, lang: str) -> list[bool]:
    return [all(a == b for a, b in each) for each in zip(*units(task, examples, answers, lang))]


def report(task, pairs: list[Pair], english: str, most: int) -> str:
    """The table, then of each language the texts of at most `most` examples that flipped."""
    lines, original = table(pairs, english), {one.lang: one for one in pairs}.get(english)
    for one in pairs:
        is_translated = task.parallel and original and one is not original
        parallel = partners(one, original) if is_translated else {}
        lines += flipped(one, most, parallel, english)
    return "\n".join(lines)


def table(pairs: list[Pair], english: str) -> list[str]:
    """Markdown: per language both scores, their difference with its interval, what flipped."""
    lines = ["| language | n | A | B | B - A, 95 % interval | wrong in A, right in B "
             "| right in A, wrong in B |", "|---" * 7 + "|"]
    for one in pairs:
        better, worse = (sum(both == turn for both in zip(*one.right))
                         for turn in ((False, True), (True, False)))
        lines.append(row(one.lang, [one], f"{better} | {worse}"))
    other = [one for one in pairs if one.lang != english]
    return lines + [row(name, members, " | ") for name, members in
                    (("mean", pairs), ("zero-shot mean", other)) if members]


def row(name: str, members: list[Pair], flips: str) -> str:
    a, b = (mean(mean(one.scores[run]) for one in members) for run in (0, 1))
    differences = [[b - a for a, b in zip(*one.scores)] for one in members]
    column = by_cluster(stratified(differences), [name for one in members for name in one.clusters])
    few = len(column) < FEWEST
    error = "cannot tell" if few else f"± {1.96 * standard_error(column):.1f}"
    n = sum(len(one.queries) for one in members)
    return f"| {name} | {n} | {a:.1f} | {b:.1f} | {b - a:+.1f} {error} | {flips} |"


def partners(one: Pair, english: Pair) -> dict:
    """{cluster: English query}; {} where places do not mean the same item: files of other sources,
    and the toy world, whose languages tell of different things."""
    found = dict(zip(english.clusters, english.queries))
    same = all(hasattr(query, "id") or name in found and found[name][-1] == query[-1]
               for name, query in zip(one.clusters, one.queries))
    return found if same else {}


def flipped(one: Pair, most: int, parallel: dict, english: str) -> list[str]:
    """The texts of the first `most` examples that flipped, with gold and both answers; `parallel`:
    {cluster: the English query it is a translation of}."""
    lines = []
    changed = [place for place, (a, b) in enumerate(zip(*one.right)) if a != b]
    for place in changed[:most]:
        example, cluster = one.queries[place], one.clusters[place]
        turn = "right in A, wrong in B" if one.right[0][place] else "wrong in A, right in B"
        lines += ["", f"{one.lang}, row {example.row}: {turn}", *texts_of(example, "")]
        if cluster in parallel:
            lines += texts_of(parallel[cluster], f"{english} ")
        gold = metrics.known(example)
        golds = [text for text, _ in gold] if isinstance(example, Span) else gold
        for name, value in (("gold", golds), *zip("AB", (given[place] for given in one.answers))):
            lines.append(f"    {name}: {shown(value, one.texts)}")
    return lines


def visible(example) -> dict:
    """What a model sees of an example: all its fields but row, id and gold."""
    return {name: value for name, value in example._asdict().items() if name not in HIDDEN}


def texts_of(example, prefix: str) -> list[str]:
    return [f"    {prefix}{name}: {shown(value, {})}" for name, value in visible(example).items()
            if name != "side"]


def shown(value, texts: dict[str, str]) -> str:
    """Texts in one line, at most SHOWN characters; ids of candidates as the candidates' texts."""
    if value is None:
        return "no answer"
    parts = value if isinstance(value, (list, tuple)) else [value]
    text = printable(" | ".join(str(texts.get(part, part)) for part in parts))
    return text if len(text) <= SHOWN else text[:SHOWN - 3] + "..."
