"""The prediction room: features -> logits -> answers, for any language; and one example's walk.

    examples --data.featurize--> Features --run_model--> logits --DECODE[kind]--> answers
                                  retrieval: vectors --SEARCH[search]--> answers of all languages
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

import data
import eval as evaluation
import metrics
import ranks
import search
import splits
import tasks
import weights
from features import features_of
from files import UserError
from model import Encoder, Model, make_encoder, make_head


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


def depth_of(layer: int | str, encoder: Encoder) -> int:
    """The block that --layer names: N, Nc or 0, the default."""
    return int(str(layer).removesuffix("c")) or default_depth(encoder)


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
    """Yield (batch, logits on the CPU) over this rank's features, longest sequences first.

    Without a head called `name` the logits are mean states of block `depth` (retrieval).
    lookup: ids of a compact token table (model.ActiveVocabulary); mask: batch -> masked batch
    (mlm); poll is called before each batch so that a signal can end a long evaluation.
    """
    model.eval()
    own = data.evaluation_batches(features, hardware.micro_tokens, ranks.rank(), ranks.size())
    for batch in ranks.in_step(own):
        poll()
        if batch is None:                   # this rank is done, another asks for signals still
            continue
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


def best_spans(task, runs, f, count: int) -> list[tuple[int, int]]:
    """(start, end) of the best span over each example's windows, in characters of its context;
    (0, 0) for no answer."""
    best = [(-np.inf, 0, 0)] * count
    null = [np.inf] * count
    for batch, logits in runs:
        score, last, context = span_scores(logits, batch, f, task.max_answer)
        for i, sequence in enumerate(batch.sequences):
            example, left = f.example[sequence], batch.cu_seqlens[i]
            first = left + score[left:batch.cu_seqlens[i + 1]].argmax()
            to_pool = f.b[sequence, 0] - context[i]
            best[example] = max(best[example],
                                (score[first], first + to_pool, last[first] + to_pool))
            null[example] = min(null[example], logits[left].sum().item())
    spans = []
    for (score, first, last), none in zip(best, null):
        is_empty = score == -np.inf or task.unanswerable and none > score
        spans.append((0, 0) if is_empty else (int(f.begin[first]), int(f.end[last])))
    return spans


def decode_spans(task, runs, f, examples, labels) -> list[str]:
    """The best span as a slice of the original context."""
    return [example.context[start:end]
            for example, (start, end) in zip(examples, best_spans(task, runs, f, len(examples)))]


def decode_tags(task, runs, f, examples, labels) -> list[tuple[str, ...]]:
    """The best tag at the first piece of every word; parts of a long sentence rejoin here."""
    tags = np.zeros(len(f.words), np.int64)
    for batch, logits in runs:
        tags[batch.asked] = logits.argmax(1).numpy()
    answers, start = [], 0
    for example in examples:
        answers.append(tuple(labels[t] for t in tags[start:start + len(example.words)]))
        start += len(example.words)
    return answers


def decode_vectors(task, runs, f, examples, labels) -> np.ndarray:
    """One vector an example, float32 [E, H]: what retrieval searches among."""
    vectors = None
    for batch, logits in runs:
        if vectors is None:
            vectors = np.empty((len(examples), logits.shape[1]), np.float32)
        vectors[f.example[batch.sequences]] = logits.numpy()
    return vectors


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
    "retrieval": decode_vectors,
    "mlm": decode_masks,
}


def predict(model, name, task, examples, tokenizer, labels, hardware, depth=None,
            poll=lambda: None, cache: Path | None = None) -> list:
    """Answers of head `name` for examples of any language; for retrieval, their vectors. cache: the
    folder of features that are kept."""
    features = features_of(task, examples, tokenizer, labels, cache=cache)
    return answer(model, name, task, features, examples, labels, hardware, depth=depth, poll=poll)


def answer(model, name, task, features, examples, labels, hardware, **options):
    """Answers to featurized examples; options: as for run_model. Every example is run on one rank,
    and its answer is known to all."""
    runs = run_model(model, name, features, hardware, **options)
    answers = DECODE[task.kind](task, runs, features, examples, labels)
    return ranks.merge(answers, len(examples))


# Retrieval: vectors -> answers. `load(split, lang)` and `encode(examples)` give examples and their
# vectors; each search yields (language, answers), one answer for each example of the language.


def search_pairs(load, encode, split: str, languages: list[str]):
    """For each query the id of the candidate nearest by cosine; None beside candidates."""
    for lang in languages:
        examples = load(split, lang)
        vectors, sides = encode(examples), rows_by_side(examples)
        best = search.nearest(vectors[sides["query"]], vectors[sides["candidate"]])
        yield lang, answer_queries(examples, (examples[sides["candidate"][row]].id for row in best))


def search_mining(load, encode, split: str, languages: list[str], is_bf16: bool = False):
    """The mined partner of a query, None where its score is below the threshold. The threshold is
    chosen on the language's dev split (BUCC's sample is for that), whose gold is needed."""
    for lang in languages:
        dev = load("dev", lang)
        if any(e.gold is None for e in dev):
            raise UserError(f"the dev split of {lang} has no gold to choose the threshold on")
        scores = search.mine_sentences(dev, encode(dev), is_bf16)
        golds = {(e.id, gold) for e in dev if e.side == "query" for gold in e.gold}
        threshold, examples = search.best_threshold(scores, golds), dev
        if split != "dev":
            examples = load(split, lang)
            scores = search.mine_sentences(examples, encode(examples), is_bf16)
        found = dict(pair for pair, score in scores.items() if score >= threshold)
        yield lang, [found.get(e.id) if e.side == "query" else None for e in examples]


def search_ranked(load, encode, split: str, languages: list[str]):
    """The twenty best candidates of all languages for each query: first all are encoded."""
    loaded = {lang: load(split, lang) for lang in languages}
    vectors = {lang: encode(examples) for lang, examples in loaded.items()}
    examples, pool = sum(loaded.values(), []), np.concatenate(list(vectors.values()))
    candidates = rows_by_side(examples)["candidate"]
    if not candidates:
        raise UserError("there are no candidates to search among")
    ids, pool = [examples[row].id for row in candidates], pool[candidates]
    for lang, examples in loaded.items():
        best = search.rank(vectors[lang][rows_by_side(examples)["query"]], pool)
        yield lang, answer_queries(examples, [tuple(ids[i] for i in row) for row in best])


def rows_by_side(examples: list) -> dict[str, list[int]]:
    return {side: [i for i, example in enumerate(examples) if example.side == side]
            for side in ("query", "candidate")}


def centred(examples: list, vectors: np.ndarray) -> np.ndarray:
    """Vectors [E, H] less the mean of their side (--layer Nc): a direction that all sentences of a
    language share no longer makes them alike, so what is left of a gain is alignment."""
    for rows in rows_by_side(examples).values():
        if rows:
            vectors[rows] -= vectors[rows].mean(0)
    return vectors


def answer_queries(examples: list, answers) -> list:
    """One answer for each query, in order; None beside candidates."""
    answers = iter(answers)
    return [next(answers) if example.side == "query" else None for example in examples]


SEARCH = {"pairs": search_pairs, "mining": search_mining, "ranked": search_ranked}


def answer_languages(task, load, predict_examples, split: str, languages: list[str],
                     is_bf16: bool = False):
    """Yield (language, answers) of a whole evaluation. load(split, lang) -> examples;
    predict_examples(examples) -> what predict() gives; is_bf16: mine with products in bfloat16,
    the best ones scored again in float32."""
    if task.search == "mining":
        yield from search_mining(load, predict_examples, split, languages, is_bf16)
    elif task.search:
        yield from SEARCH[task.search](load, predict_examples, split, languages)
    else:
        for lang in languages:
            yield lang, predict_examples(load(split, lang))


def answer_split(task, examples: list, decoded):
    """The answers within one split; decoded is what DECODE gives for its examples."""
    if not task.search:
        return decoded
    ((_, answers),) = SEARCH[task.search](lambda *_: examples, lambda _: decoded, "dev", [""])
    return answers


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


def trained_task(run: Path, config: dict) -> tuple:
    """A run's target task as it was trained, its head's name and labels, its encoder's folder."""
    key = config["key"]
    task = replace(tasks.get(key["task"]), **key["row"])
    labels = splits.labels(tasks.get(key["head"] or task.name), Path(config["paths"]["data"]))
    folder = Path(config["paths"]["model"])
    if key["stages"]:
        folder = run.parent / "stages" / key["stages"][-1] / "best"
    return task, key["head"], labels, folder


