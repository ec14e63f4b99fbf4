"""Scripts: grapheme clusters, words, and edits: what can be written in their place.

    text --words--> [Word, ...]          cluster i of a word is text[bounds[i]:bounds[i + 1]]
    (part, word k, place i) --WRITE[part]--> Edit
    span of the clean text --to_noisy--> span of the noisy text --to_clean--> span

A cluster is a letter with the marks and joiners that follow it. After a virama (and ZWJ) the next
letter joins: only the viramas that stack letters do that, so not Tamil's pulli, Thai's phinthu and
Burmese asat, which are seen on their letter and end it (they are of combining class 9, too). Thai
vowels that are written before their consonant belong to it; loose Hangul jamo form syllables. A
word is a maximal run of clusters of one kind of script. Digits, punctuation and letters of scripts
that are not in the table are never part of one. Only the standard library is imported.
"""

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections import Counter
from functools import cache
from itertools import repeat
from os.path import commonprefix
from typing import NamedTuple, Sequence

SCRIPTS = """
Latn alphabet   0041-02AF 1E00-1EFF 2C60-2C7F A720-A7FF FB00-FB06 FF21-FF5A
Grek alphabet   0370-03FF 1F00-1FFF
Cyrl alphabet   0400-052F 1C80-1C8F A640-A69F
Armn alphabet   0530-058F
Hebr alphabet   0590-05FF FB1D-FB4F
Arab alphabet   0600-06FF 0750-077F 08A0-08FF FB50-FDFF FE70-FEFE
Geor alphabet   10A0-10FF 1C90-1CBF 2D00-2D2F
Tfng alphabet   2D30-2D7F
Deva abugida    0900-097F A8E0-A8FF
Beng abugida    0980-09FF
Guru abugida    0A00-0A7F
Gujr abugida    0A80-0AFF
Taml abugida    0B80-0BFF
Telu abugida    0C00-0C7F
Mlym abugida    0D00-0D7F
Hang abugida    1100-11FF 3130-318F A960-A97F AC00-D7FF FFA0-FFDC
Thai continuous 0E00-0E7F
Mymr continuous 1000-109F A9E0-A9FF AA60-AA7F
Hira continuous 3041-309F
Kana continuous 30A0-30FF 31F0-31FF FF66-FF9F
Hani continuous 3005-3005 3400-4DBF 4E00-9FFF F900-FAFF 20000-323AF
"""
KINDS = ("alphabet", "abugida", "continuous")          # continuous: written without blanks

RANGES = sorted((*(int(end, 16) for end in span.split("-")), *line.split()[:2])
                for line in SCRIPTS.strip().split("\n") for span in line.split()[2:])
STARTS = [first for first, *_ in RANGES]


def _span(codes) -> str:
    """The inside of a regular expression's [...] that holds these ascending code points."""
    ends = []
    for code in codes:
        if ends and code == ends[-1][1] + 1:
            ends[-1][1] = code
        else:
            ends.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ends)


def _letters(kind: str) -> str:
    return _span(code for first, last, _, of_kind in RANGES if of_kind == kind
                 for code in range(first, last + 1) if unicodedata.category(chr(code))[0] == "L")


JOINERS = "\u200c\u200d"                               # ZWNJ, ZWJ
MARKS = JOINERS + _span(code for code in range(0x10000)
                        if unicodedata.category(chr(code))[0] == "M")
STACKING = "\u094d\u09cd\u0a4d\u0acd\u0c4d\u0d4d\u1039"           # viramas
EARLY = "เแโใไ"                                        # Thai vowels before their consonant
JAMO = "[\u1100-\u115f\ua960-\ua97c]+[\u1160-\u11a7\ud7b0-\ud7c6]+[\u11a8-\u11ff]*"
ALPHABET, ABUGIDA, CONTINUOUS = (_letters(kind) for kind in KINDS)
RUN = re.compile("|".join(f"([{letters}][{letters}{MARKS}]*)"
                          for letters in (ALPHABET, ABUGIDA, CONTINUOUS)))
