"""The training room, neighbour of stilts.py: one loop for fine-tuning, multi-task and masked LM.

The batch of a step, its dropout and its masks are pure functions of (seed, step), so a checkpoint
is model + optimizer + counters and a resumed stage equals an uninterrupted one bit for bit.
"""

import json
import math
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import data
import draws
import eval as evaluation
import predict
import ranks
import robust
import tasks
import weights
from checkpoints import checkpoint_name, log, newest_checkpoint, write_checkpoint, write_file
from model import LOSSES, ActiveVocabulary, Model, clip_gradients, make_optimizer
from files import UserError, read_json

SUBSET = 500                    # English dev examples (of a pooled row: of each member) that select
                                # the best step (jiant)
CAP = 2 ** 17                  # examples-proportional sampling with a cap (Phang et al. 2020)


class Stopped(Exception):
    """A signal arrived and the state is saved; args[0] is the exit code."""


class NotFinite(Exception):
    """The loss or the gradient is not a number; raised before the optimizer step."""


@dataclass
class Part:
    """One task inside a stage: its data on both sides, and the order of its training items."""

    task: tasks.Task
    labels: tuple
    values: dict                            # resolved settings, without origins
    features: data.Features
    order: draws.Order
    dev: list = field(default_factory=list)
    groups: tuple[int, ...] = ()            # dev examples of each member of a pooled row
    dev_features: data.Features | None = None

    @property
    def size(self) -> int:
        """Training items, at most CAP: decides how often a task of a mixture is drawn."""
        return min(len(self.order.lengths), CAP)


def load_training(task, lang: str, values: dict, seed: int, folder: Path, limit: int) -> list:
    """The training examples of one language, or as many as the setting `examples` says; with rs-da,
    reworded copies in their place."""
    loaded = evaluation.load_examples(task, folder, "train", lang, limit)
    if loaded.dropped:
        log(f"{task.name} {lang}: {loaded.dropped:,} training examples without gold left out")
    examples = loaded.examples
    if values["examples"]:
        key = "examples", seed, values["draw"]
        examples = draws.subset(examples, values["examples"], *key)[0]
    if values["robust"] == "rs-da":
        synonyms = robust.synonym_file(task, folder, lang)
        examples = robust.augment(task, examples, synonyms, values["copies"], seed)
    return examples


def load_dev(task, folder: Path, english: str, limit: int) -> tuple[list, tuple[int, ...]]:
    """The English examples that select the best step, and how many of each member; mlm has none."""
    if task.kind == "mlm":
        return [], ()
    dev = evaluation.load_examples(task, folder, "dev", english, limit)
    return draws.subset(dev.examples, SUBSET, "dev", groups=dev.groups)


def stage_steps(parts: dict[str, Part], settings: dict) -> int:
    """Optimizer steps of a stage: given, or the epochs of all its tasks together.

    CAP holds inside a mixture only: one task alone is trained on all of its data.
    """
    def steps(part):
        size = part.size if len(parts) > 1 else len(part.order.lengths)
        return math.ceil(part.values["epochs"] * math.ceil(size / part.values["batch_size"]))
    return settings["steps"] or max(1, sum(steps(part) for part in parts.values()))


@dataclass
class State:
    """Everything a resumed stage needs besides tensors."""

    step: int = 0
    evaluated: int = -1                     # last step whose dev score is known
    best: list = field(default_factory=lambda: [0.0, -1])     # score, step; -1: none yet
    outcome: dict = field(default_factory=dict)      # of the best step: dev scores, collapses
    decay: float = 1.0                      # product of (1 - rate * weight_decay) so far
    counters: dict = field(default_factory=dict)                          # batches drawn per task
    skipped: int = 0                        # fp16 steps skipped in a row
    scaler: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Setup:
    """What all steps of a stage share."""

    model: Model
    parts: dict[str, Part]
    settings: dict                          # lr, weight_decay, warmup, clip, beta2, evaluations
    seed: int
    tokenizer: data.Tokenizer
    hardware: predict.Hardware
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    vocabulary: ActiveVocabulary | None     # None: the whole token table is trained


