"""Readers of the official file formats: bytes on disk -> Examples (raw text and gold).

    file --read_lines | read_json--> rows --a reader--> Example, Example, ...

A reader is an iterator `reader(paths, lang, labels)` over the examples of one language. It gives
None for a row whose gold the data set itself withholds (MultiNLI's "-", treebanks without text)
and raises UserError, with file and line, for anything else that is wrong: nothing is skipped or
repaired silently. This room knows neither ids nor tensors and imports neither torch nor numpy.
"""

import re
from pathlib import Path
from typing import Callable, Iterator, NamedTuple

from files import UserError, read_csv, read_json, read_json_lines, read_lines

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


# ------------------------------------------------------------------------ rows -> Examples


def each_row(paths: list[Path], rows: Callable, parse: Callable) -> Examples:
    """parse(number, row) for each (number, row) of rows(path); its errors learn file and line."""
    for path in paths:
        for number, row in rows(path):
            try:
                yield parse(number, row)
            except UserError as error:
                raise UserError(error.what, path, error.line or number) from error


def get(record, key: str, kind: type):
    """record[key], which must be there and be of this kind. Raises UserError."""
    if not isinstance(record, dict) or key not in record:
        raise UserError(f"there is no {key!r} in this {type(record).__name__}")
    if type(record[key]) is not kind:  # not isinstance: True is an int
        raise UserError(f"{key!r} is {type(record[key]).__name__} (expected {kind.__name__})")
    return record[key]


def check_label(label, labels, line: int | None = None):
    if label is not None and label not in labels:
        known = ", ".join(map(str, labels)) if len(labels) < 20 else f"one of {len(labels)}"
        raise UserError(f"unknown label {label!r} (expected {known})", line=line)


TYDIQA_WORDS = {"arabic": "ar", "bengali": "bn", "english": "en", "finnish": "fi", "korean": "ko",
                "indonesian": "id", "russian": "ru", "swahili": "sw", "telugu": "te"}


def parse_squad(data, path) -> Iterator[Span]:
    """The questions of parsed SQuAD JSON, v1.1 or v2.0 (or a bare list of articles, as in XTREME).

    Offsets are unchecked, plausible_answers ignored. Without `answers` there is no gold (None) or,
    where `is_impossible`, no answer: (). Raises UserError naming the question by its number.
    """
    number = 0
    try:
        for article in data if isinstance(data, list) else get(data, "data", list):
            for paragraph in get(article, "paragraphs", list):
                context = get(paragraph, "context", str)
                for qa in get(paragraph, "qas", list):
                    number += 1
                    question = get(qa, "question", str)
                    yield Span(number, get(qa, "id", str), question, context, _answers(qa))
    except UserError as error:
        raise UserError(error.what, path, f"question {number}") from error


def _answers(qa: dict) -> tuple[tuple[str, int], ...] | None:
    if "answers" not in qa:
        return () if qa.get("is_impossible") is True else None
    answers = get(qa, "answers", list)
    return tuple((get(one, "text", str), get(one, "answer_start", int)) for one in answers)


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


COLUMNS = (
    ("sentence1", "premise", "question1", "context", "text_a"),
    ("sentence2", "hypothesis", "hypo", "question2", "text_b"),
    ("gold_label", "label", "is_duplicate"),
)
SPELLINGS = {"contradictory": "contradiction",  # in XNLI's copy of MultiNLI
             "c": "contradiction", "e": "entailment", "n": "neutral"}  # ANLI


def read_pairs(paths: list[Path], lang: str, labels: tuple[str, ...]) -> Examples:
    """Two texts and a label, in JSON lines or TSV, the columns found by name: MultiNLI, SNLI, ANLI,
    XNLI, QQP, PAWS-X.

    Where there is a column `language` (XNLI's one file for all) only rows of `lang` are read. TSV
    without a header is XTREME's: text, text, and label except in test sets. Outer blanks are
    dropped, as XTREME does. Rows labelled "-" (the annotators disagreed) come as None.
    """

    def rows(path):
        for number, record in read_json_lines(path) if path.suffix == ".jsonl" else _tsv(path):
            if lang in (record.get("language", lang), None):
                yield number, record

    return each_row(paths, rows, lambda number, record: _pair(number, record, labels))


