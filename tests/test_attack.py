"""Attacks: budgets, counts, what is protected, and that search beats chance where it must.

    pytest tests/test_attack.py
"""

import math
import random
import unicodedata
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import data
import model as model_room
import predict
import splits
import tasks
import weights
from conftest import ROOT
from readers import Classification, MultipleChoice, Sentence, Span, Tagging
from studies import flips, search_attack
from studies.perturb import calibrate
from studies.scripts import words
from studies.search_attack import (
    FIELDS, MASK, Found, Judged, attack, char_moves, chars, langswap, random_tries, target_of,
    transfer)
from studies.victims import Judge, Masking, span_losses

nfkc = partial(unicodedata.normalize, "NFKC")
CPU = predict.Hardware(torch.device("cpu"), None, 1 << 13)


# --------------------------------------------------------------------------------- victims


class Linear:
    """A linear model over pairs of letters inside words; a mask has none. Counts its passes."""

    def __init__(self, seed: int, bias: float = 2.0):
        self.seed, self.bias, self.passes, self.weights = seed, bias, 0, {}

    def weight(self, pair: str) -> float:
        if pair not in self.weights:
            self.weights[pair] = random.Random(f"{self.seed} {pair}").gauss(0, 1)
        return self.weights[pair]

    def margin(self, text: str) -> float:
        return self.bias + sum(self.weight(word[i:i + 2]) for word in text.split() if word != MASK
                               for i in range(len(word) - 1))

    def __call__(self, examples):
        self.passes += len(examples)
        margins = [self.margin(e.text_b) * (1 if e.label == "1" else -1) for e in examples]
        return [Judged((math.log1p(math.exp(-m)),), (m <= 0,), 100.0 * (m > 0)) for m in margins]


class Tagger:
    """Each word's loss is a number of its own and its neighbours' letters; wrong above 1."""

    def __init__(self, is_wrong=lambda own, left, right: False):
        self.is_wrong = is_wrong

    def __call__(self, examples):
        judged = []
        for e in examples:
            padded = ["", *e.words, ""]
            wrong = tuple(self.is_wrong(*trio) for trio in zip(e.words, padded, padded[2:]))
            judged.append(Judged(tuple(float(w) for w in wrong), wrong, 0.0))
        return judged


def invented(count: int, size: int, seed: int = 0) -> list:
    """Pairs with a text of `size` words each."""
    rng = random.Random(seed)
    letters = "abcdefghiklmnoprstu"
    return [Classification(row, "a premise", " ".join(
        "".join(rng.choices(letters, k=rng.randint(3, 8))) for _ in range(size)), "1")
        for row in range(1, count + 1)]


def prepared(examples, seed: int = 13, lang: str = "en"):
    """(calibration, example -> (target, moves))."""
    calibration = calibrate(examples, "any", lang, (FIELDS[type(examples[0])],))

    def prepare(example):
        target = target_of(example, calibration, seed)
        return target, char_moves(target, calibration, nfkc)

    return calibration, prepare


def run(victim, examples, kind=chars, budget=200, clean=None, **options):
    _, prepare = prepared(examples)
    clean = victim(examples) if clean is None else clean

    def search(example):
        target, moves = prepare(example)
        if kind is chars:
            return chars(target, moves)
        return random_tries(target, moves, target.limit, 4 * budget)

    return attack(victim, examples, clean, search, budget, **options)


# ------------------------------------------------------------------------------- the counter


@pytest.mark.parametrize("kind", [chars, random_tries])
@pytest.mark.parametrize("budget", [1, 2, 7, 30, 200])
def test_queries_are_the_passes_of_the_model_and_stay_in_the_budget(kind, budget):
    examples, victim = invented(25, 9), Linear(1)
    clean = victim(examples)
    wrong = sum(one.wrong[0] for one in clean)
    assert 0 < wrong < 25
    found = run(victim, examples, kind, budget, clean)
    assert sum(one.queries for one in found if one) + wrong == victim.passes
    assert all(one.queries <= budget for one in found if one)
    assert [one is None for one in found] == [one.wrong[0] for one in clean]
    ended = [one for one in found if one and one.ran_out]
    assert all(one.queries == budget and not one.fooled for one in ended)
    assert bool(ended) == (budget < 200 or any(one.queries == 200 for one in ended))


