"""Scores of examples: their mean is the score, their spread its error; what flipped between runs."""

import math
import random
import re
from statistics import mean

import pytest

import compare
import eval as evaluation
import metrics
import splits
import tasks
from invent import LABELS, plant_data, plant_run, write
from readers import Classification, Sentence, Span, Tagging
from test_eval import GOLD, TINY

WRONG = {
    "classification": lambda e: "another", "multiple_choice": lambda e: 1 - (e.label or 0),
    "tagging": lambda e: e.tags[1:] + e.tags[:1], "span": lambda e: f"not {GOLD['span'](e)}",
    "pairs": lambda e: "none of them", "mining": lambda e: "none of them",
    "ranked": lambda e: ("a", *(e.gold or ()))}


def answers_of(row, examples: list, share: float) -> list:
    rng = random.Random(0)
    return [(GOLD if rng.random() < share else WRONG)[row.form](e) for e in examples]


@pytest.mark.parametrize("row", [r for r in tasks.ROWS if r.kind != "mlm"], ids=lambda r: r.name)
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_mean_over_examples_is_the_score_of_every_row(row, share):
    found = 0
    for split in [*row.files, *(["dev"] if row.members else [])]:
        for lang in splits.languages(row, TINY, split):
            loaded = splits.load(row, TINY, split, lang)
            if not loaded.labelled:
                continue
            answers = answers_of(row, loaded.examples, share)
            values = evaluation.score_groups(row, loaded.examples, answers, loaded.groups, lang)
            scores = compare.example_scores(row, loaded.examples, answers, lang, loaded.groups)
            assert mean(scores) == pytest.approx(evaluation.task_score(row, values), abs=1e-9)
            assert len(scores) == len(compare.cluster_ids(row, loaded.examples, lang))
            found += 1
    assert found


def test_right_and_wrong_stay_exactly_100_and_0():
    row = tasks.get("xnli")
    examples = [Classification(i, "a", "b", LABELS[i % 3]) for i in range(7)]
    answers = [LABELS[0]] * 7
    assert compare.example_scores(row, examples, answers, "de") == [100, 0, 0, 100, 0, 0, 100]


def random_tags(rng) -> tuple:
    return tuple(rng.choice(("O", "B-PER", "I-PER", "B-LOC")) for _ in range(rng.randint(3, 12)))


def test_the_error_of_a_difference_of_f1_is_that_of_resampling():
    """The standard error from linear values against 2,000 bootstrap draws of corpus F1."""
    rng, row = random.Random(1), tasks.get("panx")
    examples = [Tagging(i, tags, tags) for i, tags in enumerate(random_tags(rng) for _ in range(150))]
    runs = [[tuple(tag if rng.random() < share else "O" for tag in e.tags) for e in examples]
            for share in (0.6, 0.8)]
    scores = [compare.example_scores(row, examples, answers, "de") for answers in runs]
    units = [compare.units(row, examples, answers, "de")[0] for answers in runs]
    differences = []
    for _ in range(2000):
        drawn = rng.choices(range(150), k=150)
        f1 = [100 * sum(unit[i][0] for i in drawn) / sum(unit[i][1] for i in drawn) for unit in units]
        differences.append(f1[1] - f1[0])
    centre = mean(differences)
    spread = math.sqrt(mean((value - centre) ** 2 for value in differences))
    error = compare.standard_error([(b - a, 1) for a, b in zip(*scores)])
    assert mean(scores[0]) == pytest.approx(metrics.chunk_f1([e.tags for e in examples], runs[0])["f1"])
    assert error == pytest.approx(spread, rel=0.06)


