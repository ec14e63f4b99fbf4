"""The data room: text -> pieces -> sequences -> padding-free batches.

    Example --featurize--> Features --make_batch--> Batch --to(device)--> model

Every text is encoded once into one flat pool of pieces; a sequence is one or two slices of it,
`<s> a </s>` or `<s> a </s></s> b </s>`: windows, choices, parts of a sentence are rows of a table.
Letters: P pieces of the pool, S sequences, E examples, N tokens of a batch, B its sequences.
"""

import hashlib
import sys
from dataclasses import dataclass, replace
from itertools import chain, pairwise, repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sentencepiece
import torch

from files import UserError

BOS, PAD, EOS, UNK = 0, 1, 2, 3          # fairseq's ids; the other pieces are shifted by one
NO_ANSWER, MISPLACED = -1, -2            # in place of the first piece of an answer
CHUNK = 256                              # texts that are encoded at once
WORD_START = "\u2581"
BLANKS = "".join(c for c in map(chr, range(0x3001)) if c.isspace()) + "\u200b\u200e\u200f\ufeff"
IS_BLANK = np.zeros(sys.maxunicode + 1, bool)          # of every character
IS_BLANK[[ord(c) for c in BLANKS]] = True
KNOWN_ANSWERS = {                        # published by fairseq and HF for XLM-R's vocabulary
    "Hello world!": [35378, 8999, 38],
    "Bonjour le monde": [84602, 95, 11146],
    "你好，世界": [6, 124084, 4, 3221],
    "مرحبا بالعالم": [665, 193478, 258, 1705, 77796],
}


# ------------------------------------------------------------------------------- tokenizer


class Pieces(NamedTuple):
    """Encoded texts end to end."""

    ids: np.ndarray              # int32 [P]
    bounds: np.ndarray           # int64 [texts + 1]
    begin: np.ndarray | None     # int32 [P] character offsets into the original text; a leading
    end: np.ndarray | None       # blank belongs to its piece, as in sentencepiece's offset_mapping


