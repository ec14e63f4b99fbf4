"""hotflip: replace pieces as the gradient says. White box, meaning is not kept: a bound, no result.

    gradient of J --first_order [places, pieces]--> 20 best flips --victim--> the best one, again

A flip puts another piece of the language's own text in the place of one: letters of the same
script, both or neither at the start of a word. One flip a word, at most m = max(1, 15 % of the
text's pieces). What does not encode to the wanted pieces is no text and is not tried. After
Ebrahimi et al. 2018 (HotFlip), with pieces in place of letters.
"""

import math
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

import readers
from data import WORD_START
from studies.perturb import Draws
from studies.scripts import RUN, Edit, apply, script
from studies.search_attack import Moves, Search, Slope, Target

OFTEN = 5                       # times that a piece must occur in the language's text
SHARE = 0.15                    # of the pieces of a text that may be flipped
TRIED = 20                      # flips of a round that the model is asked about
CHECKED = 64                    # flips of a text that are encoded at once
RANDOM = 8                      # flips of each word that random tries draw from


class Table(NamedTuple):
    """Pieces that may be written: ids by (script, starts a word), and their embeddings."""

    ids: dict[tuple[str, bool], np.ndarray]
    embeddings: np.ndarray                    # float32 [V, H]
    tokenizer: object                         # data.Tokenizer

    def letters(self, token: int) -> str:
        return self.tokenizer.pieces[token - 1].removeprefix(WORD_START)

    def group(self, token: int) -> tuple[str, bool] | None:
        """Script and place in a word of a piece of letters, None of others."""
        if not 0 < token <= len(self.tokenizer.pieces):
            return None
        letters = self.letters(token)
        if not RUN.fullmatch(letters) or len({script(letter) for letter in letters
                                               if letter.isalpha()}) != 1:
            return None
        return script(letters[0]), bool(self.tokenizer.starts_word[token - 1])


def make_table(texts: list[str], tokenizer, embeddings: np.ndarray) -> Table:
    """The pieces of a language's text that are frequent enough, by group."""
    counts = Counter(tokenizer.encode(texts).ids.tolist())
    table, groups = Table({}, embeddings, tokenizer), {}
    for token in sorted(token for token, n in counts.items() if n >= OFTEN):
        if group := table.group(token):
            groups.setdefault(group, []).append(token)
    table.ids.update({group: np.array(ids) for group, ids in groups.items()})
    return table


class Place(NamedTuple):
    """A piece of the present text that may be flipped."""

    index: int                    # of the piece, in the whole text
    token: int
    word: int                     # of the target's words
    start: int                    # offsets of its letters in the present text
    end: int


def hotflip(target: Target, table: Table, from_end: bool = False) -> Search:
    """Flips until the budget or m ends it, or J rises no more. from_end: where the model sees only
    part of the text, whether that is its end (multiple choice)."""
    edits, best = {}, 0.0
    while len(edits) < most_flips(target, table):
        ids, places = _encode(target, edits, table)
        seen, gradient = yield Slope(target.candidate(edits).example)
        offset = len(ids) - len(seen) if from_end else 0
        free = [place for place in places
                if place.word not in edits and 0 <= place.index - offset < len(seen)]
        ranked = first_order(free, gradient, offset, table)
        flips = list(islice(_sound(target, edits, ids, ranked, table), TRIED))
        if not flips:
            return
        rises = yield [target.candidate(edits | flip) for flip in flips]
        if max(rises) <= best:
            return
        best = max(rises)
        edits = edits | flips[rises.index(best)]


def most_flips(target: Target, table: Table) -> int:
    """m, the most pieces that may be flipped."""
    return max(1, math.ceil(SHARE * len(_encode(target, {}, table)[0])))


def _segments(target: Target, text: str, edits: dict[int, Edit]) -> list[tuple[int, str]]:
    """Offset and text of what is encoded by itself: tagged words, else the whole."""
    if not isinstance(target.example, readers.Tagging):
        return [(0, text)]
    listed, start = [], 0
    for word in target.candidate(edits).example.words:
        listed.append((start, word))
        start += len(word) + 1
    return listed


