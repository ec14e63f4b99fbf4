"""A trained model as the victim of an attack: what one forward pass says of an example.

    examples --featurize--> Features --run_model--> logits --LOSSES[kind]--> J     --> Judged
                                                    logits --predict.DECODE--> answers -->

    kind                              J                                          wrong
    classification, multiple choice   -log p(gold)                               another label
    span                              -log p(start) - log p(end)                 no exact match
    tagging                           -log p(gold) of each word                  another tag
    retrieval (nearest candidate)     highest cosine of the query with another   another candidate
                                      candidate less that with this one          is as near

A span's softmax is over the tokens of a window; of several windows that hold the gold answer the
least J counts. In retrieval the right candidate of a query is attacked, as the queries of Tatoeba
are English; all else is encoded once, before the attack, which is no query of the budget. Letters:
E examples, S sequences, N tokens, H hidden, L pieces of a text.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

import data
import metrics
import model as model_room
import predict
from files import UserError
from studies.search_attack import MASK, Judged, edited_words

SECOND = ("classification",)              # kinds whose attacked text is the second of a sequence


class Masking:
    """A tokenizer that turns MASK into one <mask> piece (which takes the blank on its left)."""

    def __init__(self, tokenizer: data.Tokenizer):
        self.tokenizer = tokenizer
        self.starts_word = tokenizer.starts_word

    def encode(self, texts: list[str], offsets: bool = False) -> data.Pieces:
        """As data.Tokenizer.encode; offsets only of texts without MASK."""
        if offsets or not any(MASK in text for text in texts):
            return self.tokenizer.encode(texts, offsets)
        parts = [text.split(MASK) for text in texts]
        flat = [part.rstrip(" ") if i + 1 < len(listed) else part
                for listed in parts for i, part in enumerate(listed)]
        encoded = self.tokenizer.encode(flat)
        # A mask stands behind every part but the last one of its text.
        ends = np.cumsum([len(listed) for listed in parts])
        masked = np.delete(np.arange(len(flat)), ends - 1)
        ids = np.insert(encoded.ids, encoded.bounds[masked + 1], self.tokenizer.mask_id)
        sizes = np.diff(encoded.bounds)
        sizes[masked] += 1
        bounds = np.append(0, np.cumsum(sizes))
        return data.Pieces(ids, bounds[np.append(0, ends)], None, None)


class Pool(NamedTuple):
    """What a candidate is judged by."""

    place: dict[str, int]         # its id -> its query's row below
    queries: torch.Tensor         # vectors of unit length [n, H]
    rivals: torch.Tensor          # each query's highest cosine with a wrong candidate [n]


class Judge:
    """The victim of search_attack.py: a model with the head of one task, for examples of one
    language. `passes` of them went through it."""

    def __init__(self, model, head: str, task, tokenizer, labels, lang: str,
                 hardware: predict.Hardware, depth: int | None = None, poll=lambda: None):
        self.model, self.head, self.task, self.labels = model, head, task, labels
        self.tokenizer, self.lang, self.hardware, self.depth = tokenizer, lang, hardware, depth
        self.poll, self.pool, self.passes = poll, None, 0

    def set_pool(self, examples: list) -> None:
        """Retrieval: encode all queries and candidates. Raises UserError for tasks that do not ask
        for the nearest candidate."""
        if self.task.search != "pairs":
            raise UserError(f"{self.task.name}: only the search for the nearest is attacked")
        vectors = F.normalize(torch.from_numpy(predict.predict(
            self.model, self.head, self.task, examples, self.tokenizer, self.labels,
            self.hardware, self.depth)), dim=1)
        sides = predict.rows_by_side(examples)
        ids = [examples[row].id for row in sides["candidate"]]
        golds = [metrics.known(examples[row]) for row in sides["query"]]
        queries = vectors[sides["query"]]
        cosines = queries @ vectors[sides["candidate"]].T                              # [n, n']
        is_right = torch.tensor([[name in gold for name in ids] for gold in golds])
        rivals = cosines.masked_fill(is_right, -torch.inf).amax(1)
        self.pool = Pool({gold[0]: row for row, gold in enumerate(golds)}, queries, rivals)

    def __call__(self, examples: list) -> list[Judged]:
        """J, whether it is wrong, and points, of each example: one pass each."""
        if not examples:
            return []
        self.passes += len(examples)
        f = data.featurize(self.task, examples, Masking(self.tokenizer), self.labels)
        runs = list(predict.run_model(self.model, self.head, f, self.hardware, self.depth,
                                      poll=self.poll))
        if self.task.kind == "retrieval":
            return self._judge_candidates(runs, f, examples)
        answers = predict.DECODE[self.task.kind](self.task, runs, f, examples, self.labels)
        losses = LOSSES[self.task.kind](runs, f, len(examples))
        return JUDGE[self.task.kind](self, examples, answers, losses)

    def _judge_candidates(self, runs, f, examples) -> list[Judged]:
        vectors = predict.decode_vectors(self.task, runs, f, examples, self.labels)
        losses = self._candidate_losses(torch.from_numpy(vectors), examples).tolist()
        return [Judged((loss,), (loss >= 0,), 100.0 * (loss < 0)) for loss in losses]

    def _candidate_losses(self, vectors: torch.Tensor, examples) -> torch.Tensor:
        """J of candidates with these vectors [E]."""
        rows = [self.pool.place[example.id] for example in examples]
        queries, rivals = (part[rows].to(vectors.device)
                           for part in (self.pool.queries, self.pool.rivals))
        return rivals - (F.normalize(vectors, dim=1) * queries).sum(1)

    def slopes(self, pairs: list[tuple]) -> list[tuple[np.ndarray, np.ndarray]]:
        """(ids [L], gradient of J for each piece's embedding [L, H]) of the attacked text as far as
        the model sees it. pairs: (clean example, example); where a tagged word differs, it does not
        count in J."""
        examples = [example for _, example in pairs]
        f = data.featurize(self.task, examples, self.tokenizer, self.labels)
        if self.task.kind == "tagging":
            f.target = f.target.copy()
            starts = np.cumsum([0] + [len(example.words) for example in examples])
            for start, pair in zip(starts, pairs):
                f.target[[start + k for k in edited_words(*pair)]] = -1
        found = [[] for _ in examples]
        self.model.eval()
        for batch in data.evaluation_batches(f, self.hardware.micro_tokens):
            gradient = self._gradient(batch, f, examples)
            for i, sequence in enumerate(batch.sequences):
                first, last = _attacked(f, self.task.kind, sequence) + batch.cu_seqlens[i]
                found[f.example[sequence]].append(
                    (sequence, batch.input_ids[first:last], gradient[first:last]))
        return [_joined(parts, self.task.kind) for parts in found]

    def _gradient(self, batch, f, examples) -> np.ndarray:
        """dJ / d(embedding) of every token of a batch, float32 [N, H]."""
        caught = []

        def catch(module, arguments, embedded):
            caught.append(embedded.detach().requires_grad_())
            return caught[0]

        hook = self.model.encoder.tokens.register_forward_hook(catch)
        try:
            on_device = batch.to(self.hardware.device)
            if self.task.kind == "retrieval":
                vectors = predict.mean_states(self.model.encoder, on_device, self.depth)
                asked = [examples[i] for i in f.example[batch.sequences]]
                loss = self._candidate_losses(vectors, asked).sum()
            else:
                loss = model_room.LOSSES[self.task.kind](self.model(self.head, on_device),
                                                         on_device)
        finally:
            hook.remove()
        return torch.autograd.grad(loss, caught[0])[0].float().cpu().numpy()


def _attacked(f: data.Features, kind: str, sequence: int) -> np.ndarray:
    """First and last + 1 token of the attacked text in a sequence."""
    size_a = f.a[sequence, 1] - f.a[sequence, 0]
    if kind not in SECOND or f.b is None:
        return np.array([1, 1 + size_a])
    return np.array([3 + size_a, 3 + size_a + f.b[sequence, 1] - f.b[sequence, 0]])


def _joined(parts: list[tuple], kind: str) -> tuple[np.ndarray, np.ndarray]:
    """One text's ids and gradients from its sequences: parts of a sentence follow one another;
    windows and choices hold the same text, so that their gradients add up."""
    parts = sorted(parts, key=lambda part: part[0])
    ids, gradients = [part[1] for part in parts], [part[2] for part in parts]
    if kind == "tagging":
        return np.concatenate(ids), np.concatenate(gradients)
    shortest = min(len(one) for one in ids)          # a choice's context may lack its start
    return ids[0][-shortest:], sum(gradient[-shortest:] for gradient in gradients)


# ---------------------------------------------------------------------------- J of each kind
# (batch, logits) pairs of run_model, features, number of examples -> losses [E] or [words]


def class_losses(runs, f, count: int) -> np.ndarray:
    """-log p(gold) of labels and of choices [E]."""
    losses = np.zeros(count, np.float32)
    for batch, logits in runs:
        scores = logits.view(len(batch.target), -1)
        gold = F.cross_entropy(scores, torch.from_numpy(batch.target), reduction="none")
        losses[f.example[batch.sequences[::f.group]]] = gold.numpy()
    return losses


def span_losses(runs, f, count: int) -> np.ndarray:
    """-log p(start) - log p(end) of the gold span in the window where they are least [E]; of
    questions without a span in any window, that of <s>."""
    best = np.full((2, count), np.inf, np.float32)         # [window holds the answer, example]
    for batch, logits in runs:
        for i, sequence in enumerate(batch.sequences):
            scores = logits[batch.cu_seqlens[i]:batch.cu_seqlens[i + 1]].log_softmax(0)
            first, last = batch.target[i]
            row = best[int(first > 0)]
            example = f.example[sequence]
            row[example] = min(row[example], -(scores[first, 0] + scores[last, 1]).item())
    return np.where(np.isfinite(best[1]), best[1], best[0])


def tag_losses(runs, f, count: int) -> np.ndarray:
    """-log p(gold) of every word [words]."""
    losses = np.zeros(len(f.words), np.float32)
    for batch, logits in runs:
        gold = F.cross_entropy(logits, torch.from_numpy(batch.target), reduction="none",
                               ignore_index=-1)
        losses[batch.asked] = gold.numpy()
    return losses


LOSSES = {"classification": class_losses, "multiple_choice": class_losses, "span": span_losses,
          "tagging": tag_losses}


def judge_answers(victim, examples, answers, losses) -> list[Judged]:
    golds = [metrics.known(example) for example in examples]
    return [Judged((loss,), (answer != gold,), 100.0 * (answer == gold))
            for gold, answer, loss in zip(golds, answers, losses.tolist())]


def judge_spans(victim, examples, answers, losses) -> list[Judged]:
    """Wrong is what is no exact match; points are F1."""
    task, judged = victim.task, []
    names = metrics.MAIN[task.metric]
    for example, answer, loss in zip(examples, answers, losses.tolist()):
        f1, exact = map(metrics.score(task.metric, [example], [answer], victim.lang).get, names)
        judged.append(Judged((loss,), (exact < 100,), f1))
    return judged


def judge_tags(victim, examples, answers, losses) -> list[Judged]:
    judged, ends = [], np.cumsum([len(example.words) for example in examples])
    for example, answer, end in zip(examples, answers, ends):
        own = tuple(losses[end - len(answer):end].tolist())
        wrong = tuple(a != b for a, b in zip(metrics.known(example), answer))
        judged.append(Judged(own, wrong, 100 * (1 - sum(wrong) / max(1, len(wrong)))))
    return judged


JUDGE = {"classification": judge_answers, "multiple_choice": judge_answers, "span": judge_spans,
         "tagging": judge_tags}
