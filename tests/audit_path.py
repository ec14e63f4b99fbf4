"""Count the lines of ours that `--inter squad --target tydiqa` executes.

    python tests/audit_path.py FOLDER        FOLDER receives the run

Runs the toy command with few steps under sys.settrace and prints the executed lines per room; a line
is counted once, definitions and docstrings are not counted.
"""

import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
COMMAND = ["--inter", "squad", "--target", "tydiqa", "--set", "steps=3", "--set", "evaluations=1"]


def main(folder: str) -> None:
    import stilts
    executed = defaultdict(set)

    def trace(frame, event, argument):
        path = Path(frame.f_code.co_filename)
        if path.parent != ROOT:
            return None
        if event == "line":
            executed[path.name].add(frame.f_lineno)
        return trace

    sys.settrace(trace)
    code = stilts.main([*COMMAND, "--out", f"{folder}/runs"])
    sys.settrace(None)
    for name, numbers in sorted(executed.items()):
        print(f"{len(numbers)} {name}")
    print(f"{sum(map(len, executed.values()))} lines on the audit path")
    sys.exit(code)


if __name__ == "__main__":
    main(sys.argv[1])
