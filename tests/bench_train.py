"""Forward + backward on real SQuAD windows: ours against transformers, and against the machine.

    python tests/bench_train.py [DATA] [--layers 12] [--precision fp32] [--batches 3] [--rounds 5]

Sides (batches of 8, dropout 0.1, no gradient for the token table, same weights):
  transformers, sdpa: padded to 384 | padded to the longest of random batches | of length-grouped
  batches (50 batches' worth of examples sorted by length, the Trainer's group_by_length);
  ours, padding-free: the same random batches | the same length-grouped batches.
Before that logits must agree within 1e-4 on a batch of mixed lengths.
"""

import numpy as np
import torch

import benchlib
import data
from model import LOSSES

BATCH = 8


def draw(f, batches: int):
    """(random batches, length-grouped batches) of item numbers."""
    rng = data.stream("bench_train")
    items = rng.permutation(len(f.lengths))
    pool = items[:50 * BATCH]
    grouped = pool[np.argsort(f.lengths[pool], kind="stable")].reshape(50, BATCH)
    places = ((np.arange(batches) + 0.5) * 50 / batches).astype(int)
    return items[:batches * BATCH].reshape(batches, BATCH), grouped[places]


def assert_same_logits(peer, ours, f, items) -> None:
    """Max abs difference of start and end logits on real tokens."""
    batch, rows = data.make_batch(f, items).to(torch.device("cpu")), benchlib.padded(f, items)
    with torch.inference_mode():
        out = peer.eval()(rows["input_ids"], rows["attention_mask"])
        theirs = torch.stack([out.start_logits, out.end_logits], -1)[rows["attention_mask"] == 1]
        difference = (theirs - ours.eval()("squad", batch)).abs().max().item()
    print(f"largest difference of logits {difference:.1e}, lengths {batch.lengths}")
    assert difference <= 1e-4, difference


def train_ours(model, batches, dtype):
    for batch in batches:
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            loss = LOSSES["span"](model("squad", batch), batch) / batch.count
        loss.backward()
    model.zero_grad(set_to_none=True)


def train_peer(model, batches, dtype):
    for batch in batches:
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            loss = model(**batch).loss
        loss.backward()
    model.zero_grad(set_to_none=True)


def main():
    given = benchlib.start(__doc__, layers=12, precision="fp32", batches=3, rounds=5, shape="base")
    dtype = benchlib.PRECISIONS[given.precision]
    f = benchlib.squad_features(given.DATA)[3]
    peer, ours = benchlib.peer_and_ours(given.DATA, given.shape, given.layers)
    mixed, grouped = draw(f, given.batches)
    assert_same_logits(peer, ours, f, mixed[0])
    for table in (peer.roberta.embeddings.word_embeddings, ours.encoder.tokens):
        table.requires_grad_(False)
    peer.train()
    ours.train()
    full = [benchlib.padded(f, items, 384) for items in mixed]
    dynamic = [benchlib.padded(f, items) for items in mixed]
    sorted_ = [benchlib.padded(f, items) for items in grouped]
    flat, flat_grouped = ([data.make_batch(f, items).to(torch.device("cpu")) for items in batches]
                          for batches in (mixed, grouped))
    sides = {
        "transformers, padded to 384": (full, lambda: train_peer(peer, full, dtype)),
        "transformers, dynamic padding": (dynamic, lambda: train_peer(peer, dynamic, dtype)),
        "transformers, length-grouped": (sorted_, lambda: train_peer(peer, sorted_, dtype)),
        "ours, random batches": (dynamic, lambda: train_ours(ours, flat, dtype)),
        "ours, length-grouped": (sorted_, lambda: train_ours(ours, flat_grouped, dtype)),
    }
    times = benchlib.interleave({name: run for name, (_, run) in sides.items()}, given.rounds)
    peak = benchlib.gemm_peak(dtype or torch.float32, ours.encoder.config.hidden_size)
    report(sides, times, ours.encoder.config, peak, given.precision)


def report(sides, times, config, peak, precision):
    print(f"GEMM peak {peak / 1e9:.0f} GFLOP/s\n\n{'':31}  seconds  useful tok/s  useful GFLOP/s  "
          "of peak  useful share")
    speed, reached = {}, {}
    for name, (batches, _) in sides.items():
        lengths = torch.cat([b["attention_mask"].sum(1) for b in batches]).numpy()
        flops = benchlib.useful_flops(config, lengths, 3)
        speed[name] = lengths.sum() / times[name]
        reached[name] = flops / times[name] / peak
        share = 1 if name.startswith("ours") else benchlib.share_useful(batches)
        print(f"{name:31} {times[name]:8.2f} {speed[name]:13.0f} {flops / times[name] / 1e9:15.0f} "
              f"{reached[name]:8.0%} {share:13.1%}")
    print()
    ours = "ours, random batches"
    benchlib.check("of dynamic padding", speed[ours] / speed["transformers, dynamic padding"], 1.9)
    benchlib.check("of padded to 384", speed[ours] / speed["transformers, padded to 384"], 2.4)
    grouped = speed["ours, length-grouped"] / speed["transformers, length-grouped"]
    benchlib.check("of length-grouped", grouped, 1.3)
    benchlib.check("share of the GEMM peak", reached[ours], {"fp32": 0.85, "bf16": 0.5}[precision])


if __name__ == "__main__":
    main()
