"""What the studies share: conclusions of known truth, samples, victims, what is kept and skipped."""

import gzip
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

import runs
from conftest import ROOT
from files import UserError
from studies import effects, estimate, measure, noise, noisy, results, study

TINY = ["--inter", "none,squad", "--target", "tydiqa,tatoeba,udpos", "--seed", "1", "--items", "6",
        "--noise-seeds", "13", "--severity", "1,5", "--noise", "mix,space",
        "--set", "steps=2", "--set", "evaluations=1", "--limit", "40"]


# ---- the rule


def fake_runs(seeds: int, degenerate=()) -> dict[int, list]:
    """seed -> one pair of runs."""
    return {seed: [(SimpleNamespace(degenerate="F1 0" if seed in degenerate else ""),
                    SimpleNamespace(degenerate=""))] for seed in range(seeds)}


def invented(truth: float, seed: int, seeds=5, items=60, degenerate=(), seed_sd=0.5):
    """A comparison whose true difference is known: items in two languages that err alike."""
    draw = np.random.default_rng(seed)
    alike = draw.normal(0, 8, items)
    values = {lang: truth + alike + draw.normal(0, seed_sd, (seeds, 1))
              + draw.normal(0, 8, (seeds, items)) for lang in ("sw", "te")}
    clusters = {lang: [f"item {i}" for i in range(items)] for lang in values}
    return effects.difference(fake_runs(seeds, degenerate), [values], [clusters])


def told_of(gain: float, saved: float, seed: int, **options) -> list[str]:
    listed = [effects.Effect("arm", "clean gain", effects.GAIN, invented(gain, 2 * seed, **options)),
              effects.Effect("arm", "difference in differences", effects.ROBUST,
                             invented(saved, 2 * seed + 1, **options))]
    return [one.words for one in effects.conclude(listed)]


def test_the_rule_tells_what_is_true():
    assert told_of(8, 0, 1) == ["better", effects.UNTOLD]           # alike on clean and noisy
    assert told_of(8, 8, 2) == ["better", "more robust"]
    assert told_of(0, 8, 3) == [effects.UNTOLD, "more robust"]
    assert told_of(-8, -8, 4) == ["worse", "less robust"]


def test_the_rule_rarely_tells_of_nothing():
    words = [word for seed in range(100) for word in told_of(0, 0, seed, items=20)]
    assert sum(word != effects.UNTOLD for word in words) <= 10      # of 200, at most 5 %


def test_one_seed_or_five_items_tell_nothing_however_large():
    assert told_of(50, 50, 1, seeds=1) == [effects.UNTOLD] * 2
    assert told_of(50, 50, 1, items=5) == [effects.UNTOLD] * 2


def test_holm_covers_all_effects_told_together():
    weak = effects.Effect("a", "clean gain", effects.GAIN, invented(4, 3))     # the smallest p
    alone = effects.conclude([weak])[0].p
    many = effects.conclude([weak] + [effects.Effect(str(i), "clean gain", effects.GAIN,
                                                     invented(0, 10 + i)) for i in range(5)])
    assert many[0].p == pytest.approx(min(1, 6 * alone)) and alone < many[0].p


def test_degenerate_seeds_are_told_apart_and_nothing_is_left_out():
    found = invented(4, 1, degenerate=(0, 2))
    assert len(found.by_seed) == 5 and found.sound == [found.by_seed[i] for i in (1, 3, 4)]
    row = effects.row(effects.conclude([effects.Effect("arm", "clean gain", effects.GAIN,
                                                       found)])[0])
    assert "\u2020" in row[2] and row[3].endswith("(3)")


def test_a_line_for_each_arm_says_what_it_rests_on():
    told = effects.conclude([effects.Effect("squad", "clean gain", effects.GAIN, invented(8, 1)),
                             effects.Effect("squad", "drop saved", effects.ROBUST, None)])
    (line,) = effects.lines(told)
    assert line.startswith("squad: better (clean gain +") and "5 seeds, 60 units" in line
    assert "detectable" in line and line.endswith("drop saved: missing")


def test_targets_weigh_alike_and_their_items_are_never_the_same():
    one = {"sw": np.full((2, 30), 4.0)}
    other = {"sw": np.zeros((2, 10))}
    pairs = {seed: pair * 2 for seed, pair in fake_runs(2).items()}
    names = [{"sw": [str(i) for i in range(n)]} for n in (30, 10)]
    found = effects.difference(pairs, [one, other], names)
    assert found.value == pytest.approx(2) and found.clusters == 40
    assert effects.difference(pairs, [{}, {}], [{}, {}]) is None


