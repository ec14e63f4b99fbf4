"""Robust training: exact updates, nothing without perturbation, resume, other words, names and keys."""

import json
import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import data
import draws
import forks
import model
import plan
import robust
import runs
import splits
import stilts
import tasks
import test_train
import train
from conftest import ROOT
from files import UserError
from predict import Hardware
from readers import Classification, MultipleChoice

DATA = ROOT / "toy/data"
KINDS = {"classification": "mnli", "multiple_choice": "copa", "span": "squad", "tagging": "udpos",
         "retrieval": "lareqa", "mlm": "mlm"}
WITHOUT = {  # each method without perturbation
    "rs-rp": {"robust": "rs-rp", "noise": 0.0},
    "adv": {"robust": "adv", "ascents": 1, "ascent_rate": 0.1, "radius": 0.0},
    "freelb": {"robust": "freelb", "ascents": 1, "ascent_rate": 0.1, "radius": 0.0, "noise": 0.1},
}
FREELB = {"robust": "freelb", "ascents": 3, "ascent_rate": 0.1, "radius": 0.3, "noise": 0.1}
ADV = {"robust": "adv", "ascents": 2, "ascent_rate": 0.1, "radius": 0.3}
PLAIN = {"robust": "none"}


def make_setup(tokenizer, kind, values, hardware=test_train.CPU, dropout=0.1, is_lean=False):
    """A few toy examples of a kind and a tiny encoder; no dev data."""
    task = tasks.get(KINDS[kind])
    examples = splits.load(task, DATA, "train", "toy-en").examples
    if kind == "retrieval":
        queries = [e for e in examples if e.side == "query"][:16]
        right = {name for e in queries for name in e.gold}
        examples = [e for e in examples if e.id in right] + queries
    else:
        examples = examples[:24]
    task = replace(task, max_length=64)
    labels = splits.labels(task, DATA)
    features = data.featurize(task, examples, tokenizer, labels, train=True)
    values = {"batch_size": 8, "mask_rate": 0.3, "random_rate": 0.1} | values
    part = train.Part(task, labels, values, features,
                      draws.Order(features.item_lengths, 8, 1, task.name), dev_features=features)
    config = model.Config(tokenizer.vocab_size, 32, 2, 4, 64, 130, dropout=dropout,
                          attention_dropout=dropout)
    head = model.make_head(kind, config, len(labels), 1)
    both = model.Model(model.make_encoder(config, seed=3), {task.name: head})
    both.encoder.checkpoint_activations = is_lean
    settings = test_train.SETTINGS | {"evaluations": 1}
    return train.make_setup(both, {task.name: part}, settings, 1, tokenizer, hardware)


def trained(tokenizer, folder, kind, values, steps=5, **options) -> dict:
    """Weights after a few steps."""
    folder.mkdir()
    setup = make_setup(tokenizer, kind, values, **options)
    train.train(setup, steps, folder, test_train.never)
    return setup.model.state_dict()


def gradients(tokenizer, kind, values, **options) -> list:
    setup = make_setup(tokenizer, kind, values, **options)
    name, = setup.parts
    loss, norm = train.accumulate(setup, name, np.arange(8), 3)
    return [torch.tensor(loss), torch.tensor(norm), *(p.grad for p in setup.model.parameters())]


def is_same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def one_pass(loss, lengths, width, values, seed=0):
    bounds = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32)
    return robust.Pass(loss, values, bounds, (sum(lengths), width),
                       torch.amp.GradScaler("cpu", enabled=False),
                       torch.Generator().manual_seed(seed))


# ----------------------------------------------------------------- nothing without perturbation


@pytest.mark.parametrize("kind", KINDS)
def test_without_perturbation_training_is_plain_bit_for_bit(tokenizer, tmp_path, kind):
    plain = trained(tokenizer, tmp_path / "plain", kind, PLAIN)
    for name, values in WITHOUT.items():
        weights = trained(tokenizer, tmp_path / name, kind, values)
        assert is_same(plain.values(), weights.values()), name
    other = trained(tokenizer, tmp_path / "other", kind, FREELB)          # and with it is not
    assert not is_same(plain.values(), other.values())


