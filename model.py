"""The model room: XLM-R's encoder, one head and one loss per kind of task, the optimizer's parts.

    input_ids [N] -> Encoder -> hidden [N, H] -> head -> logits -> LOSSES[kind] -> sum over targets

Padding-free: the sequences of a batch lie end to end, so linear layers never see a pad token; only
attention looks at sequence borders (`attend`). Imports nothing of ours.

Dimension letters: N tokens of a batch, B sequences, T longest sequence, H hidden, K attention
heads, D = H / K, V vocabulary, C classes, M asked positions, E examples, A active token ids.
"""

from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

try:  # packed flash attention: torch >= 2.10, CUDA, half precision
    from torch.nn.attention.varlen import varlen_attn
except ImportError:
    varlen_attn = None


@dataclass(frozen=True)
class Config:
    """Shape of a plain XLM-R (base, large, derivatives with the same keys)."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    max_positions: int = 514        # rows of the table; the first real token uses row pad_id + 1
    layer_norm_eps: float = 1e-5
    dropout: float = 0.1
    attention_dropout: float = 0.1
    initializer_range: float = 0.02
    pad_id: int = 1

    @property
    def max_length(self) -> int:
        """Longest sequence in tokens, special tokens included."""
        return self.max_positions - self.pad_id - 1


# ------------------------------------------------------------------------------ attention


def attend(q, k, v, cu_seqlens, lengths, slots, dropout):
    """Attention inside each sequence; q, k, v and the result are [N, K, D].

    Three ways to the same numbers (tests/test_model.py). CPU: one call per run of equally long
    sequences, no padding. CUDA: the packed flash kernel, which has no dropout argument; where that
    rules it out, pad for this one call.
    """
    if not q.is_cuda:
        return attend_by_runs(q, k, v, lengths, dropout)
    if varlen_attn is not None and dropout == 0 and q.dtype in (torch.bfloat16, torch.float16):
        longest = max(lengths)
        return varlen_attn(q, k, v, cu_seqlens, cu_seqlens, longest, longest)
    return attend_padded(q, k, v, cu_seqlens, max(lengths), slots, dropout)


def attend_by_runs(q, k, v, lengths, dropout):
    """Batches arrive sorted by length, so equally long neighbours share a call without a copy."""
    runs = [(len(list(run)), length) for length, run in groupby(lengths)]
    sizes = [count * length for count, length in runs]
    parts = []
    for shape, *rows in zip(runs, *(x.split(sizes) for x in (q, k, v))):
        q, k, v = (x.unflatten(0, shape).transpose(1, 2) for x in rows)        # [count, K, T, D]
        if dropout:            # SDPA's path for dropout makes passes that are not needed here
            scores = (q * q.shape[-1] ** -0.5) @ k.mT                          # [count, K, T, T]
            a = drop(torch.softmax(scores, -1).to(v.dtype), dropout) @ v
        else:
            a = F.scaled_dot_product_attention(q, k, v)
        parts.append(a.transpose(1, 2).flatten(0, 1))
    return torch.cat(parts)


def attend_padded(q, k, v, cu_seqlens, longest, slots, dropout):
    """Scatter into [B, T], attend with a mask, gather back."""
    count = len(cu_seqlens) - 1
    shape = (count, longest, *q.shape[1:])
    padded = [x.new_zeros(count * longest, *x.shape[1:]).index_copy(0, slots, x).view(shape)
              for x in (q, k, v)]
    real = torch.arange(longest, device=q.device) < cu_seqlens.diff()[:, None]          # [B, T]
    a = F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in padded),
                                       attn_mask=real[:, None, None], dropout_p=dropout)
    return a.transpose(1, 2).reshape(count * longest, *q.shape[1:]).index_select(0, slots)


# -------------------------------------------------------------------------------- encoder


def drop(x: torch.Tensor, rate: float) -> torch.Tensor:
    """Dropout. On a CPU from 16 random bits an element, half the cost of torch's own; the rate is
    then rounded to 1 / 65536."""
    if x.is_cuda or rate == 0:
        return F.dropout(x, rate)
    words = torch.empty(x.numel() // 4 + 1, dtype=torch.int64).random_(-2 ** 63, None)
    cut = round(rate * 65536)
    keep = words.view(torch.int16)[:x.numel()].view(x.shape) >= cut - 32768
    return x * (keep * (65536 / (65536 - cut))).to(x.dtype)


class Dropout(nn.Module):
    """drop() while training."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        return drop(x, self.rate) if self.training else x


