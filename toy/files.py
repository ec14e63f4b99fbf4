"""The toy world's data sets in the official file formats.

Each data set draws from its own stream of random numbers, and an event (the meaning of a sentence,
whatever the language) is not told in two data sets or twice in one, but for the two sides of a
retrieval pair and, about once in a thousand, an inference hypothesis or an altered HellaSwag
ending, which are not drawn. The text the encoder is pretrained on tells no event of any data set.
Passages for questions tell of random events: knowing the world does not help to answer.
"""

import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

from toy import world as w
from toy.world import ENGLISH, LANGUAGES, SLOTS, Event, Source, Word, told

NOTICE = ("TOY: invented languages, a 0.37M-parameter encoder. Not XLM-R, not TyDiQA, not a result "
          "of Phang et al. Real run: --model DIR --data DIR")
Files = Iterator[tuple[str, str]]              # path below data/, contents


def dump(content) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n"


# ---- question answering


class Question(NamedTuple):
    """A question about one sentence of a passage."""

    at: int                                    # which sentence
    asked: str                                 # wh-word
    tells: Event                               # what the question tells, and the part it asks for


def passage(source: Source, rng: Random) -> list[Event]:
    """Four events. Some share their actor or their action, so that one word does not always tell
    which one a question is about."""
    events = []
    while len(events) < 4:
        like = rng.choice(events) if events and rng.random() < 0.3 else None
        events.append(source.event(rng, 0.1, (0.6, 0.6, 0.9, 0.9), like=like))
    return rng.sample(events, len(events))


def can_ask(event: Event) -> list[str]:
    return [wh for wh in w.WH if getattr(event, SLOTS[wh])]


def ask_about(rng: Random, event: Event, asked: str) -> Event:
    """What a question tells: the actor, the action, sometimes the place or the day."""
    left_out = [part for part in ("number", "adjective") if part != SLOTS[asked]]
    left_out += [part for part in ("place", "day") if part != SLOTS[asked] and rng.random() < 0.5]
    return event._replace(**dict.fromkeys(left_out))


def ask(rng: Random, events: list[Event]) -> Question:
    """A question that exactly one event answers, while three or more have a part of that type."""
    while True:
        at = rng.randrange(len(events))
        asked = rng.choice(can_ask(events[at]))
        tells = ask_about(rng, events[at], asked)
        answer = getattr(tells, SLOTS[asked])
        given = tells.concepts() - {*answer, answer}
        candidates = sum(asked in can_ask(event) for event in events)
        if candidates >= 3 and sum(given <= event.concepts() for event in events) == 1:
            return Question(at, asked, tells)


def find_answer(sentences: list[list[Word]], question: Question) -> dict:
    """The answer as in SQuAD: the words of the sentence that the wh-word asks for, and where."""
    words = sentences[question.at]
    first = next(i for i, word in enumerate(words) if word.wh == question.asked)
    before = [word for sentence in sentences[:question.at] for word in sentence] + words[:first]
    return {"answer_start": sum(len(word.form) + 1 for word in before),
            "text": w.text([word for word in words if word.wh == question.asked])}


def read_aloud(source: Source, rng: Random, lang: str, each: int):
    """(events, context, {question text: (Question, answer)}) of a passage with `each` questions."""
    events = passage(source, rng)
    sentences = [source.tell(rng, event, lang) for event in events]
    found = {}
    while len(found) < each:
        question = ask(rng, events)
        form = w.text(source.world.realise(question.tells, lang, asked=question.asked))
        found[form] = question, find_answer(sentences, question)
    return events, w.text([word for sentence in sentences for word in sentence]), found


def answerable(source: Source, rng: Random, lang: str, passages: int, each: int) -> list[dict]:
    """Paragraphs of SQuAD v1.1."""
    paragraphs = []
    for number in range(passages):
        _, context, found = read_aloud(source, rng, lang, each)
        qas = [{"question": form, "id": str(number * each + i), "answers": [answer]}
               for i, (form, (_, answer)) in enumerate(found.items())]
        paragraphs.append({"context": context, "qas": qas})
    return paragraphs


def squad(source: Source) -> Files:
    for split, passages in (("train", 660), ("dev", 40)):
        rng = source.world.stream("squad", split)
        articles = [{"title": "toy", "paragraphs": answerable(source, rng, ENGLISH, passages, 6)}]
        yield f"squad/{split}-v1.1.json", dump({"version": "1.1", "data": articles})


