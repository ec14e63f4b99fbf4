"""lowres: the arms and their steps, break-even by hand, planted truths by group."""

import math
from types import SimpleNamespace

import pytest

import plan
import stilts
from files import UserError
from studies import across, languages, lowres, study
from test_across import FACTS, REAL, run_of

POOR = [code for code, one in FACTS.items() if one.group in languages.POOR]


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    """The toy world with its small defaults."""
    return study.prepare(lowres.STUDY, ["--out", str(tmp_path_factory.mktemp("runs"))])


def steps_of(inter: str, target: str, context) -> list[int]:
    return [stage.setting("steps") for stage in plan.plan_run(inter, target, 1, context)]


def test_every_arm_takes_as_many_steps(setup):
    every = [one for target in ("panx", "udpos")
             for one in lowres.designs(setup.own, setup.context, ["none", "squad+mnli"], target)]
    for one in every:
        steps = steps_of(one.inter, one.target, setup.context)
        assert sum(steps) == 400 and steps[1:] in ([], [100]), one
    arms = {(one.task, one.arm) for one in every}
    assert {arm for task, arm in arms if task == "panx"} == {
        "ZS", "ML", "ML-loo", "STILT-ZS squad+mnli", "STILT-ML squad+mnli", "FS-10", "FS-50"}
    assert {arm for task, arm in arms if task == "udpos"} == {"ZS", "STILT-ZS squad+mnli"}


def test_languages_of_the_arms(setup):
    every = lowres.designs(setup.own, setup.context, ["none"], "panx")
    shots = [one for one in every if one.arm.startswith("FS")]
    assert {one.languages for one in shots} == {("toy-low",), ("toy-stack",)}
    out = {one.languages: one.target for one in every if one.arm == "ML-loo"}
    assert out == {
        ("toy-low", "toy-stack"): "panx@toy-en,toy-case,toy-lex,toy-order:steps=400",
        ("toy-case", "toy-lex", "toy-order"): "panx@toy-en,toy-low,toy-stack:steps=400"}
    own = SimpleNamespace(**vars(setup.own) | {"few": "all", "draws": 2, "shots": "10"})
    more = [one.target for one in lowres.designs(own, setup.context, ["none"], "panx")
            if one.arm == "FS-10"]
    assert len(more) == 10
    assert "panx:steps=300~panx@toy-lex:examples=10:draw=1:steps=100" in more


def test_an_untrained_target_has_two_arms_only(setup):
    every = lowres.designs(setup.own, setup.context, ["none", "squad"], "tatoeba")
    assert [(one.inter, one.target) for one in every] == [
        ("none", "tatoeba"), ("squad:steps=400", "tatoeba")]


@pytest.mark.parametrize("flags, words", [
    (["--target", "panx@all"], "no more than a task"), (["--last", "400"], "0 < --last"),
    (["--shots", "10,x"], "--shots"), (["--draws", "-1"], "0 < --last")])
def test_mistakes_are_told_before_anything_is_trained(tmp_path, flags, words):
    with pytest.raises(UserError, match=words):
        study.prepare(lowres.STUDY, [*flags, "--out", str(tmp_path / "runs")])


def test_break_even_is_linear_in_log_n():
    points = {10: 20.0, 100: 40.0, 1000: 50.0}
    assert lowres.break_even(points, 30) == pytest.approx(math.sqrt(1000))
    assert lowres.break_even(points, 45) == pytest.approx(10 ** 2.5)
    assert lowres.break_even(points, 40) == pytest.approx(100)
    assert lowres.break_even(points, 15) == 10 and lowres.break_even(points, 51) == math.inf
    assert [lowres.told_number(n, points) for n in (10, 31.6, math.inf)] == [
        "<= 10", "32", "> 1000"]
    falling = {10: 30.0, 100: 20.0, 1000: 40.0}
    assert lowres.break_even(falling, 35) == pytest.approx(10 ** 2.75)


