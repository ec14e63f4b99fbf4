"""What is drawn by chance: which examples, the order of training items, masks, tags of a control.

All are pure functions of their keys, so a resumed run draws what an uninterrupted one would have.
"""

import hashlib
from collections import Counter
from dataclasses import replace

import numpy as np

from data import BOS, EOS, UNK, Batch, Tokenizer


def stream(*key) -> np.random.Generator:
    """A random generator that is a pure function of its key (ints and strings)."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))


def subset(examples: list, count: int, *key, groups=()) -> tuple[list, tuple[int, ...]]:
    """At most `count` examples (of a pooled row, `groups` of the examples each: of each member), in
    file order, and how many there are of each member. The choice is a function of the key and
    their places; of two counts the smaller one's are among the larger one's. For retrieval: so many
    queries and their right candidates."""
    if hasattr(examples[0], "side"):
        queries = [e for e in examples if e.side == "query"]
        some = stream(*key).permutation(len(queries))[:count]
        chosen = [queries[i] for i in sorted(some)]
        right = {name for query in chosen for name in query.gold}
        return [*(e for e in examples if e.id in right), *chosen], ()
    chosen, sizes, start = [], [], 0
    for size in groups or (len(examples),):
        some = stream(*key).permutation(size)[:count]
        chosen += [examples[start + i] for i in sorted(some)]
        sizes.append(len(some))
        start += size
    return chosen, tuple(sizes)


def random_tags(examples: list, dev: list, seed: int) -> tuple[list, list]:
    """Both with tags that tell nothing: each word has one tag wherever it stands (the control tasks
    of Hewitt and Liang 2019). Words in the order of their hashes of (seed, word) share out the
    tags, so each tag is about as frequent in the (training) examples as the real one."""
    def place(word: str) -> float:
        return stream("tag", seed, word).random()

    def tag_at(share: float) -> str:
        return names[min(int(np.searchsorted(ends, share, "right")), len(names) - 1)]

    words = Counter(word for example in examples for word in example.words)
    tags = Counter(tag for example in examples for tag in example.tags)
    names, total, passed = sorted(tags), words.total(), 0
    ends = np.cumsum([tags[name] for name in names]) / total
    drawn = {}
    for word in sorted(words, key=place):
        drawn[word] = tag_at((passed + words[word] / 2) / total)
        passed += words[word]

    def change(example):
        return example._replace(tags=tuple(drawn.get(word) or tag_at(place(word))
                                           for word in example.words))

    return list(map(change, examples)), list(map(change, dev))


class Order:
    """Which training items form batch k of a task: a pure function of (seed, task, k).

    A permutation per epoch; chunks of 50 batches sorted by length (for padded attention); batch
    order shuffled; the last batch is short, never dropped. Items of several languages (language:
    its number for each item) are drawn with p ~ n ** alpha: an epoch has as many items as there
    are, of each language its share, in turn from permutations of its own. One language, or alpha
    1, is plain concatenation.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int, name: str,
                 language: np.ndarray | None = None, alpha: float = 1.0):
        self.lengths, self.batch_size, self.seed, self.name = lengths, batch_size, seed, name
        self.per_epoch = -(-len(lengths) // batch_size)
        self.epoch, self.batches = -1, []
        self.languages = []                    # items of each, and how many of them an epoch takes
        numbers = np.unique(language) if language is not None and alpha != 1 else ()
        if len(numbers) > 1:
            members = [np.flatnonzero(language == number) for number in numbers]
            self.languages = [*zip(members, shares([len(m) for m in members], alpha))]

    def __call__(self, k: int) -> np.ndarray:
        epoch, index = divmod(k, self.per_epoch)
        if epoch != self.epoch:
            self.epoch, self.batches = epoch, self.shuffle(epoch)
        return self.batches[index]

    def shuffle(self, epoch: int) -> list[np.ndarray]:
        rng = stream("order", self.seed, self.name, epoch)
        order = rng.permutation(len(self.lengths))
        if self.languages:
            order = np.concatenate([self.take(number, epoch)
                                    for number in range(len(self.languages))])[order]
        size = 50 * self.batch_size
        chunks = [order[i:i + size] for i in range(0, len(order), size)]
        chunks = [c[np.argsort(self.lengths[c], kind="stable")] for c in chunks]
        size = self.batch_size
        batches = [c[i:i + size] for c in chunks for i in range(0, len(c), size)]
        return [batches[i] for i in rng.permutation(len(batches))]


    def take(self, number: int, epoch: int) -> np.ndarray:
        """The items of one language in an epoch: the next ones of its endless permutations."""
        items, count = self.languages[number]
        first, last = epoch * count // len(items), ((epoch + 1) * count - 1) // len(items)
        rounds = [items[stream("order", self.seed, self.name, number, i).permutation(len(items))]
                  for i in range(first, last + 1)]
        return np.concatenate(rounds)[epoch * count - first * len(items):][:count]


def shares(sizes: list[int], alpha: float) -> list[int]:
    """How many of sum(sizes) draws fall to each language with p ~ size ** alpha: whole numbers by
    largest remainder, at least 1 each."""
    weights = np.array(sizes, float) ** alpha
    exact = 1 + (sum(sizes) - len(sizes)) * weights / weights.sum()
    counts = np.floor(exact).astype(int)
    rest = np.argsort(counts - exact, kind="stable")[:sum(sizes) - counts.sum()]
    counts[rest] += 1
    return counts.tolist()


def mask_tokens(batch: Batch, rate: float, random_rate: float, tokenizer: Tokenizer, seed: int,
                step: int) -> Batch:
    """BERT's masking: `rate` of the tokens are asked; a tenth of those stays, `random_rate` become
    random pieces, others <mask>. Never special tokens. A function of (seed, step, sequence)."""
    draws = np.concatenate([stream("mask", seed, step, int(s)).random((n, 3))
                            for s, n in zip(batch.sequences, batch.lengths)])
    ids = batch.input_ids.copy()
    positions = np.flatnonzero((draws[:, 0] < rate) & (ids != BOS) & (ids != EOS))
    target = ids[positions]
    _, fate, choice = draws[positions].T
    random_id = UNK + 1 + (choice * (tokenizer.mask_id - UNK - 1)).astype(np.int32)
    ids[positions] = np.where(fate < 0.9 - random_rate, tokenizer.mask_id,
                              np.where(fate < 0.9, random_id, target))
    return replace(batch, input_ids=ids, positions=positions, target=target.astype(np.int64))
