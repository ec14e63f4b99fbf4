"""toy/effect.py: what is computed from effect.json, and its picture."""

import xml.etree.ElementTree as ElementTree

import pytest

from toy import controls, effect
from toy import world as w

GAIN = (6.0, 14.0, 10.0)


def row(inter, world, seed, score, **more):
    languages = {lang: score for lang in w.LANGUAGES}
    return {"inter": inter, "task": effect.QA, "world": world, "seed": seed, "zero_shot": score,
            "languages": languages} | more


@pytest.fixture
def rows():
    """Three runs: none 20, same steps 25, squad with a known gain."""
    found = []
    for seed, gain in enumerate(GAIN, 1):
        found += [row("none", 0, seed, 20.0), row(controls.SAME, 0, seed, 25.0),
                  row(controls.NEVER, 0, seed, 5.0), row("squad", 0, seed, 20.0 + gain),
                  row("squad+mlm", 0, seed, 20.0)]
    return [*found, row("type guess", 0, "-", 30.0)]


def test_gains_are_paired_by_world_and_seed(rows):
    rows.reverse()
    assert sorted(effect.differences(rows, "squad", "none")) == sorted(GAIN)


def test_interval_is_students():
    low, high = effect.interval(list(GAIN))                    # mean 10, SD 4, n 3, t 4.30
    assert (low, high) == pytest.approx((10 - 4.30 * 4 / 3 ** 0.5, 10 + 4.30 * 4 / 3 ** 0.5))


def test_verdict_follows_the_interval(rows):
    lines = effect.gain_table(rows).splitlines()
    verdicts = {line.split("|")[1].strip(): line.split("|")[5].strip() for line in lines[2:]}
    assert verdicts["squad - none"] == "illustrates"
    assert verdicts["squad+mlm - none"] == "does not illustrate"
    assert verdicts["squad - none, same steps"] == "does not illustrate"      # 5 +- 4, three runs


def test_picture_is_well_formed_and_says_toy(rows):
    root = ElementTree.fromstring(effect.picture(rows))
    texts = [element.text for element in root.iter() if element.text]
    assert any(text.startswith("TOY") for text in texts)
    assert set(w.LANGUAGES) <= set(texts)
    bars = [e for e in root.iter() if e.tag.endswith("rect")]
    assert len(bars) == 1 + len(effect.BARS) * (1 + len(w.LANGUAGES))