def tydiqa(source: Source) -> Files:
    """One question a passage, as in GoldP, and one to 40 of squad (of the real data: 24), before a
    tenth becomes dev. Ids without a language word: the file name says it."""
    for split, langs, passages in (("train", [ENGLISH], 100), ("dev", LANGUAGES, 100)):
        for lang in langs:
            rng = source.world.stream("tydiqa", split, lang)
            articles = [{"paragraphs": [p]} for p in answerable(source, rng, lang, passages, 1)]
            name = f"tydiqa/tydiqa-goldp-v1.1-{split}/tydiqa.goldp.{lang}.{split}.json"
            yield name, dump({"data": articles, "version": "1.1"})


def estrange(rng: Random, question: Question, events: list[Event]) -> Event:
    """The question about a person or a thing that the passage does not tell of."""
    there = frozenset().union(*(event.concepts() for event in events))
    if question.asked == "who" or question.asked != "what" and rng.random() < 0.5:
        return question.tells._replace(noun=rng.choice([x for x in w.NOUNS if x not in there]))
    return question.tells._replace(who=(rng.choice([x for x in w.PERSONS if x not in there]),))


def squad2(source: Source) -> Files:
    """SQuAD v2.0; a third of the questions have no answer. Half of the training passages that are
    drawn are written: drawing fewer would change what is drawn after them, pretraining included."""
    for split, passages, kept in (("train", 160, 80), ("dev", 25, 25)):
        rng, paragraphs = source.world.stream("squad2", split), []
        for number in range(passages):
            events, context, found = read_aloud(source, rng, ENGLISH, 6)
            qas = []
            for form, (question, answer) in found.items():
                impossible = rng.random() < 1 / 3
                gold = {"answers": [answer]}
                if impossible:
                    other = estrange(rng, question, events)
                    form = w.text(source.world.realise(other, ENGLISH, asked=question.asked))
                    gold = {"plausible_answers": [answer], "answers": []}
                name = str(number * 6 + len(qas))
                qas.append({"question": form, "id": name, **gold, "is_impossible": impossible})
            paragraphs.append({"context": context, "qas": qas})
        articles = [{"title": "toy", "paragraphs": paragraphs[:kept]}]
        yield f"squad/{split}-v2.0.json", dump({"version": "v2.0", "data": articles})


# ---- natural language inference


def inference(source: Source, rng: Random, label: str) -> tuple[Event, Event]:
    """(premise, hypothesis), which differ in one verb or adjective. The label says how the two
    words are related, and that alone: which word stands there, how long both are, what they share
    and what is new is drawn alike for all labels."""
    premise = source.event(rng, 0.0, (0.5, 1.0, 0.5, 0.5))
    part, words = rng.choice((("verb", w.VERBS), ("adjective", w.ADJECTIVES)))
    word = getattr(premise, part)
    related = {"entailment": w.synonyms(word), "contradiction": w.opposites(word)}
    known = {word, *w.synonyms(word), *w.opposites(word)}
    related["neutral"] = [other for other in words if other not in known]
    whole = premise._replace(**{part: rng.choice(related[label])})
    hypothesis = told(rng, whole, 1.0, 1.0, 0.5, 0.5)
    source.used.add(hypothesis.concepts())
    return premise, hypothesis


def pairs(source: Source, split: str, lang: str, number: int) -> Iterator[tuple[str, str, str]]:
    """(label, premise, hypothesis)."""
    rng = source.world.stream("inference", split, lang)
    for _ in range(number):
        label = rng.choice(("contradiction", "entailment", "neutral"))
        yield label, *(w.text(source.tell(rng, event, lang))
                       for event in inference(source, rng, label))


def mnli(source: Source) -> Files:
    """MultiNLI, of whose keys the reader needs the label and the sentences."""
    for split, number in (("train", 1800), ("dev_matched", 120)):
        lines = [dump({"gold_label": label, "sentence1": premise, "sentence2": hypothesis})
                 for label, premise, hypothesis
                 in pairs(source, f"mnli {split}", ENGLISH, number)]
        yield f"mnli/multinli_1.0_{split}.jsonl", "".join(lines)


XNLI_COLUMNS = (
    "language gold_label sentence1_binary_parse sentence2_binary_parse sentence1_parse "
    "sentence2_parse sentence1 sentence2 promptID pairID genre label1 label2 label3 label4 label5 "
    "sentence1_tokenized sentence2_tokenized match").split()


def xnli(source: Source) -> Files:
    """XNLI's columns; those of parses, single votes and tokenised sentences are empty."""
    for split, number in (("dev", 20), ("test", 80)):
        rows = [XNLI_COLUMNS]
        for lang in LANGUAGES:
            for i, (label, *texts) in enumerate(pairs(source, f"xnli {split}", lang, number), 1):
                rows.append([lang, label, "", "", "", "", *texts, str(i), str(i), "toy",
                             *[""] * 7, "True"])
        yield f"xnli/XNLI-1.0/xnli.{split}.tsv", "".join("\t".join(row) + "\n" for row in rows)


