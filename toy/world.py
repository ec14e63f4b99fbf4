"""The miniature world: its things, its facts, and one grammar that tells of them in six languages.

    facts --draw_event--> Event --realise--> [Word, ...] --text--> "vilo buys the cheap lamp ."

An Event is a meaning without a language. `realise` is the only place where a language enters, so
every language can say exactly the same things, and differs from toy-English in what its row of
LANGUAGES says and in nothing else (after Dufter and Schuetze 2020, arXiv 2005.00396, and K et al.
2020, arXiv 1912.07840):

    toy-en      English words (not inflected, no capitals: "mira buys the lamp in where ?")
    toy-lex     own words in an own alphabet; digits and punctuation are all that languages share
    toy-order   as toy-lex, and verb last, adpositions, articles and adjectives after the noun
    toy-case    as toy-lex, and a suffix on every object, place and day
    toy-low     as toy-lex, and little pretraining text
    toy-stack   all of these

Words carry the tags of the data sets (universal part of speech, CCG supertag, PAN-X name type) and
the wh-word that asks for them. Everything is a function of the world's seed.
"""

from random import Random
from typing import NamedTuple

ENGLISH = "toy-en"


class Language(NamedTuple):
    """One language and its properties."""

    name: str
    consonants: str = "bdfgklmnprstvz"
    vowels: str = "aeiou"
    verb_last: bool = False
    cases: bool = False
    text: float = 1.0           # pretraining text, as a share of the full amount


LANGUAGES = {language.name: language for language in (
    Language(ENGLISH),
    Language("toy-lex",   "бвгджзклмнпрстфх", "аеиоуы"),
    Language("toy-order", "βγδζθκλμνπρστφχ",  "αεηιου", verb_last=True),
    Language("toy-case",  "բգդզթլկմնպռստփ",   "աեիոը",  cases=True),
    Language("toy-low",   "ⴱⴳⴷⴼⴽⵍⵎⵏⵔⵙⵜⵣ",     "ⴰⵉⵓⴻ",   text=0.125),
    Language("toy-stack", "ბგდვზთკლმნპრსტ",   "აეიოუ", verb_last=True, cases=True,
             text=0.125),
)}

# Nouns, verbs and adjectives of each topic, four of each. The first two are one side of the topic,
# the last two the other. Verbs (adjectives) of one side mean the same, those of two sides the
# opposite: that is what the inference data is about.
TOPICS = (
    ("lamp carpet basket mirror", "buys purchases sells vends",
     "costly expensive cheap inexpensive"),
    ("soup stew bread pie", "heats warms cools chills", "sweet sugary bitter sour"),
    ("table chair cart ladder", "mends repairs breaks smashes", "sturdy strong weak frail"),
    ("poem song letter story", "praises lauds mocks scorns", "long lengthy short brief"),
)
NOUNS, VERBS, ADJECTIVES = (" ".join(column).split() for column in zip(*TOPICS))
DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
NUMBERS = "2 3 4 5 6 7 8 9".split()
FIRMS = "bank guild club".split()
PERSONS = [f"person{i}" for i in range(4 * len(TOPICS))]
PLACES = [f"place{i}" for i in range(2 * len(TOPICS))]
WH = ("who", "what", "how-many", "where", "when")
FUNCTION_WORDS = ("the", "in", "on", *WH)
CONCEPTS = (*NOUNS, *VERBS, *ADJECTIVES, *DAYS, *FIRMS, *PERSONS, *PLACES, *FUNCTION_WORDS)
CASES = ("what", "where", "when")              # the parts of a sentence whose noun takes a suffix


class Event(NamedTuple):
    """Who does what to how many of which thing, where and when; None is not told."""

    who: tuple[str, ...]                       # (person,) or (place, firm), as in "seta bank"
    verb: str
    number: str | None                         # None: "the"
    adjective: str | None
    noun: str
    place: str | None
    day: str | None

    def concepts(self) -> frozenset[str]:
        """The meaning without its form: equal for sentences that say the same in any language."""
        return frozenset(filter(None, (*self.who, *self[1:])))