def test_standard_errors_by_hand():
    assert compare.standard_error([(a, 1) for a in (1, 2, 6)]) == pytest.approx(math.sqrt(7 / 3))
    unequal = [(4, 2), (1, 1), (0, 1)]                      # ratio 5 / 4, shares 1/2, 1/4, 1/4
    expected = math.sqrt(1.5 ** 2 / 0.5 + 0.25 ** 2 / 0.75 + 1.25 ** 2 / 0.75) / 4
    assert compare.standard_error(unequal) == pytest.approx(expected)
    for alone in ([], [(1, 1)], [(3, 2), (0, 0)], [(0, 0)] * 3):
        assert math.isnan(compare.standard_error(alone))


def test_parts_count_alike_however_large():
    small, large = [10.0, 30.0], [60.0, 70.0, 80.0, 90.0, 100.0, 80.0]
    values = compare.stratified([small, large])
    assert mean(values) == pytest.approx((20 + 80) / 2)
    error = compare.standard_error([(value, 1) for value in values])
    variances = [sum((v - mean(part)) ** 2 for v in part) / len(part) ** 2 for part in (small, large)]
    assert error ** 2 == pytest.approx(8 / 7 * sum(variances) / 4)
    assert compare.stratified([large]) == large


@pytest.mark.parametrize("name, split", [
    ("xnli", "dev"), ("pawsx", "test"), ("xquad", "test"), ("mlqa", "dev"), ("xcopa", "dev"),
    ("lareqa", "test")])
def test_parallel_items_have_one_name_in_all_languages(shared, name, split):
    row = tasks.get(name)
    english, other = (compare.pair(row, splits.load(row, shared / "data", split, lang), [], lang)
                      for lang in splits.languages(row, shared / "data", split)[:2])
    assert row.parallel and len(set(english.clusters)) == len(english.queries)
    assert set(other.clusters) <= set(english.clusters)     # MLQA has more questions in English
    found = compare.partners(other, english)
    assert len(found) == len(english.queries)
    if row.kind == "span":                                  # most numbers are written alike
        golds = [(query.answers[0][0], found[cluster].answers[0][0])
                 for query, cluster in zip(other.queries, other.clusters)]
        numbers = [[re.findall("[0-9]+", text) for text in both] for both in golds]
        assert mean(own == right for own, right in numbers if right) > 0.7


def test_what_is_not_parallel_shares_nothing_between_languages():
    questions = [Span(1, "1", "?", "one", ()), Span(2, "2", "?", "two", ()),
                 Span(3, "3", "?", "one", ())]
    row = tasks.get("tydiqa")
    english, german = (compare.cluster_ids(row, questions, lang) for lang in ("en", "de"))
    assert english[0] == english[2] != english[1] and not set(english) & set(german)
    sentences = [Tagging(1, ("a",), ("X",)), Tagging(1, ("b",), ("X",))]     # of two files
    assert len(set(compare.cluster_ids(tasks.get("udpos"), sentences, "en"))) == 2
    both = [Sentence(1, "0", "a", "query", ("0",)), Sentence(1, "0", "b", "candidate", ())]
    assert len(compare.cluster_ids(tasks.get("tatoeba"), both, "de")) == 1


# ------------------------------------------------------------------------- two runs


@pytest.fixture
def two(tmp_path):
    """xnli: A knows every second item, B those and item 1 and 3 of de, but not item 0 of sw."""
    data = plant_data(tmp_path / "data")

    def a(lang, place, example, gold):
        return gold if place % 2 == 0 else "other"

    def b(lang, place, example, gold):
        if (lang, place) in (("de", 1), ("de", 3)):
            return gold
        return "other" if (lang, place) == ("sw", 0) else a(lang, place, example, gold)

    return data, plant_run(tmp_path, data, "none", "xnli", a), plant_run(tmp_path, data, "b", "xnli", b)


def output(capsys, *arguments, code=0) -> str:
    assert evaluation.main([str(one) for one in arguments]) == code
    return capsys.readouterr().err if code else capsys.readouterr().out


