"""Quirks of the real files that no other test holds, in rows equal to theirs.

Elsewhere: lines, byte order marks, pointers in the place of data (test_readers.py); TSV with and
without header, doubled quotes, columns that move, "-" labels, QQP's broken rows (test_readers.py);
hidden gold (test_readers.py, test_tasks.py); PAN-X's prefixes, treebanks' ranges, empty nodes and
"_" (test_readers.py); offsets in code points, lost answers (test_readers.py); words without pieces,
texts longer than a window (test_data.py); chunks that begin with I- (test_metrics.py); Tatoeba's
order (test_readers.py); sentences that stand twice (test_search.py).
"""

import json

import pytest

import conftest  # noqa: F401  (puts the repository on the path)
import data
import metrics
import readers
import splits
import submission
import tagging
import tasks
from files import UserError
from readers import Classification, Span, Tagging

ODD = ("e\u0301", "\u200b", "\u200c", "\u200f", "\u00ad", "\ufeff", "\ufffd", "\u00a0", "ｆｕ")


@pytest.fixture
def write(tmp_path):
    """write(name, text) -> its path; the bytes are those of the text"""

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
        return path

    return write


def squad(*qas, context="Anna came in 1912.", **keys):
    return json.dumps({"data": [{"paragraphs": [{"context": context, "qas": list(qas)}]}]} | keys,
                      ensure_ascii=False)


def qa(name, *answers, question="Who?", **keys):
    return {"id": name, "question": question,
            "answers": [{"text": text, "answer_start": start} for text, start in answers]} | keys


def read_squad(path):
    return list(readers.read_squad([path], "en", ()))


# ---- questions


def test_ids_that_repeat_lose_no_question(write, tokenizer):
    """XTREME's copy of TyDiQA's training set has 89 ids for 3,696 questions."""
    examples = read_squad(write("tydiqa.goldp.en.train.json", squad(
        *(qa("1", ("Anna", 0), question=f"Who {n}?") for n in range(9)))))
    assert len(examples) == 9 and len({e.row for e in examples}) == 9
    f = data.FEATURIZE["span"](tasks.get("tydiqa"), examples, tokenizer, (), True)
    assert f.example.tolist() == list(range(9))
    assert metrics.squad_v1(examples, ["Anna"] * 8 + ["x"])["exact_match"] == pytest.approx(800 / 9)


def test_equal_ids_of_two_languages_are_two_files(write):
    for lang, text in (("en", "Anna"), ("de", "1912")):
        path = write(f"xquad/xquad.{lang}.json", squad(qa("q", (text, 13 if text == "1912" else 0))))
    task, folder = tasks.get("xquad"), path.parents[1]
    golds = [splits.load(task, folder, "test", lang).examples[0].answers for lang in ("en", "de")]
    assert golds == [(("Anna", 0),), (("1912", 13),)]


@pytest.mark.parametrize("context, answer", [
    ("  Anna came.\u00a0 ", "Anna"), ("Anna\ncame.\n", "came"), ("e\u0301té: Anna", "Anna"),
    ("𝒳 und Anna", "Anna"), ("hasta el 30\u00a0% hoy", "30\u00a0%"), ("a Anna b", " Anna "),
    ("Annas Haus", "Anna"), ("中文字", "文")])
def test_contexts_and_answers_stay_as_they_are(write, tokenizer, context, answer):
    start = context.index(answer)
    (span,) = read_squad(write("s.json", squad(
        qa("q", (answer, start), question=" Who ? "), context=context)))
    assert span == Span(1, "q", " Who ? ", context, ((answer, start),))
    f = data.FEATURIZE["span"](tasks.get("xquad"), [span], tokenizer, (), True)
    assert len(f.target) == 1 and f.target[0].min() > 0           # found, so it is trained on


def test_answers_that_repeat_and_keys_that_are_absent(write):
    text = squad(qa("q", ("Anna", 0), ("Anna", 0), ("1912", 13)))
    assert "title" not in text and "version" not in text and "is_impossible" not in text
    (span,) = read_squad(write("s.json", text))
    assert len(span.answers) == 3
    assert read_squad(write("t.json", squad(qa("q", ("Anna", 0)), version="x", extra=[1])))


