"""Search for an edited input that a model gets wrong; pure logic over a victim.

    examples --victim--> Judged (clean) --eligible: all right--> attack(search, budget) --> Found
    search: target --yields [Candidate, ...], gets the rise of J of each--> until it is fooled

A victim is a function of examples that gives, for each, what one forward pass says of it (Judged).
One query is one such pass of one input; the clean one is the first, and a gradient counts two. Of
all examples that are attacked at once, the candidates go through the victim together, but each
example's are counted by themselves: neither order nor batches change what is found.

    chars      black box: words by the rise of J with the word masked; of each, up to 8 edits
    hotflip    white box, a bound: the pieces that the gradient of J favours (flips.py)
    langswap   one text of the example in the benchmark's own translations
    random     control: as many edits of the same kind at random, one try
    random-Q   control: different random tries, as many as the budget allows or there are

J is -log p of the gold (victims.py). An edit of a tagged word takes this word out of J and of what
counts as wrong: only words that were left alone tell whether the model was fooled. Candidates are
therefore compared by how much J rises over the clean J of the same words.

**chars** follows the published order (importance, then greedy, at most W = max(1, min(5, words /
5)) words, one cluster each), with a departure: stopping at W words is, for W = 1, weaker than
random tries. Here the next word's edit then competes with the weakest one, as long as there are
words and queries. With J additive over words, and the budget, this finds the best W of all edits
that random-Q could draw. First and last letters stay, there is no stop-word list (but words of
fewer than three letters are never touched), and no sentence encoder filters: the edits are few.

Decisions are hashes (perturb.Draws) of seed, task, language, example and field.
"""

import math
import re
from collections.abc import Callable, Generator
from itertools import chain, islice
from typing import NamedTuple

import readers
from studies.perturb import Calibration, Draws, rewrite, texts_of
from studies.scripts import WRITE, Edit, Word, apply, pieces, units, words

MASK = "\ufdd0"                 # stands for one <mask> piece; a code point that no text has
MOST_WORDS = 5                  # W is at most this
SCORED = 60                     # words whose importance is asked; of more, those chosen by hash
OPERATIONS = ("swap", "drop", "dup", "sub")
PLACES = 2                      # of a word, for each operation
BLOCK = 8                       # random tries between two looks at success
CROWD = 64                      # examples attacked at once
SPECIAL = re.compile(r"</?s>|<(?:pad|unk|mask)>")
FIELDS = {                      # what is attacked
    readers.Classification: "text_b", readers.MultipleChoice: "context", readers.Span: "question",
    readers.Tagging: "words", readers.Sentence: "text",
}


class Judged(NamedTuple):
    """What one forward pass says: J and whether it is wrong, of a tagged sentence for each word, of
    anything else one of each; and the points, 0 to 100 (of questions: F1)."""

    losses: tuple[float, ...]
    wrong: tuple[bool, ...]
    score: float


class Candidate(NamedTuple):
    """An input to be judged. edits: word -> its edit, in offsets of the clean text; a probe is no
    attack, but asks how much a word counts."""

    example: tuple
    edits: dict[int, Edit]
    is_probe: bool = False


class Slope(NamedTuple):
    """What a white-box search may yield: a wish for the gradient of J at an input."""

    example: tuple


class Found(NamedTuple):
    """The outcome for one example that was right: the strongest input that was tried."""

    clean: tuple
    strongest: tuple              # the clean one where nothing raised J
    judged: Judged                # of the strongest
    fooled: bool
    queries: int
    ran_out: bool                 # the budget ended the search
    edits: tuple[Edit, ...]


Victim = Callable[[list], list[Judged]]
Search = Generator[list[Candidate] | Slope, object, None]


def field_of(examples: list) -> str:
    """The field that is attacked: FIELDS, but the only text where there are no second ones."""
    name = FIELDS[type(examples[0])]
    return name if name != "text_b" or any(example.text_b for example in examples) else "text_a"


def edited_words(clean, example) -> set[int]:
    """Places of tagged words that are not as they were; of other examples none."""
    if not isinstance(clean, readers.Tagging):
        return set()
    return {k for k, (a, b) in enumerate(zip(clean.words, example.words)) if a != b}


def strength(judged: Judged, edited: set[int]) -> float:
    """J: the sum of the losses that count."""
    return math.fsum(loss for k, loss in enumerate(judged.losses) if k not in edited)


def is_fooled(judged: Judged, edited: set[int]) -> bool:
    return any(is_wrong for k, is_wrong in enumerate(judged.wrong) if k not in edited)


# ------------------------------------------------------------------------ what may be edited


