"""What a run will do, before anything is done: settings with their origin, stages, keys.

    --inter, --target --plan_run--> Stage, Stage, ...

An intermediate arm is `TASK[@LANGS][:FIELD=VALUE]...` joined by `+`, or none; a target is one
task, or several steps of it joined by `~`, each of which goes on where the one before ended:
`panx~panx@sw:examples=100` is then evaluated in the languages of its last step alone. LANGS are
languages joined by commas, or `all` that have training data: the task's translated or own training
files there. Without LANGS a task is trained in English, masked LM in every language. FIELD=VALUE
is --set's, for this stage only. Selection always looks at English dev. `all` as an arm stands for
the paper's nine tasks.

A stage's key is a hash of contents (weights, vocabulary, data, settings, seed): stages are shared
by all runs that need them, and the same stage is never trained twice.
"""

import argparse
import hashlib
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import predict
import ranks
import robust
import splits
import tasks
from checkpoints import file_sha256
from files import UserError

FORMAT = 2                      # of stages; part of their key

# Learning rates by role. "paper": appendix of Phang et al. 2020, remembered; "jiant": its XTREME
# guide, seen. The other values are jiant's (seen) and the paper's (remembered) alike.
RECIPES = {
    "paper": {"intermediate": 1e-5, "target": 3e-6, "with mlm": 5e-6},
    "jiant": {"intermediate": 1e-5, "target": 1e-5, "with mlm": 1e-5},
}
COMMON = {"weight_decay": 0.01, "warmup": 0.1, "clip": 1.0, "beta2": 0.999, "mask_rate": 0.15,
          "random_rate": 0.1, "steps": 0, "evaluations": 10}  # steps 0: as the epochs need
# A task's own, off at 0 and then no part of keys and records. examples: train on so many of each
# language, drawn with the seed and `draw`; random_tags: the control without content.
OFF = {"examples": 0, "draw": 0, "random_tags": 0}
FLOATS = ("lr", "epochs", "weight_decay", "warmup", "clip", "beta2", "mask_rate", "random_rate",
          "alpha", *robust.FLOATS)  # 30 and 30.0 are the same setting
ROW_FIELDS = ("batch_size", "epochs", "max_length", "stride", "max_question", "max_answer",
              "alpha")
LIMITS = {"lr": (1e-12, 1), "batch_size": (1, 65536), "epochs": (0, 1e4), "steps": (0, 1e9),
          "max_length": (8, 8192), "stride": (1, 8192), "max_question": (1, 8192),
          "max_answer": (1, 8192), "weight_decay": (0, 1), "warmup": (0, 1), "clip": (1e-9, 1e9),
          "beta2": (0, 0.999999), "mask_rate": (1e-3, 0.9), "random_rate": (0, 0.9),
          "evaluations": (1, 1000), "alpha": (0, 1), "examples": (0, 1e9), "draw": (0, 1e9),
          "random_tags": (0, 1), **robust.LIMITS}


# -------------------------------------------------------------------------------- settings


def resolve(row, role: str, given, recipe: dict, own: tuple = ()) -> dict[str, tuple]:
    """Every value of one task in a stage, as field -> (value, origin); later origins win. own:
    (field, text) of the stage's notation. Of the numbers of robust training only those that the
    chosen method has."""
    changes = changed(row.name, given, recipe, own)
    method = changes.get("robust", ("none", "default"))
    values = {name: (getattr(row, name), f"row {row.name}") for name in ROW_FIELDS}
    values |= {name: (value, "default") for name, value in (COMMON | OFF).items()}
    values |= {"lr": (RECIPES[given.recipe][role], f"recipe {given.recipe}, {role}")}
    values |= {"robust": method} | {name: (value, f"default of {method[0]}")
                                    for name, value in robust.METHODS[method[0]].items()}
    values |= {name: change for name, change in changes.items() if name in values}
    values |= {name: (float(values[name][0]), values[name][1]) for name in FLOATS if name in values}
    meant = [name for owner, name, _ in given.set if owner == row.name]
    check_values(row, values, [*meant, *(name for name, _ in own)])
    return values


def changed(row: str, given, recipe: dict, own: tuple) -> dict[str, tuple]:
    """The values that recipe.json, --set and the notation give a row, as field -> (value,
    origin)."""
    changes = {name: (value, "recipe.json") for name, value in recipe.get(row, {}).items()}
    changes |= {name: (parse_value(name, text), "--set")
                for owner, name, text in given.set if owner in ("", row)}
    return changes | {name: (parse_value(name, text), "stage") for name, text in own}


def check_values(row, values: dict, meant: list[str]) -> None:
    """Raises UserError for numbers out of bounds, and for a number that is meant for this row but
    that the chosen method of robust training does not have: a --set without a row's name may be
    meant for others."""
    bad = [f"{name}={values[name][0]} (allowed {low} to {high})"
           for name, (low, high) in LIMITS.items()
           if name in values and not low <= values[name][0] <= high]
    if values["random_tags"][0] and row.kind != "tagging":
        bad.append("random_tags is for tagging")
    if bad:
        raise UserError(f"{row.name}: {'; '.join(bad)}")
    for name in [name for name in meant if name not in values]:
        raise UserError(f"--set {row.name}.{name}: robust={values['robust'][0]} has no {name}")


