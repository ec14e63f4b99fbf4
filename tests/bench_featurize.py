"""SQuAD text -> training features: ours against transformers' fast tokenizer and run_qa.

    python tests/bench_featurize.py [DATA] [--rounds 5] [--questions 88000]

Real questions, real 250,000-piece vocabulary, windows of 384. The peer's `stride` is an overlap, ours
a step of 128 pieces between windows; it gets, per question length, the overlap that makes the same
windows, and token ids and answer positions are compared. Its two sides: the tokenizer call alone,
and run_qa.py's prepare_train_features (labels included, batches of 1,000 as its map() calls it, its
arrow files left out, in its favour). Assembling all batches of 8 is timed too, on both sides. Last, a file
of 88,000 questions, 5.8 a context, every context different, is read and featurised in a process of
its own: memory above the interpreter with its imports.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import benchlib
import data
import tasks

LENGTH, STEP, QUESTION = 384, 128, 64


def group_by_overlap(examples, tokenizer) -> dict[int, list]:
    """overlap -> questions whose windows it makes ours; run_qa strips questions on the left."""
    groups = {}
    for e in examples:
        size = len(tokenizer.encode([e.question.lstrip()]).ids)
        assert size <= QUESTION, "transformers does not cut questions"
        groups.setdefault(LENGTH - 4 - size - STEP, []).append(e)
    return groups


def call_peer(peer, questions, contexts, overlap):
    return peer(questions, contexts, truncation="only_second", max_length=LENGTH, stride=overlap,
                return_overflowing_tokens=True, return_offsets_mapping=True, padding=False)


def columns(examples) -> dict[str, list]:
    """What a datasets map() hands to run_qa."""
    return {"question": [e.question for e in examples], "context": [e.context for e in examples],
            "answers": [{"text": [t for t, _ in e.answers], "answer_start": [s for _, s in e.answers]}
                        for e in examples]}


def prepare_train_features(peer, examples, overlap):
    """examples/pytorch/question-answering/run_qa.py of transformers, without padding."""
    examples["question"] = [q.lstrip() for q in examples["question"]]
    tokenized = call_peer(peer, examples["question"], examples["context"], overlap)
    sample_mapping = tokenized.pop("overflow_to_sample_mapping")
    offset_mapping = tokenized.pop("offset_mapping")
    tokenized["start_positions"], tokenized["end_positions"] = [], []
    for i, offsets in enumerate(offset_mapping):
        start, end = label(tokenized, i, offsets, examples["answers"][sample_mapping[i]],
                           tokenized["input_ids"][i].index(peer.cls_token_id))
        tokenized["start_positions"].append(start)
        tokenized["end_positions"].append(end)
    return tokenized


def label(tokenized, i, offsets, answers, cls_index):
    """The inner loop of run_qa: first and last token of the answer, or cls twice."""
    sequence_ids = tokenized.sequence_ids(i)
    if len(answers["answer_start"]) == 0:
        return cls_index, cls_index
    start_char = answers["answer_start"][0]
    end_char = start_char + len(answers["text"][0])
    first = 0
    while sequence_ids[first] != 1:
        first += 1
    last = len(tokenized["input_ids"][i]) - 1
    while sequence_ids[last] != 1:
        last -= 1
    if not (offsets[first][0] <= start_char and offsets[last][1] >= end_char):
        return cls_index, cls_index
    while first < len(offsets) and offsets[first][0] <= start_char:
        first += 1
    while offsets[last][1] >= end_char:
        last -= 1
    return first - 1, last + 1


def run_peer(peer, groups, step):
    """Features of all groups in batches of 1,000 questions."""
    return [step(peer, columns(part[i:i + 1000]), overlap)
            for overlap, part in groups.items() for i in range(0, len(part), 1000)]


def compare(f, groups, examples, features) -> None:
    """Same windows, ids and labels? A window's label may differ where one answer starts inside a piece."""
    theirs = [row for chunk in features for row in zip(
        chunk["input_ids"], chunk["start_positions"], chunk["end_positions"])]
    place = {e.row: i for i, e in enumerate(examples)}
    order = {place[e.row]: i for i, e in enumerate(e for part in groups.values() for e in part)}
    items = sorted(range(len(f.example)), key=lambda s: (order[f.example[s]], f.b[s, 0]))
    assert len(items) == len(theirs), (len(items), len(theirs))
    ids, bounds = data.assemble(f, np.array(items))
    same = [ids[a:b].tolist() == row[0] for a, b, row in zip(bounds, bounds[1:], theirs)]
    labels = [tuple(f.target[s]) == row[1:] for s, row in zip(items, theirs)]
    print(f"{len(items)} windows on both sides, ids equal in {sum(same)}, labels in {sum(labels)}")


def stored_bytes(f) -> int:
    return sum(v.nbytes for v in vars(f).values() if isinstance(v, np.ndarray))


def write_many(examples, count: int, path: Path) -> None:
    """A SQuAD file of `count` questions: the slice repeated, 5.8 questions a context, each numbered."""
    contexts = {}
    for e in examples:
        contexts.setdefault(e.context, []).append(e)
    paragraphs, written, turn = [], 0, 0
    while written < count:
        for context, questions in contexts.items():
            room = round(5.8 * (len(paragraphs) + 1)) - written
            chosen = questions[:max(1, min(room, count - written))]
            number = f" {len(paragraphs)}"
            paragraphs.append({"context": context + number, "qas": [
                {"id": f"{turn}-{e.id}", "question": e.question,
                 "answers": [{"text": t, "answer_start": s} for t, s in e.answers]} for e in chosen]})
            written += len(chosen)
            if written >= count:
                break
        turn += 1
    path.write_text(json.dumps({"data": [{"title": "", "paragraphs": paragraphs}]}), encoding="utf-8")
    print(f"{written} questions, {written / len(paragraphs):.2f} a context")


MEASURE = """
import resource, sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import data, tasks, torch
torch.set_num_threads(1)
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, began = peak(), time.process_time()
task = tasks.get("squad")
tokenizer = data.Tokenizer(Path(sys.argv[3]))
examples = tasks.load(task, Path(sys.argv[2]), "train", "en").examples
read, after_read = time.process_time(), peak()
f = data.featurize(task, examples, tokenizer, train=True)
print(before, after_read, peak(), read - began, time.process_time() - read, len(f.example))
"""
