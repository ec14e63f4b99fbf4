"""Finding kept features against making them, for every training and evaluation file that is there.

    taskset -c 1 python tests/bench_features.py DATA FOLDER

FOLDER receives the features and may be removed afterwards. For each kind of task: process CPU time
of making them, of hashing their examples, of writing them (and the time in all, which waits for the
disk) and of reading them with all checks; one thread, one round. What is read must equal what was
made.
"""

import argparse
import dataclasses
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import data  # noqa: E402
import features  # noqa: E402
import splits  # noqa: E402
import tasks  # noqa: E402
from files import UserError  # noqa: E402


def files(folder: Path):
    """(task, examples, labels) of every file."""
    for task in tasks.TASKS.values():
        for split in task.files:
            for lang in splits.languages(task, folder, split):
                try:
                    labels = splits.labels(task, folder)
                    yield task, splits.load(task, folder, split, lang).examples, labels
                except UserError as problem:
                    print(f"left out: {problem}", file=sys.stderr)


def timed(run):
    """What run() gives, its CPU time and its time in all."""
    begin, start = time.process_time(), time.monotonic()
    result = run()
    return result, time.process_time() - begin, time.monotonic() - start


def measure(task, examples, labels, tokenizer, folder: Path) -> np.ndarray:
    """Seconds of making, hashing, writing, writing in all, reading; then MB and examples."""
    arguments = task, examples, tokenizer, labels, False
    made, making, _ = timed(lambda: data.featurize(*arguments))
    key, hashing, _ = timed(lambda: features.feature_key(*arguments))
    path = folder / f"{key}.safetensors"
    _, writing, waiting = timed(lambda: features.write_features(path, made))
    found, reading, _ = timed(lambda: features.read_features(path, *arguments[:4]))
    for one, other in zip(dataclasses.astuple(made), dataclasses.astuple(found)):
        assert np.array_equal(one, other), (task.name, path)
    size = path.stat().st_size / 1e6
    return np.array([making, hashing, writing, waiting, reading, size, len(examples)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("DATA", type=Path)
    parser.add_argument("FOLDER", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = data.Tokenizer(given.DATA / "xlmr/sentencepiece.bpe.model")
    totals = defaultdict(lambda: np.zeros(7))
    for task, *arguments in files(given.DATA):
        totals[task.kind] += measure(task, *arguments, tokenizer, given.FOLDER)
    totals["all"] = sum(totals.values())
    for kind, (making, hashing, writing, waiting, reading, size, count) in totals.items():
        print(f"{kind:16} {count:9,.0f} examples, {size:5.1f} MB: made in {making:5.2f} s, found "
              f"in {hashing:4.2f} + {reading:4.2f} s, {making / (hashing + reading):3.1f} times; "
              f"written in {writing:4.2f} s ({waiting:4.2f} in all)")


if __name__ == "__main__":
    main()
