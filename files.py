"""Files of others: bytes -> lines, tables, JSON. Every file a user points at is read here.

    file --read_lines | read_json | read_json_lines | read_csv--> rows

What is wrong with a file is a UserError with its name and line; nothing is skipped or repaired
silently. Only the standard library is imported.
"""

import csv
import json
import math
import os
import re
from typing import Iterator

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
        self.what, self.path, self.line = what, path, line
        place = ":".join(str(part)[-200:] for part in (path, line) if part is not None)
        text = f"{place}: {what}" if place else what
        text = printable(text)
        super().__init__(text if len(text) <= 300 else text[:297] + "...")


def printable(text: str) -> str:
    """Text of others for a terminal: control characters are shown escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


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
    return parse_json(_decode(raw, path, 1, 0), path)


def read_json_lines(path) -> Iterator[tuple[int, dict]]:
    """(1-based line, object) of each line of a JSON-lines file. Raises UserError as read_json."""
    for number, text in read_lines(path):
        record = parse_json(text, path, number)
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


def parse_json(text: str, path, line: int | None = None):
    """What JSON text holds. Raises UserError as read_json."""
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


def read_csv(path) -> Iterator[tuple[int, dict[str, str]]]:
    """(line where it ends, row) of a CSV file with a header; quotes, commas and line feeds inside
    fields as RFC 4180 has them. Raises UserError."""
    try:
        lines = csv.reader((text + "\n" for _, text in read_lines(path)), strict=True)
        header = next(lines)
        for fields in lines:
            if len(fields) != len(header):
                what = f"expected {len(header)} columns, found {len(fields)}"
                raise UserError(what, path, lines.line_num)
            yield lines.line_num, dict(zip(header, fields))
    except csv.Error as error:
        raise UserError(f"no CSV: {error}", path, lines.line_num) from error
