"""Scores: the official metrics of XTREME, XTREME-R and SQuAD.

    answers ──score(task.metric, examples, answers, lang)──> {name: value from 0 to 100}

Answers align with examples: a label, the number of an ending, a string ("" = unanswerable), a tuple
of tags; in retrieval the id of a candidate or a ranking of them (None beside candidates). Else None
is a missing answer and scores 0. What two official files hold, a gold one and a prediction, is
scored by the same rules: accuracy, chunk_f1, set_f1, mewslix_map20 take it as submission.py reads
it. Only the standard library is imported.

Where the official scripts fail (unequal counts, nothing to score), these raise UserError.
"""

import re
import string
import sys
import unicodedata
from collections import Counter
from functools import cache

from files import UserError
from readers import Tagging

ARTICLES = re.compile(r"\b(a|an|the)\b")
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def percent(scores: list) -> float:
    """The mean of scores from 0 to 1, as a percentage; UserError when there are none."""
    if not scores:
        raise UserError("nothing to score (expected at least one example, found none)")
    return 100 * sum(scores) / len(scores)


def check_count(what: str, expected: int, found: int, path=None) -> None:
    """Raises UserError unless the two numbers agree."""
    if expected != found:
        raise UserError(f"{what} differ in number (expected {expected}, found {found})", path)


def known(example):
    """The gold of an example, its last field; UserError when its file holds none."""
    if example[-1] is None:
        raise UserError(f"example {example.row} has no gold answer to score against")
    return example[-1]


def accuracy(golds: list, answers: list) -> dict[str, float]:
    """The share of equal pairs in percent. Labels compare as strings: "1" is not "1.0"."""
    check_count("gold labels and answers", len(golds), len(answers))
    return {"accuracy": percent([gold == answer for gold, answer in zip(golds, answers)])}


def label_accuracy(examples: list, answers: list) -> dict[str, float]:
    """Accuracy of classification and of multiple choice; of tagging (CCG) by words."""
    if examples and isinstance(examples[0], Tagging):
        return {"accuracy": tagging_f1(examples, answers)["accuracy"]}
    return accuracy([known(example) for example in examples], answers)


def accuracy_and_f1(examples: list, answers: list) -> dict[str, float]:
    """Accuracy, and F1 of the label "1", in percent (QQP in GLUE and in the paper)."""
    values = label_accuracy(examples, answers)
    golds = {i for i, example in enumerate(examples) if example.label == "1"}
    return values | {"f1": set_f1(golds, {i for i, a in enumerate(answers) if a == "1"})["f1"]}


def retrieval_accuracy(examples: list, answers: list) -> dict[str, float]:
    """The share of queries answered with one of their right candidates, in percent (Tatoeba)."""
    check_count("examples and answers", len(examples), len(answers))
    pairs = [(e, answer) for e, answer in zip(examples, answers) if e.side == "query"]
    return {"accuracy": percent([answer in known(e) for e, answer in pairs])}


def set_f1(golds: set, answers: set) -> dict[str, float]:
    """F1, precision and recall of two sets, in percent; what cannot be divided is 0. BUCC's score
    is that of pairs of ids."""
    right = len(golds & answers)
    precision, recall = right / max(len(answers), 1), right / max(len(golds), 1)
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    return {"f1": 100 * f1, "precision": 100 * precision, "recall": 100 * recall}


# ---- Chunk F1 -----------------------------------------------------------------------------------


def boundaries(previous: str, prefix: str, new_type: bool) -> tuple[bool, bool]:
    """Does a chunk end before a token, does one start at it? By conlleval's table of prefixes."""
    ends = previous in "ES" or (previous in "BI" and prefix in "BSO")
    starts = prefix in "BS" or (previous in "ESO" and prefix in "EI")
    return ends or (new_type and previous not in "O."), starts or (new_type and prefix not in "O.")