SLOTS = {"who": "who", "what": "noun", "how-many": "number", "where": "place", "when": "day"}


class Word(NamedTuple):
    """One word of a sentence."""

    form: str
    concept: str                # the same in every language
    wh: str                     # the wh-word that asks for it; "verb"; "" for all other words
    upos: str
    supertag: str               # CCG, meant for toy-English
    name: str                   # PAN-X tag


def text(words: list[Word]) -> str:
    """The words as a line; all toy languages put blanks around punctuation."""
    return " ".join(word.form for word in words)


def role(word: Word) -> str:
    """What a word does in its sentence: who, verb, count ("the" or a number), adjective, noun, in,
    where, on, when, or its punctuation mark; a wh-word has the role of what it asks for."""
    asked = {"what": "noun", "how-many": "count"}
    if word.concept in WH:
        return asked.get(word.concept, word.concept)
    parts = {"DET": "count", "NUM": "count", "ADJ": "adjective"}
    return parts.get(word.upos) or asked.get(word.wh, word.wh) or word.concept


HEADS = {"who": "verb", "count": "noun", "adjective": "noun", "noun": "verb", "in": "where",
         "where": "verb", "on": "when", "when": "verb", ".": "verb", "?": "verb"}
RELATIONS = {"who": "nsubj", "adjective": "amod", "noun": "obj", "in": "case", "where": "obl",
             "on": "case", "when": "obl", ".": "punct", "?": "punct"}


def tree(words: list[Word]) -> list[tuple[int, str]]:
    """(head, relation) of each word as in Universal Dependencies; heads count from 1, the verb's is
    0. In a name of two words the firm is the head."""
    place = {role(word): i for i, word in enumerate(words, 1)}       # of equal roles the last
    edges = []
    for i, word in enumerate(words, 1):
        name = role(word)
        if name == "verb":
            edges.append((0, "root"))
        elif i < place[name]:
            edges.append((place[name], "compound"))
        elif name == "count":
            edges.append((place["noun"], "det" if word.upos == "DET" else "nummod"))
        else:
            edges.append((place[HEADS[name]], RELATIONS[name]))
    return edges


def synonyms(word: str) -> list[str]:
    """The other verb or adjective that means the same (a list of one)."""
    return [other for other in _side(word, 0) if other != word]


def opposites(word: str) -> list[str]:
    """The two verbs or adjectives that mean the opposite."""
    return _side(word, 1)


def _side(word: str, flip: int) -> list[str]:
    words = VERBS if word in VERBS else ADJECTIVES
    side = words.index(word) // 2 ^ flip
    return words[2 * side:2 * side + 2]


