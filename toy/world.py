"""The miniature world: its things, its facts, and one grammar that tells of them in six languages.

    facts ──draw_event──> Event ──realise──> [Word, Word, ...] ──text──> "vilo buys the cheap lamp in seta ."

An Event is a meaning without a language. `realise` is the only place where a language enters, so every
language says exactly the same things, and differs from toy-English in what its row of LANGUAGES says and
in nothing else (Dufter and Schuetze 2020, arXiv 2005.00396; K et al. 2020, arXiv 1912.07840):

    toy-en      English words (no inflection, no do-support, no capitals: "where mira buys the lamp ?")
    toy-lex     own words in an own alphabet; only digits and punctuation are shared with any other language
    toy-order   toy-lex's property, and verb last, adposition after its noun, adjective and article after theirs
    toy-case    toy-lex's property, and a suffix on every object, place and day
    toy-low     toy-lex's property, and little pretraining text
    toy-stack   all of them

Words come with the tags of the data sets (universal part of speech, CCG supertag, name type) and with the
wh-word that asks for them. Everything is a function of the world's seed.
"""

from random import Random
from typing import NamedTuple

ENGLISH = "toy-en"


class Language(NamedTuple):
    """One language: its alphabet and its properties. `text` is its share of the full amount of pretraining text."""
    name: str
    consonants: str = "bdfgklmnprstvz"
    vowels: str = "aeiou"
    verb_last: bool = False
    cases: bool = False
    text: float = 1.0


LANGUAGES = {language.name: language for language in (
    Language(ENGLISH),
    Language("toy-lex",   "бвгджзклмнпрстфх", "аеиоуы"),
    Language("toy-order", "βγδζθκλμνπρστφχ",  "αεηιου", verb_last=True),
    Language("toy-case",  "բգդզթլկմնպռստփ",   "աեիոը",  cases=True),
    Language("toy-low",   "ⴱⴳⴷⴼⴽⵍⵎⵏⵔⵙⵜⵣ",     "ⴰⵉⵓⴻ",   text=0.125),
    Language("toy-stack", "ბგდვზთკლმნპრსტ",   "აეიოუ",  verb_last=True, cases=True, text=0.125),
)}

# Each topic: nouns, verbs, adjectives, four of each. The first two are one side, the last two the other; the two
# verbs (adjectives) of one side mean the same, those of the two sides the opposite. This carries the NLI data.
TOPICS = (
    ("lamp carpet basket mirror",    "buys purchases sells vends",      "costly expensive cheap inexpensive"),
    ("soup stew bread pie",          "heats warms cools chills",        "sweet sugary bitter sour"),
    ("table chair cart ladder",      "mends repairs breaks smashes",    "sturdy strong weak frail"),
    ("poem song letter story",       "praises lauds mocks scorns",      "long lengthy short brief"),
)
DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
NUMBERS = "2 3 4 5 6 7 8 9".split()
FIRMS = "bank guild club".split()
PERSONS_PER_TOPIC, PLACES_PER_TOPIC = 4, 2
PERSONS = [f"person{i}" for i in range(PERSONS_PER_TOPIC * len(TOPICS))]
PLACES = [f"place{i}" for i in range(PLACES_PER_TOPIC * len(TOPICS))]
NOUNS, VERBS, ADJECTIVES = ([word for topic in TOPICS for word in topic[kind].split()] for kind in range(3))
ASKED = ("who", "what", "how-many", "where", "when")       # a wh-word is also the name of the slot it asks for
FUNCTION_WORDS = ("the", "in", "on", *ASKED)
CONCEPTS = (*NOUNS, *VERBS, *ADJECTIVES, *DAYS, *FIRMS, *PERSONS, *PLACES, *FUNCTION_WORDS)
CASES = ("what", "where", "when")                          # the slots whose head takes a suffix


class Event(NamedTuple):
    """Who does what to how many of which thing, where and when. None: not told (number: "the")."""
    who: tuple[str, ...]                # (person,) or (place, firm): "seta bank"
    verb: str
    number: str | None
    adjective: str | None
    noun: str
    place: str | None
    day: str | None

    def concepts(self) -> frozenset[str]:
        """The meaning without its form: two sentences of any languages say the same if these are equal."""
        return frozenset(filter(None, (*self.who, *self[1:])))