# ---- a small study, run once


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "runs"
    assert noise.main([*TINY, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def setup(out):
    return study.prepare(noise.STUDY, [*TINY, "--out", str(out)])


@pytest.fixture
def victims(out, setup):
    def find(target: str, items: int = 0) -> measure.Victim:
        return measure.Victim(results.load(out / f"toy--squad--{target}--s1--limited"), setup.context, items)
    return find


@pytest.mark.parametrize("target", ["tydiqa", "tatoeba", "udpos"])
def test_clean_scores_of_all_items_are_the_runs_own(victims, setup, target):
    victim = victims(target)
    scores = noisy.scores(victim, noisy.Condition("", 0, 0), setup.own)
    for lang, (own, clusters) in victim.run.examples.items():
        assert scores[lang].values == pytest.approx(own.tolist())
        assert len(set(victim.sample(lang).clusters)) == len(set(clusters.tolist()))


def test_spans_are_where_the_answers_stand(victims):
    victim = victims("tydiqa", 20)
    examples = victim.sample("toy-lex").examples
    assert [e.context[slice(*span)] for e, span in zip(examples, victim.spans(examples))] \
        == victim.predict(examples)


def test_samples_nest_and_ask_no_model(victims):
    few, more = (victims("tydiqa", n).sample("toy-lex") for n in (10, 30))
    assert len(few.names) == 10 and set(few.names) < set(more.names)
    assert few.examples == [e for e in few.whole if e.id in few.names]
    pairs = victims("tatoeba", 10).sample("toy-lex")
    assert sum(e.side == "query" for e in pairs.examples) == 10 == len(pairs.names)
    assert sum(e.side == "candidate" for e in pairs.examples) == 40


def test_noise_lies_on_the_language_not_on_english(victims, setup):
    victim = victims("tatoeba", 10)
    clean = victim.sample("toy-lex").examples
    noised = noisy.copy_of(victim, "toy-lex", noisy.Condition("mix", 5, 13), setup.own).examples
    changed = {a.side for a, b in zip(clean, noised) if a != b}
    assert changed == {"candidate"} and [e.id for e in clean] == [e.id for e in noised]


def test_new_pieces_are_a_share_of_what_is_noised(victims, setup):
    victim = victims("tatoeba", 10)
    tokenizer = victim.loaded[1]
    one, other = (example for example in victim.sample("toy-lex").examples[-2:])
    assert noisy.new_pieces([(one, one)], ["text"], tokenizer) == 0
    longer = one._replace(text=one.text + " " + one.text)
    assert noisy.new_pieces([(one, longer)], ["text"], tokenizer) == 0.5
    assert 0 < noisy.new_pieces([(one, other)], ["text"], tokenizer) <= 1


def test_what_does_not_apply_has_no_score(out, setup):
    run = results.load(out / "toy--none--udpos--s1--limited")
    condition = noisy.Condition("space", 5, 13)
    kept = measure.kept(run, "noise", condition.name,
                        noisy.deciders(run.task, condition, setup.own))
    assert kept == {}                               # measured, and n/a everywhere
    text = (out / "noise/report.md").read_text()
    row = next(line for line in text.split("udpos under each noise")[1].split("\n")
               if line.startswith("| space 5 "))
    assert row.count("n/a") == 8 and "0.0" not in row


def test_context_noise_is_scored_clean_under_a_ceiling(victims, setup):
    own = SimpleNamespace(**vars(setup.own) | {"noise_field": "context"})
    victim = victims("tydiqa", 12)
    found = noisy.scores(victim, noisy.Condition("mix", 5, 13), own)
    for lang, one in found.items():
        assert 90 <= one.facts["ceiling"] <= 100 and one.facts["changed"] == 1
        copy = noisy.copy_of(victim, lang, noisy.Condition("mix", 5, 13), own)
        assert [a.question for a in copy.examples] == [
            a.question for a in victim.sample(lang).examples]


def test_what_is_kept_is_not_computed_again(out, setup):
    run = results.load(out / "toy--squad--tydiqa--s1--limited")
    calls = []

    def compute():
        calls.append(1)
        return {"toy-lex": measure.Scores([50.0], {"rate": 0.5})}

    for deciders in ((1,), (1,), (2,)):
        measure.keep(run, "other", "clean", deciders, compute)
    assert len(calls) == 2
    assert measure.kept(run, "other", "clean", (1,)) == {
        "toy-lex": measure.Scores([50.0], {"rate": 0.5})}
    assert measure.kept(run, "other", "clean", (3,)) is None
    shutil.rmtree(run.folder / "other")


def test_a_second_start_measures_nothing_and_writes_the_same(out, monkeypatch, capsys):
    before = {path.name: path.read_bytes() for path in (out / "noise").glob("report*")}
    monkeypatch.setattr(noisy, "scores", lambda *_: pytest.fail("measured again"))
    assert noise.main([*TINY, "--out", str(out)]) == 0
    assert before == {path.name: path.read_bytes() for path in (out / "noise").glob("report*")}
    told = capsys.readouterr().out
    notice = json.loads((ROOT / "toy/data/world.json").read_text())["notice"]
    lines = [line for line in told.split("\n") if line]
    assert lines[0] == lines[-1] == notice and "0 of 30 conditions" in told
    assert "(100 %)" in told
    html = before["report.html"].decode()
    assert html.count('class="notice"') == 2 and "TOY. " in html


def test_the_long_table_holds_every_score(out, setup):
    with gzip.open(out / "noise/report.csv.gz", "rt") as file:
        header, *rows = (line.rstrip("\n").split(",") for line in file)
    assert header == study.LONG
    values = [float(row[10]) for row in rows if row[1:7] == [
        "tydiqa", "toy-lex", "squad", "1", "mix", "5"]]
    run = results.load(out / "toy--squad--tydiqa--s1--limited")
    condition = noisy.Condition("mix", 5, 13)
    kept = measure.kept(run, "noise", condition.name,
                        noisy.deciders(run.task, condition, setup.own))
    assert values == pytest.approx(kept["toy-lex"].values, abs=1e-3) and len(values) == 6


def test_a_condition_that_is_cut_short_costs_itself_alone(out, setup, monkeypatch):
    run = results.load(out / "toy--none--tydiqa--s1--limited")
    lost = measure.file_of(run, "noise", "mix-5-13", noisy.deciders(
        run.task, noisy.Condition("mix", 5, 13), setup.own))
    lost.rename(lost.with_suffix(".json.part"))
    asked, real = [], noisy.scores
    monkeypatch.setattr(noisy, "scores", lambda v, condition, own: (
        asked.append(condition.name), real(v, condition, own))[1])
    before = lost.with_suffix(".json.part").read_text()
    study.measure_run(setup, run)
    assert asked == ["mix-5-13"]
    assert json.loads(lost.read_text())["languages"] == json.loads(before)["languages"]


# ---- before anything is trained


@pytest.mark.parametrize("arguments, words", [
    (["--noise", "typos"], "--noise typos"), (["--severity", "6"], "numbers from 1 to 5"),
    (["--noise", "natural"], "belong together"), (["--items", "-1"], "cannot be negative"),
    (["--noise-seeds", "a"], "different whole numbers"), (["--shard", "3/2"], "expected I/N"),
    (["--target", "none"], "noise wants --target")])
def test_mistakes_cost_nothing(tmp_path, arguments, words):
    with pytest.raises(UserError, match=words):
        noise.main([*arguments, "--out", str(tmp_path / "runs")])
    assert not (tmp_path / "runs").exists()


def test_encoders_that_are_not_kept_are_told_of_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "KEEP_BYTES", 1000)
    with pytest.raises(UserError, match="--keep is needed"):
        noise.main([*TINY, "--out", str(tmp_path / "runs")])
    assert study.prepare(noise.STUDY, [*TINY, "--keep", "--out", str(tmp_path / "runs")])


def test_missing_data_are_skipped_with_the_path_that_was_expected(tmp_path, capsys):
    data = tmp_path / "toy/data"
    (tmp_path / "toy").mkdir()
    shutil.copytree(ROOT / "toy/data", data, ignore=shutil.ignore_patterns("tatoeba", "mnli"))
    setup = study.prepare(noise.STUDY, [
        *TINY, "--inter", "none,mnli", "--data", str(data), "--model", str(ROOT / "toy/encoder"),
        "--out", str(tmp_path / "runs")])
    assert setup.pairs == [("none", "tydiqa"), ("none", "udpos")]
    assert "tatoeba/v1/tatoeba.{code}-eng.*" in setup.skipped["none", "tatoeba"]
    assert "mnli/multinli_1.0_train.jsonl" in setup.skipped["mnli", "tydiqa"]
    found = study.collect(setup, {})
    (table,) = study.common_sections(found)[0].tables
    assert [row[1] for row in table.rows] == ["skipped"] * 4 + ["missing"] * 2
    with pytest.raises(UserError, match="nothing can be run: mnli"):
        study.prepare(noise.STUDY, [*TINY, "--inter", "mnli", "--data", str(data), "--model",
                                    str(ROOT / "toy/encoder"), "--out", str(tmp_path / "runs")])


def test_the_estimate_grows_with_the_design(setup):
    from studies import grid
    jobs = grid.plan_jobs(setup.pairs, setup.context)
    few, many = (estimate.lines(setup, jobs, n) for n in (1, 10))

    def tokens(line: str) -> int:
        return int(line.split()[1].replace(",", ""))

    assert tokens(many[2]) == 10 * tokens(few[2]) > 0 and tokens(few[1]) == 0   # all trained


def test_cells_that_are_missing_are_counted():
    from studies.page import Section, Table
    rows = [["a", "1.0", "missing"], ["b", "n/a", "2.0"]]
    assert study.filled([Section("", [], [Table(["", "x", "y"], rows)])]) == (2, 3, 1)
