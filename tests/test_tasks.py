"""The datasheet: every row on tiny invented files and, where ../shared exists, on real ones."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

import listing
import readers
import tagging
import splits
import tasks
from conftest import SHARED
from files import UserError
from readers import Span
from tasks import TASKS, Task

TINY = Path(__file__).parent / "fixtures" / "data"
REAL = SHARED / "data"
real = pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data")


def check(task, data, split, expected):
    """expected: 'lang=examples' in order; + dropped rows; ? without gold"""
    found = []
    for lang in splits.languages(task, data, split):
        loaded = splits.load(task, data, split, lang)
        assert loaded.paths == splits.find(task, data, "train" if split == "dev" and not (
            splits.find(task, data, "dev", lang)) else split, lang)
        dropped = f"+{loaded.dropped}" if loaded.dropped else ""
        found.append(f"{lang}={len(loaded.examples)}{dropped}{'' if loaded.labelled else '?'}")
    assert " ".join(found) == expected


# ------------------------------------------------------------------------ every row

ON_TINY = {
    ("squad", "train"): "en=3",
    ("squad", "dev"): "en=2",
    ("squad2", "train"): "en=2",
    ("squad2", "dev"): "en=2",
    ("mnli", "train"): "en=3+1",
    ("mnli", "dev"): "en=2",
    ("snli", "train"): "en=1+1",
    ("snli", "dev"): "en=1",
    ("anli1", "train"): "en=2",
    ("anli1", "dev"): "en=1",
    ("anli1", "test"): "en=1",
    ("anli2", "train"): "en=2",
    ("anli2", "dev"): "en=1",
    ("anli2", "test"): "en=1",
    ("anli3", "train"): "en=2",
    ("anli3", "dev"): "en=1",
    ("anli3", "test"): "en=1",
    ("qqp", "train"): "en=3",
    ("qqp", "dev"): "en=1",
    ("cosmosqa", "train"): "en=1",
    ("cosmosqa", "dev"): "en=1",
    ("cosmosqa", "test"): "en=1?",
    ("commonsenseqa", "train"): "en=2",
    ("commonsenseqa", "dev"): "en=1",
    ("commonsenseqa", "test"): "en=1?",
    ("siqa", "train"): "en=2",
    ("siqa", "dev"): "en=1",
    ("copa", "train"): "en=2",
    ("copa", "dev"): "en=1",
    ("upos", "train"): "en=2",
    ("upos", "dev"): "en=1",
    ("upos", "test"): "en=2+1",
    ("deprel", "train"): "en=2",
    ("deprel", "dev"): "en=1",
    ("deprel", "test"): "en=2+1",
    ("chunk", "train"): "en=27",
    ("chunk", "test"): "en=1",
    ("cola", "train"): "en=2",
    ("cola", "dev"): "en=1",
    ("cola", "test"): "en=1?",
    ("semtag", "train"): "en=1",
    ("semtag", "dev"): "en=1",
    ("semtag", "test"): "en=1",
    ("supersense", "train"): "en=1",
    ("supersense", "dev"): "en=1",
    ("supersense", "test"): "en=1",
    ("pawsx", "train"): "en=2 de=1",
    ("pawsx", "dev"): "en=1 de=1",
    ("pawsx", "test"): "en=1 de=1",
    ("xquad", "test"): "en=1 de=1",
    ("mlqa", "dev"): "en=1 de=1",
    ("mlqa", "test"): "en=1 de=1",
    ("bucc2018", "dev"): "de=5",
    ("bucc2018", "test"): "de=5",
    ("xcopa", "dev"): "et=1 th=1",
    ("xcopa", "test"): "et=2 th=2",
    ("lareqa", "train"): "en=7",
    ("lareqa", "dev"): "en=4",
    ("lareqa", "test"): "en=4 de=4",
    ("lareqa_untrained", "test"): "en=4 de=4",
    ("mewslix", "dev"): "de=1",
    ("mewslix", "test"): "de=1?",
    ("hellaswag", "train"): "en=2",
    ("hellaswag", "dev"): "en=1",
    ("ccg", "train"): "en=2",
    ("ccg", "dev"): "en=1",
    ("mlm", "train"): "en=2 zh=1",
    ("xnli", "dev"): "en=2 de=2",
    ("xnli", "test"): "en=2 de=1",
    ("udpos", "train"): "en=2",
    ("udpos", "dev"): "en=1",
    ("udpos", "test"): "en=2+1 de=1",
    ("panx", "train"): "en=2",
    ("panx", "dev"): "en=1",
    ("panx", "test"): "en=1 de=2",
    ("tydiqa", "train"): "en=28 sw=1",
    ("tydiqa", "test"): "en=1 sw=1",
    ("tatoeba", "test"): "de=6",
}
ON_REAL = {  # the counts of ../shared/data/README.md
    ("squad", "train"): "en=3012",
    ("squad", "dev"): "en=293",
    ("squad2", "train"): "en=2179",
    ("squad2", "dev"): "en=626",
    ("mnli", "train"): "en=4000",
    ("mnli", "dev"): "en=1000",
    ("snli", "train"): "en=2000",
    ("snli", "dev"): "en=500",
    ("anliplus", "train"): "en=7350",
    ("anliplus", "dev"): "en=1950",
    ("qqp", "train"): "en=3502",
    ("qqp", "dev"): "en=700",
    ("cosmosqa", "train"): "en=1500",
    ("cosmosqa", "dev"): "en=400",
    ("commonsenseqa", "train"): "en=3000",
    ("commonsenseqa", "dev"): "en=600",
    ("commonsenseqa", "test"): "en=200?",
    ("copa", "train"): "en=400",
    ("copa", "dev"): "en=100",
    ("upos", "train"): "en=1200",
    ("upos", "dev"): "en=400",
    ("deprel", "train"): "en=1200",
    ("deprel", "dev"): "en=400",
    ("pawsx", "train"): "en=49 de=49",
    ("pawsx", "dev"): "en=49 de=49 es=800 zh=800",
    ("pawsx", "test"): "en=49 de=49",
    ("xquad", "test"): "en=1190 es=1190 de=1190 ar=1190 th=1190 zh=1190 hi=1190",
    ("mlqa", "dev"): "en=1148 es=500 de=512 ar=517 zh=504",
    ("mlqa", "test"): "en=294 de=141",
    ("bucc2018", "dev"): "zh=5760",
    ("xcopa", "dev"): "en=100 et=100 id=100 sw=100 th=100 zh=100",
    ("xcopa", "test"): "en=500? et=500 id=500 sw=500 th=500 zh=500",
    ("lareqa", "test"): "en=2370 de=2466 zh=2386",
    ("hellaswag", "train"): "en=500",
    ("hellaswag", "dev"): "en=200",
    ("ccg", "train"): "en=5",
    ("ccg", "dev"): "en=3",
    ("xnli", "dev"): "en=400 ar=400 de=400 es=400 hi=400 sw=400 th=400 zh=400",
    ("xnli", "test"): "en=600? sw=600?",
    ("udpos", "train"): "en=1200",
    ("udpos", "dev"): "en=400 ar=400 de=400 es=200 et=400 hi=400 ja=400 ta=80 te=131 tr=400 "
                      "vi=400 zh=400",
    ("udpos", "test"): "ar=200 de=200 hi=200 ja=200 ru=200 ta=60 te=73 th=200 tr=200 vi=200 "
                       "yo=158 zh=200",
    ("panx", "train"): "en=5000",
    ("panx", "dev"): "en=200 ar=200 ta=600 de=600 hi=600 es=600 ja=600 ka=600 sw=200 yo=100 "
                     "my=100 zh=200 tr=600",
    ("panx", "test"): "sw=200?",
    ("tydiqa", "train"): "en=905 sw=920",
    ("tydiqa", "dev"): "en=95 sw=80",
    ("tydiqa", "test"): "en=300 bn=113? sw=300",
    ("tatoeba", "test"): "ar=2000 vi=2000 ta=614 te=468 de=2000 hi=2000 fr=2000 es=2000 ru=2000 "
                         "ja=2000 ko=2000 th=1096 sw=780 zh=2000 tr=2000",
}


@pytest.mark.parametrize("name, split", ON_TINY)
def test_rows_on_tiny_files(name, split):
    check(TASKS[name], TINY, split, ON_TINY[name, split])


def test_no_row_is_without_tiny_files():
    assert {(row.name, split) for row in tasks.ROWS for split in row.files} == set(ON_TINY)


@real
@pytest.mark.parametrize("name, split", ON_REAL)
def test_rows_on_real_files(name, split):
    check(TASKS[name], REAL, split, ON_REAL[name, split])


@real
def test_raw_text_on_real_files():
    task = TASKS["mlm"]
    found = splits.languages(task, REAL, "train")
    assert found[0] == "en" and "zh" in found and "zh-CN" not in found
    counts = {lang: len(splits.load(task, REAL, "train", lang).examples) for lang in found}
    assert (counts["en"], counts["zh"], counts["ru"], counts["uk"]) == (13900, 12321, 307, 7039)


@real
@pytest.mark.parametrize("folder, name, files, count", [
    ("multi_nli/multinli_1.0/multinli_1.0", "mnli", "*.jsonl", 15),
    ("multi_nli/multinli_1.0/multinli_1.0", "mnli", "*dev_*.txt", 8),
    ("glue/MNLI", "mnli", "*.tsv", 9),
    ("xnli", "xnli", "*.jsonl", 50),
    ("xnli", "xnli", "*.tsv", 49),
    ("hellaswag", "hellaswag", "*", 6),
    ("wikiann/en", "panx", "*", 3),
    ("squad_v2", "squad2", "*", 4),
    ("tydiqa", "tydiqa", "*", 2),
])
def test_untouched_heads_of_official_files(folder, name, files, count):
    task = TASKS[name]
    lang = {"xnli": "ar", "tydiqa": "fi"}.get(name, "en")
    paths = sorted((REAL / "format_samples" / folder).glob(files))
    examples = [row for path in paths for row in task.reader([path], lang, task.labels)]
    assert len(examples) == count
    if not any("test" in path.name for path in paths):
        assert all(row is None or row[-1] is not None for row in examples)


@real
@pytest.mark.parametrize("name, files", [
    ("udpos", "xtreme/udpos/*.tsv"), ("panx", "xtreme/panx/*.tsv"), ("xnli", "xtreme/xnli/*.tsv"),
    ("panx", "panx_raw/*/dev"),
])
def test_real_files_lose_no_line(name, files):
    task = TASKS[name]
    for path in sorted(REAL.glob(files)):
        examples = list(task.reader([path], "en", task.labels))
        lines = [line for line in path.read_bytes().split(b"\n") if line]
        if task.kind == "tagging":
            assert sum(len(example.words) for example in examples) == len(lines)
            rows = [example.row for example in examples]
            assert rows == sorted(rows) and len(set(rows)) == len(rows)
        else:
            assert [example.row for example in examples] == list(range(1, len(lines) + 1))


@real
def test_raw_and_processed_panx_agree():
    task = TASKS["panx"]
    for lang in ("ar", "en", "sw", "zh"):
        raw = list(tagging.read_panx([REAL / f"panx_raw/{lang}/dev"], lang, task.labels))
        path = REAL / f"xtreme/panx/dev-{lang}.tsv"
        processed = list(tagging.read_tagged([path], lang, task.labels))
        assert [e[1:] for e in raw] == [e[1:] for e in processed[:200]]


@real
def test_raw_and_processed_xnli_agree():
    for lang in ("en", "hi", "sw"):
        raw = splits.load(TASKS["xnli"], REAL, "dev", lang).examples
        path = REAL / f"xtreme/xnli/dev-{lang}.tsv"
        processed = list(readers.read_pairs([path], lang, tasks.NLI))
        assert [e[1:] for e in raw] == [e[1:] for e in processed[:400]]


@real
def test_raw_tatoeba_is_xtremes_with_gold():
    task = TASKS["tatoeba"]
    for lang in ("de", "sw", "zh"):
        raw = splits.load(task, REAL, "test", lang)
        paths = sorted((REAL / "xtreme/tatoeba").glob(f"{lang}-en.*"))
        processed = list(readers.read_tatoeba(paths, lang, ()))
        assert [e.text for e in raw.examples] == [e.text for e in processed]
        assert {e.gold for e in processed if e.side == "query"} == {None}
        foreign = {e.id: e.text for e in raw.examples if e.side == "candidate"}
        assert all(e.gold[0] in foreign for e in raw.examples if e.side == "query")


@real
def test_real_answers_are_where_they_should_be():
    for name in ("squad", "squad2", "tydiqa"):
        for split in TASKS[name].files:
            for span in splits.load(TASKS[name], REAL, split, "en").examples:
                for text, start in span.answers:
                    assert span.context[start : start + len(text)] == text


# ------------------------------------------------------------------------ what rows say


@pytest.mark.parametrize("row", tasks.ROWS, ids=lambda row: row.name)
def test_rows_are_complete(row):
    assert set(row.train_on) <= set(TASKS)
    for name in (*row.train_on, *row.members):
        assert "train" in TASKS[name].files or TASKS[name].members
    assert row.eval_split in row.files or row.members
    assert row.batch_size > 0 and 0 < row.max_length <= 512
    assert (row.epochs > 0) == bool(row.train_on)
    assert row.kind in ("classification", "multiple_choice", "span", "tagging", "retrieval", "mlm")
    assert bool(row.labels) == (row.kind in ("classification", "tagging"))
    assert bool(row.search) == (row.kind == "retrieval")
    assert row.sizes and row.source and row.licence and row.recipe
    for patterns in row.files.values():
        for pattern in patterns:
            assert not pattern.startswith("/") and ".." not in pattern
            assert not re.search(r"\{(?!lang\}|code\}|english\})", pattern)
    for url in row.urls:
        assert url.startswith("https://") and not re.search(r"\{(?!lang\}|code\})|['\s]", url)
    every = [*row.languages, *row.xtreme_r]
    assert len(set(every)) == len(every)
    assert row.kind == "retrieval" or row.languages[0] == "en" or row.name == "xcopa"
    assert set(row.codes) <= set(every) and len(set(row.codes.values())) == len(row.codes)


def test_label_sets():
    assert TASKS["xnli"].labels == TASKS["mnli"].labels == (
        "contradiction", "entailment", "neutral")
    assert (len(tasks.UPOS), len(tasks.IOB2), len(tasks.XTREME_40)) == (17, 7, 40)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/facts")
def test_languages_are_the_benchmarks():
    facts = json.loads((SHARED / "facts/xtreme_facts.json").read_text(encoding="utf-8"))
    for row in tasks.ROWS:
        if row.benchmarks and row.official:               # the facts list no language of lareqa
            official = facts["languages"][row.benchmarks[0]][row.name]
            others = [lang for lang in official if lang != "en"]
            assert list(row.languages) == ["en"] * ("en" in official) + others
            if row.benchmarks == tasks.BOTH:
                added = [x for x in facts["languages"]["xtreme-r"][row.name] if x not in official]
                assert list(row.xtreme_r) == added
    assert set(TASKS["tatoeba"].codes) == set(facts["languages"]["xtreme-r"]["tatoeba"])


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/facts")
def test_downloads_are_the_known_ones():
    table = (SHARED / "facts/data_checksums.tsv").read_text(encoding="utf-8").split("\n")
    known = {line.split("\t")[4]: line.split("\t")[2:4] for line in table[1:] if line}
    named = {listing.fill(url, row, lang) for row in tasks.ROWS for url in row.urls
             for lang in row.languages + row.xtreme_r}
    expected = {url: (int(size), digest) for url, (size, digest) in known.items() if url in named}
    assert listing.published() == expected and len(expected) == 136


@real
def test_whole_real_files_have_the_published_bytes():
    whole = 0
    for row in tasks.ROWS:
        for url, path in listing.downloads(row, {s: row.languages for s in row.files}).items():
            size, digest = listing.published().get(url, (0, ""))
            if size and (REAL / path).is_file() and (REAL / path).stat().st_size == size:
                assert hashlib.sha256((REAL / path).read_bytes()).hexdigest() == digest
                whole += 1
    assert whole == 47


@pytest.mark.parametrize("name, split, lang", [
    ("squad", "dev", "en"), ("xquad", "test", "ro"), ("tatoeba", "test", "sw"),
    ("xcopa", "dev", "et"), ("tydiqa", "test", "ko"), ("lareqa", "test", "zh"),
    ("cosmosqa", "test", "en")])
def test_plain_downloads_go_where_the_row_looks_for_them(plant, name, split, lang):
    row = TASKS[name]
    places = listing.downloads(row, {split: [lang]})
    data = [plant(path, "x\n") for path in places.values()][0]
    assert [path.relative_to(data).as_posix() for path in splits.find(row, data, split, lang)] == (
        sorted(places.values()))


XTREMES_FOLDER = {  # what its scripts leave below download/ -> row, split, language
    "xnli/train-en.tsv": ("mnli", "train", "en"), "xnli/dev-en.tsv": ("mnli", "dev", "en"),
    "xnli/dev-sw.tsv": ("xnli", "dev", "sw"), "xnli/test-zh.tsv": ("xnli", "test", "zh"),
    "pawsx/train-en.tsv": ("pawsx", "train", "en"), "pawsx/test-ko.tsv": ("pawsx", "test", "ko"),
    "udpos/train-en.tsv": ("udpos", "train", "en"), "udpos/test-wo.tsv": ("udpos", "test", "wo"),
    "panx/train-en.tsv": ("panx", "train", "en"), "panx/test-qu.tsv": ("panx", "test", "qu"),
    "squad/train-v1.1.json": ("squad", "train", "en"),
    "squad/dev-v1.1.json": ("squad", "dev", "en"),
    "xquad/xquad.ro.json": ("xquad", "test", "ro"),
    "mlqa/MLQA_V1/dev/dev-context-hi-question-hi.json": ("mlqa", "dev", "hi"),
    "mlqa/MLQA_V1/test/test-context-hi-question-hi.json": ("mlqa", "test", "hi"),
    "tydiqa/tydiqa-goldp-v1.1-train/tydiqa.goldp.en.train.json": ("tydiqa", "train", "en"),
    "tydiqa/tydiqa-goldp-v1.1-dev/tydiqa.goldp.sw.dev.json": ("tydiqa", "test", "sw"),
    "bucc2018/zh-en.dev.zh": ("bucc2018", "dev", "zh"),
    "bucc2018/ru-en.test.ru": ("bucc2018", "test", "ru"),
    "tatoeba/jv-en.jv": ("tatoeba", "test", "jv"), "xcopa/val-et.jsonl": ("xcopa", "dev", "et"),
    "xcopa/test-qu.jsonl": ("xcopa", "test", "qu"), "xcopa/train-en.jsonl": ("copa", "train", "en"),
    "xcopa/val-en.jsonl": ("copa", "dev", "en"),
    "siqa/socialIQa_v1.4_trn.jsonl": ("siqa", "train", "en"),
    "siqa/socialIQa_v1.4_dev.jsonl": ("siqa", "dev", "en"),
    "lareqa/xquad-r/zh.json": ("lareqa", "test", "zh"),
    "mewslix/wikinews_mentions/test-pl.jsonl": ("mewslix", "test", "pl"),
}


@pytest.mark.parametrize("name", XTREMES_FOLDER)
def test_the_folder_that_xtremes_scripts_leave_is_a_data_folder(plant, name):
    row, split, lang = XTREMES_FOLDER[name]
    data = plant(name)
    assert splits.find(TASKS[row], data, split, lang) == [data / name]
    assert lang in splits.languages(TASKS[row], data, split)


def test_archives_are_fetched_once_and_only_of_languages_that_lack():
    assert set(listing.downloads(TASKS["pawsx"], {"dev": ["de"], "test": []}).values()) == {
        "x-final.tar.gz"}
    assert set(listing.downloads(TASKS["bucc2018"], {"dev": [], "test": ["ru"]}).values()) == {
        "bucc2018-ru-en.sample-gold.tar.bz2", "bucc2018-ru-en.training-gold.tar.bz2"}
    assert listing.downloads(TASKS["pawsx"], {"dev": [], "test": []}) == {}


def test_get():
    assert tasks.get("tydiqa") is TASKS["tydiqa"]
    with pytest.raises(UserError, match="unknown task 'tidyqa' .did you mean tydiqa.."):
        tasks.get("tidyqa")
    with pytest.raises(UserError, match="known: squad, squad2, mnli"):
        tasks.get("zzzzzz")


# ------------------------------------------------------------------------ finding files


@pytest.fixture
def plant(tmp_path):
    """plant(path, text="x TAB O") -> the data folder"""

    def plant(name, text="x\tO\n"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
        return tmp_path

    return plant


def names(paths):
    return [path.name for path in paths]


def test_the_first_candidate_wins_language_by_language(plant):
    plant("xtreme/panx/dev-en.tsv")
    plant("xtreme/panx/dev-de.tsv")
    data = plant("panx/en/dev", "en:x\tO\n")
    assert splits.find(TASKS["panx"], data, "dev", "en") == [data / "panx/en/dev"]
    assert splits.find(TASKS["panx"], data, "dev", "de") == [data / "xtreme/panx/dev-de.tsv"]
    assert splits.find(TASKS["panx"], data, "dev", "fr") == []
    assert splits.find(TASKS["panx"], data, "mistake", "en") == []
    assert splits.languages(TASKS["panx"], data, "dev") == ["en", "de"]


def test_treebanks_come_in_the_order_of_their_file_names(plant):
    plant("ud/UD_B/en_alpha-ud-test.conllu")
    plant("ud/UD_A/en_beta-ud-test.conllu")
    plant("ud/UD_A/enm_old-ud-test.conllu")
    data = plant("ud/UD_A/en_beta-ud-train.conllu")
    assert names(splits.find(TASKS["udpos"], data, "test", "en")) == [
        "en_alpha-ud-test.conllu", "en_beta-ud-test.conllu"]
    assert splits.languages(TASKS["udpos"], data, "test") == ["en", "enm"]


def test_codes_stand_for_languages_in_file_names(plant):
    for name in ("swh", "cmn", "xyz"):
        plant(f"tatoeba/v1/tatoeba.{name}-eng.{name}")
        data = plant(f"tatoeba/v1/tatoeba.{name}-eng.eng")
    task = TASKS["tatoeba"]
    assert splits.languages(task, data, "test") == ["sw", "zh", "xyz"]
    assert names(splits.find(task, data, "test", "sw")) == [
        "tatoeba.swh-eng.eng", "tatoeba.swh-eng.swh"]
    for lang in splits.languages(task, data, "test"):
        assert splits.find(task, data, "test", lang)


def test_a_language_whose_name_is_anothers_code_is_not_found(plant):
    data = plant("tatoeba/v1/tatoeba.sw-eng.sw")  # LASER calls Swahili swh
    assert splits.languages(TASKS["tatoeba"], data, "test") == []
    assert splits.find(TASKS["tatoeba"], data, "test", "sw") == []


def test_english_files_hold_no_other_language(plant):
    data = plant("squad/train-v1.1.json", "{}")
    assert splits.find(TASKS["squad"], data, "train", "de") == []
    assert splits.languages(TASKS["squad"], data, "train") == ["en"]


def test_a_file_of_several_languages_hides_later_candidates(plant):
    plant("xtreme/xnli/dev-fr.tsv", "a\tb\tneutral\n")
    data = plant("xnli/XNLI-1.0/xnli.dev.tsv", "language\tgold_label\tsentence1\tsentence2\n"
                                               "de\tneutral\ta\tb\nde\tneutral\tc\td\n")
    assert splits.languages(TASKS["xnli"], data, "dev") == ["de"]
    assert names(splits.find(TASKS["xnli"], data, "dev", "fr")) == ["xnli.dev.tsv"]
    with pytest.raises(UserError, match="no dev example of xnli in 'fr'"):
        splits.load(TASKS["xnli"], data, "dev", "fr")


@pytest.mark.parametrize("lang", ["../en", "en/..", "", ".en", "a b", "*", "e[n]", "ü", "x" * 65,
                                  "en\n", "/etc"])
def test_language_names_are_plain(plant, lang):
    data = plant("xtreme/panx/dev-en.tsv")
    with pytest.raises(UserError, match="bad language name"):
        splits.find(TASKS["panx"], data, "dev", lang)
    with pytest.raises(UserError, match="bad language name"):
        splits.load(TASKS["panx"], data, "dev", lang)


def test_links_out_of_the_data_folder_are_refused(plant, tmp_path):
    plant("outside/dev-de.tsv")
    data = plant("data/xtreme/panx/dev-en.tsv").joinpath("data")
    (data / "xtreme/panx/dev-fr.tsv").symlink_to(data / "xtreme/panx/dev-en.tsv")
    assert splits.find(TASKS["panx"], data, "dev", "fr")  # inside
    (data / "xtreme/panx/dev-de.tsv").symlink_to(tmp_path / "outside/dev-de.tsv")
    for look in (splits.find, splits.load):
        with pytest.raises(UserError, match="link out of the data folder"):
            look(TASKS["panx"], data, "dev", "de")
    (data / "panx").symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match="link out of the data folder"):
        splits.find(replace(TASKS["panx"], files={"dev": ("panx/dev-{lang}.tsv",)}), data, "dev", "de")


def test_the_data_folder_itself_may_be_a_link(plant, tmp_path):
    data = plant("data/xtreme/panx/dev-en.tsv").joinpath("data")
    link = tmp_path / "link"
    link.symlink_to(data)
    assert splits.find(TASKS["panx"], link, "dev", "en") == [link / "xtreme/panx/dev-en.tsv"]


def test_folders_are_no_files(plant):
    data = plant("xtreme/panx/dev-en.tsv/x")
    assert splits.find(TASKS["panx"], data, "dev", "en") == []


def test_a_toy_world_has_its_own_languages(plant):
    plant("world.json", '{"world": "toy", "english": "toy-en", "notice": "invented"}')
    for lang in ("toy-en", "toy-a", "toy-zz", "toy_b.2"):
        plant(f"xtreme/panx/test-{lang}.tsv")
        plant(f"tydiqa/tydiqa-goldp-v1.1-dev/tydiqa.goldp.{lang}.dev.json")
        plant(f"ud/UD_X/{lang.replace('_', '-')}_x-ud-test.conllu")
    data = plant("squad/train-v1.1.json", "{}")
    assert splits.world(data)["world"] == "toy"
    assert splits.languages(TASKS["panx"], data, "test") == ["toy-en", "toy-a", "toy-zz", "toy_b.2"]
    assert splits.languages(TASKS["tydiqa"], data, "test")[0] == "toy-en"
    assert splits.languages(TASKS["udpos"], data, "test") == ["toy-en", "toy-a", "toy-b.2", "toy-zz"]
    assert splits.languages(TASKS["squad"], data, "train") == ["toy-en"]
    assert splits.find(TASKS["squad"], data, "train", "toy-en")
    assert splits.find(TASKS["squad"], data, "train", "en") == []


@pytest.mark.parametrize("english", ["en", "toy-en"])
def test_english_files_are_those_of_the_worlds_english(plant, english):
    """A treebank by the name of its file; SQuAD, which LAReQA trains on, in any world."""
    plant("ud/UD_X/en_x-ud-dev.conllu")
    plant("ud/UD_X/toy-en_x-ud-dev.conllu")
    data = plant("squad/train-v1.1.json", "{}")
    if english != "en":
        plant("world.json", json.dumps({"world": "toy", "english": english}))
    path = data / f"ud/UD_X/{english}_x-ud-dev.conllu"
    assert splits.find(TASKS["upos"], data, "dev", english) == [path]
    assert splits.languages(TASKS["upos"], data, "dev") == [english]
    assert splits.languages(TASKS["lareqa"], data, "train") == [english]
    assert splits.find(TASKS["lareqa"], data, "train", "de") == []


def test_world(plant, tmp_path):
    assert splits.world(tmp_path) == {"world": "real", "english": "en"}
    for text in ("[]", '{"world": "toy"}', '{"world": "toy", "english": "../en"}', '{"world"'):
        with pytest.raises(UserError, match="world.json"):
            splits.world(plant("world.json", text))


# ------------------------------------------------------------------------ loading


def test_dev_paragraphs_are_chosen_by_their_text():
    task, data = TASKS["tydiqa"], TINY
    train, dev = (splits.load(task, data, split, "en") for split in ("train", "dev"))
    contexts = [{span.context for span in part.examples} for part in (train, dev)]
    assert not contexts[0] & contexts[1] and len(contexts[0] | contexts[1]) == 31
    # A known answer, so that no Python, machine or run chooses otherwise.
    assert sorted(span.id for span in dev.examples) == KNOWN_DEV
    assert train.paths == dev.paths
    assert splits.languages(task, data, "dev") == ["en", "sw"]
    for span in dev.examples:
        digest = hashlib.sha256(span.context.encode()).hexdigest()
        assert int(digest[:16], 16) / 2**64 < 0.1


KNOWN_DEV = ["english-32-0", "english-38-0", "english-46-0"]  # by sha256sum


def test_dev_files_go_before_a_share_of_train(plant):
    context = "Anna bought the mill."
    answers = [{"text": "Anna", "answer_start": 0}]
    qas = [{"id": "1", "question": "Who?", "answers": answers}]
    text = json.dumps({"data": [{"paragraphs": [{"context": context, "qas": qas}]}]})
    plant("train.json", text)
    data = plant("dev.json", text)
    task = replace(TASKS["tydiqa"], files=tasks.each("train dev", "{split}.json"), dev_share=0.5)
    assert len(splits.load(task, data, "train", "en").examples) == 1
    assert splits.load(task, data, "dev", "en").paths == [data / "dev.json"]
    only = replace(task, files={"train": ("train.json",)}, dev_share=1.0)
    with pytest.raises(UserError, match="no train example of tydiqa in 'en'"):
        splits.load(only, data, "train", "en")


def test_missing_files_say_what_was_expected(tmp_path):
    with pytest.raises(UserError) as error:
        splits.load(TASKS["udpos"], tmp_path, "dev", "de")
    assert "no dev file of udpos in 'de' (expected ud/*/{lang}_*-ud-dev.conllu or xtreme/" in str(
        error.value)
    with pytest.raises(UserError, match="no such split"):
        splits.load(TASKS["squad"], tmp_path, "test", "en")


def test_empty_splits_are_errors(plant):
    with pytest.raises(UserError, match="dev-en.tsv: no dev example of panx in 'en'"):
        splits.load(TASKS["panx"], plant("xtreme/panx/dev-en.tsv", "\n\n"), "dev", "en")
    with pytest.raises(UserError, match="dev-de.tsv: the file is empty"):
        splits.load(TASKS["panx"], plant("xtreme/panx/dev-de.tsv", ""), "dev", "de")
    with pytest.raises(UserError, match="no dev example of xnli in 'fr'"):
        splits.load(TASKS["xnli"], TINY, "dev", "fr")


def test_gold_for_some_examples_only_is_an_error(plant):
    data = plant("xtreme/panx/dev-en.tsv", "x\tO\n\ny\n\nz\tO\n")
    with pytest.raises(UserError, match="dev-en.tsv:3: 1 of 3 examples have no gold"):
        splits.load(TASKS["panx"], data, "dev", "en")


def test_labels_are_ordered_by_their_numbers(plant):
    assert splits.labels(TASKS["ccg"], TINY) == ("NP/N", "N", "NP", ".", "S\\NP", "(S\\NP)/NP")
    data = plant("ccg_handmade/tags_to_id.json", '{"b": 1, "a": 2, "c": 0}')
    assert splits.labels(TASKS["ccg"], data) == ("c", "b", "a")
    data = plant("ccg/tags_to_id.json", json.dumps({f"t{i}": str(i) for i in range(12)}))
    assert splits.labels(TASKS["ccg"], data)[9:] == ("t9", "t10", "t11")


@pytest.mark.parametrize("text", ['{"a": 0, "b": 0}', '{"a": 1}', '{"a": "x"}', '["a"]', "3",
                                  '{"a": null}', '{"a": true}', '{"a": "0", "b": "01"}'])
def test_broken_label_files(plant, text):
    with pytest.raises(UserError, match="tags_to_id.json: expected an object"):
        splits.labels(TASKS["ccg"], plant("ccg/tags_to_id.json", text))


def test_missing_label_file(plant):
    with pytest.raises(UserError, match="list of labels is missing .expected ccg"):
        splits.load(TASKS["ccg"], plant("ccg/ccg.train", "a\tN\n"), "train", "en")


def test_a_new_data_set_of_a_known_format_is_one_row(plant):
    row = Task(
        name="weather", kind="classification", group="semantic", languages=("en",),
        metric="accuracy", reader=readers.read_pairs, labels=("dry", "wet"),
        files=each_split, train_on=("weather",), eval_split="dev",
        batch_size=16, epochs=2, max_length=128, recipe="ours", sizes="2", source="own",
        licence="CC0",
    )
    data = plant("weather/dev.tsv", "sentence1\tsentence2\tlabel\nSnow.\tRain.\twet\n")
    loaded = splits.load(row, data, "dev", "en")
    assert loaded.labelled and loaded.examples[0].label == "wet"


each_split = tasks.each("train dev", "weather/{split}.tsv")


def test_contexts_are_shared_after_loading():
    spans = splits.load(TASKS["squad"], TINY, "train", "en").examples
    assert isinstance(spans[0], Span) and spans[0].context is spans[1].context