def test_order_and_crowd_change_nothing():
    examples, victim = invented(30, 12), Linear(2)
    whole = run(victim, examples)
    mixed = random.Random(3).sample(range(30), 30)
    _, prepare = prepared(examples)
    for crowd in (1, 7):
        again = attack(victim, [examples[i] for i in mixed], victim([examples[i] for i in mixed]),
                       lambda e: chars(*prepare(e)), 200, crowd)
        assert again == [whole[i] for i in mixed]


# --------------------------------------------------------------------- the search and chance


@pytest.mark.parametrize("size", [3, 5, 10, 15, 20])
def test_on_a_linear_model_the_search_is_never_weaker_than_random_tries(size):
    examples, victim = invented(40, size, seed=size), Linear(size)
    clean = victim(examples)
    search = run(victim, examples, clean=clean)
    chance = run(victim, examples, random_tries, clean=clean)
    for a, b in zip(search, chance):
        if a:
            assert a.fooled >= b.fooled
            assert a.fooled or a.judged.losses >= b.judged.losses
    assert any(a and a.fooled for a in search)


@pytest.mark.parametrize("size", [1, 5, 11])
def test_the_search_finds_the_best_edits_of_a_linear_model(size):
    """By brute force: the best edit of each word, then the W best of them."""
    examples, victim = invented(20, size, seed=7), Linear(7, bias=50.0)      # never fooled
    _, prepare = prepared(examples)
    for example, found in zip(examples, run(victim, examples, budget=1000)):
        target, moves = prepare(example)
        before = victim.margin(example.text_b)
        gains = [before - min(victim.margin(target.candidate({k: edit}).example.text_b)
                              for edit in listed) for k, listed in moves.items()]
        best = sum(sorted((g for g in gains if g > 0), reverse=True)[:target.limit])
        assert math.isclose(before - victim.margin(found.strongest.text_b), best, abs_tol=1e-9)


def test_words_are_asked_in_the_order_of_their_importance():
    example = Classification(1, "", "alpha bravo delta gamma kappa", "1")
    _, prepare = prepared([example])
    target, moves = prepare(example)
    search = chars(target, moves)
    probes = next(search)
    assert [probe.example.text_b.split().index(MASK) for probe in probes] == [0, 1, 2, 3, 4]
    asked = [search.send([0.1, 0.5, 0.3, 0.5, 0.0])]
    for _ in range(4):
        asked.append(search.send([0.0] * len(asked[-1])))
    order = [next(iter(candidates[0].edits)) for candidates in asked]
    assert sorted(order[:2]) == [1, 3] and order[2:] == [2, 0, 4]       # a tie is cut by hash
    assert all(1 <= len(candidates) <= 8 for candidates in asked)
    with pytest.raises(StopIteration):
        search.send([0.0] * len(asked[-1]))


def test_many_words_are_asked_about_sixty_of_them():
    examples = invented(1, 80)
    _, prepare = prepared(examples)
    search = chars(*prepare(examples[0]))
    assert len(next(search)) == 60
    order = []
    candidates = search.send([1.0] * 60)
    while candidates:
        order += candidates[0].edits
        try:
            candidates = search.send([0.0] * len(candidates))
        except StopIteration:
            break
    assert sorted(order) == list(range(80))


# --------------------------------------------------------------------- what may be edited


def edits_tried(example, lang="en") -> list:
    """All texts of the example with one edit."""
    _, prepare = prepared([example], lang=lang)
    target, moves = prepare(example)
    return [(k, target.candidate({k: edit}).example) for k, listed in moves.items()
            for edit in listed]


