"""Compares this project's metrics with recorded outputs of the official scripts.

    python tests/check_oracle.py FILE...

A FILE is JSON: {"meta": {"metric": name}, "cases": [{"id", "input", "output", ...}]}. An output
{"error": ...} says that the official script fails; ours then has to raise UserError. Prints
"NAME: N of M agree", the first three disagreements and what cannot be run here; exits 1 on a
disagreement. All metrics and all parsing are the rooms' own.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import metrics  # noqa: E402
import readers  # noqa: E402

VALUES = ("output", "per_question", "normalized")
NOT_RUN = ("pr",)  # precision-recall areas: evaluate-v2.0.py has them only beside its plots


def run_accuracy(given: dict) -> dict:
    files = given["label_file"], given["prediction_file"]
    return {"output": metrics.accuracy(*map(metrics.read_labels, files))}


def run_tagging(given: dict) -> dict:
    files = given["label_file"], given["prediction_file"]
    values = metrics.chunk_f1(*map(metrics.read_tags, files))
    del values["accuracy"]  # ours alone: no official script has it
    return {"output": values}


def questions(given: dict) -> tuple[list, list]:
    examples = list(readers.parse_squad(given["gold"], "gold"))
    return examples, metrics.parse_answers("span", json.dumps(given["predictions"]), examples)


def run_squad_v1(given: dict) -> dict:
    examples, answers = questions(given)
    found = {"output": metrics.squad_v1(examples, answers), "per_question": {}, "normalized": {}}
    for example, answer in zip(examples, answers):
        if answer is not None:
            exact, f1 = metrics.squad_v1_question(example, answer)
            found["per_question"][example.id] = {"em": exact, "f1": f1}
            found["normalized"][example.id] = {
                "prediction": metrics.normalize(answer),
                "answers": [metrics.normalize(text) for text, _ in example.answers],
            }
    return found


def run_squad_v2(given: dict) -> dict:
    examples, answers = questions(given)
    scores = [metrics.squad_v2_question(*pair) for pair in zip(examples, answers)]
    return {
        "output": metrics.squad_v2(examples, answers, given["na_probs"], given["na_prob_thresh"]),
        "per_question": {
            example.id: {"exact": exact, "f1": f1} for example, (exact, f1) in zip(examples, scores)
        },
    }


def run_tatoeba(given: dict) -> dict:
    queries, candidates = map(np.array, (given["english_embeddings"], given["source_embeddings"]))
    rows = metrics.nearest(queries, candidates, given["normalize"]).tolist()
    examples = [
        readers.Sentence(row + 1, str(row), "", "candidate", ()) for row in range(len(candidates))
    ] + [
        readers.Sentence(row, str(row), "", "query", (str(gold),))
        for row, gold in enumerate(given["gold"], start=1)
    ]
    answers = [None] * len(candidates) + [str(row) for row in rows]
    written = metrics.format_answers("retrieval", examples, answers).split()
    output = {
        "predictions": rows,
        "written_lines": [f"[{row}]" for row in written],  # evaluate.py rejects these brackets
        **metrics.retrieval_accuracy(examples, answers),
    }
    return {"output": output}


# metric -> (how to run a case, relative tolerance)
RUNS = {
    "accuracy": (run_accuracy, 1e-9),
    "tagging_f1_panx": (run_tagging, 1e-9),
    "tagging_f1_udpos": (run_tagging, 1e-9),
    "squad_v1": (run_squad_v1, 1e-9),
    "squad_v2": (run_squad_v2, 1e-9),
    "tatoeba_search": (run_tatoeba, 1e-4),
}


def equal(expected, found, tolerance: float) -> bool:
    match expected:
        case dict():
            return expected.keys() == found.keys() and all(
                equal(value, found[key], tolerance) for key, value in expected.items()
            )
        case list():
            return len(expected) == len(found) and all(
                equal(*pair, tolerance) for pair in zip(expected, found)
            )
        case int() | float():
            return math.isclose(expected, found, rel_tol=tolerance, abs_tol=1e-12)
    return expected == found


def disagreement(case: dict, run, tolerance: float) -> str:
    """What differs between the recorded case and ours; "" when they agree."""
    should_fail = "error" in case["output"]
    try:
        found = run(case["input"])
    except readers.UserError as error:
        return "" if should_fail else f"expected {case['output']}, found the error {error}"
    except Exception as error:  # a crash is a disagreement, and the other cases still count
        return f"crashed: {error!r}"
    if should_fail:
        return f"expected the error {case['output']['error']}, found {found['output']}"
    for key in VALUES:
        if key in case and not equal(case[key], found[key], tolerance):
            return f"{key}: expected {case[key]}, found {found[key]}"
    return ""


def check_file(path: Path) -> list[str]:
    """Prints the comparison of one file and returns its disagreements."""
    record = json.loads(path.read_text(encoding="utf-8"))
    metric, cases = record["meta"]["metric"], record["cases"]
    if metric not in RUNS:
        print(f"{path.name}: {len(cases)} cases not run (no {metric} here yet)")
        return []
    found = [(case["id"], disagreement(case, *RUNS[metric])) for case in cases]
    wrong = [f"{name}: {what}" for name, what in found if what]
    print(f"{path.name}: {len(cases) - len(wrong)} of {len(cases)} agree")
    for line in wrong[:3]:
        print("   ", line[:400])
    for key in NOT_RUN:
        if count := sum(key in case for case in cases):
            print(f"    {key!r} of {count} cases not run")
    return wrong


def main(names: list[str]) -> int:
    if not names:
        print(__doc__)
        return 2
    return int(any([check_file(Path(name)) for name in names]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
