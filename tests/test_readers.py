"""Formats and broken files: what each reader gives, and the one line it raises instead.

All texts here are invented. Cases of XTREME's own preprocessing are replayed by check_oracle.py.
"""

import json

import pytest

import files
import readers
import tagging
from files import UserError
from readers import Classification, Document, MultipleChoice, Sentence, Span, Tagging

NLI = ("contradiction", "entailment", "neutral")
UPOS = tuple(
    "ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X".split()
)
IOB2 = ("B-LOC", "B-ORG", "B-PER", "I-LOC", "I-ORG", "I-PER", "O")


@pytest.fixture
def write(tmp_path):
    """write(name, text or bytes) -> path"""

    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return write


def fails(function, *args) -> str:
    """The message of the UserError that the call raises: always one line of at most 300."""
    with pytest.raises(UserError) as caught:
        result = function(*args)
        list(result)
    message = str(caught.value)
    assert "\n" not in message and len(message) <= 300
    return message


def squad(*questions, context="Anna bought the mill in 1912.", version="1.1"):
    """questions: (id, [(text, start), ...]) or whole dicts"""
    qas = [
        q if isinstance(q, dict) else {
            "id": q[0],
            "question": "Who?",
            "answers": [{"text": text, "answer_start": start} for text, start in q[1]],
        }
        for q in questions
    ]
    return {"version": version, "data": [{"paragraphs": [{"context": context, "qas": qas}]}]}


# ------------------------------------------------------------------------ lines


def test_only_line_feeds_end_lines(write):
    text = "a\u2028b\u2029c\x1cd\x1de\x85f\x0bg\x0ch\ri\r\n\r\nlast\r"
    assert list(files.read_lines(write("t", text))) == [
        (1, "a\u2028b\u2029c\x1cd\x1de\x85f\x0bg\x0ch\ri"), (2, ""), (3, "last")
    ]


def test_byte_order_mark_is_dropped_at_the_start_only(write):
    path = write("t", "\ufeffa\n\ufeffb\n")
    assert list(files.read_lines(path)) == [(1, "a"), (2, "\ufeffb")]
    assert files.read_json(write("j", '\ufeff{"a": 1}')) == {"a": 1}


def test_nul_and_blanks_are_ordinary(write):
    assert list(files.read_lines(write("t", "\x00 \xa0\n \n"))) == [(1, "\x00 \xa0"), (2, " ")]


def test_bytes_that_are_not_utf8(write):
    path = write("t", b"ab\n\xc3\xa4\xff\n")
    assert fails(files.read_lines, path) == f"{path}:2: not UTF-8 (byte 0xff at offset 5)"
    path = write("j", b'{\n"a": "\xe4"}')
    assert fails(files.read_json, path) == f"{path}:2: not UTF-8 (byte 0xe4 at offset 8)"
    path = write("bom", b"\xef\xbb\xbf\xff")
    assert "offset 3" in fails(files.read_lines, path)


