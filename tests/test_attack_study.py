"""The attack study: what is kept of a run, joined translations, arithmetic, words for planted truths.

    pytest tests/test_attack_study.py
"""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

import tasks
from conftest import ROOT
from files import UserError
from readers import Classification, MultipleChoice, Tagging
from studies import attack_report, attack_runs, study
from studies.__main__ import main as studies_main
from studies.measure import Scores
from studies.scripts import Edit
from studies.search_attack import Found, Judged

PLAN = attack_runs.Plan(["chars"], 0, 13, 30, "attack")


def judged(is_right: bool, score: float = 0.0) -> Judged:
    return Judged((0.0,), (not is_right,), score)


def scores_of(right, fooled, best, queries) -> Scores:
    """chars on examples of which so many are right; None in `fooled` where not attacked."""
    def search(hits):
        return {"fooled": hits, "queries": queries, "ran_out": [q and q == 30 for q in queries],
                "words": [hit is not None and 1 for hit in hits], "clusters": [2] * len(hits),
                "points": [0.0 if hit or hit is None else 100.0 for hit in hits]}

    values = [100.0 * (r and not f) for r, f in zip(right, fooled)]
    return Scores(values, {"right": right, "points": [100.0 * r for r in right], "inputs": {},
                           "searches": {"chars": search(fooled), "random": search(best),
                                        "random-Q": search(best)}})


HAND = scores_of([True, True, True, True, False, False], [True, False, True, False, None, None],
                 [True, False, False, False, None, None], [4, 30, 10, 30, None, None])


# -------------------------------------------------------------------------------- arithmetic


class Planted(attack_report.Evidence):
    """Evidence whose scores were made up: (arm, target, seed) -> {language: scores}."""

    def __init__(self, made: dict, targets: list[str]):
        arms = list(dict.fromkeys(arm for arm, _, _ in made))
        seeds = sorted({seed for _, _, seed in made})
        self.made = made
        found = {key: SimpleNamespace(key=key, degenerate="", task=tasks.get(key[1]), folder=key,
                                      config={"key": {}, "stages": []}) for key in made}
        setup = SimpleNamespace(context=SimpleNamespace(given=SimpleNamespace(seed=seeds)))
        super().__init__(study.Found(setup, found, {}), PLAN, None)
        assert self.found.arms == arms and self.found.targets == targets

    def scores(self, run, attack):
        return self.made[run.key] if run else {}

    def sample(self, run, lang):
        size = len(self.made[run.key][lang].values)
        return SimpleNamespace(names=[str(i) for i in range(size)],
                               clusters=[f"item {i}" for i in range(size)])


def test_rates_and_scores_on_a_hand_case():
    """Of 6 examples 4 are right, of which the search fools 2 and random tries 1."""
    one = {"xx": HAND}
    assert attack_report.under("clean")(one) == pytest.approx(100 * 4 / 6)
    assert attack_report.under("chars")(one) == pytest.approx(100 * 2 / 6)
    assert attack_report.under("random-Q")(one) == pytest.approx(100 * 3 / 6)
    assert attack_report.rate("chars")(one) == 50 and attack_report.rate("random-Q")(one) == 25
    row = dict(zip(attack_report.OUTCOMES, attack_report.outcome_row(
        Planted({("none", "pawsx", 1): one}, ["pawsx"]), "chars", "pawsx", "none")))
    expected = {"examples": "6", "attacked": "4", "clean": "66.7", "points left": "33.3",
                "random": "25.0", "random-Q": "25.0", "search adds": "25.0", "queries, mean": "18.5",
                "median": "20", "ran out, %": "50.0", "words": "1.0", "clusters": "2.0"}
    assert {name: row[name] for name in expected} == expected
    assert row["under attack"].startswith("33.3 (") and row["success rate"] == "50.0"


def test_where_nothing_is_right_rates_do_not_apply():
    nothing = scores_of([False] * 3, [None] * 3, [None] * 3, [None] * 3)
    row = attack_report.outcome_row(Planted({("none", "pawsx", 1): {"xx": nothing}}, ["pawsx"]),
                                    "chars", "pawsx", "none")
    assert row[4] == "0.0" and row[7:14] == ["n/a"] * 7
    missing = attack_report.outcome_row(Planted({("none", "pawsx", 1): {}}, ["pawsx"]), "chars",
                                        "pawsx", "none")
    assert set(missing[2:]) == {"missing"}


