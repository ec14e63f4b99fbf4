"""The chain of stages behind the command, neighbour of stilts.py: settings, plan, stages, runs.

    plan_run -> Stage ... Stage -> run_stage (train.py) -> evaluate -> metrics.json, DONE

Stages live in OUT/stages/KEY and are shared by all runs that need them; a key is a hash of contents
(weights, vocabulary, data, settings, seed), so the same stage is never trained twice.
"""

import argparse
import fcntl
import hashlib
import json
import os
import platform
import shutil
import socket
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy
import sentencepiece
import torch

import data
import draws
import eval as evaluation
import predict
import splits
import submission
import tasks
import weights
from model import Model, make_encoder, make_head
from files import UserError, read_json
from train import (Part, Stopped, dev_subset, file_sha256, git_commit, log, make_setup,
                   remove_folder, stage_steps, sync_folder, train, write_file)

FORMAT = 1                      # of stages; part of their key
KEEP_BYTES = 64 * 2 ** 20       # a target stage's encoder below this size is kept without --keep

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


# ---------------------------------------------------------------------------------- stages


def load_part(name: str, row: str, stage: Stage, context: Context, tokenizer) -> Part:
    """Read and featurize one task's English training and dev data."""
    values = {k: v for k, (v, _) in stage.values[row].items()}
    task = replace(tasks.get(name), **{k: values[k] for k in ROW_FIELDS})
    labels = splits.labels(task, context.data)
    english, limit = context.world["english"], context.given.limit
    languages = training_languages(task, context)
    loaded = [evaluation.load_examples(task, context.data, "train", lang, limit)
              for lang in languages]
    examples = [e for part in loaded for e in part.examples]
    log(f"{name}: {len(examples):,} training examples, {sum(part.dropped for part in loaded):,} "
        "without gold left out")
    features = data.featurize(task, examples, tokenizer, labels, train=True)
    order = draws.Order(features.item_lengths, values["batch_size"], stage.seed, name)
    part = Part(task, labels, values, features, order)
    if task.kind != "mlm":
        dev = evaluation.load_examples(task, context.data, "dev", english, limit)
        part.dev, part.groups = dev_subset(dev)
        part.dev_features = data.featurize(task, part.dev, tokenizer, labels)
    return part


def build_model(stage: Stage, parts: dict[str, Part], start: Path, context: Context):
    """The encoder of the stage before (or the pretrained one) with fresh heads.

    Masked LM continues with the pretrained head where the weights hold one.
    """
    config, state, _, mlm_head = weights.load_encoder(start)
    for part in parts.values():
        predict.check_length(part.task, config, start)
    heads = {}
    for name, part in parts.items():
        heads[name] = make_head(part.task.kind, config, len(part.labels), stage.seed)
        if part.task.kind == "mlm" and mlm_head:
            heads[name].load_state_dict(mlm_head)
    model = Model(make_encoder(config, state), heads)
    model.encoder.checkpoint_activations = context.given.checkpoint_activations
    return model


def run_stage(stage: Stage, start: Path, context: Context) -> Path:
    """Train a stage, or reuse it; returns the folder of its best encoder (an HF folder)."""
    folder = context.out / "stages" / stage.key
    best = folder / "best"
    names = "+".join(name for name, _ in stage.parts)
    with locked(folder):
        if (folder / "DONE").exists() and (best / "model.safetensors").exists():
            log(f"stage {names} seed {stage.seed}: done before ({stage.key})")
            clear_checkpoints(folder)           # in case the end of the stage was cut off
            return best
        (folder / "DONE").unlink(missing_ok=True)
        log(f"stage {names} seed {stage.seed}: {folder}")
        _, _, vocabulary, _ = weights.load_encoder(start)
        tokenizer = data.Tokenizer(vocabulary)
        parts = {name: load_part(name, row, stage, context, tokenizer)
                 for name, row in stage.parts}
        model = build_model(stage, parts, start, context)
        predict.check_fit(tokenizer, model.encoder.config, start)
        check_disk(folder, model)
        settings = stage_settings(stage)
        setup = make_setup(model, parts, settings, stage.seed, tokenizer, context.hardware)
        chosen = train(setup, stage_steps(parts, settings), folder, context.stop)
        config = model.encoder.config
        finish_stage(folder, chosen, stage, parts, config, vocabulary, context.world)
    return best


def stage_settings(stage: Stage) -> dict:
    """What train() needs; how much is masked is each task's own."""
    return {name: stage.setting(name) for name in (*COMMON, "lr")
            if name not in ("mask_rate", "random_rate")}


