"""The evaluation room: gold fed back as logits scores 100 for each kind, means, tables, fit."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import data
import eval as evaluation
import metrics
import model
import tasks
from readers import Classification, MultipleChoice, Sentence, Span, UserError
from test_data import gold_logits, task

LABELS = ("no", "yes", "maybe")


def round_trip(t, examples, tokenizer, logits, labels=()):
    """Answers of the decoder when `logits(batch, features)` are the model's, through a file."""
    f = data.featurize(t, examples, tokenizer, labels)
    runs = ((b, logits(b, f)) for b in data.evaluation_batches(f, 60))
    answers = evaluation.DECODE[t.kind](t, runs, f, examples, labels)
    text = metrics.format_answers(t.kind, examples, answers)
    return metrics.parse_answers(t.kind, text, examples)


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


def test_retrieval(tokenizer):
    order = np.random.default_rng(0).permutation(20)
    examples = [Sentence(i, str(i), f"q {'a ' * i}", "query", (str(order[i]),)) for i in range(20)]
    examples += [Sentence(i, str(i), f"{'b ' * (20 - i)}", "candidate", ()) for i in range(20)]
    vectors = np.concatenate([np.eye(20)[order], np.eye(20)]) * 3

    def logits(b, f):
        return torch.from_numpy(vectors[f.example[b.sequences]])
    answers = round_trip(task("retrieval"), examples, tokenizer, logits)
    assert metrics.METRICS["retrieval_accuracy"](examples, answers)["accuracy"] == 100


def test_masks(tokenizer):
    texts = ["a <mask> b", "<mask>"]
    vocabulary = tokenizer.vocab_size
    config = model.Config(vocabulary, 16, 1, 2, 32, 34)
    head = model.make_head("mlm", config, 0, 1)
    with torch.no_grad():
        head.bias[9] = 1000.0                              # one piece wins everywhere
    both = model.Model(model.make_encoder(config), {"mlm": head})
    hardware = evaluation.Hardware(torch.device("cpu"), None, 1000)
    piece = tokenizer.piece(9).replace("▁", "")
    assert evaluation.fill_masks(both, tokenizer, texts, hardware) == [
        f"a [{piece}] b", f"[{piece}]"]


def test_unanswerable_questions_come_back_empty(tokenizer):
    examples = [Span(1, "1", "q", "alpha beta", (("beta", 6),)), Span(2, "2", "q", "gamma", ())]
    for unanswerable in (True, False):
        t = task("span", unanswerable=unanswerable)
        f = data.featurize(t, examples, tokenizer)
        answers = evaluation.DECODE["span"](t, gold_logits(f), f, examples, ())
        assert answers[0] == "beta" and (answers[1] == "") == unanswerable


def test_mean_states_are_means_over_all_positions():
    config = model.Config(50, 16, 2, 2, 32, 34)
    encoder = model.make_encoder(config, seed=2).eval()
    cu = torch.tensor([0, 3, 8], dtype=torch.int32)
    batch = SimpleNamespace(input_ids=torch.arange(4, 12), cu_seqlens=cu, lengths=(3, 5))
    with torch.no_grad():
        hidden = encoder(batch.input_ids, cu, batch.lengths, depth=1)
        means = evaluation.mean_states(encoder, batch, 1)
    assert torch.allclose(means, torch.stack([hidden[:3].mean(0), hidden[3:].mean(0)]), atol=1e-6)
    assert evaluation.default_depth(SimpleNamespace(config=SimpleNamespace(num_layers=24))) == 14


def test_means_with_and_without_english():
    values = {"en": {"labels": True, "f1": 80.0, "exact_match": 60.0, "degenerate": ""},
              "sw": {"labels": True, "f1": 50.0, "exact_match": 30.0},
              "bn": {"labels": False, "n": 3}}
    row = SimpleNamespace(metric="squad_v1")
    assert evaluation.summarise(row, values, "en") == {
        "official": 55.0, "zero_shot": 40.0, "degenerate": ""}


def test_cells():
    assert evaluation.spread([71.26]) == "71.3"
    assert evaluation.spread([70.0, 72.0]) == "71.0 ± 1.4"
    assert evaluation.spread([None]) == "no labels"
    assert evaluation.is_constant(["yes"] * 40) == "'yes' everywhere"
    assert evaluation.is_constant(["yes"] * 30 + ["no"] * 10) == ""


@pytest.mark.parametrize("rows, fits", [(102, True), (104, True), (101, False), (103, False),
                                        (50, False), (5000, False)])
def test_a_vocabulary_must_fit_the_table(rows, fits):
    tokenizer = SimpleNamespace(vocab_size=102)
    config = SimpleNamespace(vocab_size=rows)
    if fits:
        evaluation.check_fit(tokenizer, config, "folder")
    else:
        with pytest.raises(UserError, match="embedding table"):
            evaluation.check_fit(tokenizer, config, "folder")


@pytest.mark.parametrize("name, split, lang", [
    ("xnli", "dev", "sw"), ("udpos", "dev", "en"), ("panx", "dev", "zh"), ("hellaswag", "dev", "en"),
    ("tydiqa", "test", "sw"), ("squad2", "dev", "en"), ("tatoeba", "test", "de")])
def test_gold_of_real_files_survives_a_prediction_file(shared, name, split, lang):
    """Official form out and in again: 100 wherever the metric allows it."""
    row = tasks.get(name)
    examples = tasks.load(row, shared / "data", split, lang).examples[:2000]
    gold = {"classification": lambda e: e.label, "multiple_choice": lambda e: e.label,
            "tagging": lambda e: e.tags, "span": lambda e: e.answers[0][0] if e.answers else "",
            "retrieval": lambda e: e.gold[0] if e.gold else None}[row.kind]
    text = metrics.format_answers(row.kind, examples, [gold(e) for e in examples])
    answers = metrics.parse_answers(row.kind, text, examples)
    values = metrics.METRICS[row.metric](examples, answers)
    assert evaluation.task_score(row, values) == pytest.approx(100, abs=0.2)
