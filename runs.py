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
import ranks
import splits
import submission
import tasks
import weights
from checkpoints import checkpoint_name, log, remove_folder, sync_folder, write_file
from features import features_of
from files import UserError, read_json
from model import Model, make_encoder, make_head
from plan import (COMMON, ROW_FIELDS, Context, Member, Stage, decisive, digest, parse_target,
                  plan_run, resolve, robust_training, sha256, start_digest)
from train import Part, Stopped, load_dev, load_training, make_setup, stage_steps, train

KEEP_BYTES = 64 * 2 ** 20       # a target stage's encoder below this size is kept without --keep
BEAT, TAKEOVER = 30, 300        # seconds between two signs of life; of silence before a takeover
LOST: set[Path] = set()         # locks of this process that another machine has taken over


# ---------------------------------------------------------------------------------- stages


def load_part(member: Member, stage: Stage, context: Context, tokenizer) -> Part:
    """Read and featurize one task's training data, and its English dev data."""
    values = {k: v for k, (v, _) in stage.values[member.row].items()}
    task = replace(tasks.get(member.name), **{k: values[k] for k in ROW_FIELDS})
    labels = splits.labels(task, context.data)
    folder, limit = context.data, context.given.limit
    parts = [load_training(task, lang, values, stage.seed, folder, limit)
             for lang in member.languages]
    examples = [example for part in parts for example in part]
    log(f"{task.name}, {' '.join(member.languages)}: {len(examples):,} training examples")
    dev, groups = load_dev(task, folder, context.world["english"], limit)
    if values["random_tags"]:
        examples, dev = draws.random_tags(examples, dev, stage.seed)
    cache = feature_folder(context)
    features = features_of(task, examples, tokenizer, labels, True, cache)
    language = numpy.repeat(range(len(parts)), [len(part) for part in parts])
    order = draws.Order(features.item_lengths, values["batch_size"], stage.seed, task.name,
                        language[features.example[::features.group]], values["alpha"])
    part = Part(task, labels, values, features, order, dev, groups)
    if dev:
        part.dev_features = features_of(task, dev, tokenizer, labels, cache=cache)
    return part


def feature_folder(context: Context) -> Path | None:
    """Where features are kept between runs. Not in a dry run, which writes nothing, nor in the toy
    world: all of its features are made in a tenth of a second."""
    is_kept = context.world["world"] == "real" and not context.given.dry_run
    return context.out / "features" if is_kept else None


def build_model(stage: Stage, parts: dict[str, Part], start: Path, context: Context):
    """The encoder of the stage before (or the pretrained one) with fresh heads.

    Masked LM continues with the pretrained head where the weights hold one, a target's second stage
    with the head of its first.
    """
    config, state, _, mlm_head = weights.load_encoder(start)
    for part in parts.values():
        predict.check_length(part.task, config, start)
    heads = {}
    for name, part in parts.items():
        heads[name] = make_head(part.task.kind, config, len(part.labels), stage.seed)
        if part.task.kind == "mlm" and mlm_head:
            heads[name].load_state_dict(mlm_head)
        if stage.goes_on:
            heads[name].load_state_dict(weights.load_head(start, part.task.kind))
    model = Model(make_encoder(config, state), heads)
    model.encoder.checkpoint_activations = context.given.checkpoint_activations
    return model


def run_stage(stage: Stage, start: Path, context: Context) -> Path:
    """Train a stage, or reuse it; returns the folder of its best encoder (an HF folder)."""
    folder = context.out / "stages" / stage.key
    best = folder / "best"
    names = stage.names
    if ranks.on_first(lambda: stage.key) != stage.key:
        raise UserError("the ranks do not find the same weights and data", context.data)
    with locked(folder):
        if ranks.on_first(lambda: (folder / "DONE").exists()
                          and (best / "model.safetensors").exists()):
            log(f"stage {names} seed {stage.seed}: done before ({stage.key})")
            ranks.on_first(lambda: clear_checkpoints(folder))       # in case its end was cut off
            return best
        ranks.on_first(lambda: (folder / "DONE").unlink(missing_ok=True))
        log(f"stage {names} seed {stage.seed}: {folder}")
        _, _, vocabulary, _ = weights.load_encoder(start)
        tokenizer = data.Tokenizer(vocabulary)
        parts = {member.name: load_part(member, stage, context, tokenizer)
                 for member in stage.members}
        model = build_model(stage, parts, start, context)
        predict.check_fit(tokenizer, model.encoder.config, start)
        check_disk(folder, model)
        settings = stage_settings(stage)
        setup = make_setup(model, parts, settings, stage.seed, tokenizer, context.hardware)
        outcome = train(setup, stage_steps(parts, settings), folder, lambda: stopping(context))
        config = model.encoder.config
        ranks.on_first(lambda: finish_stage(folder, outcome, stage, parts, config, vocabulary,
                                            context.world))
    return best


