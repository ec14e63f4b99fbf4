"""Features kept between runs: what is found is what would be made, whatever befell the file."""

import dataclasses
import os
import shutil
import signal
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import data
import features
import stilts
import weights
from conftest import ROOT
from files import UserError
from readers import Classification, Document, MultipleChoice, Sentence, Span, Tagging

LABELS = ("no", "yes")
EXAMPLES = {
    "classification": [Classification(1, "the man", "a dog", "yes"),
                       Classification(2, "the man", "no dog", None)],
    "multiple_choice": [MultipleChoice(1, "the man", ("sees a dog", "is a dog", "a"), 0),
                        MultipleChoice(2, "a dog", ("sees", "is", "no"), None)],
    "span": [Span(1, "q1", "who sees", "the man sees a dog " * 9, (("man", 4),)),
             Span(2, "q2", "what", "the man sees a dog " * 9, ()),
             Span(3, "q3", "what", "it is green", (("it", 5),))],
    "tagging": [Tagging(1, ("the", "man", "\u200b") * 20, ("no", "yes", "no") * 20),
                Tagging(2, ("dog",), None)],
    "retrieval": [Sentence(1, "a", "the man", "query", ("b",)),
                  Sentence(1, "b", "a dog", "candidate", ())],
    "mlm": [Document(1, "the man sees a dog " * 9), Document(2, "it")],
}
EVERY = [(kind, False) for kind in EXAMPLES] + [("retrieval", True), ("span", True)]


def row(kind, **fields):
    return SimpleNamespace(**{"kind": kind, "name": "invented", "max_length": 32, "stride": 6,
                              "max_question": 8} | fields)


def same(left, right) -> bool:
    pairs = zip(dataclasses.astuple(left), dataclasses.astuple(right))
    return all(a.dtype == b.dtype and np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b
               for a, b in pairs)


def fail(*_):
    raise AssertionError("made again")


@pytest.fixture
def kept(tokenizer, tmp_path):
    """A stored file, the arguments of its features, and the features."""
    arguments = row("span"), EXAMPLES["span"], tokenizer, LABELS, False, tmp_path / "features"
    made = features.features_of(*arguments)
    path, = (tmp_path / "features").iterdir()
    return path, arguments, made


def test_features_of_nothing_are_kept_too(tokenizer, tmp_path):
    """The only answer is misplaced: there is nothing to train on."""
    arguments = row("span"), [EXAMPLES["span"][0]._replace(answers=(("dog", -1),))], tokenizer
    made = features.features_of(*arguments, train=True, cache=tmp_path)
    assert len(made.example) == 0
    assert same(features.features_of(*arguments, train=True, cache=tmp_path), made)


@pytest.mark.parametrize("kind, train", EVERY)
def test_what_is_found_equals_what_is_made(tokenizer, tmp_path, monkeypatch, kind, train):
    arguments = row(kind), EXAMPLES[kind], tokenizer, LABELS, train
    made = data.featurize(*arguments)
    assert same(features.features_of(*arguments, tmp_path), made)
    monkeypatch.setattr(data, "featurize", fail)
    assert same(features.features_of(*arguments, tmp_path), made)
    with pytest.raises(AssertionError):
        features.features_of(*arguments, None)


def test_whatever_decides_the_features_changes_the_key(tokenizer, monkeypatch):
    examples = EXAMPLES["span"]
    first, second, third = examples
    given = {"task": row("span"), "examples": examples, "tokenizer": tokenizer, "labels": LABELS,
             "train": False}
    keys = [features.feature_key(**given)]
    assert keys == [features.feature_key(**given)]
    for change in [
            {"examples": [third, second, first]}, {"examples": examples[:2]},
            {"examples": [first._replace(context=first.context + "x"), second, third]},
            {"examples": [first._replace(context=third.context), second,
                          third._replace(context=first.context)]},
            {"examples": [first._replace(answers=(("man", 3),)), second, third]},
            {"examples": [first, second._replace(answers=None), third]},
            {"task": row("span", max_length=31)}, {"task": row("span", stride=5)},
            {"task": row("span", max_question=7)}, {"labels": LABELS[::-1]}, {"train": True},
            {"tokenizer": SimpleNamespace(sha256="another")}]:
        keys.append(features.feature_key(**given | change))
    monkeypatch.setattr(features, "FORMAT", features.FORMAT + 1)
    keys.append(features.feature_key(**given))
    monkeypatch.setattr(data, "__file__", __file__)            # another data.py
    keys.append(features.feature_key(**given))
    assert len(set(keys)) == len(keys) == 15


@pytest.mark.parametrize("kind, train", EVERY)
def test_the_key_holds_every_setting_that_a_featurizer_asks_for(tokenizer, kind, train):
    asked = set()

    class Spy:
        def __getattr__(self, name):
            asked.add(name)
            return getattr(row(kind), name)

    data.featurize(Spy(), EXAMPLES[kind], tokenizer, LABELS, train)
    assert asked <= set(features.ROW)


def test_every_array_of_features_is_kept():
    names = {field.name for field in dataclasses.fields(data.Features)}
    assert names == {*features.ARRAYS, "kind", "group"}


def flip(raw, place):
    return raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1:]


