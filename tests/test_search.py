"""Mining and ranking: the blocks give what one large product gives, ties and small sides included.

The official outputs are compared in test_metrics.py (check_oracle.py).
"""

import numpy as np
import pytest
import torch

import search
from readers import Sentence


def vectors(*shape, seed=0) -> torch.Tensor:
    made = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(made, dim=1)


@pytest.mark.parametrize("rows, columns", [(3, 5), (64, 96), (96, 64), (33, 1), (1, 33), (160, 4)])
def test_best_of_rows_and_columns(rows, columns):
    similar = vectors(rows, columns)
    values, numbers = search.best_of(similar, 4)
    assert torch.equal(values, similar.topk(min(4, columns), 1).values)
    assert torch.equal(similar.gather(1, numbers), values)
    values, numbers = search.best_of_columns(similar, 4)
    assert torch.equal(values, similar.topk(min(4, rows), 0).values.T)
    assert torch.equal(similar.T.gather(1, numbers), values)


@pytest.mark.parametrize("tile", [(7, 5), (64, 64), (1000, 1000)])
def test_neighbours_do_not_depend_on_the_tiles(monkeypatch, tile):
    queries, candidates = vectors(130, 16), vectors(97, 16, seed=1)
    monkeypatch.setattr(search, "TILE", tile)
    (values, numbers), (back_values, back) = search.neighbours(queries, candidates, 4)
    cosines = queries @ candidates.T
    assert torch.allclose(values, cosines.topk(4, 1).values, atol=1e-6)
    assert torch.allclose(cosines.gather(1, numbers), values, atol=1e-6)
    assert torch.allclose(back_values, cosines.T.topk(4, 1).values, atol=1e-6)
    assert torch.allclose(cosines.T.gather(1, back), back_values, atol=1e-6)


def test_bfloat16_with_rescoring_finds_the_same_nearest():
    queries, candidates = vectors(300, 64), vectors(400, 64, seed=1)
    exact, rough = (search.neighbours(queries, candidates, 4, is_bf16) for is_bf16 in (False, True))
    for (values, numbers), (again, found) in zip(exact, rough):
        assert torch.equal(numbers[:, 0], found[:, 0])
        assert torch.allclose(values[:, 0], again[:, 0], atol=1e-6)


def test_mined_pairs_are_one_to_one_and_sorted():
    pairs = search.mine(vectors(60, 8).numpy(), vectors(40, 8, seed=1).numpy())
    scores, left, right = zip(*pairs)
    assert list(scores) == sorted(scores, reverse=True) and min(scores) > 0
    assert len(set(left)) == len(left) and len(set(right)) == len(right)


def test_planted_translations_are_mined():
    meaning = vectors(50, 32)
    noise = vectors(70, 32, seed=1)
    candidates = torch.cat([meaning + 0.1 * vectors(50, 32, seed=2), noise])
    best = {(a, b) for _, a, b in search.mine(meaning.numpy(), candidates.numpy())}
    assert {(i, i) for i in range(50)} <= best


def test_a_sentence_that_stands_twice_is_never_an_answer():
    texts = [("query", "a"), ("query", "b"), ("query", "a"), ("candidate", "x"), ("candidate", "y")]
    examples = [Sentence(i, f"{side[0]}{i}", text, side, ()) for i, (side, text) in enumerate(texts)]
    found = search.mine_sentences(examples, np.eye(2)[[0, 1, 0, 0, 1]])
    assert set(found) == {("q1", "c4")}
    blank = [e._replace(text="a ") if e.id == "q2" else e for e in examples]
    assert "q0" not in {query for query, _ in search.mine_sentences(blank, np.eye(2)[[0, 1, 0, 0, 1]])}


@pytest.mark.parametrize("golds, expected", [
    ({("a", "x")}, 2.5), ({("a", "x"), ("b", "y")}, 1.5), ({("c", "z")}, 1.0), (set(), 0.0)])
def test_threshold(golds, expected):
    scores = {("a", "x"): 3.0, ("b", "y"): 2.0, ("c", "z"): 1.0}
    assert search.best_threshold(scores, golds) == expected


def test_threshold_between_cuts_of_equal_f1_is_the_official_one():
    """After 4 pairs, 3 of them right, and after 7, 4 right, F1 over 5 golds is 2/3: by the script's
    rounding the second is the larger."""
    scores = {(number, number): 8.0 - number for number in range(8)}
    golds = {(number, number) for number in (0, 1, 3, 6)} | {("no", "pair")}
    assert search.best_threshold(scores, golds) == 1.5


def test_ranking_is_by_cosine_best_first():
    queries, candidates = vectors(5, 8).numpy(), 3 * vectors(50, 8, seed=1).numpy()
    order = np.argsort(-(search.unit(queries) @ search.unit(candidates).T), axis=1)[:, :20]
    assert search.rank(queries, candidates).tolist() == order.tolist()