class Layer(nn.Module):
    """One post-norm transformer block with exact GELU."""

    def __init__(self, config: Config):
        super().__init__()
        hidden, inner = config.hidden_size, config.intermediate_size
        self.num_heads = config.num_heads
        self.attention_dropout = config.attention_dropout
        self.query, self.key, self.value = (nn.Linear(hidden, hidden) for _ in range(3))
        self.out = nn.Linear(hidden, hidden)
        self.attention_norm = nn.LayerNorm(hidden, config.layer_norm_eps)
        self.up = nn.Linear(hidden, inner)
        self.down = nn.Linear(inner, hidden)
        self.norm = nn.LayerNorm(hidden, config.layer_norm_eps)
        self.dropout = Dropout(config.dropout)

    def forward(self, x, cu_seqlens, lengths, slots):
        dropout = self.attention_dropout if self.training else 0.0
        q, k, v = (f(x).unflatten(-1, (self.num_heads, -1))                         # [N, K, D]
                   for f in (self.query, self.key, self.value))
        a = attend(q, k, v, cu_seqlens, lengths, slots, dropout).flatten(1)            # [N, H]
        x = self.attention_norm(x + self.dropout(self.out(a)))
        return self.norm(x + self.dropout(self.down(F.gelu(self.up(x)))))