def stage_settings(stage: Stage) -> dict:
    """What train() needs; how much is masked is each task's own."""
    return {name: stage.setting(name) for name in (*COMMON, "lr")
            if name not in ("mask_rate", "random_rate")}


def finish_stage(folder, outcome, stage: Stage, parts, config, vocabulary: Path, world) -> None:
    """Turn the best checkpoint into an HF folder, mark the stage done, remove its checkpoints."""
    chosen = folder / "ckpt" / checkpoint_name(outcome["step"], True)
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
    write_file(folder / "DONE", json.dumps(outcome, ensure_ascii=False))
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
    then ends its work. Rank 0 takes it for all ranks, which wait for the first thing that it does
    inside.
    """
    if ranks.rank() > 0:
        yield
        return
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
    methods = robust_training(inter, target, context)
    how = f"--{methods}" if methods else ""
    return context.out / f"{world}{inter}--{target}--s{seed}{how}{split}{layer}{limited}"


def target_task(target: str, context: Context):
    """The target's row with the values that hold in its last step."""
    last = parse_target(target)[-1]
    row = tasks.get(last.name)
    values = resolve(row, "target", context.given, context.recipe, last.settings)
    return replace(row, **{name: values[name][0] for name in ROW_FIELDS})


def run_until_sound(inter: str, target: str, seed: int, context: Context) -> list[dict | None]:
    """A run and, while it is degenerate, at most --restarts more with seeds that nobody asked for.

    All of them are kept: what is left out of a mean must be seen.
    """
    results = [run(inter, target, seed, context)]
    seeds = context.given.seed
    for attempt in range(context.given.restarts):
        if not (results[-1] and results[-1]["degenerate"]):
            break
        spare = max(seeds) + 1 + attempt * len(seeds) + seeds.index(seed)
        log(f"{inter}, {target}, seed {results[-1]['seed']} is degenerate "
            f"({results[-1]['degenerate']}): restarted with seed {spare}")
        results.append(run(inter, target, spare, context))
    return results


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
    config = describe_run(inter, target, seed, stages, context)
    with locked(folder):
        ranks.on_first(lambda: claim(folder, config))
        is_kept = not stages or (stage_folder(stages[-1], context) / "model.safetensors").exists()
        if ranks.on_first(lambda: not (folder / "DONE").exists()
                          or context.given.keep and not is_kept):
            start = context.model
            for stage in stages:
                start = run_stage(stage, start, context)
            evaluate(folder, task, config["key"], stages, start, context)
            ranks.on_first(lambda: write_file(folder / "DONE", ""))
            ranks.on_first(lambda: drop_encoder(stages, task, context))
    return ranks.on_first(lambda: evaluation.read_run(folder)[0])


def stage_folder(stage: Stage, context: Context) -> Path:
    """Where a stage leaves its best encoder."""
    return context.out / "stages" / stage.key / "best"


def stage_outcome(stage: Stage, context: Context) -> dict:
    """What a finished stage says of its best step: {"step", "dev", "degenerate"}."""
    return read_json(context.out / "stages" / stage.key / "DONE")


def describe_run(inter, target, seed, stages, context) -> dict:
    """config.json: `key` decides the result and must agree on resume, the rest is recorded."""
    task = target_task(target, context)
    split = context.given.split or task.eval_split
    languages = evaluated(target, task, split, stages, context)
    if not languages:
        expected = ", ".join(task.files.get(split, ())) or f"no split {split} in this data set"
        raise UserError(f"{task.name} {split}: no files (expected {expected})", context.data)
    found = splits.languages(task, context.data, split)
    if context.world["world"] == "real" and set(task.languages) - set(found):
        missing = [lang for lang in task.languages if lang not in found]
        log(f"{task.name} {split}: no files for {' '.join(missing)}")
    files = gold_files(task, split, languages, context)
    methods = robust_training(inter, target, context)
    return {
        "key": {"inter": inter, "target": target, "task": task.name, "split": split, "seed": seed,
                "head": stages[-1].head if task.train_on else "",
                "stages": [s.key for s in stages], "weights": start_digest(context.model),
                "gold": digest(list(files.values())), "limit": context.given.limit,
                "layer": context.given.layer, "world": context.world["world"],
                "precision": str(context.hardware.dtype),
                "row": {name: getattr(task, name) for name in ROW_FIELDS},
                **({"robust": methods} if methods else {})},
        "paths": {"model": str(context.model.resolve()), "data": str(context.data.resolve())},
        "stages": [{"tasks": s.members, "values": {row: decisive(fields) for row, fields
                                                   in s.values.items()}} for s in stages],
        "files": files | dict(pair for s in stages for pair in s.files.items()),
        "recorded": circumstances(context),
    }