def parse_value(name: str, text: str):
    if name != "robust" and name not in LIMITS:
        raise UserError(f"--set {name}: no such field ({', '.join([*LIMITS, 'robust'])})")
    if name == "robust":
        if text not in robust.METHODS:
            raise UserError(f"--set robust={text}: expected one of {', '.join(robust.METHODS)}")
        return text
    try:
        return float(text) if name in FLOATS else int(text)
    except ValueError:
        raise UserError(f"--set {name}={text}: expected a number") from None


def decisive(values: dict) -> dict:
    """The settings of a row that decide a stage's result, as field -> (value, origin): what can be
    off only where it is on, so that stages without it keep the key that they always had."""
    off = OFF | {"robust": "none"}
    return {name: found for name, found in values.items() if off.get(name) != found[0]}


# ------------------------------------------------------------------------------------ plan


@dataclass(frozen=True)
class Context:
    """What all runs of one command share."""

    given: argparse.Namespace
    model: Path
    data: Path
    out: Path
    world: dict
    recipe: dict
    hardware: predict.Hardware
    stop: object                            # () -> exit code of a signal that arrived, or 0


class Named(NamedTuple):
    """One task of an arm or a target, as it is written."""

    name: str
    languages: tuple[str, ...] = ()         # (): English
    settings: tuple[tuple[str, str], ...] = ()      # (field, text)


class Member(NamedTuple):
    """What one task of a stage is trained on."""

    name: str                               # row whose data is read
    row: str                                # row whose settings hold
    languages: tuple[str, ...]


@dataclass(frozen=True)
class Stage:
    """One call of train(): which tasks, with which settings, from where."""

    members: tuple[Member, ...]
    seed: int
    values: dict                            # settings row -> resolved values with origins
    goes_on: bool                           # with the head of the stage before: one target's stages
    files: dict                             # path -> sha256 of the training and dev data
    key: str                                # hash of all that decides the result

    @property
    def head(self) -> str:
        """The task whose head is kept; several tasks keep none."""
        return self.members[0].name if len(self.members) == 1 else ""

    @property
    def names(self) -> str:
        return "+".join(member.name for member in self.members)

    def setting(self, name: str):
        """A value of the whole stage: its tasks agree; of their rates the lowest holds."""
        values = {v[name][0] for v in self.values.values()}
        if len(values) > 1 and name != "lr":
            raise UserError(f"{name} differs between the tasks of one stage: set it for all")
        return min(values)


sha256 = lru_cache(None)(file_sha256)      # of inputs; they are hashed once per command


def digest(*parts) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def start_digest(folder: Path) -> str:
    """Hash of the weights and vocabulary a chain starts from: contents, not paths."""
    patterns = ("config.json", "*.safetensors", "*.bin", "*.pt", "*.model", "*.index.json")
    found = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    return digest([(path.name, sha256(path)) for path in found])


def parse_task(text: str) -> Named:
    """"mnli@de,fr:steps=9" -> ("mnli", ("de", "fr"), (("steps", "9"),))."""
    task, *settings = text.split(":")
    name, at, languages = task.partition("@")
    wanted = tuple(languages.split(",")) if at else ()
    if "" in wanted or len(set(wanted)) < len(wanted):
        raise UserError(f"{text}: expected TASK@LANG,LANG or TASK@all, each language once")
    pairs = tuple(tuple(setting.split("=")) for setting in settings)
    if any(len(pair) != 2 or "" in pair for pair in pairs):
        raise UserError(f"{text}: expected TASK:FIELD=VALUE")
    tasks.get(name)
    return Named(name, wanted, pairs)


def parse_arm(inter: str) -> list[Named]:
    """The tasks of an intermediate arm; [] for none."""
    parts = [part for text in inter.split("+")
             for part in (tasks.INTERMEDIATE if text == "all" else [text])]
    return [] if inter == "none" else [parse_task(part) for part in parts]


def parse_target(target: str) -> list[Named]:
    """The steps of a target, of one task: "panx~panx@sw" -> panx in English, then in sw."""
    steps = [parse_task(text) for text in target.split("~")]
    if len({step.name for step in steps}) > 1:
        raise UserError(f"{target}: the steps of a target are of one task")
    return steps


def split_list(text: str) -> list[str]:
    """Targets or arms: "tydiqa@sw,te,xnli" -> ["tydiqa@sw,te", "xnli"]: after an @ what does not
    begin with a task is a language."""
    names, found = {"none", "all", *tasks.TASKS}, []
    for part in text.split(","):
        if found and "@" in found[-1] and not names & set(re.split("[+@:~]", part)[:1]):
            found[-1] += f",{part}"
        else:
            found.append(part)
    return found