def chunks(sentences: list) -> set[tuple[str, int, int]]:
    """Chunks (type, first token, last token); tokens are numbered through all sentences.

    As in seqeval up to 0.0.13, whatever the tag set: a tag's prefix is its first character, its
    type the text after its last "-". Thus a run of equal UPOS tags is one chunk, but SCONJ and SYM
    read as S, a chunk each; an I- after O or after another type opens a chunk.
    """
    found = set()
    previous, previous_type, start = "O", "", 0
    tokens = [tag for sentence in sentences for tag in (*sentence, "O")]
    for position, tag in enumerate(tokens):
        prefix, type_ = tag[0], tag.split("-")[-1]
        ends, starts = boundaries(previous, prefix, type_ != previous_type)
        if ends:
            found.add((previous_type, start, position - 1))
        if starts:
            start = position
        previous, previous_type = prefix, type_
    return found


def chunk_f1(golds: list, answers: list) -> dict[str, float]:
    """Micro F1, precision and recall over chunks, in percent: XTREME's score of PAN-X and UD-POS.

    golds and answers hold one sequence of tags per sentence. As in the official script the lengths
    of sentences are not compared: a short one shifts those after it. "accuracy" is the plain share
    of right tags, which XTREME does not report. What cannot be divided is 0.
    """
    check_count("gold and predicted sentences", len(golds), len(answers))
    right_tags = sum(a == b for gold, tags in zip(golds, answers) for a, b in zip(gold, tags))
    plain = right_tags / max(sum(map(len, golds)), 1)
    return set_f1(chunks(golds), chunks(answers)) | {"accuracy": 100 * plain}


def tagging_f1(examples: list, answers: list) -> dict[str, float]:
    """Chunk F1 of tagged examples; a missing answer counts as O throughout."""
    check_count("sentences and answers", len(examples), len(answers))
    golds = [known(example) for example in examples]
    filled = [("O",) * len(gold) if tags is None else tags for gold, tags in zip(golds, answers)]
    return chunk_f1(golds, filled)


# ---- Question answering -------------------------------------------------------------------------


def normalize(text: str) -> str:
    """SQuAD's normal form, used by XQuAD and TyDiQA for every language: lower case, then without
    ASCII punctuation, then without English articles; blanks collapsed."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(NO_PUNCTUATION)).split())


def word_f1(gold: str, answer: str) -> float:
    """F1 of two normal forms as bags of words; 0 without a common word, even if both are empty."""
    gold_words, words = gold.split(), answer.split()
    common = sum((Counter(gold_words) & Counter(words)).values())
    if not common:
        return 0.0
    precision, recall = common / len(words), common / len(gold_words)
    return 2 * precision * recall / (precision + recall)


def means(scores: list[tuple], *names: str) -> dict[str, float]:
    return {name: percent([score[column] for score in scores]) for column, name in enumerate(names)}


def squad_v1_question(example, answer: str | None, normal=normalize) -> tuple[float, float]:
    """(exact match, F1) from 0 to 1, each the best over the gold answers. normal: text -> text.

    Where answer and gold both normalise to nothing, the exact match is 1 but F1 is 0.
    """
    if answer is None:
        return 0.0, 0.0
    golds, answer = [normal(text) for text, _ in known(example)], normal(answer)
    if not golds:
        raise UserError(f"question {example.id!r} has no gold answer (SQuAD v1.1 expects one)")
    return float(answer in golds), max(word_f1(gold, answer) for gold in golds)


def squad_v1(examples: list, answers: list) -> dict[str, float]:
    """exact_match and f1 in percent, as SQuAD's evaluate-v1.1.py (SQuAD, XQuAD, TyDiQA)."""
    check_count("questions and answers", len(examples), len(answers))
    return means([squad_v1_question(*pair) for pair in zip(examples, answers)], "exact_match", "f1")


MLQA_ARTICLES = {  # language -> what is taken out; "toy": the invented languages have none
    "en": r"\b(a|an|the)\b", "es": r"\b(un|una|unos|unas|el|la|los|las)\b", "hi": None, "zh": None,
    "vi": r"\b(của|là|cái|chiếc|những)\b", "ar": "ال", "toy": None,
    "de": r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b",
}
MLQA_CHARACTERS = re.compile("([\u4e00-\u9fa5])")  # each a word of its own; rarer ones are not


@cache
def no_punctuation() -> dict[int, None]:
    """Every character that Unicode calls punctuation, and ASCII's: "€" and "°" stay."""
    codes = range(sys.maxunicode + 1)
    return dict.fromkeys(code for code in codes if unicodedata.category(chr(code))[0] == "P"
                         or chr(code) in string.punctuation)