CLUSTER = re.compile(
    f"[{ALPHABET}][{MARKS}]*"
    f"|(?:{JAMO}|[{ABUGIDA}])(?:[{STACKING}]\u200d?[{ABUGIDA}]|[{MARKS}])*"
    f"|(?:[{EARLY}]+(?=[ก-ฮ]))?[{CONTINUOUS}](?:[{STACKING}]\u200d?[{CONTINUOUS}]|[{MARKS}])*")
COMPOUND = re.compile(f"[{MARKS}{EARLY}\u1100-\u11ff\ua960-\ua97c]")   # else clusters are letters


class Word(NamedTuple):
    """A maximal run of letter clusters of one kind of script."""

    kind: str                     # of KINDS
    bounds: tuple[int, ...]       # where each cluster begins in the text; where the last one ends


def words(text: str, stop: int | None = None) -> list[Word]:
    """The words of a text, up to offset `stop` where one is given."""
    found, is_plain = [], not COMPOUND.search(text)
    for run in RUN.finditer(text, 0, len(text) if stop is None else stop):
        start, end = run.span()
        if is_plain:
            bounds = tuple(range(start, end + 1))
        else:
            bounds = *(match.start() for match in CLUSTER.finditer(text, start, end)), end
        found.append(Word(KINDS[run.lastindex - 1], bounds))
    return found


def editable(word: Word, single: bool = False) -> range:
    """The clusters of a word that may be edited.

    In alphabets the first and the last stay, so that words of fewer than three are never touched,
    which spares most short negators; in abugidas and Hangul the first stays; in scripts without
    blanks any may go, but a word of one cluster only where `single` says so.
    """
    count = len(word.bounds) - 1
    if word.kind == "alphabet":
        return range(1, count - 1)
    if word.kind == "abugida":
        return range(1, count)
    return range(count if single or count > 1 else 0)


def pieces(found: list[Word]) -> list[Word]:
    """The words, those of scripts without blanks cut into pairs of clusters (one may be left)."""
    cut = []
    for word in found:
        if word.kind == "continuous":
            cut += [Word(word.kind, word.bounds[i:i + 3])
                    for i in range(0, len(word.bounds) - 1, 2)]
        else:
            cut.append(word)
    return cut


@cache
def script(letter: str) -> str:
    """The script of a letter that stands in a word: "Latn", "Deva", ..."""
    return RANGES[bisect_right(STARTS, ord(letter)) - 1][2]


# ------------------------------------------------------------------------- marks and capitals

# What `bare` takes off. Vowel signs, dakuten and the breve of й are no such marks: they make
# another sound.
OFF = {
    "Latn": range(0x300, 0x370), "Grek": range(0x300, 0x370),
    "Arab": (*range(0x64B, 0x656), 0x670),             # harakat, hamza and madda on a carrier
    "Hebr": range(0x591, 0x5C8),                       # niqqud, cantillation
    "Deva": (0x93C,), "Beng": (0x9BC,), "Guru": (0xA3C,), "Gujr": (0xABC,),        # nukta
}
INSTEAD = {"Latn": "đd ĐD øo ØO łl ŁL ıi", "Cyrl": "ёе ЁЕ", "Arab": "ٱا ةه"}
YEH = str.maketrans("ئ", "ی")                          # Persian and Urdu have their own yeh


def _bare_letters(name: str) -> dict:
    """{character: what it is without its marks} of a script, for str.translate."""
    off = {code for code in OFF.get(name, ()) if unicodedata.category(chr(code)) == "Mn"}
    table = dict.fromkeys(off)
    for first, last, _, _ in (span for span in RANGES if span[2] == name):
        for code in range(first, last + 1):
            parts = unicodedata.normalize("NFD", chr(code))
            if not off.isdisjoint(map(ord, parts)) and code not in off:
                table[code] = unicodedata.normalize("NFC", parts.translate(dict.fromkeys(off)))
    return table | {ord(pair[0]): pair[1] for pair in INSTEAD.get(name, "").split()}


BARE = {name: _bare_letters(name) for name in OFF | INSTEAD}


def bare(word: str, lang: str) -> str:
    """A word (in NFC) without diacritics; as it is in scripts that have none."""
    if lang in ("fa", "ur"):
        word = word.translate(YEH)
    return word.translate(BARE.get(script(word[0]), {}))