def finish_stage(folder, chosen, stage: Stage, parts, config, vocabulary: Path, world) -> None:
    """Turn the best checkpoint into an HF folder, mark the stage done, remove its checkpoints."""
    tensors = weights.read_safetensors(chosen / "model.safetensors")

    def below(prefix):
        return {k[len(prefix):]: t for k, t in tensors.items() if k.startswith(prefix)}

    aside, best = folder / ".best.part", folder / "best"
    for leftover in (aside, best):
        if leftover.exists():
            remove_folder(leftover)
    head = {"kind": parts[stage.head].task.kind, "head": below(f"heads.{stage.head}."),
            "labels": parts[stage.head].labels} if stage.head else {}
    weights.export_hf(aside, config, below("encoder."), tokenizer=vocabulary, **head)
    if world["world"] != "real":                # an encoder of this world stays in it
        write_file(aside / "world.json", json.dumps(world))
    aside.rename(best)
    sync_folder(folder)
    write_file(folder / "DONE", "")
    clear_checkpoints(folder)


def clear_checkpoints(folder: Path) -> None:
    """A stage that is done needs its checkpoints no more."""
    for checkpoint in (folder / "ckpt").glob("*"):
        remove_folder(checkpoint)


def check_disk(folder: Path, model: Model) -> None:
    """Two checkpoints of weights and moments and the best one must fit."""
    need = 3 * 3 * 4 * sum(p.numel() for p in model.parameters())
    free = shutil.disk_usage(folder).free
    if free < need:
        raise UserError(f"{free / 1e6:.0f} MB free, checkpoints need {need / 1e6:.0f} MB", folder)


@contextmanager
def locked(folder: Path):
    """One process at a time; the kernel frees the lock of a process that died."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise UserError(f"in use by {file.read().strip()}", folder) from None
        file.truncate(0)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {since}")
        file.flush()
        yield


# ------------------------------------------------------------------------------------ runs


def run_folder(inter: str, target: str, seed: int, context: Context) -> Path:
    world = "" if context.world["world"] == "real" else f"{context.world['world']}--"
    split = f"--{context.given.split}" if context.given.split else ""
    limited = "--limited" if context.given.limit else ""
    layer = f"--layer{context.given.layer}" if context.given.layer else ""
    return context.out / f"{world}{inter}--{target}--s{seed}{split}{layer}{limited}"


def target_task(target: str, context: Context):
    """The target's row with the values that hold in this command."""
    values = resolve(tasks.get(target), "target", context.given, context.recipe)
    return replace(tasks.get(target), **{name: values[name][0] for name in ROW_FIELDS})


def run(inter: str, target: str, seed: int, context: Context) -> dict | None:
    """All stages of a run, then evaluation; returns the contents of metrics.json."""
    stages = plan_run(inter, target, seed, context)
    if target == "none":
        for stage in stages:
            start = run_stage(stage, context.model, context)
            print(start)
        return None
    task = target_task(target, context)
    folder = run_folder(inter, target, seed, context)
    config = describe_run(inter, task, seed, stages, context)
    with locked(folder):
        claim(folder, config)
        is_kept = not stages or (stage_folder(stages[-1], context) / "model.safetensors").exists()
        if not (folder / "DONE").exists() or context.given.keep and not is_kept:
            start = context.model
            for stage in stages:
                start = run_stage(stage, start, context)
            evaluate(folder, task, config["key"]["split"], stages, start, inter, seed, context)
            write_file(folder / "DONE", "")
            drop_encoder(stages, task, context)
    return evaluation.read_run(folder)[0]


def stage_folder(stage: Stage, context: Context) -> Path:
    """Where a stage leaves its best encoder."""
    return context.out / "stages" / stage.key / "best"


def describe_run(inter, task, seed, stages, context) -> dict:
    """config.json: `key` decides the result and must agree on resume, the rest is recorded."""
    split = context.given.split or task.eval_split
    languages = splits.languages(task, context.data, split)
    if not languages:
        expected = ", ".join(task.files.get(split, ())) or f"no split {split} in this data set"
        raise UserError(f"{task.name} {split}: no files (expected {expected})", context.data)
    if context.world["world"] == "real" and set(task.languages) - set(languages):
        missing = [lang for lang in task.languages if lang not in languages]
        log(f"{task.name} {split}: no files for {' '.join(missing)}")
    files = gold_files(task, split, languages, context)
    return {
        "key": {"inter": inter, "target": task.name, "split": split, "seed": seed,
                "head": stages[-1].head if task.train_on else "",
                "stages": [s.key for s in stages], "weights": start_digest(context.model),
                "gold": digest(list(files.values())), "limit": context.given.limit,
                "layer": context.given.layer, "world": context.world["world"],
                "precision": str(context.hardware.dtype),
                "row": {name: getattr(task, name) for name in ROW_FIELDS}},
        "paths": {"model": str(context.model.resolve()), "data": str(context.data.resolve())},
        "values": {f"{'+'.join(n for n, _ in s.parts)}": s.values for s in stages},
        "files": files | dict(pair for s in stages for pair in s.files.items()),
        "recorded": {"argv": sys.argv[1:], "python": platform.python_version(),
                     "torch": torch.__version__, "sentencepiece": sentencepiece.__version__,
                     "numpy": numpy.__version__, "commit": git_commit(),
                     "device": str(context.hardware.device), "threads": torch.get_num_threads()},
    }


