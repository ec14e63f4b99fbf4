"""The paper's findings as a ledger: a written rule for each, applied to full-size runs.

    python -m studies claims RUNS

    claims.json --questions--> Comparison of each --Holm over all--> verdicts, one row a claim

A difference is one of XTREME's task scores (XTREME's languages, English included) or of their mean
over targets, between runs of two arms with the same seeds. Rules (fields of claims.json):

difference  one arm against the baseline. "gain": the interval over seeds and items lies above 0
            and p after Holm is below .05; "loss" likewise; "consistent with the paper's number":
            that number lies in the interval. A number marked [rem] is remembered, printed, and
            asserted nowhere.
many        of the arms (with a suffix: against themselves without it), at least half gain, by more
            than `least` points where that is given; expected false: fewer than half do.
best        the arm against the best of the others by the same mean, chosen on the same data.
chosen      for each target the best of the arms, by English dev (as the best step is chosen) or by
            the target languages' dev, measured on test. A target without such a dev set takes the
            arm that is best in the mean over those with one.
layers      retrieval: arm against baseline at each layer of which both have runs (--layer N, or Nc
            with centred vectors): a gain that centring takes away is one of isotropy.

All seeds of a folder count, restarted ones where both arms have them; where runs are degenerate the
mean is told without them, too. Split "dev" means each target's dev set in all languages or, where
there is none, its only one.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import tasks
from checkpoints import log
from files import UserError
from studies import page, results, statistics
from studies.results import BASELINE, Comparison, Run

LEDGER = Path(__file__).with_name("claims.json")
MISSING = "runs missing"


@dataclass(frozen=True)
class Question:
    """Arms of several targets against others: one comparison, asked once for all its claims."""

    arms: tuple[str, ...]           # of each target
    against: tuple[str, ...]
    targets: tuple[str, ...]
    splits: tuple[str, ...]
    layer: str = "0"


class Evidence:
    """All finished runs of a folder, and the answers to the questions asked of them."""

    def __init__(self, folder: Path):
        self.runs: dict[tuple, dict[int, Run]] = {}     # (arm, target, split, layer) -> by seed
        self.answers: dict[Question, Comparison | None] = {}
        self.weights = set()
        for path in sorted(path.parent for path in folder.glob("*/metrics.json")):
            run = results.load(path)
            if not run or run.record["limited"]:
                log(f"{path}: {'LIMITED' if run else 'not finished'}, left out")
                continue
            if run.record["world"] != "real":
                raise UserError("a run of the toy world says nothing about the paper", path)
            key = run.config["key"]
            if "robust" in key:
                log(f"{path}: trained by {key['robust']}, left out")
                continue
            place = key["inter"], key["target"], key["split"], str(key["layer"])
            self.runs.setdefault(place, {})[key["seed"]] = run
            self.weights.add((key["weights"], run.config["paths"]["model"]))
        if len({digest for digest, _ in self.weights}) != 1:
            raise UserError("expected finished full-size runs of one encoder, found those of "
                            f"{len(self.weights)}", folder)

    def found(self, arm: str, target: str, split: str, layer: str = "0") -> dict[int, Run]:
        return self.runs.get((arm, target, split, layer), {})

    def ask(self, question: Question) -> Comparison | None:
        """None where runs are missing."""
        if question not in self.answers:
            sides = [[self.found(arm, target, split, question.layer) for arm, target, split
                      in zip(arms, question.targets, question.splits)]
                     for arms in (question.arms, question.against)]
            self.answers[question] = results.against(*sides, languages=Run.official)
        return self.answers[question]

    def lacks(self, question: Question) -> str:
        """The runs that an unanswered question misses."""
        wanted = [(arm, target, split) for arms in (question.against, question.arms)
                  for arm, target, split in zip(arms, question.targets, question.splits)]
        missing = [place for place in wanted if not self.found(*place, question.layer)]
        names = ", ".join(f"{arm} -> {target} {split}" for arm, target, split in missing[:3])
        return (f"no {names}" + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
                if missing else "no common seed")

    def verdicts(self) -> dict[Question, str]:
        """gain, loss or cannot tell, with Holm's correction over all questions that were asked."""
        told = [question for question, answer in self.answers.items() if answer]
        adjusted = statistics.holm([self.answers[question].p for question in told])
        return {question: statistics.verdict(self.answers[question].both, p)
                for question, p in zip(told, adjusted)}


# ------------------------------------------------------------------ from a claim to questions


def targets_of(claim: dict) -> tuple[str, ...]:
    if isinstance(claim["targets"], list):
        return tuple(claim["targets"])
    rows = [row for row in tasks.ROWS if "xtreme" in row.benchmarks]
    return tuple(row.name for row in rows if claim["targets"] == "xtreme" or row.train_on)


