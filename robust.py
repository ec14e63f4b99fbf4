"""Robust training: gradients from perturbed embeddings, or training texts with other words.

    batch --STEPS[robust]--> loss(delta), loss(delta + ascent), ... --> gradients of the weights
    examples --augment--> copies with synonyms (rs-da) --> features as of any examples

    rs-rp    random perturbation: noise in the embeddings, drawn anew for each micro-batch
    rs-da    data augmentation: words replaced by synonyms from a file of the user
    adv      adversarial: half the loss on clean embeddings, half on those that raise it most
    freelb   adversarial, gradients accumulated over all steps of the ascent (Zhu et al. 2020)

The first three are Huang et al. 2021 (arXiv 2104.08645), whose public code holds rs-da alone; the
values of adv are FreeLB's. A perturbation delta is added to the token embeddings before positions,
type and LayerNorm; lengths of delta and of its gradients are l2 norms over a whole sequence. All
passes of one micro-batch see the same dropout, and the step has one optimizer update and one
clipping, so without perturbation it is the plain step bit for bit (adv: where it is one
micro-batch, else up to the order of summation).

Dimension letters: N tokens of a batch, B sequences, H hidden.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Callable

import torch

import draws
from files import UserError, read_json

# Settings of each method, with their defaults. freelb: its authors' for RoBERTa-large on MNLI;
# adv: theirs for radius and rate; rs-rp: of a third party; copies: 3 for XNLI, 10 for PAWS-X.
METHODS = {
    "none": {},
    "rs-rp": {"noise": 0.01},           # largest change of a coordinate
    "rs-da": {"copies": 3},             # of each example, in its place
    "adv": {"ascents": 3, "ascent_rate": 0.1, "radius": 0.3},
    "freelb": {"ascents": 2, "ascent_rate": 0.1, "radius": 0.3, "noise": 0.1},
}
# ascents: forward and backward passes of freelb, steps of delta of adv (a clean pass comes on top);
# ascent_rate: length of a step of delta; radius: most that delta can be long; noise of freelb: how
# long delta may be at first, its coordinates being uniform.
LIMITS = {"noise": (0, 1e3), "copies": (1, 1000), "ascents": (1, 100), "ascent_rate": (0, 1e3),
          "radius": (0, 1e3)}
FLOATS = ("noise", "ascent_rate", "radius")
AUGMENTED = {"classification": ("text_a", "text_b"), "multiple_choice": ("context", "endings")}


# ------------------------------------------------------------------ perturbed embeddings


@dataclass(frozen=True)
class Pass:
    """What all passes of one micro-batch share."""

    loss: Callable              # perturbation [N, H] or None -> the micro-batch's share of the loss
    values: dict                # resolved settings of the task, `robust` among them
    cu_seqlens: torch.Tensor    # int32 [B + 1]
    shape: tuple[int, int]      # N, H
    scaler: torch.amp.GradScaler
    generator: torch.Generator

    @cached_property
    def sizes(self) -> torch.Tensor:
        """Tokens of each sequence [B]."""
        return self.cu_seqlens.diff()

    @cached_property
    def rows(self) -> torch.Tensor:
        """Number of the sequence that each token belongs to [N]."""
        numbers = torch.arange(len(self.sizes), device=self.sizes.device)
        return numbers.repeat_interleave(self.sizes, output_size=self.shape[0])

    def uniform(self) -> torch.Tensor:
        """Independent draws from -1 to 1 [N, H]."""
        drawn = torch.empty(self.shape, device=self.sizes.device)
        return drawn.uniform_(-1, 1, generator=self.generator)

    def norms(self, x: torch.Tensor) -> torch.Tensor:
        """l2 norm over all tokens and coordinates of each sequence: [N, H] -> [B]."""
        squares = x.new_zeros(len(self.sizes)).index_add(0, self.rows, x.square().sum(1))
        return squares.sqrt()

    def scale(self, x: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
        """[N, H] times the factor of each token's sequence [B]."""
        return x * factors[self.rows][:, None]

    def ascend(self, delta: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """The next perturbation: in each sequence a step of length ascent_rate along the gradient,
        then back into the ball. Not connected with the last one [N, H]."""
        step = self.scale(gradient, self.values["ascent_rate"] / self.norms(gradient).clamp(1e-8))
        return self.project(delta.detach() + step)

    def project(self, delta: torch.Tensor) -> torch.Tensor:
        """Perturbations longer than the radius are scaled back to it; a leaf that asks for its
        gradient [N, H]."""
        length, radius = self.norms(delta), self.values["radius"]
        return self.scale(delta, torch.where(length > radius, radius / length, 1.0)
                          ).requires_grad_()


def generator(seed: int, step: int, rank: int, device: torch.device) -> torch.Generator:
    """Draws of one step and rank, a pure function of all three; those of dropout are others."""
    number = draws.stream("perturbation", seed, step, rank).integers(2 ** 62)
    return torch.Generator(device).manual_seed(int(number))


def dropout_again(device: torch.device) -> Callable:
    """A function that takes the random state, from which dropout is drawn, back to where it is."""
    state = torch.get_rng_state()
    on_gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def rewind():
        torch.set_rng_state(state)
        if on_gpu is not None:
            torch.cuda.set_rng_state(on_gpu, device)
    return rewind


def backward(one: Pass) -> torch.Tensor:
    """Add the gradients of one micro-batch to the weights; the loss they belong to (detached)."""
    return STEPS[one.values["robust"]](one)


def plain(one: Pass) -> torch.Tensor:
    loss = one.loss(None)
    one.scaler.scale(loss).backward()
    return loss.detach()


def smooth(one: Pass) -> torch.Tensor:
    """One pass at embeddings with uniform noise in every coordinate."""
    loss = one.loss(one.uniform() * one.values["noise"])
    one.scaler.scale(loss).backward()
    return loss.detach()


def adversarial(one: Pass) -> torch.Tensor:
    """Projected gradient ascent from the clean embeddings; the weights get half the gradient of
    the first pass and half that of the last."""
    rewind = dropout_again(one.sizes.device)
    delta = one.project(torch.zeros(one.shape, device=one.sizes.device))
    clean = one.loss(delta) / 2
    one.scaler.scale(clean).backward()
    gradient = delta.grad
    for left in reversed(range(one.values["ascents"])):
        delta = one.ascend(delta, gradient)
        rewind()
        loss = one.loss(delta) / 2
        if left:
            gradient, = torch.autograd.grad(one.scaler.scale(loss), delta)
    one.scaler.scale(loss).backward()
    return clean.detach() + loss.detach()


def freelb(one: Pass) -> torch.Tensor:
    """Mean gradient of the weights over all passes; delta climbs between them, not after the last.
    """
    rewind = dropout_again(one.sizes.device)
    coordinates = one.sizes * one.shape[1]
    delta = one.project(one.scale(one.uniform(), one.values["noise"] / coordinates.sqrt()))
    total, count = 0.0, one.values["ascents"]
    for left in reversed(range(count)):
        loss = one.loss(delta) / count
        one.scaler.scale(loss).backward()
        total = total + loss.detach()
        if left:
            delta = one.ascend(delta, delta.grad)
            rewind()
    return total


STEPS = {"none": plain, "rs-rp": smooth, "rs-da": plain, "adv": adversarial, "freelb": freelb}


# --------------------------------------------------------------------------- other words


def synonym_file(task, data: Path, lang: str) -> Path:
    """The user's file {word: [its neighbours]} for a training language. Raises UserError where
    there is none, and for tasks whose answers are places in the text."""
    if task.kind not in AUGMENTED:
        raise UserError(f"{task.name}: robust=rs-da is for classification and multiple choice, "
                        f"not for {task.kind}")
    path = data / "synonyms" / f"{lang}.json"
    if not path.is_file() or not path.resolve().is_relative_to(data.resolve()):
        raise UserError("robust=rs-da needs this file of synonyms, an object {word: [neighbours]}",
                        path)
    return path


def augment(task, examples: list, synonyms: Path, copies: int, seed: int) -> list:
    """`copies` of each example in its place, label kept; in each, every word that has neighbours is
    drawn from itself and them. Draws depend on (seed, row of the example, copy) alone. Raises
    UserError for a file that is no object of lists of words."""
    neighbours, made = read_synonyms(synonyms), []
    for example in examples:
        for copy in range(copies):
            rng = draws.stream("synonyms", seed, example.row, copy)
            made.append(example._replace(**{field: reword(getattr(example, field), neighbours, rng)
                                            for field in AUGMENTED[task.kind]}))
    return made


def read_synonyms(path: Path) -> dict[str, list[str]]:
    found = read_json(path)
    if type(found) is not dict:
        raise UserError(f"expected an object, found {type(found).__name__}", path)
    for word, neighbours in found.items():
        if type(neighbours) is not list or {type(other) for other in neighbours} - {str}:
            raise UserError("expected a list of words", path, repr(word))
    return found


def reword(text, synonyms: dict[str, list[str]], rng):
    """A text, or each of a tuple of texts, with other words. Words are what stands between blanks,
    case and punctuation included, as in the public code."""
    if isinstance(text, tuple):
        return tuple(reword(one, synonyms, rng) for one in text)
    words = text.split(" ")
    for i, place in enumerate(rng.random(len(words))):
        choices = [words[i], *synonyms.get(words[i], ())]
        words[i] = choices[int(place * len(choices))]
    return " ".join(words)
