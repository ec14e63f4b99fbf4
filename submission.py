"""Prediction files in XTREME's form: what evaluate.py scores, written and read.

    answers ──format_answers──> text of a submission file ──parse_answers──> answers

form: a row's kind or, for retrieval, its kind of search (tasks.Task.form). Files are read as
Python's text mode reads them, as the official scripts do. Only the standard library is imported.
"""

import io
import json
from pathlib import Path

from files import UserError
from metrics import check_count


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


def read_text(path) -> str:
    """A file as text mode gives it (a byte order mark stays). Raises UserError."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise UserError(f"cannot be read ({getattr(problem, 'strerror', problem)})", path) from None


def read_pairs(text: str) -> set[tuple[str, ...]]:
    """The different lines of a file of pairs, each split at tabs (BUCC). A blank line is ("",)."""
    return {tuple(line.split("\t")) for line in read_labels(text)}


def read_rankings(text: str, path) -> dict[str, list[str]]:
    """{query's id: [id, ...]}: rankings or, in a gold file, right answers. As in the official
    script a string stands for the list of its characters, and what is no string equals no id: it
    comes as None."""
    given = read_object(text, path)
    for name, ranked in given.items():
        if type(ranked) not in (list, str):
            raise UserError(f"the answer to {name!r} is no list of ids", path)
    return {name: [one if isinstance(one, str) else None for one in ranked]
            for name, ranked in given.items()}


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


def parse_pairs(text: str, examples: list, path) -> list[str | None]:
    """`query's id TAB candidate's id` on a line; a query stands at most once."""
    sides = {side: {e.id for e in examples if e.side == side} for side in ("query", "candidate")}
    found = {}
    for number, line in enumerate(read_labels(text), start=1):
        query, _, candidate = line.partition("\t")
        if query not in sides["query"] or candidate not in sides["candidate"] or query in found:
            what = f"expected an unused query's id, a tab, a candidate's id, found {line!r}"
            raise UserError(what, path, number)
        found[query] = candidate
    return [found.get(example.id) if example.side == "query" else None for example in examples]


def parse_rankings(text: str, examples: list, path) -> list[tuple[str, ...] | None]:
    """{query's id: [candidate's id, ...]}; a query that is absent has the answer None."""
    given = read_rankings(text, path)
    return [tuple(given[e.id]) if e.side == "query" and e.id in given else None for e in examples]


def format_lines(values) -> str:
    return "".join(f"{value}\n" for value in values)


def format_spans(examples: list, answers: list) -> str:
    by_id = {example.id: answer for example, answer in zip(examples, answers)}
    check_count("questions and their ids", len(examples), len(by_id))
    return json.dumps(by_id, ensure_ascii=False, indent=1) + "\n"


def format_candidates(examples: list, answers: list) -> str:
    return format_lines(a for e, a in zip(examples, answers) if e.side == "query")


def format_pairs(examples: list, answers: list) -> str:
    return format_lines(f"{e.id}\t{answer}" for e, answer in zip(examples, answers)
                        if answer is not None)


def format_rankings(examples: list, answers: list) -> str:
    ranked = {e.id: answer for e, answer in zip(examples, answers) if e.side == "query"}
    return json.dumps(ranked, ensure_ascii=False) + "\n"


EXTENSION = {"classification": "tsv", "multiple_choice": "jsonl", "span": "json", "tagging": "tsv",
             "pairs": "tsv", "mining": "tsv", "ranked": "json"}  # form -> of a prediction file
PARSE = {
    "classification": lambda text, examples, path: read_labels(text),
    "multiple_choice": lambda text, examples, path: read_choices(text, path),
    "span": parse_spans,
    "tagging": parse_tags,
    "pairs": parse_candidates,
    "mining": parse_pairs,
    "ranked": parse_rankings,
}
FORMAT = {
    "classification": lambda examples, answers: format_lines(answers),
    "multiple_choice": lambda _, answers: format_lines(json.dumps({"label": a}) for a in answers),
    "span": format_spans,
    "tagging": lambda _, answers: format_lines(tag for tags in answers for tag in (*tags, "")),
    "pairs": format_candidates,
    "mining": format_pairs,
    "ranked": format_rankings,
}


def parse_answers(form: str, text: str, examples: list, path=None) -> list:
    """The answers in the text of a submission file. `path` only names it in errors.

    A question without an entry has the answer None; entries for other ids are passed over.
    Raises UserError: broken JSON, wrong counts, ids that no candidate has.
    """
    answers = PARSE[form](text, examples, path)
    check_count("examples and answers", len(examples), len(answers), path)
    return answers


def check_offered(form: str, examples: list, answers: list, labels) -> None:
    """Raises UserError for an answer that was not to choose from: no label of these (where there
    are any), no ending of its question; or an id that stands twice in a ranking, whose candidates
    are those of all languages."""
    known = set(labels)
    for example, answer in zip(examples, answers):
        given = (answer or ()) if form in ("tagging", "ranked") else (answer,)
        offered = range(len(example.endings)) if form == "multiple_choice" else known
        strange = [one for one in given if offered and one not in offered]
        if strange or form == "ranked" and len(set(given)) < len(given):
            what = f"{strange[0]!r} was not to choose from" if strange else "an id stands twice"
            raise UserError(f"the answer to example {example.row}: {what}")


def format_answers(form: str, examples: list, answers: list, labels=()) -> str:
    """The text of a file that XTREME's evaluate.py scores: one label a line; one tag a line and a
    blank line after each sentence; {question id: answer}; {"label": n} a line for multiple choice;
    a candidate's id a line for Tatoeba (rows, counted from 0), two ids for BUCC, {id: ranking} for
    Mewsli-X.

    Raises UserError unless the text reads back as the same answers: one for each example and word,
    ids unique, no label that strip() or a line end would change, none but of `labels` if given.
    """
    check_count("examples and answers", len(examples), len(answers))
    for example, answer in zip(examples, answers):
        if answer is None and form != "mining" and getattr(example, "side", "query") == "query":
            raise UserError(f"example {example.row} has no answer")
    check_offered(form, examples, answers, labels)
    text = FORMAT[form](examples, answers)
    if parse_answers(form, text, examples) != answers:
        raise UserError(f"a {form} answer does not fit in one line (blanks or line ends in it)")
    return text
