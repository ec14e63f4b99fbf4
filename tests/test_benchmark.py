"""python eval.py --predictions DIR --gold DIR: totals, intervals, what is missing, what is broken.

The scores themselves are compared with the official script's in test_metrics.py (aggregate).
"""

import json
import math
import random
import subprocess
import sys

import pytest

import benchmark
import compare
import eval as evaluation
import submission
import tasks
from conftest import ROOT
from files import UserError, read_json

SPAN = {"data": [{"paragraphs": [{"context": "c", "qas": [
    {"id": f"q{i}", "question": "?", "answers": [{"text": text, "answer_start": 0}]}
    for i, text in enumerate(("one", "two", "three", "four"))]}]}]}
GOLD = {
    "classification": "1\n0\n1\n1\n",
    "multiple_choice": '{"label": 0}\n{"label": 1}\n{"label": 1}\n{"label": 1}\n',
    "tagging": "B-PER\nO\n\nO\nB-LOC\n",
    "span": json.dumps(SPAN),
    "pairs": "3\n1\n0\n2\n",
    "mining": "de-1\ten-4\nde-2\ten-3\n",
    "ranked": '{"m1": ["Q1"], "m2": ["Q7"]}',
}
RIGHT = GOLD | {"span": '{"q0": "one", "q1": "two", "q2": "three", "q3": "four"}'}
HALF = {
    "classification": "1\n0\n0\n0\n",
    "multiple_choice": '{"label": 0}\n{"label": 1}\n{"label": 0}\n{"label": 0}\n',
    "tagging": "B-PER\nO\n\nB-PER\nO\n",
    "span": '{"q0": "one", "q1": "two"}',
    "pairs": "3\n1\n9\n9\n",
    "mining": "de-1\ten-4\nde-2\ten-9\n",
    "ranked": '{"m1": ["Q1"], "m2": ["Q9"]}',
}


def plant(folder, texts: dict, name: str, without: str = ""):
    """Files of every task of a benchmark, all languages; a task may be left out."""
    for task in tasks.TASKS.values():
        if name in task.benchmarks and task.name != without:
            for lang in benchmark.benchmark_languages(task, name):
                path = folder / task.name / f"test-{lang}.{submission.EXTENSION[task.form]}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(texts[task.form], encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", ["xtreme", "xtreme-r"])
def test_our_scorer_gives_what_evaluate_py_gave_for_files_of_our_writer(tmp_path, name):
    """XTREME's script ran on this tree, unchanged: python tests/check_evaluate.py XTREME --record."""
    import check_evaluate
    record = read_json(ROOT / "tests/fixtures/evaluate.json")
    tree = record["trees"][name]
    assert check_evaluate.write_invented(tmp_path, name, record["seed"]) == tree["sha256"]
    assert len(list(check_evaluate.numbers(tree["official"]))) > 350
    assert check_evaluate.differences(tree["official"], check_evaluate.ours(tmp_path, name)) == []
    path = tmp_path / "predictions/xnli/test-sw.tsv"
    path.write_text(path.read_text().replace("neutral", "entailment"))
    assert len(check_evaluate.differences(tree["official"], check_evaluate.ours(tmp_path, name))) > 2


@pytest.mark.parametrize("name, count", [("xtreme", 9), ("xtreme-r", 10)])
def test_gold_fed_back_is_100_everywhere(tmp_path, name, count):
    gold, given = plant(tmp_path / "g", GOLD, name), plant(tmp_path / "p", RIGHT, name)
    result = benchmark.score_folders(given, gold, name)
    assert len(result["tasks"]) == count and set(result["overall"].values()) == {100.0}
    assert result["overall"]["all_task"] == 100
    assert all(task["margin"] == 0 for task in result["tasks"].values())


@pytest.mark.parametrize("name", ["xtreme", "xtreme-r"])
def test_half_right_is_50_with_an_interval(tmp_path, name):
    gold, given = plant(tmp_path / "g", GOLD, name), plant(tmp_path / "p", HALF, name)
    result = benchmark.score_folders(given, gold, name)
    assert result["overall"]["all_task"] == pytest.approx(50)
    assert all(task["margin"] > 20 for task in result["tasks"].values())
    assert "| xnli | 50.00 |" in benchmark.report(result)