def test_success_rates_where_both_are_right():
    other = scores_of([True, True, False, True, True, False], [True, True, None, False, True, None],
                      [False] * 6, [5] * 6)
    planted = Planted({("none", "pawsx", 1): {"xx": HAND}, ("squad", "pawsx", 1): {"xx": other}},
                      ["pawsx"])
    (table,) = attack_report.both_right(planted, "chars").tables
    assert table.rows == [["pawsx", "squad", "3", "66.7", "33.3", "33.3"]]


def planted(clean: float, left: float, seed: int, count: int = 120) -> dict[str, Scores]:
    """So large a share is right, of which a share survives; the same hard items for all seeds."""
    rng, found = np.random.default_rng(seed), {}
    for lang in ("xx", "yy"):
        right = (rng.random(count) < clean).tolist()
        fooled = [bool(rng.random() >= left) if r else None for r in right]
        found[lang] = scores_of(right, fooled, fooled, [r and 9 or None for r in right])
    return found


@pytest.mark.parametrize("arm, words", [
    ((0.6, 0.2), {"score under chars": attack_report.effects.UNTOLD,
                  "difference in differences under chars": attack_report.effects.UNTOLD,
                  "clean gain": attack_report.effects.UNTOLD}),
    ((0.6, 0.9), {"score under chars": "stronger under attack",
                  "difference in differences under chars": "loses less under attack",
                  "clean gain": attack_report.effects.UNTOLD}),
    ((0.95, 0.1), {"score under chars": attack_report.effects.UNTOLD,
                   "difference in differences under chars": "loses more under attack",
                   "clean gain": "better"}),
])
def test_words_for_planted_truths(arm, words):
    made = {("none", "pawsx", s): planted(0.6, 0.2, s) for s in range(1, 6)}
    made |= {("squad", "pawsx", s): planted(*arm, 10 + s) for s in range(1, 6)}
    told = attack_report.against_baseline(Planted(made, ["pawsx"]))
    assert {one.effect.what: one.words for one in told} == words


def test_the_interaction_with_robust_training():
    """freelb helps the baseline by 30 points, the arm not at all."""
    def of(shares, start):
        return Planted({(arm, "pawsx", s): planted(1.0, share, start + 7 * s + i)
                        for i, (arm, share) in enumerate(shares.items()) for s in range(1, 6)},
                       ["pawsx"])

    plain, robust = of({"none": 0.3, "squad": 0.5}, 0), of({"none": 0.6, "squad": 0.5}, 100)
    found = {(one.label, one.what): one.found.value
             for one in attack_report.crossed_effects("freelb", plain, robust)}
    assert found["none", "freelb under chars"] == pytest.approx(30, abs=6)
    assert found["squad", "freelb under chars"] == pytest.approx(0, abs=6)
    assert found["squad", "interaction with freelb under chars"] == pytest.approx(-30, abs=8)


# ----------------------------------------------------------------------------- what is kept


@pytest.mark.parametrize("clean, changed", [
    (Classification(1, "a", "some text", "1"), {"text_b": "smoe text"}),
    (Tagging(1, ("some", "text"), ("O", "O")), {"words": ("smoe", "text")}),
    (MultipleChoice(1, "c", ("some", "text"), 0), {"endings": ("etwas", "text")}),
])
def test_inputs_come_back_from_the_file(clean, changed):
    strongest = clean._replace(**changed)
    edits = (Edit(0, 2, "xy"),)
    found = [None, Found(clean, strongest, judged(False), True, 7, False, edits),
             Found(clean, clean, judged(True, 50.0), False, 30, True, ())]
    scene = SimpleNamespace(clean=[judged(False), judged(True), judged(True)])
    kept = attack_runs.scores(scene, {"chars": found, "random": found})
    facts = json.loads(json.dumps(kept.facts))
    assert kept.values == [0.0, 0.0, 100.0] and facts["right"] == [False, True, True]
    assert attack_runs.inputs([clean] * 3, facts) == [clean, strongest, clean]
    assert facts["searches"]["random"]["fooled"] == [None, True, False]
    assert facts["searches"]["chars"]["queries"] == [None, 7, 30]
    assert facts["searches"]["chars"]["clusters"] == [None, 2, 0]


# ------------------------------------------------------------------------------ translations