def _pair(number: int, record: dict, labels: tuple[str, ...]) -> Classification | None:
    names = [next((name for name in known if name in record), known[0]) for known in COLUMNS]
    text_a, text_b = (get(record, name, str).strip() for name in names[:2])
    label = str(record[names[2]]) if names[2] in record else None  # absent in test sets
    if label == "-":
        return None
    label = label if label in labels else SPELLINGS.get(label, label)
    check_label(label, labels)
    return Classification(number, text_a, text_b, label)


def _tsv(path) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a TSV file. Not with csv, which swallows lines after an odd quotation mark; but a
    row that is too short and ends in an open quote goes on in the next line (11 rows of QQP)."""
    header, clean, begun, first = None, str, "", 0
    for number, line in read_lines(path):
        fields = (begun + line).split("\t")
        if header is None:
            header = fields
            if any(name in fields for name in COLUMNS[0]):
                continue
            header, clean = ["sentence1", "sentence2", "label"][: max(2, len(fields))], _unquote
        open_quote = fields[-1].startswith('"') and fields[-1].count('"') % 2
        if len(fields) < len(header) and open_quote:
            begun, first = begun + line + "\n", first or number
            continue
        joined = [field for field in fields if "\n" in field]
        if len(fields) != len(header) or not all(map(QUOTED.fullmatch, joined)):
            what = f"expected {len(header)} columns, found {len(fields)}"
            raise UserError(what, path, first or number)
        begun, first = "", 0
        yield number, dict(zip(header, map(clean, fields)))
    if begun:
        raise UserError("the file ends inside a quoted field", path, first)


QUOTED = re.compile(r'"((?:[^"]|"")*)"')


def _unquote(field: str) -> str:
    """Undoes the csv.writer through which XTREME writes pairs: "He said ""no"".", He said "no"."""
    inner = QUOTED.fullmatch(field)
    return inner[1].replace('""', '"') if inner else field


def read_hellaswag(paths: list[Path], lang: str, labels: tuple[str, ...]) -> Examples:
    """HellaSwag's JSON lines: the context is ctx_a, a choice ctx_b and an ending, as in jiant
    (without the blank that jiant puts before the ending where ctx_b is empty)."""

    def parse(number, record):
        endings, begin = get(record, "endings", list), get(record, "ctx_b", str)
        if not endings or not all(isinstance(ending, str) for ending in endings):
            raise UserError("'endings' is no list of strings")
        choices = tuple(f"{begin} {ending}" if begin else ending for ending in endings)
        label = get(record, "label", int) if "label" in record else None  # absent in the test set
        return _choice(number, get(record, "ctx_a", str), choices, label)

    return each_row(paths, read_json_lines, parse)


def _choice(number: int, context: str, endings: tuple, label: int | None) -> MultipleChoice:
    check_label(label, range(len(endings)))
    return MultipleChoice(number, context, endings, label)


def read_cosmosqa(paths: list[Path], lang: str, labels: tuple[str, ...]) -> Examples:
    """Cosmos QA: real CSV or, for the test set, JSON lines; the context is context and question."""

    def parse(number, record):
        endings = tuple(get(record, f"answer{i}", str) for i in range(4))
        label = str(record["label"]).strip() if "label" in record else None
        check_label(label, ("0", "1", "2", "3"))
        context = f"{get(record, 'context', str)} {get(record, 'question', str)}"
        return MultipleChoice(number, context, endings, label and int(label))

    rows = read_json_lines if paths[0].suffix == ".jsonl" else read_csv
    return each_row(paths, rows, parse)


def read_commonsenseqa(paths: list[Path], lang: str, labels: tuple[str, ...]) -> Examples:
    """CommonsenseQA's JSON lines. Choices are told apart by letter: two may have the same text."""

    def parse(number, record):
        question = get(record, "question", dict)
        choices = get(question, "choices", list)
        letters = [get(choice, "label", str) for choice in choices]
        if not letters:
            raise UserError("a question without choices")
        answer = get(record, "answerKey", str) if "answerKey" in record else None  # test: absent
        check_label(answer, letters)
        texts = tuple(get(choice, "text", str) for choice in choices)
        return MultipleChoice(number, get(question, "stem", str), texts,
                              None if answer is None else letters.index(answer))

    return each_row(paths, read_json_lines, parse)


def read_siqa(paths: list[Path], lang: str, labels: tuple[str, ...]) -> Examples:
    """Social IQa's JSON lines, socialIQa_v1.4_*.jsonl: the letter of the answer is `correct`."""

    def parse(number, record):
        answer = get(record, "correct", str) if "correct" in record else None
        check_label(answer, ("A", "B", "C"))
        context = f"{get(record, 'context', str)} {get(record, 'question', str)}"
        return MultipleChoice(number, context, tuple(get(record, f"answer{x}", str) for x in "ABC"),
                              None if answer is None else "ABC".index(answer))

    return each_row(paths, read_json_lines, parse)


