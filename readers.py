"""Readers of the official file formats: bytes on disk -> Examples (raw text and gold).

    file --read_lines | read_json--> rows --a reader--> Example, Example, ...

A reader is an iterator `reader(paths, lang, labels)` over the examples of one language. It gives
None for a row whose gold the data set itself withholds (MultiNLI's "-", treebanks without text)
and raises UserError, with file and line, for anything else that is wrong: nothing is skipped or
repaired silently. This room knows neither ids nor tensors and imports neither torch nor numpy.
"""

import json
import math
import os
import re
from pathlib import Path
from typing import Callable, Iterator, NamedTuple

MAX_LINE = 1 << 24  # bytes: what is longer than 16 MB is no sentence
MAX_JSON = 1 << 30  # bytes: the largest file of the field, TyDiQA's training set, has 58 MB

STRANGERS = {  # what is found in the place of data, by its first bytes
    b"version https://git-lfs": "a Git LFS pointer, not the data. Fetch the file (git lfs pull)",
    b"<!doctype html": "an HTML page, not the data. Download the file again",
    b"<html": "an HTML page, not the data. Download the file again",
}


class UserError(Exception):
    """A problem the user can mend, in one line: 'PATH:LINE: what is wrong (expected ...). hint'.

    At most 300 characters; control characters of the data are shown escaped. `line` is a line
    number or, in JSON, where lines say nothing, words such as 'question 7'.
    """

    def __init__(self, what: str, path=None, line=None):
        self.what, self.line = what, line
        place = ":".join(str(part)[-200:] for part in (path, line) if part is not None)
        text = f"{place}: {what}" if place else what
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
        super().__init__(text if len(text) <= 300 else text[:297] + "...")


# `row` is the 1-based line (in JSON: the question's number) in the example's file. File and row
# name an example, never the file's own id: TyDiQA's training ids repeat. The gold is the last
# field of every type; None says that the file has none.

class Classification(NamedTuple):
    row: int
    text_a: str
    text_b: str
    label: str | None

class MultipleChoice(NamedTuple):
    row: int
    context: str
    endings: tuple[str, ...]
    label: int | None

class Span(NamedTuple):
    row: int
    id: str
    question: str
    context: str  # one str object per paragraph, shared by its questions
    answers: tuple[tuple[str, int], ...] | None  # (text, start in code points); (): unanswerable

class Tagging(NamedTuple):
    row: int
    words: tuple[str, ...]
    tags: tuple[str, ...] | None

class Sentence(NamedTuple):
    row: int
    id: str
    text: str
    side: str  # "query" | "candidate"
    gold: tuple[str, ...] | None  # of a query: ids of the right candidates; of a candidate: ()

class Document(NamedTuple):
    row: int
    text: str


Example = Classification | MultipleChoice | Span | Tagging | Sentence | Document
Examples = Iterator[Example | None]


# --------------------------------------------------------------------- bytes -> lines, JSON


def read_lines(path) -> Iterator[tuple[int, str]]:
    r"""(1-based number, text without line end) of each line of a UTF-8 file (a BOM is tolerated).

    Only "\n" ends a line, and one "\r" before it is taken off: XNLI and PAWS-X hold U+001D and
    U+001C inside sentences, BUCC U+2028, where str.splitlines() would cut. Raises UserError:
    unreadable, empty, no text file, a line too long, not UTF-8.
    """
    offset = 0
    with _open(path) as file:
        for number, raw in enumerate(iter(lambda: file.readline(MAX_LINE + 1), b""), 1):
            if len(raw) > MAX_LINE:
                raise UserError(f"line too long (expected at most {MAX_LINE} bytes)", path, number)
            yield number, _decode(raw.removesuffix(b"\n").removesuffix(b"\r"), path, number, offset)
            offset += len(raw)
    if offset == 0:
        raise UserError("the file is empty", path)


def read_json(path):
    """The content of a JSON file. Raises UserError, also for keys that occur twice in an object,
    NaN, Infinity, nesting too deep for Python and half surrogate pairs."""
    with _open(path) as file:
        size = os.fstat(file.fileno()).st_size
        if not 0 < size <= MAX_JSON:
            raise UserError(f"expected a file of 1 to {MAX_JSON} bytes, found {size}", path)
        raw = file.read()
    return _parse_json(_decode(raw, path, 1, 0), path, None)


