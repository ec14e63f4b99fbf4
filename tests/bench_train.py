"""Forward + backward on real SQuAD windows: ours against transformers, and against the machine.

    python tests/bench_train.py [DATA] [--layers 12] [--precision fp32] [--batches 3] [--rounds 5]

Sides (batches of 8, dropout 0.1, no gradient for the token table, same weights):
  transformers, sdpa: padded to 384 | padded to the longest of random batches | of length-grouped
  batches (50 batches' worth of examples sorted by length, the Trainer's group_by_length);
  ours, padding-free: the same random batches | the same length-grouped batches.
Before that logits must agree within 1e-4 on a batch of mixed lengths.
"""

import torch

import benchlib
import data
from model import LOSSES


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
    mixed, grouped = benchlib.draw(f, given.batches)
    assert_same_logits(peer, ours, f, mixed[0])
    for table in (peer.roberta.embeddings.word_embeddings, ours.encoder.tokens):
        table.requires_grad_(False)
    peer.train()
    ours.train()
    peers = {"padded to 384": (mixed, 384), "dynamic padding": (mixed, 0),
             "length-grouped": (grouped, 0)}
    sides = {}
    for name, (batches, longest) in peers.items():
        rows = [benchlib.padded(f, items, longest) for items in batches]
        sides[f"transformers, {name}"] = batches, lambda rows=rows: train_peer(peer, rows, dtype)
    for name, batches in (("random batches", mixed), ("length-grouped", grouped)):
        flat = [data.make_batch(f, items).to(torch.device("cpu")) for items in batches]
        sides[f"ours, {name}"] = batches, lambda flat=flat: train_ours(ours, flat, dtype)
    products = benchlib.gemms(ours.encoder.config, dtype or torch.float32)
    times = benchlib.interleave({name: run for name, (_, run) in sides.items()}
                                | {name: run for name, (run, _) in products.items()}, given.rounds)
    peak = max(flops / times[name] for name, (_, flops) in products.items())
    report({name: f.lengths[batches].ravel() for name, (batches, _) in sides.items()}, times,
           ours.encoder.config, peak, given.precision)


def report(lengths, times, config, peak, precision):
    print(f"GEMM peak {peak / 1e9:.0f} GFLOP/s\n\n{'':31}  seconds  useful tok/s  GFLOP/s  of peak")
    speed, share = {}, {}
    for name, tokens in lengths.items():
        speed[name] = tokens.sum() / times[name]
        flops = benchlib.useful_flops(config, tokens, 3) / times[name]
        share[name] = flops / peak
        print(f"{name:31} {times[name]:8.2f} {speed[name]:13.0f} {flops / 1e9:8.0f} {share[name]:8.0%}")
    print()
    random, peer = "ours, random batches", "transformers, "
    benchlib.check("of dynamic padding", speed[random] / speed[peer + "dynamic padding"], 1.9)
    benchlib.check("of padded to 384", speed[random] / speed[peer + "padded to 384"], 2.4)
    benchlib.check("of length-grouped",
                   speed["ours, length-grouped"] / speed[peer + "length-grouped"], 1.3)
    benchlib.check("share of the GEMM peak", share[random], {"fp32": 0.85, "bf16": 0.5}[precision])


if __name__ == "__main__":
    main()