def test_also_over_micro_batches_with_scaling_and_with_recomputed_activations(tokenizer):
    small = Hardware(torch.device("cpu"), None, 100)
    half = Hardware(torch.device("cpu"), torch.float16, 16384)
    for options in ({"hardware": small}, {"hardware": half}, {"is_lean": True}):
        plain = gradients(tokenizer, "classification", PLAIN, **options)
        for name in ("rs-rp", "freelb"):
            found = gradients(tokenizer, "classification", WITHOUT[name], **options)
            assert is_same(plain, found), (name, options)
        found = gradients(tokenizer, "classification", WITHOUT["adv"], **options)
        assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in zip(plain, found))


@pytest.mark.parametrize("values", [FREELB, ADV], ids=["freelb", "adv"])
def test_recomputed_activations_change_nothing(tokenizer, values):
    assert is_same(gradients(tokenizer, "span", values),
                   gradients(tokenizer, "span", values, is_lean=True))


def test_all_passes_see_the_same_dropout(tokenizer, monkeypatch):
    """Two halves of the same gradient are the gradient; other masks give another one."""
    twice = WITHOUT["freelb"] | {"ascents": 2}
    plain = gradients(tokenizer, "tagging", PLAIN, dropout=0.5)
    assert is_same(plain, gradients(tokenizer, "tagging", twice, dropout=0.5))
    monkeypatch.setattr(robust, "dropout_again", lambda device: lambda: None)
    assert not is_same(plain, gradients(tokenizer, "tagging", twice, dropout=0.5))


# ------------------------------------------------------------------------------ exact updates


@pytest.mark.parametrize("values", [FREELB, ADV | {"noise": 0.0}], ids=["freelb", "adv"])
def test_the_updates_of_a_linear_model_by_hand(values):
    """One token e = (3, 4), weights w = (1, 0), L = (w (e + delta))^2 / 2: the gradient of delta
    is 3 (1, 0) at first, so delta climbs by 0.1 along the first axis; the radius stops it."""
    e, w = torch.tensor([[3.0, 4.0]]), torch.tensor([1.0, 0.0], requires_grad=True)

    def loss(delta):
        return (((e + delta) @ w) ** 2).sum() / 2

    def gradient(first):                                 # of w at delta = (first, 0)
        return np.array([(3 + first) ** 2, (3 + first) * 4])

    values = values | {"noise": 0.0, "ascents": 4, "radius": 0.25}
    total = robust.backward(one_pass(loss, [1], 2, values))
    visited = [0, 0.1, 0.2, 0.25] if values["robust"] == "freelb" else [0, 0.25]
    assert w.grad.numpy() == pytest.approx(np.mean([gradient(x) for x in visited], 0), rel=1e-6)
    assert float(total) == pytest.approx(np.mean([(3 + x) ** 2 / 2 for x in visited]), rel=1e-6)