class Word(NamedTuple):
    form: str
    concept: str       # what it means: the same in every language
    slot: str          # the wh-word that asks for it, "verb", or "" for articles, adpositions, punctuation
    upos: str
    supertag: str      # CCG, as CCGbank writes it (toy-English only makes sense)
    name: str          # PAN-X tag


def text(words: list[Word]) -> str:
    return " ".join(word.form for word in words)


def synonyms(word: str) -> list[str]:
    """The words (itself among them) that mean the same as this verb or adjective."""
    return _side(word, same=True)


def opposites(word: str) -> list[str]:
    """The words that mean the opposite of this verb or adjective."""
    return _side(word, same=False)


def _side(word: str, same: bool) -> list[str]:
    words = VERBS if word in VERBS else ADJECTIVES
    at = words.index(word)
    side = at // 2 if same else (at // 2) ^ 1
    return words[2 * side:2 * side + 2]


class World:
    """The facts and the dictionaries that one seed gives.

    forms[lang][concept] is the word, suffixes[lang][slot] its case endings. Facts: which persons and places belong
    to a topic, what a person likes, and for each noun, verb and adjective what it goes with. A reader of much text
    can learn them; they make words predictable, which is what lets languages align (facts differ from word to word).
    """

    def __init__(self, seed: int):
        self.seed = seed
        self.forms = {name: self._dictionary(language) for name, language in LANGUAGES.items()}
        self.suffixes = {name: self._suffixes(language) for name, language in LANGUAGES.items()}
        rng = self.stream("facts")
        persons, places = rng.sample(PERSONS, len(PERSONS)), rng.sample(PLACES, len(PLACES))
        self.people = [persons[t::len(TOPICS)] for t in range(len(TOPICS))]
        self.home, self.likes = {}, {}
        for t, people in enumerate(self.people):
            nouns = NOUNS[4 * t:4 * t + 4]
            for i, person in enumerate(people):
                self.home[person] = places[t::len(TOPICS)][i % PLACES_PER_TOPIC]
                self.likes[person] = rng.sample(nouns, 2)
        self.day = {verb: DAYS[(i + i // 4) % 7] for i, verb in enumerate(rng.sample(VERBS, len(VERBS)))}
        self.number = {word: NUMBERS[i % 8] for i, word in enumerate(rng.sample(ADJECTIVES, len(ADJECTIVES)))}

    def stream(self, *names) -> Random:
        """Random numbers of their own for one purpose, so that no data set shares its draws with another."""
        return Random("/".join(map(str, (self.seed, *names))))

    def _dictionary(self, language: Language) -> dict[str, str]:
        rng, forms, taken = self.stream("words", language.name), {}, set(CONCEPTS)
        for concept in CONCEPTS:
            if language.name == ENGLISH and concept not in PERSONS and concept not in PLACES:
                forms[concept] = concept
                continue
            syllables = 1 if concept in FUNCTION_WORDS else rng.choice((2, 2, 3))
            while True:
                form = "".join(rng.choice(language.consonants) + rng.choice(language.vowels) for _ in range(syllables))
                form += rng.choice(("", rng.choice(language.consonants)))
                if form not in taken:
                    break
            taken.add(form)
            forms[concept] = form
        return forms

    def _suffixes(self, language: Language) -> dict[str, str]:
        if not language.cases:
            return dict.fromkeys(CASES, "")
        rng = self.stream("cases", language.name)
        endings = zip(rng.sample(language.vowels, len(CASES)), rng.sample(language.consonants, len(CASES)))
        return {slot: vowel + consonant for slot, (vowel, consonant) in zip(CASES, endings)}

    # ---- meanings

    def draw_event(self, rng: Random, know: float, topic: int | None = None, firms: float = 0.2) -> Event:
        """An event of a topic (any if None); each part follows the facts with probability `know`, else chance.

        Every slot is filled; `told` decides which of them are said.
        """
        def pick(usual: list[str], all_there_are: list[str]) -> str:
            return rng.choice(usual if rng.random() < know else all_there_are)

        topic = rng.randrange(len(TOPICS)) if topic is None else topic
        person = pick(self.people[topic], PERSONS)
        noun = pick(self.likes[person], NOUNS)
        half = NOUNS.index(noun) // 2 * 2
        verb = pick(VERBS[half:half + 2], VERBS)
        adjective = pick(ADJECTIVES[half:half + 2], ADJECTIVES)
        place = pick([self.home[person]], PLACES)
        who = (rng.choice(PLACES), rng.choice(FIRMS)) if rng.random() < firms else (person,)
        return Event(who, verb, pick([self.number[adjective]], NUMBERS), adjective, noun, place,
                     pick([self.day[verb]], DAYS))

    # ---- forms

    def realise(self, event: Event, lang: str, asked: str | None = None, fronted: str | None = None) -> list[Word]:
        """The sentence for an event; `asked` makes it the question for that slot, `fronted` ("where", "when")
        puts that part first. Slots of the event that are None are left out."""
        first = asked or fronted
        parts = {"who": self._who(event, lang), "verb": [self._word(lang, event.verb, "verb", "VERB", "(S[dcl]\\NP)/NP")],
                 "what": self._object(event, lang, asked),
                 "where": self._adjunct(lang, "in", event.place, "where", "PROPN", first),
                 "when": self._adjunct(lang, "on", event.day, "when", "NOUN", first)}
        order = ["who", "verb", "what", "where", "when"]
        if LANGUAGES[lang].verb_last:
            order = ["who", "where", "when", "what", "verb"]
        if asked in parts:
            parts[asked] = [self._wh(lang, asked)]
        lead = "what" if asked == "how-many" else first
        if lead:
            order.remove(lead)
            order.insert(0, lead)
        end = "?" if asked else "."
        return [word for slot in order for word in parts[slot]] + [Word(end, end, "", "PUNCT", end, "O")]

    def answer(self, event: Event, lang: str, asked: str) -> str:
        """What the question for that slot wants to hear, as the sentence has it (without article and adposition)."""
        return text([word for word in self.realise(event, lang) if word.slot == asked])

    def _word(self, lang: str, concept: str, slot: str, upos: str, supertag: str, name: str = "O") -> Word:
        form = self.forms[lang].get(concept, concept)          # digits are the same everywhere
        return Word(form, concept, slot, upos, supertag, name)

    def _wh(self, lang: str, asked: str) -> Word:
        supertag = {"who": "S[wq]/(S[dcl]\\NP)", "what": "S[wq]/(S[dcl]/NP)"}.get(asked, "S[wq]/S[dcl]")
        return self._word(lang, asked, "", "ADV" if asked in ("where", "when") else "PRON", supertag)

    def _who(self, event: Event, lang: str) -> list[Word]:
        if len(event.who) == 1:
            return [self._word(lang, event.who[0], "who", "PROPN", "NP", "B-PER")]
        return [self._word(lang, event.who[0], "who", "PROPN", "N/N", "B-ORG"),
                self._word(lang, event.who[1], "who", "NOUN", "N", "I-ORG")]

    def _object(self, event: Event, lang: str, asked: str | None) -> list[Word]:
        if asked == "how-many":
            words = [self._word(lang, asked, "", "PRON", "(S[wq]/(S[dcl]/NP))/N")]
        elif event.number:
            words = [self._word(lang, event.number, "how-many", "NUM", "NP[nb]/N")]
        else:
            words = [self._word(lang, "the", "", "DET", "NP[nb]/N")]
        if event.adjective:
            words.append(self._word(lang, event.adjective, "what", "ADJ", "N/N"))
        noun = self._word(lang, event.noun, "what", "NOUN", "N")
        words.append(noun._replace(form=noun.form + self.suffixes[lang]["what"]))
        turn = LANGUAGES[lang].verb_last and asked != "how-many"
        return words[::-1] if turn else words

    def _adjunct(self, lang: str, adposition: str, concept: str | None, slot: str, upos: str,
                 first: str | None) -> list[Word]:
        if concept is None:
            return []
        supertag = "(S/S)/NP" if first == slot else "((S\\NP)\\(S\\NP))/NP"
        name = "B-LOC" if slot == "where" else "O"
        head = self._word(lang, concept, slot, upos, "NP", name)
        head = head._replace(form=head.form + self.suffixes[lang][slot])
        words = [self._word(lang, adposition, "", "ADP", supertag), head]
        return words[::-1] if LANGUAGES[lang].verb_last else words


def told(rng: Random, event: Event, number: float, adjective: float, place: float, day: float) -> Event:
    """The event with each of these slots kept with the given probability."""
    keep = {"number": number, "adjective": adjective, "place": place, "day": day}
    return event._replace(**{slot: None for slot, chance in keep.items() if rng.random() >= chance})
