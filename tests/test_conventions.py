"""python -m studies conventions on invented runs of known truth (on toy runs: test_stilts.py)."""

import pytest

from invent import LABELS, TAGS, plant_data, plant_run
from studies.__main__ import main

WORSE = TAGS[:-1] + ("NOUN",)       # nine of ten tags right, no chunk
BETTER = ("ADJ",) * 9 + ("VERB",)   # one tag right, one chunk of two


def xnli(arm):
    """The baseline has a third everywhere; "x" all of English and a sixth of the rest."""
    if arm == "none":
        return lambda lang, place, example, gold: LABELS[0]
    return lambda lang, place, example, gold: gold if lang == "en" or place % 6 == 0 else "other"


def xquad(arm):
    """The baseline has all of every second answer; "x" three words of four of all: F1 6/7, EM 0."""
    if arm == "none":
        return lambda lang, place, example, gold: gold if place % 2 else "nothing"
    return lambda lang, place, example, gold: gold.rpartition(" ")[0]


def udpos(arm):
    """"x" gains 50 of chunk F1 and loses 80 of accuracy."""
    return lambda lang, place, example, gold: WORSE if arm == "none" else BETTER


def tatoeba(arm):
    """The baseline has a quarter, "x" everything."""
    return lambda lang, place, example, gold: gold if arm == "x" or place % 4 == 0 else "0"


ANSWERS = {"xnli": xnli, "xquad": xquad, "udpos": udpos, "tatoeba": tatoeba}


def plant(out, data, names, arms=("none", "x"), **options):
    for name in names:
        for arm in arms:
            plant_run(out, data, arm, name, ANSWERS[name](arm), **options)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return plant_data(tmp_path_factory.mktemp("invented"), splits_=("test", "dev"))


def report(capsys, *folders) -> str:
    assert main(["conventions", *map(str, folders)]) == 0
    return capsys.readouterr().out


def error(capsys, *arguments) -> str:
    assert main([*map(str, arguments)]) == 2
    captured = capsys.readouterr().err.strip().splitlines()
    return captured[-1]


def cells(text: str, name: str) -> list[str]:
    """The cells of a table row by the beginning of its name."""
    found = [line for line in text.splitlines() if line.startswith(f"| {name}")]
    assert len(found) == 1, text
    return [cell.strip() for cell in found[0].split("|")[2:-1]]


def flips(text: str) -> list[str]:
    return text[text.index("Signs that flip"):text.index("All combinations")].splitlines()[1:-1]


def test_english_alone_makes_the_gain(tmp_path, data, capsys):
    plant(tmp_path, data, ["xnli"])
    text = report(capsys, tmp_path)
    assert cells(text, "with English") == ["+11.1"]         # (66.7 - 16.7 - 16.7) / 3
    assert cells(text, "without English") == ["+11.1 → -16.7"]
    assert flips(text) == [f"x, {what}: +11.1 (with English), -16.7 (without English)"
                           for what in ("mean over targets", "xnli")]
    assert "x: 2 with results, gains from -16.7 to +11.1, above 0 in 1" in text


def test_the_measure_of_answers_and_tags_decides(tmp_path, data, capsys):
    plant(tmp_path, data, ["xquad", "udpos"])
    text = report(capsys, tmp_path)
    assert cells(text, "with English, (F1") == ["+21.4"]    # (-7.1 + 50) / 2
    assert cells(text, "F1") == ["+21.4 → +42.9"] and cells(text, "EM") == ["+21.4 → +0.0"]
    assert cells(text, "accuracy of tags") == ["+21.4 → -43.6"]
    assert [line.split(",")[1].split(":")[0].strip() for line in flips(text)] == [
        "xquad", "mean over targets", "udpos"]


def test_retrieval_carries_the_average(tmp_path, data, capsys):
    plant(tmp_path, data, ["xquad", "tatoeba"])
    text = report(capsys, tmp_path)
    assert cells(text, "without retrieval") == ["+33.9 → -7.1"]      # (75 - 7.1) / 2
    assert any(line.startswith("x, mean over targets: +33.9") for line in flips(text))