def evaluated(target: str, task, split: str, stages, context: Context) -> list[str]:
    """The languages found; of a target of several steps those that the last one is trained in."""
    found = splits.languages(task, context.data, split)
    is_chain = len(parse_target(target)) > 1
    return [lang for lang in found if not is_chain or lang in stages[-1].members[0].languages]


def circumstances(context: Context) -> dict:
    """What decides bits, or helps to find a run again, but not what its result means."""
    return {"argv": sys.argv[1:], "python": platform.python_version(),
            "torch": torch.__version__, "sentencepiece": sentencepiece.__version__,
            "numpy": numpy.__version__, "commit": git_commit(),
            "device": str(context.hardware.device), "threads": torch.get_num_threads(),
            "ranks": ranks.size()}


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
    """Versions, device, threads, ranks, commit: they decide bits, not what a result means."""
    for name in now.keys() - {"argv"}:
        if before.get(name) != now[name]:
            log(f"warning: {name} was {before.get(name)}, is {now[name]}")


def evaluate(folder: Path, task, key: dict, stages, start: Path, context: Context) -> None:
    """Predict every language that has no prediction file yet, then (rank 0) score all files."""
    trained = tasks.get(stages[-1].head) if task.train_on else task
    split, limit = key["split"], context.given.limit
    languages = evaluated(key["target"], task, split, stages, context)
    predict_missing(folder, task, split, languages, start, trained, context)
    if ranks.rank() > 0:
        return
    scores = {}
    for lang in languages:
        scores[lang] = evaluation.score_language(folder, task, context.data, split, lang, limit)
        log(f"{task.name} {lang}: {scores[lang]}")
    copied = 0
    if task.train_on:
        copied = evaluation.leaked(trained, task, split, context.data,
                                   stages[-1].members[0].languages, limit)
    if copied:
        log(f"warning: {copied} {task.name} {split} examples are also training examples")
    failed = [f"{name}: {why}" for stage in stages
              for name, why in stage_outcome(stage, context)["degenerate"].items() if why]
    result = {"schema": 2, **{name: key[name] for name in
                              ("world", "inter", "target", "task", "split", "seed", "layer",
                               "robust") if name in key},
              "limited": limit, "languages": scores, "leaked": copied,
              "degenerate": "; ".join(failed),
              **evaluation.summarise(task, scores, context.world["english"])}
    write_file(folder / "metrics.json", json.dumps(result, indent=1, ensure_ascii=False))


def predict_missing(folder: Path, task, split: str, languages, start: Path, trained,
                    context: Context) -> None:
    """Write the prediction files that are not there yet, each as soon as its language is done."""
    paths = {lang: evaluation.prediction_path(folder, task, split, lang) for lang in languages}
    missing = ranks.on_first(lambda: [lang for lang in languages if not paths[lang].exists()])
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
                                  context.hardware, depth, poll, feature_folder(context))
        return predict.centred(examples, answers) if str(layer).endswith("c") else answers

    for lang, answers in predict.answer_languages(
            task, load, answer, split, missing, context.hardware):
        if ranks.rank() == 0:
            text = submission.format_answers(task.form, load(split, lang), answers, labels)
            paths[lang].parent.mkdir(parents=True, exist_ok=True)
            write_file(paths[lang], text)


def drop_encoder(stages: list[Stage], task, context: Context) -> None:
    """Target stages of a real encoder keep their heads only, unless --keep (2.2 GB for Large)."""
    if not task.train_on or context.given.keep:
        return
    for stage in stages[-len(task.train_on):]:
        best = stage_folder(stage, context)
        file = best / "model.safetensors"
        if file.exists() and file.stat().st_size > KEEP_BYTES:
            head = weights.load_head(best, tasks.get(stage.head).kind)
            weights.write_safetensors(best.parent / "head.safetensors", head)
            aside = best.with_name(".best.part")      # a cut here leaves nothing that looks usable
            best.rename(aside)
            remove_folder(aside)