def test_json_lines_are_no_json(write):
    with pytest.raises(UserError, match="Extra data"):
        read_squad(write("afriqa.json", '{"id": 1}\n{"id": 2}\n'))


def test_sentences_of_xquad_r_are_slices_of_the_context(write):
    record = {"context": "Anna came. She left.", "sentence_breaks": [[0, 10], [11, 20]],
              "sentences": ["Anna came", "wrong"], "qas": [qa("q", ("left", 15))]}
    path = write("lareqa/xquad-r/en.json", json.dumps({"data": [{"paragraphs": [record]}]}))
    write("lareqa/xquad-r/._en.json", "\0\5\x16\7")       # what macOS leaves in archives
    found = list(readers.read_lareqa([path], "en", ()))
    assert [e.gold for e in found if e.side == "query"] == [("en_1_1",)]
    assert found[1].text.startswith("She left.Anna came.")


# ---- pairs and choices


def test_odd_characters_inside_a_text_stay_and_blanks_around_it_go(write):
    text = "".join(f"{one}x{one}" for one in ODD)
    path = write("dev-en.tsv", f"\u00a0 {text[2:-2]} \tb \u3000\tneutral\n")
    assert list(readers.read_pairs([path], "en", tasks.NLI)) == [
        Classification(1, text[2:-2].strip(), "b", "neutral")]


def test_the_copy_of_multinli_in_xnli_says_contradictory(write):
    path = write("multinli.train.en.tsv", "premise\thypo\tlabel\na\tb\tcontradictory\n")
    assert list(readers.read_pairs([path], "en", tasks.NLI))[0].label == "contradiction"


def test_qqp_has_empty_questions_and_literal_quotes_and_a_test_set_of_three_columns(write):
    head = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    path = write("train.tsv", head + '1\t1\t2\tWhy?\t\t0\n2\t3\t4\t"So" why?\t"So?"\t1\n')
    assert [e[1:] for e in readers.read_pairs([path], "en", ("0", "1"))] == [
        ("Why?", "", "0"), ('"So" why?', '"So?"', "1")]
    path = write("test.tsv", "id\tquestion1\tquestion2\n0\ta\tb\n")
    assert [e[1:] for e in readers.read_pairs([path], "en", ("0", "1"))] == [("a", "b", None)]


def test_glues_test_set_of_multinli_has_ten_columns_and_no_label(write):
    names = "index promptID pairID genre s1_parse s2_parse x y sentence1 sentence2".split()
    path = write("test_matched.tsv", "\t".join(names) + "\n" + "\t".join("0123456789") + "\n")
    assert list(readers.read_pairs([path], "en", tasks.NLI)) == [Classification(2, "8", "9", None)]


def test_cosmosqa_is_csv_with_commas_quotes_and_crlf(write):
    none = "None of the above choices ."
    path = write("valid.csv", "id,context,question,answer0,answer1,answer2,answer3,label\r\n"
                 f'a,"He said ""no"", and left.",Why ?,"a, b",{none},c,{none},2\r\n')
    (example,) = readers.read_cosmosqa([path], "en", ())
    assert example.context == 'He said "no", and left. Why ?' and example.label == 2
    assert example.endings == ("a, b", none, "c", none)


def test_equal_choices_are_told_apart_by_their_letters(write):
    choices = [{"label": x, "text": t} for x, t in zip("ABC", ("lake", "lake", "moon "))]
    row = {"question": {"stem": "Where?", "choices": choices}, "answerKey": "B"}
    (example,) = readers.read_commonsenseqa([write("d.jsonl", json.dumps(row) + "\n")], "en", ())
    assert example.label == 1 and example.endings == ("lake", "lake", "moon ")