CASED = ("Latn", "Grek", "Cyrl")                       # Georgian capitals are used for no names
DOTS = {"tr": "iİ ıI", "az": "iİ ıI"}                  # small and capital, where i keeps its dot


def change_case(word: str, lang: str, upper: bool) -> str:
    """A word in lower or upper case; as it is where letters have no single counterpart (ß, the
    Turkish İ outside Turkish and Azeri) or the script no capitals."""
    if script(word[0]) not in CASED:
        return word
    changed = word
    for small, capital in DOTS.get(lang, "").split():
        changed = changed.replace(small, capital) if upper else changed.replace(capital, small)
    changed = changed.upper() if upper else changed.lower()
    return changed if len(changed) == len(word) else word


# -------------------------------------------------------------------------------- edit lists


class Edit(NamedTuple):
    """text[start:end] of the clean text becomes `text`. Lists of edits are sorted and do not
    overlap."""

    start: int
    end: int
    text: str


def apply(text: str, edits) -> str:
    """The noisy text."""
    parts, done = [], 0
    for start, end, written in edits:
        parts += text[done:start], written
        done = end
    return "".join(parts) + text[done:]


def to_noisy(edits, start: int, end: int) -> tuple[int, int]:
    """The span of the noisy text that stands for clean[start:end]. What an edit cuts is taken
    whole; what is set in at either end stays outside. Empty where all of it is deleted."""
    lengths = [(first, last, len(written), False) for first, last, written in edits]
    return _moved(lengths, start, False), _moved(lengths, end, True)


def to_clean(clean: str, edits, start: int, end: int) -> tuple[int, int]:
    """The span of the clean text that noisy[start:end] stands for. What an edit cuts, or deleted
    at either end (but no blank), is taken whole: there and back gives the span or a larger one."""
    lengths, shift = [], 0
    for first, last, written in edits:
        noisy_end = first + shift + len(written)
        lengths.append((first + shift, noisy_end, last - first, clean[first:last] != " "))
        shift = noisy_end - last
    return _moved(lengths, start, False), _moved(lengths, end, True)


def _moved(edits, point: int, is_end: bool) -> int:
    """Where the start or end of a span lies after edits (start, end, new length, is_wide). Text set
    in at that very point belongs to the span if it is wide."""
    shift = 0
    for start, end, length, is_wide in edits:
        if end > point or start == point and is_end != is_wide:
            is_cut = start < point
            return (start if is_cut else point) + shift + (length if is_cut and is_end else 0)
        shift += length - (end - start)
    return point + shift


# ---------------------------------------------------------------------- what can be written where


WHOLE = ("marks", "lower", "upper", "natural")            # parts that rewrite a whole word
ONCE = (*WHOLE, "mix")                                    # those with one place in a word


class Unigrams:
    """Clusters by script, with their frequencies."""

    def __init__(self, counts: Counter):
        self.tables = {}                      # script -> (clusters, counts of all before each one)
        for cluster in sorted(counts):
            clusters, sums = self.tables.setdefault(script(cluster[0]), ([], [0]))
            clusters.append(cluster)
            sums.append(sums[-1] + counts[cluster])

    def other(self, cluster: str, number: int) -> str | None:
        """Another cluster of the same script, drawn by frequency; None where there is none.
        number: of 64 bits."""
        clusters, sums = self.tables.get(script(cluster[0]), ([], [0]))
        at = bisect_left(clusters, cluster)
        own = sums[at + 1] - sums[at] if clusters[at:at + 1] == [cluster] else 0
        drawn = number * (sums[-1] - own) >> 64
        if drawn >= sums[at]:                 # all others lie end to end: step over its own place
            drawn += own
        return clusters[bisect_right(sums, drawn) - 1] if drawn < sums[-1] else None


class Tools(NamedTuple):
    """What edits need to know of a language and a kind of example."""

    lang: str
    parts: tuple[str, ...]                    # of WRITE that may be used, and their weights
    mix: dict[str, int]                       # in a mix of them
    unigrams: Unigrams
    errors: dict[str, tuple[str, ...]]        # natural: word -> misspellings


# A writer gives the edit of one part at cluster i of word k, None where there is nothing to edit:
# (text, its words, k, i, tools, an iterator of numbers of 64 bits) -> Edit | None