@pytest.mark.parametrize("example, kept", [
    (Classification(1, "p", "he won 1234 times in no 5 of them <mask> <pad> </s>", "1"),
     ["he", "1234", "in", "no", "5", "of", "<mask>", "<pad>", "</s>"]),
    (Span(1, "q", "When did New York join the union?", "In 1788 new york did.",
          (("new york", 8),)), ["New York"]),
    (MultipleChoice(1, "The man fell. What was the cause?", ("a b", "c d"), 0),
     ["What was the cause?"]),
])
def test_protected_spans_stay(example, kept):
    field = FIELDS[type(example)]
    tried = edits_tried(example)
    assert tried
    for _, noisy in tried:
        assert getattr(noisy, field) != getattr(example, field)
        assert all(span in getattr(noisy, field) for span in kept)
        assert noisy._replace(**{field: getattr(example, field)}) == example


@pytest.mark.parametrize("lang, text", [
    ("zh", "人人生而自由,在尊严和权利上一律平等"), ("th", "มนุษย์ทั้งหลายเกิดมามีอิสระ"),
    ("hi", "सभी मनुष्यों को गौरव और अधिकारों"), ("ar", "يولد جميع الناس أحرارا"),
    ("ko", "모든 인간은 태어날 때부터 자유로우며")])
def test_moves_in_every_kind_of_script(lang, text):
    tried = edits_tried(Classification(1, "", text, "1"), lang)
    assert len(tried) >= 10
    assert len({noisy.text_b for _, noisy in tried}) == len(tried)
    for k in {k for k, _ in tried}:
        assert sum(other == k for other, _ in tried) <= 8


def test_edits_undone_by_the_normalisation_are_no_moves():
    example = Classification(1, "", "abcd efgh", "1")
    calibration, _ = prepared([example])
    target = target_of(example, calibration, 13)
    assert char_moves(target, calibration, lambda text: "all the same") == {}
    several = char_moves(target, calibration, lambda text: text[0] + text[-1] + str(len(text)))
    assert all(len(listed) <= 2 for listed in several.values())      # one shorter, one longer


# ------------------------------------------------------------------------------- tagging


def test_an_edited_word_does_not_count():
    """A tagger that falls for any change of a word, but only on this word, is never fooled; one
    that falls for a change of the neighbour is."""
    clean = ("steve", "lives", "quietly", "near", "berlin")
    example = Tagging(1, clean, ("B-PER", "O", "O", "O", "B-LOC"))
    own = Tagger(lambda word, left, right: word not in clean)
    (found,) = run(own, [example])
    assert not found.fooled and found.strongest == example
    near = Tagger(lambda word, left, right: left not in ("", *clean))
    (found,) = run(near, [example])
    assert found.fooled and len(found.edits) == 1
    assert sum(map(str.__ne__, clean, found.strongest.words)) == 1
    assert transfer(own, [example], own([example]), [found.strongest]) == [True]
    assert transfer(near, [example], near([example]), [found.strongest]) == [False]
    assert transfer(near, [example], near([example]), [example]) == [True]


# ---------------------------------------------------------------------------- translations


def test_langswap_on_a_hand_case():
    """Six examples in two other languages; the model is right unless the text holds an x."""
    def victim(listed):
        return [Judged((float("x" in e.text_b),), ("x" in e.text_b,), 0.0) for e in listed]

    texts = [("a", "b", "c"), ("a", "x", "c"), ("a", "x", "x"), ("x", "b", "c"), ("a", "b", "x"),
             ("a", "b", "b")]
    examples = [Classification(row, "", own, "1") for row, (own, *_) in enumerate(texts, 1)]
    variants = [[e._replace(text_b=text) for text in others]
                for e, (_, *others) in zip(examples, texts)]
    swapped = langswap(victim, examples, victim(examples), variants, seed=1)
    assert [one and one.fooled for one in swapped.found] == [False, True, True, None, True, False]
    assert [one and one.queries for one in swapped.found] == [3, 3, 3, None, 3, 3]
    assert [one and one.queries for one in swapped.drawn] == [2, 2, 2, None, 2, 2]
    assert math.isclose(swapped.generalized, 100 * 8 / 12)
    assert swapped.drawn[0].fooled is False and swapped.drawn[2].fooled is True


