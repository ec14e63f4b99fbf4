"""Tests of metrics.py: recorded official outputs, cases worked by hand, round trips, properties."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

import check_oracle  # first: it puts the repository on the path
import metrics
import search
import submission
from files import UserError
from readers import Classification, MultipleChoice, Sentence, Span, Tagging, parse_squad

ORACLE = Path(__file__).resolve().parents[2] / "shared" / "oracle"

EXAMPLES = {
    "classification": [
        Classification(1, "premise", "hypothesis", "neutral"),
        Classification(2, "premise", "hypothesis", "not entailment"),
        Classification(4, "premise", "hypothesis", "neutral"),
    ],
    "multiple_choice": [
        MultipleChoice(1, "context", ("one", "two"), 1),
        MultipleChoice(2, "context", ("one", "two", "three"), 0),
    ],
    "span": [
        Span(1, "q-1", "question", "context", (("Nairobi", 3), ("the city of Nairobi", 0))),
        Span(2, "q-2", "question", "context", (('"北京"\n\u2028 \\', 3),)),
        Span(3, "q-3", "question", "context", (("x y", 3),)),
    ],
    "tagging": [
        Tagging(1, ("Anna", "Bo", ""), ("B-PER", "I-PER", "O")),
        Tagging(5, ("Paris",), ("I-LOC",)),
    ],
    "pairs": [
        Sentence(2, "1", "a", "query", ("1",)),
        Sentence(1, "0", "b", "query", ("0",)),
        Sentence(1, "0", "β", "candidate", ()),
        Sentence(2, "1", "α", "candidate", ()),
    ],
    "mining": [
        Sentence(1, "de-1", "a", "query", ("en-2",)),
        Sentence(2, "de-2", "b", "query", ()),
        Sentence(1, "en-1", "c", "candidate", ()),
        Sentence(2, "en-2", "d", "candidate", ()),
    ],
    "ranked": [
        Sentence(1, "q_de", "a", "query", ("de_1_0", "en_1_0")),
        Sentence(1, "de_1_0", "b", "candidate", ()),
    ],
}
METRIC = {
    "classification": "accuracy",
    "multiple_choice": "accuracy",
    "span": "squad_v1",
    "tagging": "chunk_f1",
    "pairs": "retrieval_accuracy",
    "mining": "mined_f1",
    "ranked": "lareqa_map20",
}
GOLD = {
    "classification": [example.label for example in EXAMPLES["classification"]],
    "multiple_choice": [example.label for example in EXAMPLES["multiple_choice"]],
    "span": [example.answers[0][0] for example in EXAMPLES["span"]],
    "tagging": [example.tags for example in EXAMPLES["tagging"]],
    "pairs": ["1", "0", None, None],
    "mining": ["en-2", None, None, None],
    "ranked": [("de_1_0", "en_1_0"), None],
}
KINDS = list(EXAMPLES)


def question(answers, row=1) -> Span:
    texts = None if answers is None else tuple((text, 0) for text in answers)
    return Span(row, f"q{row}", "question", "context", texts)


# ---- Official outputs ---------------------------------------------------------------------------


@pytest.mark.skipif(not ORACLE.is_dir(), reason="the recorded cases (../shared/oracle) are absent")
@pytest.mark.parametrize("metric", check_oracle.RUNS)
def test_official_cases(metric):
    assert check_oracle.check_file(ORACLE / f"{metric}.visible.json") == []


@pytest.mark.parametrize(
    "files, output, wrong",
    [
        (("a\nb", "a\nc"), {"accuracy": 50.0}, 0),
        (("a\nb", "a\nc"), {"accuracy": 50.00001}, 1),
        (("a\nb", "a\nc"), {"accuracy": 50.0, "f1": 50.0}, 1),
        (("a\nb", "a\nc"), {"error": "AssertionError"}, 1),
        (("a\nb", "a"), {"error": "AssertionError"}, 0),
        (("a\nb", "a"), {"accuracy": 50.0}, 1),
        ((5, "a"), {"error": "AssertionError"}, 1),  # a crash is no UserError
    ],
)
def test_checker_notices_disagreement(files, output, wrong, tmp_path, capsys):
    given = {"label_file": files[0], "prediction_file": files[1]}
    record = {
        "meta": {"metric": "accuracy"},
        "cases": [{"id": "c", "input": given, "output": output}],
    }
    path = tmp_path / "accuracy.json"
    path.write_text(json.dumps(record), encoding="utf-8")
    assert check_oracle.main([str(path)]) == wrong
    assert f"{1 - wrong} of 1 agree" in capsys.readouterr().out


# ---- By hand ------------------------------------------------------------------------------------


def test_label_files_are_read_as_text_mode_does():
    text = "a\r\n b\u00a0\rc\u2028d\x1ce\n\n"
    assert submission.read_labels(text) == ["a", "b", "c\u2028d\x1ce", ""]
    assert submission.read_labels("") == []


def test_blank_lines_end_sentences():
    assert submission.read_tags("\nA\nB\n\n \t\nC") == [(), ("A", "B"), (), ("C",)]
    assert submission.read_tags("A\n\n") == submission.read_tags("A") == [("A",)]


@pytest.mark.parametrize(
    "tags, chunks",
    [
        ("B-PER I-PER O", {("PER", 0, 1)}),
        ("O I-LOC I-LOC", {("LOC", 1, 2)}),
        ("B-PER I-LOC", {("PER", 0, 0), ("LOC", 1, 1)}),
        ("B-PER B-PER", {("PER", 0, 0), ("PER", 1, 1)}),
        ("NOUN NOUN VERB", {("NOUN", 0, 1), ("VERB", 2, 2)}),
        ("SYM SYM", {("SYM", 0, 0), ("SYM", 1, 1)}),
        ("CCONJ SCONJ X", {("CCONJ", 0, 0), ("SCONJ", 1, 1), ("X", 2, 2)}),
        ("O O", set()),
    ],
)
def test_chunks(tags, chunks):
    assert metrics.chunks([tags.split()]) == chunks


def test_chunk_f1_beside_accuracy():
    # Gold has 3 chunks, the answer 3, of which 2 are right; 6 of 7 tags are.
    gold = [("B-PER", "I-PER", "O"), ("B-LOC", "I-LOC", "O", "B-ORG")]
    answer = [("B-PER", "I-PER", "O"), ("B-LOC", "O", "O", "B-ORG")]
    values = metrics.chunk_f1(gold, answer)
    assert values == pytest.approx(
        {"f1": 200 / 3, "precision": 200 / 3, "recall": 200 / 3, "accuracy": 600 / 7}
    )


def test_accuracy_of_tagging_counts_words():
    answers = [("B-PER", "O", "O"), None]
    assert metrics.METRICS["accuracy"](EXAMPLES["tagging"], answers) == {"accuracy": 50.0}


@pytest.mark.parametrize(
    "text, normal",
    [
        ("The co-operate  a U.S.", "cooperate us"),
        ("“Über” den Fluß", "“über” den fluß"),
        ("theatre", "theatre"),
        ("a\u0301rbol", "\u0301rbol"),  # \b cuts before a combining mark
        ("...", ""),
    ],
)
def test_normalize(text, normal):
    assert metrics.normalize(text) == normal


@pytest.mark.parametrize(
    "golds, answer, v1, v2",
    [
        (["x y"], "x", (0, 2 / 3), (0, 2 / 3)),
        (["x", "x y z"], "z x", (0, 0.8), (0, 0.8)),
        (["x x y"], "x y y", (0, 2 / 3), (0, 2 / 3)),
        (["the"], "...", (1, 0), (1, 1)),
        (["the", "x"], "the", (1, 0), (0, 0)),
    ],
)
def test_one_question(golds, answer, v1, v2):
    assert metrics.squad_v1_question(question(golds), answer) == pytest.approx(v1)
    assert metrics.squad_v2_question(question(golds), answer) == pytest.approx(v2)


def test_squad_v2_thresholds():
    # By rising probability q1 adds 1 (to 1 for q3), q3 costs 1, q2 adds 0 or 2/3.
    # Above 0.5 the answer to q2 counts as none.
    examples = [question(["x"], 1), question(["y z"], 2), question([], 3)]
    probs = {"q3": 0.2, "q1": 0.1, "q2": 0.9}
    assert metrics.squad_v2(examples, ["x", "y", "w"], probs, 0.5) == pytest.approx(
        {
            "exact": 100 / 3, "f1": 100 / 3, "total": 3,
            "HasAns_exact": 50, "HasAns_f1": 50, "HasAns_total": 2,
            "NoAns_exact": 0, "NoAns_f1": 0, "NoAns_total": 1,
            "best_exact": 200 / 3, "best_exact_thresh": 0.1,
            "best_f1": 200 / 3, "best_f1_thresh": 0.1,
        }
    )  # fmt: skip
    with pytest.raises(UserError, match="no number"):
        metrics.squad_v2(examples, ["x", "y", "w"], {"q1": 0.1})


def test_squad_v2_counts_an_id_once():
    """evaluate-v2.0.py keeps scores under their ids: the last question of an id is what stays."""
    examples = [question([], 1), question(["x"], 1), question([], 2)]
    found = metrics.squad_v2(examples, ["x", "x", ""])
    assert (found["total"], found["exact"], found["NoAns_total"]) == (2, 100, 1)


def test_the_list_of_answers_decides_what_is_unanswerable():
    qa = {"id": "q1", "question": "q", "is_impossible": True}
    for answers, expected in ([], ()), ([{"text": "x", "answer_start": 0}], (("x", 0),)):
        data = [{"paragraphs": [{"context": "x", "qas": [qa | {"answers": answers}]}]}]
        assert next(parse_squad(data, "FILE")).answers == expected
    data = [{"paragraphs": [{"context": "x", "qas": [qa]}]}]
    assert next(parse_squad(data, "FILE")).answers == ()


def test_what_is_no_id_is_a_wrong_answer_and_no_gold():
    read = submission.read_rankings
    gold = {"a": ["Q1"], "b": ["3"]}
    given = read('{"a": [null, ["Q1"], "Q1"], "b": [3]}', "FILE")
    assert metrics.mewslix_map20(gold, given) == {"map@20": pytest.approx(100 / 3 / 2)}
    with pytest.raises(UserError, match="'a' has no gold"):
        metrics.mewslix_map20(read('{"a": [1]}', "FILE"), {})
    with pytest.raises(UserError, match="no list"):
        read('{"a": {"Q1": 1}}', "FILE")


def test_nearest():
    candidates = np.array([[3, 0], [0, 1], [0, 1], [0, 0]])
    queries = np.array([[1, 0.1], [0.1, 0.9], [-1, -1]])
    assert search.nearest(queries, candidates).tolist() == [0, 1, 3]
    assert search.nearest(queries, candidates, cosine=False).tolist() == [3, 1, 3]


def test_nearest_in_blocks(monkeypatch):
    numbers = np.random.default_rng(0)
    queries, candidates = numbers.normal(size=(50, 8)), numbers.normal(size=(30, 8))
    whole = search.nearest(queries, candidates)
    cosines = search.unit(queries) @ search.unit(candidates).T
    assert whole.tolist() == cosines.argmax(1).tolist()
    monkeypatch.setattr(search, "BLOCK", 64)
    assert search.nearest(queries, candidates).tolist() == whole.tolist()


# ---- Prediction files ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_gold_scores_100_through_a_file(kind):
    text = submission.format_answers(kind, EXAMPLES[kind], GOLD[kind])
    answers = submission.parse_answers(kind, text, EXAMPLES[kind])
    assert answers == GOLD[kind]
    values = metrics.METRICS[METRIC[kind]](EXAMPLES[kind], answers)
    assert values.keys() >= set(metrics.MAIN[METRIC[kind]])
    assert set(values.values()) == {100.0}


def test_forms_of_the_files():
    texts = {kind: submission.format_answers(kind, EXAMPLES[kind], GOLD[kind]) for kind in KINDS}
    assert texts["classification"] == "neutral\nnot entailment\nneutral\n"
    assert texts["multiple_choice"] == '{"label": 1}\n{"label": 0}\n'
    assert json.loads(texts["span"]) == {"q-1": "Nairobi", "q-2": '"北京"\n\u2028 \\', "q-3": "x y"}
    assert texts["tagging"] == "B-PER\nI-PER\nO\n\nI-LOC\n\n"
    assert texts["pairs"] == "1\n0\n"
    assert texts["mining"] == "de-1\ten-2\n"
    assert texts["ranked"] == '{"q_de": ["de_1_0", "en_1_0"]}\n'
    assert submission.EXTENSION.keys() == texts.keys()


def test_empty_gold_of_squad():
    """The one case where gold fed back does not score 100: F1 0 in v1.1 (but 100 in v2.0)."""
    examples = [question(["The"])]
    assert metrics.squad_v1(examples, ["The"]) == {"exact_match": 100.0, "f1": 0.0}
    assert metrics.squad_v2(examples, ["The"])["f1"] == 100.0
    assert metrics.squad_v2([question([])], [""])["exact"] == 100.0


@pytest.mark.parametrize("kind", KINDS)
def test_missing_answers_score_0(kind):
    values = metrics.METRICS[METRIC[kind]](EXAMPLES[kind], [None] * len(EXAMPLES[kind]))
    assert all(values[name] == 0 for name in metrics.MAIN[METRIC[kind]])


def test_prediction_file_may_hold_other_questions():
    text = '{"q-3": "x", "other": null}'
    assert submission.parse_answers("span", text, EXAMPLES["span"]) == [None, None, "x"]


@pytest.mark.parametrize(
    "kind, answers",
    [
        ("classification", ["neutral", "neutral"]),
        ("classification", ["neutral", None, "neutral"]),
        ("classification", ["neutral", "neu\ntral", "neutral"]),
        ("classification", ["neutral", " neutral", "neutral"]),
        ("multiple_choice", [1, None]),
        ("span", ["x", None, "y"]),
        ("tagging", [("O", "O"), ("O",)]),
        ("tagging", [("O", "O", ""), ("O",)]),
        ("tagging", [("O", "O", "O")]),
        ("tagging", [None, ("O",)]),
        ("pairs", ["1", None, None, None]),
        ("pairs", ["1", "7", None, None]),
        ("pairs", ["1", "0"]),
        ("pairs", ["1", "0", "1", None]),
        ("multiple_choice", [2, 0]),
        ("multiple_choice", [-1, 0]),
        ("multiple_choice", ["1", 0]),
        ("multiple_choice", [1]),
        ("span", ["x", 7, "y"]),
        ("span", ["x", "y"]),
        ("tagging", [("O", "O", "B-LOC\n"), ("O",)]),
        ("mining", ["en-3", None, None, None]),
        ("mining", ["de-2", None, None, None]),
        ("mining", ["en-1", None, "en-1", None]),
        ("mining", ["en-1", None]),
        ("ranked", [None, None]),
        ("ranked", [("de_1_0", "de_1_0"), None]),
        ("ranked", [("de_1_0",), ("de_1_0",)]),
        ("ranked", [("de_1_0",)]),
    ],
)
def test_answers_that_no_file_can_hold(kind, answers):
    with pytest.raises(UserError):
        submission.format_answers(kind, EXAMPLES[kind], answers)


@pytest.mark.parametrize("kind, answers", [
    ("classification", ["neutral", "maybe", "neutral"]),
    ("classification", ["neutral", "\ufeffneutral", "neutral"]),
    ("tagging", [("O", "O", "B-XYZ"), ("O",)]),
    ("tagging", [("O", "O", "O"), ("I-PER O",)]),
])
def test_labels_that_the_row_has_not_are_not_written(kind, answers):
    assert submission.format_answers(kind, EXAMPLES[kind], answers)
    with pytest.raises(UserError, match="was not to choose from"):
        submission.format_answers(kind, EXAMPLES[kind], answers,
                                  ("neutral", "not entailment", "O", "B-PER", "I-PER"))


def test_repeated_ids_cannot_be_written():
    with pytest.raises(UserError, match="ids"):
        submission.format_answers("span", [question(["x"]), question(["x"])], ["x", "x"])


@pytest.mark.parametrize(
    "kind, text, place",
    [
        ("classification", "neutral\nneutral\nneutral\n\n", "FILE: "),
        ("multiple_choice", '{"label": 1}\n{"lable": 0}\n', "FILE:2: "),
        ("multiple_choice", '{"label": 1}\n[0]\n', "FILE:2: "),
        ("multiple_choice", '{"label": 1}\n\n', "FILE:2: "),
        ("span", '["x"]', "FILE: "),
        ("span", '{"q-1": "x"', "FILE: "),
        ("span", "[" * 100_000, "FILE: "),
        ("span", '{"q-1": 7}', "FILE: "),
        ("span", '{"q-1": null}', "FILE: "),
        ("tagging", "O\nO\n\nO\n", "FILE: "),
        ("tagging", "O\nO\nO\n\nO\n\n\n", "FILE: "),
        ("pairs", "[1]\n[0]\n", "FILE:1: "),  # as evaluate_retrieval.py leaves them
        ("pairs", "1\n", "FILE: "),
    ],
)
def test_broken_files_are_named(kind, text, place):
    with pytest.raises(UserError) as error:
        submission.parse_answers(kind, text, EXAMPLES[kind], "FILE")
    assert str(error.value).startswith(place)


# ---- Properties ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_scored(kind):
    metric = metrics.METRICS[METRIC[kind]]
    with pytest.raises(UserError, match="number"):
        metric(EXAMPLES[kind], GOLD[kind][:-1])
    withheld = [example._replace(**{example._fields[-1]: None}) for example in EXAMPLES[kind]]
    with pytest.raises(UserError, match="no gold"):
        metric(withheld, GOLD[kind])
    if kind not in ("tagging", "mining"):  # the official script gives 0 there
        with pytest.raises(UserError, match="nothing to score"):
            metric([], [])


def test_squad_v1_needs_gold_and_v2_needs_answers():
    with pytest.raises(UserError, match="no gold"):
        metrics.squad_v1([question([])], ["x"])
    with pytest.raises(UserError, match="no answer"):
        metrics.squad_v2([question(["x"])], [None])


def random_tags(numbers: random.Random, tags: list[str]) -> tuple[list, list]:
    """Random sentences, and the same with every fourth tag drawn again."""
    gold = [numbers.choices(tags, k=numbers.randint(1, 9)) for _ in range(20)]
    answer = [[numbers.choice([*[tag] * 3, numbers.choice(tags)]) for tag in s] for s in gold]
    return gold, answer


PANX = ["O", "O", "O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"]


@pytest.mark.parametrize("metric", ["accuracy", "chunk_f1", "squad_v1", "squad_v2"])
def test_order_of_examples_is_nothing(metric):
    numbers = random.Random(1)
    gold, answers = random_tags(numbers, PANX)
    if metric == "accuracy":
        examples = [Classification(1, "", "", tags[0]) for tags in gold]
        answers = [tags[0] for tags in answers]
    elif metric == "chunk_f1":
        examples = [Tagging(1, tuple(tags), tuple(tags)) for tags in gold]
    else:
        examples = [question([" ".join(tags)], row) for row, tags in enumerate(gold)]
        answers = [" ".join(tags) for tags in answers]
    order = numbers.sample(range(20), 20)
    values = metrics.METRICS[metric](examples, answers)
    shuffled = metrics.METRICS[metric]([examples[i] for i in order], [answers[i] for i in order])
    assert 0 < values[metrics.MAIN[metric][0]] < 100
    assert values == pytest.approx(shuffled)


def test_chunk_f1_equals_seqeval():
    """Later versions of seqeval agree where every tag is O, B-x or I-x and lengths are equal."""
    seqeval = pytest.importorskip("seqeval.metrics")
    numbers = random.Random(0)
    for _ in range(100):
        gold, answer = random_tags(numbers, PANX)
        ours = metrics.chunk_f1(gold, answer)
        assert ours["f1"] == pytest.approx(100 * seqeval.f1_score(gold, answer))
        assert ours["precision"] == pytest.approx(100 * seqeval.precision_score(gold, answer))
        assert ours["recall"] == pytest.approx(100 * seqeval.recall_score(gold, answer))
        assert ours["accuracy"] == pytest.approx(100 * seqeval.accuracy_score(gold, answer))


def test_squad_on_parsed_json():
    qas = [
        {"id": "a", "question": "q", "answers": [{"text": "The Nile", "answer_start": 0}]},
        {"id": "b", "question": "q", "answers": [{"text": "x", "answer_start": 5}]},
    ]
    data = {"data": [{"paragraphs": [{"context": "The Nile", "qas": qas}]}]}
    examples = list(parse_squad(data, "gold.json"))
    answers = submission.parse_answers("span", '{"a": "nile"}', examples)
    assert metrics.squad_v1(examples, answers) == {"exact_match": 50.0, "f1": 50.0}