# ---- multiple choice


def story(source: Source, rng: Random, topic: int) -> tuple[str, Event]:
    """(two sentences on a topic, the event of a third)."""
    keep = (0.3, 0.8, 0.3, 0.3), (0.3, 0.8, 0.3, 0.3), (0.3, 0.8, 0.0, 0.0)
    events = [source.event(rng, 0.95, chances, topic, firms=0.0) for chances in keep]
    opening = [word for event in events[:2] for word in source.tell(rng, event, ENGLISH)]
    return w.text(opening), events[2]


def hellaswag(source: Source) -> Files:
    """The right ending continues the story's topic, the three others continue other topics. Some
    of the training items that are drawn are written, as in squad2."""
    for split, number, kept in (("train", 600, 300), ("val", 80, 80)):
        rng, lines = source.world.stream("hellaswag", split), []
        for i in range(number):
            stories = [story(source, rng, topic) for topic in range(len(w.TOPICS))]
            label = rng.randrange(len(stories))
            opening, right = stories[label]
            choices = [event._replace(who=right.who) for _, event in stories]
            source.used.update(event.concepts() for event in choices)
            actor, *_ = source.world.realise(right, ENGLISH)
            endings = [w.text(source.world.realise(event, ENGLISH)[1:]) for event in choices]
            lines.append(dump({
                "ind": i, "ctx_a": opening, "ctx_b": actor.form, "label": label,
                "endings": endings}))
        yield f"hellaswag/hellaswag_{split}.jsonl", "".join(lines[:kept])


# ---- tagging


def tagged(source: Source, purpose: str, lang: str, number: int, questions: float,
           firms: float = 0.2) -> Iterator[list[Word]]:
    """Sentences, some of what is usual and some of what is not; `questions`: their share."""
    rng = source.world.stream(purpose, lang)
    for _ in range(number):
        event = source.event(rng, rng.choice((0.0, 0.8)), (0.5, 0.6, 0.6, 0.6), firms=firms)
        if rng.random() < questions:
            yield source.world.realise(event, lang, asked=rng.choice(can_ask(event)))
        else:
            yield source.tell(rng, event, lang)


def ccg(source: Source) -> Files:
    """Words TAB supertags; tags_to_id numbers them as strings, as jiant's file does."""
    numbers = {}
    for split, number, kept in (("train", 900, 300), ("dev", 100, 60)):
        lines = []
        for words in tagged(source, f"ccg {split}", ENGLISH, number, 0.3):
            tags = [word.supertag for word in words]
            lines.append(f"{w.text(words)}\t{' '.join(tags)}\n")
            for tag in tags:
                numbers.setdefault(tag, str(len(numbers)))
        yield f"ccg/ccg.{split}", "".join(lines[:kept])
    yield "ccg/tags_to_id.json", dump(numbers)


def conllu(number: int, words: list[Word]) -> str:
    """One sentence as in a treebank."""
    lines = [f"{i}\t{word.form}\t_\t{word.upos}\t_\t_\t{head}\t{relation}\t_\t_\n"
             for i, (word, (head, relation)) in enumerate(zip(words, w.tree(words)), 1)]
    return f"# sent_id = {number}\n{''.join(lines)}\n"


def udpos(source: Source) -> Files:
    splits = [("train", ENGLISH, 250), ("dev", ENGLISH, 50)]
    for split, lang, number in splits + [("test", lang, 80) for lang in LANGUAGES]:
        folder = "UD_" + lang.title().replace("-", "") + "-Toy"
        sentences = enumerate(tagged(source, f"udpos {split}", lang, number, 0.2), 1)
        yield (f"ud/{folder}/{lang}_toy-ud-{split}.conllu",
               "".join(conllu(*sentence) for sentence in sentences))


def panx(source: Source) -> Files:
    """Names differ from language to language, as all words do."""
    for lang in LANGUAGES:
        train, dev = (250, 50) if lang == ENGLISH else (10, 10)
        for split, number in (("train", train), ("dev", dev), ("test", 80)):
            sentences = tagged(source, f"panx {split}", lang, number, 0.0, firms=0.4)
            yield f"panx/{lang}/{split}", "".join(named(lang, words) for words in sentences)


def named(lang: str, words: list[Word]) -> str:
    """One sentence in PAN-X's form."""
    return "".join(f"{lang}:{word.form}\t{word.name}\n" for word in words) + "\n"


# ---- retrieval and running text


def tatoeba(source: Source) -> Files:
    for lang in LANGUAGES:
        if lang == ENGLISH:
            continue
        rng = source.world.stream("tatoeba", lang)
        events = [source.event(rng, 0.3, (0.5, 0.5, 0.5, 0.5)) for _ in range(100)]
        for side, name in ((lang, lang), (ENGLISH, "eng")):
            lines = [w.text(source.world.realise(event, side)) + "\n" for event in events]
            yield f"tatoeba/v1/tatoeba.{lang}-eng.{name}", "".join(lines)


