"""Noise in the input, for any script: Example -> Example, labels kept, every decision a hash.

    examples --calibrate--> Calibration --perturb(function, severity, seed)--> Perturbed

    swap     exchange two neighbouring clusters     dup    write a cluster twice
    drop     delete a cluster                       sub    write another of its script instead
    marks    a word without its diacritics          case   a word in lower case; one that comes in
    space    delete a blank, or set one in a word          at severity 4 or 5, in upper case
    natural  a word as somebody misspelt it         mix    one of these at one place of a word

**How much.** Severity v means r = 1, 2, 4, 6, 10 % of the letter clusters (5, 10, 20, 30, 50 % of
five-letter words). A place is edited where U < min(1, r * scale), with one scale for each task,
language, field and function, counted once over the file. Edits of clusters: letters / places (swap:
a little more, as of two that touch one is lost). Whole words: 5, so that 5 r of the words that can
change do. space: so that edits are 5 r of the blanks between words, two thirds of them deletions;
without blanks, r of the clusters. mix edits a word at most once: letters / words, where two
clusters make a word of a script without blanks.

**Which.** U is a pure function of (seed, task, language, example, field, function, start offset):
BLAKE2b (64 bytes) over repr((seed, task, language, example, field, function)) in UTF-8, followed by
offset // 8 as 8 bytes, gives eight numbers of 64 bits, one for each of eight offsets; U is the
offset's number / 2**64. With 2**63 + 2 * offset, and the next, in the place of offset // 8, it
gives the numbers that decide what is written there. All is big-endian. So neither order nor batches
nor processes matter. An example is its id, else its row (a question's context is its own name, so
that all questions of a paragraph share one noisy context); a choice's field is "endings.0", and so
on. U and scale know no severity, and of swaps that touch the one with the smaller U stays: each
edit of a severity is in the next.

**Labels survive.** Tagged words are noised within their ends: none is added, emptied or gets a
blank. A choice that would become equal to another takes the edits of a lower severity. A question's
answers move along with its noisy context (`to_noisy`); predicted spans move back (`to_clean`) and
are scored clean against clean. In retrieval only the given side is noised; ids and order stay. What
does not apply is None ("n/a"), never a drop of zero: where the places that a function finds would
be less than a twentieth of the letters.

Two choices of our own: case turns to upper case only the words that severities 4 and 5 add (half of
all hits would not nest), and mix draws among the functions that can edit the word, not the text.
Units and scripts: scripts.py. Only the standard library is imported.
"""

import math
import re
import struct
import unicodedata
from bisect import bisect_right
from collections import Counter
from functools import partial
from hashlib import blake2b
from itertools import accumulate
from typing import Callable, Iterator, NamedTuple

import readers
from files import UserError, read_lines
from studies.scripts import (
    WHOLE, WRITE, Edit, Tools, Unigrams, Word, apply, editable, pieces, places, to_clean, to_noisy,
    units, words)

RATES = (0.0, 0.01, 0.02, 0.04, 0.06, 0.10)   # of letter clusters, by severity
FIVE = 5                                      # clusters that a whole word stands for
FIELDS = {                                    # what is noised unless other fields are asked for
    readers.Classification: ("text_a", "text_b"),
    readers.MultipleChoice: ("context", "endings"),
    readers.Span: ("question",),
    readers.Tagging: ("words",),
    readers.Sentence: ("text",),
    readers.Document: ("text",),
}
FUNCTIONS = ("swap", "drop", "dup", "sub", "marks", "case", "space", "mix", "natural")
PARTS = {"case": ("lower",), "space": ("join", "split")}      # other functions are one part
# A mix's parts: shares in real typing errors, space and case by judgement. (Keyboard neighbours,
# 100 of 1,000, are left out: they need layouts.)
WEIGHTS = {"drop": 300, "sub": 200, "marks": 150, "join": 67, "dup": 50, "swap": 50, "split": 33,
           "lower": 25, "upper": 25}