def read_copa(paths: list[Path], lang: str, labels: tuple[str, ...]) -> Examples:
    """COPA and XCOPA: the context is the premise and, in every language, an English question, as in
    XTREME's run_xcopa.py. A file whose labels are all 0 is XTREME's test set: it has no gold."""
    for path in paths:
        rows = list(each_row([path], read_json_lines, _copa))
        if len(rows) > 20 and not any(row.label for row in rows):
            rows = [row._replace(label=None) for row in rows]
        yield from rows


def _copa(number: int, record: dict) -> MultipleChoice:
    asked = get(record, "question", str)
    check_label(asked, ("cause", "effect"))
    label = get(record, "label", int) if "label" in record else None
    context = f"{get(record, 'premise', str)} What was the {asked}?"
    endings = get(record, "choice1", str), get(record, "choice2", str)
    return _choice(number, context, endings, label)


def read_cola(paths: list[Path], lang: str, labels: tuple[str, ...]) -> Examples:
    """CoLA, GLUE's TSV without a header (source, label, mark, sentence): one text and 0 or 1. The
    test file has a header and the columns index and sentence."""

    def parse(number, line):
        fields = line.split("\t")
        if len(fields) not in (2, 4):
            raise UserError(f"expected 4 columns (test set: 2), found {len(fields)}")
        label = fields[1] if len(fields) == 4 else None
        check_label(label, labels)
        return Classification(number, fields[-1].strip(), "", label)

    def rows(path):
        return (row for row in read_lines(path) if row != (1, "index\tsentence"))

    return each_row(paths, rows, parse)


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

    def rows(path):
        return (row for row in read_lines(path) if row[1].strip())

    return each_row(paths, rows, Document)


def read_bucc(paths: list[Path], lang: str, labels: tuple[str, ...]) -> Examples:
    """BUCC 2018: the queries are the sentences of `lang`, the candidates the English ones, `id TAB
    sentence` on a line; .gold holds `id TAB English id`. Most sentences have no partner: gold ().
    Without a .gold file there is no gold. Raises UserError for gold ids that no sentence has.
    """
    sides = {path.suffix[1:]: path for path in paths}
    if not {lang, "en"} <= sides.keys() or len(paths) > 3:
        raise UserError(f"expected .{lang}, .en and .gold, found {len(paths)} files", paths[0])
    queries, candidates = list(_columns(sides[lang])), list(_columns(sides["en"]))
    golds, known = {}, [{row_id for _, (row_id, _) in side} for side in (queries, candidates)]
    for number, pair in _columns(sides["gold"]) if "gold" in sides else ():
        for one, ids in zip(pair, known):
            if one not in ids:
                raise UserError(f"no sentence has the id {one!r}", sides["gold"], number)
        golds.setdefault(pair[0], []).append(pair[1])
    for number, (row_id, text) in queries:
        gold = tuple(golds.get(row_id, ())) if "gold" in sides else None
        yield Sentence(number, row_id, text, "query", gold)
    for number, (row_id, text) in candidates:
        yield Sentence(number, row_id, text, "candidate", ())


def _columns(path) -> Iterator[tuple[int, list[str]]]:
    for number, line in read_lines(path):
        fields = line.split("\t", 1)
        if len(fields) != 2 or not all(fields):
            raise UserError(f"expected two columns, found {line[:60]!r}", path, number)
        yield number, fields