def read_json_lines(path) -> Iterator[tuple[int, dict]]:
    """(1-based line, object) of each line of a JSON-lines file. Raises UserError as read_json."""
    for number, text in read_lines(path):
        record = _parse_json(text, path, number)
        if not isinstance(record, dict):
            raise UserError(f"expected an object, found {type(record).__name__}", path, number)
        yield number, record


def _open(path):
    try:
        return open(path, "rb")
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", path) from error


def _decode(raw: bytes, path, line: int, offset: int) -> str:
    """The text of bytes that begin in this line, at this offset of the file."""
    if offset == 0:
        start = raw[:200].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
        for magic, what in STRANGERS.items():
            if start.startswith(magic):
                raise UserError(f"this is {what}", path)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line += raw.count(b"\n", 0, error.start)
        what = f"not UTF-8 (byte 0x{raw[error.start]:02x} at offset {offset + error.start})"
        raise UserError(what, path, line) from error
    return text.removeprefix("\ufeff") if offset == 0 else text


def _parse_json(text: str, path, line: int | None):
    try:
        data = DECODER.decode(text)
        if re.search(r"\\u[dD][89a-fA-F]", text):  # escaped surrogates: text in pairs only
            json.dumps(data, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        what = getattr(error, "msg", error)
        raise UserError(f"no JSON: {what}", path, line or getattr(error, "lineno", None)) from error
    return data


def _object(pairs: list) -> dict:
    record = dict(pairs)
    if len(record) < len(pairs):
        raise ValueError(f"a key occurs twice among {', '.join(key for key, _ in pairs)}")
    return record


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError(f"{text} is not a finite number")
    return float(text)


DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_finite, parse_constant=_finite)


# ------------------------------------------------------------------------ rows -> Examples


def _each(paths: list[Path], rows: Callable, parse: Callable) -> Examples:
    """parse(number, row) for each (number, row) of rows(path); its errors learn file and line."""
    for path in paths:
        for number, row in rows(path):
            try:
                yield parse(number, row)
            except UserError as error:
                raise UserError(error.what, path, error.line or number) from error


def _get(record, key: str, kind: type):
    """record[key], which must be there and be of this kind. Raises UserError."""
    if not isinstance(record, dict) or key not in record:
        raise UserError(f"there is no {key!r} in this {type(record).__name__}")
    if type(record[key]) is not kind:  # not isinstance: True is an int
        raise UserError(f"{key!r} is {type(record[key]).__name__} (expected {kind.__name__})")
    return record[key]


def _check_label(label, labels, line: int | None = None):
    if label is not None and label not in labels:
        known = ", ".join(map(str, labels)) if len(labels) < 20 else f"one of {len(labels)}"
        raise UserError(f"unknown label {label!r} (expected {known})", line=line)


TYDIQA_WORDS = {"arabic": "ar", "bengali": "bn", "english": "en", "finnish": "fi", "korean": "ko",
                "indonesian": "id", "russian": "ru", "swahili": "sw", "telugu": "te"}


def parse_squad(data, path) -> Iterator[Span]:
    """The questions of parsed SQuAD JSON, v1.1 or v2.0 (or a bare list of articles, as in XTREME).

    Offsets are unchecked, plausible_answers ignored; `is_impossible` gives (), a missing `answers`
    None. Raises UserError naming the question by its number.
    """
    number = 0
    try:
        for article in data if isinstance(data, list) else _get(data, "data", list):
            for paragraph in _get(article, "paragraphs", list):
                context = _get(paragraph, "context", str)
                for qa in _get(paragraph, "qas", list):
                    number += 1
                    question = _get(qa, "question", str)
                    yield Span(number, _get(qa, "id", str), question, context, _answers(qa))
    except UserError as error:
        raise UserError(error.what, path, f"question {number}") from error


def _answers(qa: dict) -> tuple[tuple[str, int], ...] | None:
    if qa.get("is_impossible") is True:
        return ()
    if "answers" not in qa:
        return None
    answers = _get(qa, "answers", list)
    return tuple((_get(one, "text", str), _get(one, "answer_start", int)) for one in answers)