class World:
    """The facts and dictionaries that one seed gives.

    forms[lang][concept] is a word, suffixes[lang][wh] a case ending. The facts say who belongs to a
    topic, where a person lives and what it likes, on which day one does what, and how many there
    are of what kind. Whoever reads much text can learn them. They make words predictable, each in
    its own way, and that is what languages can be aligned by.
    """

    def __init__(self, seed: int):
        self.seed = seed
        self.forms = {name: self._dictionary(lang) for name, lang in LANGUAGES.items()}
        self.suffixes = {name: self._suffixes(lang) for name, lang in LANGUAGES.items()}
        rng = self.stream("facts")
        persons, places = rng.sample(PERSONS, len(PERSONS)), rng.sample(PLACES, len(PLACES))
        count = len(TOPICS)
        self.people = [persons[topic::count] for topic in range(count)]
        self.home = {who: places[i % len(places)] for i, who in enumerate(persons)}
        self.likes = {who: rng.sample(NOUNS[4 * topic:4 * topic + 4], 2)
                      for topic, people in enumerate(self.people) for who in people}
        verbs, adjectives = rng.sample(VERBS, len(VERBS)), rng.sample(ADJECTIVES, len(ADJECTIVES))
        self.day = {verb: DAYS[i % len(DAYS)] for i, verb in enumerate(verbs)}
        self.number = {word: NUMBERS[i % len(NUMBERS)] for i, word in enumerate(adjectives)}

    def stream(self, *names) -> Random:
        """Random numbers of its own for each purpose: no data set shares its draws with another."""
        return Random("/".join(map(str, (self.seed, *names))))

    def _dictionary(self, language: Language) -> dict[str, str]:
        rng, forms = self.stream("words", language.name), {}
        invented = (*PERSONS, *PLACES) if language.name == ENGLISH else CONCEPTS
        for concept in CONCEPTS:
            forms[concept] = concept
            if concept not in invented:
                continue
            syllables = 1 if concept in FUNCTION_WORDS else rng.choice((2, 2, 3))
            while forms[concept] in CONCEPTS or list(forms.values()).count(forms[concept]) > 1:
                form = "".join(rng.choice(language.consonants) + rng.choice(language.vowels)
                               for _ in range(syllables))
                forms[concept] = form + rng.choice(("", rng.choice(language.consonants)))
        return forms

    def _suffixes(self, language: Language) -> dict[str, str]:
        if not language.cases:
            return dict.fromkeys(CASES, "")
        rng = self.stream("cases", language.name)
        vowels = rng.sample(language.vowels, len(CASES))
        consonants = rng.sample(language.consonants, len(CASES))
        return {wh: vowel + end for wh, vowel, end in zip(CASES, vowels, consonants)}

    def draw_event(self, rng: Random, know: float, topic: int, firms: float) -> Event:
        """An event of a topic with all its parts; each part follows the facts with probability
        `know`, else it is any. `firms`: share of events done by a firm, not a person."""
        def pick(usual: list[str], any_of: list[str]) -> str:
            return rng.choice(usual if rng.random() < know else any_of)

        person = pick(self.people[topic], PERSONS)
        noun = pick(self.likes[person], NOUNS)
        side = NOUNS.index(noun) // 2 * 2
        verb = pick(VERBS[side:side + 2], VERBS)
        adjective = pick(ADJECTIVES[side:side + 2], ADJECTIVES)
        number = pick([self.number[adjective]], NUMBERS)
        place, day = pick([self.home[person]], PLACES), pick([self.day[verb]], DAYS)
        is_firm = rng.random() < firms
        who = (rng.choice(PLACES), rng.choice(FIRMS)) if is_firm else (person,)
        return Event(who, verb, number, adjective, noun, place, day)

    # ---- the grammar

    def realise(self, event: Event, lang: str, asked="", fronted="") -> list[Word]:
        """The words of a sentence. asked: a wh-word, which takes the place of what it asks for and
        makes this a question; fronted: "where" or "when", puts that part first. What the event does
        not tell is left out."""
        parts = {
            "who": self._who(event, lang),
            "verb": [self._word(lang, event.verb, "verb", "VERB", "(S[dcl]\\NP)/NP")],
            "what": self._object(event, lang),
            "where": self._adjunct(lang, "in", event.place, "where", "PROPN", fronted),
            "when": self._adjunct(lang, "on", event.day, "when", "NOUN", fronted),
        }
        order = ["who", "verb", "what", "where", "when"]
        if LANGUAGES[lang].verb_last:
            order = ["who", "where", "when", "what", "verb"]
        order.sort(key=lambda part: part != fronted)           # stable: only `fronted` moves
        words = [word for part in order for word in parts[part]]
        if asked:
            words = self._ask(words, lang, asked)
        end = "?" if asked else "."
        return [*words, Word(end, end, "", "PUNCT", end, "O")]

    def _word(self, lang, concept, wh, upos, supertag, name="O") -> Word:
        form = self.forms[lang].get(concept, concept)           # digits are the same everywhere
        return Word(form, concept, wh, upos, supertag, name)

    def _ask(self, words: list[Word], lang: str, asked: str) -> list[Word]:
        """The wh-word for the words it asks for; it takes the supertag of the whole phrase."""
        there = [i for i, word in enumerate(words) if word.wh == asked]
        first, last = there[0], there[-1]
        supertags = {"what": "N", "how-many": "NP[nb]/N"}
        upos = "PRON" if asked in ("who", "what") else "ADV"
        wh = self._word(lang, asked, "", upos, supertags.get(asked, "NP"))
        return [*words[:first], wh, *words[last + 1:]]

    def _who(self, event: Event, lang: str) -> list[Word]:
        if len(event.who) == 1:
            return [self._word(lang, event.who[0], "who", "PROPN", "NP", "B-PER")]
        place, firm = event.who
        return [self._word(lang, place, "who", "PROPN", "N/N", "B-ORG"),
                self._word(lang, firm, "who", "NOUN", "N", "I-ORG")]

    def _object(self, event: Event, lang: str) -> list[Word]:
        """"3 cheap lamp"; no toy language has a plural."""
        if event.number:
            words = [self._word(lang, event.number, "how-many", "NUM", "NP[nb]/N")]
        else:
            words = [self._word(lang, "the", "", "DET", "NP[nb]/N")]
        if event.adjective:
            words.append(self._word(lang, event.adjective, "what", "ADJ", "N/N"))
        words.append(self._head(lang, event.noun, "what", "NOUN", "N"))
        return words[::-1] if LANGUAGES[lang].verb_last else words

    def _adjunct(self, lang, adposition, concept, wh, upos, fronted) -> list[Word]:
        if concept is None:
            return []
        supertag = "(S/S)/NP" if fronted == wh else "((S\\NP)\\(S\\NP))/NP"
        words = [self._word(lang, adposition, "", "ADP", supertag),
                 self._head(lang, concept, wh, upos, "NP", "B-LOC" if wh == "where" else "O")]
        return words[::-1] if LANGUAGES[lang].verb_last else words

    def _head(self, lang, concept, wh, upos, supertag, name="O") -> Word:
        word = self._word(lang, concept, wh, upos, supertag, name)
        return word._replace(form=word.form + self.suffixes[lang][wh])


