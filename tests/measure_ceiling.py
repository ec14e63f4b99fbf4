"""The highest score that span decoding can reach on real files: gold targets fed back as logits.

    python tests/measure_ceiling.py DATA VOCABULARY      DATA: the data folder

Prints a Markdown table: F1 / EM by data set and language, with answers of at most 30 pieces (the
rows' own limit) and of any length. What is missing to 100 are answers that do not end where a piece
ends, and those that are too long.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import data  # noqa: E402
import metrics  # noqa: E402
import predict  # noqa: E402
import splits  # noqa: E402
import tasks  # noqa: E402


def gold_logits(task, f):
    """(batch, logits) as if the model knew: the right start and end are far above all others."""
    for batch in data.evaluation_batches(f, 16384):
        logits = torch.zeros(len(batch.input_ids), 2)
        places = torch.from_numpy(batch.cu_seqlens[:-1, None] + f.target[batch.sequences])
        logits[places[:, 0], 0] = logits[places[:, 1], 1] = 100.0
        yield batch, logits


def ceiling(task, examples, tokenizer, lang: str) -> str:
    f = data.featurize(task, examples, tokenizer)
    answers = predict.DECODE[task.kind](task, gold_logits(task, f), f, examples, ())
    values = metrics.score(task.metric, examples, answers, lang)
    return " / ".join(f"{values[key]:.1f}" for key in metrics.MAIN[task.metric])


def main(folder: str, vocabulary: str) -> None:
    tokenizer = data.Tokenizer(Path(vocabulary))
    print("| task | language | questions | at most 30 pieces | any length |\n|---|---|---|---|---|")
    for task in tasks.TASKS.values():
        if task.kind == "span":
            for lang in splits.languages(task, Path(folder), task.eval_split):
                loaded = splits.load(task, Path(folder), task.eval_split, lang)
                if loaded.labelled:
                    cells = [ceiling(row, loaded.examples, tokenizer, lang)
                             for row in (task, replace(task, max_answer=10_000))]
                    print(f"| {task.name} | {lang} | {len(loaded.examples)} | {cells[0]} "
                          f"| {cells[1]} |", flush=True)


if __name__ == "__main__":
    np.seterr(all="raise")
    main(*sys.argv[1:])