class Tokenizer:
    """XLM-R's tokenizer: SentencePiece plus fairseq's id shift; ids equal transformers' except
    that `<s>`, `<mask>` ... inside a text are plain text (a data file cannot inject them)."""

    def __init__(self, path: Path):
        try:
            self.processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as problem:
            raise UserError(f"not a SentencePiece model ({str(problem)[:80]})", path) from None
        count = len(self.processor)
        special = [self.processor.unk_id(), self.processor.bos_id(), self.processor.eos_id()]
        if special != [0, 1, 2]:
            raise UserError(f"<unk>, <s>, </s> are pieces {special}, in XLM-R [0, 1, 2]", path)
        self.sha256 = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        self.mask_id = count + 1
        self.vocab_size = count + 2
        self.shift = np.arange(count, dtype=np.int32) + 1
        self.shift[:3] = UNK, BOS, EOS
        self.pieces = self.processor.id_to_piece(list(range(count)))
        self.lengths = np.array([len(p) for p in self.pieces], np.int32)
        self.starts_word = np.array([p.startswith(WORD_START) for p in self.pieces])
        for text, ids in KNOWN_ANSWERS.items() if count == 250_000 else ():
            if self.encode([text]).ids.tolist() != ids:      # a damaged model can load silently
                raise UserError(f"250,000 pieces, but not XLM-R's ids for {text!r}", path)

    def encode(self, texts: list[str], offsets: bool = False) -> Pieces:
        """Ids without special tokens; with offsets=True also each piece's character range.

        sentencepiece gives lists: for a word half the cost of an array each. A list takes 36 bytes
        a piece, so CHUNK texts at once.
        """
        flat, sizes = [np.zeros(0, np.int32)], []
        for start in range(0, len(texts), CHUNK):
            lists = self.processor.encode(texts[start:start + CHUNK], out_type=int,
                                          num_threads=torch.get_num_threads())
            sizes += map(len, lists)
            flat.append(np.fromiter(chain.from_iterable(lists), np.int32))
        flat, bounds = np.concatenate(flat), np.cumsum([0, *sizes], dtype=np.int64)
        begin, end = self.find_offsets(texts, flat, bounds) if offsets else (None, None)
        return Pieces(self.shift[flat], bounds, begin, end)

    def find_offsets(self, texts, flat, bounds):
        """Offsets of raw pieces, equal to sentencepiece's offset_mapping at a third of its cost.

        Pieces tile the normalised text: end to end they spell it, and a running sum of their
        lengths gives offsets in it. Mostly that is the text with a blank in front; else
        sentencepiece's map leads back. An unknown piece has no known length: those texts take
        offset_mapping.
        """
        ends = np.cumsum(self.lengths[flat], dtype=np.int64)
        before = np.append(0, ends)[bounds[:-1]]                # length of all texts before one
        right = (ends - before.repeat(np.diff(bounds))).astype(np.int32)
        left = right - self.lengths[flat]
        begin, end = np.maximum(left - 1, 0), right - 1
        unknown = set(np.searchsorted(bounds, np.flatnonzero(flat == 0), "right") - 1)
        for i, (first, last) in enumerate(pairwise(bounds.tolist())):
            span = slice(first, last)
            normal = "".join(map(self.pieces.__getitem__, flat[span].tolist()))
            if i in unknown:
                pairs = self.processor.encode(texts[i], out_type="offset_mapping")["offsets"]
                begin[span], end[span] = np.array(pairs, np.int32).T
            elif normal and normal != WORD_START + texts[i].replace(" ", WORD_START):
                offsets = self.processor.normalize(texts[i], with_offsets=True)[1]
                back = np.fromiter(offsets, np.int32, len(offsets))
                begin[span], end[span] = back[left[span]], back[right[span]]
        return begin, end

    def encode_masked(self, text: str) -> list[int]:
        """Ids of one text with special tokens; `<mask>` takes the blank on its left, as in HF."""
        ids = [BOS]
        for i, part in enumerate(text.split("<mask>")):
            ids += [self.mask_id] if i else []
            ids += self.encode([part.rstrip(" ")]).ids.tolist()
        return ids + [EOS]

    def piece(self, token: int) -> str:
        """The piece of a token id, for people to read."""
        names = {BOS: "<s>", PAD: "<pad>", EOS: "</s>", UNK: "<unk>", self.mask_id: "<mask>"}
        return names.get(token) or self.pieces[token - 1]


# -------------------------------------------------------------------------------- features


@dataclass
class Features:
    """All sequences of a list of examples as flat arrays."""

    kind: str
    pieces: np.ndarray                      # int32 [P]
    a: np.ndarray                           # int32 [S, 2] slice of the pool
    b: np.ndarray | None                    # int32 [S, 2], None for single sequences
    example: np.ndarray                     # int32 [S] which example a sequence belongs to
    group: int = 1                          # sequences per training item (choices)
    target: np.ndarray | None = None        # classification, choice [E]; span [S, 2]; tags [words]
    begin: np.ndarray | None = None         # span: int32 [P] first character, no leading blank,
    end: np.ndarray | None = None           # and the one behind the last
    own: np.ndarray | None = None           # span: int32 [S, 2] pieces that start in this window
    words: np.ndarray | None = None         # tagging: int32 [words] pool place of the first piece

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each sequence, special tokens included [S]."""
        single = self.a[:, 1] - self.a[:, 0] + 2
        return single if self.b is None else single + self.b[:, 1] - self.b[:, 0] + 2

    @property
    def item_lengths(self) -> np.ndarray:
        """Tokens of each training item [S / group]."""
        return self.lengths.reshape(-1, self.group).sum(1)


def featurize(task, examples: list, tokenizer: Tokenizer, labels=(), train=False) -> Features:
    """Features of one task's examples; train=True leaves out what has no target."""
    return FEATURIZE[task.kind](task, examples, tokenizer, labels, train)