def training_languages(task, wanted: tuple[str, ...], context: Context) -> tuple[str, ...]:
    """The languages a task is trained in. Raises UserError where one has no training file."""
    found = splits.languages(task, context.data, "train")
    english = context.world["english"]
    chosen = wanted or ((english,) if task.kind != "mlm" else ("all",))
    if chosen == ("all",):
        chosen = tuple(found) or (english,)
    if task.kind == "retrieval" and len(chosen) > 1:
        raise UserError(f"{task.name} is trained in one language, not in {' '.join(chosen)}")
    missing = [lang for lang in chosen
               if not splits.find(task, context.data, "train", lang) or lang not in found]
    if missing:
        expected = ", ".join(task.files.get("train", task.members)) or "none: it has no training"
        raise UserError(f"{task.name}: no training file in {' '.join(missing)} (expected "
                        f"{expected})", context.data)
    return chosen


def training_files(member: Member, values: dict, context: Context) -> list[Path]:
    """Files a task is trained on, and the English ones it is selected on; of synonyms, if used."""
    task, english = tasks.get(member.name), context.world["english"]
    found = [path for lang in member.languages
             for path in splits.find(task, context.data, "train", lang)]
    if task.kind != "mlm":
        dev = splits.find(task, context.data, "dev", english)
        found += dev or splits.find(task, context.data, "train", english)
    if values["robust"][0] == "rs-da":
        found += [robust.synonym_file(task, context.data, lang) for lang in member.languages]
    return list(dict.fromkeys(found))


def plan_run(inter: str, target: str, seed: int, context: Context) -> list[Stage]:
    """The chain of stages of one run; keys depend on contents, so runs share stages."""
    def member(name, row, wanted):
        return Member(name, row, training_languages(tasks.get(name), wanted, context))

    arm = parse_arm(inter)
    is_mixed = any(tasks.get(one.name).kind == "mlm" for one in arm)
    chain = [("with mlm" if is_mixed else "intermediate",
              tuple(member(one.name, one.name, one.languages) for one in arm),
              {one.name: one.settings for one in arm})] if arm else []
    for step in parse_target(target) if target != "none" else ():
        trained = target_stages(step.name)
        if target != step.name and not trained:
            raise UserError(f"{target}: {step.name} is not trained, it has no training languages")
        chain += [("target", (member(name, row, step.languages),), {row: step.settings})
                  for name, row in trained]
    return link(chain, seed, context)


def target_stages(name: str) -> list[tuple[str, str]]:
    """(task that is read, row whose settings hold) of each stage of one step of a target."""
    trained = tasks.get(name).train_on
    return [(one, name if len(trained) == 1 else one) for one in trained]


def robust_training(inter: str, target: str, context: Context) -> str:
    """The methods of robust training in a run, as part of its name: "freelb" in the target's
    stages, "TASK.freelb" in an intermediate task's, joined by +; "" for none."""
    def method(row, own):
        values = resolve(tasks.get(row), "target", context.given, context.recipe, own)
        return values["robust"][0]

    found = [(f"{one.name}.", method(one.name, one.settings)) for one in parse_arm(inter)]
    found += [("", method(row, step.settings))
              for step in (parse_target(target) if target != "none" else ())
              for _, row in target_stages(step.name)]
    return "+".join(dict.fromkeys(place + name for place, name in found if name != "none"))


def link(chain: list[tuple], seed: int, context: Context) -> list[Stage]:
    """(role, members, {row: own settings}) of each stage -> stages, each keyed by its contents and
    the stage before."""
    stages, start = [], start_digest(context.model)
    for (before, *_), (role, members, own) in zip([("",), *chain], chain):
        goes_on = before == role == "target"
        values = {member.row: resolve(tasks.get(member.row), role, context.given, context.recipe,
                                      own[member.row]) for member in members}
        files = {str(p): sha256(p) for member in members
                 for p in training_files(member, values[member.row], context)}
        start = digest(stage_digest(members, values, files, seed, start, context), goes_on)
        stages.append(Stage(members, seed, values, goes_on, files, start[:24]))
    return stages


def stage_digest(members, values, files, seed: int, start: str, context: Context) -> str:
    """Hash of everything that decides a stage's result; no paths, device, threads or commit. What
    one micro-batch or rank holds counts in retrieval only, whose negatives it is."""
    plain = {row: {k: v for k, (v, _) in decisive(fields).items()}
             for row, fields in values.items()}
    labels = [splits.labels(tasks.get(member.name), context.data) for member in members]
    is_retrieval = any(tasks.get(member.name).kind == "retrieval" for member in members)
    batches = (context.hardware.micro_tokens, ranks.size()) if is_retrieval else ()
    return digest(FORMAT, members, plain, labels, batches, list(files.values()), seed,
                  str(context.hardware.dtype), context.given.limit, context.world["world"], start)
