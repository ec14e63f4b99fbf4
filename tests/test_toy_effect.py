"""Does the toy world illustrate the method? What the frozen recipe showed in worlds that it was not
chosen on, as recorded (fixtures/effect-WORLD.jsonl), and the arithmetic and the picture behind it.

The recorded rows come from `python toy/effect.py --worlds 100,101 --out DIR`. What is asserted of
them holds in each world with the margin named here.
"""

import json
import xml.etree.ElementTree as ElementTree
from statistics import mean

import pytest

import stilts
from conftest import ROOT
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


# ---- what was recorded

FILES = sorted((ROOT / "tests/fixtures").glob("effect-*.jsonl"))
RECORDED = [json.loads(line) for path in FILES
            for line in path.read_text(encoding="utf-8").splitlines()]
WORLDS = effect.worlds_of(RECORDED)


def scores(world: int, task: str, arm: str) -> list[float]:
    return [row["zero_shot"] for row in effect.select(RECORDED, world=world, task=task, inter=arm)
            if "layer" not in row]


def test_two_unseen_worlds_with_five_seeds_each():
    assert WORLDS == [100, 101]
    for arm in (*effect.ARMS, controls.NEVER, controls.SAME):
        assert [len(scores(world, effect.QA, arm)) for world in WORLDS] == [5, 5]


@pytest.mark.parametrize("other", ["none", controls.SAME, controls.NEVER])
def test_squad_illustrates_a_gain_on_tydiqa(other):
    gains = effect.differences(RECORDED, "squad", other)
    assert len(gains) == 10 and min(gains) > 5 and effect.interval(gains)[0] > 10


@pytest.mark.parametrize("task", effect.OTHERS)
@pytest.mark.parametrize("world", WORLDS)
def test_pretraining_illustrates_transfer(world, task):
    assert mean(scores(world, task, "none")) - mean(scores(world, task, controls.NEVER)) > 20


@pytest.mark.parametrize("world", WORLDS)
def test_squad_illustrates_reading_in_a_language_with_suffixes(world):
    """Above one who guesses among the phrases of the asked type: in toy-case, in both worlds."""
    def case(arm):
        return mean(row["languages"]["toy-case"] for row in
                    effect.select(RECORDED, world=world, task=effect.QA, inter=arm))
    assert case("squad") - case("type guess") > 5


def test_squad_does_not_illustrate_a_gain_in_retrieval():
    for layer in range(1, 7):
        after, before = ([row["zero_shot"] for row in effect.select(
            RECORDED, task=effect.RETRIEVAL, inter=arm, layer=layer)] for arm in ("squad", "none"))
        assert mean(after) < mean(before)


def test_readme_holds_the_recorded_tables_and_the_picture_is_theirs():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert effect.report(RECORDED) in readme
    assert effect.PICTURE.read_text(encoding="utf-8") == effect.picture(RECORDED)


def test_the_shipped_world_illustrates_it_too(tmp_path, capsys):
    """One seed, as the README's first command runs it."""
    assert stilts.main(["--inter", "squad", "--target", "tydiqa", "--out", str(tmp_path)]) == 0
    found = {row["inter"]: row for path in tmp_path.glob("toy--*/metrics.json")
             for row in [json.loads(path.read_text())]}
    assert found["squad"]["zero_shot"] - found["none"]["zero_shot"] > 5
    assert "recorded" in capsys.readouterr().out