def topic_document(source: Source, rng: Random, lang: str) -> list[list[Word]]:
    """Four sentences on what is usual: words can be foretold from the world's facts."""
    topic = rng.randrange(len(w.TOPICS))
    events = [source.event(rng, 0.85, (0.5, 0.7, 0.7, 0.7), topic, firms=0.1, once=False)
              for _ in range(4)]
    return [source.tell(rng, event, lang) for event in events]


def news_document(source: Source, rng: Random, lang: str) -> list[list[Word]]:
    """Three events of any kind, each told once more before or after, or asked and answered: words
    can be looked up elsewhere in the text, which is what questions need. (With one or two events a
    word's type is enough to find it, and looking up is not learned.) In other words now and then:
    what means the same stands in the same place."""
    events = [source.event(rng, 0.1, (0.6, 0.6, 0.9, 0.9), once=False) for _ in range(3)]
    told_once = [source.tell(rng, event, lang) for event in events]
    before, after = [], []
    for event in rng.sample(events, len(events)):
        again = source.tell(rng, reword(source, rng, event), lang)
        if rng.random() < 0.5:
            asked = rng.choice(can_ask(event))
            again = source.world.realise(ask_about(rng, event, asked), lang, asked=asked) + again
        rng.choice((before, after)).append(again)
    return before + told_once + after


def reword(source: Source, rng: Random, event: Event) -> Event:
    """The same in other words: now and then a synonym for the verb or the adjective, unless the
    sentence would then stand in a data set."""
    other = event._replace(**{part: rng.choice(w.synonyms(getattr(event, part)))
                              for part in ("verb", "adjective")
                              if getattr(event, part) and rng.random() < 0.25})
    return event if other.concepts() in source.used else other


def switch(source: Source, rng: Random, words: list[Word], lang: str) -> list[Word]:
    """30 % of the words that each language has its own form of, a quarter of all, in another
    language, which is drawn by its amount of text."""
    others = [other for other in LANGUAGES if other != lang]
    other = rng.choices(others, [LANGUAGES[name].text for name in others])[0]
    forms = source.world.forms[other]
    return [word._replace(form=forms[word.concept])
            if word.concept in forms and rng.random() < 0.3 else word for word in words]


def documents(source: Source, lang: str, number: int, news: float, purpose: str) -> str:
    """Pretraining text, one document a line; news: share of news documents."""
    rng, lines = source.world.stream("text", purpose, lang), []
    for _ in range(number):
        write = news_document if rng.random() < news else topic_document
        words = [word for sentence in write(source, rng, lang) for word in sentence]
        if rng.random() < 0.5:
            words = switch(source, rng, words, lang)
        lines.append(w.text(words) + "\n")
    return "".join(lines)


def mlm(source: Source) -> Files:
    """A sample of the kind of text that the encoder was pretrained on, for `--inter ...+mlm`."""
    for lang, language in LANGUAGES.items():
        number = int(120 * language.text)
        yield f"text/mlm/{lang}.txt", documents(source, lang, number, 0.5, "sample")


def world_file(source: Source) -> str:
    """properties: of each language its script, the order of its words, and its pretraining text as
    a share of the full amount."""
    properties = {name: {"script": unicodedata.name(language.consonants[0]).split()[0].title(),
                         "order": "SOV" if language.verb_last else "SVO", "text": language.text}
                  for name, language in LANGUAGES.items()}
    return dump({"world": "toy", "seed": source.world.seed, "english": ENGLISH,
                 "languages": list(LANGUAGES), "notice": NOTICE, "properties": properties})


def build(source: Source) -> dict[str, str]:
    """All data files of a world: path below data/ -> contents. Test sets come late: some training
    items are made from drawn events without asking whether they are new."""
    files = {}
    for make in (squad, squad2, mnli, hellaswag, ccg, tydiqa, xnli, udpos, panx, tatoeba, mlm):
        files |= make(source)
    masked = [hide_a_word(files[f"text/mlm/{lang}.txt"]) for lang in list(LANGUAGES)[:5]]
    return files | {"world.json": dump(json.loads(world_file(source)) | {"fill_mask": masked})}


def hide_a_word(text: str) -> str:
    """The first sentence of a text with its third word masked, for `stilts.py --check`."""
    words = text.split(".")[0].split()
    return " ".join([*words[:2], "<mask>", *words[3:], "."])


def write_files(folder: Path, files: dict[str, str]) -> None:
    for name, contents in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents.encode("utf-8"))
