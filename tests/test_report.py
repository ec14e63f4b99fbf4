"""The report of a grid: numbers of known truth, every number traced, a page that loads nothing."""

import csv
import html.parser
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from conftest import ROOT
from files import UserError
from invent_runs import invent_run, parallel_items
from studies import page, report, results

ARMS, TARGETS, SEEDS = ["none", "qqp", "squad+squad2"], ["panx", "tatoeba"], [1, 2, 3]
EFFECTS = {("qqp", "panx"): -40, ("qqp", "tatoeba"): 30, ("squad+squad2", "panx"): 0,
           ("squad+squad2", "tatoeba"): 40}
NASTY = "'O' everywhere <script>alert(1)</script> & \"more\" | so"


def invent(out: Path, data: Path | None = None) -> dict:
    """A grid with effects, a degenerate run and one that is missing."""
    found = {}
    english, others = ("toy-en", ("toy-lex", "toy-low")) if data else ("en", ("de", "sw"))
    for place in ((arm, target, seed) for arm in ARMS for target in TARGETS for seed in SEEDS):
        arm, target, seed = place
        languages = others if target == "tatoeba" else (english, *others)
        draw = 100 * ARMS.index(arm) + 10 * TARGETS.index(target) + seed
        scores = parallel_items(draw, languages, 50, EFFECTS.get(place[:2], 0) + seed - 2)
        found[place] = None if place == ("qqp", "tatoeba", 2) else results.load(invent_run(
            out, *place, *scores, data=data, degenerate=NASTY * (place == ("qqp", "panx", 1))))
    return found


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(folder, runs, what is printed) of an invented grid of the real world."""
    out = tmp_path_factory.mktemp("grid")
    found = invent(out)
    return out, found, report.write(found, out, "", {"all -> panx, seed 1": NASTY})


def rows_of(text: str, title: str) -> list[list[str]]:
    """Cells of the first Markdown table below a title, its header first."""
    lines = text.split(f"## {title}", 1)[1].split("\n")
    start = next(i for i, line in enumerate(lines) if line.startswith("|"))
    table = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return [table[0], *table[2:]]


def test_differences_are_those_that_were_planted(written):
    out, found, printed = written
    header, qqp, squad = rows_of((out / "report.md").read_text(), "Difference")
    assert header == ["intermediate", "panx", "tatoeba", "mean of targets", "mean without † runs"]
    assert qqp[0] == "qqp" and squad[0] == "squad+squad2"
    for row, arm in ((qqp, "qqp"), (squad, "squad+squad2")):
        for cell, target in zip(row[1:], TARGETS):
            assert float(cell.split(" ")[0]) == pytest.approx(EFFECTS[arm, target], abs=2.5)
    page_text = (out / "report.html").read_text()
    assert '<td class="n4"><a href="#test-2-1">' in page_text and 'class="p4"' in page_text
    assert qqp[1].endswith("†") and qqp[2].endswith("(2/3)") and "†" not in "".join(squad)
    assert rows_of(printed, "Difference") == [header, qqp, squad]


def test_a_cell_is_the_mean_over_seeds_and_other_languages(written):
    out, found, _ = written
    by_hand = [found["qqp", "panx", seed].record["zero_shot"]
               - found["none", "panx", seed].record["zero_shot"] for seed in SEEDS]
    cell = results.against([{s: found["qqp", "panx", s] for s in SEEDS}],
                           [{s: found["none", "panx", s] for s in SEEDS}])
    assert cell.by_seed == pytest.approx(by_hand) and set(cell.languages) == {"de", "sw"}
    assert cell.clusters == 50 and cell.items.mean == pytest.approx(np.mean(by_hand))
    assert cell.both.mean == pytest.approx(np.mean(by_hand))
    assert cell.both.low < cell.items.low < cell.items.high < cell.both.high
    assert cell.sound == pytest.approx(by_hand[1:])


def test_tests_tell_gains_losses_and_nothing(written):
    rows = rows_of((written[0] / "report.md").read_text(), "Tests")
    verdicts = {row[0]: row[8] for row in rows[1:]}
    assert verdicts == {"qqp -> panx": "loss", "qqp -> tatoeba": "gain",
                        "squad+squad2 -> panx": "cannot tell", "squad+squad2 -> tatoeba": "gain"}
    assert [row[4] for row in rows[1:]] == ["50"] * 4
    assert [cell == "missing" for cell in rows[2][9:]] == [False, True, False]


def test_pooled_clusters_give_the_same_mean_and_nearly_the_same_interval():
    values = np.random.default_rng(0).normal(1, 5, (3, 6000))
    clusters = np.repeat(np.arange(3000), 2)
    whole = results.statistics.paired_interval(values.mean(0), clusters)
    pooled = results.statistics.paired_interval(results.cluster_table(values, clusters).mean(0))
    assert pooled.mean == pytest.approx(whole.mean) and pooled.n == results.POOL
    assert pooled.high - pooled.low == pytest.approx(whole.high - whole.low, rel=0.1)


def test_stratified_arrays_equal_the_stratified_lists_of_compare():
    import compare
    parts = [np.random.default_rng(i).normal(i, 1, (2, 5 + i)) for i in range(3)]
    for seed in (0, 1):
        assert results.stratified(parts)[seed] == pytest.approx(
            compare.stratified([part[seed].tolist() for part in parts]))


def test_missing_failed_and_degenerate_runs_are_listed(written):
    states = {row[0]: row[1] for row in rows_of((written[0] / "report.md").read_text(),
                                                "What is there")[1:]}
    assert states == {"qqp -> tatoeba, seed 2": "missing", "all -> panx, seed 1": "failed",
                      "qqp--panx--s1": "degenerate"}


def test_the_long_table_has_every_run_language_and_value(written):
    with open(written[0] / "report.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9 * 3 + 8 * 2                       # panx in three languages, tatoeba in two
    some = next(row for row in rows if (row["inter"], row["target"], row["seed"], row["language"])
                == ("qqp", "tatoeba", "1", "sw"))
    run = written[1]["qqp", "tatoeba", 1]
    assert float(some["value"]) == run.record["languages"]["sw"]["accuracy"]
    assert some["predictions"] == run.digest and len(some["weights"]) == 64
    assert {row["degenerate"] for row in rows} == {"", NASTY}


class Page(html.parser.HTMLParser):
    """Elements, anchors and links; fails where tags do not nest."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.tags, self.ids, self.links, self.policy = [], [], [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        assert not any(name.startswith("on") or name in ("style", "src") for name in given)
        self.tags.append(tag)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given["href"]] if "href" in given else []
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_loads_nothing_and_escapes_everything(written):
    text = (written[0] / "report.html").read_text()
    found = Page(text)
    assert not {"script", "img", "link", "iframe", "object", "form"} & set(found.tags)
    assert "default-src 'none'" in found.policy and page.style_hash() in found.policy
    assert "unsafe" not in found.policy and "http" not in text.replace("http-equiv", "")
    assert "<script>" not in text and "&lt;script&gt;alert(1)&lt;/script&gt; &amp;" in text
    assert not (written[0] / "difference.svg").exists()      # tables of real runs are coloured


