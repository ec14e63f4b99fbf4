"""The rest of the toy world's data sets: those of the other intermediate tasks and targets.

They are drawn after the first ones (files.py), from streams of their own, and tell no event that
those tell, nor one of each other, but for XQuAD-R, which is XQuAD's passages again. The text that
the encoder is pretrained on avoids the first sets' events only (README says how many of these stand
in it). Parallel sets tell the same events in all languages, as the real ones do.
"""

import json
from collections.abc import Callable
from random import Random

from toy import files as first
from toy import words
from toy import world as w
from toy.files import Files, dump
from toy.world import ENGLISH, LANGUAGES, SLOTS, Event, Source, World

OTHERS = [lang for lang in LANGUAGES if lang != ENGLISH]
STATEMENT = (0.5, 0.8, 0.5, 0.5)               # chances that number, adjective, place, day are told
USUAL = (0.3, 1.0, 0.3, 0.3)


def table(rows: list[list[str]], mark: str) -> str:
    """Rows as lines; no text of this world holds a tab, a comma or a quotation mark."""
    return "".join(mark.join(row) + "\n" for row in rows)


# ---- pairs of texts


def snli(source: Source) -> Files:
    for split, number in (("train", 150), ("dev", 40)):
        lines = [dump({"gold_label": label, "sentence1": premise, "sentence2": hypothesis})
                 for label, premise, hypothesis
                 in first.pairs(source, f"snli {split}", ENGLISH, number)]
        yield f"snli/snli_1.0_{split}.jsonl", "".join(lines)


def anli(source: Source) -> Files:
    """Round n has contexts of n sentences; the hypothesis takes up one of them."""
    for sentences in (1, 2, 3):
        for split, number in (("train", 120), ("dev", 40)):
            rng, lines = source.world.stream("anli", sentences, split), []
            for i in range(number):
                label = rng.choice(("contradiction", "entailment", "neutral"))
                premise, hypothesis = first.inference(source, rng, label)
                events = [premise, *(beside(source, rng, premise) for _ in range(1, sentences))]
                lines.append(dump({
                    "uid": f"{sentences}-{i}",
                    "context": tell_all(source, rng, rng.sample(events, len(events)), ENGLISH),
                    "hypothesis": tell_all(source, rng, [hypothesis], ENGLISH),
                    "label": label[0]}))
            yield f"anli_v1.0/R{sentences}/{split}.jsonl", "".join(lines)


def tell_all(source: Source, rng: Random, events: list[Event], lang: str) -> str:
    return " ".join(w.text(source.tell(rng, event, lang)) for event in events)


def beside(source: Source, rng: Random, premise: Event) -> Event:
    """Another event, often with the same actor or the same action, but not with both."""
    while True:
        like = premise if rng.random() < 0.5 else None
        event = source.event(rng, 0.0, STATEMENT, like=like, once=False)
        if (event.who, event.noun) != (premise.who, premise.noun):
            source.used.add(event.concepts())
            return event


def scrambled(source: Source, rng: Random, is_same: bool) -> list[Event]:
    """What a firm does in another place than its own, and the same again, in half of the cases with
    a synonym for the verb. Not the same: the two places exchanged, "A bank ... in B" for "B bank
    ... in A". Both have the same words."""
    while True:
        event = source.event(rng, 0.0, (0.5, 0.5, 1.0, 0.5), firms=1.0, once=False)
        verb = w.synonyms(event.verb)[0] if rng.random() < 0.5 else event.verb
        other, (place, firm) = event._replace(verb=verb), event.who
        if not is_same:
            other = other._replace(who=(event.place, firm), place=place)
        if place != event.place and other.concepts() not in source.used:
            source.used |= {event.concepts(), other.concepts()}
            return [event, other]


def qqp(source: Source) -> Files:
    """What pawsx does with statements, as questions (PAWS has such pairs, from Quora's)."""
    for split, number in (("train", 300), ("dev", 50)):
        rng = source.world.stream("qqp", split)
        rows = ["id qid1 qid2 question1 question2 is_duplicate".split()]
        for i in range(number):
            is_same = rng.random() < 0.5
            events = scrambled(source, rng, is_same)
            asked = rng.choice([wh for wh in ("what", "how-many", "when")
                                if getattr(events[0], SLOTS[wh])])
            questions = [w.text(source.world.realise(event, ENGLISH, asked=asked, fronted=front))
                         for event, front in zip(events, rng.sample(["", "where"], 2))]
            rows.append([str(i), str(2 * i), str(2 * i + 1), *questions, str(int(is_same))])
        yield f"qqp/{split}.tsv", table(rows, "\t")