def make_setup(model: Model, parts, settings, seed, tokenizer, hardware) -> Setup:
    """Put the model on its device and make its optimizer; MLM's softmax needs the whole table."""
    vocabulary = None
    if all(p.task.kind != "mlm" for p in parts.values()):
        pools = [f.pieces for p in parts.values() for f in (p.features, p.dev_features)]
        special = [data.BOS, data.PAD, data.EOS, data.UNK, tokenizer.mask_id]
        ids = np.unique(np.concatenate([*pools, np.array(special, np.int32)]))
        vocabulary = ActiveVocabulary(model.encoder, torch.from_numpy(ids))
    model.to(hardware.device)
    optimizer = make_optimizer(model, settings["weight_decay"], (0.9, settings["beta2"]))
    scaler = torch.amp.GradScaler(hardware.device.type, enabled=hardware.dtype == torch.float16)
    scaler.scale(torch.zeros((), device=hardware.device))   # a rank may begin without an example
    return Setup(model, parts, settings, seed, tokenizer, hardware, optimizer, scaler, vocabulary)


def train(setup: Setup, total: int, folder: Path, stop) -> dict:
    """The one training loop: fine-tuning, multi-task, masked language modelling.

    total: optimizer steps; folder: the stage's, continued from its newest complete checkpoint;
    stop(): the exit code of a signal that arrived, or 0. The best checkpoint is the one with the
    highest mean main dev score (ties: the earlier; without any dev score: the last). Returns its
    {"step": ..., "dev": {task: score}, "degenerate": {task: why its training failed}}. Raises
    NotFinite before a step whose loss or gradient is not finite, Stopped after saving.
    """
    settings, optimizer, scaler = setup.settings, setup.optimizer, setup.scaler
    state = resume(folder, setup)
    count = settings["evaluations"]
    marks = {max(1, round(total * i / count)) for i in range(1, count + 1)}
    journal = Journal(folder / "train.jsonl", state)
    bar = tqdm(total=total, initial=state.step, desc="+".join(setup.parts), unit="step",
               disable=not sys.stderr.isatty())

    def poll():
        if code := stop():
            save(folder, setup, state)
            raise Stopped(code)

    while True:
        # now and then: score English dev, keep the best
        if state.step in marks and state.evaluated < state.step:
            scores, collapses = dev_scores(setup, poll)
            score = sum(scores.values()) / len(scores) if scores else state.step
            if state.best[1] < 0 or score > state.best[0]:
                state.best = [score, state.step]
                state.outcome = {"dev": scores, "degenerate": collapses}
            state.evaluated = state.step
            journal.write({"step": state.step, "dev": scores})
            save(folder, setup, state)
        if state.step == total:
            break
        poll()

        # one optimizer step
        name = choose_task(setup.parts, setup.seed, state.step)
        items = setup.parts[name].order(state.counters.get(name, 0))
        rate = settings["lr"] * schedule(state.step, total, settings["warmup"])
        loss, norm = accumulate(setup, name, items, state.step)
        is_finite = math.isfinite(norm)
        if not is_finite and (not scaler.is_enabled() or state.skipped >= 20):
            refuse(folder, {"step": state.step, "task": name, "loss": str(loss), "lr": rate,
                            "norm": str(norm), "items": items.tolist()})
        for group in optimizer.param_groups:
            group["lr"] = rate
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)

        # counters last, so that a checkpoint is always between two steps
        state.skipped = 0 if is_finite else state.skipped + 1
        state.decay *= 1.0 - rate * settings["weight_decay"] if is_finite else 1.0
        state.counters[name] = state.counters.get(name, 0) + 1
        state.step += 1
        bar.update()
        journal.step(state.step, total, {"task": name, "loss": loss, "lr": rate, "norm": norm})
    bar.close()
    state.outcome["degenerate"] = ranks.on_first(lambda: flat_losses(setup.parts, journal.path)) | {
        name: why for name, why in state.outcome["degenerate"].items() if why}
    return {"step": state.best[1], **state.outcome}


def refuse(folder: Path, facts: dict) -> None:
    """Stop before a step whose numbers are not finite; the last checkpoint stays as it is."""
    ranks.on_first(lambda: write_file(folder / "failure.json", json.dumps(facts)))
    raise NotFinite(f"{folder}: step {facts['step']} of {facts['task']}: loss {facts['loss']}, "
                    f"gradient norm {facts['norm']} (see failure.json). Try a lower lr")


def choose_task(parts: dict[str, Part], seed: int, step: int) -> str:
    """Task of a step, proportional to min(examples, CAP): a pure function of (seed, step)."""
    ends = np.cumsum([p.size for p in parts.values()])
    place = draws.stream("task", seed, step).random() * ends[-1]
    return list(parts)[int(np.searchsorted(ends, place, "right"))]