def _encode(target: Target, edits: dict[int, Edit], table: Table) -> tuple[list, list[Place]]:
    """Ids of the present text, and the pieces of letters in words that may be edited."""
    text = apply(target.text, sorted(edits.values()))
    ids, places = [], []
    for start, segment in _segments(target, text, edits):
        encoded = table.tokenizer.encode([segment], offsets=True)
        for token, begin, end in zip(encoded.ids.tolist(), encoded.begin, encoded.end):
            begin, end = int(begin), int(end)
            begin += segment[begin:end].startswith(" ")
            word = _word_at(target, edits, start + begin)
            if word is not None and segment[begin:end] == table.letters(token):
                places.append(Place(len(ids), token, word, start + begin, start + end))
            ids.append(token)
    return ids, places


def _word_at(target: Target, edits: dict[int, Edit], offset: int) -> int | None:
    """The open word in which a character of the present text lies."""
    clean = offset
    for edit in sorted(edits.values()):
        if edit.start + len(edit.text) > clean:
            break
        clean += edit.end - edit.start - len(edit.text)
    for k in target.open:
        if target.words[k].bounds[0] <= clean < target.words[k].bounds[-1]:
            return k
    return None


def first_order(places: list[Place], gradient: np.ndarray, offset: int, table: Table,
                ) -> Iterator[tuple[Place, int]]:
    """Flips (place, new piece) by falling (E[new] - E[old]) . gradient, the first-order rise of J.

    gradient [L, H] of the pieces from number `offset` on.
    """
    flips, gains = [], []
    for place in places:
        old, group = table.embeddings[place.token], table.group(place.token)
        ids = table.ids.get(group, ())
        if len(ids):
            gains.append((table.embeddings[ids] - old) @ gradient[place.index - offset])
            flips += [(place, int(new)) for new in ids]
    if flips:
        for at in np.argsort(-np.concatenate(gains), kind="stable"):
            yield flips[at]


def _sound(target: Target, edits: dict[int, Edit], ids: list[int], flips, table: Table):
    """Of flips those that give a text of the wanted pieces, as {word: edit of the clean text}."""
    flips = iter(flips)
    while some := list(islice(flips, CHECKED)):
        made, wanted, texts = [], [], []
        for place, new in some:
            if table.letters(new).casefold() == table.letters(place.token).casefold():
                continue
            flip = {place.word: _clean_edit(edits, place, table.letters(new))}
            text = apply(target.text, sorted((edits | flip).values()))
            wanted.append([*ids[:place.index], new, *ids[place.index + 1:]])
            texts.append([one for _, one in _segments(target, text, edits | flip)])
            made.append(flip)
        encoded = table.tokenizer.encode([one for listed in texts for one in listed])
        ends = np.cumsum([len(listed) for listed in texts]).astype(int)
        for flip, ids_wanted, end, listed in zip(made, wanted, ends, texts):
            first, last = encoded.bounds[end - len(listed)], encoded.bounds[end]
            if encoded.ids[first:last].tolist() == ids_wanted:
                yield flip


def _clean_edit(edits: dict[int, Edit], place: Place, letters: str) -> Edit:
    """The flip in offsets of the clean text: what other flips before it added is taken off."""
    shift = sum(len(edit.text) - (edit.end - edit.start) for word, edit in edits.items()
                if word < place.word)
    return Edit(place.start - shift, place.end - shift, letters)


def flip_moves(target: Target, table: Table) -> Moves:
    """Flips of each word that random tries draw from: as the search's, but chosen by hash."""
    ids, places = _encode(target, {}, table)
    moves = {}
    for place in places:
        choice = table.ids.get(table.group(place.token), ())
        numbers = Draws(*target.key, "flips", place.index).along(len(choice))
        ranked = [(place, int(choice[i])) for i in sorted(range(len(choice)),
                                                          key=lambda i: numbers[i])]
        sound = islice(_sound(target, {}, ids, ranked[:CHECKED], table), RANDOM)
        moves.setdefault(place.word, []).extend(flip[place.word] for flip in sound)
    return {word: tuple(listed) for word, listed in moves.items() if listed}
