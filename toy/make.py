"""Rebuilds the toy world: data in the official formats, the vocabulary, and the encoder.

    python toy/make.py                   data/ and encoder/, about ten minutes on two cores
    python toy/make.py --data-only       data/ alone, seconds; bit for bit the same for the same seed
    python toy/make.py --seed 1 --out D  another world

Every data set draws from its own stream of random numbers, and no event (a sentence's meaning, whatever the
language) is used twice, so a test item occurs in no training set of any task or language, nor in the text the
encoder is pretrained on. Passages tell of events at random: knowing the world does not answer a question.

Known about the pretraining text, and to be told with every score: it holds questions with their answers in all
languages, and in a fifth of its documents some words are replaced by those of another language ("code-switched"),
which amounts to a bilingual dictionary.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from toy import world as w  # noqa: E402
from toy.world import ENGLISH, LANGUAGES, Event, Word, World, told  # noqa: E402

NOTICE = ("TOY: invented languages, a 0.26M-parameter encoder. Not XLM-R, not TyDiQA, not a result of Phang et al. "
          "Real run: --model DIR --data DIR")
OTHERS = [lang for lang in LANGUAGES if lang != ENGLISH]


# ---- sentences that no other data set has

class Source:
    """Draws events for one world and remembers them, so that none comes twice."""

    def __init__(self, world: World):
        self.world, self.used = world, set()

    def event(self, rng: Random, know: float, topic: int | None = None, keep=(0.6, 0.6, 0.9, 0.9),
              like: Event | None = None, firms: float = 0.2) -> Event:
        """A new event; `keep` are the chances that number, adjective, place, day are told; `like` lends it a part."""
        while True:
            event = self.world.draw_event(rng, know, topic, firms)
            if like:
                event = event._replace(**rng.choice(({"who": like.who}, {"verb": like.verb, "noun": like.noun})))
            event = told(rng, event, *keep)
            if event.concepts() not in self.used:
                self.used.add(event.concepts())
                return event


def front(rng: Random, event: Event) -> str | None:
    """In three sentences of ten the place or the day comes first, in every language."""
    there = [slot for slot, part in (("where", event.place), ("when", event.day)) if part]
    return rng.choice(there) if there and rng.random() < 0.3 else None


def tell(source: Source, rng: Random, event: Event, lang: str) -> list[Word]:
    return source.world.realise(event, lang, fronted=front(rng, event))


# ---- question answering

SENTENCES = 4                                    # a passage
SLOTS = {"who": "who", "what": "noun", "how-many": "number", "where": "place", "when": "day"}


def passage(source: Source, rng: Random) -> list[Event]:
    """Events of which some share their person or their action, so that a question needs more than one word."""
    events = [source.event(rng, know=0.1)]
    while len(events) < SENTENCES:
        like = rng.choice(events) if rng.random() < 0.3 else None
        events.append(source.event(rng, know=0.1, like=like))
    return rng.sample(events, len(events))


def question_event(rng: Random, event: Event, asked: str) -> Event:
    """What the question tells: the core, and sometimes a place or a day; the asked slot stays filled."""
    extra = {slot: None for slot in ("place", "day") if rng.random() < 0.7 and slot != SLOTS[asked]}
    number = event.number if asked == "how-many" else None
    return event._replace(number=number, adjective=None, **extra)


def mentions(event: Event, asked: str) -> frozenset[str]:
    """The concepts that a question for this slot tells."""
    answer = event.who if asked == "who" else (getattr(event, SLOTS[asked]),)
    return event.concepts() - frozenset(answer)


def ask(rng: Random, events: list[Event]) -> tuple[int, str, Event]:
    """(which event, asked slot, what the question tells): exactly one event of the passage fits, and at least
    three events offer an answer of the asked type."""
    while True:
        at, asked = rng.randrange(len(events)), rng.choice(w.ASKED)
        if sum(getattr(event, SLOTS[asked]) is not None for event in events) < 3:
            continue
        if getattr(events[at], SLOTS[asked]) is None:
            continue
        question = question_event(rng, events[at], asked)
        known = mentions(question, asked)
        if sum(known <= event.concepts() for event in events) == 1:
            return at, asked, question


def find_answer(sentences: list[list[Word]], at: int, asked: str) -> dict:
    """The answer as SQuAD writes it: the words of sentence `at` that fill the slot, and where they start."""
    words = sentences[at]
    first = next(i for i, word in enumerate(words) if word.slot == asked)
    before = [w.text(sentence) for sentence in sentences[:at]] + [w.text(words[:first])] * (first > 0)
    return {"answer_start": sum(len(part) + 1 for part in before),
            "text": w.text([word for word in words if word.slot == asked])}


def questions(source: Source, rng: Random, lang: str, passages: int, each: int) -> Iterator[tuple]:
    """(context, sentences, events, [(question, answer, slot, what it tells)]) for each passage."""
    for _ in range(passages):
        events = passage(source, rng)
        sentences = [tell(source, rng, event, lang) for event in events]
        asked = {}
        while len(asked) < each:
            at, slot, question = ask(rng, events)
            asked[w.text(source.world.realise(question, lang, asked=slot))] = (at, slot, question)
        items = [(q, find_answer(sentences, at, slot), slot, question) for q, (at, slot, question) in asked.items()]
        yield w.text([word for sentence in sentences for word in sentence]), sentences, events, items


def squad_json(version: str, paragraphs: list[dict], title: str | None) -> str:
    articles = [{"title": title, "paragraphs": [p]} if title else {"paragraphs": [p]} for p in paragraphs]
    return json.dumps({"version": version, "data": articles}, ensure_ascii=False, separators=(",", ":")) + "\n"


def answerable(source: Source, rng: Random, lang: str, passages: int, each: int) -> list[dict]:
    paragraphs, number = [], 0
    for context, _, _, items in questions(source, rng, lang, passages, each):
        qas = []
        for question, answer, *_ in items:
            number += 1
            qas.append({"question": question, "id": str(number), "answers": [answer]})
        paragraphs.append({"context": context, "qas": qas})
    return paragraphs


def squad(source: Source) -> Iterator[tuple[str, str]]:
    for split, passages in (("train", 800), ("dev", 50)):
        rng = source.world.stream("squad", split)
        yield f"squad/{split}-v1.1.json", squad_json("1.1", answerable(source, rng, ENGLISH, passages, 5), "toy")


def tydiqa(source: Source) -> Iterator[tuple[str, str]]:
    """One question a passage, as in GoldP. Ids are bare numbers: the file says the language."""
    for split, langs, passages in (("train", [ENGLISH], 330), ("dev", LANGUAGES, 150)):
        for lang in langs:
            rng = source.world.stream("tydiqa", split, lang)
            paragraphs = answerable(source, rng, lang, passages, 1)
            yield f"tydiqa/tydiqa-goldp-v1.1-{split}/tydiqa.goldp.{lang}.{split}.json", squad_json("1.1", paragraphs, None)


def squad2(source: Source) -> Iterator[tuple[str, str]]:
    """A third of the questions cannot be answered: their thing or person is not the one of the passage."""
    for split, passages in (("train", 320), ("dev", 40)):
        rng, paragraphs, number = source.world.stream("squad2", split), [], 0
        for context, sentences, events, items in questions(source, rng, ENGLISH, passages, 6):
            qas = []
            for question, answer, slot, tells in items:
                number += 1
                impossible = rng.random() < 1 / 3
                if impossible:
                    question = w.text(source.world.realise(estrange(rng, tells, slot, events), ENGLISH, asked=slot))
                gold = {"plausible_answers": [answer], "answers": []} if impossible else {"answers": [answer]}
                qas.append({"question": question, "id": str(number), **gold, "is_impossible": impossible})
            paragraphs.append({"context": context, "qas": qas})
        yield f"squad/{split}-v2.0.json", squad_json("v2.0", paragraphs, "toy")


def estrange(rng: Random, question: Event, asked: str, events: list[Event]) -> Event:
    """The question about somebody or something that the passage does not tell of."""
    slot, words = rng.choice([pair for pair in (("who", w.PERSONS), ("noun", w.NOUNS)) if pair[0] != SLOTS[asked]])
    there = {concept for event in events for concept in event.concepts()}
    other = rng.choice([word for word in words if word not in there])
    return question._replace(**{slot: (other,) if slot == "who" else other})


# ---- natural language inference

LABELS = ("contradiction", "entailment", "neutral")


def inference(source: Source, rng: Random, label: str) -> tuple[Event, Event]:
    """(premise, hypothesis): the hypothesis puts one other verb or adjective. Whether that word is a synonym, an
    opposite or unrelated makes the label; which word it is, how long the sentences are, how many words they share
    and how many are new are drawn the same way for all labels."""
    premise = source.event(rng, know=0.0, keep=(0.5, 1.0, 0.5, 0.5))
    slot = rng.choice(("verb", "adjective"))
    word = getattr(premise, slot)
    related = {"entailment": [s for s in w.synonyms(word) if s != word], "contradiction": w.opposites(word)}
    near = {*w.synonyms(word), *w.opposites(word)}
    related["neutral"] = [s for s in (w.VERBS if slot == "verb" else w.ADJECTIVES) if s not in near]
    hypothesis = premise._replace(**{slot: rng.choice(related[label])})
    return premise, told(rng, hypothesis, 1.0, 1.0, 0.5, 0.5)


def pairs(source: Source, rng: Random, lang: str, number: int) -> Iterator[tuple[str, str, str]]:
    for _ in range(number):
        label = rng.choice(LABELS)
        yield (label, *(w.text(tell(source, rng, event, lang)) for event in inference(source, rng, label)))


def mnli(source: Source) -> Iterator[tuple[str, str]]:
    for split, number in (("train", 2400), ("dev_matched", 150)):
        lines = []
        for i, (label, premise, hypothesis) in enumerate(pairs(source, source.world.stream("mnli", split), ENGLISH, number)):
            lines.append({"annotator_labels": [label], "genre": "toy", "gold_label": label, "pairID": f"{i}{label[0]}",
                          "promptID": str(i), "sentence1": premise, "sentence1_binary_parse": "", "sentence1_parse": "",
                          "sentence2": hypothesis, "sentence2_binary_parse": "", "sentence2_parse": ""})
        yield f"mnli/multinli_1.0_{split}.jsonl", json_lines(lines)


def xnli(source: Source) -> Iterator[tuple[str, str]]:
    header = ("language gold_label sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse "
              "sentence1 sentence2 promptID pairID genre label1 label2 label3 label4 label5 "
              "sentence1_tokenized sentence2_tokenized match").split()
    for split, number in (("dev", 30), ("test", 150)):
        rows = [header]
        for lang in LANGUAGES:
            rng = source.world.stream("xnli", split, lang)
            for i, (label, premise, hypothesis) in enumerate(pairs(source, rng, lang, number), 1):
                rows.append([lang, label, "", "", "", "", premise, hypothesis, str(i), str(i), "toy", *[label] * 5,
                             premise, hypothesis, "True"])
        yield f"xnli/XNLI-1.0/xnli.{split}.tsv", "".join("\t".join(row) + "\n" for row in rows)


def json_lines(rows: list[dict]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)


# ---- multiple choice

def story(source: Source, rng: Random, topic: int) -> tuple[str, str, str]:
    """(two sentences about a topic, the subject of a third, how that one goes on)."""
    first, second, third = (source.event(rng, know=0.95, topic=topic, firms=0.0, keep=(0.3, 0.8, 0.3, 0.3))
                            for _ in range(3))
    opening = w.text(tell(source, rng, first, ENGLISH) + tell(source, rng, second, ENGLISH))
    words = source.world.realise(third._replace(place=None, day=None), ENGLISH)
    return opening, words[0].form, w.text(words[1:])


def hellaswag(source: Source) -> Iterator[tuple[str, str]]:
    """The right ending is of the story's topic, the three others of three other topics."""
    for split, number in (("train", 1000), ("val", 100)):
        rng, lines = source.world.stream("hellaswag", split), []
        for i in range(number):
            topics = rng.sample(range(len(w.TOPICS)), 4)
            stories = [story(source, rng, topic) for topic in topics]
            opening, subject, _ = stories[0]
            order = rng.sample(range(4), 4)
            lines.append({"ind": i, "activity_label": "toy", "ctx_a": opening, "ctx_b": subject,
                          "ctx": f"{opening} {subject}", "split": split, "split_type": "indomain",
                          "label": order.index(0), "endings": [stories[j][2] for j in order], "source_id": f"toy~{i}"})
        yield f"hellaswag/hellaswag_{split}.jsonl", json_lines(lines)


