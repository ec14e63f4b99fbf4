"""The evaluation room: gold fed back as logits scores 100 for each kind, means, tables, fit."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import data
import eval as evaluation
import predict
import metrics
import submission
import model
import splits
import tasks
from conftest import ROOT
from files import UserError
from readers import Classification, MultipleChoice, Sentence, Span
from test_data import gold_logits, task

TINY = ROOT / "tests/fixtures/data"

LABELS = ("no", "yes", "maybe")


def round_trip(t, examples, tokenizer, logits, labels=()):
    """Answers of the decoder when `logits(batch, features)` are the model's, through a file."""
    f = data.featurize(t, examples, tokenizer, labels)
    runs = ((b, logits(b, f)) for b in data.evaluation_batches(f, 60))
    answers = predict.DECODE[t.kind](t, runs, f, examples, labels)
    text = submission.format_answers(t.kind, examples, answers)
    return submission.parse_answers(t.kind, text, examples)


def one_hot(target, classes):
    return torch.nn.functional.one_hot(torch.as_tensor(target), classes).float()


def test_classification(tokenizer):
    examples = [Classification(i, "ab " * (i % 7 + 1), "c", LABELS[i % 3]) for i in range(30)]
    answers = round_trip(task("classification"), examples, tokenizer,
                         lambda b, f: one_hot(b.target, 3), LABELS)
    assert metrics.METRICS["accuracy"](examples, answers)["accuracy"] == 100


def test_multiple_choice(tokenizer):
    examples = [MultipleChoice(i, "ab " * (i % 9), ("c", "d d", "e e e", "f"), i % 4)
                for i in range(30)]
    answers = round_trip(task("multiple_choice"), examples, tokenizer,
                         lambda b, f: one_hot(b.target, 4).flatten())
    assert metrics.METRICS["accuracy"](examples, answers)["accuracy"] == 100


def sentences(gold: list, lang: str = "de") -> list[Sentence]:
    """Queries, of which query i asks for candidate gold[i] (None: for none), and 20 candidates."""
    asked = [() if c is None else (f"{lang}-c{c}",) for c in gold]
    return [Sentence(i, f"{lang}-q{i}", f"q {i}", "query", right) for i, right in enumerate(asked)
            ] + [Sentence(i, f"{lang}-c{i}", f"c {i}", "candidate", ()) for i in range(20)]


def vector_of(example) -> np.ndarray:
    """As if the model knew: a query lies where its candidate lies, or where none does."""
    place = example.gold[0] if example.gold else example.id
    number = int(re.sub(r"[^0-9]", "", place.split("-")[1]))
    spot = number if example.gold or example.side == "candidate" else 20 + number
    return np.eye(41, dtype=np.float32)[spot] * (1 + number) + 0.01


@pytest.mark.parametrize("kind, metric", [
    ("pairs", "retrieval_accuracy"), ("mining", "mined_f1"), ("ranked", "lareqa_map20")])
def test_retrieval_finds_what_the_vectors_say(kind, metric):
    order = np.random.default_rng(0).permutation(20).tolist()
    gold = order if kind != "mining" else [c if c < 12 else None for c in order]
    loaded = {("test", lang): sentences(gold, lang) for lang in ("de", "fr")}
    loaded |= {("dev", lang): sentences(gold[::-1], lang) for lang in ("de", "fr")}
    found = predict.answer_languages(
        SimpleNamespace(search=kind), lambda *key: loaded[key],
        lambda examples: np.stack([vector_of(e) for e in examples]), "test", ["de", "fr"])
    for lang, answers in found:
        examples = loaded["test", lang]
        text = submission.format_answers(kind, examples, answers)
        answers = submission.parse_answers(kind, text, examples)
        values = metrics.score(metric, examples, answers, lang)
        if kind == "ranked":                 # both languages hold the same vectors: rank 1 or 2
            assert values["map@20"] >= 50
        else:
            assert set(values.values()) == {100.0}


def test_vectors_come_back_in_the_order_of_the_examples(tokenizer):
    examples = [Sentence(i, str(i), "a " * (i % 5 + 1), "query", ()) for i in range(30)]
    f = data.featurize(task("retrieval"), examples, tokenizer)
    numbers = torch.arange(30.0)
    runs = ((b, numbers[f.example[b.sequences]][:, None]) for b in data.evaluation_batches(f, 20))
    vectors = predict.DECODE["retrieval"](None, runs, f, examples, ())
    assert vectors[:, 0].tolist() == list(range(30))


def test_masks(tokenizer):
    texts = ["a <mask> b", "<mask>"]
    vocabulary = tokenizer.vocab_size
    config = model.Config(vocabulary, 16, 1, 2, 32, 34)
    head = model.make_head("mlm", config, 0, 1)
    with torch.no_grad():
        head.bias[9] = 1000.0                              # one piece wins everywhere
    both = model.Model(model.make_encoder(config), {"mlm": head})
    hardware = predict.Hardware(torch.device("cpu"), None, 1000)
    piece = tokenizer.piece(9).replace("▁", "")
    assert predict.fill_masks(both, tokenizer, texts, hardware) == [
        f"a [{piece}] b", f"[{piece}]"]