def test_freelb_of_two_sequences_by_numpy():
    """Against the update written once more with a loop over sequences."""
    rng = np.random.default_rng(0)
    lengths, width = [2, 5], 3
    e, y = rng.normal(size=(7, width)), np.array([1.0, -2.0])
    start = rng.normal(size=width)
    w = torch.tensor(start, dtype=torch.float32, requires_grad=True)
    table, target = torch.tensor(e, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
    seen = []

    def loss(delta):
        seen.append(delta.detach().clone().numpy())
        sums = torch.stack([part.sum(0) for part in (table + delta).split(lengths)])
        return ((torch.tanh(sums @ w) - target) ** 2).sum()

    robust.backward(one_pass(loss, lengths, width, FREELB | {"radius": 0.15}))
    expected = np.zeros(width)
    for i, (rows, size) in enumerate(((slice(0, 2), 2), (slice(2, 7), 5))):
        delta = seen[0][rows]
        assert np.abs(delta).max() <= 0.1 / np.sqrt(size * width)
        for turn in range(3):
            assert seen[turn][rows] == pytest.approx(delta, abs=1e-6)
            s = (e[rows] + delta).sum(0)
            out = np.tanh(start @ s)
            slope = 2 * (out - y[i]) * (1 - out ** 2)
            expected += slope * s / 3
            g = np.tile(slope * start, (size, 1))
            delta = delta + 0.1 * g / np.linalg.norm(g)
            delta = delta * min(1, 0.15 / np.linalg.norm(delta))
    assert len(seen) == 3 and w.grad.numpy() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("values", [FREELB, ADV], ids=["freelb", "adv"])
def test_no_sequence_is_perturbed_by_more_than_the_radius(values):
    torch.manual_seed(0)
    lengths, width = [1, 3, 3, 40], 16
    values = values | {"ascents": 6, "ascent_rate": 0.7, "noise": 3.0, "radius": 1.0}
    weight, seen = torch.randn(width, requires_grad=True), []

    def loss(delta):
        seen.append([float(part.norm()) for part in delta.detach().split(lengths)])
        return torch.nn.functional.softplus(delta @ weight).sum()           # never stops to climb

    robust.backward(one_pass(loss, lengths, width, values))
    assert len(seen) == (6 if values["robust"] == "freelb" else 7)
    assert np.max(seen) <= 1 + 1e-6 and np.max(seen, 0).min() > 0.999       # each got to its border


def test_random_perturbations_are_uniform_and_of_their_step_and_rank():
    seen = []
    for key in ((1, 5, 0), (1, 5, 0), (1, 6, 0), (1, 5, 1)):
        one = one_pass(lambda delta: seen.append(delta) or delta.sum() * weight, [20], 500,
                       {"robust": "rs-rp", "noise": 0.02})
        weight = torch.ones((), requires_grad=True)
        robust.backward(replace(one, generator=robust.generator(*key, torch.device("cpu"))))
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2]) and not torch.equal(seen[0], seen[3])
    assert 0.0199 < seen[0].abs().max() <= 0.02 and seen[0].abs().mean() == pytest.approx(0.01, 0.02)


def test_the_ascent_raises_the_loss(tokenizer):
    """One small step from the clean embeddings; without dropout."""
    values = ADV | {"ascents": 1, "ascent_rate": 0.01}
    for kind in ("classification", "span", "tagging"):
        clean, both = (gradients(tokenizer, kind, v, dropout=0.0)[0] for v in (PLAIN, values))
        assert both > clean


def test_a_stopped_stage_goes_on_bit_for_bit(tokenizer, tmp_path):
    whole = trained(tokenizer, tmp_path / "whole", "span", FREELB, steps=10)
    asked = iter([0] * 4 + [143])
    (tmp_path / "cut").mkdir()
    with pytest.raises(train.Stopped):
        train.train(make_setup(tokenizer, "span", FREELB), 10, tmp_path / "cut", lambda: next(asked))
    setup = make_setup(tokenizer, "span", FREELB)
    torch.rand(3)
    train.train(setup, 10, tmp_path / "cut", test_train.never)
    assert is_same(whole.values(), setup.model.state_dict().values())


def test_two_ranks_take_the_steps_of_one(tmp_path):
    """Ascents that begin at the clean embeddings; what is drawn is each rank's own."""
    command = ["--target", "xnli", "--limit", "20", "--set", "steps=4", "--set", "evaluations=1",
               "--set", "batch_size=6", "--set", "robust=freelb", "--set", "noise=0", "--out"]
    logs = []
    for count in (1, 2):
        folder = tmp_path / str(count)
        folder.mkdir()
        group = forks.Ranks(count, lambda _: stilts.main([*command, str(folder / "out")]), folder)
        assert group.wait() == [0] * count, group.said()
        log, = folder.glob("out/stages/*/train.jsonl")
        rows = map(json.loads, log.read_text().split("\n")[:-1])
        logs.append([(row["loss"], row["norm"]) for row in rows if "loss" in row])
    assert len(logs[0]) == 4 and np.array(logs[0]) == pytest.approx(np.array(logs[1]), rel=1e-4)


# -------------------------------------------------------------------------------- other words


PAIRS = [Classification(row, f"the big dog {row} runs", "A big , dog", "yes") for row in range(50)]
SYNONYMS = {"big": ["large", "huge"], "dog": ["hound"], "the": []}


def augmented(tmp_path, examples, copies=4, seed=1, name="mnli", synonyms=SYNONYMS):
    path = tmp_path / "toy-en.json"
    path.write_text(json.dumps(synonyms))
    return robust.augment(tasks.get(name), examples, path, copies, seed)


