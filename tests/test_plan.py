"""Plans: the notation of arms and targets, training languages, what decides a stage's key."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import model
import plan
import runs
import splits
import stilts
import tasks
import weights
from conftest import ROOT
from files import UserError

DATA = ROOT / "toy/data"


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    _, given = stilts.parse(["--target", "panx", "--out", str(tmp_path_factory.mktemp("out"))])
    stilts.check_given(given)
    return stilts.make_context(given)


def test_notation():
    assert plan.parse_task("mnli") == ("mnli", (), ())
    assert plan.parse_task("mnli@de,fr") == ("mnli", ("de", "fr"), ())
    assert plan.parse_task("mnli@de:steps=9:lr=1e-3") == (
        "mnli", ("de",), (("steps", "9"), ("lr", "1e-3")))
    assert plan.parse_arm("none") == []
    assert plan.parse_arm("squad@all+mlm:steps=3") == [
        ("squad", ("all",), ()), ("mlm", (), (("steps", "3"),))]
    assert plan.parse_target("panx~panx@sw:examples=10") == [
        ("panx", (), ()), ("panx", ("sw",), (("examples", "10"),))]
    nine = [(name, (), ()) for name in tasks.INTERMEDIATE]
    assert plan.parse_arm("all") == nine and len(nine) == 9
    assert plan.parse_arm("all+mlm") == [*nine, ("mlm", (), ())]
    assert plan.split_list("panx~panx@sw,te:examples=9,xnli:steps=2,panx@sw,panx~panx@te") == [
        "panx~panx@sw,te:examples=9", "xnli:steps=2", "panx@sw", "panx~panx@te"]
    assert plan.split_list("tydiqa@sw,te,xnli,panx@all,pawsx") == [
        "tydiqa@sw,te", "xnli", "panx@all", "pawsx"]
    assert plan.split_list("tydiqa,xnli") == ["tydiqa", "xnli"]
    assert plan.split_list("none,mnli@de,fr+mlm,squad@de+mlm,mnli@de,all,squad+mlm") == [
        "none", "mnli@de,fr+mlm", "squad@de+mlm", "mnli@de", "all", "squad+mlm"]


@pytest.mark.parametrize("text", ["mnli@", "mnli@de,", "mnli@de,de", "mnil@de", "@de", "mnli:",
                                  "mnli:steps", "mnli:steps=", "mnli:steps=1=2", "mnli~xnli"])
def test_bad_notation(text):
    with pytest.raises(UserError):
        plan.parse_target(text)


@pytest.mark.parametrize("arm", ["squad+squad", "mnli+mnli@de", "all+mnli"])
def test_a_task_twice_is_refused(arm):
    with pytest.raises(UserError, match="twice"):
        stilts.check_intermediate(arm)


def test_training_languages(context):
    def found(name, *wanted):
        return plan.training_languages(tasks.get(name), wanted, context)

    assert found("panx") == ("toy-en",) and found("panx", "toy-lex") == ("toy-lex",)
    assert set(found("panx", "all")) == set(context.world["languages"]) == set(found("mlm"))
    assert found("mlm", "toy-low", "toy-lex") == ("toy-low", "toy-lex")
    assert found("squad", "all") == ("toy-en",)
    for name, lang in (("squad", "toy-lex"), ("panx", "sw"), ("tatoeba", "toy-lex")):
        with pytest.raises(UserError, match=f"{name}: no training file in {lang}"):
            found(name, lang)
    with pytest.raises(UserError, match="bad language name"):
        found("panx", "../x")
    with pytest.raises(UserError, match="one language"):
        found("lareqa", "toy-en", "toy-lex")


def test_keys_depend_on_what_is_trained_and_on_nothing_else(context):
    def keys(inter, target, seed=1):
        return [stage.key for stage in plan.plan_run(inter, target, seed, context)]

    assert keys("squad@toy-en", "panx@toy-en") == keys("squad", "panx")
    assert keys("squad", "panx")[0] == keys("squad", "tydiqa")[0]
    every = [keys("none", f"panx{langs}")[0] for langs in ("", "@toy-lex", "@all")]
    every += [keys("none", "panx", 2)[0], keys("squad", "panx")[1]]
    assert len(set(every)) == len(every)
    assert keys("none", "tatoeba") == []
    with pytest.raises(UserError, match="is not trained"):
        keys("none", "tatoeba@toy-lex")


def test_target_in_other_languages_is_selected_on_english(context):
    stage, = plan.plan_run("none", "panx@toy-lex,toy-low", 1, context)
    assert stage.members == (("panx", "panx", ("toy-lex", "toy-low")),)
    names = {"/".join(path.split("/")[-2:]) for path in stage.files}
    assert names == {"toy-lex/train", "toy-low/train", "toy-en/dev"}
    tydiqa, = plan.plan_run("none", "tydiqa", 1, context)
    assert len(tydiqa.files) == 1                # its dev is a share of the English training file


def test_translated_files_are_found_in_their_published_places(tmp_path):
    places = {"mnli": "xnli/XNLI-MT-1.0/multinli/multinli.train.de.tsv",
              "squad": "mlqa/mlqa-translate-train/de_squad-translate-train-train-v1.1.json",
              "qqp": "qqp/train.de.tsv", "hellaswag": "hellaswag/hellaswag_train.de.jsonl"}
    for name, place in places.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
        row = tasks.get(name)
        assert splits.languages(row, tmp_path, "train") == ["de"], name
        assert [str(path) for path in splits.find(row, tmp_path, "train", "de")] == [
            str(tmp_path / place)]
        assert splits.find(row, tmp_path, "train", "en") == []


def test_a_targets_second_stage_goes_on_with_the_head_of_its_first(context, monkeypatch):
    first, second = plan.plan_run("none", "xcopa", 1, context)
    assert (first.names, second.names) == ("siqa", "copa") and second.goes_on and not first.goes_on
    _, alone = plan.plan_run("siqa", "copa", 1, context)
    assert not alone.goes_on and alone.key != second.key
    trained = model.make_head("multiple_choice", weights.load_encoder(context.model)[0], 0, seed=7)
    monkeypatch.setattr(weights, "load_head", lambda folder, kind: trained.state_dict())
    part = SimpleNamespace(task=tasks.get("copa"), labels=())
    for stage, is_same in ((second, True), (alone, False)):
        head = runs.build_model(stage, {"copa": part}, context.model, context).heads["copa"]
        same = [torch.equal(a, b) for a, b in zip(head.parameters(), trained.parameters())]
        assert all(same) == is_same


def test_retrieval_depends_on_what_one_forward_pass_holds(context):
    def keys(target, tokens):
        other = replace(context, hardware=replace(context.hardware, micro_tokens=tokens))
        return [stage.key for stage in plan.plan_run("none", target, 1, other)]

    assert keys("lareqa", 256) != keys("lareqa", 4096) and keys("panx", 256) == keys("panx", 4096)


def test_a_setting_in_two_spellings_is_one(context):
    def key(*settings):
        given = SimpleNamespace(**vars(context.given) | {"set": list(settings)})
        return plan.plan_run("none", "panx", 1, replace(context, given=given))[0].key

    assert key(("panx", "epochs", "8")) == key() and key(("panx", "epochs", "9")) != key()


def test_settings_that_are_off_are_no_part_of_a_stage(context):
    """Stages trained before there were such settings are found again."""
    stage, = plan.plan_run("none", "panx", 1, context)
    assert not set(plan.OFF) & set(plan.decisive(stage.values["panx"]))
    off = "panx:examples=0:draw=0:random_tags=0"
    assert plan.plan_run("none", off, 1, context)[0].key == stage.key
    others = ["panx:examples=5", "panx:examples=5:draw=1", "panx:random_tags=1", "panx:steps=7"]
    keys = {plan.plan_run("none", target, 1, context)[0].key for target in others}
    assert len(keys | {stage.key}) == 5


def test_settings_of_a_stage_hold_in_it_alone(context):
    first, second = plan.plan_run("none", "panx~panx@toy-low:examples=4:steps=9", 1, context)
    assert first.key == plan.plan_run("none", "panx", 1, context)[0].key
    assert second.goes_on and second.members[0].languages == ("toy-low",)
    assert second.values["panx"]["examples"] == (4, "stage")
    assert second.values["panx"]["steps"] == (9, "stage") and first.values["panx"]["steps"][0] == 0
    for target, words in (("panx:example=4", "no such field"), ("panx:examples=x", "a number"),
                          ("mnli:random_tags=1", "is for tagging"), ("tatoeba~tatoeba", "trained")):
        with pytest.raises(UserError, match=words):
            plan.plan_run("none", target, 1, context)


def test_a_stage_is_trained_on_some_examples_with_random_tags(context, tokenizer):
    def part(target):
        stage = plan.plan_run("none", target, 1, context)[-1]
        return runs.load_part(stage.members[0], stage, context, tokenizer)

    whole, some, drawn = map(part, ("panx", "panx:examples=20", "panx:random_tags=1"))
    assert len(whole.order.lengths) == 250 and len(some.order.lengths) == 20
    assert some.dev == whole.dev and some.dev != part("panx:random_tags=1").dev
    assert [one.words for one in drawn.dev] == [one.words for one in whole.dev]
    assert len(part("panx@toy-low,toy-lex:examples=5").order.lengths) == 10


def test_a_target_of_several_steps_is_evaluated_where_the_last_one_is_trained(context):
    for target, expected in (("panx~panx@toy-low", ["toy-low"]), ("panx~panx", ["toy-en"]),
                             ("panx@toy-low", list(context.world["languages"]))):
        stages, task = plan.plan_run("none", target, 1, context), tasks.get("panx")
        assert sorted(runs.evaluated(target, task, "test", stages, context)) == sorted(expected)


def test_a_degenerate_run_is_restarted_with_seeds_nobody_asked_for(monkeypatch):
    made = []

    def run(inter, target, seed, context):
        made.append(seed)
        return {"seed": seed, "degenerate": "" if seed in sound else "flat loss"}

    monkeypatch.setattr(runs, "run", run)
    for restarts, sound, expected in ((0, (), [2]), (2, (2,), [2]), (2, (), [2, 5, 8]),
                                      (5, (8,), [2, 5, 8])):
        made.clear()
        given = SimpleNamespace(restarts=restarts, seed=[1, 2, 3])
        found = runs.run_until_sound("mnli", "xnli", 2, SimpleNamespace(given=given))
        assert made == expected == [result["seed"] for result in found]