def read_squad(paths: list[Path], lang: str, labels: tuple[str, ...]) -> Examples:
    """SQuAD's JSON and its kin, the offsets checked (in code points of the raw context).

    An answer that is not at its answer_start gets start -1: good for scoring, skipped by training.
    More than 1 % of them is a UserError. Where all are blanked, as in XTREME's test files, there
    is no gold. Questions whose id names another language (TyDiQA's 'swahili-12-0') are left out.
    """
    for path in paths:
        spans = list(parse_squad(read_json(path), path))
        if all(span.answers == (("", 0),) for span in spans):
            spans = [span._replace(answers=None) for span in spans]
        for span in _locate(spans, path):
            if lang in (TYDIQA_WORDS.get(span.id.split("-")[0], lang), None):
                yield span


def _locate(spans: list[Span], path) -> list[Span]:
    """The spans, with start -1 for each answer that is not where it is said to be."""
    lost, count = [], 0
    for i, span in enumerate(spans):
        starts = [
            start if text and start >= 0 and span.context.startswith(text, start) else -1
            for text, start in span.answers or ()
        ]
        lost += [f"question {span.row} (id {span.id})"] * starts.count(-1)
        count += len(starts)
        if -1 in starts:
            spans[i] = span._replace(answers=tuple(zip([text for text, _ in span.answers], starts)))
    if len(lost) > 0.01 * count:
        what = f"{len(lost)} of {count} answers are not at answer_start, counted in code points"
        raise UserError(f"{what}: {', '.join(lost[:3])}", path)
    return spans


COLUMNS = (("sentence1", "premise"), ("sentence2", "hypothesis", "hypo"), ("gold_label", "label"))
SPELLINGS = {"contradictory": "contradiction"}  # in XNLI's copy of MultiNLI


def read_pairs(paths: list[Path], lang: str, labels: tuple[str, ...]) -> Examples:
    """Two texts and a label, in JSON lines or TSV, the columns found by name.

    Where there is a column `language` (XNLI's one file for all) only rows of `lang` are read. TSV
    without a header is XTREME's: text, text, and label except in test sets. Outer blanks are
    dropped, as XTREME does. Rows labelled "-" (the annotators disagreed) come as None.
    """

    def rows(path):
        for number, record in read_json_lines(path) if path.suffix == ".jsonl" else _tsv(path):
            if lang in (record.get("language", lang), None):
                yield number, record

    return _each(paths, rows, lambda number, record: _pair(number, record, labels))


def _pair(number: int, record: dict, labels: tuple[str, ...]) -> Classification | None:
    names = [next((name for name in known if name in record), known[0]) for known in COLUMNS]
    text_a, text_b = (_get(record, name, str).strip() for name in names[:2])
    label = _get(record, names[2], str) if names[2] in record else None  # absent in test sets
    if label == "-":
        return None
    label = SPELLINGS.get(label, label)
    _check_label(label, labels)
    return Classification(number, text_a, text_b, label)