def test_two_runs_side_by_side(two, capsys):
    _, a, b = two
    text = output(capsys, a, b)
    assert text.count("| intermediate |") == 2              # both are scored again
    error = 1.96 * 100 * math.sqrt(2 / 12 * 10 / 12 / 11)
    assert f"| de | 12 | 50.0 | 66.7 | +16.7 ± {error:.1f} | 2 | 0 |" in text
    assert "| sw | 12 | 50.0 | 41.7 | -8.3 ± " in text and "| 0 | 1 |" in text
    assert "| mean | 36 | 50.0 | 52.8 | +2.8 ± " in text
    assert "| zero-shot mean | 24 | 50.0 | 54.2 | +4.2 ± " in text
    shown = text[text.index("de, row 2"):].splitlines()
    assert shown[:8] == [
        "de, row 2: wrong in A, right in B", "    text_a: de premise 1",
        "    text_b: de hypothesis 1", "    en text_a: en premise 1",
        "    en text_b: en hypothesis 1", f"    gold: {LABELS[1]}", "    A: other",
        f"    B: {LABELS[1]}"]
    assert "sw, row 1: right in A, wrong in B" in text
    assert output(capsys, b, a).count("wrong in A, right in B") == 2     # the head and one example


def test_as_many_texts_as_asked(two, capsys):
    _, a, b = two
    assert output(capsys, a, b, "--flips", "1").count("de, row") == 1
    assert ", row" not in output(capsys, a, b, "--flips", "0")
    with pytest.raises(SystemExit):
        evaluation.main([str(a), str(b), "--flips", "-1"])


def test_more_runs_are_scored_again_and_not_compared(two, capsys):
    _, a, b = two
    assert "A = " not in output(capsys, a, b, a) and "A = " not in output(capsys, a)


@pytest.mark.parametrize("change, word", [
    ({"name": "xquad"}, "task"), ({"limit": 5}, "limit"), ({"gold": "other"}, "gold"),
    ({"world": "toy"}, "world")])
def test_only_equal_questions_are_compared(two, tmp_path, capsys, change, word):
    data, a, _ = two
    other = plant_run(tmp_path / "other", data, "b", **{
        "name": "xnli", "answer": lambda lang, place, example, gold: gold} | change)
    error = output(capsys, a, other, code=2)
    assert error.count("\n") == 1 and f"another {word}" in error


def test_no_english_text_where_the_rows_are_of_other_items(two, capsys):
    data, a, b = two
    path = data / "xnli/test-en.tsv"
    write(path, "".join(reversed(path.read_text().splitlines(True))))     # as in files of two kinds
    run = [plant_run(data.parent / "again", data, inter, "xnli", lambda lang, place, e, gold: answer)
           for inter, answer in (("none", LABELS[0]), ("b", LABELS[1]))]
    assert "en text_a" not in output(capsys, *run)


def test_retrieval_shows_texts_and_escapes_them(tmp_path, capsys):
    data = plant_data(tmp_path / "data", languages=("en", "de"))
    path = data / "tatoeba/v1/tatoeba.deu-eng.deu"
    write(path, path.read_text().replace("de sentence 000", "de \x1b[31m sentence" + "!" * 500))
    runs = [plant_run(tmp_path, data, inter, "tatoeba",
                      lambda lang, place, e, gold: gold if inter == "b" else "1")
            for inter in ("none", "b")]
    shown = output(capsys, *runs, "--flips", "1")
    assert "    text: sentence 000" in shown and "    A: de sentence 001" in shown
    assert "\x1b" not in shown and max(map(len, shown.splitlines())) < 420


def test_few_examples_cannot_tell(tmp_path, capsys):
    data = plant_data(tmp_path / "data", n=5)
    runs = [plant_run(tmp_path, data, inter, "xquad", lambda lang, place, e, gold: gold)
            for inter in ("none", "b")]
    text = output(capsys, *runs)
    assert "| de | 5 | 100.0 | 100.0 | +0.0 cannot tell | 0 | 0 |" in text
    assert "| mean | 15 | 100.0 | 100.0 | +0.0 cannot tell |" in text     # five items, not fifteen
