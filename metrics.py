"""Scores: the official metrics of XTREME and SQuAD, and prediction files in XTREME's form.

    answers ──METRICS[task.metric](examples, answers)──> {name: value from 0 to 100}
    answers ──format_answers──> text of a submission file ──parse_answers──> answers

Answers align with examples: a label, the number of an ending, a string ("" = unanswerable), a tuple
of tags, the id of a candidate (retrieval; None beside candidates). Else None is a missing answer
and scores 0. The same rules score the text of two official files, a gold one and a prediction:

    accuracy(read_labels(gold), read_labels(prediction))              XNLI, PAWS-X, Tatoeba
    chunk_f1(read_tags(gold), read_tags(prediction))                  PAN-X, UD-POS
    squad_v1(examples, parse_answers("span", prediction, examples))   XQuAD, TyDiQA, SQuAD
        with examples = list(readers.parse_squad(gold, path)); likewise squad_v2

Where the official scripts fail (unequal counts, nothing to score), these raise UserError.
"""

import io
import json
import re
import string
from collections import Counter

import numpy as np

from readers import Tagging, UserError

ARTICLES = re.compile(r"\b(a|an|the)\b")
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
BLOCK = 2**24  # similarities that a search holds at once: 64 MB


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


def retrieval_accuracy(examples: list, answers: list) -> dict[str, float]:
    """The share of queries answered with one of their right candidates, in percent (Tatoeba)."""
    check_count("examples and answers", len(examples), len(answers))
    pairs = [(e, answer) for e, answer in zip(examples, answers) if e.side == "query"]
    return {"accuracy": percent([answer in known(e) for e, answer in pairs])}


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
    gold_chunks, answer_chunks = chunks(golds), chunks(answers)
    right = len(gold_chunks & answer_chunks)
    precision = right / max(len(answer_chunks), 1)
    recall = right / max(len(gold_chunks), 1)
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    right_tags = sum(a == b for gold, tags in zip(golds, answers) for a, b in zip(gold, tags))
    plain = right_tags / max(sum(map(len, golds)), 1)
    values = {"f1": f1, "precision": precision, "recall": recall, "accuracy": plain}
    return {name: 100 * value for name, value in values.items()}


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


def squad_v1_question(example, answer: str | None) -> tuple[float, float]:
    """(exact match, F1) from 0 to 1, each the best over the gold answers.

    Where answer and gold both normalise to nothing, the exact match is 1 but F1 is 0.
    """
    if answer is None:
        return 0.0, 0.0
    golds, answer = [normalize(text) for text, _ in known(example)], normalize(answer)
    if not golds:
        raise UserError(f"question {example.id!r} has no gold answer (SQuAD v1.1 expects one)")
    return float(answer in golds), max(word_f1(gold, answer) for gold in golds)


def squad_v1(examples: list, answers: list) -> dict[str, float]:
    """exact_match and f1 in percent, as SQuAD's evaluate-v1.1.py (SQuAD, XQuAD, TyDiQA)."""
    check_count("questions and answers", len(examples), len(answers))
    return means([squad_v1_question(*pair) for pair in zip(examples, answers)], "exact_match", "f1")


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
    na_prob_thresh the answer counts as none.
    """
    check_count("questions and answers", len(examples), len(answers))
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


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1; a row of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def nearest(queries: np.ndarray, candidates: np.ndarray, cosine: bool = True) -> np.ndarray:
    """For each query the number of its nearest candidate, the lowest of equals, int64 [Q].

    queries [Q, H], candidates [C, H]. By cosine, or by Euclidean distance of the vectors as they
    are: the two choices of XTREME's --dist (utils_retrieve.py, similarity_search).
    Memory: BLOCK similarities; 40,000 x 400,000 pass in slices of 41 queries.
    """
    queries, candidates = np.asarray(queries, np.float32), np.asarray(candidates, np.float32)
    if cosine:
        queries, candidates = unit(queries), unit(candidates)
    halves = np.square(candidates).sum(axis=1) / 2  # |q - c|^2 = |q|^2 - 2 (q.c - |c|^2 / 2)
    step = max(1, BLOCK // max(len(candidates), 1))
    slices = [queries[start : start + step] for start in range(0, len(queries), step)]
    return np.concatenate([(rows @ candidates.T - halves).argmax(axis=1) for rows in slices])


# ---- Prediction files ---------------------------------------------------------------------------


def read_labels(text: str) -> list[str]:
    """The labels of a file with one on each line, as text mode and strip() give them: LF, CR and
    CRLF end a line, a blank one is a label too, a byte order mark spoils the first."""
    return [line.strip() for line in io.StringIO(text, newline=None)]


def read_tags(text: str) -> list[tuple[str, ...]]:
    """The sentences of a file with one tag on each line. Every blank line ends a sentence, so that
    leading and repeated ones make empty sentences; the last sentence needs none."""
    sentences, tags = [], []
    for line in read_labels(text):
        if line:
            tags.append(line)
        else:
            sentences.append(tuple(tags))
            tags = []
    return sentences + [tuple(tags)] if tags else sentences


def read_choices(text: str, path=None) -> list:
    """The values of "label" in a file with one JSON object on each line, as XCOPA's."""
    choices = []
    for number, line in enumerate(read_labels(text), start=1):
        value = read_object(line, path, number)
        if "label" not in value:
            raise UserError('the key "label" is missing', path, number)
        choices.append(value["label"])
    return choices


