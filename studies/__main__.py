"""Studies beyond one run: python -m studies NAME ..., each with its own --help."""

import sys
from importlib import import_module

from files import UserError

STUDIES = {"conventions": "studies.conventions", "grid": "studies.grid",
           "claims": "studies.claims", "noise": "studies.noise",
           "reasoning": "studies.reasoning", "attack": "studies.attack",
           "lowres": "studies.lowres", "syntax": "studies.syntax"}  # name -> module with main()


def main(arguments: list[str]) -> int:
    """Exit code: what the study returns, 2 after an error of the user."""
    name = arguments[0] if arguments else ""
    if name in ("-h", "--help"):
        print(f"{__doc__}\n\nNAME: {', '.join(STUDIES)}")
        return 0
    try:
        if name not in STUDIES:
            raise UserError(f"unknown study {name!r} (expected one of {', '.join(STUDIES)})")
        return import_module(STUDIES[name]).main(arguments[1:])
    except UserError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
