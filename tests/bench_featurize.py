"""SQuAD text -> training features: ours against transformers' fast tokenizer and its run_qa.

    python tests/bench_featurize.py [DATA] [--rounds 5] [--questions 88000]

Real questions, real 250,000-piece vocabulary, sequences of 384. The peer's `stride` is an overlap,
ours a step of 128 between windows: it gets, per question length, the overlap that makes the same
windows; ids are compared. Its two sides: the tokenizer call alone, and run_qa.py's
prepare_train_features (labels included; batches of 1,000 as its map() makes them; the arrow file
that map() writes is left out, in the peer's favour). Assembling the batches is timed apart, so that
no work hides there. Last, in a process of its own, a file of 88,000 questions (the slice repeated,
a running number in each context, 5.8 questions a context) is read and featurised: its memory above
that of the interpreter with its imports.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import transformers

import benchlib
import data
import draws

LENGTH, STEP = 384, 128
MEASURE = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import data, splits, tasks, torch
torch.set_num_threads(1)
def peak():      # not getrusage: its maximum is inherited from the process that started this one
    line = next(x for x in open("/proc/self/status") if x.startswith("VmHWM"))
    return int(line.split()[1]) / 1e3
before, began = peak(), time.process_time()
task, tokenizer = tasks.get("squad"), data.Tokenizer(Path(sys.argv[3]))
examples = splits.load(task, Path(sys.argv[2]), "train", "en").examples
middle, read = peak(), time.process_time() - began
f = data.featurize(task, examples, tokenizer, train=True)
print(f"{len(examples)} questions, {len(f.example)} windows: reading {read:.1f} s, featurising "
      f"{time.process_time() - began - read:.1f} s; peak {before:.0f} MB with imports, "
      f"{middle:.0f} MB after reading, {peak():.0f} MB at the end")
print(peak() - before)
"""


def group_by_overlap(examples, tokenizer) -> dict[int, list]:
    """overlap -> the questions for which it makes our windows."""
    groups = {}
    for e in examples:
        size = len(tokenizer.encode([e.question]).ids)
        groups.setdefault(LENGTH - 4 - size - STEP, []).append(e)
    return groups


def call_peer(peer, questions, contexts, overlap):
    return peer(questions, contexts, truncation="only_second", max_length=LENGTH, stride=overlap,
                return_overflowing_tokens=True, return_offsets_mapping=True, padding=False)


def prepare_train_features(peer, questions, contexts, answers, overlap):
    """As in transformers/examples/pytorch/question-answering/run_qa.py, unpadded."""
    tokenized = call_peer(peer, [q.lstrip() for q in questions], contexts, overlap)
    sample_mapping = tokenized.pop("overflow_to_sample_mapping")
    offset_mapping = tokenized.pop("offset_mapping")
    tokenized["start_positions"], tokenized["end_positions"] = [], []
    for i, offsets in enumerate(offset_mapping):
        cls_index = tokenized["input_ids"][i].index(peer.cls_token_id)
        start, end = find_answer(tokenized.sequence_ids(i), offsets, answers[sample_mapping[i]],
                                 cls_index)
        tokenized["start_positions"].append(start)
        tokenized["end_positions"].append(end)
    return tokenized


def find_answer(sequence_ids, offsets, answer, cls_index):
    """run_qa's inner loop: first and last token of the answer, or <s> twice."""
    text, start_char = answer
    end_char = start_char + len(text)
    first = 0
    while sequence_ids[first] != 1:
        first += 1
    last = len(sequence_ids) - 1
    while sequence_ids[last] != 1:
        last -= 1
    if not (offsets[first][0] <= start_char and offsets[last][1] >= end_char):
        return cls_index, cls_index
    while first < len(offsets) and offsets[first][0] <= start_char:
        first += 1
    while offsets[last][1] >= end_char:
        last -= 1
    return first - 1, last + 1


def peer_batches(groups):
    """(questions, contexts, answers, overlap), at most 1,000 questions each."""
    for overlap, part in groups.items():
        for i in range(0, len(part), 1000):
            rows = part[i:i + 1000]
            yield ([e.question for e in rows], [e.context for e in rows],
                   [e.answers[0] for e in rows], overlap)