def example_walk(run: Path, where: str) -> str:
    """text, pieces, window, best spans, answer, gold, score of one example (`language:row`)."""
    recorded, config = evaluation.read_run(run)
    task, head, labels, stage = trained_task(run, config)
    folder = Path(config["paths"]["data"])
    lang, _, row = where.partition(":")
    if lang not in recorded["languages"]:
        raise UserError(f"--example wants LANGUAGE:ROW, languages {list(recorded['languages'])}")
    loaded = evaluation.load_examples(task, folder, recorded["split"], lang, recorded["limited"])
    rows = [str(e.row) for e in loaded.examples]
    if row not in rows:
        raise UserError(f"no row {row} in {lang} (rows {rows[0]} to {rows[-1]})")
    index = rows.index(row)
    answer = evaluation.read_predictions(run, task, recorded["split"], lang, loaded.examples)[index]
    example = loaded.examples[index]
    lines = [f"{key}: {value!r}" for key, value in example._asdict().items()]
    if (stage / "config.json").exists():
        model, tokenizer = load_model(stage, head, task, len(labels))
        depth = depth_of(config["key"]["layer"], model.encoder)
        lines += sequence_walk(model, head, task, example, tokenizer, labels, depth)
    else:
        lines.append("(the encoder was not kept: run again with --keep for windows and spans)")
    lines.append(f"answer: {answer!r}")
    if loaded.labelled and task.kind != "retrieval":
        lines.append(f"score: {metrics.score(task.metric, [example], [answer], lang)}")
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