def test_copies_are_reworded_and_keep_all_else(tmp_path):
    copies = augmented(tmp_path, PAIRS)
    assert [(e.row, e.label) for e in copies] == [(row, "yes") for row in range(50) for _ in range(4)]
    words = [copy.text_a.split(" ") for copy in copies]
    assert {w[0] for w in words} == {"the"} and {w[4] for w in words} == {"runs"}
    assert [w[3] for w in words] == [str(e.row) for e in copies]
    shares = [sum(w[1] == name for w in words) / 200 for name in ("big", "large", "huge")]
    assert min(shares) > 0.25 and sum(shares) == 1           # uniform: each 1/3
    assert {w[2] for w in words} == {"dog", "hound"}
    assert {(e.text_a.split(" ")[1], e.text_b.split(" ")[1]) for e in copies} >= {
        ("big", "huge"), ("huge", "big"), ("large", "big")}   # the sides are drawn apart


def test_copies_do_not_depend_on_the_order_but_on_the_seed(tmp_path):
    copies = augmented(tmp_path, PAIRS)
    shuffled = random.Random(0).sample(PAIRS, len(PAIRS))
    again = sorted(augmented(tmp_path, shuffled), key=lambda e: e.row)
    assert again == copies
    assert [e for e in augmented(tmp_path, PAIRS, copies=2) if e.row == 7] == copies[28:30]
    assert augmented(tmp_path, PAIRS, seed=2) != copies


def test_what_has_no_neighbours_stays(tmp_path):
    assert augmented(tmp_path, PAIRS, copies=2, synonyms={"Dog": ["x"], "dog,": ["x"], "the": []}) == [
        e for e in PAIRS for _ in range(2)]
    blanks = [Classification(1, " the  end ", "", "no")]
    assert augmented(tmp_path, blanks, copies=1, synonyms={}) == blanks


def test_choices_are_reworded_one_by_one(tmp_path):
    one = MultipleChoice(3, "a dog", ("big dog", "the cat"), 1)
    copies = augmented(tmp_path, [one], copies=30, name="copa")
    assert all(copy.endings[1] == "the cat" and copy.label == 1 for copy in copies)
    assert {copy.endings[0] for copy in copies} >= {"big hound", "huge dog"}
    assert {copy.context for copy in copies} == {"a dog", "a hound"}


