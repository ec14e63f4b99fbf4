"""The evaluation room: logits -> answers -> prediction files -> official scores.

    python eval.py RUN...                       score the prediction files again and compare
    python eval.py RUN --example sw:12          one example's whole walk (language:row)

A score always comes from a prediction file and the gold, read by the same code that re-scores it
later; predictions are written per language as soon as it is done, in XTREME's submission format.
"""

import argparse
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import numpy as np
import torch

import data
import metrics
import tasks
import weights
from model import Encoder, Model, make_encoder, make_head
from readers import UserError, read_json


@dataclass(frozen=True)
class Hardware:
    """Where and how numbers are computed."""

    device: torch.device
    dtype: torch.dtype | None      # autocast type, None = fp32
    micro_tokens: int              # most tokens in one forward pass

    def autocast(self):
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None)


# ------------------------------------------------------------------------------ run the model


def default_depth(encoder: Encoder) -> int:
    """Block whose states retrieval compares: 14 of 24 (XTREME, jiant), in proportion elsewhere."""
    return round(encoder.config.num_layers * 14 / 24)


def mean_states(encoder: Encoder, batch, depth: int) -> torch.Tensor:
    """Mean of block `depth`'s states over all positions, <s> and </s> included [B, H]."""
    hidden = encoder(batch.input_ids, batch.cu_seqlens, batch.lengths, depth).float()
    rows = torch.arange(len(batch.lengths), device=hidden.device).repeat_interleave(
        batch.cu_seqlens.diff(), output_size=len(hidden))
    total = hidden.new_zeros(len(batch.lengths), hidden.shape[1]).index_add(0, rows, hidden)
    return total / batch.cu_seqlens.diff()[:, None]


@torch.inference_mode()
def run_model(model: Model, name: str, features, hardware: Hardware, depth=None, lookup=None,
              mask=None, poll=lambda: None):
    """Yield (batch, logits on the CPU) over all features, longest sequences first.

    Without a head called `name` the logits are mean states of block `depth` (retrieval).
    lookup: ids of a compact token table (model.ActiveVocabulary); mask: batch -> masked batch
    (mlm); poll is called before each batch so that a signal can end a long evaluation.
    """
    model.eval()
    for batch in data.evaluation_batches(features, hardware.micro_tokens):
        poll()
        batch = mask(batch) if mask else batch
        if lookup is not None:
            batch.input_ids = lookup[batch.input_ids]
        on_device = batch.to(hardware.device)
        with hardware.autocast():
            if name in model.heads:
                logits = model(name, on_device)
            else:
                logits = mean_states(model.encoder, on_device, depth)
        yield batch, logits.float().cpu()


# ------------------------------------------------------------------------------------ decode
# runs: (batch, logits) pairs of run_model. Each decoder returns one answer per example.


def decode_classes(task, runs, f, examples, labels) -> list[str]:
    """The label with the highest score."""
    answers = [None] * len(examples)
    for batch, logits in runs:
        for example, best in zip(f.example[batch.sequences], logits.argmax(1).tolist()):
            answers[example] = labels[best]
    return answers


def decode_choices(task, runs, f, examples, labels) -> list[int]:
    """The choice with the highest score."""
    answers = [None] * len(examples)
    for batch, logits in runs:
        best = logits.view(-1, f.group).argmax(1).tolist()
        for example, choice in zip(f.example[batch.sequences[::f.group]], best):
            answers[example] = choice
    return answers


def span_scores(logits, batch, f, max_answer):
    """Best span from every token: (score [N], last token [N], first context token [B]).

    Exact search over all spans of at most max_answer tokens inside the context, on the flat batch;
    the reference scripts only combine the 20 best starts with the 20 best ends. A start that
    another window owns scores -inf.
    """
    start, end = logits.numpy().T
    bounds = batch.cu_seqlens
    which, _ = data.repeat_with_rank(np.diff(bounds))
    a, b, own = f.a[batch.sequences], f.b[batch.sequences], f.own[batch.sequences]
    context = bounds[:-1] + 3 + a[:, 1] - a[:, 0]                 # first context token [B]
    place = np.arange(len(start))
    stop = (context + b[:, 1] - b[:, 0])[which]
    best = np.full(len(start), -np.inf, np.float32)
    last = place.copy()
    for extra in range(min(max_answer, len(start))):
        score = start[:len(start) - extra] + end[extra:]
        better = (place[extra:] < stop[:len(score)]) & (score > best[:len(score)])
        best[:len(score)][better] = score[better]
        last[:len(score)][better] = place[extra:][better]
    owned = context[:, None] + own - b[:, :1]
    best[(place < owned[which, 0]) | (place >= owned[which, 1])] = -np.inf
    return best, last, context