def unique_texts(texts) -> tuple[list[str], np.ndarray]:
    """Distinct texts in order of appearance, and which of them each text is."""
    texts = list(texts)
    place = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    return list(place), np.fromiter(map(place.__getitem__, texts), np.int64, len(texts))


def pool(tokenizer: Tokenizer, *columns):
    """Encode columns of texts, each distinct text once -> pool ids, [S, 2] slices per column."""
    texts, index = unique_texts(chain.from_iterable(columns))
    encoded = tokenizer.encode(texts)
    slices = np.stack([encoded.bounds[index], encoded.bounds[index + 1]], 1).astype(np.int32)
    return encoded.ids, np.split(slices, np.cumsum([len(c) for c in columns])[:-1])


def numbers(golds, labels) -> np.ndarray:
    """Label names -> class numbers; -1 (not counted) where there is none."""
    known = {label: i for i, label in enumerate(labels)}
    return np.fromiter(map(known.get, golds, repeat(-1)), np.int64)


def featurize_pairs(task, examples, tokenizer, labels, train):
    """Classification; the longer side is cut (HF's longest_first: the second side on a tie)."""
    ids, (a, b) = pool(tokenizer, [e.text_a for e in examples], [e.text_b for e in examples])
    room = task.max_length - 4
    size_a, size_b = a[:, 1] - a[:, 0], b[:, 1] - b[:, 0]
    a[:, 1] = a[:, 0] + np.minimum(size_a, np.maximum(room - size_b, (room + 1) // 2))
    b[:, 1] = b[:, 0] + np.minimum(size_b, np.maximum(room - size_a, room // 2))
    return Features(task.kind, ids, a, b, np.arange(len(examples), dtype=np.int32),
                    target=numbers([e.label for e in examples], labels))


def featurize_choices(task, examples, tokenizer, labels, train):
    """One sequence a choice; the start of the context is cut, as in jiant."""
    group = len(examples[0].endings)
    for e in examples:
        if len(e.endings) != group:
            raise UserError(f"{task.name} row {e.row}: {len(e.endings)} choices, not {group}")
    contexts = [e.context for e in examples for _ in e.endings]
    ids, (a, b) = pool(tokenizer, contexts, [x for e in examples for x in e.endings])
    room = task.max_length - 4
    b[:, 1] = np.minimum(b[:, 1], b[:, 0] + room)
    a[:, 0] = np.maximum(a[:, 0], a[:, 1] - (room - (b[:, 1] - b[:, 0])))
    example = np.arange(len(examples), dtype=np.int32).repeat(group)
    target = np.array([-1 if e.label is None else e.label for e in examples], np.int64)
    return Features(task.kind, ids, a, b, example, group, target)


def featurize_single(task, examples, tokenizer, labels, train):
    """Retrieval: one sentence a sequence, the end is cut; in training a query and its first right
    candidate are one item, whose target is each other."""
    group, target = 1, None
    if train:
        by_id = {e.id: e for e in examples if e.side == "candidate"}
        examples = [side for e in examples if e.side == "query" for side in (e, by_id[e.gold[0]])]
        group, target = 2, np.zeros(len(examples) // 2, np.int64)
    ids, (a,) = pool(tokenizer, [e.text for e in examples])
    a[:, 1] = np.minimum(a[:, 1], a[:, 0] + task.max_length - 2)
    example = np.arange(len(examples), dtype=np.int32) // group
    return Features(task.kind, ids, a, None, example, group, target)


def featurize_documents(task, examples, tokenizer, labels, train):
    """MLM: a document longer than a sequence gives several, nothing is cut."""
    ids, (a,) = pool(tokenizer, [e.text for e in examples])
    room = task.max_length - 2
    count = np.maximum(1, -(-(a[:, 1] - a[:, 0]) // room))
    example, part = repeat_with_rank(count)
    begin = a[example, 0] + part * room
    slices = np.stack([begin, np.minimum(begin + room, a[example, 1])], 1).astype(np.int32)
    return Features(task.kind, ids, slices, None, example.astype(np.int32))


def repeat_with_rank(count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[2, 1, 3] -> which [0 0 1 2 2 2], rank [0 1 0 0 1 2]."""
    which = np.repeat(np.arange(len(count)), count)
    return which, np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)


def featurize_words(task, examples, tokenizer, labels, train):
    """Tagging: words are encoded one by one and asked at their first piece.

    A word of no pieces, or more than fit, becomes <unk>; long sentences are split between words, so
    every word is asked exactly once (XTREME's rule; jiant truncates).
    """
    room = task.max_length - 2
    texts, index = unique_texts(chain.from_iterable(e.words for e in examples))
    encoded = tokenizer.encode(texts)
    size = np.diff(encoded.bounds)
    is_unknown = (size == 0) | (size > room)
    source = np.append(encoded.ids, np.int32(UNK))
    first = np.where(is_unknown, len(encoded.ids), encoded.bounds[:-1])[index]
    size = np.where(is_unknown, 1, size)[index]                       # pieces of each word in order
    which, rank = repeat_with_rank(size)
    ids = source[first[which] + rank]
    borders = np.append(0, np.cumsum(size))                           # of the words in the pool
    ends = np.cumsum([len(e.words) for e in examples])
    a, example = cut_sentences(borders, ends, room)
    tags = chain.from_iterable(e.tags or (None,) * len(e.words) for e in examples)
    return Features(task.kind, ids, a, None, example, target=numbers(tags, labels),
                    words=borders[:-1].astype(np.int32))


def cut_sentences(borders, ends, room) -> tuple[np.ndarray, np.ndarray]:
    """Sequences of as many whole words as fit -> pool slices [S, 2], example [S].

    borders: pool place of each word, and where the last ends; ends: words up to each example's end.
    """
    starts = ends - np.diff(ends, prepend=0)
    first = starts.tolist()                                           # words that begin a sequence
    for i in np.flatnonzero(borders[ends] - borders[starts] > room):
        word = starts[i]
        while borders[ends[i]] - borders[word] > room:
            word = np.searchsorted(borders, borders[word] + room, "right") - 1
            first.append(word)
    first = np.unique(first)
    first = first[first < ends[-1]]                                   # the last may have no words
    a = np.stack([borders[first], borders[np.append(first[1:], ends[-1])]], 1)
    return a.astype(np.int32), np.searchsorted(ends, first, "right").astype(np.int32)


def featurize_spans(task, examples, tokenizer, labels, train):
    """Span: question cut at max_question, windows of the context every `stride` pieces (BERT's
    doc_stride); windows without the answer point at <s>."""
    contexts, which = unique_texts(e.context for e in examples)
    encoded = tokenizer.encode(contexts, offsets=True)
    begin = skip_blanks(contexts, encoded, tokenizer)
    question_ids, (a,) = pool(tokenizer, [e.question for e in examples])
    a[:, 1] = np.minimum(a[:, 1], a[:, 0] + task.max_question)
    answer = answer_pieces(examples, which, contexts, encoded.bounds, begin, encoded.end)
    first, last = encoded.bounds[which], encoded.bounds[which + 1]
    room = task.max_length - 4 - (a[:, 1] - a[:, 0])
    example, b, own = cut_windows(first, last, room, task.stride)
    if train:                                  # a misplaced answer is no target, not "no answer"
        keep = answer[example, 0] != MISPLACED
        example, b, own = example[keep], b[keep], own[keep]
    gold = answer[example]
    inside = (gold[:, 0] >= b[:, 0]) & (gold[:, 1] < b[:, 1])
    offset = a[example, 1] - a[example, 0] + 3 - b[:, 0]             # pool place -> sequence place
    target = np.where(inside[:, None], gold + offset[:, None], 0).astype(np.int32)
    return Features(task.kind, np.concatenate([encoded.ids, question_ids]),
                    a[example] + np.int32(len(encoded.ids)), b, example.astype(np.int32),
                    target=target, begin=begin, end=encoded.end, own=own)


def skip_blanks(texts, encoded: Pieces, tokenizer) -> np.ndarray:
    """First character of each piece that starts a word and is not a blank, so that answers do not
    start with one."""
    begin = encoded.begin.copy()
    starts_word = tokenizer.starts_word[np.maximum(encoded.ids - 1, 0)]
    for i in range(0, len(texts), CHUNK):          # 4 bytes a character: not all texts at once
        some, bounds = texts[i:i + CHUNK], encoded.bounds[i:i + CHUNK + 1]
        characters = np.frombuffer("".join(some).encode("utf-32-le"), np.uint32)
        base = np.cumsum([0] + [len(t) for t in some])[:-1].repeat(np.diff(bounds))
        moving = bounds[0] + np.flatnonzero(starts_word[bounds[0]:bounds[-1]])
        while len(moving):
            moving = moving[begin[moving] < encoded.end[moving]]
            place = begin[moving] + base[moving - bounds[0]]
            moving = moving[IS_BLANK[characters[place]]]
            begin[moving] += 1
    return begin


def answer_pieces(examples, which, contexts, bounds, begin, end) -> np.ndarray:
    """Pool places (first, last) of each example's first answer [E, 2].

    NO_ANSWER: unanswerable or withheld; MISPLACED: not where answer_start says.
    """
    firsts = [e.answers[0] if e.answers else ("", NO_ANSWER) for e in examples]
    start = np.array([s if s >= 0 or not text else MISPLACED for text, s in firsts], np.int64)
    stop = start + np.array([len(text) for text, _ in firsts], np.int64)
    base = np.cumsum([0] + [len(t) for t in contexts])               # contexts laid end to end
    spread = base[:-1].repeat(np.diff(bounds))
    first = np.searchsorted(end + spread, start + base[which], "right")
    last = np.searchsorted(begin + spread, stop + base[which], "left") - 1
    first = np.where(start > 0, first, bounds[which])    # a bare word start is part of the text's
    first = np.minimum(first, np.maximum(bounds[which + 1] - 1, bounds[which]))
    places = np.stack([first, np.maximum(last, first)], 1)
    return np.where((start < 0)[:, None], start[:, None], places)


def cut_windows(first, last, room, stride):
    """Windows over pool slices [first, last) -> example [S], slice [S, 2], owned starts [S, 2].

    A piece in several windows is scored where it has most context on its shorter side (BERT's
    max-context rule: min(left, right) + 0.01 * length); what a window owns are neighbours.
    """
    if (room < 1).any():
        raise UserError("max_length leaves no room for the context")
    size = last - first
    step = np.minimum(room, stride)
    count = 1 + np.maximum(0, -(-(size - room) // step))
    example, rank = repeat_with_rank(count)
    begin = first[example] + rank * step[example]
    b = np.stack([begin, np.minimum(begin + room[example], last[example])], 1)
    own = b.copy()
    if len(later := np.flatnonzero(rank)):                 # windows that have one before them
        own[later - 1, 1] = own[later, 0] = ownership_borders(b[later - 1], b[later])
    return example, b.astype(np.int32), own.astype(np.int32)


def ownership_borders(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """First piece in the overlap of neighbouring windows [n, 2] that the right one owns [n]."""
    which, place = repeat_with_rank(left[:, 1] - right[:, 0])
    place += right[which, 0]

    def context(window):
        return (np.minimum(place - window[:, 0], window[:, 1] - 1 - place)
                + 0.01 * (window[:, 1] - window[:, 0]))

    is_better = context(right[which]) > context(left[which])
    border = left[:, 1].copy()
    np.minimum.at(border, which[is_better], place[is_better])
    return border


FEATURIZE = {
    "classification": featurize_pairs,
    "multiple_choice": featurize_choices,
    "span": featurize_spans,
    "tagging": featurize_words,
    "retrieval": featurize_single,
    "mlm": featurize_documents,
}


# --------------------------------------------------------------------------------- batches


@dataclass
class Batch:
    """Sequences end to end; numpy arrays until `to(device)` makes them tensors."""

    input_ids: np.ndarray                   # int32 [N]
    cu_seqlens: np.ndarray                  # int32 [B + 1]
    lengths: tuple[int, ...]                # B, on the host
    sequences: np.ndarray                   # [B] which sequences of the features, host
    target: np.ndarray | None = None        # see the losses of model.py
    positions: np.ndarray | None = None     # [M] rows of input_ids that are asked (tags, masks)
    asked: np.ndarray | None = None         # [M] which word each asked row is, host

    @property
    def count(self) -> int:
        """Targets in this batch, the divisor of its loss."""
        return int((self.target.reshape(len(self.target), -1)[:, 0] >= 0).sum())

    def to(self, device) -> "Batch":
        """The same batch with input_ids, cu_seqlens, target and positions on the device."""
        moved = {}
        for name in ("input_ids", "cu_seqlens", "target", "positions"):
            if (array := getattr(self, name)) is not None:
                tensor = torch.from_numpy(array)
                tensor = tensor.pin_memory() if device.type == "cuda" else tensor
                moved[name] = tensor.to(device, non_blocking=True)
        return replace(self, **moved)


def assemble(f: Features, sequences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Token ids [N] and borders [B + 1] of some sequences, special tokens in place."""
    lengths = f.lengths[sequences]
    bounds = np.zeros(len(sequences) + 1, np.int64)
    np.cumsum(lengths, out=bounds[1:])
    ids, a = np.full(bounds[-1], EOS, np.int32), f.a[sequences]
    ids[bounds[:-1]] = BOS
    copy_slices(ids, bounds[:-1] + 1, f.pieces, a)
    if f.b is not None:                        # <s> a </s></s> b </s>
        copy_slices(ids, bounds[:-1] + 3 + a[:, 1] - a[:, 0], f.pieces, f.b[sequences])
    return ids, bounds.astype(np.int32)


def copy_slices(ids, places, pieces, slices) -> None:
    """Write pieces[slices[i]] into ids at places[i], for all i at once."""
    which, rank = repeat_with_rank(slices[:, 1] - slices[:, 0])
    ids[places[which] + rank] = pieces[slices[which, 0] + rank]


def make_batch(f: Features, items: np.ndarray) -> Batch:
    """The batch of some training items, shortest first (attention shares equal lengths)."""
    items = items[np.argsort(f.item_lengths[items], kind="stable")]
    sequences = (items[:, None] * f.group + np.arange(f.group)).ravel()
    ids, bounds = assemble(f, sequences)
    batch = Batch(ids, bounds, tuple(np.diff(bounds).tolist()), sequences)
    if f.own is not None:
        batch.target = f.target[sequences].astype(np.int64)
    elif f.words is not None:
        left, right = np.searchsorted(f.words, f.a[sequences].T)
        which, rank = repeat_with_rank(right - left)
        batch.asked = left[which] + rank
        place = f.words[batch.asked] - f.a[sequences[which], 0]
        batch.positions = (bounds[which] + 1 + place).astype(np.int64)
        batch.target = f.target[batch.asked]
    elif f.target is not None:
        batch.target = f.target[f.example[sequences[::f.group]]]
    return batch


def cut_by_tokens(lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    """Consecutive runs of items of at most `budget` tokens each (at least one item a run)."""
    runs, start, total = [], 0, 0
    for i, length in enumerate(lengths.tolist()):
        if i > start and total + length > budget:
            runs.append(np.arange(start, i))
            start, total = i, 0
        total += length
    return runs + [np.arange(start, len(lengths))] if len(lengths) else runs


def evaluation_batches(f: Features, budget: int, rank: int = 0, size: int = 1):
    """All items once, longest first (memory shows at once), `budget` tokens a batch; of `size`
    ranks, each takes the examples rank::size, whose windows or parts must stay together."""
    lengths = f.item_lengths
    order = np.argsort(-lengths, kind="stable")
    order = order[f.example[order * f.group] % size == rank]
    for run in cut_by_tokens(lengths[order], budget):
        yield make_batch(f, order[run])
