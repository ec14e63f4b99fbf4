"""The whole optimizer step with XLM-R's 250,002-row token table, and what the active vocabulary is.

    python tests/bench_step.py [DATA] [--layers 12] [--precision fp32|bf16] [--rows 40000]
                               [--batches 3] [--rounds 5]

1. Exactness: the same training steps on real batches with the full and with the compact table
   (width 64, a high rate, clipping active): active rows bit-equal, others within 1e-5 relative.
2. Memory: gradient and moments of the table at `rows` rows of width 1024.
3. Speed: forward, backward, clipping, fused AdamW on both sides, batches of 8, dropout 0.1; ours
   with a compact table of `rows` rows (all SQuAD has fewer) and with the full one.
"""

from dataclasses import replace

import torch

import benchlib
import data
import train
from model import (ActiveVocabulary, Config, Model, clip_gradients, make_encoder, make_head,
                   make_optimizer)

RATE, DECAY = 1e-6, 0.01
FP32 = benchlib.Hardware(benchlib.CPU, None, 2048)


def active_ids(f, rows: int) -> torch.Tensor:
    """Ids of the features and the special tokens, filled up to `rows`."""
    ids = torch.unique(torch.cat([torch.arange(4), torch.from_numpy(f.pieces).long()]))
    other = torch.arange(250_002)
    other[ids] = -1
    return torch.cat([ids, other[other >= 0][:max(0, rows - len(ids))]]).sort().values


def our_step(model, optimizer, batch, hardware, rate: float, lookup=None) -> float:
    """One step as in train.py; returns the gradient norm before clipping."""
    if lookup is not None:
        batch = replace(batch, input_ids=lookup[batch.input_ids])
    benchlib.our_backward(model, batch.to(hardware.device), hardware)
    norm = clip_gradients(model.parameters())
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(norm)


def peer_step(model, optimizer, rows, hardware) -> None:
    benchlib.peer_backward(model, rows, hardware)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def build(hidden: int, layers: int = 1) -> Model:
    config = Config(250_002, hidden, layers, hidden // 64, 4 * hidden)
    return Model(make_encoder(config), {"squad": make_head("span", config, 2, seed=0)})


def check_exactness(f, batches, steps: int = 30) -> None:
    """Train twice from the same weights and compare the whole tables."""
    tables, norms, decay = [], [], 1.0
    for is_compact in (False, True):
        model = build(64).train()
        vocabulary = ActiveVocabulary(model.encoder, active_ids(f, 0)) if is_compact else None
        optimizer = make_optimizer(model, DECAY)
        decay = 1.0
        for step in range(steps):
            torch.manual_seed(step)
            rate = 1e-2 * train.schedule(step, steps, 0.1)
            norms.append(our_step(model, optimizer, batches[step % len(batches)], FP32, rate,
                                  vocabulary and vocabulary.lookup))
            decay *= 1 - rate * DECAY
        tables.append(vocabulary.table(model.encoder, decay) if is_compact
                      else model.encoder.tokens.weight.detach())
    active = torch.zeros(250_002, dtype=torch.bool)
    active[active_ids(f, 0)] = True
    dense, compact = tables
    moved = (dense[active] - build(64).encoder.tokens.weight[active]).abs().max().item()
    relative = ((dense - compact).abs() / dense.abs().clamp(min=1e-12))[~active].max().item()
    print(f"{steps} steps, norms before clipping {min(norms):.2f} to {max(norms):.2f}, active rows "
          f"moved by up to {moved:.2f}")
    differ = (dense != compact)[active].any(1).sum().item()
    benchlib.check("active rows that differ", differ, 0, True, "d")
    benchlib.check("inactive rows, relative difference", relative, 1e-5, True, ".1e")


def check_memory(f, batch, rows: int) -> None:
    """Bytes of the table's gradient and moments after a step of width 1024."""
    model = build(1024).train()
    vocabulary = ActiveVocabulary(model.encoder, active_ids(f, rows))
    optimizer, table = make_optimizer(model, DECAY), model.encoder.tokens.weight
    sizes = []
    table.register_post_accumulate_grad_hook(lambda t: sizes.append(t.grad.nbytes))
    our_step(model, optimizer, batch, FP32, 1e-5, vocabulary.lookup)
    sizes += [moment.nbytes for moment in optimizer.state[table].values()]
    print(f"table {list(table.shape)}: {[round(s / 1e9, 3) for s in sizes]} GB")
    benchlib.check("GB of gradient and moments", sum(sizes) / 1e9, 0.6, True)


def main():
    given = benchlib.start(__doc__, layers=12, precision="fp32", rows=40_000, batches=3, rounds=5)
    f = benchlib.squad_features(given.DATA)[3]
    mixed, _ = benchlib.draw(f, given.batches)
    flat = [data.make_batch(f, items) for items in mixed]
    check_exactness(f, flat)
    check_memory(f, flat[0], given.rows)
    peer, full = benchlib.peer_and_ours(given.DATA, "base", given.layers)
    compact = build(768, given.layers)
    vocabulary = ActiveVocabulary(compact.encoder, active_ids(f, given.rows))
    rows = [benchlib.padded(f, items) for items in mixed]
    adamw = torch.optim.AdamW(peer.train().parameters(), lr=RATE, weight_decay=DECAY, fused=True)

    def run_peer():
        for batch in rows:
            peer_step(peer, adamw, batch, given.hardware)

    def run_ours(model, lookup=None):
        optimizer = make_optimizer(model.train(), DECAY)
        return lambda: [our_step(model, optimizer, b, given.hardware, RATE, lookup) for b in flat]

    times = benchlib.interleave({"transformers, dynamic padding": run_peer,
                                 "ours, full table": run_ours(full),
                                 "ours, active vocabulary": run_ours(compact, vocabulary.lookup)},
                                given.rounds)
    print(f"\n{'':31}  seconds  useful tok/s")
    for name, seconds in times.items():
        print(f"{name:31} {seconds:8.2f} {f.lengths[mixed].sum() / seconds:13.0f}")
    print()
    ratio = times["transformers, dynamic padding"] / times["ours, active vocabulary"]
    benchlib.check("of transformers with dynamic padding", ratio, 2.5)


if __name__ == "__main__":
    main()
