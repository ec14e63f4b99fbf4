"""How much noise the functions really make on real files, and how gold spans come back from it.

    python tests/measure_noise.py DATA [--limit 1000] [--seed 13]      DATA: the data folder

Prints two Markdown tables. First, for each data set and language the realised rate of each noise
at severity 5 (target 10 %; n/a: does not apply), and for all severities how often it lies within
20 % of the target (swap: 50 %) or, where fewer than 500 edits are expected, within three standard
errors; and how many edits of a severity are in the next. Second, for questions how many gold spans
come back from noisy contexts exactly, and as the same or a larger span. Running text in
text/*/LANGUAGE.txt below DATA counts as a data set, too.
"""

import argparse
import math
import sys
from collections import Counter
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import readers  # noqa: E402
import splits  # noqa: E402
import tasks  # noqa: E402
from studies.perturb import (  # noqa: E402
    FUNCTIONS, RATES, calibrate, is_noised, perturb, to_clean, to_noisy)

SHOWN = FUNCTIONS[:-1]                        # natural needs a file of errors
SEVERITIES = range(1, len(RATES))


def sources(data: Path, limit: int):
    """(name, language, examples, side of retrieval in that language) of all that is there."""
    for path in sorted(data.glob("text/*/*.txt")):
        rows = readers.read_documents([path], path.stem, ())
        yield path.parent.name, path.stem, [*islice(rows, limit)], "query"
    for task in (task for task in tasks.TASKS.values() if task.benchmarks and not task.members):
        side, seen = "candidate" if task.search == "pairs" else "query", set()
        for split in (task.eval_split, "dev"):
            for lang in (x for x in splits.languages(task, data, split) if x not in seen):
                examples = [example for example in splits.load(task, data, split, lang).examples
                            if is_noised(example, side)]
                seen.add(lang)
                yield task.name, lang, examples[:limit], side


def is_met(function: str, hits: int, expected: float) -> bool:
    """The project's rule for a realised rate."""
    if expected < 500:
        return abs(hits - expected) <= 3 * math.sqrt(expected)
    return abs(hits / expected - 1) <= (0.5 if function == "swap" else 0.2)


def nested(weak, strong) -> tuple[int, int]:
    """(edits of a severity that are in the next one, edits)."""
    kept = total = 0
    for one, other in zip(weak.edits, strong.edits):
        for name, edits in one.items():
            kept += len(set(edits) & set(other.get(name, ())))
            total += len(edits)
    return kept, total


def rates(name, lang, examples, side, seed, counts) -> str:
    """A row of the first table."""
    calibration = calibrate(examples, name, lang, side=side)
    cells = []
    for function in SHOWN:
        runs = [perturb(examples, calibration, function, v, seed) for v in SEVERITIES]
        cells.append("n/a" if runs[0] is None else f"{100 * runs[-1].rate:.1f}")
        for severity, run in zip(SEVERITIES, runs if runs[0] else ()):
            hits = sum(len(edits) for found in run.edits for edits in found.values())
            expected = hits * RATES[severity] / run.rate if run.rate else 0
            met = is_met(function, hits, expected)
            counts[function, "cells"] += 1
            counts[function, "met"] += met
            if not met:
                print(f"missed: {name} {lang} {function} {severity}: {hits} edits, "
                      f"{expected:.0f} expected", file=sys.stderr)
        for weak, strong in zip(runs, runs[1:] if runs[0] else ()):
            kept, total = nested(weak, strong)
            counts["nested"] += kept
            counts["edits"] += total
    return f"| {name} | {lang} | {len(examples)} | {' | '.join(cells)} |"


def round_trip(examples, edits) -> tuple[int, int, int]:
    """(gold spans, those that come back exactly, those that come back the same or larger)."""
    spans = exact = larger = 0
    for example, found in zip(examples, edits):
        listed = found.get("context", ())
        for text, start in example.answers or ():
            if start >= 0:
                end = start + len(text)
                first, last = to_clean(example.context, listed, *to_noisy(listed, start, end))
                spans += 1
                exact += (first, last) == (start, end)
                larger += first <= start and end <= last
    return spans, exact, larger


def spans_back(name, lang, examples, seed) -> str:
    """A row of the second table."""
    calibration, cells = calibrate(examples, name, lang, fields=("context",)), []
    for function in SHOWN:
        run = perturb(examples, calibration, function, 5, seed)
        spans, exact, larger = round_trip(examples, run.edits) if run else (0, 0, 0)
        cells.append(f"{100 * exact / spans:.2f} / {100 * larger / spans:g}" if run else "n/a")
    return f"| {name} | {lang} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("DATA", type=Path)
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=13)
    given = parser.parse_args()
    counts, questions = Counter(), []
    print(f"| data set | language | examples | {' | '.join(SHOWN)} |\n{'|---' * (3 + len(SHOWN))}|")
    for name, lang, examples, side in sources(given.DATA, given.limit):
        print(rates(name, lang, examples, side, given.seed, counts), flush=True)
        if isinstance(examples[0], readers.Span) and examples[0].answers:
            questions.append((name, lang, examples))
    print("\nwithin the rule (cells of all severities): " + ", ".join(
        f"{function} {counts[function, 'met']} of {counts[function, 'cells']}"
        for function in SHOWN))
    print(f"nested: {counts['nested']} of {counts['edits']} edits\n")
    print(f"| exact / same or larger | language | {' | '.join(SHOWN)} |")
    print("|---" * (2 + len(SHOWN)) + "|")
    for question in questions:
        print(spans_back(*question, given.seed), flush=True)


if __name__ == "__main__":
    main()
