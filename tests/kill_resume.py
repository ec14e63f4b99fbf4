"""Kill -9 a run again and again at drawn moments, resume it, compare every byte of the results.

    python tests/kill_resume.py [--kills 20] [--seed 0] [--ranks 1] [--break moments|counters] [--grid]

The run is the toy command with few steps and dropout or, with --grid, a grid of two arms, two
targets and two seeds with its report. Each life of it is a forked process that kills itself at its
n-th event, n drawn over the whole run; events are training and evaluation batches and every fsync,
rename and unlink, so that kills fall into training, evaluation and the save itself. Ranks
take turns in dying, and the others must then end with 2. When a life gets to the end,
its weights, prediction files, scores and logs must equal those of a run that was never killed.
--break damages the resume on purpose: the comparison must then fail.
Prints `N kills, M of M runs identical`; exit 1 if any differs.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

import data  # noqa: E402
import forks  # noqa: E402
import stilts  # noqa: E402
import train  # noqa: E402
from studies import grid  # noqa: E402

SMALL = ["--limit", "30", "--set", "steps=24", "--set", "evaluations=4", "--set", "batch_size=4"]
COMMAND = ["--inter", "squad", "--target", "tatoeba", *SMALL]
GRID = ["--inter", "none,squad", "--target", "tydiqa,udpos", "--seed", "1,2", *SMALL]


def count_events(kill_at: int) -> list[int]:
    """Make every event count; at number `kill_at` this process dies without a word."""
    seen = [0]

    def counted(function):
        def wrapper(*args, **kwargs):
            seen[0] += 1
            if seen[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)
        return wrapper

    for owner, name in ((data, "assemble"), (os, "fsync"), (os, "rename"), (os, "replace"),
                        (os, "unlink"), (os, "rmdir")):
        setattr(owner, name, counted(getattr(owner, name)))
    return seen


def damage(what: str) -> None:
    """A resume that forgets something, as negative control."""
    whole = train.resume

    def resume(folder, setup):
        state = whole(folder, setup)
        if what == "moments":
            setup.optimizer.state.clear()
        elif state.counters:
            state.counters = {name: count + 1 for name, count in state.counters.items()}
        return state

    train.resume = resume


def make_encoder(folder: Path) -> None:
    """The toy encoder with XLM-R's dropout."""
    shutil.copytree(ROOT / "toy/encoder", folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    (folder / "config.json").write_text(json.dumps(config))


def live(out: Path, count: int, is_grid: bool, broken: str = "", victim: int = 0,
         kill_at: int = 0) -> list[int]:
    """One life of the run; exit codes of its ranks, of which the victim dies at event kill_at."""
    places = ["--model", out.parent / "encoder", "--data", ROOT / "toy/data", "--out", out]

    def work(rank):
        seen = count_events(kill_at if rank == victim else 0)
        if broken:
            damage(broken)
        command, main_of = (GRID, grid.main) if is_grid else (COMMAND, stilts.main)
        code = main_of([*command, *map(str, places)])
        (out.parent / f"events-{rank}").write_text(str(seen[0]))
        return code

    return forks.Ranks(count, work, out.parent).wait()


def results(out: Path) -> dict[str, str]:
    """File -> sha256 of what a run leaves: logs without their clock."""
    found = {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if path.is_dir() or path.name in ("lock", "config.json"):
            continue
        content = path.read_bytes()
        if path.name == "train.jsonl":
            rows = [json.loads(line) for line in content.decode().split("\n") if line]
            content = json.dumps([{k: v for k, v in r.items() if k != "seconds"}
                                  for r in rows]).encode()
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--break", dest="broken", choices=("moments", "counters"), default="")
    parser.add_argument("--grid", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    draw = random.Random(given.seed)
    folder = Path(tempfile.mkdtemp())
    make_encoder(folder / "encoder")
    assert not any(live(folder / "whole", given.ranks, given.grid)), "the uninterrupted run failed"
    events = [int((folder / f"events-{rank}").read_text()) for rank in range(given.ranks)]
    whole = results(folder / "whole")
    kills = runs = same = 0
    while kills < given.kills:
        out = folder / f"run{runs}"
        codes = [-9]
        while -9 in codes:
            victim = kills % given.ranks
            kill_at = draw.randint(1, events[victim] * 2 // 3)
            codes = live(out, given.ranks, given.grid, given.broken, victim, kill_at)
            kills += -9 in codes
            assert set(codes) in ({0}, {-9}, {-9, 2}), f"a resumed run ended with {codes}"
        runs += 1
        different = [n for n, sha in results(out).items() if whole.get(n) != sha]
        different += [n for n in whole if n not in results(out)]
        same += not different
        if different:
            print(f"run {runs}: {len(different)} files differ, as {different[0]}")
    shutil.rmtree(folder)
    print(f"{kills} kills over {max(events)} events, {same} of {runs} runs identical")
    return 0 if same == runs else 1


if __name__ == "__main__":
    sys.exit(main())