def schedule(step: int, total: int, warmup: float) -> float:
    """Linear warm-up, then linear to 0 (transformers' get_linear_schedule_with_warmup)."""
    warm = round(total * warmup)
    return step / warm if step < warm else (total - step) / max(1, total - warm)


def accumulate(setup: Setup, name: str, items: np.ndarray, step: int) -> tuple[float, float]:
    """Gradients of one step's mean loss, clipped once; returns (loss, norm before clipping).

    The loss is a sum over targets divided by their count in the whole step, so cutting the step
    into micro-batches and over ranks changes the order of summation and the draws of dropout,
    nothing else.
    """
    part, model, hardware = setup.parts[name], setup.model, setup.hardware
    batches = micro_batches(setup, name, items, step)
    count = max(1, ranks.total(sum(b.count for b in batches)))
    seeds = draws.stream("dropout", setup.seed, step).integers(2 ** 62, size=ranks.size())
    torch.manual_seed(int(seeds[ranks.rank()]))
    generator = robust.generator(setup.seed, step, ranks.rank(), hardware.device)
    model.train()
    total = torch.zeros((), device=hardware.device)
    for batch in batches:
        batch = batch.to(hardware.device)

        def loss(delta):
            with hardware.autocast():
                return LOSSES[part.task.kind](model(name, batch, delta), batch) / count

        shape = len(batch.input_ids), model.encoder.config.hidden_size
        total += robust.backward(robust.Pass(loss, part.values, batch.cu_seqlens, shape,
                                             setup.scaler, generator))
    ranks.sum_gradients([*model.encoder.parameters(), *model.heads[name].parameters()], total)
    setup.scaler.unscale_(setup.optimizer)
    norm = clip_gradients(model.parameters(), setup.settings["clip"])
    return float(total), float(norm)


def micro_batches(setup: Setup, name: str, items: np.ndarray, step: int) -> list[data.Batch]:
    """This rank's share of a step's items, cut to what fits into memory.

    Items are dealt out to the ranks sorted by length, so that as many of them have nearly as many
    tokens: the difference is less than that of the longest and the shortest item.
    """
    part, vocabulary = setup.parts[name], setup.vocabulary
    items = items[np.argsort(part.order.lengths[items], kind="stable")]
    items = items[ranks.rank()::ranks.size()]
    batches = [data.make_batch(part.features, items[run]) for run in
               data.cut_by_tokens(part.order.lengths[items], setup.hardware.micro_tokens)]
    if part.task.kind == "mlm":
        rates = part.values["mask_rate"], part.values["random_rate"]
        batches = [draws.mask_tokens(b, *rates, setup.tokenizer, setup.seed, step) for b in batches]
    for batch in batches if vocabulary else ():
        batch.input_ids = vocabulary.lookup[batch.input_ids]
    return batches


def dev_scores(setup: Setup, poll) -> tuple[dict[str, float], dict[str, str]]:
    """Main score of each task on its English dev subset, and why it has collapsed ("" if it has
    not); masked LM has none."""
    scores, collapses = {}, {}
    lookup = setup.vocabulary.lookup if setup.vocabulary else None
    for name, part in setup.parts.items():
        if part.dev:
            answers = predict.answer(setup.model, name, part.task, part.dev_features, part.dev,
                                     part.labels, setup.hardware, lookup=lookup, poll=poll)
            answers = predict.answer_split(part.task, part.dev, answers)
            values = evaluation.score_groups(part.task, part.dev, answers, part.groups, "en")
            scores[name] = evaluation.task_score(part.task, values)
            collapses[name] = evaluation.collapse(part.task, part.dev, answers, values)
    return scores, collapses