def decode_spans(task, runs, f, examples, labels) -> list[str]:
    """The best span over an example's windows, as a slice of the original context."""
    best = [(-np.inf, 0, 0)] * len(examples)
    null = [np.inf] * len(examples)
    for batch, logits in runs:
        score, last, context = span_scores(logits, batch, f, task.max_answer)
        for i, sequence in enumerate(batch.sequences):
            example, left = f.example[sequence], batch.cu_seqlens[i]
            first = left + score[left:batch.cu_seqlens[i + 1]].argmax()
            to_pool = f.b[sequence, 0] - context[i]
            best[example] = max(best[example],
                                (score[first], first + to_pool, last[first] + to_pool))
            null[example] = min(null[example], logits[left].sum().item())
    answers = []
    for example, (score, first, last), none in zip(examples, best, null):
        is_empty = score == -np.inf or task.unanswerable and none > score
        answers.append("" if is_empty else example.context[f.begin[first]:f.end[last]])
    return answers


def decode_tags(task, runs, f, examples, labels) -> list[tuple[str, ...]]:
    """The best tag at the first piece of every word; parts of a long sentence rejoin here."""
    tags = np.empty(len(f.words), np.int64)
    for batch, logits in runs:
        tags[batch.asked] = logits.argmax(1).numpy()
    answers, start = [], 0
    for example in examples:
        answers.append(tuple(labels[t] for t in tags[start:start + len(example.words)]))
        start += len(example.words)
    return answers


def decode_nearest(task, runs, f, examples, labels) -> list[str | None]:
    """For each query the id of the nearest candidate by cosine; None beside candidates."""
    vectors = [None] * len(examples)
    for batch, logits in runs:
        for example, vector in zip(f.example[batch.sequences], logits.numpy()):
            vectors[example] = vector
    sides = {side: [i for i, e in enumerate(examples) if e.side == side]
             for side in ("query", "candidate")}
    nearest = metrics.nearest(*(np.stack([vectors[i] for i in rows]) for rows in sides.values()))
    answers = [None] * len(examples)
    for i, row in zip(sides["query"], nearest.tolist()):
        answers[i] = examples[sides["candidate"][row]].id
    return answers


def decode_masks(task, runs, f, examples, labels) -> list[list[int]]:
    """The most likely token id at each masked place of a document."""
    answers = [[] for _ in examples]
    for batch, logits in runs:
        which = np.searchsorted(batch.cu_seqlens, batch.positions, "right") - 1
        for document, best in zip(f.example[batch.sequences[which]], logits.argmax(1).tolist()):
            answers[document].append(best)
    return answers


DECODE = {
    "classification": decode_classes,
    "multiple_choice": decode_choices,
    "span": decode_spans,
    "tagging": decode_tags,
    "retrieval": decode_nearest,
    "mlm": decode_masks,
}


def predict(model, name, task, examples, tokenizer, labels, hardware, depth=None,
            poll=lambda: None) -> list:
    """Answers of head `name` for examples of any language."""
    features = data.featurize(task, examples, tokenizer, labels)
    runs = run_model(model, name, features, hardware, depth, poll=poll)
    return DECODE[task.kind](task, runs, features, examples, labels)


