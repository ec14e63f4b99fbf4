"""Run a whole grid in two shards, kill both with SIGKILL again and again, compare every byte.

    python tests/kill_grid.py UNDISTURBED OUT [--kills 10] [--minutes 60] -- GRID ARGUMENTS

UNDISTURBED: the --out folder of the same grid, run to its end without a kill. The grid arguments
(all but --out and --shard) are given to `python -m studies grid` with --out OUT and --shard 1/2 and
2/2. The moments of the kills are drawn over `minutes`, a guess of the time the grid takes; a kill
ends both processes and all that they hold, and both begin again. At the end the weights, prediction
files, scores, logs (without their clock) and the report must equal those of UNDISTURBED.
Prints kills, CPU time and what differs; exit 1 if anything does. OUT.log keeps the shards' output.
"""

import argparse
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

from kill_resume import ROOT, results

SHARDS = 2


def start(out: Path, arguments: list[str]) -> list[subprocess.Popen]:
    command = [sys.executable, "-m", "studies", "grid", *arguments, "--out", str(out)]
    log = open(out.with_name(out.name + ".log"), "a", encoding="utf-8")
    return [subprocess.Popen([*command, "--shard", f"{number}/{SHARDS}"], cwd=ROOT, stdout=log,
                             stderr=log) for number in range(1, SHARDS + 1)]


def wait(shards: list[subprocess.Popen], until: float) -> bool:
    """True when all shards have ended by themselves, False when the time has come."""
    while any(shard.poll() is None for shard in shards):
        if time.monotonic() > until:
            return False
        time.sleep(1)
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("UNDISTURBED", type=Path)
    parser.add_argument("OUT", type=Path)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("GRID", nargs="+")
    given = parser.parse_args()
    out = given.OUT.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    began, draw, kills = time.monotonic(), random.Random(given.seed), 0
    moments = sorted(draw.uniform(0, given.minutes * 60) for _ in range(given.kills))
    shards = start(out, given.GRID)
    for moment in moments:
        if wait(shards, began + moment):
            break
        for shard in shards:
            shard.kill()
            shard.wait()
        kills += 1
        shards = start(out, given.GRID)
    wait(shards, float("inf"))
    codes = [shard.returncode for shard in shards]
    whole, found = results(given.UNDISTURBED), results(out)
    different = [name for name in {*whole, *found} if whole.get(name) != found.get(name)]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{kills} kills of {SHARDS} processes, exit codes {codes}; {len(found)} files, "
          f"{len(different)} differ{', as ' + min(different) if different else ''}; "
          f"{(used.ru_utime + used.ru_stime) / 60:.1f} minutes of CPU time, "
          f"{(time.monotonic() - began) / 60:.1f} in all")
    return 1 if different or any(codes) or kills < given.kills else 0


if __name__ == "__main__":
    sys.exit(main())
