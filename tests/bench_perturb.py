"""Sentences a second of each noise function, on Tatoeba's short texts, after calibration.

    taskset -c 1 python tests/bench_perturb.py DATA [--rounds 5]

Process CPU time of one core, best of the rounds; each cell: at severity 3 / at severity 5. The time
covers everything that perturb() does: words, digests, edits, new examples, and the share that is
still seen after NFKC.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import splits  # noqa: E402
import tasks  # noqa: E402
from studies.perturb import FUNCTIONS, calibrate, perturb  # noqa: E402

SHOWN = FUNCTIONS[:-1]                        # natural needs a file of errors


def speed(examples, calibration, function: str, severity: int, rounds: int) -> float | None:
    """Examples a second; None where the function does not apply."""
    times = []
    for _ in range(rounds):
        begin = time.process_time()
        run = perturb(examples, calibration, function, severity, 13)
        times.append(time.process_time() - begin)
    return None if run is None else len(examples) / min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("DATA", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    task = tasks.get("tatoeba")
    print(f"| language | characters | calibrate | {' | '.join(SHOWN)} |")
    print("|---" * (3 + len(SHOWN)) + "|")
    for lang in splits.languages(task, given.DATA, "test"):
        loaded = splits.load(task, given.DATA, "test", lang).examples
        examples = [example for example in loaded if example.side == "candidate"]
        begin = time.process_time()
        calibration = calibrate(examples, task.name, lang, side="candidate")
        cells = [f"{len(examples) / (time.process_time() - begin):,.0f}"]
        for function in SHOWN:
            speeds = [speed(examples, calibration, function, v, given.rounds) for v in (3, 5)]
            cells.append(" / ".join("n/a" if s is None else f"{s:,.0f}" for s in speeds))
        length = sum(len(example.text) for example in examples) / len(examples)
        print(f"| {lang} | {length:.0f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