def scores_of(gain: dict[str, float]) -> lowres.Scores:
    """ZS 50 everywhere and an arm that gains gain[group], of all languages."""
    groups = {}
    for code in FACTS:
        groups.setdefault(lowres.group_of(code, REAL), []).append(code)
    noise = {code: 0.3 * ((7 * place) % 5 - 2) for place, code in enumerate(FACTS)}
    zero = {code: {seed: 50.0 + seed for seed in range(3)} for code in FACTS}
    arm = {code: {seed: 50.0 + seed + noise[code] + gain[lowres.group_of(code, REAL)]
                  for seed in range(3)} for code in FACTS}
    columns = {"ZS": zero, "STILT-ZS squad": arm}
    return lowres.Scores(lowres.Task("panx", 1, groups, {}), columns, columns,
                         {"ZS": {"en": {0: 80.0}}, "STILT-ZS squad": {"en": {0: 81.0}}})


def test_planted_gains_are_found_in_their_group_alone():
    scores = scores_of({"low": 5.0, "mid": 0.0, "high": -4.0})
    told = across.conclude([one for group in lowres.GROUPS for one in lowres.effects_in(
        scores, group, scores.task.groups[group], FACTS)])
    assert [one.words for one in told] == ["better", across.UNTOLD, "worse"]
    assert [len(one.effect.languages) for one in told] == [14, 14, 21]
    table = lowres.group_section([scores]).tables[0]
    arm = dict(zip(table.header, table.rows[1]))
    assert abs(float(arm["mean, low"]) - 56) < 0.3 and abs(float(arm["mean, high"]) - 47) < 0.3
    assert abs(float(arm["low gap"]) + 9) < 0.3 and table.rows[0][-1] == "+0.0"
    assert table.rows[0][-2] == "+29.0"                              # 80 less 51


def test_a_claim_wants_both_keys_to_agree_in_sign():
    scores = scores_of({"low": 5.0, "mid": 0.0, "high": 0.0})
    told = across.conclude(lowres.effects_in(scores, "low", POOR, FACTS))[0]
    other = {(told.effect.label, told.effect.what): told.effect}
    assert lowres.agreed(told, other) == "better"
    assert lowres.agreed(told, {}) == "better (one key only)"
    flipped = told.effect._replace(interval=told.effect.interval._replace(mean=-1.0))
    assert "the two keys differ" in lowres.agreed(told, {next(iter(other)): flipped})


def test_a_report_from_planted_runs(setup):
    """Each arm adds what its name says; every cell of the toy's small design is filled."""
    level = {"ZS": 40, "ML": 60, "ML-loo": 50, "FS-10": 45, "FS-50": 65}
    pairs, runs, world = [], {}, setup.context.world
    for target in ("panx", "tydiqa"):
        for one in lowres.designs(setup.own, setup.context, ["none", "squad", "mnli"], target):
            pairs.append((one.inter, one.target))
            base = level.get(one.arm) or (55 if "ZS" in one.arm else 70)
            langs = world["languages"] if not one.arm.startswith("FS") else one.languages
            for seed in (1, 2):
                runs[one.inter, one.target, seed] = run_of(
                    {lang: base + seed for lang in langs}, english=world["english"])
    assert set(pairs) == set(setup.pairs)
    context = SimpleNamespace(**vars(setup.context) | {"given": SimpleNamespace(
        **vars(setup.context.given) | {"seed": [1, 2]})})
    found = study.Found(SimpleNamespace(own=setup.own, context=context), runs, {})
    sections = lowres.report(found)
    done, count, _ = study.filled(sections)
    assert done == count > 100
    text = "\n".join(str(section) for section in sections)
    assert "panx, low: cannot tell with this n whether better or worse (STILT-ZS squad - ZS" in text
    even = [row for row in sections[4].tables[0].rows if row[0] == "panx"]
    assert {row[-1] for row in even} == {"22"}                       # 55 lies midway in log n
