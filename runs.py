"""Stages and runs, neighbour of stilts.py: what plan.py planned is trained, evaluated, recorded.

    Stage ... Stage --run_stage (train.py)--> evaluate --> metrics.json, DONE

Stages live in OUT/stages/KEY and are shared by all runs that need them.
"""

import fcntl
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
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
from checkpoints import log, remove_folder, sync_folder, write_file
from files import UserError, read_json
from model import Model, make_encoder, make_head
from plan import (COMMON, ROW_FIELDS, Context, Stage, digest, plan_run, resolve, sha256,
                  start_digest, training_languages)
from train import Part, Stopped, dev_subset, make_setup, stage_steps, train

KEEP_BYTES = 64 * 2 ** 20       # a target stage's encoder below this size is kept without --keep
BEAT, TAKEOVER = 30, 300        # seconds between two signs of life; of silence before a takeover
LOST: set[Path] = set()         # locks of this process that another machine has taken over


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
        chosen = train(setup, stage_steps(parts, settings), folder, lambda: stopping(context))
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


class Busy(UserError):
    """Another process has the folder and is alive, as far as can be seen."""


@contextmanager
def locked(folder: Path):
    """One process at a time; Busy for all others.

    Among processes of one kernel flock decides, which frees the lock of a process that died; many
    file systems carry it to other machines. For the rest the file names its owner, is touched every
    BEAT seconds and emptied in the end: one that another machine has not touched for TAKEOVER
    seconds is taken over (clocks agree within minutes). Who loses a lock, having slept for so long
    or having taken it in the same moment as another, finds that out at the next beat: stopping()
    then ends its work.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, ended = folder / "lock", threading.Event()
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"in use by {path.read_text(encoding='utf-8')}", folder) from None
        text, silence = path.read_text(encoding="utf-8"), time.time() - path.stat().st_mtime
        if text and not text.endswith(kernel()) and silence < TAKEOVER:
            raise Busy(f"in use by {text}, last seen {silence:.0f} s ago (taken for dead after "
                       f"{TAKEOVER} s)", folder)
        file.truncate(0)
        file.write(owner())
        file.flush()
        thread = threading.Thread(target=give_signs_of_life, args=(path, ended), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            LOST.discard(path)
            file.seek(0)
            if file.read() == owner():
                file.truncate(0)


def owner() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}, {kernel()}"


def kernel() -> str:
    """Names the running kernel, the same in all containers of a machine."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text(encoding="utf-8").strip() if path.exists() else socket.gethostname()


def give_signs_of_life(lock: Path, ended: threading.Event) -> None:
    while not ended.wait(BEAT):
        with suppress(OSError):                     # a file system that is away for a while
            if lock.read_text(encoding="utf-8") == owner():
                os.utime(lock)
            else:
                LOST.add(lock)


def stopping(context: Context) -> int:
    """The exit code of a signal that arrived, or 0. Raises Busy if a lock is lost."""
    if LOST:
        raise Busy("taken over by another process", min(LOST).parent)
    return context.stop()


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


def git_commit() -> str:
    try:
        command = ["git", "-C", Path(__file__).resolve().parent, "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


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
    layer = context.given.layer
    depth = predict.depth_of(layer, model.encoder)
    if depth > model.encoder.config.num_layers:
        raise UserError(f"--layer {depth}: more than the encoder's blocks")

    def load(split, lang):
        return evaluation.load_examples(task, context.data, split, lang, limit).examples

    def poll():
        if code := stopping(context):
            raise Stopped(code)

    def answer(examples):
        answers = predict.predict(model, head, task, examples, tokenizer, labels,
                                  context.hardware, depth, poll)
        return predict.centred(examples, answers) if str(layer).endswith("c") else answers

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