def fill_masks(model, tokenizer, texts: list[str], hardware: Hardware) -> list[str]:
    """Each text with its `<mask>` replaced by the most likely piece of head "mlm"."""
    ids = [np.array(tokenizer.encode_masked(text)[1:-1], np.int32) for text in texts]
    ends = np.cumsum([len(i) for i in ids]).astype(np.int32)
    slices = np.stack([ends - [len(i) for i in ids], ends], 1).astype(np.int32)
    f = data.Features("mlm", np.concatenate(ids), slices, None, np.arange(len(texts)))

    def ask(batch):
        batch.positions = np.flatnonzero(batch.input_ids == tokenizer.mask_id)
        return batch

    answers = DECODE["mlm"](None, run_model(model, "mlm", f, hardware, mask=ask), f, texts, ())
    pieces = [tokenizer.piece(best[0]).replace(data.WORD_START, " ").strip() for best in answers]
    return [text.replace("<mask>", f"[{piece}]") for text, piece in zip(texts, pieces)]


# --------------------------------------------------------------------- predictions and scores


def load_model(folder: Path, name: str, task, classes: int) -> tuple[Model, data.Tokenizer]:
    """Encoder, vocabulary and, where the folder holds one, the head of a task."""
    config, state, vocabulary, _ = weights.load_encoder(folder)
    tokenizer = data.Tokenizer(vocabulary)
    check_fit(tokenizer, config, folder)
    check_length(task, config, folder)
    heads = {}
    if name:
        heads[name] = make_head(task.kind, config, classes, seed=0)
        heads[name].load_state_dict(weights.load_head(folder, task.kind))
    return Model(make_encoder(config, state), heads), tokenizer


def check_fit(tokenizer, config, folder) -> None:
    """A table may be padded to a multiple of 8 rows; anything else is another vocabulary."""
    extra = config.vocab_size - tokenizer.vocab_size
    if extra < 0 or extra and (config.vocab_size % 8 or extra >= 1024):
        raise UserError(f"the embedding table has {config.vocab_size} rows, the vocabulary needs "
                        f"{tokenizer.vocab_size}", folder)


def check_length(task, config, folder) -> None:
    if task.max_length > config.max_length:
        raise UserError(f"{task.name}: max_length {task.max_length}, the encoder has "
                        f"{config.max_length} positions", folder)


def prediction_path(run: Path, task, split: str, lang: str) -> Path:
    return run / "predictions" / task.name / f"{split}-{lang}.{metrics.EXTENSION[task.kind]}"


def load_examples(task, folder: Path, split: str, lang: str, limit: int = 0) -> tasks.Split:
    """One language's examples, at most `limit` (0 = all): for retrieval, pairs stay together."""
    loaded = tasks.load(task, folder, split, lang)
    if not limit:
        return loaded
    return loaded._replace(examples=[e for e in loaded.examples if e.row <= limit]
                           if task.kind == "retrieval" else loaded.examples[:limit])


def score_language(run: Path, task, folder: Path, split: str, lang: str, limit: int) -> dict:
    """Official values of one prediction file; {"labels": False} where the gold is withheld."""
    loaded = load_examples(task, folder, split, lang, limit)
    answers = read_predictions(run, task, split, lang, loaded.examples)
    n = sum(getattr(e, "side", "query") == "query" for e in loaded.examples)
    if not loaded.labelled:
        return {"n": n, "labels": False}
    return {"n": n, "labels": True, "degenerate": is_constant(answers),
            **metrics.METRICS[task.metric](loaded.examples, answers)}


def read_predictions(run: Path, task, split: str, lang: str, examples: list) -> list:
    """Answers of a prediction file, one per example; UserError if it does not fit them."""
    path = prediction_path(run, task, split, lang)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise UserError(f"cannot read predictions ({problem})", path) from None
    return metrics.parse_answers(task.kind, text, examples, path)


def is_constant(answers) -> str:
    """Why a run is degenerate ("" if it is not): more than 99 % of its answers are one answer."""
    given = [tuple(set(a)) if isinstance(a, tuple) else a for a in answers if a is not None]
    if len(given) < 20:
        return ""
    common = max(set(given), key=given.count)
    return f"{common!r} everywhere" if given.count(common) > 0.99 * len(given) else ""


def task_score(task, values: dict) -> float:
    """The score of one language: a QA score is (F1 + EM) / 2, others have one main value."""
    return mean(values[key] for key in metrics.MAIN[task.metric])