def test_no_total_and_no_group_where_a_task_is_missing(tmp_path):
    gold = plant(tmp_path / "g", GOLD, "xtreme-r")
    result = benchmark.score_folders(plant(tmp_path / "p", RIGHT, "xtreme-r", "udpos"), gold,
                                     "xtreme-r")
    assert "all_task" not in result["overall"] and "tagging" not in result["overall"]
    assert "no total: udpos not in both folders" in benchmark.report(result)
    result = benchmark.score_folders(plant(tmp_path / "q", RIGHT, "xtreme-r", "lareqa"), gold,
                                     "xtreme-r")
    assert "all_task" not in result["overall"] and result["overall"]["retrieval"] == 100


def test_margin_is_that_of_a_share():
    units = [(1, 1)] * 30 + [(0, 1)] * 70
    assert compare.margin(units) == pytest.approx(196 * math.sqrt(0.3 * 0.7 / 99))
    assert math.isnan(compare.margin([(1, 1)]))


def test_margin_of_f1_covers_it_in_most_samples():
    """Of F1 over sentences drawn from a population of known F1."""
    rng, inside = random.Random(0), 0
    population = [(2 * min(right, 2), 2 + right) for right in (0, 1, 2, 3) for _ in range(25)]
    truth = 100 * sum(a for a, _ in population) / sum(b for _, b in population)
    for _ in range(400):
        units = rng.choices(population, k=120)
        f1 = 100 * sum(a for a, _ in units) / sum(b for _, b in units)
        inside += abs(f1 - truth) <= compare.margin(units)
    assert 0.91 < inside / 400 < 0.985


@pytest.mark.parametrize("change, words", [
    (lambda p: (p / "xnli/test-sw.tsv").unlink(), "test-sw.tsv: cannot be read"),
    (lambda p: (p / "xnli/test-sw.tsv").write_text("1\n"), "test-sw.tsv: gold labels and answers"),
    (lambda p: (p / "mlqa/test-vi.json").write_text("{"), "test-vi.json:"),
])
def test_what_is_wrong_is_named(tmp_path, capsys, change, words):
    gold, given = plant(tmp_path / "g", GOLD, "xtreme"), plant(tmp_path / "p", RIGHT, "xtreme")
    change(given)
    assert evaluation.main(["--predictions", str(given), "--gold", str(gold)]) == 2
    assert words in capsys.readouterr().err


def test_broken_gold_is_not_blamed_on_the_prediction(tmp_path, capsys):
    gold, given = plant(tmp_path / "g", GOLD, "xtreme"), plant(tmp_path / "p", RIGHT, "xtreme")
    (gold / "xquad/test-en.json").write_text("{")
    assert evaluation.main(["--predictions", str(given), "--gold", str(gold)]) == 2
    error = capsys.readouterr().err
    assert str(gold) in error and str(given) not in error


def test_an_interval_that_is_not_known_is_null(tmp_path):
    texts = {"classification": "1\n"}
    for side in ("g", "p"):
        for lang in tasks.get("xnli").languages:
            path = tmp_path / side / "xnli" / f"test-{lang}.tsv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(texts["classification"])
    out = tmp_path / "out.json"
    assert evaluation.main(["--predictions", str(tmp_path / "p"), "--gold", str(tmp_path / "g"),
                            "--json", str(out)]) == 0
    assert read_json(out)["tasks"]["xnli"]["margins"]["de"] is None


def test_strangers_folders(tmp_path, capsys):
    with pytest.raises(UserError, match="no folder of a task of xtreme"):
        benchmark.score_folders(tmp_path, tmp_path, "xtreme")
    assert evaluation.main(["--predictions", str(tmp_path / "no"), "--gold", str(tmp_path)]) == 2


def test_it_runs_without_any_package(tmp_path):
    gold, given = plant(tmp_path / "g", GOLD, "xtreme"), plant(tmp_path / "p", HALF, "xtreme")
    code = ("import sys; sys.modules.update(dict.fromkeys(('torch', 'numpy', 'sentencepiece')));"
            "import eval as e; sys.exit(e.main(sys.argv[1:]))")
    done = subprocess.run([sys.executable, "-c", code, "--predictions", given, "--gold", gold,
                           "--json", tmp_path / "out.json"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "all_task: 50.00" in done.stdout
    result = json.loads((tmp_path / "out.json").read_text())
    assert set(result["tasks"]["xnli"]["languages"]) == set(tasks.get("xnli").languages)