def flat_losses(parts: dict[str, Part], journal: Path) -> dict[str, str]:
    """Tasks whose training loss at the end (mean of the last quarter of the logged steps) is not
    3 % below that at the beginning (the first tenth). About a hundred steps of a stage are logged;
    of a task with fewer than 40 of them nothing is told, which in mixtures is most of them, nor of
    masked LM, which goes on from its pretraining."""
    rows = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    flat = {}
    for name in [name for name, part in parts.items() if part.task.kind != "mlm"]:
        losses = [row["loss"] for row in rows if row.get("task") == name]
        if len(losses) >= 40:
            first, last = np.mean(losses[:len(losses) // 10]), np.mean(losses[-len(losses) // 4:])
            if last > 0.97 * first:
                flat[name] = f"flat loss, {first:.3f} to {last:.3f}"
    return flat


class Journal:
    """train.jsonl: one line per logged step or dev score; a resumed run cuts what it will redo."""

    def __init__(self, path: Path, state: State):
        self.path, self.began, self.told = path, time.monotonic(), time.monotonic()
        kept = []
        for line in path.read_text(encoding="utf-8").split("\n") if path.exists() else []:
            try:
                row = json.loads(line)
            except ValueError:                      # empty, or cut off by the end of the process
                continue
            if row["step"] <= (state.evaluated if "dev" in row else state.step):
                kept.append(line + "\n")
        ranks.on_first(lambda: write_file(path, "".join(kept)))

    def write(self, row: dict) -> None:
        if ranks.rank() > 0:
            return
        row = row | {"seconds": round(time.monotonic() - self.began, 2)}
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as problem:
            raise UserError(f"cannot write ({problem.strerror})", self.path) from None
        if row.get("dev"):
            scores = ", ".join(f"{name} {score:.2f}" for name, score in row["dev"].items())
            log(f"step {row['step']}: English dev {scores}")

    def step(self, step: int, total: int, row: dict) -> None:
        """Every hundredth of the stage goes to the file; without a terminal a line every 10 s."""
        if step % max(1, total // 100) == 0 or step == total:
            self.write({"step": step, **row})
        if not sys.stderr.isatty() and time.monotonic() - self.told > 10:
            self.told = time.monotonic()
            log(f"step {step} of {total}: loss {row['loss']:.3f}")


# ---------------------------------------------------------------------- checkpoints of a stage


MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def save(folder: Path, setup: Setup, state: State) -> None:
    """One checkpoint, written by rank 0; the others wait, so that none ends the program before."""
    ranks.on_first(lambda: write_state(folder, setup, state))


def write_state(folder: Path, setup: Setup, state: State) -> None:
    """Model (full token table), moments and state as one checkpoint; newest two and best stay."""
    name = checkpoint_name(state.step, state.evaluated == state.step)
    if (folder / "ckpt" / name).exists():
        return
    tensors = {k: v.detach().cpu() for k, v in setup.model.state_dict().items()}
    if setup.vocabulary:
        table = setup.vocabulary.table(setup.model.encoder, state.decay)
        tensors["encoder.tokens.weight"] = table
    moments = {f"{moment}.{name}": setup.optimizer.state[p][moment].cpu()
               for name, p in setup.model.named_parameters() if p in setup.optimizer.state
               for moment in MOMENTS}
    state.scaler = setup.scaler.state_dict()
    write_checkpoint(folder / "ckpt", name, {"model": tensors, "state": moments},
                     asdict(state) | circumstances(setup),
                     keep={checkpoint_name(state.best[1], True)})


def circumstances(setup: Setup) -> dict:
    """What must not change for a resumed run to give the same bits."""
    return {"threads": torch.get_num_threads(), "torch": torch.__version__,
            "micro_tokens": setup.hardware.micro_tokens, "ranks": ranks.size()}


def resume(folder: Path, setup: Setup) -> State:
    """State of the newest complete checkpoint, its tensors put in place; a fresh State if none."""
    found = ranks.on_first(lambda: str(newest_checkpoint(folder / "ckpt") or ""))
    if not found:
        return State()
    found = Path(found)
    written = read_json(found / "state.json")
    for name, now in circumstances(setup).items():
        if written.pop(name, None) != now:
            log(f"warning: {name} changed to {now} since the checkpoint: not bit for bit the same")
    tensors = weights.read_safetensors(found / "model.safetensors")
    if setup.vocabulary:
        table = tensors["encoder.tokens.weight"]
        tensors["encoder.tokens.weight"] = table[setup.vocabulary.ids]
    setup.model.load_state_dict(tensors)
    moments = weights.read_safetensors(found / "state.safetensors")
    for name, p in setup.model.named_parameters():
        if f"step.{name}" in moments:
            setup.optimizer.state[p] = {moment: moments[f"{moment}.{name}"].to(p.device, copy=True)
                                        for moment in MOMENTS}
    state = State(**written)
    if setup.scaler.is_enabled():
        setup.scaler.load_state_dict(state.scaler)
    log(f"resumed at step {state.step}")
    return state
