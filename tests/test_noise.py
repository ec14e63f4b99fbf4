"""The measures of robustness on hand cases, and questions that a translation got wrong."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

import splits
import tasks
from files import UserError
from readers import MultipleChoice
from studies import noise, noisy, questions, reasoning, study
from studies.measure import Scores
from studies.noisy import Cells, Condition

CLEAN = Condition("", 0, 0)


def cells(clean: dict, noisy_scores: dict, chance: float = 0.0, degenerate: str = "") -> Cells:
    """A run of invented scores: {language: points}, {(function, severity): {language: points}};
    of each score two examples lie 5 points above and below it."""
    def both(points):
        return [points - 5, points + 5]

    run = SimpleNamespace(degenerate=degenerate, world={"english": "en"},
                          zero_shot=lambda: [lang for lang in clean if lang != "en"])
    by = {CLEAN: {lang: Scores(both(points), {"chance": chance, "script": "Latn"})
                  for lang, points in clean.items()}}
    for (function, severity), found in noisy_scores.items():
        for seed in (13, 17):
            by[Condition(function, severity, seed)] = {
                lang: Scores(both(points), {"rate": 0.1}) for lang, points in found.items()}
    return Cells(run, by)


BASE = cells({"en": 90, "sw": 70, "te": 50}, {("drop", 1): {"en": 80, "sw": 60, "te": 40},
                                              ("drop", 5): {"en": 60, "sw": 40, "te": 20},
                                              ("swap", 5): {"en": 70, "sw": 50}}, chance=30)


def test_the_baseline_measures_itself_as_one_hundred():
    found = noise.summarise([BASE], [BASE])
    assert found.mce == found.rce == pytest.approx(100) and found.tau == 0
    assert found.clean == [60] and found.english == (90, pytest.approx(70))


def test_measures_on_a_hand_case():
    """sw: mean of 60, 40, 50; te: of 40, 20, where swap is n/a and in no mean."""
    found = noise.summarise([BASE], [BASE])
    assert found.mpc == [pytest.approx((50 + 30) / 2)]
    assert found.rpc == pytest.approx(100 * 40 / 60)
    assert found.cpdr == pytest.approx(100 * (1 - (40 - 30) / (60 - 30)))
    half = cells({"en": 90, "sw": 70, "te": 50}, {("drop", 1): {"sw": 80, "te": 70},
                                                  ("drop", 5): {"sw": 70, "te": 60},
                                                  ("swap", 5): {"sw": 75}})
    other = noise.summarise([half], [BASE])
    errors = {"drop": ((20 + 30 + 30 + 40) / 4, (40 + 60 + 60 + 80) / 4), "swap": (25, 50)}
    assert other.mce == pytest.approx(50 * (errors["drop"][0] / errors["drop"][1] * 2
                                            + errors["swap"][0] / errors["swap"][1] * 2) / 2)
    drop_rise = (30 - 40) / (60 - 40)               # less error than on clean input: below 0
    assert other.rce == pytest.approx(100 * (drop_rise + (25 - 30) / (50 - 30)) / 2)


def test_ratios_without_a_denominator_are_not_told():
    flat = cells({"sw": 60, "te": 40}, {("drop", 5): {"sw": 59.7, "te": 39.7}}, chance=50)
    found = noise.summarise([flat], [flat])
    assert math.isnan(found.rce) and math.isnan(found.cpdr) and found.mce == pytest.approx(100)
    assert noise.shown(found.rce) == "n/a" and math.isnan(found.english[0])


def test_effective_robustness_is_what_lies_off_the_baselines_line():
    def on_line(points):                            # logit(mPC) = logit(clean) - 1
        return 100 / (1 + math.exp(1 - math.log(points / (100 - points))))

    def run(lift, **clean):
        return cells(clean, {("drop", 5): {lang: on_line(p) + lift for lang, p in clean.items()}})

    base = [run(0, sw=70, te=50), run(0, sw=60, te=40)]
    assert noise.effective_robustness(base, base) == pytest.approx(0, abs=1e-9)
    assert noise.effective_robustness([run(0, sw=90, te=80)], base) == pytest.approx(0, abs=1e-9)
    assert noise.effective_robustness([run(6, sw=90, te=80)], base) == pytest.approx(6)
    alike = [run(0, sw=50, te=50)] * 2
    assert math.isnan(noise.effective_robustness(alike, alike))


def test_difference_in_differences_is_the_drop_that_is_saved():
    arm = cells({"sw": 80, "te": 60}, {("drop", 1): {"sw": 75, "te": 50},
                                       ("drop", 5): {"sw": 60, "te": 40},
                                       ("swap", 5): {"sw": 60}})
    assert noisy.saved(arm, BASE, "te") == pytest.approx([(60 - 45) * -1 + (50 - 30)] * 2)
    assert noisy.clean_gain(arm, BASE, "sw") == pytest.approx([10, 10])
    swap = noise.only_saved("swap", 5)
    assert swap(arm, BASE, "te") is None            # n/a, never a drop of zero
    assert swap(arm, BASE, "sw") == pytest.approx([0, 0])


def test_an_arm_that_gains_alike_saves_nothing():
    shifted = cells({"sw": 80, "te": 60}, {("drop", 1): {"sw": 70, "te": 50},
                                           ("drop", 5): {"sw": 50, "te": 30},
                                           ("swap", 5): {"sw": 60}})
    assert np.allclose(noisy.saved(shifted, BASE, "sw"), 0)
    assert noise.summarise([shifted], [BASE]).tau == pytest.approx(10)


def test_the_worst_language_is_named():
    assert reasoning.worst({"sw": 61.04, "te": 48.2}) == "48.2 te"


def test_rows_say_which_studies_they_belong_to():
    marks = {mark for row in tasks.ROWS for mark in row.studies}
    assert {"noise:core", reasoning.CORE, reasoning.EXTENDED, reasoning.APART} <= marks
    reasons = [study.of(mark) for mark in (reasoning.CORE, reasoning.EXTENDED, reasoning.APART)]
    assert sum(map(len, reasons)) == len({name for names in reasons for name in names}) == 6
    assert all("xtreme" in tasks.get(name).benchmarks for name in reasons[0] + reasons[1])
    assert all(tasks.get(name).benchmarks == ("xtreme-r",) for name in reasons[2])


# ---- questions


def choices(*asked: str, labels=(0, 1, 0)) -> list[MultipleChoice]:
    return [MultipleChoice(row, f"premise {row} What was the {word}?", ("a", "b"), label)
            for row, (word, label) in enumerate(zip(asked, labels), start=1)]


BY_LANGUAGE = {"et": choices("cause", "effect", "cause"), "vi": choices("cause", "effect", "cause"),
               "th": choices("effect", "effect", "effect")}


def test_the_question_of_most_languages_is_the_right_one():
    assert questions.wrong(BY_LANGUAGE) == {"th": [1, 3]}
    majority = questions.consensus(BY_LANGUAGE)
    assert questions.corrected(BY_LANGUAGE["th"], majority) == BY_LANGUAGE["et"]
    assert questions.corrected(BY_LANGUAGE["et"], majority) == BY_LANGUAGE["et"]
    hidden = {"en": choices("cause", "effect", "cause", labels=(None,) * 3)}    # a test set's
    assert questions.wrong(BY_LANGUAGE | hidden) == {"th": [1, 3]}


def test_without_a_majority_or_the_same_items_nothing_is_called_wrong():
    two = {lang: BY_LANGUAGE[lang] for lang in ("et", "th")}
    assert questions.wrong(two) == {}
    other = BY_LANGUAGE | {"th": choices("effect", "effect", "effect", labels=(1, 1, 0))}
    assert questions.wrong(other) == {}
    split = {"a": choices("cause"), "b": choices("effect"), "c": choices("cause"),
             "d": choices("effect")}
    assert questions.wrong(split) == {}


@pytest.mark.parametrize("split, expected", [
    ("test", {"th": 250, "sw": 37, "id": 4, "tr": 51, "it": 4}),
    ("dev", {"th": 52, "sw": 6, "id": 5, "tr": 52, "it": 5})])
def test_the_known_defect_is_found_in_the_real_files(shared, split, expected):
    """Of the languages that are there."""
    row = next(row for row in tasks.ROWS if reasoning.APART in row.studies)
    try:
        loaded = {lang: splits.load(row, shared / "data", split, lang).examples
                  for lang in splits.languages(row, shared / "data", split)}
    except UserError as problem:
        pytest.skip(str(problem))
    assert len(loaded) >= 5
    assert {lang: len(rows) for lang, rows in questions.wrong(loaded).items()} == {
        lang: n for lang, n in expected.items() if lang in loaded}