def split_of(target: str, wanted: str) -> str:
    """"dev" where the row has dev files; else the split it is evaluated on."""
    row = tasks.get(target)
    return wanted if wanted in row.files else row.eval_split


def question(arm, claim: dict, against: str = BASELINE, layer: str = "0") -> Question:
    """arm: one for all targets, or a tuple with one for each."""
    targets = targets_of(claim)
    arms = arm if isinstance(arm, tuple) else (arm,) * len(targets)
    return Question(arms, (against,) * len(targets), targets,
                    tuple(split_of(target, claim["split"]) for target in targets), layer)


# Each rule: claim, evidence -> [(label, question)]; [] where a choice between arms lacks runs.


def ask_one(claim: dict, evidence: Evidence) -> list[tuple[str, Question]]:
    return [("", question(claim["arm"], claim))]


def ask_many(claim: dict, evidence: Evidence) -> list[tuple[str, Question]]:
    pairs = [(arm + suffix, arm) for arm in claim["arms"] for suffix in claim.get("suffix", ())]
    pairs = pairs or [(arm, claim.get("against", BASELINE)) for arm in claim["arms"]]
    return [(arm, question(arm, claim, other)) for arm, other in pairs]


def ask_layers(claim: dict, evidence: Evidence) -> list[tuple[str, Question]]:
    layers = {layer for _, target, _, layer in evidence.runs
              if [target] == claim["targets"] and layer != "0"}
    order = sorted(layers, key=lambda name: (int(name.removesuffix("c")), name))
    return [(f"layer {layer}", question(claim["arm"], claim, layer=layer)) for layer in order]


def ask_best(claim: dict, evidence: Evidence) -> list[tuple[str, Question]]:
    """Against the arm with the largest mean difference."""
    values = {arm: evidence.ask(question(arm, claim)) for arm in claim["arms"]}
    if not all(values.values()):
        return []
    best = max(values, key=lambda arm: values[arm].value)
    return [(f"against {best}", question(claim["arm"], claim, best))]


def ask_chosen(claim: dict, evidence: Evidence) -> list[tuple[str, Question]]:
    """The best arm for each target by dev scores."""
    arms, targets = [*claim["arms"], claim["arm"]], targets_of(claim)
    measure = english_dev if claim["by"] == "english" else target_dev
    table = {target: [measure(evidence, arm, target) for arm in arms]
             for target in targets if has_dev(target, claim["by"])}
    if any(None in scores for scores in table.values()):
        return []
    table["mean"] = [mean(scores) for scores in zip(*table.values())]
    best = {target: arms[scores.index(max(scores))] for target, scores in table.items()}
    chosen = tuple(best.get(target, best["mean"]) for target in targets)
    label = ", ".join(f"{target}: {arm}" for target, arm in zip(targets, chosen))
    return [(label, question(chosen, claim))]


RULES = {"difference": ask_one, "many": ask_many, "layers": ask_layers, "best": ask_best,
         "chosen": ask_chosen}


def has_dev(target: str, by: str) -> bool:
    row = tasks.get(target)
    return bool(row.train_on) if by == "english" else "dev" in row.files


def english_dev(evidence: Evidence, arm: str, target: str) -> float | None:
    """Mean over seeds of the best English dev score of the target's training."""
    found = evidence.found(arm, target, split_of(target, "test")).values()
    curves = [results.dev_points(run.folder.parent / "stages" / run.config["key"]["stages"][-1])
              for run in found]
    best = [max(score for _, score in curve) for curve in curves if curve]
    return mean(best) if best else None


def target_dev(evidence: Evidence, arm: str, target: str) -> float | None:
    """Mean over seeds and XTREME's languages of the dev score."""
    found = evidence.found(arm, target, "dev").values()
    scores = [run.score(lang) for run in found for lang in run.official()]
    return mean(scores) if scores else None


# ----------------------------------------------------------------------------- the ledger


def ledger(folder: Path, claims: dict) -> tuple[list[dict], set]:
    """(rows with claim, split, label, answer, verdict, paper, holds; encoders).

    holds: "yes", "no", "cannot tell", or "" where nothing is asserted.
    """
    evidence = Evidence(folder)
    asked = []
    for claim in claims["ledger"]:
        if claim.get("arms") == "nine":
            claim = claim | {"arms": claims["nine"]}
        found = RULES[claim["rule"]](claim, evidence)
        for _, one in found:
            evidence.ask(one)
        asked.append((claim, found))
    verdicts = evidence.verdicts()
    rows = [row for claim, found in asked for row in claim_rows(claim, found, evidence, verdicts)]
    return rows, evidence.weights


