"""syntax: cells from the rows, equal sizes and steps, overlap, planted truths over languages."""

from types import SimpleNamespace

import pytest

import plan
import runs
import splits
import tasks
from files import UserError
from studies import across, study, syntax
from test_across import FACTS, run_of


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    return study.prepare(syntax.STUDY, ["--out", str(tmp_path_factory.mktemp("runs"))])


@pytest.fixture(scope="module")
def arms(setup):
    return syntax.sized(setup.own, setup.context, plan.split_list(setup.context.given.inter))


def test_cells_are_what_the_rows_say():
    assert [syntax.cell_of(name) for name in ("ccg", "semtag", "cola", "hellaswag", "squad")] == [
        "token, syntactic", "token, semantic", "sentence, syntactic", "sentence, semantic", "apart"]


def test_all_sets_are_cut_to_the_smallest_and_trained_for_as_many_steps(setup, arms, tokenizer):
    sizes = {arm.label: arm.examples for arm in arms}
    smallest = min(len(splits.load(tasks.get(name), setup.context.data, "train", "toy-en").examples)
                   for name in sizes if name in tasks.TASKS)
    assert set(sizes.values()) == {smallest} and len({arm.cell for arm in arms}) == 5
    for arm in arms:
        stage, _ = plan.plan_run(arm.inter, "panx", 1, setup.context)
        part = runs.load_part(stage.members[0], stage, setup.context, tokenizer)
        assert len(part.order.lengths) == smallest and stage.setting("steps") == 300
        assert part.values["random_tags"] == (arm.cell == "control")
    targets = {plan.plan_run(arm.inter, "panx", 1, setup.context)[1].setting("steps")
               for arm in arms}
    assert targets == {0}                                     # as the row says, in all of them


def test_small_sets_stand_apart_and_full_sets_are_not_cut(setup):
    own = SimpleNamespace(full=True, steps=9, least=200)
    found = syntax.sized(own, setup.context, ["none", "semtag", "ccg", "cola", "squad"])
    assert [(arm.label, arm.inter, arm.cell) for arm in found] == [
        ("semtag", "semtag:examples=120:steps=9", "apart"), ("semtag", "semtag:steps=9", "apart"),
        ("ccg", "ccg:examples=300:steps=9", "token, syntactic"),
        ("ccg", "ccg:steps=9", "token, syntactic"),
        ("cola", "cola:examples=300:steps=9", "sentence, syntactic"),
        ("cola", "cola:steps=9", "sentence, syntactic"),
        ("squad", "squad:examples=300:steps=9", "apart"), ("squad", "squad:steps=9", "apart"),
        ("random tags (ccg)", "ccg:random_tags=1:examples=300:steps=9", "control")]


@pytest.mark.parametrize("flags, words", [
    (["--inter", "none,squad+mnli"], "single tasks"), (["--target", "panx@all"], "wants tasks in"),
    (["--steps", "-3"], "--steps from 1")])
def test_mistakes_are_told_before_anything_is_trained(tmp_path, flags, words):
    with pytest.raises(UserError, match=words):
        study.prepare(syntax.STUDY, [*flags, "--out", str(tmp_path / "runs")])


def test_overlap_is_seen_in_files_and_labels(setup):
    found = {(name, target): syntax.overlap(name, target, setup.context)
             for name in ("upos", "deprel", "mnli") for target in ("udpos", "panx")}
    assert found.pop(("upos", "udpos")) == "same task"
    assert found.pop(("deprel", "udpos")) == "same sentences" and set(found.values()) == {""}


LABELS = {"upos": "token, syntactic", "deprel": "token, syntactic", "semtag": "token, semantic",
          "cola": "sentence, syntactic", "mnli": "sentence, semantic", "control": "control"}


def planted(gains: dict[str, float]) -> syntax.Gains:
    """Each arm's gain, with differences between languages and seeds that cancel out."""
    def column(place: int, gain: float) -> dict:
        return {code: {seed: gain + 0.1 * ((i * (place % 4 + 1)) % 5 - 2) + seed - 2
                       for seed in (1, 2, 3)} for i, code in enumerate(FACTS)}

    every = {label: column(place, gains[label]) for place, label in enumerate(LABELS)}
    arms = [syntax.Arm(label, label, syntax.MATCHED, cell, 100) for label, cell in LABELS.items()]
    marks = dict.fromkeys(LABELS, "") | {"upos": "same task", "deprel": "same sentences"}
    return syntax.Gains("udpos", syntax.MATCHED, "", arms, every, every, marks)


def told(gains: dict[str, float], **more) -> dict[str, across.Told]:
    return {one.effect.what: one for one in syntax.told_of([planted(gains)], FACTS, **more)}


def test_planted_contents_and_formats_are_told_apart():
    """Syntax helps in tokens alone: content in one format, and so an interaction."""
    gains = {"upos": 90.0, "deprel": 6.0, "semtag": 2.0, "cola": 1.0, "mnli": 1.0, "control": 1.0}
    found = told(gains)
    words = {what: one.words for what, one in found.items()}
    assert words == {
        "Delta, token": "syntactic is better", "Delta, sentence": across.UNTOLD,
        "interaction": "content matters more in tokens", "token, syntactic - control": "better",
        "token, semantic - control": "better", "control - none": "better"}
    for what, value in (("Delta, token", 4), ("Delta, sentence", 0), ("interaction", 4)):
        assert abs(found[what].effect.interval.mean - value) < 0.5     # upos is in no mean
    format_alone = told(gains | {"deprel": 5.0, "semtag": 5.0})
    assert format_alone["Delta, token"].words == across.UNTOLD
    assert format_alone["interaction"].words == across.UNTOLD


def test_semantics_may_be_better_and_an_empty_cell_tells_nothing():
    gains = dict.fromkeys(LABELS, 0.0) | {"semtag": 3.0}
    assert told(gains)["Delta, token"].words == "semantic is better"
    left = told(gains, avoided={"same task", "same sentences"})
    assert set(left) == {"Delta, sentence", "token, semantic - control", "control - none"}


def test_a_report_from_planted_runs(setup, arms):
    world = setup.context.world
    level = {"token, syntactic": 60, "token, semantic": 55, "control": 52}
    found_runs = {("none", target, seed): run_of(
        {lang: 50.0 + seed for lang in world["languages"]}, english=world["english"])
        for target in ("udpos", "panx") for seed in (1, 2)}
    for arm in arms:
        for target in ("udpos", "panx"):
            for seed in (1, 2):
                found_runs[arm.inter, target, seed] = run_of(
                    {lang: level.get(arm.cell, 51.0) + seed for lang in world["languages"]},
                    "flat loss" if arm.label == "cola" else "", english=world["english"])
    assert {pair[:2] for pair in found_runs} == set(setup.pairs)
    context = SimpleNamespace(**vars(setup.context) | {"given": SimpleNamespace(
        **vars(setup.context.given) | {"seed": [1, 2]})})
    sections = syntax.report(study.Found(SimpleNamespace(own=setup.own, context=context),
                                         found_runs, {}))
    done, count, _ = study.filled(sections)
    assert done == count > 100
    rows = {row[0]: row for row in sections[1].tables[0].rows}
    assert rows["deprel"][3:] == ["same sentences", "+10.0 ± 0.0", "+10.0 ± 0.0"]
    assert rows["cola"][4:] == ["+1.0 ± 0.0", "none is left"]
    assert "udpos, matched: cannot tell with this n whether syntactic is better" in str(sections[0])