# ---- tagging

def tagged(source: Source, rng: Random, lang: str, number: int, ask_share: float, firms=0.2) -> Iterator[list[Word]]:
    """Sentences of all kinds, some of them questions."""
    for _ in range(number):
        event = source.event(rng, know=rng.choice((0.0, 0.8)), keep=(0.5, 0.6, 0.6, 0.6), firms=firms)
        asked = rng.choice([slot for slot in w.ASKED if getattr(event, SLOTS[slot])])
        is_question = rng.random() < ask_share
        yield source.world.realise(event, lang, asked) if is_question else tell(source, rng, event, lang)


def ccg(source: Source) -> Iterator[tuple[str, str]]:
    tags = {}
    for split, number in (("train", 1200), ("dev", 150)):
        lines = []
        for words in tagged(source, source.world.stream("ccg", split), ENGLISH, number, 0.3):
            lines.append(f"{w.text(words)}\t{' '.join(word.supertag for word in words)}\n")
            for word in words:
                tags.setdefault(word.supertag, str(len(tags)))
        yield f"ccg/ccg.{split}", "".join(lines)
    yield "ccg/tags_to_id.json", json.dumps(tags) + "\n"


def udpos(source: Source) -> Iterator[tuple[str, str]]:
    """The tree is not the world's: every word hangs on the verb."""
    splits = [("train", ENGLISH, 300), ("dev", ENGLISH, 80), *(("test", lang, 100) for lang in LANGUAGES)]
    for split, lang, number in splits:
        blocks = []
        for words in tagged(source, source.world.stream("udpos", split, lang), lang, number, 0.2):
            verb = 1 + next(i for i, word in enumerate(words) if word.slot == "verb")
            lines = [f"# text = {w.text(words)}\n"]
            for i, word in enumerate(words, 1):
                head, relation = (0, "root") if i == verb else (verb, "dep")
                lines.append(f"{i}\t{word.form}\t_\t{word.upos}\t_\t_\t{head}\t{relation}\t_\t_\n")
            blocks.append("".join(lines) + "\n")
        folder = "UD_" + "".join(part.capitalize() for part in lang.split("-")) + "-Toy"
        yield f"ud/{folder}/{lang}_toy-ud-{split}.conllu", "".join(blocks)