class Encoder(nn.Module):
    """XLM-R without its pretraining head; `state_dict` names are mapped in weights.py."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.positions = nn.Embedding(config.max_positions, config.hidden_size)
        self.types = nn.Embedding(1, config.hidden_size)     # XLM-R's only row, zero when released
        self.norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self.checkpoint_activations = False

    def forward(self, input_ids, cu_seqlens, lengths, depth: int | None = None, delta=None):
        """Hidden states [N, H] after block `depth` (0 = embeddings; None = the last block).

        input_ids [N]; cu_seqlens [B+1] int32 on the same device, the sequence borders;
        lengths: the B lengths as Python ints, so that no step waits for the device; delta [N, H]:
        added to the token embeddings (robust.py).
        """
        longest = max(lengths)
        rows = torch.arange(len(lengths), device=input_ids.device).repeat_interleave(
            cu_seqlens.diff(), output_size=len(input_ids))                                # [N]
        position = torch.arange(len(input_ids), device=input_ids.device) - cu_seqlens[rows]
        slots = rows * longest + position                        # place of a token in [B, T]
        x = self.tokens(input_ids) if delta is None else self.tokens(input_ids) + delta
        x = x + self.positions(position + self.config.pad_id + 1)
        x = self.dropout(self.norm(x + self.types.weight[0]))
        for layer in self.layers[:depth]:
            if self.checkpoint_activations and self.training:
                x = checkpoint(layer, x, cu_seqlens, lengths, slots, use_reentrant=False)
            else:
                x = layer(x, cu_seqlens, lengths, slots)
        return x


def make_encoder(config: Config, state: dict | None = None, seed: int = 0) -> Encoder:
    """An encoder around loaded tensors (taken, not copied); without them a random one."""
    with torch.device("meta" if state else "cpu"), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = Encoder(config)
        if state is None:
            return initialise(encoder, config)
    encoder.load_state_dict(state, assign=True)
    return encoder.requires_grad_()


# ---------------------------------------------------------------------------------- heads
# The structure of transformers' XLM-R heads, so that exports are exact. jiant differs: it puts a
# second dense + tanh on top of the pooler for classification and choices.


class ClassificationHead(nn.Module):
    """dropout, dense, tanh, dropout, out on the <s> state -> [B, C]."""

    def __init__(self, config: Config, classes: int):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.out = nn.Linear(config.hidden_size, classes)
        self.dropout = Dropout(config.dropout)

    def forward(self, hidden, batch, table):
        x = self.dropout(hidden[batch.cu_seqlens[:-1]])
        return self.out(self.dropout(torch.tanh(self.dense(x))))


class ChoiceHead(nn.Module):
    """pooler, dropout, one score per choice -> [B]; the choices of an example are neighbours."""

    def __init__(self, config: Config, classes: int):
        super().__init__()
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size)
        self.out = nn.Linear(config.hidden_size, 1)
        self.dropout = Dropout(config.dropout)

    def forward(self, hidden, batch, table):
        x = torch.tanh(self.pooler(hidden[batch.cu_seqlens[:-1]]))
        return self.out(self.dropout(x)).squeeze(1)


class SpanHead(nn.Module):
    """Start and end score of every token -> [N, 2]."""

    def __init__(self, config: Config, classes: int):
        super().__init__()
        self.out = nn.Linear(config.hidden_size, 2)

    def forward(self, hidden, batch, table):
        return self.out(hidden)


class TaggingHead(nn.Module):
    """dropout, out on the first piece of each word -> [M, C]."""

    def __init__(self, config: Config, classes: int):
        super().__init__()
        self.out = nn.Linear(config.hidden_size, classes)
        self.dropout = Dropout(config.dropout)

    def forward(self, hidden, batch, table):
        return self.out(self.dropout(hidden[batch.positions]))


class RetrievalHead(nn.Module):
    """pooler of the <s> state, unit length, learned scale (XTREME's dual encoder) -> [B, H].

    Only trained retrieval uses it; Tatoeba compares the mean of a block's states without a head.
    """

    def __init__(self, config: Config, classes: int):
        super().__init__()
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size)
        self.scale = nn.Parameter(torch.tensor(100.0))

    def forward(self, hidden, batch, table):
        x = torch.tanh(self.pooler(hidden[batch.cu_seqlens[:-1]]))
        return F.normalize(x.float(), dim=-1) * self.scale.abs().sqrt()


class MaskedHead(nn.Module):
    """dense, GELU, LayerNorm, then the tied token table -> [M, V], at the masked places only."""

    def __init__(self, config: Config, classes: int):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden, batch, table):
        x = self.norm(F.gelu(self.dense(hidden[batch.positions])))
        return F.linear(x, table, self.bias)


HEADS = {
    "classification": ClassificationHead,
    "multiple_choice": ChoiceHead,
    "span": SpanHead,
    "tagging": TaggingHead,
    "retrieval": RetrievalHead,
    "mlm": MaskedHead,
}


def make_head(kind: str, config: Config, classes: int, seed: int) -> nn.Module:
    """A fresh head; its weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return initialise(HEADS[kind](config, classes), config)


def initialise(module: nn.Module, config: Config) -> nn.Module:
    """BERT's initialisation: normal(0, 0.02) weights, zero biases, unit LayerNorms."""
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Embedding)):
            nn.init.normal_(part.weight, std=config.initializer_range)
        if isinstance(part, nn.Linear):
            nn.init.zeros_(part.bias)
    return module


class Model(nn.Module):
    """One encoder and the heads of the tasks that train it together."""

    def __init__(self, encoder: Encoder, heads: dict[str, nn.Module]):
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleDict(heads)

    def forward(self, name: str, batch, delta=None):
        """Logits of head `name`; batch has the fields of data.Batch, delta is the encoder's."""
        hidden = self.encoder(batch.input_ids, batch.cu_seqlens, batch.lengths, delta=delta)
        return self.heads[name](hidden, batch, self.encoder.tokens.weight)


# --------------------------------------------------------------------------------- losses
# Each returns the SUM over the batch's targets; train() divides by the count of the whole step.


def class_loss(logits, batch):
    """Cross-entropy of [B or M, C] against [B or M]; a target below 0 is not counted."""
    return F.cross_entropy(logits.float(), batch.target, ignore_index=-1, reduction="sum")


