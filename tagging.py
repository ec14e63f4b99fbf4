"""Readers of tagged words: PAN-X, CCGbank, treebanks, CoNLL-2000, and XTREME's copies of them.

    file --_blocks--> lines of a sentence --a reader--> Tagging

The readers are as those of readers.py.
"""

import re
from pathlib import Path
from typing import Iterator

from files import UserError, read_lines
from readers import Examples, Tagging, check_label, each_row


def read_tagged(paths: list[Path], lang: str, labels: tuple[str, ...]) -> Examples:
    """`token TAB tag` (test sets: `token`) on a line, blank lines between sentences.

    A token may be empty ('TAB tag'): it counts as a word like any other.
    """

    def parse(_, block):
        rows = [(number, line.split("\t")) for number, line in block]
        for number, fields in rows:
            if len(fields) > 2:
                raise UserError(f"expected word TAB tag, found {fields!r}", line=number)
        return _tagging(rows, labels)

    return each_row(paths, _blocks_of, parse)


def read_panx(paths: list[Path], lang: str, labels: tuple[str, ...]) -> Examples:
    """PAN-X's own files, which have no suffix, or XTREME's copies of them (read_tagged).

    Tokens carry their language: 'en:Paris'. Malformed lines are treated as XTREME treats them, and
    come as None, so that they are counted: a line without a colon is left out, one that has not two
    columns ends the sentence.
    """
    if paths[0].suffix != "":
        yield from read_tagged(paths, lang, labels)
        return
    for path in paths:
        lines, dropped = [], 0
        for number, line in read_lines(path):
            token, *tag = line.strip().split("\t")
            if line and (len(tag) != 1 or ":" not in token):
                dropped += 1
                lines += [] if len(tag) == 1 else [(number, "")]
            else:
                word = token.partition(":")[2].strip()
                lines.append((number, f"{word}\t{tag[0].strip()}" if tag else ""))
        yield from each_row([path], lambda path, lines=lines: _blocks(lines, path),
                            lambda _, block: _tagging([(n, line.split("\t")) for n, line in block],
                                                      labels))
        yield from [None] * dropped


def _blocks(lines, path) -> Iterator[tuple[int, list[tuple[int, str]]]]:
    """(number, [(number, line), ...]) of each run of lines between blank lines. In treebanks one
    blank line ends each sentence, and nothing else is let pass."""
    block, number = [], 0
    for number, line in lines:
        if line:
            block.append((number, line))
        elif block:
            yield block[0][0], block
            block = []
        elif path.suffix == ".conllu":
            raise UserError("a blank line without a sentence before it", path, number)
    if block:  # XTREME's files end right after the last word, treebanks never
        if path.suffix == ".conllu":
            raise UserError("the file ends inside a sentence", path, number)
        yield block[0][0], block


def _blocks_of(path):
    return _blocks(read_lines(path), path)


def _tagging(rows: list[tuple[int, list[str]]], labels: tuple[str, ...]) -> Tagging:
    """rows: (line number, [word, tag] or [word]) of each word."""
    for number, fields in rows:
        if len(fields) != len(rows[0][1]):
            raise UserError("some words of a sentence have a tag, others none", line=number)
        for tag in fields[1:]:
            check_label(tag, labels, number)
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

    return each_row(paths, read_lines, parse)


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
    return each_row(paths, _blocks_of, lambda _, block: _ud_sentence(block, ranks, labels))


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


def read_chunks(paths: list[Path], lang: str, labels: tuple[str, ...]) -> Examples:
    """CoNLL-2000: `word part-of-speech chunk` on a line, single blanks between; the chunk's tag."""

    def parse(_, block):
        rows = [(number, line.split(" ")) for number, line in block]
        for number, fields in rows:
            if len(fields) != 3:
                raise UserError(f"expected word, tag, chunk, found {len(fields)}", line=number)
        return _tagging([(number, [word, chunk]) for number, (word, _, chunk) in rows], labels)

    return each_row(paths, _blocks_of, parse)


def read_relations(paths: list[Path], lang: str, labels: tuple[str, ...]) -> Examples:
    """Treebanks: the relation of each syntactic word to its head, without its subtype (`nsubj` for
    `nsubj:pass`). The parts of a multiword token are words here, for each has its own relation."""
    return _syntactic_words(paths, labels, lambda row: row[7].partition(":")[0])


def read_upos(paths: list[Path], lang: str, labels: tuple[str, ...]) -> Examples:
    """Treebanks: the universal tag of each syntactic word."""
    return _syntactic_words(paths, labels, lambda row: row[3])


def _syntactic_words(paths, labels, tag) -> Examples:
    def parse(_, block):
        rows = [_ud_row(*item) for item in block if item[1][0] != "#"]
        rows = [(number, [row[1], tag(row)]) for number, row in rows if row[0].isdecimal()]
        if not rows:
            raise UserError("a sentence without words")
        hidden = sum(form == "_" for _, (form, _) in rows)
        return None if hidden and hidden >= len(rows) - 1 else _tagging(rows, labels)

    return each_row(paths, _blocks_of, parse)