@pytest.mark.parametrize("content, words", [
    (b"<!DOCTYPE html>\n<p>404", "HTML page"),
    (b"\xef\xbb\xbf  <HTML>", "HTML page"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n", "Git LFS pointer"),
])
def test_strangers_are_named(write, content, words):
    path = write("data", content)
    for read in (files.read_lines, files.read_json):
        assert words in fails(read, path) and str(path) in fails(read, path)


def test_missing_empty_and_folder(write, tmp_path):
    for read in (files.read_lines, files.read_json):
        assert "No such file" in fails(read, tmp_path / "none")
        assert "directory" in fails(read, tmp_path)
    assert "empty" in fails(files.read_lines, write("e", ""))
    assert "found 0" in fails(files.read_json, write("e", ""))


def test_a_line_over_16_megabytes(write):
    path = write("long", b"x\n" + b"a" * (files.MAX_LINE - 1) + b"\n")
    assert [len(text) for _, text in files.read_lines(path)] == [1, files.MAX_LINE - 1]
    path = write("long", b"x\n" + b"a" * files.MAX_LINE + b"\n")
    assert fails(files.read_lines, path).startswith(f"{path}:2: line too long")


def test_a_json_file_over_the_cap(write, monkeypatch):
    monkeypatch.setattr(files, "MAX_JSON", 9)
    assert files.read_json(write("j", '{"a":100}')) == {"a": 100}
    assert "found 10" in fails(files.read_json, write("j", '{"a":1000}'))


def test_messages_are_one_line_and_show_control_characters():
    error = UserError("tag 'a\n\x1b[31m\u2028\udc80' " + "x" * 400, "some/file", 7)
    assert str(error).startswith(r"some/file:7: tag 'a\n\x1b[31m\u2028\udc80' xxx")
    assert len(str(error)) == 300
    assert str(UserError("no place")) == "no place"
    assert str(UserError("in a file", "f")) == "f: in a file"
    assert str(UserError("is heard", "deep/" * 99 + "f", 3)).endswith("deep/f:3: is heard")


# ------------------------------------------------------------------------ JSON


@pytest.mark.parametrize("text, words", [
    ('{"a": 1, "a": 2}', "twice"),
    ('{"b": [{"a": 1, "a": 1}]}', "twice"),
    ('{"a": NaN}', "NaN"),
    ('[-Infinity]', "Infinity"),
    ('[1e999]', "1e999"),
    ('["\\ud800"]', "surrogate"),
    ('["\\udc00 \\ud83d"]', "surrogate"),
    ("[" * 100_000, "recursion"),
    ('{"a":' * 5000, "recursion"),
    ("[" + "9" * 5000 + "]", "4300"),
    ('{"a": 1} x', "Extra data"),
    ('{"a": "x\ty"}', "control character"),
    ("{'a': 1}", "double quotes"),
])
def test_json_is_strict(write, text, words):
    path = write("j", text)
    message = fails(files.read_json, path)
    assert message.startswith(str(path)) and words in message


def test_json_errors_know_their_line(write):
    path = write("j", '{"a": 1,\n"b": 2,\n')
    assert fails(files.read_json, path).startswith(f"{path}:3: ")
    path = write("l.jsonl", '{"a": 1}\n{"a": \n')
    assert fails(files.read_json_lines, path).startswith(f"{path}:2: ")
    path = write("l.jsonl", '{"a": 1}\n[1]\n')
    assert fails(files.read_json_lines, path) == f"{path}:2: expected an object, found list"


def test_json_keeps_what_is_fine(write):
    text = '{"pair": "\\ud83e\\udd56", "number": -1.5e3, "zero": 0, "null": null, "yes": true}'
    assert files.read_json(write("j", text)) == {
        "pair": "🥖", "number": -1500.0, "zero": 0, "null": None, "yes": True
    }


# ------------------------------------------------------------------------ SQuAD


def read_squad(write, data, lang="en"):
    return list(readers.read_squad([write("s.json", json.dumps(data))], lang, ()))


def test_squad_counts_code_points_and_shares_contexts(write):
    context = "Anna 🥖 bought the mill\nin 1912. "
    start = context.index("1912")
    first, second = read_squad(
        write, squad(("q1", [("1912", start), ("in 1912", start - 3)]), ("q2", [("Anna", 0)]),
                     context=context))
    assert first == Span(1, "q1", "Who?", context, (("1912", start), ("in 1912", start - 3)))
    assert first.context is second.context
    assert (second.row, second.id, second.answers) == (2, "q2", (("Anna", 0),))


@pytest.mark.parametrize("offset", [
    lambda text: len(text.encode("utf-16-le")) // 2, lambda text: len(text.encode("utf-8")),
    lambda text: len(text) + 1])
def test_other_ways_of_counting_are_noticed(write, offset):
    context = "Anna 🥖 bought the mill in 1912."
    data = squad(("q", [("1912", offset("Anna 🥖 bought the mill in "))]), context=context)
    assert "1 of 1 answers are not at answer_start" in fails(read_squad, write, data)


def test_squad_versions(write):
    spans = read_squad(write, squad(
        ("plain", [("Anna", 0)]),
        {"id": "none", "question": "q", "is_impossible": True, "answers": [],
         "plausible_answers": [{"text": "Anna", "answer_start": 0}]},
        {"id": "empty", "question": "q", "answers": []},
        {"id": "hidden", "question": "q"},
    ))
    assert [span.answers for span in spans] == [(("Anna", 0),), (), (), None]


def test_blanked_answers_are_no_gold(write):
    spans = read_squad(write, squad(("a", [("", 0)]), ("b", [("", 0)])))
    assert [span.answers for span in spans] == [None, None]


def test_a_bare_list_of_articles(write):
    assert len(read_squad(write, squad(("a", [("Anna", 0)]))["data"])) == 1


def test_lost_answers_up_to_one_percent_are_marked(write):
    right = [(f"r{i}", [("mill", 16)]) for i in range(99)]
    spans = read_squad(write, squad(*right, ("w", [("mill", 15)])))
    assert [span.answers[0] for span in spans] == [("mill", 16)] * 99 + [("mill", -1)]


def test_two_percent_are_too_many_and_offsets_from_the_end_are_lost(write):
    right = [(f"r{i}", [("mill", 16)]) for i in range(99)]
    lost = ("w1", [("1912", -5)]), ("w2", [("mill", 15)])
    assert "2 of 101 answers" in fails(read_squad, write, squad(*right, *lost))


def test_more_lost_answers_are_an_error_naming_three(write):
    wrong = [(f"w{i}", [("mill", start)]) for i, start in enumerate((15, -1, 99, 17))]
    right = [(f"r{i}", [("mill", 16)]) for i in range(100)]
    message = fails(read_squad, write, squad(*right, *wrong))
    assert "4 of 104" in message and "answer_start" in message
    assert "question 101 (id w0), question 102 (id w1), question 103 (id w2)" in message
    assert "w3" not in message


def test_an_empty_answer_among_others_is_lost(write):
    right = [(f"r{i}", [("mill", 16)]) for i in range(99)]
    assert read_squad(write, squad(*right, ("w", [("", 0)])))[-1].answers == (("", -1),)


@pytest.mark.parametrize("change, words", [
    (lambda data: data.pop("data"), "'data'"),
    (lambda data: data.update(data={}), "'data' is dict (expected list)"),
    (lambda data: data["data"].insert(0, None), "'paragraphs' in this NoneType"),
    (lambda data: data["data"][0]["paragraphs"][0].pop("context"), "'context'"),
    (lambda data: data["data"][0]["paragraphs"][0]["qas"][1].pop("question"), "'question'"),
    (lambda data: data["data"][0]["paragraphs"][0]["qas"][1].update(id=3), "'id' is int"),
    (lambda data: data["data"][0]["paragraphs"][0]["qas"][1].update(answers=3), "'answers'"),
    (lambda data: data["data"][0]["paragraphs"][0]["qas"][1]["answers"][0].update(
        answer_start=True), "'answer_start' is bool (expected int)"),
])
def test_squad_structure(write, change, words):
    data = squad(("a", [("Anna", 0)]), ("b", [("mill", 16)]))
    change(data)
    message = fails(read_squad, write, data)
    assert words in message and "s.json:question " in message
    if "qas" in repr(change.__code__.co_consts) and "update" in repr(change.__code__.co_names):
        assert "question 2" in message


def test_tydiqa_questions_of_other_languages_are_left_out(write):
    data = squad(*((name, [("Anna", 0)]) for name in (
        "english-1-0", "swahili--2-1", "telugu-3", "7", "toy-4", "17-english", "bengali")))
    names = {lang: [span.id for span in read_squad(write, data, lang)] for lang in ("en", "sw")}
    assert names["en"] == ["english-1-0", "7", "toy-4", "17-english"]
    assert names["sw"] == ["swahili--2-1", "7", "toy-4", "17-english"]
    assert [span.row for span in read_squad(write, data, "te")] == [3, 4, 5, 6]


# ------------------------------------------------------------------------ pairs


def read_pairs(path, lang="en", labels=NLI):
    return list(readers.read_pairs([path], lang, labels))


def test_multinli_json_lines(write):
    rows = [
        {"gold_label": "neutral", "sentence1": " a ", "sentence2": "b", "pairID": "1"},
        {"gold_label": "-", "sentence1": "c", "sentence2": "d"},
        {"gold_label": "contradictory", "sentence1": "", "sentence2": "f"},
    ]
    path = write("m.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert read_pairs(path) == [
        Classification(1, "a", "b", "neutral"), None, Classification(3, "", "f", "contradiction")
    ]


def test_jiant_json_lines_with_and_without_label(write):
    path = write("j.jsonl", '{"premise": "a", "hypothesis": "b", "label": "entailment"}\r\n')
    assert read_pairs(path) == [Classification(1, "a", "b", "entailment")]
    path = write("j.jsonl", '{"premise": "a", "hypothesis": "b"}\n')
    assert read_pairs(path) == [Classification(1, "a", "b", None)]


def test_glue_columns_are_found_by_name(write):
    train = write("train.tsv", "index\tsentence1\tsentence2\tlabel1\tgold_label\n"
                               '0\t"odd\tb "" c\tneutral\tentailment\n')
    dev = write("dev.tsv", "index\tgenre\tsentence1\tsentence2\tlabel1\tlabel2\tgold_label\n"
                           "0\tx\ta\tb\tneutral\tneutral\tcontradiction\n")
    test = write("test.tsv", "index\tsentence1\tsentence2\n0\ta\tb\n")
    assert read_pairs(train) == [Classification(2, '"odd', 'b "" c', "entailment")]
    assert read_pairs(dev) == [Classification(2, "a", "b", "contradiction")]
    assert read_pairs(test) == [Classification(2, "a", "b", None)]


def test_xnli_holds_all_languages_in_any_order_of_columns(write):
    path = write("xnli.dev.tsv", "sentence2\tlanguage\tgold_label\tsentence1\n"
                                 "b\tde\tneutral\ta\nd\ten\tentailment\tc\nf\tde\tneutral\te\n")
    assert read_pairs(path, "de") == [
        Classification(2, "a", "b", "neutral"), Classification(4, "e", "f", "neutral")
    ]
    assert read_pairs(path, "fr") == []


def test_xtreme_pairs_have_no_header_and_doubled_quotes(write):
    path = write("dev-en.tsv", '"He said ""no""."\tso "it" is\tneutral\r\n"""a"""\t"b\tentailment\r\n')
    assert read_pairs(path) == [
        Classification(1, 'He said "no".', 'so "it" is', "neutral"),
        Classification(2, '"a"', '"b', "entailment"),
    ]
    path = write("test-en.tsv", "a\tb\nc\td\n")
    assert read_pairs(path) == [Classification(1, "a", "b", None), Classification(2, "c", "d", None)]


@pytest.mark.parametrize("name, text, words", [
    ("x.tsv", "a\tb\tneutral\na\tb\n", ":2: expected 3 columns, found 2"),
    ("x.tsv", "a\tb\na\tb\tneutral\n", ":2: expected 2 columns, found 3"),
    ("x.tsv", "a\n", ":1: expected 2 columns, found 1"),
    ("x.tsv", "a\tb\tneutral\n\n", ":2: expected 3 columns, found 1"),
    ("x.tsv", "a\tb\tneutral\tx\n", ":1: expected 3 columns, found 4"),
    ("x.tsv", "a\tb\tneutral \n", ":1: unknown label 'neutral ' (expected contradiction, entail"),
    ("x.tsv", "a\tb\t\n", ":1: unknown label ''"),
    ("x.tsv", "sentence1\tlabel\na\tneutral\n", ":2: there is no 'sentence2'"),
    ("x.jsonl", '{"sentence1": "a", "label": "neutral"}\n', ":1: there is no 'sentence2'"),
    ("x.jsonl", '{"sentence1": "a", "sentence2": null}\n', "'sentence2' is NoneType (expected str)"),
    ("x.jsonl", '{"sentence1": "a", "sentence2": "b", "label": 1}\n', "unknown label '1'"),
    ("x.jsonl", '{"sentence1": "a"}\n\n', ":1: there is no 'sentence2'"),
])
def test_broken_pairs(write, name, text, words):
    path = write(name, text)
    message = fails(read_pairs, path)
    assert message.startswith(str(path)) and words in message


# ------------------------------------------------------------------------ choices


def hellaswag(**change):
    row = {"ctx_a": "Tom bakes.", "ctx_b": "he", "endings": ["sings.", "reads."], "label": 1}
    return json.dumps(row | change) + "\n"


def read_hellaswag(path):
    return list(readers.read_hellaswag([path], "en", ()))


def test_hellaswag(write):
    unlabelled = json.dumps({"ctx_a": "c", "ctx_b": "", "endings": ["x", "y"]}) + "\n"
    path = write("h.jsonl", hellaswag() + hellaswag(ctx_b="", label=0) + unlabelled)
    assert read_hellaswag(path) == [
        MultipleChoice(1, "Tom bakes.", ("he sings.", "he reads."), 1),
        MultipleChoice(2, "Tom bakes.", ("sings.", "reads."), 0),
        MultipleChoice(3, "c", ("x", "y"), None),
    ]


@pytest.mark.parametrize("change, words", [
    ({"label": 2}, "unknown label 2 (expected 0, 1)"),
    ({"label": -1}, "unknown label -1"),
    ({"label": True}, "'label' is bool"),
    ({"label": "1"}, "'label' is str"),
    ({"endings": []}, "no list of strings"),
    ({"endings": ["a", 3]}, "no list of strings"),
    ({"endings": "ab"}, "'endings' is str"),
    ({"ctx_a": None}, "'ctx_a' is NoneType"),
])
def test_broken_hellaswag(write, change, words):
    path = write("h.jsonl", hellaswag() + hellaswag(**change))
    message = fails(read_hellaswag, path)
    assert message.startswith(f"{path}:2: ") and words in message


# ------------------------------------------------------------------------ tags


def read_tagged(path, labels=IOB2, lang="en"):
    return list(tagging.read_panx([path], lang, labels))


def test_tagged_lines(write):
    path = write("dev-en.tsv", "\n\nAnna\tB-PER\r\n\tO\r\n\r\n\n:\tO\na b\tO")
    assert read_tagged(path) == [
        Tagging(3, ("Anna", ""), ("B-PER", "O")), Tagging(7, (":", "a b"), ("O", "O"))
    ]
    path = write("test-en.tsv", "Anna\nWeber\n\n.\n")
    assert read_tagged(path) == [Tagging(1, ("Anna", "Weber"), None), Tagging(4, (".",), None)]


def test_panx_tokens_carry_their_language(write):
    path = write("en/dev", "en:12:30\tO\nen::\tB-LOC\nen:\u3000\tI-LOC\n\nen:Ulm \t B-LOC\n\n")
    assert read_tagged(path) == [
        Tagging(1, ("12:30", ":", ""), ("O", "B-LOC", "I-LOC")), Tagging(5, ("Ulm",), ("B-LOC",))
    ]


def test_malformed_panx_lines_are_counted(write):
    path = write("en/dev", "en:a\tO\nb\tO\nen:c\tO\tx\nen:d\tO\n")
    assert read_tagged(path) == [
        Tagging(1, ("a",), ("O",)), Tagging(4, ("d",), ("O",)), None, None]


@pytest.mark.parametrize("name, text, words", [
    ("x.tsv", "Anna\tB-PER\nWeber\n", ":2: some words of a sentence have a tag, others none"),
    ("x.tsv", "Anna\nWeber\tO\n", ":2: some words"),
    ("x.tsv", "Anna\tO\n\nWeber\tB-XYZ\n", ":3: unknown label 'B-XYZ' (expected B-LOC, B-ORG"),
    ("x.tsv", "Anna\tO\nWeber\t\n", ":2: unknown label ''"),
    ("x.tsv", "Anna\tO\nWeber\tO\tx\n", ":2: expected word TAB tag, found"),
])
def test_broken_tags(write, name, text, words):
    path = write(name, text)
    message = fails(read_tagged, path)
    assert message.startswith(str(path)) and words in message


def test_ccg(write):
    tags = ("NP/N", "N", "S\\NP", ".")
    path = write("ccg.train", "The mill stands .\tNP/N N S\\NP .\n")
    assert list(tagging.read_ccg([path], "en", tags)) == [
        Tagging(1, ("The", "mill", "stands", "."), tags)
    ]
    path = write("ccg.test", "The mill\n")
    assert list(tagging.read_ccg([path], "en", tags)) == [Tagging(1, ("The", "mill"), None)]


@pytest.mark.parametrize("line, words", [
    ("The mill\tNP/N", "found [2, 1]"),
    ("The mill\tNP/N N\tNP/N N", "found [2, 2, 2]"),
    ("The  mill\tNP/N N", "found [3, 2]"),
    ("The mill\tNP/N NP", "unknown label 'NP' (expected NP/N, N)"),
    ("", "unknown label ''"),
])
def test_broken_ccg(write, line, words):
    path = write("ccg.train", f"The mill\tNP/N N\n{line or chr(9)}\n")
    message = fails(tagging.read_ccg, [path], "en", ("NP/N", "N"))
    assert message.startswith(f"{path}:2: ") and words in message


# ------------------------------------------------------------------------ treebanks


def conllu(*rows):
    """rows: 'id form tag head [enhanced heads]', ~ for a blank inside a form"""
    text = "# sent_id = 1\n# text = own\n"
    for row in rows:
        number, form, tag, head, *deps = row.split(" ")
        deps = deps[0] if deps else "_"
        text += "\t".join([number, form.replace("~", " "), "_", tag, "_", "_", head, "x", deps, "_"])
        text += "\n"
    return text + "\n"


def read_ud(write, text, lang="en"):
    return list(tagging.read_udpos([write("xx_own-ud-dev.conllu", text)], lang, UPOS))


def test_treebank_words(write):
    text = conllu("1 # SYM 0", "2 Hà~Nội PROPN 1", "2.1 gone VERB _", "3 a\u200cb NOUN 1",
                  "4 \u200c X 1", "5 1\xa0000 NUM 1", "6 _ PUNCT 1")
    assert read_ud(write, text) == [
        Tagging(3, ("#", "HàNội", "ab", "", "1\xa0000", "_"),
                ("SYM", "PROPN", "NOUN", "X", "NUM", "PUNCT"))
    ]


@pytest.mark.parametrize("lang, rows, tag", [
    ("fr", ("1 de ADP 3", "2 le DET 3", "3 pont NOUN 0"), "ADP"),  # equally high: rank
    ("en", ("1 do AUX 3", "2 n't PART 3", "3 go VERB 0"), "AUX"),
    ("en", ("1 gon PART 2", "2 na VERB 0", "3 x X 1"), "VERB"),  # the higher one
    ("en", ("1 x NOUN 2", "2 y ADJ 3", "3 z DET 0"), "ADJ"),
    ("en", ("1 x NOUN 3", "2 y ADJ 3", "3 z DET 0"), "NOUN"),
    ("en", ("1 x NOUN 3 3:a|4:b", "2 y ADJ 3", "3 z DET 0", "4 w X 3"), "ADJ"),  # enhanced
    ("en", ("1 x NOUN 3 3.1:a", "2 y ADJ 3", "3 z DET 0"), "NOUN"),  # empty nodes do not count
    ("it", ("1 x DET 3", "2 y ADP 3", "3 z VERB 0"), "ADP"),
    ("es", ("1 x PRON 2", "2 y NOUN 3", "3 z VERB 0"), "NOUN"),  # unranked, but higher
])
def test_multiword_tokens_take_the_tag_of_their_head(write, lang, rows, tag):
    (sentence,) = read_ud(write, conllu("1-2 fused _ _", *rows), lang)
    assert sentence.words[0] == "fused" and sentence.tags[0] == tag
    assert len(sentence.words) == len(rows) - 1


def test_ranges_do_not_disturb_each_other(write):
    text = conllu("1 a DET 4", "2-3 bc _ _", "2 b ADP 4", "3 c PRON 2", "4-5 de _ _", "4 d VERB 0",
                  "5 e PRON 4", "6 f PUNCT 4")
    assert read_ud(write, text) == [
        Tagging(3, ("a", "bc", "de", "f"), ("DET", "ADP", "VERB", "PUNCT"))
    ]


def test_sentences_without_text_are_dropped(write):
    hidden = conllu("1 _ DET 2", "2 _ NOUN 3", "3 . PUNCT 0")
    partly = conllu("1 _ DET 2", "2 x NOUN 3", "3 . PUNCT 0")
    assert read_ud(write, conllu("1 _ X 0") + hidden + partly) == [
        None, None, Tagging(13, ("_", "x", "."), ("DET", "NOUN", "PUNCT"))
    ]


@pytest.mark.parametrize("text, words", [
    (conllu("1 a DET 0")[:-1], ":3: the file ends inside a sentence"),
    (conllu("1 a DET 0") + "1\ta\tDET\n\n", ":5: expected 10 columns"),
    (conllu("x a DET 0"), ":3: expected 10 columns, the first like 7"),
    (conllu("1 a DET 0", "3 a DET 0"), ":1: the tokens of this sentence are not numbered"),
    (conllu("1 a DET 0", "1 a DET 0"), "not numbered"),
    ("# a comment alone\n\n", ":1: the tokens of this sentence are not numbered"),
    (conllu("1 a DET 0") + "\n", ":5: a blank line without a sentence before it"),
    ("\n" + conllu("1 a DET 0"), ":1: a blank line without a sentence before it"),
    (conllu("1-3 ab _ _", "1 a DET 0", "2 b X 0"), ":3: there are no tokens 1-3"),
    (conllu("2-1 ab _ _", "1 a DET 0", "2 b X 0"), "there are no tokens 2-1"),
    (conllu("1-999999 ab _ _", "1 a DET 0"), "there are no tokens"),
    (conllu("1 a DETX 0"), ":3: unknown label 'DETX'"),
    (conllu("1-2 ab _ _", "1 a SYM 3", "2 b SYM 3", "3 c VERB 0"), "no rank for a part of 1-2"),
])
def test_broken_treebanks(write, text, words):
    message = fails(read_ud, write, text)
    assert "xx_own-ud-dev.conllu:" in message and words in message


# ------------------------------------------------------------------------ retrieval, raw text


def read_tatoeba(*paths):
    return list(readers.read_tatoeba(list(paths), "de", ()))


def test_aligned_tatoeba_is_sorted_by_code_point(write):
    german = write("tatoeba.deu-eng.deu", "f0 \nf1\nf2\nf3\n")
    english = write("tatoeba.deu-eng.eng", " zoo\nÉté\napple \nZoo\n")
    assert read_tatoeba(german, english) == [
        Sentence(4, "3", "Zoo", "query", ("3",)),
        Sentence(3, "2", "apple", "query", ("2",)),
        Sentence(1, "0", "zoo", "query", ("0",)),
        Sentence(2, "1", "Été", "query", ("1",)),
        Sentence(1, "0", "f0 ", "candidate", ()),
        Sentence(2, "1", "f1", "candidate", ()),
        Sentence(3, "2", "f2", "candidate", ()),
        Sentence(4, "3", "f3", "candidate", ()),
    ]


def test_xtreme_tatoeba_hides_its_gold_and_keeps_its_order(write):
    english, german = write("toy-x-en.en", "b\na\n"), write("toy-x-en.toy-x", "f\ng\n")
    queries = read_tatoeba(english, german)[:2]
    assert queries == [Sentence(1, "0", "b", "query", None), Sentence(2, "1", "a", "query", None)]


def test_broken_tatoeba(write):
    german, english = write("de-en.de", "f\ng\n"), write("de-en.en", "a\nb\nc\n")
    message = fails(read_tatoeba, german, english)
    assert message == f"{german}: 2 lines, but 3 in de-en.en, the other side"
    assert "expected two sides" in fails(read_tatoeba, german)
    assert "expected two sides" in fails(read_tatoeba, english, english)
    assert "found 3" in fails(read_tatoeba, german, english, write("de-en.labels", "1\n"))


def test_documents(write):
    path = write("en.txt", "a b\n\n \t\n c\n")
    assert list(readers.read_documents([path], "en", ())) == [Document(1, "a b"), Document(4, " c")]


def test_rows_count_from_one_in_every_file(write):
    paths = [write("a.tsv", "x\tO\n"), write("b.tsv", "\ny\tO\n")]
    assert [example.row for example in tagging.read_tagged(paths, "en", IOB2)] == [1, 2]


# ------------------------------------------------------------------------ retrieval


def read_lareqa(path, lang="en"):
    return list(readers.read_lareqa([path], lang, ()))


def squad_file(contexts, answers, **more):
    """One question a paragraph, whose answer is the given text."""
    return json.dumps({"data": [{"paragraphs": [
        {"context": context, "qas": [{"id": f"q{i}", "question": f"Q{i}?", "answers": [
            {"text": answer, "answer_start": context.index(answer)}]}]} | more
        for i, (context, answer) in enumerate(zip(contexts, answers))]}]})


def test_sentences_of_squad_end_at_a_mark_before_a_blank(write):
    context = 'It cost 3.5 marks. "Who paid?" She did! No end'
    found = read_lareqa(write("train-v1.1.json", squad_file([context], ["She"])))
    texts = [e.text.removesuffix(context) for e in found if e.side == "candidate"]
    assert texts == ["It cost 3.5 marks.", '"Who paid?"', "She did!", "No end"]
    assert found[-1].gold == ("en_1_2",) and found[-1].id == "q0_en"


def test_answers_of_all_languages_are_right(write):
    breaks = {"sentence_breaks": [[0, 5], [6, 11]], "sentences": []}
    de = write("r/de.json", squad_file(["ab cd ef gh"], ["ef"], **breaks))
    write("r/zh.json", squad_file(["ij kl mn op"], ["ij"], **breaks))
    assert read_lareqa(de, "de")[-1].gold == ("de_1_1", "zh_1_0")
    assert read_lareqa(de, "de")[0].text == "ab cdab cd ef gh"


def test_a_question_outside_all_sentences_is_withheld(write):
    path = write("r/de.json", squad_file(["ab cd ef gh"], ["gh"], sentence_breaks=[[0, 5]]))
    assert read_lareqa(path, "de") == [None]


def test_mentions_are_marked_and_braces_before_them_escaped(write):
    text = "Es regnete. Das {große} Boot\nsank."
    mention = {"example_id": "m1", "entity_id": "Q1",
               "mention_span": {"start": 24, "end": 28, "text": "Boot"}}
    context = {"text": text, "sentence_spans": [{"start": 0, "end": 11}, {"start": 12, "end": 34}]}
    path = write("test-de.jsonl", json.dumps({"context": context, "mention": mention}) + "\n")
    assert list(readers.read_mewslix([path], "de", ())) == [
        Sentence(1, "m1", "Boot: Das (große) { Boot } sank.", "query", ("Q1",))]
    context["sentence_spans"] = [{"start": 0, "end": 26}]
    path = write("test-de.jsonl", json.dumps({"context": context, "mention": mention}) + "\n")
    assert fails(readers.read_mewslix, [path], "de", ()).startswith(f"{path}:1: the mention is not")


def test_bucc_wants_both_sides(write):
    german, english = write("de-en.dev.de", "de-1\ta\n"), write("de-en.dev.en", "en-1\tb\n")
    found = list(readers.read_bucc([german, english], "de", ()))
    assert [e.gold for e in found] == [None, ()]                # a test set without gold
    assert "expected .de, .en and .gold" in fails(readers.read_bucc, [german], "de", ())
    broken = write("x/de-en.dev.de", "de-1 a\n")
    assert fails(readers.read_bucc, [broken, english], "de", ()).startswith(f"{broken}:1: ")


def test_choices_with_broken_rows_are_named(write):
    path = write("n.jsonl", '{"question": {"stem": "s", "choices": []}}\n')
    assert "without choices" in fails(readers.read_commonsenseqa, [path], "en", ())
    path = write("c.csv", "id,context,question,answer0,answer1,answer2,answer3,label\na,b,c,d\n")
    assert fails(readers.read_cosmosqa, [path], "en", ()).startswith(f"{path}:2: expected 8 columns")
    path = write("d.csv", 'id,context\n"a,b\n')
    assert "no CSV" in fails(readers.read_cosmosqa, [path], "en", ())
    path = write("q.jsonl", '{"question": {"stem": "s", "choices": [{"label": "B", "text": "t"}]},'
                 ' "answerKey": "A"}\n')
    assert "unknown label 'A'" in fails(readers.read_commonsenseqa, [path], "en", ())
    path = write("x.jsonl", '{"premise": "p", "choice1": "a", "choice2": "b", "question": "why"}\n')
    assert "unknown label 'why'" in fails(readers.read_copa, [path], "en", ())


def test_a_quoted_row_of_qqp_goes_on_in_the_next_line(write):
    head = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    path = write("train.tsv", head + '1\t1\t2\t"Why\nso"\tWhy?\t1\n')
    assert read_pairs(path, labels=("0", "1")) == [Classification(3, '"Why\nso"', "Why?", "1")]
    path = write("cut.tsv", head + '1\t1\t2\t"Why\n')
    assert "ends inside a quoted field" in fails(read_pairs, path)


def test_anlis_letters_are_labels(write):
    path = write("dev.jsonl", '{"context": "a", "hypothesis": "b", "label": "e"}\n')
    assert read_pairs(path) == [Classification(1, "a", "b", "entailment")]


def test_a_short_row_is_never_glued_to_a_whole_one(write):
    """Only an open quote makes a row go on, and it must close."""
    head = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    closed = write("a.tsv", head + '1\t1\t2\ta\t"b" c\n0\t1\n')
    assert fails(read_pairs, closed, "en", ("0", "1")) == f"{closed}:2: expected 6 columns, found 5"
    fused = write("b.tsv", 'a\tb\t1\n"x\nc\td\t0\n')
    assert fails(read_pairs, fused, "en", ("0", "1")).startswith(f"{fused}:2: expected 3 columns")


def test_gold_of_sentences_that_are_not_there(write):
    paths = [write("de-en.dev.de", "de-1\ta\n"), write("de-en.dev.en", "en-1\tb\n"),
             write("de-en.dev.gold", "en-1\tde-1\n")]
    assert fails(readers.read_bucc, paths, "de", ()) == f"{paths[2]}:1: no sentence has the id 'en-1'"


@pytest.mark.parametrize("paragraph", [
    {"context": "a b", "qas": [], "sentence_breaks": [1]}, {"context": "a", "qas": [1]},
    {"context": "a", "qas": [{"id": "q"}], "sentence_breaks": [[0, 1]]}, {"qas": []}, 5])
def test_broken_lareqa_names_its_paragraph(write, paragraph):
    path = write("r/de.json", json.dumps({"data": [{"paragraphs": [paragraph]}]}))
    assert fails(readers.read_lareqa, [path], "en", ()).startswith(f"{path}:paragraph 1: ")


@pytest.mark.parametrize("record", [
    {"context": {}}, {"context": {}, "mentions": 5}, {"mention": {}}, {"context": {}, "mention": 5}])
def test_broken_mentions_name_their_line(write, record):
    path = write("test-de.jsonl", json.dumps(record) + "\n")
    assert fails(readers.read_mewslix, [path], "de", ()).startswith(f"{path}:1: ")