def read_lareqa(paths: list[Path], lang: str, labels: tuple[str, ...]) -> Examples:
    """XQuAD-R as retrieval (LAReQA): a query is a question, a candidate a sentence and its whole
    paragraph, put together as XTREME does: without a blank, line feeds taken out.

    The right answers are the sentences that hold the answer of the same question id, in every
    language whose file lies beside this one; equal sentences of a paragraph all are. Ids are
    {lang}_{paragraph}_{sentence} and {question id}_{lang}. As in utils_lareqa.py a question whose
    answer no sentence holds comes as None, and a paragraph of such questions gives no candidates.

    English SQuAD, which has no sentence breaks, is read for training: there a sentence ends after
    ".", "!" or "?" (and closing quotes or brackets) before a blank.
    """
    path, golds, number = paths[0], {}, 0
    own = list(_paragraphs(path))
    is_parallel = any(paragraph.is_parallel for paragraph in own)
    for file in sorted(path.parent.glob("[!.]*.json")) if is_parallel else [path]:
        for paragraph in own if file == path else _paragraphs(file):
            for name, right in paragraph.held.items():
                source = file.stem if paragraph.is_parallel else lang
                golds.setdefault(name, []).extend(f"{source}_{paragraph.row}_{i}" for i in right)
    for paragraph in own:
        for i, sentence in enumerate(paragraph.sentences if paragraph.held else ()):
            text = (sentence + paragraph.context).replace("\n", "")
            yield Sentence(paragraph.row, f"{lang}_{paragraph.row}_{i}", text, "candidate", ())
        for name, question in paragraph.questions.items():
            number += 1
            gold = tuple(golds.get(name, ()))
            query = Sentence(number, f"{name}_{lang}", question, "query", gold)
            yield query if name in paragraph.held else None


class _Paragraph(NamedTuple):
    row: int
    context: str
    sentences: list[str]
    questions: dict[str, str]       # id -> text
    held: dict[str, list[int]]      # id -> the sentences that hold its answer's start
    is_parallel: bool               # XQuAD-R's: it says where its sentences are


def _paragraphs(path) -> Iterator[_Paragraph]:
    articles = get(read_json(path), "data", list)
    found = (one for article in articles for one in get(article, "paragraphs", list))
    for row, record in enumerate(found, start=1):
        try:
            yield _paragraph(row, record)
        except UserError as error:
            raise UserError(error.what, path, f"paragraph {row}") from error


SENTENCE = re.compile(r"""\S.*?(?:[.!?]+["')\]]*(?=\s)|$)""", re.DOTALL)


def _paragraph(row: int, record: dict) -> _Paragraph:
    context, questions, held = get(record, "context", str), {}, {}
    breaks = _breaks(record, context)
    sentences = [context[begin:end] for begin, end in breaks]
    for qa in get(record, "qas", list):
        name = get(qa, "id", str)
        questions[name] = get(qa, "question", str)
        starts = [start for _, start in _answers(qa) or ()][:1]
        inside = [text for (begin, end), text in zip(breaks, sentences)
                  if any(begin <= start < end for start in starts)][:1]
        if inside:
            held[name] = [i for i, text in enumerate(sentences) if text in inside]
    return _Paragraph(row, context, sentences, questions, held, "sentence_breaks" in record)


def _breaks(record: dict, context: str) -> list:
    if "sentence_breaks" not in record:
        return [match.span() for match in SENTENCE.finditer(context)]
    breaks = get(record, "sentence_breaks", list)
    if not all(type(pair) is list and list(map(type, pair)) == [int, int] for pair in breaks):
        raise UserError("'sentence_breaks' is no list of [start, end)")
    return breaks


def read_mewslix(paths: list[Path], lang: str, labels: tuple[str, ...]) -> Examples:
    """Mewsli-X's mentions: a query is `mention: left { mention } right`, of the sentence that the
    mention stands in (utils_mewslix.py, preprocess_mention). The gold is the entity's id, None
    where it is blanked. The million candidate entities are not read: rankings come from elsewhere.
    """

    def parse(number, record):
        context = get(record, "context", dict)
        mentions = [record["mention"]] if "mention" in record else get(record, "mentions", list)
        return [_mention(number, context, mention) for mention in mentions]

    for mentions in each_row(paths, read_json_lines, parse):
        yield from mentions


def _mention(number: int, context: dict, mention: dict) -> Sentence:
    text, span = get(context, "text", str), get(mention, "mention_span", dict)
    start, end = get(span, "start", int), get(span, "end", int)
    sentences = [(get(one, "start", int), get(one, "end", int))
                 for one in get(context, "sentence_spans", list)]
    around = next(((a, b) for a, b in sentences if a <= start < end <= b), None)
    if around is None or text[start:end] != get(span, "text", str):
        raise UserError("the mention is not in one sentence of its text, at its span")
    left, right = (re.sub(r"\{(.*?)\}", r"(\1)", part)
                   for part in (text[around[0]:start], text[end:around[1]]))
    query = f"{text[start:end]}: {left} {{ {text[start:end]} }} {right}"
    query = " ".join(query.splitlines()).replace("  ", " ").strip()
    entity = get(mention, "entity_id", str) if "entity_id" in mention else ""
    name = get(mention, "example_id", str)
    return Sentence(number, name, query, "query", (entity,) if entity else None)
