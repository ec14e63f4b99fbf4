"""The datasheet: every row on tiny invented files and, where ../shared exists, on real ones."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

import readers
import tasks
from conftest import SHARED
from readers import Span, UserError
from tasks import TASKS, Task

TINY = Path(__file__).parent / "fixtures" / "data"
REAL = SHARED / "data"
real = pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data")


def check(task, data, split, expected):
    """expected: 'lang=examples' in order; + dropped rows; ? without gold"""
    found = []
    for lang in tasks.languages(task, data, split):
        loaded = tasks.load(task, data, split, lang)
        assert loaded.paths == tasks.find(task, data, "train" if split == "dev" and not (
            tasks.find(task, data, "dev", lang)) else split, lang)
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
    found = tasks.languages(task, REAL, "train")
    assert found[0] == "en" and "zh" in found and "zh-CN" not in found
    counts = {lang: len(tasks.load(task, REAL, "train", lang).examples) for lang in found}
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
        raw = list(readers.read_tagged([REAL / f"panx_raw/{lang}/dev"], lang, task.labels))
        path = REAL / f"xtreme/panx/dev-{lang}.tsv"
        processed = list(readers.read_tagged([path], lang, task.labels))
        assert [e[1:] for e in raw] == [e[1:] for e in processed[:200]]


@real
def test_raw_and_processed_xnli_agree():
    for lang in ("en", "hi", "sw"):
        raw = tasks.load(TASKS["xnli"], REAL, "dev", lang).examples
        path = REAL / f"xtreme/xnli/dev-{lang}.tsv"
        processed = list(readers.read_pairs([path], lang, tasks.NLI))
        assert [e[1:] for e in raw] == [e[1:] for e in processed[:400]]


@real
def test_raw_tatoeba_is_xtremes_with_gold():
    task = TASKS["tatoeba"]
    for lang in ("de", "sw", "zh"):
        raw = tasks.load(task, REAL, "test", lang)
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
            for span in tasks.load(TASKS[name], REAL, split, "en").examples:
                for text, start in span.answers:
                    assert span.context[start : start + len(text)] == text


# ------------------------------------------------------------------------ what rows say


@pytest.mark.parametrize("row", tasks.ROWS, ids=lambda row: row.name)
def test_rows_are_complete(row):
    assert set(row.train_on) <= set(TASKS)
    assert all("train" in TASKS[name].files for name in row.train_on)
    assert row.eval_split in row.files
    assert row.batch_size > 0 and 0 < row.max_length <= 512
    assert (row.epochs > 0) == bool(row.train_on)
    assert row.kind in ("classification", "multiple_choice", "span", "tagging", "retrieval", "mlm")
    assert bool(row.labels) == (row.kind in ("classification", "tagging"))
    assert row.sizes and row.source and row.licence and row.recipe
    for patterns in row.files.values():
        for pattern in patterns:
            assert not pattern.startswith("/") and ".." not in pattern
            assert not re.search(r"\{(?!lang\}|code\})", pattern)
    for url, size, digest in row.urls:
        assert url.startswith("https://") and size >= 0
        assert re.fullmatch("[0-9a-f]{64}", digest) or (size, digest) == (0, "")
    every = [*row.languages, *row.xtreme_r]
    assert len(set(every)) == len(every)
    assert row.kind == "retrieval" or row.languages[0] == "en"
    assert set(row.codes) <= set(every) and len(set(row.codes.values())) == len(row.codes)


def test_label_sets():
    assert TASKS["xnli"].labels == TASKS["mnli"].labels == (
        "contradiction", "entailment", "neutral")
    assert (len(tasks.UPOS), len(tasks.IOB2), len(tasks.XTREME_40)) == (17, 7, 40)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/facts")
def test_languages_are_the_benchmarks():
    facts = json.loads((SHARED / "facts/xtreme_facts.json").read_text(encoding="utf-8"))
    for row in tasks.ROWS:
        if row.benchmarks:
            official = facts["languages"]["xtreme"][row.name]
            others = [lang for lang in official if lang != "en"]
            assert list(row.languages) == ["en"] * ("en" in official) + others
            added = [x for x in facts["languages"]["xtreme-r"][row.name] if x not in official]
            assert list(row.xtreme_r) == added
    assert set(TASKS["tatoeba"].codes) == set(facts["languages"]["xtreme-r"]["tatoeba"])


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/facts")
def test_downloads_are_the_known_ones():
    table = (SHARED / "facts/data_checksums.tsv").read_text(encoding="utf-8").split("\n")
    known = {line.split("\t")[4]: line.split("\t")[2:4] for line in table[1:] if line}
    checked = 0
    for row in tasks.ROWS:
        for url, size, digest in row.urls:
            if url in known:
                assert [str(size), digest] == known[url]
                checked += 1
            else:
                assert (size, digest) == (0, "")
    assert checked == 10


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
    assert tasks.find(TASKS["panx"], data, "dev", "en") == [data / "panx/en/dev"]
    assert tasks.find(TASKS["panx"], data, "dev", "de") == [data / "xtreme/panx/dev-de.tsv"]
    assert tasks.find(TASKS["panx"], data, "dev", "fr") == []
    assert tasks.find(TASKS["panx"], data, "mistake", "en") == []
    assert tasks.languages(TASKS["panx"], data, "dev") == ["en", "de"]


def test_treebanks_come_in_the_order_of_their_file_names(plant):
    plant("ud/UD_B/en_alpha-ud-test.conllu")
    plant("ud/UD_A/en_beta-ud-test.conllu")
    plant("ud/UD_A/enm_old-ud-test.conllu")
    data = plant("ud/UD_A/en_beta-ud-train.conllu")
    assert names(tasks.find(TASKS["udpos"], data, "test", "en")) == [
        "en_alpha-ud-test.conllu", "en_beta-ud-test.conllu"]
    assert tasks.languages(TASKS["udpos"], data, "test") == ["en", "enm"]


def test_codes_stand_for_languages_in_file_names(plant):
    for name in ("swh", "cmn", "xyz"):
        plant(f"tatoeba/v1/tatoeba.{name}-eng.{name}")
        data = plant(f"tatoeba/v1/tatoeba.{name}-eng.eng")
    task = TASKS["tatoeba"]
    assert tasks.languages(task, data, "test") == ["sw", "zh", "xyz"]
    assert names(tasks.find(task, data, "test", "sw")) == [
        "tatoeba.swh-eng.eng", "tatoeba.swh-eng.swh"]
    for lang in tasks.languages(task, data, "test"):
        assert tasks.find(task, data, "test", lang)


def test_a_language_whose_name_is_anothers_code_is_not_found(plant):
    data = plant("tatoeba/v1/tatoeba.sw-eng.sw")  # LASER calls Swahili swh
    assert tasks.languages(TASKS["tatoeba"], data, "test") == []
    assert tasks.find(TASKS["tatoeba"], data, "test", "sw") == []


def test_english_files_hold_no_other_language(plant):
    data = plant("squad/train-v1.1.json", "{}")
    assert tasks.find(TASKS["squad"], data, "train", "de") == []
    assert tasks.languages(TASKS["squad"], data, "train") == ["en"]


def test_a_file_of_several_languages_hides_later_candidates(plant):
    plant("xtreme/xnli/dev-fr.tsv", "a\tb\tneutral\n")
    data = plant("xnli/XNLI-1.0/xnli.dev.tsv", "language\tgold_label\tsentence1\tsentence2\n"
                                               "de\tneutral\ta\tb\nde\tneutral\tc\td\n")
    assert tasks.languages(TASKS["xnli"], data, "dev") == ["de"]
    assert names(tasks.find(TASKS["xnli"], data, "dev", "fr")) == ["xnli.dev.tsv"]
    with pytest.raises(UserError, match="no dev example of xnli in 'fr'"):
        tasks.load(TASKS["xnli"], data, "dev", "fr")


@pytest.mark.parametrize("lang", ["../en", "en/..", "", ".en", "a b", "*", "e[n]", "ü", "x" * 65,
                                  "en\n", "/etc"])
def test_language_names_are_plain(plant, lang):
    data = plant("xtreme/panx/dev-en.tsv")
    with pytest.raises(UserError, match="bad language name"):
        tasks.find(TASKS["panx"], data, "dev", lang)
    with pytest.raises(UserError, match="bad language name"):
        tasks.load(TASKS["panx"], data, "dev", lang)


def test_links_out_of_the_data_folder_are_refused(plant, tmp_path):
    plant("outside/dev-de.tsv")
    data = plant("data/xtreme/panx/dev-en.tsv").joinpath("data")
    (data / "xtreme/panx/dev-fr.tsv").symlink_to(data / "xtreme/panx/dev-en.tsv")
    assert tasks.find(TASKS["panx"], data, "dev", "fr")  # inside
    (data / "xtreme/panx/dev-de.tsv").symlink_to(tmp_path / "outside/dev-de.tsv")
    for look in (tasks.find, tasks.load):
        with pytest.raises(UserError, match="link out of the data folder"):
            look(TASKS["panx"], data, "dev", "de")
    (data / "panx").symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match="link out of the data folder"):
        tasks.find(replace(TASKS["panx"], files={"dev": ("panx/dev-{lang}.tsv",)}), data, "dev", "de")


def test_the_data_folder_itself_may_be_a_link(plant, tmp_path):
    data = plant("data/xtreme/panx/dev-en.tsv").joinpath("data")
    link = tmp_path / "link"
    link.symlink_to(data)
    assert tasks.find(TASKS["panx"], link, "dev", "en") == [link / "xtreme/panx/dev-en.tsv"]


def test_folders_are_no_files(plant):
    data = plant("xtreme/panx/dev-en.tsv/x")
    assert tasks.find(TASKS["panx"], data, "dev", "en") == []


def test_a_toy_world_has_its_own_languages(plant):
    plant("world.json", '{"world": "toy", "english": "toy-en", "notice": "invented"}')
    for lang in ("toy-en", "toy-a", "toy-zz", "toy_b.2"):
        plant(f"xtreme/panx/test-{lang}.tsv")
        plant(f"tydiqa/tydiqa-goldp-v1.1-dev/tydiqa.goldp.{lang}.dev.json")
        plant(f"ud/UD_X/{lang.replace('_', '-')}_x-ud-test.conllu")
    data = plant("squad/train-v1.1.json", "{}")
    assert tasks.world(data)["world"] == "toy"
    assert tasks.languages(TASKS["panx"], data, "test") == ["toy-en", "toy-a", "toy-zz", "toy_b.2"]
    assert tasks.languages(TASKS["tydiqa"], data, "test")[0] == "toy-en"
    assert tasks.languages(TASKS["udpos"], data, "test") == ["toy-en", "toy-a", "toy-b.2", "toy-zz"]
    assert tasks.languages(TASKS["squad"], data, "train") == ["toy-en"]
    assert tasks.find(TASKS["squad"], data, "train", "toy-en")
    assert tasks.find(TASKS["squad"], data, "train", "en") == []


def test_world(plant, tmp_path):
    assert tasks.world(tmp_path) == {"world": "real", "english": "en"}
    for text in ("[]", '{"world": "toy"}', '{"world": "toy", "english": "../en"}', '{"world"'):
        with pytest.raises(UserError, match="world.json"):
            tasks.world(plant("world.json", text))


# ------------------------------------------------------------------------ loading


def test_dev_paragraphs_are_chosen_by_their_text():
    task, data = TASKS["tydiqa"], TINY
    train, dev = (tasks.load(task, data, split, "en") for split in ("train", "dev"))
    contexts = [{span.context for span in part.examples} for part in (train, dev)]
    assert not contexts[0] & contexts[1] and len(contexts[0] | contexts[1]) == 31
    # A known answer, so that no Python, machine or run chooses otherwise.
    assert sorted(span.id for span in dev.examples) == KNOWN_DEV
    assert train.paths == dev.paths
    assert tasks.languages(task, data, "dev") == ["en", "sw"]
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
    assert len(tasks.load(task, data, "train", "en").examples) == 1
    assert tasks.load(task, data, "dev", "en").paths == [data / "dev.json"]
    only = replace(task, files={"train": ("train.json",)}, dev_share=1.0)
    with pytest.raises(UserError, match="no train example of tydiqa in 'en'"):
        tasks.load(only, data, "train", "en")


def test_missing_files_say_what_was_expected(tmp_path):
    with pytest.raises(UserError) as error:
        tasks.load(TASKS["udpos"], tmp_path, "dev", "de")
    assert "no dev file of udpos in 'de' (expected ud/*/{lang}_*-ud-dev.conllu or xtreme/" in str(
        error.value)
    with pytest.raises(UserError, match="no such split"):
        tasks.load(TASKS["squad"], tmp_path, "test", "en")


def test_empty_splits_are_errors(plant):
    with pytest.raises(UserError, match="dev-en.tsv: no dev example of panx in 'en'"):
        tasks.load(TASKS["panx"], plant("xtreme/panx/dev-en.tsv", "\n\n"), "dev", "en")
    with pytest.raises(UserError, match="dev-de.tsv: the file is empty"):
        tasks.load(TASKS["panx"], plant("xtreme/panx/dev-de.tsv", ""), "dev", "de")
    with pytest.raises(UserError, match="no dev example of xnli in 'fr'"):
        tasks.load(TASKS["xnli"], TINY, "dev", "fr")


def test_gold_for_some_examples_only_is_an_error(plant):
    data = plant("xtreme/panx/dev-en.tsv", "x\tO\n\ny\n\nz\tO\n")
    with pytest.raises(UserError, match="dev-en.tsv:3: 1 of 3 examples have no gold"):
        tasks.load(TASKS["panx"], data, "dev", "en")


def test_labels_are_ordered_by_their_numbers(plant):
    assert tasks.labels(TASKS["ccg"], TINY) == ("NP/N", "N", "NP", ".", "S\\NP", "(S\\NP)/NP")
    data = plant("ccg_handmade/tags_to_id.json", '{"b": 1, "a": 2, "c": 0}')
    assert tasks.labels(TASKS["ccg"], data) == ("c", "b", "a")
    data = plant("ccg/tags_to_id.json", json.dumps({f"t{i}": str(i) for i in range(12)}))
    assert tasks.labels(TASKS["ccg"], data)[9:] == ("t9", "t10", "t11")


@pytest.mark.parametrize("text", ['{"a": 0, "b": 0}', '{"a": 1}', '{"a": "x"}', '["a"]', "3",
                                  '{"a": null}', '{"a": true}', '{"a": "0", "b": "01"}'])
def test_broken_label_files(plant, text):
    with pytest.raises(UserError, match="tags_to_id.json: expected an object"):
        tasks.labels(TASKS["ccg"], plant("ccg/tags_to_id.json", text))


def test_missing_label_file(plant):
    with pytest.raises(UserError, match="list of labels is missing .expected ccg"):
        tasks.load(TASKS["ccg"], plant("ccg/ccg.train", "a\tN\n"), "train", "en")


def test_a_new_data_set_of_a_known_format_is_one_row(plant):
    row = Task(
        name="weather", kind="classification", group="semantic", languages=("en",),
        metric="accuracy", reader=readers.read_pairs, labels=("dry", "wet"),
        files=each_split, train_on=("weather",), eval_split="dev",
        batch_size=16, epochs=2, max_length=128, recipe="ours", sizes="2", source="own",
        licence="CC0",
    )
    data = plant("weather/dev.tsv", "sentence1\tsentence2\tlabel\nSnow.\tRain.\twet\n")
    loaded = tasks.load(row, data, "dev", "en")
    assert loaded.labelled and loaded.examples[0].label == "wet"


each_split = tasks.each("train dev", "weather/{split}.tsv")


def test_contexts_are_shared_after_loading():
    spans = tasks.load(TASKS["squad"], TINY, "train", "en").examples
    assert isinstance(spans[0], Span) and spans[0].context is spans[1].context