def _tsv(path) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a TSV file. Not with csv, which swallows lines after an odd quotation mark."""
    header, clean = None, str
    for number, line in read_lines(path):
        fields = line.split("\t")
        if header is None:
            header = fields
            if any(name in fields for name in COLUMNS[0]):
                continue
            header, clean = ["sentence1", "sentence2", "label"][: max(2, len(fields))], _unquote
        if len(fields) != len(header):
            raise UserError(f"expected {len(header)} columns, found {len(fields)}", path, number)
        yield number, dict(zip(header, map(clean, fields)))


def _unquote(field: str) -> str:
    """Undoes the csv.writer through which XTREME writes pairs: "He said ""no"".", He said "no"."""
    inner = re.fullmatch(r'"((?:[^"]|"")*)"', field)
    return inner[1].replace('""', '"') if inner else field


def read_hellaswag(paths: list[Path], lang: str, labels: tuple[str, ...]) -> Examples:
    """HellaSwag's JSON lines: the context is ctx_a, a choice ctx_b and an ending, as in jiant
    (without the blank that jiant puts before the ending where ctx_b is empty)."""

    def parse(number, record):
        endings = _get(record, "endings", list)
        if not endings or not all(isinstance(ending, str) for ending in endings):
            raise UserError("'endings' is no list of strings")
        label = _get(record, "label", int) if "label" in record else None  # absent in the test set
        _check_label(label, range(len(endings)))
        begin = _get(record, "ctx_b", str)
        choices = tuple(f"{begin} {ending}" if begin else ending for ending in endings)
        return MultipleChoice(number, _get(record, "ctx_a", str), choices, label)

    return _each(paths, read_json_lines, parse)


def read_tagged(paths: list[Path], lang: str, labels: tuple[str, ...]) -> Examples:
    """`token TAB tag` (test sets: `token`) on a line, blank lines between sentences.

    Files without a suffix are PAN-X's own, whose tokens carry their language: 'en:Paris'. A token
    may be empty ('TAB tag'): it counts as a word like any other.
    """
    prefix = "xx:" if paths[0].suffix == "" else ""

    def parse(_, block):
        return _tagging([_token(number, line, prefix) for number, line in block], labels)

    return _each(paths, _blocks, parse)


def _token(number: int, line: str, prefix: str) -> tuple[int, list[str]]:
    _, colon, rest = line.partition(":") if prefix else ("", ":", line)  # words hold colons too
    word, *tag = rest.split("\t")
    if len(tag) > 1 or not colon:
        raise UserError(f"expected {prefix}word TAB tag, found {line!r}", line=number)
    return number, [word.strip() if prefix else word, *tag]


def _blocks(path) -> Iterator[tuple[int, list[tuple[int, str]]]]:
    """(number, [(number, line), ...]) of each run of lines between blank lines."""
    block = []
    for number, line in read_lines(path):
        if line:
            block.append((number, line))
        elif block:
            yield block[0][0], block
            block = []
    if block:  # XTREME's files end right after the last word, treebanks never
        if path.suffix == ".conllu":
            raise UserError("the file ends inside a sentence", path, number)
        yield block[0][0], block


def _tagging(rows: list[tuple[int, list[str]]], labels: tuple[str, ...]) -> Tagging:
    """rows: (line number, [word, tag] or [word]) of each word."""
    for number, fields in rows:
        if len(fields) != len(rows[0][1]):
            raise UserError("some words of a sentence have a tag, others none", line=number)
        for tag in fields[1:]:
            _check_label(tag, labels, number)
    words, *tags = zip(*(fields for _, fields in rows))
    return Tagging(rows[0][0], words, *tags or [None])


def read_ccg(paths: list[Path], lang: str, labels: tuple[str, ...]) -> Examples:
    """CCGbank as jiant lays it out: `words TAB supertags` on a line, single blanks between."""

    def parse(number, line):
        columns = [field.split(" ") for field in line.split("\t")]
        sizes = [len(column) for column in columns]
        if len(columns) > 2 or len(set(sizes)) > 1:
            raise UserError(f"expected as many supertags as words, found {sizes}")
        return _tagging([(number, list(row)) for row in zip(*columns)], labels)

    return _each(paths, read_lines, parse)


RANKS = {  # which part gives a multiword token its tag, of parts equally high in the tree
    "es": "VERB AUX PRON ADP DET",
    "fr": "VERB AUX PRON NOUN ADJ ADV ADP DET PART SCONJ CONJ",
    "it": "VERB AUX ADV PRON ADP DET INTJ",
    "other": "VERB NOUN PROPN PRON ADJ NUM ADV INTJ AUX ADP DET PART CCONJ SCONJ X PUNCT",
}


def read_udpos(paths: list[Path], lang: str, labels: tuple[str, ...]) -> Examples:
    """Universal POS tags, from treebanks (.conllu) as XTREME converts them or from XTREME's files.

    A multiword token (French 'du' = de + le) is one word with the tag of one part; empty nodes are
    dropped, blanks and U+200C inside a word deleted. Sentences without text ('_') come as None.
    """
    if paths[0].suffix != ".conllu":
        return read_tagged(paths, lang, labels)
    ranks = RANKS.get(lang, RANKS["other"]).split()
    return _each(paths, _blocks, lambda _, block: _ud_sentence(block, ranks, labels))


def _ud_sentence(block: list, ranks: list[str], labels: tuple[str, ...]) -> Tagging | None:
    words = _ud_words([_ud_row(*item) for item in block if item[1][0] != "#"], ranks)
    hidden = sum(form == "_" for _, (form, _) in words)
    if hidden and hidden >= len(words) - 1:
        return None
    clean = [(line, [re.sub("[ \u200c]", "", form), tag]) for line, (form, tag) in words]
    return _tagging(clean, labels)


def _ud_row(number: int, line: str) -> tuple[int, list[str]]:
    row = line.split("\t")
    if len(row) != 10 or not re.fullmatch(r"[0-9]{1,6}([-.][0-9]{1,6})?", row[0]):
        raise UserError(f"expected 10 columns, the first like 7, found {line[:40]!r}", line=number)
    return number, row


def _ud_words(rows: list, ranks: list[str]) -> list[tuple[int, list[str]]]:
    """(line number, [form, tag]) of each word, multiword tokens in place of their parts."""
    tokens = dict(enumerate((row for _, row in rows if row[0].isdecimal()), 1))
    if not tokens or any(row[0] != str(token) for token, row in tokens.items()):
        raise UserError("the tokens of this sentence are not numbered 1, 2, 3, ...")
    words, parts = [], range(0)
    for number, row in rows:
        first, dash, last = row[0].partition("-")
        if dash:  # a range, which comes before its parts
            parts = range(int(first), int(last) + 1)
            if not 0 < int(first) <= int(last) <= len(tokens):
                raise UserError(f"there are no tokens {row[0]}", line=number)
            words.append((number, [row[1].strip(), _top_tag(parts, tokens, ranks)]))
        elif first.isdecimal() and int(first) not in parts:
            words.append((number, [row[1].strip(), row[3]]))
    return words


def _top_tag(parts: range, tokens: dict[int, list[str]], ranks: list[str]) -> str:
    """The tag of the part highest in the tree: with the fewest ancestors; of several, by rank."""
    above = [_count_ancestors(part, tokens) for part in parts]
    tags = [tokens[part][3] for part, count in zip(parts, above) if count == min(above)]
    if len(tags) > 1 and not set(tags) <= set(ranks):
        raise UserError(f"no rank for a part of {parts[0]}-{parts[-1]}, {', '.join(tags)}")
    return min(tags, key=ranks.index) if len(tags) > 1 else tags[0]


def _count_ancestors(token: int, tokens: dict[int, list[str]]) -> int:
    """Over the basic tree (column 7) and, as in XTREME's tool, the enhanced graph (column 9)."""
    found = [token]
    for node in found:  # grows as it goes
        row = tokens.get(node, ["_"] * 10)
        heads = re.findall(r"(?:^|\|)([0-9]{1,6})(?![0-9.])", f"{row[6]}|{row[8]}")
        found += set(map(int, heads)).difference(found)
    return len(found) - 1