def told(rng: Random, event: Event, number: float, adjective: float, place: float,
         day: float) -> Event:
    """The event with each of these parts kept with the given probability."""
    chances = {"number": number, "adjective": adjective, "place": place, "day": day}
    return event._replace(**{part: None for part, chance in chances.items()
                             if rng.random() >= chance})


class Source:
    """Draws the events of one world and sees to it that none is told in two places."""

    def __init__(self, world: World):
        self.world, self.used = world, set()

    def event(self, rng: Random, know: float, keep: tuple, topic: int | None = None,
              firms: float = 0.2, like: Event | None = None, once: bool = True) -> Event:
        """A new event. keep: chances that number, adjective, place, day are told; like: an event
        it shares its actor or its action with; once=False: may be drawn again, as pretraining text
        is (but nothing of a data set)."""
        while True:
            about = rng.randrange(len(TOPICS)) if topic is None else topic
            event = told(rng, self.world.draw_event(rng, know, about, firms), *keep)
            if like:
                shared = rng.choice(({"who": like.who}, {"verb": like.verb, "noun": like.noun}))
                event = event._replace(**shared)
            if event.concepts() not in self.used:
                break
        if once:
            self.used.add(event.concepts())
        return event

    def tell(self, rng: Random, event: Event, lang: str) -> list[Word]:
        """A statement; in one of five, in every language, the place or the day comes first."""
        there = [wh for wh in ("where", "when") if getattr(event, SLOTS[wh])]
        fronted = rng.choice(there) if there and rng.random() < 0.2 else ""
        return self.world.realise(event, lang, fronted=fronted)
