"""Time and size of the report of a 9 x 9 x 3 grid with 40 languages.

    python tests/bench_report.py [--items 1000]

The folder is invented: 270 runs (nine arms and the baseline, nine targets, three seeds), 40
languages each with `items` examples, prediction files, scores by example as the grid leaves them
beside each finished run, ten dev scores a stage. The wall time is that of one process.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np

from invent_runs import invent_run  # noqa: E402
import tasks  # noqa: E402
from studies import report, results  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--items", type=int, default=1000)
    given = parser.parse_args()
    arms = ["none", "mnli", "anliplus", "qqp", "squad", "squad2", "hellaswag", "ccg", "cosmosqa",
            "commonsenseqa"]
    targets = [row.name for row in tasks.ROWS if "xtreme" in row.benchmarks]
    languages = tasks.XTREME_40
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        places = [(arm, target, seed) for arm in arms for target in targets for seed in (1, 2, 3)]
        clusters = {lang: np.arange(given.items) for lang in languages}
        rng = np.random.default_rng(0)
        folders = [invent_run(out, *place, {lang: 100.0 * (rng.random(given.items) < 0.7)
                                            for lang in languages}, clusters) for place in places]
        began, clock = time.perf_counter(), time.process_time()
        found = {place: results.load(folder) for place, folder in zip(places, folders)}
        report.write(found, out, "", {})
        seconds, busy = time.perf_counter() - began, time.process_time() - clock
        sizes = {path.suffix: path.stat().st_size / 1e6 for path in out.glob("report.*")}
    print(f"{len(places)} runs, {len(languages)} languages, {given.items} examples each: "
          f"{seconds:.1f} s ({busy:.1f} s of one core), "
          + ", ".join(f"{name} {size:.2f} MB" for name, size in sorted(sizes.items())))
    return 0 if seconds < 10 and sizes[".html"] < 5 else 1


if __name__ == "__main__":
    sys.exit(main())