def gold_files(task, split: str, languages, context: Context) -> dict[str, str]:
    """path -> sha256 of what a run is evaluated on; mining chooses its threshold on dev."""
    used = dict.fromkeys(("dev", split)) if task.search == "mining" else (split,)
    return {str(path): sha256(path) for lang in languages for name in used
            for path in splits.find(task, context.data, name, lang)}


def claim(folder: Path, config: dict) -> None:
    """Take a new folder, or go on in ours; never in one that was made with other settings."""
    path = folder / "config.json"
    before = read_json(path) if path.exists() else {}
    strange = {p.name for p in folder.iterdir()} - {"lock", "config.json.part"}
    if strange and not {"key", "recorded"} <= set(before):
        raise UserError("not a folder of ours (it has files but no config.json of a run)", folder)
    other = [k for k, v in config["key"].items() if before and before["key"].get(k) != v]
    if other and (folder / "DONE").exists():
        raise UserError(f"made with another {', '.join(other)}; --out makes a new folder", folder)
    if other:
        log(f"{folder}: another {', '.join(other)} than when it was begun; predicting anew")
        for stale in (folder / "predictions").glob("*/*"):
            stale.unlink()
    if before and not other:
        warn_of_changes(before["recorded"], config["recorded"])
    else:
        write_file(path, json.dumps(config, indent=1, ensure_ascii=False))


def warn_of_changes(before: dict, now: dict) -> None:
    """Versions, device, threads, commit: they decide bits, not what a result means."""
    for name in now.keys() - {"argv"}:
        if before.get(name) != now[name]:
            log(f"warning: {name} was {before.get(name)}, is {now[name]}")


def evaluate(folder: Path, task, split: str, stages, start: Path, inter: str, seed: int,
             context: Context) -> None:
    """Predict every language that has no prediction file yet, then score all files."""
    trained = tasks.get(stages[-1].head) if task.train_on else task
    languages, limit = splits.languages(task, context.data, split), context.given.limit
    predict_missing(folder, task, split, languages, start, trained, context)
    scores = {}
    for lang in languages:
        scores[lang] = evaluation.score_language(folder, task, context.data, split, lang, limit)
        log(f"{task.name} {lang}: {scores[lang]}")
    english = context.world["english"]
    copied = 0
    if task.train_on:
        copied = evaluation.leaked(trained, task, split, context.data, english, limit)
    if copied:
        log(f"warning: {copied} {task.name} {split} examples are also training examples")
    result = {"schema": 1, "world": context.world["world"], "inter": inter, "task": task.name,
              "split": split, "seed": seed, "limited": limit, "languages": scores,
              "leaked": copied,
              **evaluation.summarise(task, scores, english)}
    write_file(folder / "metrics.json", json.dumps(result, indent=1, ensure_ascii=False))


def predict_missing(folder: Path, task, split: str, languages, start: Path, trained,
                    context: Context) -> None:
    """Write the prediction files that are not there yet, each as soon as its language is done."""
    paths = {lang: evaluation.prediction_path(folder, task, split, lang) for lang in languages}
    missing = [lang for lang in languages if not paths[lang].exists()]
    if missing and task.search == "ranked":
        missing = languages                       # the candidates of all are searched together
    labels = splits.labels(trained, context.data)
    head = trained.name if task.train_on else ""
    limit = context.given.limit
    model, tokenizer = predict.load_model(start, head, task, len(labels))
    model.to(context.hardware.device)
    depth = context.given.layer or predict.default_depth(model.encoder)
    if depth > model.encoder.config.num_layers:
        raise UserError(f"--layer {depth}: more than the encoder's blocks")

    def load(split, lang):
        return evaluation.load_examples(task, context.data, split, lang, limit).examples

    def poll():
        if context.stop():
            raise Stopped(context.stop())

    def answer(examples):
        return predict.predict(model, head, task, examples, tokenizer, labels,
                               context.hardware, depth, poll)

    for lang, answers in predict.answer_languages(
            task, load, answer, split, missing, context.hardware.dtype is torch.bfloat16):
        paths[lang].parent.mkdir(parents=True, exist_ok=True)
        write_file(paths[lang], submission.format_answers(task.form, load(split, lang), answers))


def drop_encoder(stages: list[Stage], task, context: Context) -> None:
    """A target stage of a real encoder keeps its head only, unless --keep (2.2 GB for Large)."""
    if not task.train_on or context.given.keep:
        return
    best = stage_folder(stages[-1], context)
    if (best / "model.safetensors").stat().st_size > KEEP_BYTES:
        kind = tasks.get(stages[-1].head).kind
        weights.write_safetensors(best.parent / "head.safetensors", weights.load_head(best, kind))
        aside = best.with_name(".best.part")      # a cut here leaves nothing that looks usable
        best.rename(aside)
        remove_folder(aside)
