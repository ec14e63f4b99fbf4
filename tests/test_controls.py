"""Controls of the toy world: guessers, the record, the flag."""

import json
import signal
from itertools import permutations
from statistics import mean
from types import SimpleNamespace

import pytest

import metrics
import stilts
import splits
import tasks
from conftest import ROOT
from readers import MultipleChoice
from toy import controls, make
from toy import world as w

DATA = ROOT / "toy/data"


def command(**given):
    given = {"split": None, "seed": [1], "controls": False, "set": [], "limit": 0, "layer": 0} | given
    return SimpleNamespace(**given), SimpleNamespace(data=DATA, out=None)


def scores(target: str, name: str) -> dict:
    row = next(row for row in controls.guesses(target, DATA) if row["inter"] == name)
    return {lang: values for lang, values in row["languages"].items()}


def test_commonest_label_of_a_balanced_task_is_right_in_a_third():
    found = scores("xnli", "commonest label")
    assert set(found) == set(w.LANGUAGES)
    assert all(15 < values["accuracy"] < 52 for values in found.values())      # 3 SD of 80 throws


def test_commonest_tag_finds_no_name():
    assert all(values["f1"] == 0 for values in scores("panx", "commonest tag").values())


def test_dictionary_finds_the_words_it_knows():
    found = scores("semtag", "tag of the word")
    assert 60 < found[w.ENGLISH]["accuracy"] < 90       # of half of the words no tag is remembered
    assert scores("upos", "tag of the word")[w.ENGLISH]["accuracy"] == 100


def test_no_answer_is_right_where_there_is_none():
    found = scores("squad2", "no answer")[w.ENGLISH]
    assert (found["HasAns_f1"], found["NoAns_f1"]) == (0, 100)
    assert "no answer" not in {row["inter"] for row in controls.guesses("squad", DATA)}


@pytest.mark.parametrize("golds, count, k", [(1, 4, 2), (2, 5, 3), (3, 5, 20)])
def test_expected_precision_is_the_mean_over_all_orders(golds, count, k):
    k = min(k, count)
    orders = [metrics.average_precision(set(range(golds)), order, k)
              for order in permutations(range(count))]
    assert controls.expected_precision(golds, count, k) == pytest.approx(mean(orders))


def test_any_pairing_of_bitext_is_right_by_chance():
    """18 of 54 sentences have a partner among 54: a third of a pair, of 54 answered and 18 right."""
    expected = 100 * 2 * (18 / 54) / (54 + 18)
    for values in scores("bucc2018", "any sentence").values():
        assert values["f1"] == pytest.approx(expected)


def test_choices_are_guessed_by_place_length_and_overlap():
    example = MultipleChoice(1, "a b c", ("d", "b c", "x y z"), 1)
    task = tasks.get("copa")
    loaded = splits.Split([example], [], 0, True)
    assert controls.closest_choice(task, DATA, w.ENGLISH, loaded)["accuracy"] == 100
    assert controls.longest_choice(task, DATA, w.ENGLISH, loaded)["accuracy"] == 0


def test_any_sentence_is_one_of_all():
    found = scores("tatoeba", "any sentence")
    assert {values["accuracy"] for values in found.values()} == {1.0}          # of 100


@pytest.mark.parametrize("asked, context, expected", [
    ("what", "A buys 3 cheap lamp in P on monday . B sells the soup .", ["cheap lamp", "soup"]),
    ("how-many", "A buys 3 cheap lamp . B sells 4 soup .", ["3", "4"]),
    ("who", "A buys 3 lamp in P . P bank sells the soup .", ["A", "P bank"]),
    ("where", "A buys 3 lamp in P . P bank sells the soup .", ["P"]),
    ("when", "A buys 3 lamp on monday . on friday B sells the soup .", ["monday", "friday"])])
def test_phrases_of_the_asked_type(asked, context, expected):
    world = w.World(0)
    names = {"A": w.PERSONS[0], "B": w.PERSONS[1], "P": w.PLACES[0]}

    def said(text):
        return " ".join(world.forms[w.ENGLISH].get(names.get(x, x), x) for x in text.split())

    found = controls.phrases(world, w.ENGLISH, asked, said(context))
    assert found == [said(phrase) for phrase in expected]