def normalize_mlqa(text: str, lang: str) -> str:
    """MLQA's normal form: as SQuAD's, but with each language's articles, Unicode's punctuation and
    one word for each Chinese character. Raises UserError for a language that MLQA does not have."""
    name = lang.partition("-")[0]
    if name not in MLQA_ARTICLES:
        raise UserError(f"MLQA has no language {lang!r} ({', '.join(MLQA_ARTICLES)})")
    text, articles = text.lower().translate(no_punctuation()), MLQA_ARTICLES[name]
    text = re.sub(articles, " ", text) if articles else text
    text = MLQA_CHARACTERS.sub(r" \1 ", text) if name == "zh" else text
    return " ".join(text.split())


def mlqa(examples: list, answers: list, lang: str) -> dict[str, float]:
    """exact_match and f1 in percent, as MLQA's mlqa_evaluation_v1.py."""
    check_count("questions and answers", len(examples), len(answers))
    scores = [squad_v1_question(*pair, lambda text: normalize_mlqa(text, lang))
              for pair in zip(examples, answers)]
    return means(scores, "exact_match", "f1")


def squad_v2_question(example, answer: str | None) -> tuple[float, float]:
    """(exact match, F1) from 0 to 1. Gold answers that normalise to nothing do not count; where
    none is left, any answer that normalises to nothing is right. A missing answer is a UserError:
    evaluate-v2.0.py cannot score such a file."""
    if answer is None:
        raise UserError(f"question {example.id!r} has no answer (SQuAD 2.0 expects one to each)")
    golds = [normalize(text) for text, _ in known(example)]
    golds, answer = [gold for gold in golds if gold], normalize(answer)
    if not golds:
        return float(not answer), float(not answer)
    return float(answer in golds), max(word_f1(gold, answer) for gold in golds)


def squad_v2(examples: list, answers: list, na_probs=None, na_prob_thresh=1.0) -> dict[str, float]:
    """The values of SQuAD's evaluate-v2.0.py, in percent: exact, f1, total; the same with HasAns_
    and NoAns_ for questions with and without gold; with na_probs also the best_ ones.

    na_probs: question id -> a number that grows with the belief that there is no answer; above
    na_prob_thresh the answer counts as none. Of questions with the same id the last alone counts.
    """
    check_count("questions and answers", len(examples), len(answers))
    last = {example.id: number for number, example in enumerate(examples)}.values()
    examples, answers = [examples[i] for i in last], [answers[i] for i in last]
    raw = [squad_v2_question(*pair) for pair in zip(examples, answers)]
    scores = [
        (float(not example.answers),) * 2 if declined(example, na_probs, na_prob_thresh) else score
        for example, score in zip(examples, raw)
    ]
    values = means(scores, "exact", "f1") | {"total": len(scores)}
    for prefix, wanted in (("HasAns_", True), ("NoAns_", False)):
        part = [score for e, score in zip(examples, scores) if bool(e.answers) == wanted]
        if part:
            values |= means(part, prefix + "exact", prefix + "f1") | {prefix + "total": len(part)}
    if na_probs is not None:
        values |= best_thresholds(examples, answers, raw, na_probs)
    return values


def declined(example, na_probs: dict | None, na_prob_thresh: float) -> bool:
    prob = 0.0 if na_probs is None else na_probs.get(example.id)
    if not isinstance(prob, (int, float)):
        raise UserError(f"question {example.id!r} has no number among the no-answer probabilities")
    return prob > na_prob_thresh


def best_thresholds(examples: list, answers: list, raw: list, na_probs: dict) -> dict[str, float]:
    """best_exact and best_f1 in percent, and their _thresh. At first no question is answered; then
    answers are let in by rising no-answer probability, equal ones in the order of the dict. Each
    adds its raw score, or costs 1 where the question has no answer."""
    numbers = {example.id: number for number, example in enumerate(examples)}
    order = [numbers[id_] for id_ in sorted(na_probs, key=na_probs.get) if id_ in numbers]
    values = {}
    for column, name in enumerate(("exact", "f1")):
        total = best = sum(not example.answers for example in examples)
        threshold = 0.0
        for number in order:
            total += raw[number][column] if examples[number].answers else -(answers[number] != "")
            if total > best:
                best, threshold = total, na_probs[examples[number].id]
        values |= {f"best_{name}": 100 * best / len(examples), f"best_{name}_thresh": threshold}
    return values


