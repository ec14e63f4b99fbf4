"""The table of languages: all fifty once, groups as counted by hand, toy languages from their world."""

import math
from collections import Counter

import splits
import tasks
from conftest import ROOT
from studies import languages

EVERY = languages.LANGUAGES.values()


def test_the_table_covers_the_fifty_languages_of_both_benchmarks_once():
    lines = languages.TABLE.strip().splitlines()
    assert len(lines) == len(languages.LANGUAGES) == 50
    rows = [row for row in tasks.ROWS if {"xtreme", "xtreme-r"} & set(row.benchmarks)]
    assert {lang for row in rows for lang in (*row.languages, *row.xtreme_r)} == set(
        languages.LANGUAGES)


def test_groups_are_those_counted_in_the_sources():
    groups = {name: {one.code for one in EVERY if one.group == name} for name in languages.GROUPS}
    assert groups["unseen"] == set("ht qu wo yo".split())
    assert groups["low"] == set("af eu gu jv mr my pa sw te tl".split())
    assert {name: len(codes) for name, codes in groups.items()} == {
        "unseen": 4, "low": 10, "mid": 14, "high": 22}
    joshi = {one.code for one in EVERY if one.joshi_group == "low"}
    assert joshi == set("az gu ht jv ml mr my pa qu sw te wo yo".split())
    assert len(joshi & (groups["low"] | groups["unseen"])) == 11


def test_families_scripts_and_orders_are_plausible():
    families = Counter(one.family for one in EVERY)
    assert families["IE"] == 22 and families["Niger-Congo"] == 3 and families["Dravidian"] == 3
    assert len(families) == 16 and sum("isolate" in name for name in families) == 2
    assert {one.order for one in EVERY} == {"SVO", "SOV", "VSO", "-"}
    assert languages.LANGUAGES["hi"].script == languages.LANGUAGES["mr"].script == "Deva"
    assert languages.LANGUAGES["zh"].gib == 46.9


def test_toy_languages_come_from_their_world_without_invented_sizes():
    world = splits.world(ROOT / "toy/data")
    found = {code: languages.of(code, world) for code in world["languages"]}
    assert [code for code, one in found.items() if one.group in languages.POOR] == [
        "toy-low", "toy-stack"]
    assert all(math.isnan(one.gib) and one.joshi_group == "n/a" for one in found.values())
    assert len({one.script for one in found.values()}) == 6
    assert found["toy-order"].order == "SOV" and found["toy-lex"].order == "SVO"


def test_of_an_unknown_language_nothing_is_known():
    one = languages.of("xx", {"world": "real"})
    assert (one.group, one.joshi_group, one.family) == ("n/a", "n/a", "xx")
