"""How much faster an attack is when the candidates of all examples are judged together.

    taskset -c 1 python tests/bench_attack.py [--examples 40] [--rounds 3]

The toy encoder with an untrained head, `chars` with 200 queries an example: in lock step, and one
candidate at a time, as a loop over score(example) would. Both ways find the same. Process CPU time,
the best of the rounds. Questions gain least: their contexts fill the core by themselves.
"""

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

import predict  # noqa: E402
import splits  # noqa: E402
import tasks  # noqa: E402
import weights  # noqa: E402
from model import Model, make_encoder, make_head  # noqa: E402
from studies.perturb import calibrate  # noqa: E402
from studies.search_attack import FIELDS, attack, char_moves, chars, target_of  # noqa: E402
from studies.victims import Judge  # noqa: E402

BAR = 5.0
SHOWN = ("xnli", "pawsx", "panx", "tydiqa")   # a row each: pairs, tagged words, questions


def make(name: str, count: int):
    """(victim, examples) with the model's own answers as gold, so that all are eligible."""
    config, state, vocabulary, _ = weights.load_encoder(ROOT / "toy/encoder")
    task, tokenizer = tasks.get(name), predict.data.Tokenizer(vocabulary)
    labels = splits.labels(task, ROOT / "toy/data")
    head = make_head(task.kind, config, len(labels), seed=0)
    hardware = predict.Hardware(torch.device("cpu"), None, 1 << 13)
    model = Model(make_encoder(config, state), {name: head})
    examples = splits.load(task, ROOT / "toy/data", "test", "toy-lex").examples[:count]
    answers = predict.predict(model, name, task, examples, tokenizer, labels, hardware)
    examples = [with_gold(e, answer) for e, answer in zip(examples, answers)]
    return Judge(model, name, task, tokenizer, labels, "toy-lex", hardware), examples


def with_gold(example, answer):
    if hasattr(example, "answers"):
        return example._replace(answers=((answer, example.context.find(answer)),))
    return example._replace(**{"tags" if hasattr(example, "tags") else "label": answer})


def seconds(victim, examples, judge, rounds: int) -> tuple[float, int, list]:
    """(CPU seconds, queries, outcomes) of an attack on all examples with this way to judge."""
    calibration = calibrate(examples, victim.task.name, "toy-lex", (FIELDS[type(examples[0])],))
    normalise = victim.tokenizer.processor.normalize
    clean = victim(examples)

    def search(example):
        target = target_of(example, calibration, 13)
        return chars(target, char_moves(target, calibration, normalise))

    times = []
    for _ in range(rounds):
        begin = time.process_time()
        found = attack(judge, examples, clean, search, 200)
        times.append(time.process_time() - begin)
    return min(times), sum(one.queries for one in found if one), found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--examples", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| task | queries | together, queries/s | one by one | times faster | same outcomes |")
    print("|---|---|---|---|---|---|")
    for name in SHOWN:
        victim, examples = make(name, given.examples)
        batched, queries, found = seconds(victim, examples, victim, given.rounds)
        alone, _, other = seconds(victim, examples,
                                  lambda listed: [victim([one])[0] for one in listed], 1)
        same = sum(a.fooled == b.fooled and a.strongest == b.strongest
                   for a, b in zip(found, other) if a and b)
        print(f"| {name} | {queries:,} | {queries / batched:,.0f} | {queries / alone:,.0f} | "
              f"{alone / batched:.1f} (bar {BAR:.0f}) | {same} of {len(examples)} |", flush=True)


if __name__ == "__main__":
    main()
