"""Featurising every evaluation file of XTREME and XTREME-R that is there, against the fast tokenizer.

    taskset -c 1 python tests/bench_rows.py DATA [--rounds 3]

For each row and language: ours makes the features of the whole file (windows, pairs, words with
their places); the other side is one call of transformers' fast tokenizer on the same texts, with
truncation and offsets where a task needs them, and nothing after it. Process CPU time, medians of
interleaved rounds, at most 2,000 examples a file. Needs transformers.
"""

import argparse
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path

import transformers

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import data  # noqa: E402
import splits  # noqa: E402
import tasks  # noqa: E402


def peer_call(peer, task, examples):
    """One call on what each kind gives to a tokenizer."""
    limits = {"truncation": True, "max_length": task.max_length}
    if task.kind == "classification":
        return peer([e.text_a for e in examples], [e.text_b for e in examples], **limits)
    if task.kind == "multiple_choice":
        return peer([e.context for e in examples for _ in e.endings],
                    [ending for e in examples for ending in e.endings], **limits)
    if task.kind == "tagging":
        return peer([list(e.words) for e in examples], is_split_into_words=True, **limits)
    if task.kind == "span":
        return peer([e.question for e in examples], [e.context for e in examples],
                    truncation="only_second", max_length=task.max_length,
                    stride=task.max_length - task.stride - task.max_question,
                    return_overflowing_tokens=True, return_offsets_mapping=True)
    return peer([e.text for e in examples], **limits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("DATA", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    tokenizer = data.Tokenizer(given.DATA / "xlmr/sentencepiece.bpe.model")
    peer = transformers.XLMRobertaTokenizer.from_pretrained(given.DATA / "xlmr")
    totals = defaultdict(lambda: [0.0, 0.0])
    for task in tasks.TASKS.values():
        for split in ("dev", "test") if task.benchmarks else ():
            for lang in splits.languages(task, given.DATA, split):
                examples = splits.load(task, given.DATA, split, lang).examples[:2000]
                labels = splits.labels(task, given.DATA)
                sides = (lambda: data.featurize(task, examples, tokenizer, labels),
                         lambda: peer_call(peer, task, examples))
                times = [[], []]
                for _ in range(given.rounds):
                    for run, found in zip(sides, times):
                        begin = time.process_time()
                        run()
                        found.append(time.process_time() - begin)
                for place, found in enumerate(times):
                    totals[task.name][place] += statistics.median(found)
    for name, (ours, other) in totals.items():
        print(f"{name:12} {ours:7.3f} s {other:8.3f} s {other / ours:6.1f} x")
    ours, other = map(sum, zip(*totals.values()))
    print(f"{'all':12} {ours:7.3f} s {other:8.3f} s {other / ours:6.1f} x")


if __name__ == "__main__":
    main()