@pytest.mark.parametrize("damage", [
    lambda raw: b"", lambda raw: raw[:-1], lambda raw: raw[:len(raw) // 2], lambda raw: raw + b"x",
    lambda raw: b"<html>", lambda raw: flip(raw, 3), lambda raw: flip(raw, 40),
    lambda raw: flip(raw, len(raw) // 2), lambda raw: flip(raw, len(raw) - 1)])
def test_a_damaged_file_is_made_again_with_a_warning(kept, capsys, damage):
    path, arguments, made = kept
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert same(features.features_of(*arguments), made)
    assert capsys.readouterr().err.count("warning: ") == 1
    assert path.read_bytes() == whole and len(list(path.parent.iterdir())) == 1


def test_a_file_under_the_name_of_another_is_noticed(kept, capsys):
    path, arguments, _ = kept
    task, examples, *rest = arguments
    other = examples[:1], *rest
    right = features.features_of(task, *other)
    name = features.feature_key(task, examples[:1], *rest[:-1])
    shutil.copy(path, path.with_stem(name))
    assert same(features.features_of(task, *other), right)
    assert "damaged, or of another name" in capsys.readouterr().err


def forge(path, change):
    """Change the arrays of a file and make its digest fit."""
    arrays = {k: t.numpy().copy() for k, t in weights.read_safetensors(path).items()}
    del arrays["digest"]
    change(arrays)
    arrays["digest"] = features.digest(path.stem, arrays)
    weights.write_safetensors(path, {k: torch.from_numpy(a) for k, a in arrays.items()})


@pytest.mark.parametrize("name, change", [
    ("pieces", lambda a: a["pieces"].__setitem__(0, 10 ** 6)),
    ("pieces", lambda a: a["pieces"].__setitem__(0, -1)),
    ("pieces", lambda a: a.update(pieces=np.array(5, np.int32))),
    ("a", lambda a: a["a"].__setitem__((0, 1), 10 ** 6)),
    ("a", lambda a: a["a"].__setitem__(0, (5, 4))),
    ("b", lambda a: a["b"].__setitem__((0, 1), len(a["begin"]) + 1)),
    ("example", lambda a: a["example"].__setitem__(0, 3)),
    ("end", lambda a: a.update(end=a["end"][1:])),
    ("own", lambda a: a.pop("own")),
    ("words", lambda a: a.update(words=a["example"])),
    ("target", lambda a: a.update(target=a["target"].astype(np.int64))),
    ("target", lambda a: a["target"].__setitem__((0, 1), 32)),
    ("group", lambda a: a.update(group=np.array([0]))),
    ("group", lambda a: a.update(group=np.zeros(0, np.int64))),
    ("not whole", lambda a: a.update(end=a["end"].astype(np.float32)))])
def test_a_forged_file_never_points_outside(kept, capsys, name, change):
    path, arguments, made = kept
    forge(path, change)
    with pytest.raises(UserError, match=name):
        features.read_features(path, *arguments[:4])
    assert same(features.features_of(*arguments), made)
    assert same(features.read_features(path, *arguments[:4]), made)


def test_a_kill_while_a_file_is_written_leaves_nothing_under_its_name(kept, monkeypatch):
    path, arguments, made = kept
    path.unlink()
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(os, "fsync", lambda _: os.kill(os.getpid(), signal.SIGKILL))
        features.features_of(*arguments)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    left, = path.parent.iterdir()
    assert left.is_dir() and any(left.iterdir()) and not path.exists()
    assert same(features.features_of(*arguments), made)
    assert same(features.read_features(path, *arguments[:4]), made)


def test_writers_of_the_same_file_do_not_meet(kept):
    path, arguments, made = kept
    sound = []

    def work():
        for _ in range(5):
            features.write_features(path, made)
            sound.append(same(features.read_features(path, *arguments[:4]), made))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sound == [True] * 20 and list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_costs_a_warning(kept, capsys):
    path, arguments, made = kept
    shutil.rmtree(path.parent)
    path.parent.touch()
    assert same(features.features_of(*arguments), made)
    assert "cannot keep these features" in capsys.readouterr().err


def test_another_run_finds_all_features_and_predicts_the_same(tmp_path, monkeypatch):
    """As on real data: the toy world keeps none."""
    shutil.copytree(ROOT / "toy/encoder", tmp_path / "encoder")
    (tmp_path / "encoder/world.json").unlink()
    arguments = ["--target", "pawsx", "--model", tmp_path / "encoder", "--data",
                 ROOT / "tests/fixtures/data", "--set", "steps=2", "--out"]
    one, two = tmp_path / "one", tmp_path / "two"
    assert stilts.main([*map(str, arguments), str(one), "--dry-run"]) == 0 and not one.exists()
    assert stilts.main([*map(str, arguments), str(one)]) == 0
    assert len(list((one / "features").iterdir())) == 3       # train, English dev = test, German
    two.mkdir()
    (two / ".stilts").touch()
    shutil.copytree(one / "features", two / "features")
    monkeypatch.setattr(data, "featurize", fail)
    assert stilts.main([*map(str, arguments), str(two)]) == 0
    files = sorted(path.relative_to(one) for path in one.glob("*/predictions/*/*"))
    assert len(files) == 2 and all((one / f).read_bytes() == (two / f).read_bytes() for f in files)