# ------------------------------------------------------------------------- a real encoder


@pytest.fixture(scope="module")
def encoder():
    config, state, _, _ = weights.load_encoder(ROOT / "toy/encoder")
    return config, model_room.make_encoder(config, state)


def victim_of(encoder, tokenizer, name: str, lang: str = "toy-lex", split: str = "test", count=6):
    """A victim with a random head, and examples."""
    config, built = encoder
    task = tasks.get(name)
    labels = splits.labels(task, ROOT / "toy/data")
    heads = {}
    if task.train_on:
        heads[name] = model_room.make_head(task.kind, config, len(labels), seed=1)
    victim = Judge(model_room.Model(built, heads), name, task, tokenizer, labels, lang, CPU, 4)
    examples = splits.load(task, ROOT / "toy/data", split, lang).examples
    if task.kind == "retrieval":
        victim.set_pool(examples)
        examples = [e for e in examples if e.side == "candidate"]
    return victim, examples[:count]


KINDS = ("xnli", "xcopa", "tydiqa", "panx", "tatoeba")


@pytest.mark.parametrize("name", KINDS)
def test_judgements_agree_with_the_models_own_loss_and_answers(encoder, tokenizer, name):
    victim, examples = victim_of(encoder, tokenizer, name)
    judged = victim(examples)
    if name == "tatoeba":
        every = splits.load(victim.task, ROOT / "toy/data", "test", "toy-lex").examples
        vectors = predict.predict(victim.model, "", victim.task, every, tokenizer, (), CPU, 4)
        found = predict.answer_split(victim.task, every, vectors)
        answers = {e.gold[0]: answer for e, answer in zip(every, found) if e.side == "query"}
        assert [not one.wrong[0] for one in judged] == [answers[e.id] == e.id for e in examples]
        units = dict(zip((e.id for e in every if e.side == "candidate"),
                         F.normalize(torch.from_numpy(vectors), dim=1).numpy()[len(every) // 2:]))
        queries = {e.gold[0]: F.normalize(torch.from_numpy(v), dim=0).numpy()
                   for e, v in zip(every, vectors) if e.side == "query"}
        for e, one in zip(examples, judged):
            cosines = {name: float(queries[e.id] @ unit) for name, unit in units.items()}
            own = cosines.pop(e.id)
            assert math.isclose(one.losses[0], max(cosines.values()) - own, abs_tol=1e-5)
        return
    f = data.featurize(victim.task, examples, tokenizer, victim.labels)
    batch = data.make_batch(f, np.arange(len(f.item_lengths)))
    tensors = batch.to(CPU.device)
    with torch.no_grad():
        loss = model_room.LOSSES[victim.task.kind](victim.model(name, tensors), tensors).item()
    total = sum(sum(one.losses) for one in judged) / (2 if name == "tydiqa" else 1)
    assert math.isclose(total, loss, rel_tol=1e-4)
    answers = predict.predict(victim.model, name, victim.task, examples, tokenizer, victim.labels,
                              CPU)
    if name in ("xnli", "xcopa"):
        assert [not one.wrong[0] for one in judged] == [a == e.label
                                                        for a, e in zip(answers, examples)]
    if name == "panx":
        assert [one.wrong for one in judged] == [tuple(map(str.__ne__, a, e.tags))
                                                 for a, e in zip(answers, examples)]


def test_of_windows_with_the_answer_the_least_j_counts():
    """Example 0: windows 0 and 2 hold the answer, 1 does not; example 1 has no answer in any."""
    logits = torch.zeros(12, 2)
    logits[1, 0], logits[8, 1] = 5.0, 9.0
    batch = SimpleNamespace(cu_seqlens=np.array([0, 3, 6, 9, 12]), sequences=np.arange(4),
                            target=np.array([[1, 2], [0, 0], [1, 2], [0, 0]]))
    f = SimpleNamespace(example=np.array([0, 0, 0, 1]))
    one = math.log(math.exp(5) + 2) - 5 + math.log(3)
    two = math.log(3) + math.log(math.exp(9) + 2) - 9
    assert span_losses([(batch, logits)], f, 2).tolist() == pytest.approx(
        [min(one, two), 2 * math.log(3)], rel=1e-5)


def test_a_mask_is_one_piece(tokenizer):
    texts = ["on sunday who", f"on {MASK} who", MASK, f"{MASK} sunday {MASK}", ""]
    encoded = Masking(tokenizer).encode(texts)
    plain = tokenizer.encode(["on sunday who", "on", "who", "sunday"])
    ids = [encoded.ids[a:b].tolist() for a, b in zip(encoded.bounds, encoded.bounds[1:])]
    on_sunday_who, on, who, sunday = (plain.ids[a:b].tolist()
                                      for a, b in zip(plain.bounds, plain.bounds[1:]))
    mask = [tokenizer.mask_id]
    assert ids == [on_sunday_who, on + mask + who, mask, mask + sunday + mask, []]


@pytest.mark.parametrize("name", KINDS)
def test_the_gradient_is_that_of_j(encoder, tokenizer, name):
    """Moving the embedding of one piece of the attacked text a little changes J as it says."""
    victim, examples = victim_of(encoder, tokenizer, name, count=2)
    example = examples[1]
    ((ids, gradient),) = victim.slopes([(example, example)])
    assert len(ids) == len(gradient)
    table, ids = victim.model.encoder.tokens, ids.tolist()
    f = data.featurize(victim.task, [example], tokenizer, victim.labels)
    counts = np.bincount(f.pieces, minlength=len(table.weight))     # each text once in the pool
    token = max((t for t in ids if counts[t] == 1), key=lambda t: abs(gradient[ids.index(t)]).sum())
    slope = gradient[ids.index(token)]
    step = torch.from_numpy(1e-2 * slope / np.linalg.norm(slope))
    sides = []
    for sign in (1, -1):
        with torch.no_grad():
            table.weight[token] += sign * step
        sides.append(sum(victim([example])[0].losses))
        with torch.no_grad():
            table.weight[token] -= sign * step
    expected = 2 * float(step @ torch.from_numpy(slope))
    if name == "tydiqa":
        expected *= 2                                   # the loss is the mean of start and end
    assert math.isclose(sides[0] - sides[1], expected, rel_tol=0.05, abs_tol=2e-5)


# ---------------------------------------------------------------------------------- flips


class Additive:
    """J is the sum over the text's pieces of embedding . w; knows its gradient. Counts both."""

    def __init__(self, tokenizer, embeddings, w):
        self.tokenizer, self.embeddings, self.w = tokenizer, embeddings, w
        self.passes = self.gradients = 0

    def j(self, text: str) -> float:
        return float((self.embeddings[self.tokenizer.encode([text]).ids] @ self.w).sum())

    def __call__(self, examples):
        self.passes += len(examples)
        return [Judged((self.j(e.text_b),), (False,), 0.0) for e in examples]

    def slopes(self, pairs):
        self.gradients += len(pairs)
        ids = [self.tokenizer.encode([e.text_b]).ids for _, e in pairs]
        return [(one, np.tile(self.w, (len(one), 1))) for one in ids]


@pytest.fixture(scope="module")
def flipping(tokenizer, encoder):
    """An additive victim, its table and examples of the toy English text."""
    loaded = splits.load(tasks.get("xnli"), ROOT / "toy/data", "test", "toy-en").examples
    embeddings = encoder[1].tokens.weight.detach().numpy()
    w = np.random.default_rng(0).standard_normal(embeddings.shape[1]).astype(np.float32)
    table = flips.make_table([e.text_b for e in loaded], tokenizer, embeddings)
    return Additive(tokenizer, embeddings, w), table, loaded[:12]


def test_the_first_flip_is_the_best_of_all_by_brute_force(flipping, tokenizer):
    """On an additive model the first-order rise is the true one: compare with all pieces of the
    group at all places whose text encodes back."""
    victim, table, examples = flipping
    calibration, _ = prepared(examples)
    for example in examples:
        target = target_of(example, calibration, 13)
        (found,) = attack(victim, [example], victim([example]),
                          lambda e: flips.hotflip(target_of(e, calibration, 13), table), 200)
        ids = tokenizer.encode([example.text_b], offsets=True)
        best = 0.0
        for i, (token, begin, end) in enumerate(zip(ids.ids.tolist(), ids.begin, ids.end)):
            begin += example.text_b[begin] == " "
            inside = [k for k in target.open
                      if target.words[k].bounds[0] <= begin < target.words[k].bounds[-1]]
            for new in table.ids.get(table.group(token), ()) if inside else ():
                text = example.text_b[:begin] + table.letters(new) + example.text_b[end:]
                wanted = [*ids.ids[:i], new, *ids.ids[i + 1:]]
                if tokenizer.encode([text]).ids.tolist() == wanted:
                    best = max(best, victim.j(text) - victim.j(example.text_b))
        first = flips.hotflip(target, table)
        next(first)
        candidates = first.send(victim.slopes([(example, example)])[0])
        rises = [victim.j(c.example.text_b) - victim.j(example.text_b) for c in candidates]
        assert math.isclose(max(rises), best, rel_tol=1e-4)
        assert np.allclose(rises, sorted(rises, reverse=True), atol=1e-4)
        assert 0 < len(candidates) <= 20
        assert found.judged.losses[0] > victim.j(example.text_b)


def test_flips_are_pieces_of_real_texts_and_cost_two_a_gradient(flipping, tokenizer):
    victim, table, examples = flipping
    calibration, _ = prepared(examples)
    clean = victim(examples)
    victim.passes = victim.gradients = 0
    found = attack(victim, examples, clean,
                   lambda e: flips.hotflip(target_of(e, calibration, 13), table), 45)
    assert sum(one.queries - 1 for one in found) == victim.passes + 2 * victim.gradients
    for one in found:
        before, after = (tokenizer.encode([e.text_b]).ids for e in (one.clean, one.strongest))
        assert len(before) == len(after)
        changed = np.flatnonzero(before != after)
        assert 1 <= len(changed) <= max(1, math.ceil(0.15 * len(before)))
        assert len(changed) == len(one.edits)
        assert all(table.group(int(before[i])) == table.group(int(after[i])) for i in changed)
        assert len(words(one.clean.text_b)) == len(words(one.strongest.text_b))
        assert one.queries <= 45


def test_hotflip_fools_a_real_encoder_more_than_random_flips(encoder, tokenizer):
    """An untrained head, and its own answers as the gold."""
    victim, examples = victim_of(encoder, tokenizer, "panx", "toy-en", count=12)
    answers = predict.predict(victim.model, "panx", victim.task, examples, tokenizer,
                              victim.labels, CPU)
    examples = [e._replace(tags=tags) for e, tags in zip(examples, answers)]
    calibration, _ = prepared(examples)
    table = flips.make_table([" ".join(e.words) for e in examples], tokenizer,
                             victim.model.encoder.tokens.weight.detach().numpy())
    clean = victim(examples)
    assert not any(any(one.wrong) for one in clean)

    def chance(e):
        target = target_of(e, calibration, 13)
        return random_tries(target, flips.flip_moves(target, table), 1, 1)

    white = attack(victim, examples, clean,
                   lambda e: flips.hotflip(target_of(e, calibration, 13), table), 60)
    blind = attack(victim, examples, clean, chance, 2)
    assert sum(one.fooled for one in white) >= sum(one.fooled for one in blind)
    assert any(one.edits for one in white)