def test_layers_and_splits_are_set_beside_what_both_have(tmp_path, data, capsys):
    plant(tmp_path, data, ["xquad", "tatoeba"], arms=("none", "x", "y"))
    for arm in ("none", "x"):
        answer = tatoeba("x" if arm == "none" else "none")
        plant_run(tmp_path, data, arm, "tatoeba", answer, layer=3)
    plant(tmp_path, data, ["xnli"], split="test")
    for arm in ("none", "x"):
        answer = xnli("x" if arm == "none" else "none")
        plant_run(tmp_path, data, arm, "xnli", answer, split="dev", gold="of dev")
    text = report(capsys, tmp_path)
    assert "x: tatoeba, xnli, xquad; seeds 1" in text and "y: tatoeba, xquad; seeds 1" in text
    assert cells(text, "layer 3")[0] == f"+26.3 → {(11.11 - 7.14 - 75) / 3:+.1f}"
    assert cells(text, "layer 3")[1] == "- → -"             # y has no such run
    assert cells(text, "dev") == ["+11.1 → -11.1", "- → -"]


def test_seeds_without_all_targets_do_not_count(tmp_path, data, capsys):
    plant(tmp_path, data, ["xquad", "udpos"], seed=1)
    plant(tmp_path, data, ["xquad"], seed=2)
    assert "x: udpos, xquad; seeds 1\n" in report(capsys, tmp_path)
    plant_run(tmp_path, data, "none", "udpos", udpos("none"), seed=2)
    plant_run(tmp_path, data, "x", "udpos", udpos("none"), seed=2)
    text = report(capsys, tmp_path)
    assert "seeds 1, 2" in text and cells(text, "with English, (F1") == ["+8.9 ± 17.7"]


def test_worlds_limits_and_encoders_are_not_mixed(tmp_path, data, capsys):
    plant(tmp_path, data, ["xnli"])
    plant(tmp_path, data, ["xnli"], limit=6)
    plant(tmp_path / "large", data, ["xnli"], weights="another")
    toy = plant_data(tmp_path / "toy", languages=("en", "de"))
    (toy / "world.json").write_text('{"world": "toy", "english": "en", "notice": "TOY: invented"}')
    plant(tmp_path / "toys", toy, ["xnli"], world="toy")
    text = report(capsys, tmp_path)
    parts = text.split("encoder ")[1:]
    assert len(parts) == 4 and text.count("LIMITED to 6") == 2 and text.count("TOY: invented") == 2
    assert [part.splitlines()[0] for part in parts].count("another") == 1
    assert all(part.count("x: xnli; seeds 1") == 1 for part in parts)


def test_degenerate_runs_count_both_ways(tmp_path, capsys):
    data = plant_data(tmp_path / "data", n=30)
    plant(tmp_path, data, ["xnli"], arms=["x"])
    plant_run(tmp_path, data, "none", "xnli", xnli("none"), degenerate="flat loss")
    plant_run(tmp_path, data, "x", "xnli", xnli("x"), seed=2)
    plant_run(tmp_path, data, "none", "xnli", lambda lang, place, e, gold: LABELS[place % 2], seed=2)
    text = report(capsys, tmp_path)
    assert "x: xnli; seeds 1, 2" in text                    # seed 1's baseline has failed
    assert cells(text, "without degenerate runs") == ["+11.1 ± 0.0 → +11.1"]


def test_what_is_wrong_is_one_line(tmp_path, data, capsys):
    plant(tmp_path / "a", data, ["xnli"])
    assert "no finished run" in error(capsys, "conventions", tmp_path / "b")
    assert "unknown study" in error(capsys, "convention") and "unknown study" in error(capsys)
    again = plant_run(tmp_path / "b", data, "x", "xnli", xnli("x"))
    assert "the same run as" in error(capsys, "conventions", tmp_path)
    (again / "DONE").unlink()
    assert "with English" in report(capsys, tmp_path)       # unfinished: left out
    plant_run(tmp_path / "b", data, "x", "xnli", xnli("x"), seed=2, gold="other")
    assert "other gold, row values or training than" in error(capsys, "conventions", tmp_path)
    alone = plant_run(tmp_path / "c", data, "x", "xnli", xnli("x"))
    assert "no run has a baseline" in report(capsys, tmp_path / "c")
    (alone / "predictions/xnli/test-de.tsv").write_text(LABELS[0] + "\n" * 12)
    assert "the prediction file gives" in error(capsys, "conventions", tmp_path / "c")