def summarise(task, languages: dict[str, dict], english: str) -> dict:
    """Means over labelled languages: XTREME's own (English included) and the zero-shot one."""
    scores = {lang: task_score(task, v) for lang, v in languages.items() if v["labels"]}
    other = [s for lang, s in scores.items() if lang != english]
    return {"official": mean(scores.values()) if scores else None,
            "zero_shot": mean(other) if other else None,
            "degenerate": languages.get(english, {}).get("degenerate", "")}


def leaked(trained, task, split: str, folder: Path, english: str, limit: int) -> int:
    """English evaluation examples whose text also stands in the training data."""
    if not tasks.find(task, folder, split, english):
        return 0
    seen = {text_of(e) for e in load_examples(trained, folder, "train", english, limit).examples}
    return sum(text_of(e) in seen
               for e in load_examples(task, folder, split, english, limit).examples)


def text_of(example) -> tuple:
    """What a model sees of an example: all its fields but row, id and gold."""
    hidden = ("row", "id", "label", "answers", "tags", "gold")
    return tuple(v for k, v in example._asdict().items() if k not in hidden)


# ------------------------------------------------------------------------------------ tables


def markdown_table(task, split: str, runs: list[dict]) -> str:
    """Languages as columns, one row per intermediate setting; mean and SD over seeds.

    runs: metrics.json dicts of one target. A dagger marks degenerate runs, (R) XTREME-R's own
    languages.
    """
    languages, keys = list(runs[0]["languages"]), metrics.MAIN[task.metric]
    names = [f"{lang} (R)" if lang in task.xtreme_r else lang for lang in languages]
    header = ["intermediate", "seeds", *names, "mean", "zero-shot mean"]
    n = "/".join(str(v["n"]) for v in runs[0]["languages"].values())
    limited = f", LIMITED to {runs[0]['limited']}" if runs[0]["limited"] else ""
    lines = [f"{task.name}, {split}, {' / '.join(keys)}, n = {n}{limited}", "",
             "| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for inter in dict.fromkeys(r["inter"] for r in runs):
        lines.append(table_row(inter, [r for r in runs if r["inter"] == inter], languages, keys))
    return "\n".join(lines)


def table_row(inter: str, runs: list[dict], languages, keys) -> str:
    mark = "\u2020" if any(r["degenerate"] for r in runs) else ""
    cells = [inter + mark, ",".join(str(r["seed"]) for r in runs)]
    for lang in languages:
        values = [spread([r["languages"][lang].get(k) for r in runs]) for k in keys]
        cells.append(" / ".join(dict.fromkeys(values) if "no labels" in values else values))
    cells += [spread([r[k] for r in runs]) for k in ("official", "zero_shot")]
    return "| " + " | ".join(cells) + " |"


def spread(values: list) -> str:
    """`71.3`, over several seeds `71.3 ± 0.8` (sample SD), or `no labels`."""
    if any(v is None for v in values):
        return "no labels"
    text = f"{mean(values):.1f}"
    return text if len(values) == 1 else f"{text} ± {np.std(values, ddof=1):.1f}"


# --------------------------------------------------------------------------- the second look


def rescore(run: Path) -> str:
    """Score a run's prediction files again; UserError if metrics.json says something else."""
    recorded, config = read_run(run)
    task, folder = tasks.get(recorded["task"]), Path(config["paths"]["data"])
    english = tasks.world(folder)["english"]
    for name, again in summarise(task, recorded["languages"], english).items():
        if recorded[name] != again:
            raise UserError(f"{name}: recorded {recorded[name]}, its languages give {again}",
                            run / "metrics.json")
    for lang, values in recorded["languages"].items():
        again = score_language(run, task, folder, recorded["split"], lang, recorded["limited"])
        if again != values:
            raise UserError(f"{lang}: recorded {values}, the prediction file gives {again}",
                            run / "metrics.json")
    return markdown_table(task, recorded["split"], [recorded])


def read_run(run: Path) -> tuple[dict, dict]:
    """metrics.json and config.json of a finished run; UserError for any other folder."""
    recorded, config = read_json(run / "metrics.json"), read_json(run / "config.json")
    needed = {"inter", "task", "split", "seed", "limited", "languages", "official", "degenerate"}
    if not needed <= set(recorded) or not {"key", "paths"} <= set(config):
        raise UserError("not a finished run of this program", run)
    return recorded, config


def trained_task(run: Path, config: dict) -> tuple:
    """A run's target task as it was trained, its head's name and labels, its encoder's folder."""
    key = config["key"]
    task = replace(tasks.get(key["target"]), **key["row"])
    labels = tasks.labels(tasks.get(key["head"] or task.name), Path(config["paths"]["data"]))
    folder = Path(config["paths"]["model"])
    if key["stages"]:
        folder = run.parent / "stages" / key["stages"][-1] / "best"
    return task, key["head"], labels, folder


def example_walk(run: Path, where: str) -> str:
    """text, pieces, window, best spans, answer, gold, score of one example (`language:row`)."""
    recorded, config = read_run(run)
    task, head, labels, stage = trained_task(run, config)
    folder = Path(config["paths"]["data"])
    lang, _, row = where.partition(":")
    if lang not in recorded["languages"]:
        raise UserError(f"--example wants LANGUAGE:ROW, languages {list(recorded['languages'])}")
    loaded = load_examples(task, folder, recorded["split"], lang, recorded["limited"])
    rows = [str(e.row) for e in loaded.examples]
    if row not in rows:
        raise UserError(f"no row {row} in {lang} (rows {rows[0]} to {rows[-1]})")
    index = rows.index(row)
    answer = read_predictions(run, task, recorded["split"], lang, loaded.examples)[index]
    example = loaded.examples[index]
    lines = [f"{key}: {value!r}" for key, value in example._asdict().items()]
    if (stage / "config.json").exists():
        model, tokenizer = load_model(stage, head, task, len(labels))
        depth = config["key"]["layer"] or default_depth(model.encoder)
        lines += sequence_walk(model, head, task, example, tokenizer, labels, depth)
    else:
        lines.append("(the encoder was not kept: run again with --keep for windows and spans)")
    lines.append(f"answer: {answer!r}")
    if loaded.labelled and task.kind != "retrieval":
        lines.append(f"score: {metrics.METRICS[task.metric]([example], [answer])}")
    return "\n".join(lines)


def sequence_walk(model, head, task, example, tokenizer, labels, depth) -> list[str]:
    """Each sequence of the example in pieces, with the model's five best candidates."""
    f = data.featurize(task, [example], tokenizer, labels)
    hardware = Hardware(torch.device("cpu"), None, 1 << 14)
    lines = []
    for batch, logits in run_model(model, head, f, hardware, depth):
        for i, sequence in enumerate(batch.sequences):
            left, right = batch.cu_seqlens[i], batch.cu_seqlens[i + 1]
            lines.append(f"sequence {sequence}: "
                         + " ".join(tokenizer.piece(t) for t in batch.input_ids[left:right]))
            if task.kind == "span":
                lines += best_span_lines(task, example, f, batch, logits, i)
        if task.kind in ("classification", "multiple_choice", "tagging"):
            lines.append(f"scores: {np.round(logits.numpy(), 2).tolist()}")
    return lines


def best_span_lines(task, example, f, batch, logits, i) -> list[str]:
    score, last, context = span_scores(logits, batch, f, task.max_answer)
    left, right = batch.cu_seqlens[i], batch.cu_seqlens[i + 1]
    lines = [f"  no answer {logits[left].sum():.2f}"]
    for first in left + np.argsort(-score[left:right], kind="stable")[:5]:
        to_pool = f.b[batch.sequences[i], 0] - context[i]
        if score[first] > -np.inf:
            text = example.context[f.begin[first + to_pool]:f.end[last[first] + to_pool]]
            lines.append(f"  span {score[first]:.2f} {text!r}")
    return lines


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN",
                        help="folder of a finished run")
    parser.add_argument("--example", metavar="LANG:ROW", help="show one example's walk instead")
    given = parser.parse_args(arguments)
    try:
        for run in given.runs:
            print(example_walk(run, given.example) if given.example else rescore(run))
    except UserError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