UPPER = FIVE * RATES[3] * 2.0**64             # case: from this number on a word is in upper case
# What readers.read_copa adds to a premise in every language: a template, not the data's text.
TEMPLATE = re.compile(r" What was the (?:cause|effect)\?$")


class Perturbed(NamedTuple):
    """Noisy examples, aligned with the clean ones, and how noisy they are.

    edits: of each example, by the name of the text: a field, "endings.0" of choices; of "words" the
    offsets count in the words joined by one blank. rate: edits per letter cluster (of whole words
    and space: per cluster of what can be edited, five to a word or blank); RATES[severity] is its
    target. changed, visible: shares of the noised examples that differ at all, and that still do
    after the tokenizer's normalisation.
    """

    examples: list
    edits: list[dict[str, tuple[Edit, ...]]]
    rate: float
    changed: float
    visible: float


# ------------------------------------------------------------------------------------ decisions


class Draws:
    """Numbers of 64 bits that are a pure function of a key."""

    def __init__(self, *key):
        self.state = blake2b(repr(key).encode())

    def digest(self, block: int) -> bytes:
        state = self.state.copy()
        state.update(block.to_bytes(8, "big"))
        return state.digest()

    def along(self, length: int) -> tuple[int, ...]:
        """A number for each offset from 0 to at least `length`."""
        digests = [self.digest(block) for block in range(length // 8 + 1)]
        return struct.unpack(f">{8 * len(digests)}Q", b"".join(digests))

    def choices(self, offset: int) -> Iterator[int]:
        """Sixteen numbers more, for the edit of the place at an offset."""
        for block in (0, 1):
            yield from struct.unpack(">8Q", self.digest(2**63 + 2 * offset + block))


def find_edits(text: str, found: list[Word], limits: dict[str, float], draws: Draws,
               tools: Tools) -> tuple[Edit, ...]:
    """The edits of a text with these words. limits: part -> bound; a place whose number is below
    the bound is edited, unless one with a smaller number takes a cluster of it."""
    numbers, edits = draws.along(len(text)), []
    for part, limit in limits.items():
        cut = pieces(found) if part == "mix" else found
        below = {offset for offset, number in enumerate(numbers) if number < limit}
        for k, word in enumerate(cut):
            if below.isdisjoint(word.bounds):
                continue
            hits = [(numbers[word.bounds[i]], i) for i in places(part, word)
                    if word.bounds[i] in below]
            if hits:
                edits += _edit_word(part, text, cut, k, sorted(hits), draws, tools)
    return tuple(sorted(edits))


def _edit_word(part, text, found, k, hits, draws, tools) -> list[Edit]:
    """The edits of word k at the hits (number, place), in order: a swap not where an earlier one
    touches, drops as long as a cluster is left."""
    edits = []
    for number, i in hits:
        numbers = draws.choices(found[k].bounds[i])
        if part == "mix":
            edit = _mixed(text, found, k, tools, numbers)
        else:
            name = "upper" if part == "lower" and number >= UPPER else part
            edit = WRITE[name](text, found, k, i, tools, numbers)
        is_taken = part == "swap" and edit and any(
            edit.start < other.end and other.start < edit.end for other in edits)
        if edit and not is_taken:
            edits.append(edit)
    return edits[:len(found[k].bounds) - 2] if part == "drop" else edits


def _mixed(text, found, k, tools, numbers) -> Edit | None:
    """One edit of a word: a part drawn by its weight among those that have something to edit there,
    then one of its places."""
    weights = dict(tools.mix)
    while weights:
        drawn = next(numbers) * sum(weights.values()) >> 64
        for part, weight in weights.items():
            drawn -= weight
            if drawn < 0:
                break
        inside = units(part, text, found, k, tools)
        if inside:
            i = inside[next(numbers) * len(inside) >> 64]
            return WRITE[part](text, found, k, i, tools, numbers)
        del weights[part]
    return None


# ----------------------------------------------------------------------------------- calibration


class Calibration(NamedTuple):
    """What is counted once over a file of one language."""

    task: str                                 # any name: it only enters the hashes
    lang: str
    side: str                                 # of retrieval that is noised
    counts: dict[str, Counter]                # field -> units of each part, "letters", ...
    tools: Tools

    def base(self, function: str, field: str) -> float:
        """What the rate of a function is a share of: letter clusters, or those of the words (for
        space, five for each blank) that it can edit."""
        counts = self.counts[field]
        if function == "space":
            return FIVE * counts["join"] + counts["continuous"]
        part = PARTS.get(function, (function,))[0]
        return FIVE * counts[part] if part in WHOLE else counts["letters"]

    def applies(self, function: str, field: str) -> bool:
        """Whether the function has enough places in a field; else it is n/a there."""
        counts, parts = self.counts[field], PARTS.get(function, (function,))
        if parts == PARTS["space"] and "join" not in self.tools.parts:
            return False
        whole = function == "space" or parts[0] in WHOLE
        reach = self.base(function, field) if whole else counts[function]
        return reach > 0 and reach >= counts["letters"] / 20

    def limits(self, function: str, field: str, severity: int) -> dict[str, float]:
        """The bound of each part's numbers: 2**64 times the probability q of an edit.

        The wanted share w of a part's units is q - clashes * q**2, as of two swaps that touch one
        is lost: clashes are the pairs of units that touch, for each unit.
        """
        bounds, counts = {}, self.counts[field]
        for part in PARTS.get(function, (function,)):
            wanted = RATES[severity] * self.scale(part, field)
            clashes = counts["clashes"] / counts["swap"] if part == "swap" else 0
            q = 2 * wanted / (1 + math.sqrt(max(0, 1 - 4 * clashes * wanted)))
            bounds[part] = min(1.0, q) * 2.0**64
        return bounds

    def scale(self, part: str, field: str) -> float:
        """Edits for each unit of a part, at a rate of 1."""
        counts = self.counts[field]
        if part in WHOLE:
            return FIVE
        if part == "join":
            return FIVE * 2 / 3
        wanted = FIVE / 3 * counts["join"] + counts["continuous"]
        return (wanted if part == "split" else counts["letters"]) / max(counts[part], 1)


def calibrate(examples: list, task: str, lang: str, fields: tuple[str, ...] | None = None,
              side: str = "query", errors: dict | None = None) -> Calibration:
    """Counts what can be edited in the examples of one language, all of one type.

    fields: those to be noised (default: FIELDS of the type); each is calibrated by itself. side:
    of retrieval, that which is in `lang`. errors: read_errors(), for `natural`. Labels are not
    used. Calibrate on the whole file, also where only some of its examples are noised. Raises
    UserError if there are none.
    """
    if not examples:
        raise UserError("there are no examples to calibrate noise on")
    kind = type(examples[0])
    barred = PARTS["space"] if kind is readers.Tagging else ()
    parts = tuple(part for part in WRITE if part not in barred)
    mix = {part: weight for part, weight in WEIGHTS.items() if part in parts}
    noised = [example for example in examples if is_noised(example, side)]
    texts = {field: Counter(text[1:] for example in noised for text in _texts(example, field))
             for field in fields or FIELDS[kind]}
    tools = Tools(lang, parts, mix, _unigrams(texts.values()), errors or {})
    counts = {field: _count(times, tools) for field, times in texts.items()}
    return Calibration(task, lang, side, counts, tools)


def _unigrams(fields) -> Unigrams:
    """Of the clusters that may be edited, so that few capitals are set inside words."""
    counts = Counter()
    for times in fields:
        for (text, stop), n in times.items():
            for word in words(text, stop):
                for i in editable(word, single=True):
                    counts[text[word.bounds[i]:word.bounds[i + 1]]] += n
    return Unigrams(counts)


def _count(times: Counter, tools: Tools) -> Counter:
    """Letters, letters of scripts without blanks, and units of each part in texts that occur so
    many times."""
    counts = Counter()
    for (text, stop), n in times.items():
        found = words(text, stop)
        for k, word in enumerate(found):
            letters = len(word.bounds) - 1
            counts["letters"] += n * letters
            counts["continuous"] += n * letters * (word.kind == "continuous")
            for part in tools.parts:
                inside = units(part, text, found, k, tools)
                counts[part] += n * len(inside)
                if part == "swap":
                    counts["clashes"] += n * sum(b - a == 1 for a, b in zip(inside, inside[1:]))
        counts["mix"] += n * sum(len(places("mix", piece)) for piece in pieces(found))
    return counts


def is_noised(example, side: str) -> bool:
    """Whether an example is one to noise: in retrieval those of one side, else all."""
    return getattr(example, "side", side) == side


def _texts(example, field: str) -> Iterator[tuple[str, str, int]]:
    """(name, text, where its noise stops) of the texts in a field of an example."""
    value = getattr(example, field)
    if field == "words":                      # one text: the words and a blank between them
        joined = " ".join(value)
        yield field, joined, len(joined)
    elif field == "endings":
        yield from ((f"{field}.{i}", text, len(text)) for i, text in enumerate(value))
    else:
        template = TEMPLATE.search(value) if isinstance(example, readers.MultipleChoice) else None
        yield field, value, template.start() if template else len(value)


def read_errors(path) -> dict[str, tuple[str, ...]]:
    """{word: its misspellings} of a file in the format of Belinkov and Bisk's natural noise: a word
    and its errors on a line, blanks between. Raises UserError."""
    errors = {}
    for number, line in read_lines(path):
        word, *listed = line.split() or [""]
        if not listed:
            raise UserError("expected a word and its misspellings", path, number)
        errors[word] = (*errors.get(word, ()), *listed)
    return errors


# ----------------------------------------------------------------------------------------- noise


def perturb(examples: list, calibration: Calibration, function: str, severity: int, seed: int,
            normalise: Callable[[str], str] = partial(unicodedata.normalize, "NFKC"),
            ) -> Perturbed | None:
    """The examples with noise, None where the function is n/a in every field.

    function: of FUNCTIONS; severity: 1 to 5 (0: clean); normalise: what the tokenizer does to a
    text before it cuts it, so that noise which it undoes is told. Raises UserError for others.
    """
    if function not in FUNCTIONS or severity not in range(len(RATES)):
        what = f"no noise {function!r} of severity {severity!r}"
        raise UserError(f"{what} (expected {', '.join(FUNCTIONS)}; 0 to {len(RATES) - 1})")
    fields = [field for field in calibration.counts if calibration.applies(function, field)]
    if not fields:
        return None
    noise = _Noise(calibration, function, fields, severity, seed)
    edits = [noise.edits(example) for example in examples]
    noisy = [_rewrite(*pair) for pair in zip(examples, edits)]
    pairs = [pair for pair in zip(examples, noisy) if pair[0] != pair[1]]
    visible = sum(view(clean, fields, normalise) != view(other, fields, normalise)
                  for clean, other in pairs)
    total = max(1, sum(is_noised(example, calibration.side) for example in examples))
    return Perturbed(noisy, edits, noise.rate(), len(pairs) / total, visible / total)


def view(example, fields, normalise: Callable[[str], str] = str) -> list[str]:
    """The texts in an example's fields, as the tokenizer sees them."""
    return [normalise(text) for field in fields for _, text, _ in _texts(example, field)]


class _Noise:
    """One function at one severity with one seed, on examples of one calibration."""

    def __init__(self, calibration: Calibration, function: str, fields, severity: int, seed: int):
        self.calibration = calibration
        self.key = seed, calibration.task, calibration.lang
        self.function = function
        self.limits = {field: [calibration.limits(function, field, weaker)
                               for weaker in range(severity + 1)] for field in fields}
        self.letters = Counter()              # letter clusters of each field, and
        self.hits = 0                         # edits, both of what was noised so far
        self.contexts = {}                    # context of questions -> its edits

    def edits(self, example) -> dict[str, tuple[Edit, ...]]:
        """{name of a text: its edits}, of those that have some."""
        found = {}
        for field in self.limits if is_noised(example, self.calibration.side) else ():
            if field == "context" and isinstance(example, readers.Span):
                if example.context not in self.contexts:
                    edits = self.edits_of(example, field, example.context)
                    self.contexts[example.context] = edits
                found |= self.contexts[example.context]
            else:
                found |= self.edits_of(example, field, getattr(example, "id", example.row))
        return found

    def edits_of(self, example, field: str, key) -> dict[str, tuple[Edit, ...]]:
        """Those of one field. A choice that would become equal to another takes the edits of a
        lower severity."""
        found, choices = {}, list(example.endings) if field == "endings" else []
        for i, (name, text, stop) in enumerate(_texts(example, field)):
            known = words(text, stop)
            draws = Draws(*self.key, key, name, self.function)
            for limits in reversed(self.limits[field]):
                edits = find_edits(text, known, limits, draws, self.calibration.tools)
                if not choices or apply(text, edits) not in choices[:i] + choices[i + 1:]:
                    break
            if edits:
                found[name] = edits
            if choices:
                choices[i] = apply(text, edits)
            self.letters[field] += sum(len(word.bounds) - 1 for word in known)
            self.hits += len(edits)
        return found

    def rate(self) -> float:
        """Edits as a share of what the rate is a rate of (Calibration.base)."""
        base = sum(letters / self.calibration.counts[field]["letters"]
                   * self.calibration.base(self.function, field)
                   for field, letters in self.letters.items())
        return self.hits / base if base else 0.0


def _rewrite(example, edits: dict[str, tuple[Edit, ...]]):
    """The noisy example. A question's answers move along with its context."""
    changes = {}
    for name, listed in edits.items():
        field, _, number = name.partition(".")
        value = changes.get(field, getattr(example, field))
        if field == "words":
            changes[field] = _rewrite_words(value, listed)
        elif number:
            i = int(number)
            changes[field] = (*value[:i], apply(value[i], listed), *value[i + 1:])
        else:
            changes[field] = apply(value, listed)
    if "context" in edits and isinstance(example, readers.Span) and example.answers:
        changes["answers"] = tuple(_moved_answer(changes["context"], edits["context"], *answer)
                                   for answer in example.answers)
    return example._replace(**changes) if changes else example


def _rewrite_words(clean: tuple[str, ...], edits) -> tuple[str, ...]:
    """The words with edits whose offsets count in the words joined by one blank."""
    noisy = list(clean)
    starts = list(accumulate((len(word) + 1 for word in clean), initial=0))
    for start, end, written in reversed(edits):
        k = bisect_right(starts, start) - 1
        word, first, last = noisy[k], start - starts[k], end - starts[k]
        noisy[k] = word[:first] + written + word[last:]
    return tuple(noisy)


def _moved_answer(context: str, edits, text: str, start: int) -> tuple[str, int]:
    """An answer in a noisy context; as it is where the clean one does not hold it (start -1)."""
    if start < 0:
        return text, start
    first, last = to_noisy(edits, start, start + len(text))
    return context[first:last], first


def restore(clean: str, edits, start: int, end: int) -> str:
    """The answer in the clean context that a span predicted in the noisy one stands for; "" for an
    empty span."""
    return clean[slice(*to_clean(clean, edits, start, end))] if start < end else ""


def best_answers(examples: list, edits: list[dict]) -> list[str]:
    """What a model without fault could answer in noisy contexts, for the ceiling of their score:
    of each clean question the first gold answer that the way there and back leaves as it is, else
    what becomes of the first. examples: clean ones; edits: Perturbed.edits."""
    answers = []
    for example, found in zip(examples, edits):
        listed = found.get("context", ())
        back = [(text, restore(example.context, listed,
                               *to_noisy(listed, start, start + len(text))))
                for text, start in example.answers or () if start >= 0]
        intact = [text for text, restored in back if text == restored]
        answers.append((intact or [restored for _, restored in back] or [""])[0])
    return answers
