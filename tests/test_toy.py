"""The toy world: rebuilt bit for bit, readable, without the shortcuts that would give it away."""

import hashlib
import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest

import splits
import tasks
from toy import controls, files, make
from toy import world as w

TOY = Path(make.__file__).parent
DATA = TOY / "data"
TRAINED = ("squad", "squad2", "mnli", "hellaswag", "ccg", "tydiqa", "udpos", "panx")


@pytest.fixture(scope="module")
def source():
    """World 0 with all its data sets drawn."""
    source = w.Source(w.World(0))
    source.files = files.build(source)
    return source


def examples(name, split, lang):
    return splits.load(tasks.get(name), DATA, split, lang).examples


def texts(example) -> list[str]:
    """The running text of an example of any kind."""
    fields = example._asdict()
    found = [fields[name] for name in ("text_a", "text_b", "context", "text") if name in fields]
    found += fields.get("endings", ())
    return [*found, " ".join(fields["words"])] if "words" in fields else found


def meanings(source, example, lang) -> set[frozenset]:
    """The statements of an example as sets of concepts, which are the same in every language."""
    concept = {form: name for name, form in source.world.forms[lang].items()}
    for wh, ending in source.world.suffixes[lang].items():
        nouns = {"what": w.NOUNS, "where": w.PLACES, "when": w.DAYS}[wh]
        concept |= {source.world.forms[lang][noun] + ending: noun for noun in nouns}
    hidden = {"the", "in", "on"}
    sentences = [part.split() for text in texts(example) for part in text.split(" .")]
    return {frozenset(concept.get(form, form) for form in words) - hidden - {"."}
            for words in sentences if words and "?" not in words}


# ---- the files


def test_data_is_what_the_seed_gives(source):
    on_disk = {path.relative_to(DATA).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
               for path in DATA.rglob("*") if path.is_file()}
    built = {name: hashlib.sha256(contents.encode()).hexdigest()
             for name, contents in source.files.items()}
    assert on_disk == built


def test_another_seed_is_another_world(source):
    other = w.Source(w.World(1))
    assert dict(files.tatoeba(other)) != dict(files.tatoeba(w.Source(w.World(0))))
    assert other.world.forms["toy-lex"] != source.world.forms["toy-lex"]


def test_whole_toy_is_below_4_megabytes():
    found = [path for path in TOY.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in found) < 4_000_000


def test_every_row_loads_in_every_language():
    loaded = Counter()
    for name, task in tasks.TASKS.items():
        for split in task.files:
            for lang in splits.languages(task, DATA, split):
                assert examples(name, split, lang)
                loaded[name, split] += 1
    for name in ("tydiqa", "xnli", "udpos", "panx"):
        assert loaded[name, "test"] == len(w.LANGUAGES)
    assert loaded["tatoeba", "test"] == len(w.LANGUAGES) - 1
    for name in TRAINED:
        assert loaded[name, "train"]


def test_nobody_takes_a_toy_language_for_a_real_one():
    assert splits.world(DATA)["world"] == "toy"
    assert all(lang.startswith("toy-") for lang in w.LANGUAGES)
    found = {lang for task in tasks.TASKS.values() for split in task.files
             for lang in splits.languages(task, DATA, split)}
    assert found == set(w.LANGUAGES)


# ---- what is kept apart


def test_languages_share_digits_and_punctuation_only(source):
    forms = [set(source.world.forms[lang].values()) for lang in w.LANGUAGES]
    assert len(set().union(*forms)) == sum(map(len, forms))


def test_no_test_sentence_stands_in_training_data(source):
    trained = set()
    for name in TRAINED:
        for example in examples(name, "train", w.ENGLISH):
            trained |= meanings(source, example, w.ENGLISH)
    for lang in w.LANGUAGES:
        for example in examples("mlm", "train", lang):
            trained |= meanings(source, example, lang)
    seen = Counter()
    for name in ("tydiqa", "xnli", "udpos", "panx"):
        for lang in w.LANGUAGES:
            for example in examples(name, "test", lang):
                if name == "xnli":             # the hypothesis is the premise with one other word
                    example = example._replace(text_b="")
                told = meanings(source, example, lang)
                assert not told & trained, (name, lang, example)
                seen.update(told)
    assert max(seen.values()) == 1             # nor in two test sets, nor in two languages


# ---- what gives nothing away


def test_inference_cannot_be_read_off_the_surface():
    """Lengths, overlap and new words say nothing: 3 SD of 100 coin throws above chance."""
    task = tasks.get("xnli")
    for lang in w.LANGUAGES:
        pairs = [*examples("xnli", "test", lang), *examples("xnli", "dev", lang)]
        assert controls.feature_rule(task, DATA, lang, pairs)["accuracy"] < 100 * (1 / 3 + 0.15)


def test_inference_cannot_be_read_off_the_new_word():
    def new_word(example):
        return tuple(sorted(set(example.text_b.split()) - set(example.text_a.split())))

    votes = defaultdict(Counter)
    for example in examples("mnli", "train", w.ENGLISH):
        votes[new_word(example)][example.label] += 1
    pairs = [*examples("xnli", "test", w.ENGLISH), *examples("xnli", "dev", w.ENGLISH)]
    right = sum(votes[new_word(pair)].most_common(1)[0][0] == pair.label
                for pair in pairs if votes[new_word(pair)])
    assert right / len(pairs) < 1 / 3 + 0.15


def test_type_of_the_answer_does_not_give_it_away(source):
    """Knowing what is asked for and guessing the phrase: four events and some phrases twice."""
    for name, split, langs in (("squad", "dev", [w.ENGLISH]), ("tydiqa", "test", w.LANGUAGES)):
        for lang in langs:
            guess = controls.type_guess(tasks.get(name), DATA, lang, examples(name, split, lang))
            assert guess["exact_match"] < 37, (name, lang)


def test_every_phrase_of_the_asked_type_is_a_candidate_of_the_guesser(source):
    for lang in w.LANGUAGES:
        for example in examples("tydiqa", "test", lang):
            asked = controls.asked_type(source.world, lang, example.question)
            found = controls.phrases(source.world, lang, asked, example.context)
            answers = {text for text, _ in example.answers}
            assert answers <= set(found) and len(found) >= 3, (lang, example)


def test_answers_stand_where_they_should():
    raw = json.loads((DATA / "squad/train-v2.0.json").read_text(encoding="utf-8"))
    kinds = Counter()
    for paragraph in raw["data"][0]["paragraphs"]:
        for qa in paragraph["qas"]:
            kinds[qa["is_impossible"]] += 1
            for answer in qa["answers"] + qa.get("plausible_answers", []):
                at = answer["answer_start"]
                assert paragraph["context"][at:at + len(answer["text"])] == answer["text"]
    assert 0.25 < kinds[True] / kinds.total() < 0.42