def test_unanswerable_questions_come_back_empty(tokenizer):
    examples = [Span(1, "1", "q", "alpha beta", (("beta", 6),)), Span(2, "2", "q", "gamma", ())]
    for unanswerable in (True, False):
        t = task("span", unanswerable=unanswerable)
        f = data.featurize(t, examples, tokenizer)
        answers = predict.DECODE["span"](t, gold_logits(f), f, examples, ())
        assert answers[0] == "beta" and (answers[1] == "") == unanswerable


def test_mean_states_are_means_over_all_positions():
    config = model.Config(50, 16, 2, 2, 32, 34)
    encoder = model.make_encoder(config, seed=2).eval()
    cu = torch.tensor([0, 3, 8], dtype=torch.int32)
    batch = SimpleNamespace(input_ids=torch.arange(4, 12), cu_seqlens=cu, lengths=(3, 5))
    with torch.no_grad():
        hidden = encoder(batch.input_ids, cu, batch.lengths, depth=1)
        means = predict.mean_states(encoder, batch, 1)
    assert torch.allclose(means, torch.stack([hidden[:3].mean(0), hidden[3:].mean(0)]), atol=1e-6)
    large = SimpleNamespace(config=SimpleNamespace(num_layers=24))
    assert [predict.depth_of(layer, large) for layer in (0, 7, "7c", "0c")] == [14, 7, 7, 14]