def pawsx(source: Source) -> Files:
    """Pairs of the same words in another order, in parallel; dev is short where it is not used."""
    yield f"pawsx/x-final/{ENGLISH}/train.tsv", paraphrases(source, "train", 300)(ENGLISH)
    dev, test = paraphrases(source, "dev", 40), paraphrases(source, "test", 40)
    for lang in LANGUAGES:
        rows = 41 if lang == ENGLISH else 11
        yield f"pawsx/x-final/{lang}/dev_2k.tsv", "".join(dev(lang).splitlines(True)[:rows])
        yield f"pawsx/x-final/{lang}/test_2k.tsv", test(lang)


def paraphrases(source: Source, split: str, number: int) -> Callable[[str], str]:
    """language -> the split's file."""
    rng, items = source.world.stream("pawsx", split), []
    for _ in range(number):
        is_same = rng.random() < 0.5
        events = scrambled(source, rng, is_same)
        there = [wh for wh in ("where", "when") if getattr(events[0], SLOTS[wh])]
        items.append((is_same, list(zip(events, rng.sample(["", *there], 2)))))

    def told(lang: str) -> str:
        rows = ["id sentence1 sentence2 label".split()]
        for i, (is_same, pair) in enumerate(items):
            texts = [w.text(source.world.realise(event, lang, fronted=front))
                     for event, front in pair]
            rows.append([str(i), *texts, str(int(is_same))])
        return table(rows, "\t")
    return told


# ---- multiple choice


def topic_of(event: Event) -> int:
    return w.NOUNS.index(event.noun) // 4


def goes_with(source: Source, rng: Random, events: list[Event], topics: list[int]) -> list[Event]:
    """What the firm of the first event could do else, one thing of each topic: without a noun, verb
    or adjective of what is told."""
    told, found = frozenset().union(*(event.concepts() for event in events)), []
    while len(found) < len(topics):
        event = source.event(rng, 1.0, (0.3, 1.0, 0.0, 0.0), topics[len(found)], once=False)
        event = event._replace(who=events[0].who)
        new = not {event.noun, event.verb, event.adjective} & told
        if new and event.concepts() not in source.used:
            found.append(event)
    return found


def thing(event: Event) -> str:
    return f"{event.adjective} {event.noun}"


def cosmosqa(source: Source) -> Files:
    """What two firms do, the first of them twice, and a question about the first: the right answer
    is of its topic, but not told; a wrong one is of the second's."""
    for split, number in (("train", 200), ("valid", 50)):
        rng = source.world.stream("cosmosqa", split)
        rows = ["id context question answer0 answer1 answer2 answer3 label".split()]
        for i in range(number):
            topics = rng.sample(range(len(w.TOPICS)), 4)
            events = two_firms(source, rng, topics)
            answers = [thing(event) for event in goes_with(source, rng, events, topics)]
            firm = " ".join(source.world.forms[ENGLISH][word] for word in events[0].who)
            shown = rng.sample(answers, 4)
            rows.append([str(i), tell_all(source, rng, rng.sample(events, 3), ENGLISH),
                         f"{firm} what ?", *shown, str(shown.index(answers[0]))])
        yield f"cosmosqa/{split}.csv", table(rows, ",")


def two_firms(source: Source, rng: Random, topics: list[int]) -> list[Event]:
    """Two events of a firm on the first topic, one of another on the second."""
    while True:
        events = [source.event(rng, 1.0, USUAL, topics[i], firms=1.0, once=False)
                  for i in (0, 0, 1)]
        events[1] = events[1]._replace(who=events[0].who)
        new = {event.concepts() for event in events}
        if len(new) == 3 and events[0].who != events[2].who and not new & source.used:
            source.used |= new
            return events


