"""What is drawn by chance: subsets of examples, and tags without content."""

from collections import Counter
from itertools import chain

import draws
from readers import Classification, Sentence, Tagging

ITEMS = [Classification(i, str(i), "", "0") for i in range(50)]


def test_subsets_nest_keep_their_order_and_depend_on_the_key_alone():
    sizes = [draws.subset(ITEMS, count, "examples", 1, 0)[0] for count in (5, 20, 60)]
    assert [len(one) for one in sizes] == [5, 20, 50] and sizes[2] == ITEMS
    assert set(sizes[0]) < set(sizes[1]) and sizes[1] == sorted(sizes[1])
    assert draws.subset(ITEMS, 5, "examples", 1, 0)[0] == sizes[0]
    others = [draws.subset(ITEMS, 5, "examples", *key)[0] for key in ((1, 1), (2, 0))]
    assert sizes[0] not in others and others[0] != others[1]


def test_every_example_is_as_likely():
    counts = Counter(e.row for draw in range(2000) for e in draws.subset(ITEMS, 10, draw)[0])
    assert all(300 < counts[row] < 500 for row in range(50))       # 400 expected, SD 18


def test_members_have_their_own_subset_and_queries_keep_their_candidates():
    chosen, sizes = draws.subset(ITEMS, 4, "dev", groups=(3, 47))
    assert sizes == (3, 4) and chosen[:3] == ITEMS[:3]
    pool = [Sentence(i, f"c{i}", "", "candidate", ()) for i in range(9)]
    queries = [Sentence(i, f"q{i}", "", "query", (f"c{i}",)) for i in range(9)]
    kept, _ = draws.subset(pool + queries, 3, "dev")
    assert [e.id[1:] for e in kept[:3]] == [e.id[1:] for e in kept[3:]] and len(kept) == 6


def test_random_tags_belong_to_words_and_are_as_frequent_as_the_real_ones():
    tags = ["A"] * 5 + ["B"] * 3 + ["C"] * 2
    real = [Tagging(i, tuple(f"w{(7 * i + k) % 200}" for k in range(10)), tuple(tags))
            for i in range(300)]
    new = Tagging(1, ("unseen", "w1"), ("A", "A"))
    drawn, (changed,) = draws.random_tags(real, [new], seed=1)
    assert [e.words for e in drawn] == [e.words for e in real]
    tag_of = dict(chain.from_iterable(zip(e.words, e.tags) for e in drawn))
    assert all(tag_of[word] == tag for e in drawn for word, tag in zip(e.words, e.tags))
    shares = Counter(chain.from_iterable(e.tags for e in drawn))
    assert [round(shares[tag] / 3000, 2) for tag in "ABC"] == [0.5, 0.3, 0.2]
    agree = sum(a == b for x, y in zip(real, drawn) for a, b in zip(x.tags, y.tags)) / 3000
    assert 0.25 < agree < 0.5                      # by chance .38
    assert changed.words == new.words and changed.tags[1] == tag_of["w1"]
    assert draws.random_tags(real, [], seed=1)[0] == drawn != draws.random_tags(real, [], 2)[0]