def test_xcopa_has_crlf_and_copa_no_changed_and_test_labels_of_zero_are_none(write):
    row = {"premise": "p", "choice1": "a", "choice2": "a", "question": "effect", "label": 0}
    line = json.dumps(row) + "\r\n"
    few = list(readers.read_copa([write("val.sw.jsonl", line + json.dumps(
        row | {"changed": False, "label": 1}) + "\r\n")], "sw", ()))
    assert [e.label for e in few] == [0, 1] and few[0].context == "p What was the effect?"
    many = list(readers.read_copa([write("test.sw.jsonl", line * 500)], "sw", ()))
    assert {e.label for e in many} == {None}


# ---- words


def test_words_of_odd_characters_are_words(write, tokenizer):
    lines = "".join(f"x{one}\tO\n{one}\tO\n" for one in ODD)
    (sentence,) = tagging.read_tagged([write("dev-ta.tsv", lines)], "ta", tasks.IOB2)
    assert sentence.words == tuple(word for one in ODD for word in ("x" + one, one))
    f = data.FEATURIZE["tagging"](tasks.get("panx"), [sentence], tokenizer, tasks.IOB2, False)
    assert len(f.words) == 2 * len(ODD)
    tags = [("O",) * len(sentence.words)]
    assert submission.format_answers("tagging", [sentence], tags, tasks.IOB2).count("O\n") == 18


def test_an_entity_may_begin_with_i_in_unsegmented_languages(write):
    path = write("zh/dev", "zh:北\tI-LOC\nzh:京\tI-LOC\nzh:。\tO\n\n")
    (sentence,) = tagging.read_panx([path], "zh", tasks.IOB2)
    assert sentence == Tagging(1, ("北", "京", "。"), ("I-LOC", "I-LOC", "O"))
    assert metrics.chunks([sentence.tags]) == {("LOC", 0, 1)}


def test_copies_that_lost_words_are_refused_with_their_line(write):
    """Third-party copies of UD-POS: punctuation lost, a tab alone between sentences."""
    path = write("test-ar.tsv", "a\tNOUN\r\n\tPUNCT\r\n\t\r\nb\tNOUN\r\n")
    with pytest.raises(UserError, match="test-ar.tsv:3: unknown label ''"):
        list(tagging.read_udpos([path], "ar", tasks.UPOS))


# ---- retrieval and folders


def test_bucc_keeps_what_its_sentences_hold(write):
    german = write("de-en.dev.de", "de-000000001\ta\u00a0b\u2028c\td\n")
    paths = [german, write("de-en.dev.en", "en-000000001\tx\n"), write("de-en.dev.gold", "")]
    with pytest.raises(UserError, match="the file is empty"):
        list(readers.read_bucc(paths, "de", ()))
    (query, _) = readers.read_bucc(paths[:2], "de", ())
    assert (query.id, query.text) == ("de-000000001", "a\u00a0b\u2028c\td")


def test_what_archives_of_macos_hold_beside_the_data_is_no_language(write):
    folder = write("xquad/xquad.en.json", "{}").parents[1]
    for name in ("xquad/._xquad.de.json", "__MACOSX/xquad/xquad.zh.json", "xquad/.DS_Store",
                 "panx/.DS_Store", "panx/__MACOSX/._train", "text/mlm/._sw.txt"):
        write(name, "x")
    assert splits.languages(tasks.get("xquad"), folder, "test") == ["en"]
    assert splits.languages(tasks.get("panx"), folder, "train") == []
    assert splits.languages(tasks.get("mlm"), folder, "train") == []


# ---- vocabulary


def test_texts_without_pieces_and_texts_on_which_tokenizers_differ(xlmr):
    empty = ["", " ", "\t", "\n", "\u2581", "\u200b", "\ufeff", "\ufffd", "\7"]
    assert xlmr.encode(empty).bounds.tolist() == [0] * (len(empty) + 1)
    expected = {"\0": [6, 3], "\u00ad": [6, 231], "\u30ab\u3099": [6, 26618],
                "a\u0300\u0301b": [253, 4868, 275]}         # as sentencepiece and the slow one
    for text, ids in expected.items():
        assert xlmr.encode([text]).ids.tolist() == ids, text