def drop(results) -> None:
    """Run a generator and keep nothing, as map() does; else garbage collection is measured too."""
    for _ in results:
        pass


def compare(f, features) -> None:
    """Windows must be the same; labels may differ where an answer begins inside a piece."""
    theirs = [row for chunk in features for row in zip(
        chunk["input_ids"], chunk["start_positions"], chunk["end_positions"])]
    ids, bounds = data.assemble(f, np.arange(len(f.example)))
    same = sum(ids[a:b].tolist() == row[0] for a, b, row in zip(bounds, bounds[1:], theirs))
    labels = sum(tuple(t) == row[1:] for t, row in zip(f.target.tolist(), theirs))
    print(f"{len(theirs)} windows, ours {len(f.example)}; ids equal in {same}, labels in {labels}")
    assert len(theirs) == len(f.example) == same


def write_many(examples, count: int, path: Path) -> None:
    """A SQuAD file of `count` questions over count / 5.8 contexts, no two contexts alike."""
    groups = {}
    for e in examples:
        groups.setdefault(e.context, []).append(e)
    groups = list(groups.items())
    paragraphs, written = [], 0
    while written < count:
        context, questions = groups[len(paragraphs) % len(groups)]
        due = min(count, round(5.8 * (len(paragraphs) + 1))) - written
        qas = [{"id": f"{written + i}", "question": e.question, "answers": [
            {"text": t, "answer_start": s} for t, s in e.answers]}
            for i, e in enumerate((questions * due)[:due])]
        paragraphs.append({"context": f"{context} {len(paragraphs)}", "qas": qas})
        written += due
    path.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}), encoding="utf-8")


def main():
    given = benchlib.start(__doc__, rounds=5, questions=88_000)
    task, examples, tokenizer, _ = benchlib.squad_features(given.DATA)
    groups = group_by_overlap(examples, tokenizer)
    examples = [e for part in groups.values() for e in part]              # the same order for both
    peer = transformers.XLMRobertaTokenizer.from_pretrained(given.DATA / "xlmr")
    f = data.featurize(task, examples, tokenizer, train=True)
    compare(f, [prepare_train_features(peer, *batch) for batch in peer_batches(groups)])
    order = draws.Order(f.item_lengths, 8, 0, "squad")
    times = benchlib.interleave({
        "ours": lambda: data.featurize(task, examples, tokenizer, train=True),
        "tokenizer call": lambda: drop(
            call_peer(peer, q, c, o) for q, c, _, o in peer_batches(groups)),
        "run_qa": lambda: drop(prepare_train_features(peer, *b) for b in peer_batches(groups)),
        "ours, all batches of 8": lambda: drop(
            data.make_batch(f, order(k)) for k in range(order.per_epoch)),
    }, given.rounds)
    for name, seconds in times.items():
        print(f"{name:24} {seconds:7.3f} s {len(examples) / seconds:8.0f} questions/s")
    both = times["ours"] + times["ours, all batches of 8"]
    print(f"with all batches: {times['tokenizer call'] / both:.1f} times the call, "
          f"{times['run_qa'] / both:.1f} times run_qa without its collation\n")
    benchlib.check("of the tokenizer call", times["tokenizer call"] / times["ours"], 10)
    benchlib.check("of run_qa", times["run_qa"] / times["ours"], 14)
    stored = sum(v.nbytes for v in vars(f).values() if isinstance(v, np.ndarray))
    benchlib.check("bytes stored a window", stored / len(f.example), 1100, at_most=True)
    vocabulary = Path(given.DATA) / "xlmr/sentencepiece.bpe.model"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "squad").mkdir()
        write_many(examples, given.questions, Path(folder) / "squad" / "train-v1.1.json")
        told, grown = subprocess.run(
            [sys.executable, "-c", MEASURE, benchlib.ROOT, folder, vocabulary], check=True,
            capture_output=True, text=True).stdout.splitlines()
    print(told)
    benchlib.check("MB above the interpreter", float(grown), 400, at_most=True)


if __name__ == "__main__":
    main()