def victim_of(folder, name: str, files: dict[str, list]):
    """A stand-in for measure.Victim with these examples."""
    return SimpleNamespace(
        task=tasks.get(name), split="test", languages=list(files),
        run=SimpleNamespace(config={"paths": {"data": folder}}),
        sample=lambda lang: SimpleNamespace(whole=files[lang], examples=files[lang]))


def write_pawsx(folder, rows: dict[str, list[tuple]]) -> dict[str, list]:
    files = {}
    for lang, listed in rows.items():
        path = folder / f"pawsx/x-final/{lang}/test_2k.tsv"
        path.parent.mkdir(parents=True)
        lines = ["id\tsentence1\tsentence2\tlabel", *("\t".join(row) for row in listed)]
        path.write_text("\n".join(lines) + "\n")
        files[lang] = list(tasks.get("pawsx").reader([path], lang, ("0", "1")))
    return files


def test_pawsx_is_joined_by_id_where_rows_are_missing(tmp_path):
    files = write_pawsx(tmp_path, {
        "en": [("1", "a1", "b1", "0"), ("2", "a2", "b2", "1"), ("4", "a4", "b4", "0")],
        "de": [("2", "A2", "B2", "1"), ("4", "A4", "B4", "0")]})
    victim = victim_of(tmp_path, "pawsx", files)
    assert attack_runs.item_names(victim, "en") == ["1", "2", "4"]
    (found,) = attack_runs.translations(victim, "en")
    assert [one and (one.text_a, one.text_b, one.label) for one in found] == [
        None, ("a2", "B2", "1"), ("a4", "B4", "0")]


def test_files_of_other_items_are_no_translations(tmp_path):
    files = write_pawsx(tmp_path, {
        "en": [(str(i), "a", "b", "0") for i in range(4)],
        "de": [(str(i), "A", "B", str(i % 2)) for i in range(4)]})
    with pytest.raises(UserError, match=r"2 of 4 golds agree"):
        list(attack_runs.translations(victim_of(tmp_path, "pawsx", files), "en"))


@pytest.mark.parametrize("name, lang, other, field", [
    ("xcopa", "toy-lex", "toy-case", "endings"), ("xquad", "toy-lex", "toy-en", "question")])
def test_translations_of_the_toy_world(name, lang, other, field):
    task, folder = tasks.get(name), ROOT / "toy/data"
    files = {one: attack_runs.splits.load(task, folder, "test", one).examples
             for one in (lang, other)}
    (found,) = attack_runs.translations(victim_of(folder, name, files), lang)
    for one, own, foreign in zip(found, files[lang], files[other]):
        assert getattr(one, field) == getattr(foreign, field) != getattr(own, field)
        assert one._replace(**{field: None}) == own._replace(**{field: None})


# ------------------------------------------------------------------------------ the command


@pytest.mark.parametrize("arguments, words", [
    (["--attacks", "chars,typos"], "typos"), (["--queries", "1"], "budget"),
    (["--target", "bucc2018"], "bucc2018"), (["--target", "tatoeba", "--attacks", "langswap"],
                                             "none of langswap"),
])
def test_mistakes_cost_nothing(tmp_path, arguments, words, capsys):
    assert studies_main(["attack", "--out", str(tmp_path / "runs"), *arguments]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "runs").exists()


def test_the_command_from_nothing_to_a_report_and_again(tmp_path, capsys, monkeypatch):
    """Two arms with a few steps, all attacks; the second time nothing is asked again."""
    arguments = ["attack", "--inter", "none,ccg", "--target", "tatoeba,pawsx", "--seed", "1",
                 "--items", "3", "--queries", "10", "--attacks", "chars,langswap,hotflip",
                 "--set", "steps=4", "--set", "evaluations=1", "--out", str(tmp_path)]
    assert studies_main(arguments) == 0
    text = (tmp_path / "attack/report.md").read_text()
    assert "## Under attack" in capsys.readouterr().out
    filled, cells = map(int, re.search(r"(\d+) of (\d+) cells are filled", text).groups())
    assert filled >= 0.8 * cells > 50
    for title in ("chars: outcomes", "chars: transfer", "langswap: outcomes", "hotflip: outcomes"):
        assert f"## {title}" in text
    assert "WHITE-BOX BOUND" in text and "TOY" in text
    monkeypatch.setattr(attack_runs, "stand", None)         # would fail if it were asked
    assert studies_main([*arguments]) == 0
    assert (tmp_path / "attack/report.md").read_text() == text