def commonsenseqa(source: Source) -> Files:
    """What is usual: who does a thing, what someone does a thing to, where someone does it. Train
    asks about half of the persons of each topic, dev about the others; on both sides every place is
    the home of one."""
    forms = source.world.forms[ENGLISH]
    for split, number, half in (("train", 160, slice(2)), ("dev", 40, slice(2, 4))):
        rng, lines = source.world.stream("commonsenseqa", split), []
        persons = [person for people in source.world.people for person in people[half]]
        for i in range(number):
            stem, right, wrong = usual(source.world, rng, persons)
            shown = rng.sample([right, *rng.sample(wrong, 4)], 5)
            choices = [{"label": letter, "text": forms[choice]}
                       for letter, choice in zip("ABCDE", shown)]
            lines.append(dump({"answerKey": "ABCDE"[shown.index(right)], "id": f"{split}-{i}",
                               "question": {"stem": stem, "choices": choices}}))
        yield f"commonsenseqa/{split}_rand_split.jsonl", "".join(lines)


def usual(world: World, rng: Random, persons: list[str]) -> tuple[str, str, list[str]]:
    """(question, right answer, wrong answers) about one of some persons."""
    person, asked = rng.choice(persons), rng.choice(("who", "what", "where"))
    event = None
    while not event or event.who != (person,):
        event = world.draw_event(rng, 1.0, rng.randrange(len(w.TOPICS)), firms=0.0)
    others = [who for who in persons if who not in world.people[topic_of(event)]]
    right = {"who": person, "what": event.noun, "where": event.place}[asked]
    wrong = {"who": others, "what": {noun for who in others for noun in world.likes[who]},
             "where": {world.home[who] for who in persons} - {event.place}}[asked]
    event = event._replace(number=None, adjective=None, day=None,
                           place=event.place if asked == "where" else None)
    return w.text(world.realise(event, ENGLISH, asked=asked)), right, sorted(wrong)


def siqa(source: Source) -> Files:
    """Who, or what, usually goes with what is told: of the same topic, but not told."""
    for split, number in (("trn", 150), ("dev", 50)):
        rng, lines = source.world.stream("siqa", split), []
        for _ in range(number):
            topics = rng.sample(range(len(w.TOPICS)), 3)
            event = source.event(rng, 1.0, USUAL, topics[0], firms=1.0)
            asked = rng.choice(("who", "what"))
            answers = [source.world.forms[ENGLISH][rng.choice(source.world.people[topic])]
                       for topic in topics]
            if asked == "what":
                answers = [thing(other) for other in goes_with(source, rng, [event], topics)]
            shown = rng.sample(answers, 3)
            lines.append(dump({
                "context": tell_all(source, rng, [event], ENGLISH), "question": f"{asked} ?",
                **{f"answer{letter}": answer for letter, answer in zip("ABC", shown)},
                "correct": "ABC"[shown.index(answers[0])]}))
        yield f"siqa/socialIQa_v1.4_{split}.jsonl", "".join(lines)


def copa(source: Source) -> Files:
    for split, number in (("train", 150), ("val", 50)):
        yield f"copa/{split}.jsonl", alternatives(source, "copa", split, number)(ENGLISH)


def xcopa(source: Source) -> Files:
    for split, number in (("val", 5), ("test", 40)):
        told = alternatives(source, "xcopa", split, number)
        for lang in OTHERS:
            yield f"xcopa/data/{lang}/{split}.{lang}.jsonl", told(lang)


def alternatives(source: Source, name: str, split: str, number: int) -> Callable[[str], str]:
    """language -> COPA's lines: which of two things the same firm also does. Whether the cause or
    the effect is asked for means nothing in this world."""
    rng, items = source.world.stream(name, split), []
    for _ in range(number):
        topics = rng.sample(range(len(w.TOPICS)), 2)
        premise = source.event(rng, 1.0, USUAL, topics[0], firms=1.0)
        choices = goes_with(source, rng, [premise], topics)
        source.used |= {event.concepts() for event in choices}
        items.append((premise, choices, rng.randrange(2), rng.choice(("cause", "effect"))))

    def told(lang: str) -> str:
        teller, lines = source.world.stream(name, split, "order"), []   # alike in every language
        for i, (premise, choices, label, asked) in enumerate(items):
            texts = [tell_all(source, teller, [event], lang) for event in (premise, *choices)]
            lines.append(dump({"premise": texts[0], "choice1": texts[1 + label],
                               "choice2": texts[2 - label], "question": asked, "label": label,
                               "idx": i}))
        return "".join(lines)
    return told


# ---- question answering in parallel


