"""Nearest neighbours among many vectors, and what retrieval makes of them.

    vectors --nearest--> one answer a query                        pairs (Tatoeba)
    vectors --mine--> scored pairs --best_threshold--> the cut     mining (BUCC)
    vectors --rank--> the best twenty of all languages             ranked (LAReQA)

Letters: Q queries, C candidates, H vector size, k neighbours.
"""

from collections import Counter

import numpy as np
import torch

BLOCK = 2**24        # similarities that a search holds at once: 64 MB
TILE = 2048, 8192    # queries, candidates of one product: its 64 MB are read while they are hot
GROUP = 32           # similarities that are compared by their maximum first
NEIGHBOURS = 4       # of the margin score (XTREME's run_bucc2018.sh)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1; a row of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def nearest(queries: np.ndarray, candidates: np.ndarray, cosine: bool = True) -> np.ndarray:
    """For each query the number of its nearest candidate, the lowest of equals, int64 [Q].

    queries [Q, H], candidates [C, H]. By cosine, or by Euclidean distance of the vectors as they
    are: the two choices of XTREME's --dist (utils_retrieve.py, similarity_search).
    Memory: BLOCK similarities; 40,000 x 400,000 pass in slices of 41 queries.
    """
    queries, candidates = np.asarray(queries, np.float32), np.asarray(candidates, np.float32)
    if cosine:
        queries, candidates = unit(queries), unit(candidates)
    halves = np.square(candidates).sum(axis=1) / 2  # |q - c|^2 = |q|^2 - 2 (q.c - |c|^2 / 2)
    step = max(1, BLOCK // max(len(candidates), 1))
    slices = [queries[start : start + step] for start in range(0, len(queries), step)]
    return np.concatenate([(rows @ candidates.T - halves).argmax(axis=1) for rows in slices])


def rank(queries: np.ndarray, candidates: np.ndarray, k: int = 20) -> np.ndarray:
    """The numbers of each query's k best candidates by cosine, best first, int64 [Q, k]."""
    values, rows = best_of(torch.from_numpy(unit(queries) @ unit(candidates).T), k)
    return rows.gather(1, values.argsort(dim=1, descending=True, stable=True)).numpy()


# ---- mining -------------------------------------------------------------------------------------


def best_of(similar: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k largest of each row [Q, k] and their columns, in descending order.

    The k best lie in the k groups with the largest maxima, so most values are read only once: 18
    ms where topk takes 42, for 2,048 x 8,192 (one core).
    """
    groups = similar.shape[1] // GROUP
    if similar.shape[1] % GROUP or groups < k:
        return similar.topk(min(k, similar.shape[1]), 1)
    grouped = similar.view(len(similar), groups, GROUP)
    best = grouped.amax(2).topk(k, 1).indices                              # [Q, k]
    inside = grouped.gather(1, best[:, :, None].expand(-1, -1, GROUP))     # [Q, k, GROUP]
    values, place = inside.flatten(1).topk(k, 1)
    return values, best.gather(1, place // GROUP) * GROUP + place % GROUP


def best_of_columns(similar: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """best_of for columns: the k largest of each column and their rows, both [C, k]."""
    groups = len(similar) // GROUP
    if len(similar) % GROUP or groups < k:
        values, rows = similar.topk(min(k, len(similar)), 0)
        return values.T, rows.T
    grouped = similar.view(groups, GROUP, similar.shape[1])
    best = grouped.amax(1).topk(k, 0).indices                              # [k, C]
    inside = grouped.gather(0, best[:, None].expand(-1, GROUP, -1))        # [k, GROUP, C]
    values, place = inside.flatten(0, 1).topk(k, 0)
    return values.T, (best.gather(0, place // GROUP) * GROUP + place % GROUP).T


def merge(known: tuple | None, new: tuple, offset: int, k: int) -> tuple:
    """The k best of two (values, numbers); the new numbers count from `offset`."""
    if known is None:
        return new[0], new[1] + offset
    values = torch.cat([known[0], new[0]], 1)
    numbers = torch.cat([known[1], new[1] + offset], 1)
    best = values.topk(min(k, values.shape[1]), 1)
    return best.values, numbers.gather(1, best.indices)


def neighbours(queries: torch.Tensor, candidates: torch.Tensor, k: int, is_bf16: bool = False):
    """((cosines [Q, k], candidates [Q, k]), (cosines [C, k], queries [C, k])), best first.

    Both directions in one pass: every product is computed once. queries [Q, H] and candidates
    [C, H] have length 1. is_bf16: products in bfloat16, with the 2 k best of each scored again in
    float32. Memory: one tile, a block's copy in the other type, and k (2 k) values a row.
    """
    wide, kind = (2 * k, torch.bfloat16) if is_bf16 else (k, torch.float32)
    blocks = [block.to(kind) for block in candidates.split(TILE[1])]
    forward, backward = [], [None] * len(blocks)
    for first, rows in enumerate(queries.split(TILE[0])):
        rows, found = rows.to(kind), None
        for number, block in enumerate(blocks):
            similar = (rows @ block.T).float()                             # [Q, C] of a tile
            found = merge(found, best_of(similar, wide), number * TILE[1], wide)
            backward[number] = merge(backward[number], best_of_columns(similar, wide),
                                     first * TILE[0], wide)
        forward.append(found)
    both = [tuple(map(torch.cat, zip(*parts))) for parts in (forward, backward)]
    if is_bf16:
        return (score_again(queries, candidates, both[0][1], k),
                score_again(candidates, queries, both[1][1], k))
    return tuple(both)


def score_again(rows: torch.Tensor, others: torch.Tensor, numbers: torch.Tensor, k: int):
    """The k best of the given neighbours by their float32 products: (values, numbers)."""
    values = torch.cat([(others[some] @ part[:, :, None])[:, :, 0] for part, some
                        in zip(rows.split(TILE[0]), numbers.split(TILE[0]))])
    best = values.topk(min(k, values.shape[1]), 1)
    return best.values, numbers.gather(1, best.indices)


def mine(queries: np.ndarray, candidates: np.ndarray, is_bf16: bool = False, center: bool = False,
         device: torch.device | str = "cpu") -> list[tuple[float, int, int]]:
    """(score, query, candidate) of the best one-to-one pairs, by falling score (all above 0).

    As mine_bitext of XTREME's utils_retrieve.py with mode mine, retrieval max, margin ratio: a
    pair's cosine over the mean cosine of both sides' NEIGHBOURS nearest. Every row's best partner
    is a pair; of all pairs, from the best on, those are kept whose sides are both still free.
    center: whichever side asks is moved to the other's mean (its --use_shift_embeds). device: where
    the products are computed; it holds both sides' vectors.
    """
    x, y = (torch.from_numpy(unit(np.asarray(side, np.float32))).to(device)
            for side in (queries, candidates))
    forward, backward = neighbours(x, y, NEIGHBOURS, is_bf16)
    if center:
        shift = y.mean(0) - x.mean(0)
        forward, _ = neighbours(x + shift, y, NEIGHBOURS, is_bf16)
        _, backward = neighbours(x, y - shift, NEIGHBOURS, is_bf16)
    (x_near, x_of), (y_near, y_of) = (map(torch.Tensor.cpu, side) for side in (forward, backward))
    x_mean, y_mean = x_near.mean(1), y_near.mean(1)
    x_best = (x_near / ((x_mean[:, None] + y_mean[x_of]) / 2)).max(1)
    y_best = (y_near / ((y_mean[:, None] + x_mean[y_of]) / 2)).max(1)
    scores = torch.cat([x_best.values, y_best.values])
    left = torch.cat([torch.arange(len(x)), y_of.gather(1, y_best.indices[:, None])[:, 0]])
    right = torch.cat([x_of.gather(1, x_best.indices[:, None])[:, 0], torch.arange(len(y))])
    order = scores.argsort(descending=True, stable=True)
    taken_x, taken_y, pairs = set(), set(), []
    for score, a, b in zip(*(part[order].tolist() for part in (scores, left, right))):
        if a not in taken_x and b not in taken_y and score > 0:
            taken_x.add(a)
            taken_y.add(b)
            pairs.append((score, a, b))
    return pairs


def mine_sentences(examples: list, vectors: np.ndarray, is_bf16: bool = False, center: bool = False,
                   device: torch.device | str = "cpu") -> dict[tuple[str, str], float]:
    """(query's id, candidate's id) -> score, by falling score, of the sentences of a BUCC split.

    Equal sentences of a side are searched as one (with the last one's vector), and since their id
    is not certain then, they are never part of an answer: as in XTREME.
    """
    (x_rows, x_single), (y_rows, y_single) = (
        different_texts(examples, side) for side in ("query", "candidate"))
    pairs = mine(vectors[x_rows], vectors[y_rows], is_bf16, center, device)
    return {(examples[x_rows[a]].id, examples[y_rows[b]].id): score for score, a, b in pairs
            if x_single[a] and y_single[b]}


def different_texts(examples: list, side: str) -> tuple[list[int], list[bool]]:
    """The last row of each different text of a side, and whether it is the only one (outer blanks
    make a text different, but not certain)."""
    rows = {e.text: i for i, e in enumerate(examples) if e.side == side}
    times = Counter(e.text.strip() for e in examples if e.side == side)
    return list(rows.values()), [times[text.strip()] == 1 for text in rows]


def best_threshold(scores: dict[tuple[str, str], float], golds: set[tuple[str, str]]) -> float:
    """The score from which on pairs are answers: half-way between the pair after which F1 is best
    and the next (utils_retrieve.py, bucc_optimize). After the last pair there is no next: XTREME's
    script fails there, here it is that pair's score. 0.0 where no pair is right.
    """
    order = sorted(scores, key=scores.get, reverse=True)
    right, best, threshold = 0, 0.0, 0.0
    for count, pair in enumerate(order, start=1):
        right += pair in golds
        precision, recall = right / count, right / max(len(golds), 1)
        # in this order, as the script does: rounding decides between cuts of equal F1
        f1 = 2 * precision * recall / (precision + recall) if right else 0.0
        if f1 > best:
            following = scores[order[min(count, len(order) - 1)]]
            best, threshold = f1, (scores[pair] + following) / 2
    return threshold
