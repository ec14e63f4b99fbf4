"""The model room: hidden states against transformers, padding-free = padded, losses, optimizer."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import model
import weights
from conftest import ROOT
from files import read_json

FIXTURE = ROOT / "tests/fixtures/hidden"
CONFIG = model.Config(vocab_size=90, hidden_size=32, num_layers=2, num_heads=4,
                      intermediate_size=64, max_positions=70)


def pack(sequences):
    """input_ids, cu_seqlens, lengths of some id lists."""
    lengths = tuple(len(s) for s in sequences)
    cu_seqlens = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32)
    return torch.tensor([i for s in sequences for i in s]), cu_seqlens, lengths


def random_batch(seed=0, lengths=(4, 7, 7, 12), **fields):
    rng = np.random.default_rng(seed)
    ids, cu_seqlens, lengths = pack([rng.integers(4, 90, n).tolist() for n in lengths])
    return SimpleNamespace(input_ids=ids, cu_seqlens=cu_seqlens, lengths=lengths, **fields)


def load_fixture():
    config, state, _, _ = weights.load_encoder(FIXTURE)
    return model.make_encoder(config, state).eval(), read_json(FIXTURE / "texts.json")["texts"]


def test_hidden_states_equal_recorded_ones_of_transformers():
    encoder, texts = load_fixture()
    recorded = weights.read_safetensors(FIXTURE / "hidden.safetensors")
    batch = pack(texts)
    for depth in range(encoder.config.num_layers + 1):
        with torch.no_grad():
            ours = encoder(*batch, depth=depth)
        assert (ours - recorded[f"layer{depth}"]).abs().max() <= 1e-5, depth


def test_hidden_states_equal_live_ones_of_transformers():
    transformers = pytest.importorskip("transformers")
    from make_hidden import hidden_states
    encoder, texts = load_fixture()
    theirs = transformers.XLMRobertaModel.from_pretrained(FIXTURE).eval()
    for depth, layer in enumerate(hidden_states(theirs, texts)):
        with torch.no_grad():
            assert (encoder(*pack(texts), depth=depth) - layer).abs().max() <= 1e-5, depth


def test_packed_equals_one_by_one_and_padded():
    encoder = model.make_encoder(CONFIG, seed=3).eval()
    batch = random_batch()
    with torch.no_grad():
        together = encoder(batch.input_ids, batch.cu_seqlens, batch.lengths)
        alone = torch.cat([encoder(part, torch.tensor([0, len(part)], dtype=torch.int32),
                                   (len(part),)) for part in batch.input_ids.split(batch.lengths)])
    assert torch.allclose(together, alone, atol=1e-6)


def test_padded_attention_equals_attention_by_runs_in_value_and_gradient():
    torch.manual_seed(0)
    batch = random_batch()
    n, longest = len(batch.input_ids), max(batch.lengths)
    rows = torch.arange(len(batch.lengths)).repeat_interleave(batch.cu_seqlens.diff())
    slots = rows * longest + torch.arange(n) - batch.cu_seqlens[rows]
    q, k, v = (torch.randn(n, 4, 8, requires_grad=True) for _ in range(3))
    weight = torch.randn(n, 4, 8)

    def value_and_gradient(attended):
        return attended, torch.autograd.grad((attended * weight).sum(), (q, k, v))

    runs, by_runs = value_and_gradient(model.attend_by_runs(q, k, v, batch.lengths, 0.0))
    padded, by_padding = value_and_gradient(
        model.attend_padded(q, k, v, batch.cu_seqlens, longest, slots, 0.0))
    assert torch.allclose(runs, padded, atol=1e-6)
    for a, b in zip(by_runs, by_padding):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cuda_attention_equals_cpu(dtype):
    encoder = model.make_encoder(CONFIG, seed=3).eval()
    batch = random_batch()
    with torch.no_grad():
        cpu = encoder(batch.input_ids, batch.cu_seqlens, batch.lengths)
        encoder.cuda()
        with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
            gpu = encoder(batch.input_ids.cuda(), batch.cu_seqlens.cuda(), batch.lengths)
    assert (cpu - gpu.cpu().float()).abs().max() < (1e-4 if dtype == torch.float32 else 0.1)


def test_activation_checkpointing_changes_no_gradient():
    def gradient(recompute):
        encoder = model.make_encoder(CONFIG, seed=3).train()
        encoder.checkpoint_activations = recompute
        batch = random_batch()
        torch.manual_seed(5)
        encoder(batch.input_ids, batch.cu_seqlens, batch.lengths).square().sum().backward()
        return [p.grad for p in encoder.parameters()]
    for plain, recomputed in zip(gradient(False), gradient(True)):
        assert torch.equal(plain, recomputed)


def test_span_loss_is_cross_entropy_over_each_sequence():
    batch = random_batch(target=torch.tensor([[0, 0], [2, 4], [6, 6], [1, 9]]))
    logits = torch.randn(sum(batch.lengths), 2)
    expected = sum(
        F.cross_entropy(part.T, target, reduction="sum") / 2
        for part, target in zip(logits.split(batch.lengths), batch.target))
    assert torch.allclose(model.span_loss(logits, batch), expected, atol=1e-5)


def test_choice_loss_is_softmax_over_neighbours():
    scores, target = torch.randn(6), torch.tensor([2, 0])
    expected = F.cross_entropy(scores.view(2, 3), target, reduction="sum")
    assert torch.equal(model.choice_loss(scores, SimpleNamespace(target=target)), expected)


def test_pair_loss_prefers_each_querys_own_candidate():
    own = F.normalize(torch.randn(3, 8), dim=1) * 10
    right = model.pair_loss(torch.stack([own, own], 1).flatten(0, 1), None)
    wrong = model.pair_loss(torch.stack([own, own.roll(1, 0)], 1).flatten(0, 1), None)
    assert right < 0.01 < wrong


def test_targets_below_zero_do_not_count():
    logits = torch.randn(3, 5)
    loss = model.class_loss(logits, SimpleNamespace(target=torch.tensor([1, -1, 3])))
    assert torch.allclose(loss, F.cross_entropy(logits[[0, 2]], torch.tensor([1, 3]),
                                                reduction="sum"))


@pytest.mark.parametrize("kind", model.HEADS)
def test_every_head_trains_and_depends_on_its_seed_alone(kind):
    encoder = model.make_encoder(CONFIG, seed=3)
    head = model.make_head(kind, CONFIG, 5, seed=4)
    same = model.make_head(kind, CONFIG, 5, seed=4)
    assert all(torch.equal(a, b) for a, b in zip(head.parameters(), same.parameters()))
    targets = {"classification": [0, 1, 2, 3], "multiple_choice": [0, 1],
               "span": [[0, 0], [1, 2], [3, 3], [0, 4]], "tagging": [1, 2], "mlm": [8, 9],
               "retrieval": [0, 0]}
    batch = random_batch(target=torch.tensor(targets[kind]), positions=torch.tensor([2, 5]))
    both = model.Model(encoder, {"task": head})
    model.LOSSES[kind](both("task", batch), batch).backward()
    unused = [n for n, p in both.named_parameters() if p.grad is None]
    assert not unused


def test_clipping_is_torchs_to_rounding():
    torch.manual_seed(0)
    parameters = [torch.nn.Parameter(torch.zeros(s)) for s in ((40, 8), (8,))]
    gradients = [torch.randn_like(p) for p in parameters]
    norms = []
    results = []
    for clip in (model.clip_gradients, torch.nn.utils.clip_grad_norm_):
        for p, g in zip(parameters, gradients):
            p.grad = g.clone()
        norms.append(float(clip(parameters, 1.0)))
        results.append([p.grad for p in parameters])
    assert norms[0] == pytest.approx(norms[1], rel=1e-6)
    for ours, torchs in zip(*results):
        assert torch.allclose(ours, torchs, rtol=1e-5)


def train_steps(is_active: bool, steps=12, decay=0.01):
    """A few clipped AdamW steps; returns the full table and the active ids."""
    torch.manual_seed(1)
    encoder = model.make_encoder(CONFIG, seed=3).train()
    batches = [random_batch(seed) for seed in range(steps)]
    ids = torch.cat([b.input_ids for b in batches]).unique()[:60]
    batches = [SimpleNamespace(**vars(b) | {"input_ids": ids[b.input_ids % 60]}) for b in batches]
    vocabulary = model.ActiveVocabulary(encoder, ids) if is_active else None
    optimizer = model.make_optimizer(encoder, decay)
    product = 1.0
    for step, b in enumerate(batches):
        torch.manual_seed(step)
        ids_now = torch.from_numpy(vocabulary.lookup)[b.input_ids] if is_active else b.input_ids
        encoder(ids_now, b.cu_seqlens, b.lengths).pow(3).sum().backward()
        assert model.clip_gradients(encoder.parameters()) > 1
        for group in optimizer.param_groups:
            group["lr"] = rate = 1e-3 * (step + 1)
        product *= 1 - rate * decay
        optimizer.step()
        optimizer.zero_grad()
    table = vocabulary.table(encoder, product) if is_active else encoder.tokens.weight.detach()
    return table, ids


def test_active_rows_are_bit_equal_to_the_dense_table_and_others_decay():
    compact, ids = train_steps(True)
    dense, _ = train_steps(False)
    assert torch.equal(compact[ids], dense[ids])
    rest = torch.ones(len(dense), dtype=torch.bool)
    rest[ids] = False
    assert rest.sum() >= 20
    assert torch.allclose(compact[rest], dense[rest], rtol=1e-5, atol=0)


def test_only_matrices_decay():
    encoder = model.make_encoder(CONFIG)
    decay, free = model.make_optimizer(encoder, 0.01).param_groups
    names = {id(p): n for n, p in encoder.named_parameters()}
    assert all("norm" in names[id(p)] or names[id(p)].endswith("bias") for p in free["params"])
    assert all(names[id(p)].endswith("weight") and p.ndim == 2 for p in decay["params"])
    assert free["weight_decay"] == 0 and len(decay["params"]) + len(free["params"]) == len(names)