def parallel(source: Source, name: str, passages: int, squad: str) -> Callable[[str], list[dict]]:
    """language -> paragraphs of SQuAD v1.1 with four questions each: the same events, told alike,
    and the same questions with the same ids. squad: a file none of whose questions is asked."""
    rng, items = source.world.stream(name), []
    for _ in range(passages):
        events, asked = first.passage(source, rng), {}
        while len(asked) < 4:
            question = first.ask(rng, events)
            form = ask_in(source, question, ENGLISH)
            if json.dumps(form) not in squad:
                asked[form] = question
        items.append((events, list(asked.values())))

    def told(lang: str) -> list[dict]:
        teller, paragraphs = source.world.stream(name, "order"), []
        for events, questions in items:
            sentences = [source.tell(teller, event, lang) for event in events]
            qas = [{"question": ask_in(source, question, lang), "id": f"{len(paragraphs)}-{i}",
                    "answers": [first.find_answer(sentences, question)]}
                   for i, question in enumerate(questions)]
            paragraphs.append({"context": " ".join(map(w.text, sentences)), "qas": qas})
        return paragraphs
    return told


def ask_in(source: Source, question: first.Question, lang: str) -> str:
    return w.text(source.world.realise(question.tells, lang, asked=question.asked))


def article(paragraphs: list[dict]) -> str:
    return dump({"version": "1.1", "data": [{"title": "toy", "paragraphs": paragraphs}]})


def breaks(context: str) -> list[list[int]]:
    """[start, end) of the sentences of a passage."""
    ends = [i + 1 for i, character in enumerate(context) if character == "."]
    return [[before and before + 1, end] for before, end in zip([0, *ends], ends)]


def xquad(source: Source, squad: str) -> Files:
    """XQuAD, and XQuAD-R for LAReQA: the same with the borders of sentences."""
    told = parallel(source, "xquad", 10, squad)
    for lang in LANGUAGES:
        yield f"xquad/xquad.{lang}.json", article(told(lang))
        yield f"lareqa/xquad-r/{lang}.json", article([
            paragraph | {"sentence_breaks": breaks(paragraph["context"])}
            for paragraph in told(lang)])


def mlqa(source: Source, squad: str) -> Files:
    for split, passages in (("dev", 2), ("test", 10)):
        told = parallel(source, f"mlqa {split}", passages, squad)
        for lang in LANGUAGES:
            name = f"mlqa/MLQA_V1/{split}/{split}-context-{lang}-question-{lang}.json"
            yield name, article(told(lang))


# ---- bitext mining


def bucc2018(source: Source) -> Files:
    """Two lists of sentences, a third of each with its translation in the other. Half of those
    without share their actor or their action with one that has it."""
    for lang in OTHERS:
        for part, number in (("sample", 30), ("training", 54)):
            rng, name = source.world.stream("bucc", part, lang), f"bucc2018/{lang}-en/{lang}-en"
            pairs = [source.event(rng, 0.3, STATEMENT) for _ in range(number // 3)]
            ids = {}
            for side, spoken in (("en", ENGLISH), (lang, lang)):
                alone = [source.event(rng, 0.3, STATEMENT, like=rng.choice([None, other]))
                         for other in rng.choices(pairs, k=number - len(pairs))]
                events = rng.sample([*pairs, *alone], number)
                ids[side] = {event: f"{side}-{i:09}" for i, event in enumerate(events, 1)}
                rows = [[ids[side][event], tell_all(source, rng, [event], spoken)]
                        for event in events]
                yield f"{name}.{part}.{side}", table(rows, "\t")
            gold = sorted([ids[lang][event], ids["en"][event]] for event in pairs)
            yield f"{name}.{part}.gold", table(gold, "\t")


def more_panx(source: Source, files: dict[str, str]) -> Files:
    """Training sentences of the other languages: 50 with the ten that they had before."""
    for lang in OTHERS:
        sentences = first.tagged(source, "panx more", lang, 40, 0.0, firms=0.4)
        name = f"panx/{lang}/train"
        yield name, files[name] + "".join(first.named(lang, words) for words in sentences)


def build(source: Source) -> dict[str, str]:
    """All data files of a world: path below data/ -> contents. `source` learns of the first sets'
    events alone, so that what is pretrained on does not change with the others."""
    files = first.build(source)
    later, squad = Source(source.world), files["squad/train-v1.1.json"]
    later.used |= source.used
    for make in (snli, anli, qqp, pawsx, cosmosqa, commonsenseqa, siqa, copa, xcopa, bucc2018,
                 words.chunk, words.semtag, words.supersense, words.cola):
        files |= make(later)
    files |= dict(xquad(later, squad)) | dict(mlqa(later, squad))
    return files | dict(more_panx(later, files))