def test_every_number_leads_to_its_runs_and_these_to_files_and_hashes(written):
    out, found, _ = written
    text = (out / "report.html").read_text()
    parsed = Page(text)
    assert len(set(parsed.ids)) == len(parsed.ids)
    assert parsed.links and all(link[1:] in parsed.ids for link in parsed.links)
    row = re.search(r'<tr id="run-2-1-1">.*', text)[0]
    for part in ("qqp--panx--s1/predictions/panx", found["qqp", "panx", 1].digest[:16], "c" * 12,
                 "0" * 16, 'href="#run-1-1-1"'):
        assert part in row
    cell = re.search(r'<a href="#test-2-1">', text) and re.search(r'<tr id="test-2-1">.*', text)[0]
    assert re.findall(r'href="#(run-[-\d]+)"', cell) == ["run-2-1-1", "run-2-1-2", "run-2-1-3"]
    assert "f" * 64 in text


def test_toy_results_say_so_everywhere_and_have_another_layout(tmp_path):
    notice = results.splits.world(ROOT / "toy/data")["notice"]
    found = invent(tmp_path, ROOT / "toy/data")
    report.write(found, tmp_path, notice, {})
    text = (tmp_path / "report.html").read_text()
    assert "<title>TOY." in text and notice.partition(".")[0] in text
    pictures = re.findall(r"<svg.*?</svg>", text, re.S)
    assert len(pictures) > 6 and all("TOY: invented languages</text>" in one for one in pictures)
    assert not re.search(r'<td class="[nzp]\d">', text)     # no heat map
    table = rows_of((tmp_path / "report.md").read_text(), "Difference")
    assert table[0] == ["intermediate", "qqp", "squad+squad2"] and table[1][0] == "panx"
    sheet = ElementTree.parse(tmp_path / "difference.svg").getroot()
    placed = [one for one in sheet if one.tag.endswith("svg")]
    assert len(placed) == len(TARGETS) and len({(p.get("x"), p.get("y")) for p in placed}) == 2
    assert all(int(p.get("x")) + int(p.get("width")) <= int(sheet.get("width")) for p in placed)


def test_runs_of_other_data_are_not_compared(tmp_path):
    found = {}
    for arm, gold in (("none", "one"), ("squad", "other")):
        scores = parallel_items(1, ("en", "de"), 20)
        found[arm, "xnli", 1] = results.load(invent_run(tmp_path, arm, "xnli", 1, *scores,
                                                        gold=gold))
    report.write(found, tmp_path, "", {})
    text = (tmp_path / "report.md").read_text()
    assert rows_of(text, "Difference")[1][1] == "missing"
    assert "cannot be compared with squad--xnli--s1: another gold" in text


def test_scores_that_do_not_fit_the_run_are_noticed(tmp_path):
    scores = parallel_items(1, ("en", "de"), 20)
    folder = invent_run(tmp_path, "none", "xnli", 1, *scores)
    run = results.load(folder)
    packed = {lang: (scores[0][lang] + 1, scores[1][lang].astype(np.int32)) for lang in scores[0]}
    (folder / results.CACHE).write_bytes(results.pack(packed, results.origin_of(run)))
    with pytest.raises(UserError, match="do not give metrics.json"):
        run.examples
    assert results.unpack(folder / results.CACHE, "another origin") is None
    (folder / results.CACHE).write_bytes(b"PK damaged")
    assert results.unpack(folder / results.CACHE, results.origin_of(run)) is None


def test_without_a_baseline_or_any_run_there_is_still_a_report(tmp_path):
    scores = parallel_items(1, ("en", "de"), 20)
    found = {("squad", "xnli", 1): results.load(invent_run(tmp_path, "squad", "xnli", 1, *scores)),
             ("squad", "xnli", 2): None}
    report.write(found, tmp_path, "", {})
    assert "no baseline" in (tmp_path / "report.md").read_text()
    report.write({("none", "xnli", 1): None, ("squad", "xnli", 1): None}, tmp_path, "", {})
    assert "0 of 2 runs are there" in (tmp_path / "report.md").read_text()