def read_object(text: str, path, line=None) -> dict:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"broken JSON: {error}", path, line) from None
    if not isinstance(value, dict):
        raise UserError("expected a JSON object {...}", path, line)
    return value


def parse_spans(text: str, examples: list, path) -> list[str | None]:
    given = read_object(text, path)
    for example in examples:
        if not isinstance(given.get(example.id, ""), str):
            raise UserError(f"the answer to {example.id!r} is not a string", path)
    return [given.get(example.id) for example in examples]


def parse_tags(text: str, examples: list, path) -> list[tuple[str, ...]]:
    sentences = read_tags(text)
    for example, tags in zip(examples, sentences):
        what = f"words and tags of sentence {example.row}"
        check_count(what, len(example.words), len(tags), path)
    return sentences


def parse_candidates(text: str, examples: list, path) -> list[str | None]:
    ids = {example.id for example in examples if example.side == "candidate"}
    lines = read_labels(text)
    for number, line in enumerate(lines, start=1):
        if line not in ids:
            raise UserError(f"no candidate has the id {line!r} (a row from 0 on)", path, number)
    check_count("queries and answers", sum(e.side == "query" for e in examples), len(lines), path)
    rest = iter(lines)
    return [next(rest) if example.side == "query" else None for example in examples]


def format_lines(values) -> str:
    return "".join(f"{value}\n" for value in values)


def format_spans(examples: list, answers: list) -> str:
    by_id = {example.id: answer for example, answer in zip(examples, answers)}
    check_count("questions and their ids", len(examples), len(by_id))
    return json.dumps(by_id, ensure_ascii=False, indent=1) + "\n"


def format_candidates(examples: list, answers: list) -> str:
    return format_lines(a for e, a in zip(examples, answers) if e.side == "query")


PARSE = {
    "classification": lambda text, examples, path: read_labels(text),
    "multiple_choice": lambda text, examples, path: read_choices(text, path),
    "span": parse_spans,
    "tagging": parse_tags,
    "retrieval": parse_candidates,
}
FORMAT = {
    "classification": lambda examples, answers: format_lines(answers),
    "multiple_choice": lambda _, answers: format_lines(json.dumps({"label": a}) for a in answers),
    "span": format_spans,
    "tagging": lambda _, answers: format_lines(tag for tags in answers for tag in (*tags, "")),
    "retrieval": format_candidates,
}


def parse_answers(kind: str, text: str, examples: list, path=None) -> list:
    """The answers in the text of a submission file. `path` only names it in errors.

    A question without an entry has the answer None; entries for other ids are passed over.
    Raises UserError: broken JSON, wrong counts, ids that no candidate has.
    """
    answers = PARSE[kind](text, examples, path)
    check_count("examples and answers", len(examples), len(answers), path)
    return answers


def format_answers(kind: str, examples: list, answers: list) -> str:
    """The text of a file that XTREME's evaluate.py scores: one label a line; one tag a line and a
    blank line after each sentence; {question id: answer}; {"label": n} a line for multiple choice;
    a candidate's id a line for retrieval (in Tatoeba ids are rows, counted from 0).

    Raises UserError unless the text reads back as the same answers: one for each example and word,
    ids unique, no label that strip() or a line end would change.
    """
    check_count("examples and answers", len(examples), len(answers))
    if kind != "retrieval" and None in answers:
        raise UserError(f"example {examples[answers.index(None)].row} has no answer")
    text = FORMAT[kind](examples, answers)
    if parse_answers(kind, text, examples) != answers:
        raise UserError(f"a {kind} answer does not fit in one line (blanks or line ends in it)")
    return text


EXTENSION = {"classification": "tsv", "multiple_choice": "jsonl", "span": "json",
             "tagging": "tsv", "retrieval": "tsv"}  # fmt: skip
METRICS = {"accuracy": label_accuracy, "retrieval_accuracy": retrieval_accuracy,
           "chunk_f1": tagging_f1, "squad_v1": squad_v1, "squad_v2": squad_v2}  # fmt: skip
# metric -> the values whose mean is a task's score (XTREME, evaluate.py)
MAIN = {"accuracy": ("accuracy",), "retrieval_accuracy": ("accuracy",), "chunk_f1": ("f1",),
        "squad_v1": ("f1", "exact_match"), "squad_v2": ("f1", "exact")}  # fmt: skip
