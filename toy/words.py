"""The toy world's data sets of the study of syntax: tags that follow from a word's role.

Training sentences use half of the names, nouns, verbs and adjectives, dev and test all: who only
remembers which tag a word had is lost on the others.
"""

from collections.abc import Iterator
from random import Random

from toy import world as w
from toy.files import Files
from toy.world import ENGLISH, Event, Source, Word

UNSEEN = {word for words in (w.PERSONS, w.PLACES, w.NOUNS, w.VERBS, w.ADJECTIVES)
          for word in words[1::2]}
OBJECT = ("count", "adjective", "noun")
SPLITS = (("train", 120), ("dev", 40), ("test", 40))


def draw(source: Source, rng: Random, is_train: bool, keep=(0.5, 0.6, 0.6, 0.6)) -> Event:
    """An event of any kind; in training one of seen words only."""
    while True:
        event = source.event(rng, 0.0, keep, firms=0.3, once=False)
        if not (is_train and event.concepts() & UNSEEN):
            source.used.add(event.concepts())
            return event


def sentences(source: Source, name: str, split: str, number: int) -> Iterator[list[Word]]:
    """English sentences, a fifth of them questions."""
    rng = source.world.stream(name, split)
    for _ in range(number):
        event = draw(source, rng, split == "train")
        if rng.random() < 0.2:
            asked = rng.choice([wh for wh in w.WH if getattr(event, w.SLOTS[wh])])
            yield source.world.realise(event, ENGLISH, asked=asked)
        else:
            yield source.tell(rng, event, ENGLISH)


PENN = {"PROPN": "NNP", "NOUN": "NN", "VERB": "VBZ", "DET": "DT", "NUM": "CD", "ADJ": "JJ",
        "ADP": "IN", "PRON": "WP", "ADV": "WRB", "PUNCT": "."}


PHRASES = {"verb": "VP", "in": "PP", "on": "PP", ".": "O", "?": "O"}        # others: NP


def chunk(source: Source) -> Files:
    """CoNLL-2000: base phrases."""
    for split, number in (("train", 120), ("test", 40)):
        blocks = ["".join(f"{word.form} {PENN[word.upos]} {tag}\n"
                          for word, tag in zip(sentence, base_phrases(sentence))) + "\n"
                  for sentence in sentences(source, "chunk", split, number)]
        yield f"conll2000/{split}.txt", "".join(blocks)


def base_phrases(sentence: list[Word]) -> list[str]:
    """IOB2 tags: the words of an object are one phrase, else those of one role are."""
    parts = ["object" if w.role(word) in OBJECT else w.role(word) for word in sentence]
    kinds = [PHRASES.get(part, "NP") for part in parts]
    return [kind if kind == "O" else f"{'I' if part == before else 'B'}-{kind}"
            for part, kind, before in zip(parts, kinds, ["", *parts])]


def semtag(source: Source) -> Files:
    """Tags of the Parallel Meaning Bank."""
    tags = {"NOUN": "CON", "VERB": "ENS", "DET": "DEF", "NUM": "QUC", "ADJ": "IST", "ADP": "REL",
            "PRON": "QUE", "ADV": "QUE", "PUNCT": "NIL"}
    names = {"B-PER": "PER", "B-ORG": "ORG", "I-ORG": "ORG", "B-LOC": "GPE"}

    def tag(word: Word) -> str:
        day = "DOW" if word.wh == "when" else ""
        return names.get(word.name) or day or tags[word.upos]
    yield from word_and_tag(source, "semtag", tag)


NOUN_CLASSES = ("n.artifact", "n.food", "n.artifact", "n.communication")       # of the four topics
VERB_CLASSES = ("v.possession", "v.change", "v.change", "v.communication")


def supersense(source: Source) -> Files:
    """WordNet's lexicographer classes, which STREUSLE uses; O for all other words."""
    def tag(word: Word) -> str:
        if word.concept in w.NOUNS:
            return NOUN_CLASSES[w.NOUNS.index(word.concept) // 4]
        if word.concept in w.VERBS:
            return VERB_CLASSES[w.VERBS.index(word.concept) // 4]
        return {"B-PER": "n.person", "B-ORG": "n.group", "I-ORG": "n.group",
                "B-LOC": "n.location"}.get(word.name, "n.time" if word.wh == "when" else "O")
    yield from word_and_tag(source, "supersense", tag)


def word_and_tag(source: Source, name: str, tag) -> Files:
    for split, number in SPLITS:
        blocks = ["".join(f"{word.form}\t{tag(word)}\n" for word in sentence) + "\n"
                  for sentence in sentences(source, name, split, number)]
        yield f"{name}/{split}.tsv", "".join(blocks)


RULES = ((("who",), ("verb",)), (("verb",), OBJECT), (("count",), ("adjective",)),
         (("adjective",), ("noun",)), (("in",), ("where",)))


def cola(source: Source) -> Files:
    """Sentences as the grammar gives them, and others in which two neighbours have changed places
    against one of its rules: both have the same words."""
    for split, number in (("train", 300), ("dev", 50)):
        rng, lines = source.world.stream("cola", split), []
        for i in range(number):
            event = draw(source, rng, split == "train", (0.5, 1.0, 1.0, 0.5))
            sentence = source.tell(rng, event, ENGLISH)
            is_right = rng.random() < 0.5
            if not is_right:
                sentence = exchange(sentence, *rng.choice(RULES))
            mark = "" if is_right else "*"
            lines.append(f"toy{i:03}\t{int(is_right)}\t{mark}\t{w.text(sentence)}\n")
        yield f"cola/{split}.tsv", "".join(lines)


def exchange(sentence: list[Word], left: tuple, right: tuple) -> list[Word]:
    """The sentence with two neighbouring phrases exchanged, given by the roles of their words."""
    roles = [w.role(word) for word in sentence]
    a, b = ([i for i, role in enumerate(roles) if role in phrase] for phrase in (left, right))
    return [sentence[i] for i in (*range(a[0]), *b, *a, *range(b[-1] + 1, len(sentence)))]