def panx(source: Source) -> Iterator[tuple[str, str]]:
    for lang in LANGUAGES:
        for split, number in (("train", 300 if lang == ENGLISH else 20), ("dev", 80 if lang == ENGLISH else 20), ("test", 100)):
            sentences = tagged(source, source.world.stream("panx", split, lang), lang, number, 0.0, firms=0.4)
            yield f"panx/{lang}/{split}", "".join(
                "".join(f"{lang}:{word.form}\t{word.name}\n" for word in words) + "\n" for words in sentences)


# ---- retrieval and text

def tatoeba(source: Source) -> Iterator[tuple[str, str]]:
    for lang in OTHERS:
        rng = source.world.stream("tatoeba", lang)
        events = [source.event(rng, know=0.3, keep=(0.5, 0.5, 0.5, 0.5)) for _ in range(150)]
        for side, name in ((lang, lang), (ENGLISH, "eng")):
            yield f"tatoeba/v1/tatoeba.{lang}-eng.{name}", "".join(
                w.text(source.world.realise(event, side)) + "\n" for event in events)


def document(source: Source, rng: Random, lang: str, news: bool) -> list[Word]:
    """A topic document (predictable from the world's facts: this aligns languages) or a news document (events at
    random, told again or asked and answered: this teaches to look words up in the text, which QA needs)."""
    if not news:
        topic = rng.randrange(len(w.TOPICS))
        events = [source.world.draw_event(rng, 0.85, topic, firms=0.1) for _ in range(4)]
        return [word for event in events for word in tell(source, rng, told(rng, event, 0.5, 0.7, 0.7, 0.7), lang)]
    events = [told(rng, source.world.draw_event(rng, 0.1), 0.6, 0.6, 0.9, 0.9) for _ in range(3)]
    parts = [tell(source, rng, event, lang) for event in events]
    for event in rng.sample(events, 2):
        again = tell(source, rng, event, lang)
        if rng.random() < 0.7:
            slot = rng.choice([slot for slot in w.ASKED if getattr(event, SLOTS[slot])])
            again = source.world.realise(question_event(rng, event, slot), lang, asked=slot) + again
        parts.insert(rng.choice((0, len(parts))), again)
    return [word for part in parts for word in part]