def choice_loss(logits, batch):
    """Softmax over the choices of each example: scores [E * C] against [E]."""
    return class_loss(logits.view(len(batch.target), -1), batch)


def span_loss(logits, batch):
    """Mean of start and end cross-entropy, softmax over the tokens of each sequence.

    logits [N, 2]; target [B, 2] places in the sequence, 0 (<s>) where the window has no answer.
    The softmax sees real tokens only; transformers' also sees the padding of its batch.
    """
    logits = logits.float()
    starts = batch.cu_seqlens[:-1].long()
    rows = torch.arange(len(starts), device=logits.device).repeat_interleave(
        batch.cu_seqlens.diff(), output_size=len(logits))                                 # [N]
    top = logits.detach().new_full((len(starts), 2), -torch.inf).scatter_reduce(
        0, rows[:, None].expand(-1, 2), logits.detach(), "amax")                       # [B, 2]
    total = torch.zeros_like(top).index_add(0, rows, (logits - top[rows]).exp())
    gold = logits.gather(0, starts[:, None] + batch.target)
    return (total.log() + top - gold).sum() / 2


def pair_loss(vectors, batch):
    """In-batch negatives: rows 2i and 2i+1 are query and candidate i; softmax over candidates."""
    scores = vectors[0::2] @ vectors[1::2].T                                           # [E, E]
    return F.cross_entropy(scores, torch.arange(len(scores), device=scores.device),
                           reduction="sum")


LOSSES = {
    "classification": class_loss,
    "multiple_choice": choice_loss,
    "span": span_loss,
    "tagging": class_loss,
    "retrieval": pair_loss,
    "mlm": class_loss,
}


# ------------------------------------------------------------------------------ optimizer


def make_optimizer(model: nn.Module, weight_decay: float, betas=(0.9, 0.999)):
    """AdamW, eps 1e-8; biases and LayerNorms do not decay (jiant's two groups)."""
    decay, free = [], []
    for name, parameter in model.named_parameters():
        is_free = name.endswith("bias") or "norm" in name or parameter.ndim == 0
        (free if is_free else decay).append(parameter)
    groups = [{"params": decay, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0}]
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=1e-8, fused=True)


def clip_gradients(parameters, limit: float = 1.0) -> torch.Tensor:
    """Scale all gradients so that their global norm is at most `limit`; returns the norm before.

    The sum over rows runs in float64, so a token table's zero rows cannot change the result.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    rows = [torch.linalg.vector_norm(g, dim=-1) for g in gradients]
    norms = [torch.linalg.vector_norm(r, dtype=torch.float64) for r in rows]
    norm = torch.linalg.vector_norm(torch.stack(norms))
    scale = (limit / (norm + 1e-6)).clamp(max=1.0).float()
    torch._foreach_mul_(gradients, scale)
    return norm


class ActiveVocabulary:
    """Train only the rows of the token table that can receive a gradient.

    The ids that occur in training and English dev features are known beforehand. Every other row
    would only have been decayed, so it equals its starting value times the product of
    (1 - rate * decay) over the steps. Active rows are bit-equal to training the whole table
    (tests/test_model.py); gradient and moments shrink with the number of rows.
    """

    def __init__(self, encoder: Encoder, ids: torch.Tensor):
        """ids: sorted unique token ids [A]; replaces the encoder's table by a compact one."""
        self.ids = ids.long()
        self.start = encoder.tokens.weight.detach()                                    # [V, H]
        self.lookup = np.full(len(self.start), -1, np.int32)          # token id -> compact row
        self.lookup[self.ids] = np.arange(len(ids))
        encoder.tokens = nn.Embedding.from_pretrained(self.start[self.ids], freeze=False)

    def table(self, encoder: Encoder, decay: float) -> torch.Tensor:
        """The full table [V, H] on the CPU; decay: float64 product of (1 - rate * decay)."""
        table = (self.start * decay if decay != 1 else self.start.clone()).cpu()
        table[self.ids] = encoder.tokens.weight.detach().cpu()
        return table