def test_centred_vectors_forget_what_a_side_shares():
    """Two languages with a direction each: all candidates are alike until it is taken off."""
    vectors = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    sides = ["candidate", "query"] * 10
    examples = [Sentence(i, str(i // 2), "", side, ()) for i, side in enumerate(sides)]
    vectors[1::2] = vectors[::2]
    shared = np.eye(6, dtype=np.float32)[[0 if side == "query" else 1 for side in sides]] * 50

    def found(vectors):
        ((_, answers),) = predict.search_pairs(lambda *_: examples, lambda _: vectors, "test", ["x"])
        return [answer for answer in answers if answer is not None]

    assert found(vectors) == list(map(str, range(10)))
    assert found(vectors + shared) != found(vectors)
    assert found(predict.centred(examples, vectors + shared)) == found(vectors)


def test_means_with_and_without_english():
    values = {"en": {"labels": True, "f1": 80.0, "exact_match": 60.0},
              "sw": {"labels": True, "f1": 50.0, "exact_match": 30.0},
              "bn": {"labels": False, "n": 3}}
    row = SimpleNamespace(metric="squad_v1")
    assert evaluation.summarise(row, values, "en") == {"official": 55.0, "zero_shot": 40.0}


def test_cells():
    assert evaluation.spread([71.26]) == "71.3"
    assert evaluation.spread([70.0, 72.0]) == "71.0 ± 1.4"
    assert evaluation.spread([None]) == "no labels"


@pytest.mark.parametrize("rows, fits", [(102, True), (104, True), (101, False), (103, False),
                                        (50, False), (5000, False)])
def test_a_vocabulary_must_fit_the_table(rows, fits):
    tokenizer = SimpleNamespace(vocab_size=102)
    config = SimpleNamespace(vocab_size=rows)
    if fits:
        predict.check_fit(tokenizer, config, "folder")
    else:
        with pytest.raises(UserError, match="embedding table"):
            predict.check_fit(tokenizer, config, "folder")


GOLD = {
    "classification": lambda e: e.label, "multiple_choice": lambda e: e.label,
    "tagging": lambda e: e.tags, "span": lambda e: e.answers[0][0] if e.answers else "",
    "pairs": lambda e: e.gold[0] if e.gold else None,
    "mining": lambda e: e.gold[0] if e.gold else None,
    "ranked": lambda e: e.gold if e.side == "query" else None}


def score_of_gold(row, examples: list, lang: str) -> float:
    """The score of the gold answers after a walk through a prediction file."""
    text = submission.format_answers(row.form, examples, [GOLD[row.form](e) for e in examples])
    answers = submission.parse_answers(row.form, text, examples)
    return evaluation.task_score(row, metrics.score(row.metric, examples, answers, lang))


@pytest.mark.parametrize("name, split, lang", [
    ("xnli", "dev", "sw"), ("udpos", "dev", "en"), ("panx", "dev", "zh"), ("hellaswag", "dev", "en"),
    ("tydiqa", "test", "sw"), ("squad2", "dev", "en"), ("tatoeba", "test", "de"),
    ("anliplus", "dev", "en"), ("qqp", "dev", "en"), ("cosmosqa", "dev", "en"),
    ("commonsenseqa", "dev", "en"), ("copa", "dev", "en"), ("xcopa", "test", "th"),
    ("upos", "dev", "en"), ("deprel", "dev", "en"), ("pawsx", "dev", "zh"), ("xquad", "test", "th"),
    ("mlqa", "test", "de"), ("bucc2018", "dev", "zh"), ("lareqa", "test", "zh")])
def test_gold_of_real_files_survives_a_prediction_file(shared, name, split, lang):
    """Official form out and in again: 100 wherever the metric allows it."""
    row = tasks.get(name)
    examples = splits.load(row, shared / "data", split, lang).examples
    assert score_of_gold(row, examples, lang) == pytest.approx(100, abs=0.2)


@pytest.mark.parametrize("row", [r for r in tasks.ROWS if r.kind != "mlm"], ids=lambda r: r.name)
def test_gold_of_every_row_survives_a_prediction_file(row):
    found = 0
    for split in [*row.files, *(["dev"] if row.members else [])]:
        for lang in splits.languages(row, TINY, split):
            loaded = splits.load(row, TINY, split, lang)
            if loaded.labelled and split != "train":
                assert score_of_gold(row, loaded.examples, lang) == 100
                found += 1
    assert found


def test_mining_needs_the_gold_of_dev():
    examples = [e._replace(gold=None) if e.side == "query" else e for e in sentences([0, 1])]
    found = predict.answer_languages(SimpleNamespace(search="mining"), lambda *_: examples,
                                     lambda _: np.eye(len(examples)), "test", ["de"])
    with pytest.raises(UserError, match="no gold to choose the threshold"):
        list(found)


def test_nothing_is_searched_among_no_candidates():
    queries = [e for e in sentences([0]) if e.side == "query"]
    found = predict.answer_languages(SimpleNamespace(search="ranked"), lambda *_: queries,
                                     lambda _: np.eye(1), "test", ["de"])
    with pytest.raises(UserError, match="no candidates"):
        list(found)


def test_a_limit_keeps_the_partners_of_the_queries(monkeypatch):
    loaded = splits.Split(sentences([19, 18]), [], 0, True)
    monkeypatch.setattr(splits, "load", lambda *_: loaded)
    kept = evaluation.load_examples(SimpleNamespace(kind="retrieval"), None, "test", "de", 1).examples
    assert [e.id for e in kept] == ["de-q0", "de-q1", "de-c0", "de-c1", "de-c18", "de-c19"]


def test_members_count_alike_however_large():
    row = SimpleNamespace(metric="accuracy")
    examples = [Classification(i, "a", "b", "yes") for i in range(10)]
    answers = ["yes"] * 8 + ["no"] * 2
    assert evaluation.score_groups(row, examples, answers, (8, 2), "en") == {"accuracy": 50.0}
    assert evaluation.score_groups(row, examples, answers, (10,), "en") == {"accuracy": 80.0}


def collapse_of(kind, golds, answers, **values):
    examples = [(i, gold) for i, gold in enumerate(golds)]
    return evaluation.collapse(SimpleNamespace(kind=kind), examples, answers, values)


def test_a_collapse_is_told_from_a_low_score():
    golds = ["a"] * 50 + ["b"] * 50
    assert collapse_of("classification", golds, ["a"] * 100) == "'a' everywhere"
    assert collapse_of("classification", golds, ["b"] + ["a"] * 99) == "'a' everywhere"
    half = ["a", "b"] * 50
    assert collapse_of("classification", golds, half).startswith("accuracy 50.0, the commonest")
    assert collapse_of("classification", golds, golds[:40] + half[40:70] + golds[70:]) == ""
    assert collapse_of("multiple_choice", [0, 1, 2, 3] * 25, [0, 1, 2, 2] * 25) == ""
    assert collapse_of("multiple_choice", [0, 1, 2, 3] * 25, [1, 1, 2, 1] * 25) == ""
    assert collapse_of("multiple_choice", [0, 1, 2, 3] * 25, [1, 2, 2, 1] * 25) != ""


def test_collapse_of_tags_and_spans():
    golds = [("O", "O", "O", "B")] * 30
    assert collapse_of("tagging", golds, [("O",) * 4] * 30, f1=0.0) == "'O' everywhere"
    mixed = [("O", "O", "B", "O")] * 30
    assert collapse_of("tagging", golds, mixed, f1=0.0) == "F1 0.0"
    assert collapse_of("tagging", golds, mixed, accuracy=50.0).startswith("accuracy 50.0")
    assert collapse_of("tagging", golds, golds, f1=100.0) == ""
    spans = [str(i) for i in range(30)]
    assert collapse_of("span", spans, [""] * 30, f1=0.0) == "'' everywhere"
    assert collapse_of("span", spans, spans, f1=9.9) == "F1 9.9"
    assert collapse_of("span", spans, spans, f1=10.1) == ""
    assert collapse_of("span", spans[:19], spans[:19], f1=0.0) == ""          # too few to tell


def test_degenerate_runs_are_counted_both_ways():
    runs = [{"inter": "mnli", "seed": seed, "target": "t", "limited": 0, "degenerate": why,
             "languages": {"en": {"n": 9, "accuracy": score}}, "official": score, "zero_shot": score}
            for seed, why, score in ((1, "", 80.0), (2, "'a' everywhere", 30.0), (3, "", 70.0))]
    table = evaluation.markdown_table(SimpleNamespace(metric="accuracy", xtreme_r=()), "test", runs)
    assert "| mnli\u2020 | 1,2,3 | 60.0 ± 26.5 |" in table
    assert "| mnli without \u2020 | 1,3 | 75.0 ± 7.1 |" in table