def _swap(text, found, k, i, tools, numbers):
    start, middle, end = found[k].bounds[i:i + 3]
    first, second = text[start:middle], text[middle:end]
    return Edit(start, end, second + first) if first != second else None


def _drop(text, found, k, i, tools, numbers):
    return Edit(*found[k].bounds[i:i + 2], "")


def _dup(text, found, k, i, tools, numbers):
    start, end = found[k].bounds[i:i + 2]
    return Edit(start, end, 2 * text[start:end])


def _sub(text, found, k, i, tools, numbers):
    start, end = found[k].bounds[i:i + 2]
    other = tools.unigrams.other(text[start:end], next(numbers))
    return None if other is None else Edit(start, end, other)


def _join(text, found, k, i, tools, numbers):
    """The one blank between two words, unless their scripts use none."""
    end = found[k].bounds[-1]
    if k + 1 == len(found) or text[end:found[k + 1].bounds[0]] != " ":
        return None
    kinds = found[k].kind, found[k + 1].kind
    return Edit(end, end + 1, "") if "continuous" not in kinds else None


def _split(text, found, k, i, tools, numbers):
    place = found[k].bounds[i]
    return Edit(place, place, " ")


def _changed(start: int, old: str, new: str) -> Edit | None:
    """The edit that turns the word at an offset into another, as short as it can be."""
    if old == new:
        return None
    ahead = len(commonprefix((old, new)))
    behind = len(commonprefix((old[ahead:][::-1], new[ahead:][::-1])))
    return Edit(start + ahead, start + len(old) - behind, new[ahead:len(new) - behind])


def _marks(text, found, k, i, tools, numbers):
    start, end = found[k].bounds[0], found[k].bounds[-1]
    word = unicodedata.normalize("NFC", text[start:end])
    written = bare(word, tools.lang)
    return _changed(start, text[start:end], written) if written != word else None


def _lower(text, found, k, i, tools, numbers):
    start, end = found[k].bounds[0], found[k].bounds[-1]
    word = text[start:end]
    return _changed(start, word, change_case(word, tools.lang, upper=False))


def _upper(text, found, k, i, tools, numbers):
    """For words that `lower` changes: in upper case, but in lower case those that are already."""
    start, end = found[k].bounds[0], found[k].bounds[-1]
    word = text[start:end]
    lower = _lower(text, found, k, i, tools, numbers)
    return lower and (_changed(start, word, change_case(word, tools.lang, upper=True)) or lower)


def _natural(text, found, k, i, tools, numbers):
    """A listed error, its first letter in the word's case."""
    start, end = found[k].bounds[0], found[k].bounds[-1]
    word = text[start:end]
    small = change_case(word, tools.lang, upper=False)
    listed = tools.errors.get(word) or tools.errors.get(small, ())
    errors = [e[0].upper() + e[1:] if word[0].isupper() else e[0].lower() + e[1:] for e in listed]
    errors = [error for error in errors if error != word]
    if not errors:
        return None
    return _changed(start, word, errors[next(numbers) * len(errors) >> 64])


WRITE = {"swap": _swap, "drop": _drop, "dup": _dup, "sub": _sub, "marks": _marks, "lower": _lower,
         "upper": _upper, "join": _join, "split": _split, "natural": _natural}


def places(part: str, word: Word) -> range:
    """The clusters i of a word at whose start, word.bounds[i], a part may have something to edit;
    for `join` the word's end. They are a part's units if their writer gives an edit."""
    count = len(word.bounds) - 1
    if part == "join":
        return range(count, count + 1)
    inside = editable(word, single=part in ("dup", "sub", "mix"))
    if part == "swap":
        return inside[:-1]
    if part == "split":
        return range(1, count) if inside else inside
    return range(1) if inside and part in ONCE else inside


def units(part: str, text: str, found: list[Word], k: int, tools: Tools) -> Sequence[int]:
    """The places of word k where a part has something to edit."""
    inside = places(part, found[k])
    if part in ("drop", "dup", "sub", "split"):           # everywhere
        return inside
    return [i for i in inside if WRITE[part](text, found, k, i, tools, repeat(0))]