# ---- Retrieval ----------------------------------------------------------------------------------


def mined_f1(examples: list, answers: list) -> dict[str, float]:
    """set_f1 of the pairs (query's id, answer); a query without answer gives none."""
    check_count("examples and answers", len(examples), len(answers))
    pairs = [(e, answer) for e, answer in zip(examples, answers) if e.side == "query"]
    return set_f1({(e.id, gold) for e, _ in pairs for gold in known(e)},
                   {(e.id, answer) for e, answer in pairs if answer is not None})


def average_precision(golds, ranked, k: int | None = 20) -> float:
    """AP@k from 0 to 1 (LAReQA, utils_lareqa.py): at each new right answer, the share of right ones
    so far; divided by the most that k answers could hold. k None or 0: no cut."""
    if not golds:
        raise UserError("a question without right answers (average precision expects one)")
    ranked, found, total = ranked[:k] if k else ranked, set(), 0.0
    for rank, answer in enumerate(ranked, start=1):
        if answer in golds and answer not in found:
            found.add(answer)
            total += len(found) / rank
    return total / min(len(golds), k or len(golds))


def lareqa_map20(examples: list, answers: list) -> dict[str, float]:
    """Mean AP@20 over queries in percent; an answer is a ranking of candidates' ids."""
    check_count("examples and answers", len(examples), len(answers))
    return {"map@20": percent([average_precision(known(e), answer or ())
                               for e, answer in zip(examples, answers) if e.side == "query"])}


def mewslix_map20(golds: dict[str, list[str]], answers: dict[str, list[str]]) -> dict[str, float]:
    """Mewsli-X's "map@20" in percent: 1 / rank of the (first) gold entity among the first 20
    answers, which makes it a mean reciprocal rank (utils_mewslix.py). No mentions give 0."""
    ranks = []
    for name, entities in golds.items():
        if not entities or entities[0] is None:
            raise UserError(f"mention {name!r} has no gold entity (expected one)")
        top = answers.get(name, [])[:20]
        gold = entities[0].strip()
        ranks.append(1 / (1 + top.index(gold)) if gold in top else 0.0)
    return {"map@20": percent(ranks) if ranks else 0.0}


def mention_map20(examples: list, answers: list) -> dict[str, float]:
    """mewslix_map20 of queries whose answers are rankings of entities."""
    pairs = [(e, answer) for e, answer in zip(examples, answers) if e.side == "query"]
    return mewslix_map20({e.id: list(known(e)) for e, _ in pairs},
                         {e.id: list(answer or ()) for e, answer in pairs})


# ---- The table of metrics -----------------------------------------------------------------------

METRICS = {"accuracy": label_accuracy, "acc_and_f1": accuracy_and_f1,
           "retrieval_accuracy": retrieval_accuracy,
           "chunk_f1": tagging_f1, "squad_v1": squad_v1, "squad_v2": squad_v2,
           "mined_f1": mined_f1, "lareqa_map20": lareqa_map20, "mention_map20": mention_map20}
BY_LANGUAGE = {"squad_mlqa": mlqa}
# metric -> the values whose mean is a task's score (XTREME, evaluate.py)
MAIN = {"accuracy": ("accuracy",), "acc_and_f1": ("accuracy", "f1"),
        "retrieval_accuracy": ("accuracy",), "chunk_f1": ("f1",),
        "squad_v1": ("f1", "exact_match"), "squad_mlqa": ("f1", "exact_match"),
        "squad_v2": ("f1", "exact"), "mined_f1": ("f1",), "lareqa_map20": ("map@20",),
        "mention_map20": ("map@20",)}


def score(metric: str, examples: list, answers: list, lang: str) -> dict[str, float]:
    """The values of a metric over the examples of one language."""
    if metric in BY_LANGUAGE:
        return BY_LANGUAGE[metric](examples, answers, lang)
    return METRICS[metric](examples, answers)
