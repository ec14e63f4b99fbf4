"""Differences over languages: columns by hand, effects of known truth, the null, the rule."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from studies import across, languages

REAL = {"world": "real", "english": "en"}
FACTS = {code: languages.of(code, REAL) for code in languages.LANGUAGES if code != "en"}
WORDS = ("better", "worse")


def run_of(scores: dict, degenerate="", english="en"):
    """Like results.Run, of scores {language: value}."""
    return SimpleNamespace(
        degenerate=degenerate, score=lambda lang: scores[lang],
        zero_shot=lambda: [lang for lang in scores if lang != english],
        record={"languages": {lang: {"labels": True, "f1": value, "accuracy": value / 2}
                              for lang, value in scores.items()}})


def planted(effect: float, spread: float, seed: int, seeds=5, noise=1.0, codes=tuple(FACTS)):
    """language -> seed -> difference with a family's, a language's and a run's own part."""
    rng = np.random.default_rng(seed)
    families = {one.family: rng.normal(0, spread) for one in FACTS.values()}
    return {code: {s: float(effect + families[FACTS[code].family] + own + rng.normal(0, noise))
                   for s in range(seeds)} for code in codes for own in [rng.normal(0, spread)]}


def test_columns_by_hand():
    runs = {1: run_of({"en": 90, "de": 50, "sw": 20}), 2: run_of({"de": 60, "sw": 40}, "collapsed")}
    assert across.column(runs) == {"de": {1: 50, 2: 60}, "sw": {1: 20, 2: 40}}
    assert across.column(runs, sound=True) == {"de": {1: 50}, "sw": {1: 20}}
    assert across.column(runs, "accuracy", languages=["en"]) == {"en": {1: 45}}
    assert across.column(runs, "nothing") == across.column({}) == {}
    one, other = {"de": {1: 50, 2: 60}, "sw": {1: 20}}, {"de": {2: 10, 3: 5}}
    assert across.combine((1, one), (-1, other)) == {"de": {2: 50}}
    assert across.average([{"de": {1: 10.0}}, {"de": {1: 20.0}}]) == {"de": {1: 15.0}}
    assert across.average([one, {}]) == across.average([]) == {}
    assert across.means(one) == {"de": 55, "sw": 20} and across.only(one, ["sw"]) == {"sw": {1: 20}}
    assert across.spread({1: 10.0, 2: 14.0}) == "12.0 ± 2.8" and across.spread({1: 5.0}) == "5.0"


def test_a_planted_effect_is_told_and_its_negative_too():
    for sign, words in ((3, "better"), (-3, "worse")):
        values = planted(sign, 0.7, seed=1)
        one = across.effect("squad", "gain", WORDS, values, {}, FACTS)
        told, = across.conclude([one])
        assert told.words == words and one.interval.n == 16 and len(one.languages) == 49
        assert abs(one.interval.mean - sign) < 1 and math.isnan(one.sound)
        assert one.p < 0.01 and one.p_families < 0.05 and one.detectable < 3


def test_below_six_families_nothing_is_told():
    codes = ("de", "es", "hi", "fi", "hu", "et", "tr", "sw", "zh")
    values = planted(20, 0.1, seed=1, codes=codes)
    one = across.effect("squad", "gain", WORDS, values, values, FACTS)
    assert len({FACTS[code].family for code in codes}) == 5
    assert across.conclude([one])[0].words == across.UNTOLD
    assert "cannot tell with this n whether better or worse" in across.lines(
        across.conclude([one]))[0]
    assert across.effect("squad", "gain", WORDS, {}, {}, FACTS) is None


def test_without_an_effect_hardly_anything_is_told():
    told = [across.conclude([across.effect("a", "gain", WORDS, planted(0, 1.0, seed), {}, FACTS)])
            [0].words for seed in range(200)]
    assert sum(words != across.UNTOLD for words in told) <= 17        # 5 % and 2.3 SD


def test_many_effects_are_corrected_together():
    null = [across.effect(str(i), "gain", WORDS, planted(0, 1.0, i), {}, FACTS) for i in range(9)]
    real = across.effect("real", "gain", WORDS, planted(4, 1.0, 99), {}, FACTS)
    told = across.conclude([*null, real])
    assert told[-1].words == "better" and told[-1].p == pytest.approx(10 * real.p_families)


def test_the_count_of_languages_that_differ():
    certain = [[5.0, 5.1, 4.9, 5.0, 5.05]] * 3
    assert across.count_certain(certain + [[1.0, -1.0, 0.5, -0.4, 0.1]] * 20) == 3
    assert across.count_certain([[0.0, 0.0, 0.0]] * 4) == 0
    assert across.count_certain([[2.0, 2.0, 2.0]] * 4) == 4
    assert across.count_certain([[3.0]] * 4) == 0                     # one seed says nothing
    rng = np.random.default_rng(0)
    wrong = sum(across.count_certain(rng.normal(0, 1, (20, 5)).tolist()) > 0 for _ in range(400))
    assert wrong <= 32                                                # 5 % and 2.8 SD