SWITCH, RATE = 0.2, 0.3


def switch(source: Source, rng: Random, words: list[Word], lang: str) -> list[Word]:
    """The document with a third of its words in another language, chosen by its amount of text."""
    langs = [other for other in LANGUAGES if other != lang]
    other = rng.choices(langs, [LANGUAGES[name].text for name in langs])[0]
    forms = source.world.forms[other]
    return [word._replace(form=forms[word.concept]) if word.concept in forms and rng.random() < RATE else word
            for word in words]


def documents(source: Source, lang: str, number: int, news: float, purpose: str) -> str:
    """Pretraining text, one document a line; `number` is for a language with the full amount."""
    rng, lines = source.world.stream("mlm", purpose, lang), []
    while len(lines) < number * LANGUAGES[lang].text:
        words = document(source, rng, lang, rng.random() < news)
        if rng.random() < SWITCH:
            words = switch(source, rng, words, lang)
        lines.append(w.text(words) + "\n")
    return "".join(lines)


def mlm(source: Source) -> Iterator[tuple[str, str]]:
    """A sample of the text that the encoder is pretrained on (the whole is 40 times as much; see `pretrain`)."""
    for lang in LANGUAGES:
        yield f"text/mlm/{lang}.txt", documents(source, lang, 150, 0.5, "sample")


def build(seed: int) -> dict[str, str]:
    """All data files of one world: path below data/ -> text."""
    source = Source(World(seed))
    files = {"world.json": json.dumps({"world": "toy", "english": ENGLISH, "notice": NOTICE}, indent=1) + "\n"}
    for make in (squad, squad2, mnli, hellaswag, ccg, tydiqa, xnli, udpos, panx, tatoeba, mlm):
        files |= make(source)
    return files


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="the world (default 0)")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent, help="folder (default: toy/)")
    args = parser.parse_args()
    for name, text in build(args.seed).items():
        path = args.out / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())


if __name__ == "__main__":
    main()