def read_tatoeba(paths: list[Path], lang: str, labels: tuple[str, ...]) -> Examples:
    """Tatoeba: English queries, then the candidates of `lang`; ids are 0-based rows.

    `paths` are X-eng.eng and X-eng.X (LASER's, row by row translations), whose queries come sorted
    by code point, as in submissions, or X-en.en and X-en.X (XTREME's: sorted, the gold hidden).
    """
    english = [path for path in paths if path.stem.endswith("-" + path.suffix[1:])]
    foreign = [path for path in paths if path not in english]
    if len(english) != 1 or len(foreign) != 1:
        raise UserError(f"expected two sides, English and {lang}, found {len(paths)}", paths[0])
    queries = [(number, text.strip()) for number, text in read_lines(english[0])]
    candidates = list(read_lines(foreign[0]))
    if len(queries) != len(candidates):
        what = f"{len(candidates)} lines, but {len(queries)} in {english[0].name}, the other side"
        raise UserError(what, foreign[0])
    aligned = english[0].suffix == ".eng"
    for number, text in sorted(queries, key=lambda query: query[1]) if aligned else queries:
        row = str(number - 1)
        yield Sentence(number, row, text, "query", (row,) if aligned else None)
    for number, text in candidates:
        yield Sentence(number, str(number - 1), text, "candidate", ())


def read_documents(paths: list[Path], lang: str, labels: tuple[str, ...]) -> Examples:
    """Raw text for masked language modelling: a document on a line, blank lines skipped."""
    return _each(paths, lambda path: (row for row in read_lines(path) if row[1].strip()), Document)