def test_record_is_printed_with_its_date_and_hash_or_not_at_all(tmp_path, monkeypatch):
    record = tmp_path / "controls.json"
    monkeypatch.setattr(controls, "RECORD", record)
    assert controls.show("squad", "xnli", *command()) == ""
    content = {"date": "2026-01-02", "fingerprint": controls.fingerprint(controls.HERE),
               "inter": "squad", "rows": controls.guesses("xnli", DATA)}
    record.write_text(json.dumps(content), encoding="utf-8")
    shown = controls.show("squad", "xnli", *command())
    assert "recorded 2026-01-02" in shown and "sha256" in shown and "| feature rule | - |" in shown
    record.write_text(json.dumps(content | {"fingerprint": "of another encoder"}), encoding="utf-8")
    assert "use --controls" in controls.show("squad", "xnli", *command())


def test_record_does_not_speak_for_other_settings(tmp_path, monkeypatch):
    record = tmp_path / "controls.json"
    monkeypatch.setattr(controls, "RECORD", record)
    content = {"date": "2026-01-02", "fingerprint": controls.fingerprint(controls.HERE),
               "inter": "squad", "rows": controls.guesses("xnli", DATA)}
    record.write_text(json.dumps(content), encoding="utf-8")
    for changed in ({"set": [("", "lr", "1e-3")]}, {"limit": 3}, {"split": "dev"}, {"layer": 2}):
        assert controls.show("squad", "xnli", *command(**changed)) == ""


def test_recorded_steps_are_told_for_their_own_intermediate_task_only(tmp_path, monkeypatch):
    record = tmp_path / "controls.json"
    monkeypatch.setattr(controls, "RECORD", record)
    rows = controls.guesses("xnli", DATA)
    rows.append(rows[0] | {"inter": controls.SAME})
    record.write_text(json.dumps({"date": "2026-01-02", "inter": "squad", "rows": rows,
                                  "fingerprint": controls.fingerprint(controls.HERE)}))
    assert controls.SAME in controls.show("squad", "xnli", *command())
    assert controls.SAME not in controls.show("mnli", "xnli", *command())


def test_a_command_inside_another_gives_the_signal_handlers_back(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    make.command("--target", "tatoeba", "--limit", 2, "--out", tmp_path / "r")
    assert signal.getsignal(signal.SIGINT) is before


def test_controls_are_run_by_the_flag(tmp_path, capsys):
    arguments = ["--inter", "none", "--target", "tatoeba", "--controls", "--out", str(tmp_path / "r")]
    assert stilts.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "Controls, run now" in printed and "| never pretrained | 1 |" in printed
    row = next(line for line in printed.splitlines() if line.startswith("| any sentence"))
    assert row.endswith("| 1.0 | 1.0 |")
    trained = next(line for line in printed.splitlines() if line.startswith("| none"))
    random = next(line for line in printed.splitlines() if line.startswith("| never"))
    assert float(trained.split("|")[-2]) > float(random.split("|")[-2])


def test_controls_of_a_real_world_are_refused(tmp_path, capsys):
    arguments = ["--target", "xnli", "--controls", "--model", str(tmp_path), "--data", str(tmp_path)]
    assert stilts.main(arguments) == 2
    assert "toy world" in capsys.readouterr().err


def test_same_steps_counts_each_stage(tmp_path):
    run = tmp_path / "toy--squad--tydiqa--s1"
    run.mkdir()
    keys = ["a" * 24, "b" * 24]
    for key, steps in zip(keys, (620, 200)):
        folder = tmp_path / "stages" / key
        folder.mkdir(parents=True)
        lines = [{"step": step, "loss": 1.0} for step in (1, steps)]
        (folder / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run / "config.json").write_text(json.dumps({"key": {"stages": keys}}))
    assert controls.steps_of(run) == [620, 200]


def test_tasks_with_a_guess_line_are_those_that_are_evaluated():
    for task in tasks.TASKS.values():
        if task.kind != "mlm" and splits.languages(task, DATA, task.eval_split):
            assert controls.guesses(task.name, DATA), task.name