def claim_rows(claim: dict, found: list, evidence: Evidence, verdicts: dict) -> list[dict]:
    """The rows of one claim: one, or one for each layer."""
    common = {"claim": claim["claim"], "split": split_text(claim), "paper": claim.get("paper"),
              "seen": claim.get("seen", False)}
    if claim["rule"] == "many":
        return [common | count_row(claim, found, evidence, verdicts)]
    rows = []
    for label, one in found or [("", None)]:
        answer = evidence.answers.get(one)
        row = {"label": label if answer or not one else evidence.lacks(one), "answer": answer,
               "holds": "",
               "verdict": verdicts[one] if answer else MISSING}
        if answer and common["seen"]:
            is_consistent = answer.both.low <= claim["paper"] <= answer.both.high
            row["verdict"] += ", consistent with the paper's number" if is_consistent else ""
            row["holds"] = "yes" if is_consistent else "no"
        elif answer and claim["rule"] == "best":
            row["holds"] = {"gain": "yes", "loss": "no"}.get(row["verdict"], "cannot tell")
        rows.append(common | row)
    return rows


def count_row(claim: dict, found: list, evidence: Evidence, verdicts: dict) -> dict:
    """Of `many`: how many arms gain, and what that says while others cannot tell or are missing."""
    words = {label: word_of(one, claim, evidence, verdicts) for label, one in found}
    count = {word: sum(w == word for w in words.values())
             for word in ("gain", "loss", "cannot tell", MISSING)}
    half, verdict, is_many = len(words) / 2, "cannot tell", None
    if count["gain"] >= half:
        verdict, is_many = "gain", True
    elif count["gain"] + count["cannot tell"] + count[MISSING] < half:
        verdict, is_many = "loss" if count["loss"] >= half else "cannot tell", False
    elif count[MISSING]:
        verdict = MISSING
    holds = "" if verdict == MISSING else "cannot tell"
    if is_many is not None:
        holds = "yes" if is_many == claim.get("expected", True) else "no"
    label = "; ".join(f"{number} {word}: {', '.join(a for a, w in words.items() if w == word)}"
                      for word, number in count.items() if number)
    return {"label": label, "answer": None, "verdict": verdict, "holds": holds}


def word_of(one: Question, claim: dict, evidence: Evidence, verdicts: dict) -> str:
    """The verdict of one arm; a gain below `least` points cannot be told from a smaller one."""
    answer = evidence.answers[one]
    if not answer:
        return MISSING
    is_small = verdicts[one] == "gain" and answer.both.low <= claim.get("least", 0)
    return "cannot tell" if is_small else verdicts[one]


def split_text(claim: dict) -> str:
    """`dev (test of xquad, tydiqa, tatoeba)`: which data a row is measured on."""
    other = [target for target in targets_of(claim)
             if split_of(target, claim["split"]) != claim["split"]]
    return claim["split"] + (f" ({split_of(other[0], claim['split'])} of {', '.join(other)})"
                             if other else "")


def cells(row: dict) -> list[str]:
    """One row of the printed table."""
    answer, paper = row["answer"], ""
    if row["paper"] is not None:
        paper = f"{row['paper']:+.1f}" + ("" if row["seen"] else " [rem]")
    measured = ""
    if answer:
        values = " ".join(f"{value:+.1f}" for value in answer.by_seed)
        measured = (f"{answer.value:+.2f} ({answer.both.low:+.2f} to {answer.both.high:+.2f}); "
                    f"seeds {values}; {answer.clusters:,} units, "
                    f"detectable {answer.detectable:.2f}")
        failed = len(answer.by_seed) - len(answer.sound)
        if failed:
            without = f"{mean(answer.sound):+.2f}" if answer.sound else "nothing"
            measured += f"; \u2020 {failed} seeds with degenerate runs, without them {without}"
    return [row["claim"], row["split"], row["label"], measured, paper, row["verdict"], row["holds"]]


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m studies claims", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, metavar="RUNS", help="results folder of full-size runs")
    folder = parser.parse_args(arguments).runs
    rows, encoders = ledger(folder, json.loads(LEDGER.read_text(encoding="utf-8")))
    header = ["claim", "split", "what", "difference, 95 % over seeds and items", "paper", "verdict",
              "as claimed"]
    print("\n".join(f"encoder {path}, sha256 {digest} (the paper's: XLM-R Large)"
                    for digest, path in sorted(encoders)))
    print("\n" + "\n".join(page.markdown_table(page.Table(header, [cells(row) for row in rows]))))
    return 0
