"""What a run will do, before anything is done: settings with their origin, stages, keys.

    --inter, --target --plan_run--> Stage, Stage, ...

A stage's key is a hash of contents (weights, vocabulary, data, settings, seed): stages are shared
by all runs that need them, and the same stage is never trained twice.
"""

import argparse
import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import predict
import splits
import tasks
from checkpoints import file_sha256
from files import UserError

FORMAT = 1                      # of stages; part of their key

# Learning rates by role. "paper": appendix of Phang et al. 2020, remembered; "jiant": its XTREME
# guide, seen. The other values are jiant's (seen) and the paper's (remembered) alike.
RECIPES = {
    "paper": {"intermediate": 1e-5, "target": 3e-6, "with mlm": 5e-6},
    "jiant": {"intermediate": 1e-5, "target": 1e-5, "with mlm": 1e-5},
}
COMMON = {"weight_decay": 0.01, "warmup": 0.1, "clip": 1.0, "beta2": 0.999, "mask_rate": 0.15,
          "random_rate": 0.1, "steps": 0, "evaluations": 10}  # steps 0: as the epochs need
ROW_FIELDS = ("batch_size", "epochs", "max_length", "stride", "max_question", "max_answer")
LIMITS = {"lr": (1e-12, 1), "batch_size": (1, 65536), "epochs": (0, 1e4), "steps": (0, 1e9),
          "max_length": (8, 8192), "stride": (1, 8192), "max_question": (1, 8192),
          "max_answer": (1, 8192), "weight_decay": (0, 1), "warmup": (0, 1), "clip": (1e-9, 1e9),
          "beta2": (0, 0.999999), "mask_rate": (1e-3, 0.9), "random_rate": (0, 0.9),
          "evaluations": (1, 1000)}


# -------------------------------------------------------------------------------- settings


def resolve(row, role: str, given, recipe: dict) -> dict[str, tuple]:
    """Every value of one task in a stage, as field -> (value, origin); later origins win."""
    values = {name: (getattr(row, name), f"row {row.name}") for name in ROW_FIELDS}
    values |= {name: (value, "default") for name, value in COMMON.items()}
    values["lr"] = (RECIPES[given.recipe][role], f"recipe {given.recipe}, {role}")
    values |= {name: (value, "recipe.json") for name, value in recipe.get(row.name, {}).items()}
    for owner, name, text in given.set:
        if name not in values:
            raise UserError(f"--set {name}: no such field ({', '.join(values)})")
        if owner in ("", row.name):
            values[name] = (parse_value(name, text, values[name][0]), "--set")
    bad = [f"{name}={values[name][0]} (allowed {low} to {high})"
           for name, (low, high) in LIMITS.items() if not low <= values[name][0] <= high]
    if bad:
        raise UserError(f"{row.name}: {'; '.join(bad)}")
    return values


def parse_value(name: str, text: str, like):
    try:
        return float(text) if isinstance(like, float) or name == "epochs" else int(text)
    except ValueError:
        raise UserError(f"--set {name}={text}: expected a number") from None


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


@dataclass(frozen=True)
class Stage:
    """One call of train(): which tasks, with which settings, from where."""

    parts: tuple[tuple[str, str], ...]      # (row whose data is read, row whose settings hold)
    seed: int
    values: dict                            # settings row -> resolved values with origins
    files: dict                             # path -> sha256 of the training and dev data
    key: str                                # hash of all that decides the result

    @property
    def head(self) -> str:
        """The task whose head is kept; several tasks keep none."""
        return self.parts[0][0] if len(self.parts) == 1 else ""

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


def training_languages(task, context: Context) -> list[str]:
    """English; masked LM is trained on every language found."""
    if task.kind == "mlm":
        return splits.languages(task, context.data, "train")
    return [context.world["english"]]


def training_files(name: str, context: Context) -> list[Path]:
    """Files a task is trained and selected on: English, for masked LM every language."""
    task = tasks.get(name)
    languages = training_languages(task, context)
    parts = [s for s in ("train", "dev") if s in task.files or task.members]
    found = [p for s in parts for lang in languages
             for p in splits.find(task, context.data, s, lang)]
    if not splits.find(task, context.data, "train", languages[0] if languages else "en"):
        expected = ", ".join(task.files.get("train", task.members))
        raise UserError(f"{name}: no training file (expected {expected})", context.data)
    return found


def plan_run(inter: str, target: str, seed: int, context: Context) -> list[Stage]:
    """The chain of stages of one run; keys depend on contents, so runs share stages."""
    chain = []
    if inter != "none":
        chain.append(tuple((name, name) for name in inter.split("+")))
    if target != "none":
        trained = tasks.get(target).train_on
        chain += [((name, target if len(trained) == 1 else name),) for name in trained]
    stages, start = [], start_digest(context.model)
    for i, parts in enumerate(chain):
        has_mlm = any(tasks.get(name).kind == "mlm" for name, _ in parts)
        role = "with mlm" if has_mlm else "target" if i or inter == "none" else "intermediate"
        values = {row: resolve(tasks.get(row), role, context.given, context.recipe)
                  for _, row in parts}
        files = {str(p): sha256(p) for name, _ in parts for p in training_files(name, context)}
        start = stage_digest(parts, values, files, seed, start, context)
        stages.append(Stage(parts, seed, values, files, start[:24]))
    return stages


def stage_digest(parts, values, files, seed: int, start: str, context: Context) -> str:
    """Hash of everything that decides a stage's result; no paths, device, threads or commit."""
    plain = {row: {k: v for k, (v, _) in fields.items()} for row, fields in values.items()}
    labels = [splits.labels(tasks.get(name), context.data) for name, _ in parts]
    return digest(FORMAT, parts, plain, labels, list(files.values()), seed,
                  str(context.hardware.dtype), context.given.limit, context.world["world"], start)