class Target(NamedTuple):
    """One text of an example and its words; those of scripts without blanks are pairs of
    clusters."""

    example: tuple
    name: str                     # of the text, as in perturb.texts_of
    text: str
    words: list[Word]
    open: tuple[int, ...]         # words that are not protected
    key: tuple                    # of all decisions

    def candidate(self, edits: dict[int, Edit], is_probe: bool = False) -> Candidate:
        example = rewrite(self.example, {self.name: tuple(sorted(edits.values()))})
        return Candidate(example, edits, is_probe)

    @property
    def limit(self) -> int:
        """W, the most words that may be edited."""
        return max(1, min(MOST_WORDS, len(self.words) // 5))


def target_of(example, calibration: Calibration, seed: int) -> Target:
    """The attacked text of an example. calibration: perturb.calibrate() of the attacked field."""
    (field,) = calibration.counts
    ((name, text, stop),) = texts_of(example, field)
    found = pieces(words(text, stop))
    barred = protected(example, text)
    free = tuple(k for k, word in enumerate(found)
                 if all(word.bounds[-1] <= start or end <= word.bounds[0] for start, end in barred))
    key = seed, calibration.task, calibration.lang, getattr(example, "id", example.row), name
    return Target(example, name, text, found, free, key)


def protected(example, text: str) -> list[tuple[int, int]]:
    """Spans that no edit may touch: what looks like a special token and, in a question, the text of
    gold answers. (Digits are in no word, and words of fewer than three letters have no places.)"""
    spans = [match.span() for match in SPECIAL.finditer(text)]
    if isinstance(example, readers.Span):
        for answer, _ in example.answers or ():
            if answer.strip():
                found = re.finditer(re.escape(answer.strip()), text, re.IGNORECASE)
                spans += [match.span() for match in found]
    return spans


Moves = dict[int, tuple[Edit, ...]]       # word -> edits that may be made there, one at a time


def char_moves(target: Target, calibration: Calibration, normalise: Callable[[str], str]) -> Moves:
    """Up to 8 edits of one cluster for each word: the operations at places chosen by hash. Without
    those that the tokenizer's normalisation makes equal to another or to the clean text."""
    text, moves = target.text, {}
    draws = Draws(*target.key, "chars")
    numbers = draws.along(len(text))
    for k in target.open:
        bounds, kept = target.words[k].bounds, {normalise(text): None}
        for part in OPERATIONS:
            spots = units(part, text, target.words, k, calibration.tools)
            for i in sorted(spots, key=lambda i: numbers[bounds[i]])[:PLACES]:
                edit = WRITE[part](text, target.words, k, i, calibration.tools,
                                   draws.choices(bounds[i]))
                if edit:
                    kept.setdefault(normalise(apply(text, [edit])), edit)
        if len(kept) > 1:
            moves[k] = tuple(edit for edit in kept.values() if edit)
    return moves


# -------------------------------------------------------------------------------- the searches


def chars(target: Target, moves: Moves) -> Search:
    """Words by importance; the best edit of each is kept if J rises, of at most `limit` words."""
    kept, base, best = {}, {}, 0.0
    order = yield from _by_importance(target, list(moves))
    for k in order:
        options = [base | {k: edit} for edit in moves[k]]
        rises = yield [target.candidate(edits) for edits in options]
        if max(rises) > best:
            best = max(rises)
            kept = options[rises.index(best)]
            base = kept
            if len(kept) == target.limit:
                base = yield from _without_weakest(target, kept)


def _by_importance(target: Target, asked: list[int]) -> Search:
    """The words by how much J rises without them; those not asked come last, by hash."""
    numbers = Draws(*target.key, "asked").along(len(target.words))
    if len(asked) > SCORED:
        asked = sorted(asked, key=lambda k: numbers[k])
    rest, asked = asked[SCORED:], asked[:SCORED]
    probes = [target.candidate({k: Edit(target.words[k].bounds[0], target.words[k].bounds[-1],
                                        MASK)}, is_probe=True) for k in asked]
    rises = yield probes
    ranked = sorted(zip(asked, rises), key=lambda pair: (-pair[1], numbers[pair[0]]))
    return [k for k, _ in ranked] + rest


def _without_weakest(target: Target, kept: dict[int, Edit]) -> Search:
    """The edits without the one that J needs least."""
    if len(kept) == 1:
        return {}
    fewer = [{k: edit for k, edit in kept.items() if k != left} for left in kept]
    rises = yield [target.candidate(edits) for edits in fewer]
    return fewer[rises.index(max(rises))]


def random_tries(target: Target, moves: Moves, count: int, tries: int) -> Search:
    """So many different tries, each with `count` random edits of different words."""
    seen, waiting = set(), []
    for number in range(tries):
        draws = Draws(*target.key, "random", number)
        numbers = draws.along(len(target.words))
        chosen = sorted(sorted(moves, key=lambda k: numbers[k])[:count])
        edits = {k: moves[k][next(draws.choices(k)) * len(moves[k]) >> 64] for k in chosen}
        name = tuple(edits.items())
        if edits and name not in seen:
            seen.add(name)
            waiting.append(target.candidate(edits))
        if waiting and (len(waiting) == BLOCK or number == tries - 1):
            yield waiting
            waiting = []


# ------------------------------------------------------------------------------- in lock step


class _State:
    """One example under attack."""

    def __init__(self, example, clean: Judged, steps: Search, budget: int):
        self.example, self.clean, self.steps, self.budget = example, clean, steps, budget
        self.spent, self.ran_out = 1, False                   # the clean pass
        self.best = (False, 0.0), Candidate(example, {}), clean
        self.wanted = None
        self.send(None)

    def send(self, reply) -> None:
        """Hand the search what it asked for; keep what it wants next, if that can be paid."""
        try:
            self.wanted = self.steps.send(reply)
        except StopIteration:
            self.wanted = None
        price = 2 if isinstance(self.wanted, Slope) else 1
        if self.wanted and self.spent + price > self.budget:
            self.wanted, self.ran_out = None, True

    def inputs(self) -> list:
        """The examples to be judged, as many as the budget allows."""
        return [one.example for one in self.wanted[:self.budget - self.spent]]

    def judge(self, judged: list[Judged]) -> None:
        self.spent += len(judged)
        rises = []
        for candidate, one in zip(self.wanted, judged):
            edited = edited_words(self.example, candidate.example)
            rises.append(strength(one, edited) - strength(self.clean, edited))
            worth = is_fooled(one, edited), rises[-1]
            if not candidate.is_probe and worth > self.best[0]:
                self.best = worth, candidate, one
        if self.best[0][0]:
            self.wanted = None
        elif len(judged) < len(self.wanted):
            self.wanted, self.ran_out = None, True
        else:
            self.send(rises)

    def found(self) -> Found:
        (fooled, _), candidate, judged = self.best
        return Found(self.example, candidate.example, judged, fooled, self.spent, self.ran_out,
                     tuple(candidate.edits.values()))


def attack(victim: Victim, examples: list, clean: list[Judged], search: Callable[..., Search],
           budget: int, crowd: int = CROWD) -> list[Found | None]:
    """The outcome of each example, None of those that are wrong already.

    search: example -> its search; budget: queries for each example, the clean one included. A
    search that yields Slope needs victim.slopes(examples). crowd: examples attacked at once.
    """
    found = [None] * len(examples)
    right = [i for i, one in enumerate(clean) if not any(one.wrong)]
    for start in range(0, len(right), crowd):
        part = right[start:start + crowd]
        states = [_State(examples[i], clean[i], search(examples[i]), budget) for i in part]
        while active := [state for state in states if state.wanted]:
            climbing = [state for state in active if isinstance(state.wanted, Slope)]
            _climb(victim, climbing)
            _judge(victim, [state for state in active if state not in climbing])
        for i, state in zip(part, states):
            found[i] = state.found()
    return found


def _climb(victim: Victim, states: list[_State]) -> None:
    """All gradients that are wanted, in one call."""
    pairs = [(state.example, state.wanted.example) for state in states]
    for state, slope in zip(states, victim.slopes(pairs) if pairs else ()):
        state.spent += 2
        state.send(slope)


def _judge(victim: Victim, states: list[_State]) -> None:
    """All candidates that are wanted, in one call."""
    lists = [state.inputs() for state in states]
    judged = iter(victim(list(chain.from_iterable(lists))) if lists else ())
    for state, inputs in zip(states, lists):
        state.judge(list(islice(judged, len(inputs))))


# ------------------------------------------------------------------- the benchmark's translations


class Swapped(NamedTuple):
    """langswap: outcomes, those of one other language drawn by hash, and over all other languages
    the share of right examples in percent (generalized accuracy)."""

    found: list[Found | None]
    drawn: list[Found | None]
    generalized: float


def langswap(victim: Victim, examples: list, clean: list[Judged], variants: list[list],
             seed: int) -> Swapped:
    """variants: of each example the same with its attacked text in the other languages. No search,
    so all are judged, of wrong examples too; the queries of those count nowhere."""
    judged = iter(victim([one for listed in variants for one in listed]))
    tried = [[(is_fooled(one, set()), strength(one, set()), other, one)
              for other, one in zip(listed, judged)] for listed in variants]
    found, drawn = [], []
    for example, before, results in zip(examples, clean, tried):
        number = Draws(seed, "langswap", getattr(example, "id", example.row)).along(0)[0]
        one = results[number * len(results) >> 64:][:1]
        found.append(_outcome(example, before, results))
        drawn.append(_outcome(example, before, one))
    right = [not result[0] for results in tried for result in results]
    return Swapped(found, drawn, 100 * sum(right) / max(1, len(right)))


def _outcome(example, clean: Judged, results: list[tuple]) -> Found | None:
    if any(clean.wrong):
        return None
    start = False, strength(clean, set()), example, clean
    fooled, _, strongest, judged = max([start, *results], key=lambda result: result[:2])
    return Found(example, strongest, judged, fooled, 1 + len(results), False, ())


# ------------------------------------------------------------------------------- two models


def transfer(victim: Victim, examples: list, clean: list[Judged], strongest: list) -> list[bool]:
    """Which examples a model still has right when each is shown as the input that was made against
    another model (the example itself where there is none): a static test set."""
    right = [not any(one.wrong) for one in clean]
    changed = [i for i, (a, b) in enumerate(zip(examples, strongest)) if a != b]
    for i, one in zip(changed, victim([strongest[i] for i in changed])):
        right[i] = not is_fooled(one, edited_words(examples[i], strongest[i]))
    return right