@pytest.mark.parametrize("content", ["[]", '{"a": "b"}', '{"a": [1]}', '{"a": null}'])
def test_a_file_of_another_form_is_refused(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(UserError, match="x.json.*expected"):
        robust.augment(tasks.get("mnli"), PAIRS, path, 1, 1)


# ------------------------------------------------------------------------------ names and keys


def context(out, *settings, data_folder=DATA):
    _, given = stilts.parse(["--target", "xnli", "--out", str(out),
                             *(part for one in settings for part in ("--set", one))])
    stilts.check_given(given)
    return replace(stilts.make_context(given), data=data_folder)


def test_keys_without_robust_training_hold_what_they_always_held(tmp_path):
    def keys(*settings, inter="squad", target="xnli"):
        return [s.key for s in plan.plan_run(inter, target, 1, context(tmp_path, *settings))]

    stage, = plan.plan_run("none", "xnli", 1, context(tmp_path))
    assert stage.values["xnli"]["robust"] == ("none", "default")
    assert set(plan.decisive(stage.values["xnli"])) == {*plan.ROW_FIELDS, *plan.COMMON, "lr"}
    assert keys() == keys("robust=none") == keys("squad.robust=none")
    assert keys("xnli.robust=freelb")[0] == keys()[0] != keys("robust=freelb")[0]
    some = [keys(*more)[1] for more in (
        [], ["xnli.robust=freelb"], ["xnli.robust=freelb", "radius=0.2"],
        ["xnli.robust=freelb", "xnli.ascents=3"], ["xnli.robust=adv"], ["xnli.robust=rs-rp"])]
    assert len(set(some)) == len(some)
    assert keys("xnli.robust=freelb", "radius=0.3") == keys("xnli.robust=freelb")    # the default


@pytest.mark.parametrize("settings, expected", [
    ([], "toy--squad--xnli--s1"), (["robust=none"], "toy--squad--xnli--s1"),
    (["xnli.robust=freelb"], "toy--squad--xnli--s1--freelb"),
    (["squad.robust=adv"], "toy--squad--xnli--s1--squad.adv"),
    (["robust=rs-rp"], "toy--squad--xnli--s1--squad.rs-rp+rs-rp")])
def test_robust_runs_have_folders_of_their_own(tmp_path, settings, expected):
    here = context(tmp_path, *settings)
    assert runs.run_folder("squad", "xnli", 1, here).name == expected
    stages = plan.plan_run("squad", "xnli", 1, here)
    key = runs.describe_run("squad", "xnli", 1, stages, here)["key"]
    assert key.get("robust", "") == expected[len("toy--squad--xnli--s1--"):]
    assert runs.run_folder("squad", "tatoeba", 1, context(tmp_path, "xnli.robust=adv")).name == \
        "toy--squad--tatoeba--s1"


@pytest.mark.parametrize("settings, message", [
    (["robust=smart"], "expected one of none, rs-rp, rs-da, adv, freelb"),
    (["xnli.radius=1"], "robust=none has no radius"), (["radius=1"], "no stage here"),
    (["robust=adv", "xnli.noise=1"], "robust=adv has no noise"),
    (["robust=adv", "ascents=0"], r"ascents=0 \(allowed 1 to 100\)"),
    (["robust=adv", "radius=nan"], "radius=nan"),
    (["robust=rs-da"], "data/synonyms/toy-en.json: robust=rs-da needs this file")])
def test_what_makes_no_sense_is_refused_before_anything_is_done(tmp_path, settings, message):
    here = context(tmp_path, *settings)
    with pytest.raises(UserError, match=message):
        stilts.check_runs(here.given, [("none", "xnli")], here)


def test_synonyms_are_for_labels_and_choices_and_decide_the_key(tmp_path):
    (tmp_path / "synonyms").mkdir()
    assert stilts.main(["--target", "udpos", "--set", "robust=rs-da", "--dry-run"]) == 2
    with pytest.raises(UserError, match="udpos: robust=rs-da is for classification and multiple"):
        robust.synonym_file(tasks.get("udpos"), tmp_path, "toy-en")
    task, path = tasks.get("mnli"), tmp_path / "synonyms/toy-en.json"
    path.symlink_to(DATA / "world.json")
    with pytest.raises(UserError, match="needs this file"):               # a link out of the folder
        robust.synonym_file(task, tmp_path, "toy-en")
    path.unlink()
    member, values = plan.Member("mnli", "xnli", ("toy-en",)), {"robust": ("rs-da", "--set")}
    path.write_text("{}")
    here = SimpleNamespace(data=tmp_path, world=splits.world(DATA))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splits, "find", lambda task, data, split, lang: [DATA / split / lang])
        assert plan.training_files(member, values, here)[-1] == path
        assert path not in plan.training_files(member, {"robust": ("none", "")}, here)


def test_copies_take_the_place_of_the_examples(tmp_path, monkeypatch):
    path = tmp_path / "toy-en.json"
    path.write_text('{"a": ["b"]}')
    monkeypatch.setattr(robust, "synonym_file", lambda *_: path)
    here, task = context(tmp_path), tasks.get("mnli")
    plain, copied, few = (train.load_training(task, "toy-en", {"examples": 0} | values, 1,
                                              here.data, 0)
                          for values in (PLAIN, {"robust": "rs-da", "copies": 3},
                                         {"robust": "rs-da", "copies": 3, "examples": 5, "draw": 0}))
    assert len(few) == 15 and set(few) <= set(copied)
    assert [e.row for e in copied] == [e.row for e in plain for _ in range(3)]
    assert [e.label for e in copied] == [e.label for e in plain for _ in range(3)]


def test_a_table_tells_robust_arms_apart():
    import eval as evaluation
    assert evaluation.arm({"inter": "squad"}) == "squad"
    assert evaluation.arm({"inter": "squad", "robust": "freelb"}) == "squad, freelb"
